//! Questions in the log, in the form that the Corefile's `log` gives.

use std::fmt::Write;
use std::sync::Arc;

use portolan_corefile::{Class, Log};
use portolan_dns::{Classes, Entry, QueryLog};
use portolan_names::Transport;
use portolan_names::wire::{Name, kind};
use tracing::info;

use super::metrics::rcode_name;

/// The log that `rules` ask for, of one of so many questions. `None` if there are none.
pub(super) fn of(rules: &[Log], one_of: u32) -> Option<QueryLog> {
    if rules.is_empty() {
        return None;
    }
    let wants = |class| rules.iter().any(|rule| rule.classes.is_empty() || rule.classes.contains(&class));
    let classes =
        Classes { success: wants(Class::Success), denial: wants(Class::Denial), error: wants(Class::Error) };
    let rules: Vec<Rule> = rules.iter().map(Rule::new).collect();
    let sink = move |entry: &Entry| {
        if let Some(rule) = rules.iter().find(|rule| rule.takes(entry)) {
            info!("{}", line(&rule.format, entry));
        }
    };
    Some(QueryLog { one_of, classes, sink: Arc::new(sink) })
}

struct Rule {
    domains: Vec<Name>,
    classes: Vec<Class>,
    format: String,
}

impl Rule {
    fn new(log: &Log) -> Rule {
        // The parser has seen that they are domains.
        let domains = log.domains.iter().map(|text| domain(text)).collect();
        Rule { domains, classes: log.classes.clone(), format: log.format.clone() }
    }

    fn takes(&self, entry: &Entry) -> bool {
        let class = match entry.rcode {
            0 => Class::Success,
            3 => Class::Denial,
            _ => Class::Error,
        };
        self.domains.iter().any(|domain| entry.name.is_within(domain))
            && (self.classes.is_empty() || self.classes.contains(&class))
    }
}

fn domain(text: &str) -> Name {
    let mut name = if text == "." { Name::root() } else { Name::parse(text).unwrap_or_else(Name::root) };
    name.make_lowercase();
    name
}

/// `format` with what it has places for. What is unknown stays as it is.
fn line(format: &str, entry: &Entry) -> String {
    let mut line = String::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('{') {
        line.push_str(before);
        match after.split_once('}') {
            Some((place, after)) if put(&mut line, place, entry) => rest = after,
            _ => {
                line.push('{');
                rest = after;
            }
        }
    }
    line.push_str(rest);
    line
}

/// Appends what `place` stands for. Returns false if it stands for nothing.
fn put(line: &mut String, place: &str, entry: &Entry) -> bool {
    let client = entry.client.ip();
    // Text takes all that is written.
    let _ = match place {
        "type" => write!(line, "{}", kind::name(entry.kind)),
        "name" => write!(line, "{}", entry.name),
        "class" if entry.class == 1 => write!(line, "IN"),
        "class" => write!(line, "CLASS{}", entry.class),
        "proto" => write!(line, "{}", if entry.transport == Transport::Udp { "udp" } else { "tcp" }),
        "remote" if client.is_ipv6() => write!(line, "[{client}]"),
        "remote" => write!(line, "{client}"),
        "port" => write!(line, "{}", entry.client.port()),
        "size" => write!(line, "{}", entry.size),
        "duration" => write!(line, "{:.9}s", entry.duration.as_secs_f64()),
        "rcode" => write!(line, "{}", rcode_name(entry.rcode)),
        "rsize" => write!(line, "{}", entry.reply_size),
        ">rflags" => write!(line, "{}", flags(entry.flags)),
        ">bufsize" => write!(line, "{}", entry.edns.map_or(512, |(size, _)| size)),
        ">do" => write!(line, "{}", entry.edns.is_some_and(|(_, dnssec)| dnssec)),
        ">id" => write!(line, "{}", entry.id),
        // Others are answered with NOTIMP, and not logged.
        ">opcode" => write!(line, "0"),
        "local" => write!(line, "-"),
        _ if place.starts_with('/') => write!(line, "-"),
        _ => return false,
    };
    true
}

/// The names of the flags that are set.
fn flags(flags: u16) -> String {
    const NAMES: [(u16, &str); 7] = [
        (0x8000, "qr"),
        (0x0400, "aa"),
        (0x0200, "tc"),
        (0x0100, "rd"),
        (0x0080, "ra"),
        (0x0020, "ad"),
        (0x0010, "cd"),
    ];
    let set = NAMES.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name);
    set.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn entry() -> Entry {
        Entry {
            client: "10.1.0.7:5353".parse().unwrap(),
            transport: Transport::Udp,
            id: 4711,
            name: Name::parse("web.shop.svc.cluster.local").unwrap(),
            kind: 28,
            class: 1,
            size: 55,
            edns: Some((1232, true)),
            rcode: 3,
            flags: 0x8583,
            reply_size: 148,
            duration: Duration::from_micros(57),
        }
    }

    #[test]
    fn lines_have_the_form_of_the_reference() {
        let corefile = "a {\nlog\n}";
        let corefile =
            portolan_corefile::parse("C", corefile, 53, &portolan_corefile::NoSurroundings).unwrap();
        let common = &corefile.blocks[0].log[0].format;
        let expected = "10.1.0.7:5353 - 4711 \"AAAA IN web.shop.svc.cluster.local. udp 55 true 1232\" NXDOMAIN qr,aa,rd,ra 148 0.000057000s";
        assert_eq!(line(common, &entry()), expected);
        for (format, expected) in [
            ("{type}{type}", "AAAAAAAA"),
            ("{none} {name", "{none} {name"),
            ("{{rcode}}", "{NXDOMAIN}"),
            ("{/log/class}", "-"),
        ] {
            assert_eq!(line(format, &entry()), expected, "{format}");
        }
    }

    #[test]
    fn rules_choose_by_domain_and_class() {
        let rule = |domain: &str, classes: &[Class]| {
            Rule::new(&Log {
                domains: vec![domain.to_owned()],
                format: String::new(),
                classes: classes.to_vec(),
            })
        };
        assert!(rule(".", &[]).takes(&entry()));
        assert!(rule("Shop.svc.cluster.local", &[Class::Denial]).takes(&entry()));
        assert!(!rule("shop.svc.cluster.local", &[Class::Success, Class::Error]).takes(&entry()));
        assert!(!rule("other.svc.cluster.local", &[]).takes(&entry()));
    }
}
