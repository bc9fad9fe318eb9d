//! A lookup for people.

use std::fmt::Write;
use std::net::IpAddr;

use super::{Answer, Code, DNS_SERVICE, Lookup};

impl Lookup {
    /// Who asks whom, and each question with its answer.
    pub(crate) fn text(&self) -> String {
        let at = match self.servers.first() {
            Some(server) => format!("svc/{}/{} at {server}", DNS_SERVICE.0, DNS_SERVICE.1),
            None => "the cluster's DNS".to_owned(),
        };
        let others: Vec<&IpAddr> = self.servers.iter().skip(1).collect();
        let mut text = format!("{} asks {at} for {}", self.client, self.name);
        for other in others {
            let _ = write!(text, ", then {other}");
        }
        text.push_str(".\n");
        if !self.search.is_empty() {
            let _ = write!(text, "  search {}", self.search.join(" "));
            let options = self.options.join(" ");
            let _ = writeln!(text, "{}{options}", if options.is_empty() { "" } else { "; options " });
        }
        text + &self.answers()
    }

    /// A line for each question; one for A and AAAA where that says it.
    fn answers(&self) -> String {
        let width = self.questions.iter().map(|answer| answer.name.len()).max().unwrap_or_default();
        let mut text = String::new();
        let mut groups = self.questions.chunk_by(|one, other| one.name == other.name).peekable();
        while let Some(group) = groups.next() {
            let Some(first) = group.first() else { continue };
            let same = group.iter().all(|answer| answer.text() == first.text());
            let lines = if same { &group[..1] } else { group };
            for (number, answer) in lines.iter().enumerate() {
                let name = if number == 0 { answer.name.as_str() } else { "" };
                let kinds: Vec<&str> = group.iter().map(|answer| answer.kind).collect();
                let kind = if same { kinds.join(", ") } else { answer.kind.to_owned() };
                // Writing to a text cannot fail.
                let _ = writeln!(text, "  {name:width$}  {kind:7}  {}", answer.text());
            }
            if groups.peek().is_some() && group.iter().any(|answer| answer.code == Code::NoData) {
                let _ = writeln!(text, "  {:width$}  musl's resolver stops here, and finds nothing", "");
            }
        }
        text
    }
}

impl Answer {
    fn text(&self) -> String {
        let mut text = match self.code {
            Code::Found => joined(&self.addresses),
            Code::NoData => "NODATA".to_owned(),
            Code::NoName => "NXDOMAIN".to_owned(),
            Code::Failed => "SERVFAIL".to_owned(),
            Code::Outside => "outside".to_owned(),
        };
        if !self.aliases.is_empty() {
            text = format!("{text}, by way of {}", self.aliases.join(", "));
        }
        match &self.why {
            Some(why) => format!("{text}: {why}"),
            None => text,
        }
    }
}

fn joined(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
