//! What a responder answers to a request.

use serde::{Deserialize, Serialize};

use super::Answer;

/// What a responder answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Page {
    /// Who answered whom: in words for `/`, as JSON for `/whoami`.
    #[default]
    Facts,
    /// This text, whatever the path.
    Text(String),
    /// A text and the pod's host name, whatever the path.
    HostName(String),
    /// What agnhost's netexec answers: `/hostname`, `/clientip`, `/echo?msg=`, `/healthz`,
    /// `/shell?cmd=` with what a command prints, and for anything else that it is there.
    Netexec,
}

/// The content of an answer: status, type and body.
pub(super) type Content = (&'static str, &'static str, String);

impl Page {
    /// Whether datagrams are answered, too.
    pub fn takes_datagrams(&self) -> bool {
        matches!(self, Self::Facts | Self::Netexec)
    }

    /// The answer to a datagram, which may be empty.
    pub(super) fn datagram(&self, asked: &[u8], answer: &Answer) -> Vec<u8> {
        if *self != Self::Netexec {
            let mut facts = answer.to_json().into_bytes();
            facts.push(b'\n');
            facts.extend_from_slice(asked);
            return facts;
        }
        let text = String::from_utf8_lossy(asked);
        let (word, rest) = text.trim_end().split_once(' ').unwrap_or((text.trim_end(), ""));
        match word.to_ascii_lowercase().as_str() {
            "hostname" => answer.pod.clone().into_bytes(),
            "clientip" => answer.client.to_string().into_bytes(),
            "echo" => rest.as_bytes().to_vec(),
            _ => Vec::new(),
        }
    }

    /// The command of a shell that a request for `target` asks for.
    pub(super) fn command(&self, target: &str) -> Option<String> {
        let query = target.strip_prefix("/shell?").filter(|_| *self == Self::Netexec)?;
        Some(parameter(query, "cmd"))
    }

    /// The answer to a GET for `target`, a path and perhaps a query.
    pub(super) fn content(&self, target: &str, answer: &Answer) -> Content {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let text = |body: String| ("200 OK", "text/plain", body);
        match (self, path.split('#').next().unwrap_or_default()) {
            (Self::Facts, "/") => text(greeting(answer)),
            (Self::Facts, "/whoami") => ("200 OK", "application/json", answer.to_json() + "\n"),
            (Self::Facts, "/healthz") => text("ok\n".to_owned()),
            (Self::Facts, _) => ("404 Not Found", "text/plain", "not here; try / or /whoami\n".to_owned()),
            (Self::Text(body), _) if body.starts_with('<') => ("200 OK", "text/html", body.clone()),
            (Self::Text(body), _) => text(body.clone()),
            (Self::HostName(before), _) if before.is_empty() => text(answer.pod.clone()),
            (Self::HostName(before), _) => text(format!("{before}{}\n", answer.pod)),
            (Self::Netexec, "/hostname" | "/hostName") => text(answer.pod.clone()),
            (Self::Netexec, "/clientip") => text(answer.client.to_string()),
            (Self::Netexec, "/healthz") => text(String::new()),
            (Self::Netexec, "/echo") => text(parameter(query, "msg")),
            (Self::Netexec, _) => text(format!("NOW: {} is here\n", answer.pod)),
        }
    }
}

/// The value of a parameter in a query (application/x-www-form-urlencoded).
fn parameter(query: &str, name: &str) -> String {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.find(|(found, _)| *found == name).map_or("", |(_, value)| value);
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let hex = |byte: Option<u8>| char::from(byte?).to_digit(16);
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut ahead = rest.clone();
                if let (Some(high), Some(low)) = (hex(ahead.next()), hex(ahead.next())) {
                    bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                    rest = ahead;
                } else {
                    bytes.push(byte);
                }
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn greeting(answer: &Answer) -> String {
    format!(
        "hello from {} on {}\nyou are {}, I am {}\n",
        answer.pod, answer.node, answer.client, answer.server
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let answer = Answer::example();
        for (page, target, expected) in [
            (Page::Text("one".to_owned()), "/any?x=y", "one"),
            (Page::HostName(String::new()), "/", "web"),
            (Page::HostName("I am ".to_owned()), "/", "I am web\n"),
            (Page::Netexec, "/hostname", "web"),
            (Page::Netexec, "/clientip", "192.168.50.100:4000"),
            (Page::Netexec, "/echo?msg=a+b%21%zz%", "a b!%zz%"),
            (Page::Netexec, "/echo", ""),
        ] {
            assert_eq!(page.content(target, &answer), ("200 OK", "text/plain", expected.to_owned()));
        }
        assert_eq!(Page::Netexec.command("/shell?cmd=a+b&x=y"), Some("a b".to_owned()));
        assert_eq!(Page::Facts.command("/shell?cmd=a+b"), None);
        for (asked, expected) in [("hostname", "web"), ("echo a b\n", "a b"), ("", ""), ("what", "")] {
            assert_eq!(Page::Netexec.datagram(asked.as_bytes(), &answer), expected.as_bytes(), "{asked}");
        }
    }
}
