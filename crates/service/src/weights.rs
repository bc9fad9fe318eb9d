//! Weights of endpoints: how many of the new connections of a Service each gets, next to others.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Endpoint, Family, parse_address, parse_network};

/// So many entries are read at most.
const ENTRIES: usize = 100;
/// So many `*` a pattern has at most, and so many characters, as names of pods: each endpoint is
/// compared with each.
const STARS: usize = 4;
const LONGEST: usize = 253;
/// Of what is wrong so many characters are shown.
const SHOWN: usize = 40;

/// The value of [`Weights::ANNOTATION`]: entries `PATTERN: WEIGHT`, divided by commas or lines. The
/// first one that an endpoint fits says its weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights(Vec<(Which, u16)>);

/// Which endpoints an entry is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Which {
    /// Those that are pods with such a name, where `*` stands for any characters; with `*` alone,
    /// all.
    Pods(Box<str>),
    /// Those in a network.
    Addresses(IpNet),
}

impl Weights {
    /// The annotation of Services.
    pub const ANNOTATION: &'static str = "portolan.dev/endpoint-weights";
    /// The largest weight.
    pub const MAX: u16 = 1000;
    /// The weight of endpoints for which no entry is.
    pub const DEFAULT: u16 = 1;

    /// So many slots a list of so many endpoints has at most, or a few more, where rules draw slots
    /// with equal chances and each endpoint has as many as its weight is of all.
    pub fn most_slots(endpoints: usize) -> usize {
        usize::from(Weights::MAX).max(endpoints.saturating_mul(8))
    }

    /// Reads the annotation. The error says what is wrong with which entry.
    pub fn parse(value: &str) -> Result<Weights, String> {
        let entries = value.split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty());
        let entries: Vec<&str> = entries.take(ENTRIES + 1).collect();
        match entries.len() {
            0 => return Err("is empty".to_owned()),
            count if count > ENTRIES => return Err(format!("has more than {ENTRIES} entries")),
            _ => {}
        }
        let read = |entry: &&str| {
            self::entry(entry).map_err(|reason| {
                let shown: String = entry.chars().take(SHOWN).collect();
                format!("{shown:?} {reason}")
            })
        };
        entries.iter().map(read).collect::<Result<_, _>>().map(Weights)
    }

    /// The weight of `endpoint`; 0 for one that is to get no new connections.
    pub fn of(&self, endpoint: &Endpoint) -> u16 {
        let fitting = self.0.iter().find(|(which, _)| which.is(endpoint));
        fitting.map_or(Weights::DEFAULT, |(_, weight)| *weight)
    }
}

fn entry(entry: &str) -> Result<(Which, u16), String> {
    let (which, weight) = entry.rsplit_once(':').ok_or("is not PATTERN: WEIGHT")?;
    // The last colon may be one of an IPv6 address.
    if which.contains(':') && !weight.starts_with(char::is_whitespace) {
        return Err("has no space before the weight, which an IPv6 address needs".to_owned());
    }
    let number = Some(weight.trim()).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = number.and_then(|text| text.parse().ok()).filter(|weight| *weight <= Weights::MAX);
    let number = number.ok_or_else(|| format!("has no weight from 0 to {}", Weights::MAX))?;
    let which = self::which(which.trim())?;
    // `10.244.1.11:80` is an address and a port to whoever wrote it.
    if matches!(which, Which::Addresses(_)) && !weight.starts_with(char::is_whitespace) {
        return Err("has no space before the weight, which an address needs".to_owned());
    }
    Ok((which, number))
}

fn which(text: &str) -> Result<Which, &'static str> {
    if let Some(address) = parse_address(text) {
        return Ok(Which::Addresses(address.into()));
    }
    if let Some(network) = parse_network(text) {
        return Ok(Which::Addresses(network));
    }
    let of_a_name = |character: char| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || "-.*".contains(character)
    };
    // `10.244.1.*` is a network to whoever wrote it.
    let of_an_address = text.contains('.') && !text.contains(|c: char| c.is_ascii_lowercase() || c == '-');
    if text.is_empty() || !text.chars().all(of_a_name) || of_an_address {
        return Err("begins with no pattern for names of pods, no address and no network");
    }
    if text.len() > LONGEST || text.matches('*').count() > STARS {
        return Err("has a pattern of more than 253 characters, or of more than 4 *");
    }
    Ok(Which::Pods(text.into()))
}

impl Which {
    fn is(&self, endpoint: &Endpoint) -> bool {
        match self {
            Which::Addresses(network) => contains(network, endpoint.address),
            Which::Pods(pattern) if &**pattern == "*" => true,
            Which::Pods(pattern) => endpoint.names.pod().is_some_and(|pod| fits(pattern, pod)),
        }
    }
}

fn contains(network: &IpNet, address: IpAddr) -> bool {
    Family::of(network.addr()) == Family::of(address) && network.contains(&address)
}

/// `name` is `pattern` with something, or nothing, in place of each `*`. Each part is looked for at
/// its first place only, which is enough, and takes no longer than the name is long times the
/// pattern.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EndpointNames;

    const A: &str = "10.244.1.11";
    const V6: &str = "fd00:244::1";

    fn of(value: &str, address: &str, pod: &str) -> Result<u16, String> {
        let endpoint = Endpoint {
            names: EndpointNames::new(None, Some(pod)),
            ..Endpoint::new(address.parse().unwrap())
        };
        Weights::parse(value).map(|weights| weights.of(&endpoint))
    }

    #[test]
    fn entries_of_the_annotation() {
        let cases = [
            ("*: 3", A, "web-1", 3),
            ("*: 3", A, "", 3),
            ("*:0", A, "", 0),
            ("web-v2-*: 1, *: 9", A, "web-v2-x1", 1),
            ("web-v2-*: 1, *: 9", A, "web-v1-x1", 9),
            ("\n  web-v2-*: 5\n  *: 9\n", A, "web-v2-x1", 5),
            ("*: 9, web-v2-*: 1", A, "web-v2-x1", 9),
            ("web-v2-*: 5", A, "web-v1-x1", 1),
            ("web-v2-*: 5", A, "", 1),
            ("web-0: 1000", A, "web-0", 1000),
            ("web-0: 5", A, "web-01", 1),
            ("*-canary-*-x: 5", A, "web-canary-7-x", 5),
            ("*-canary-*-x: 5", A, "web-canary-x", 1),
            ("*a*b: 5", A, "aab", 5),
            ("ab*ba: 5", A, "aba", 1),
            ("10.244.1.11: 5", A, "", 5),
            ("10.244.1.0/24: 5", A, "", 5),
            ("10.244.2.0/24: 5, ::/0: 6", A, "", 1),
            ("fd00:244::1: 5", V6, "", 5),
            ("fd00:244::/64: 5", V6, "", 5),
        ];
        for (value, address, pod, expected) in cases {
            assert_eq!(of(value, address, pod), Ok(expected), "{value:?} {pod:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (value, expected) in [
            ("", "is empty"),
            (" ,, ", "is empty"),
            ("web", "\"web\" is not PATTERN: WEIGHT"),
            ("a: 1, b", "\"b\" is not PATTERN: WEIGHT"),
            ("*: ", "\"*:\" has no weight from 0 to 1000"),
            ("*: 1001", "\"*: 1001\" has no weight from 0 to 1000"),
            ("*: -1", "\"*: -1\" has no weight from 0 to 1000"),
            ("*: 10%", "\"*: 10%\" has no weight from 0 to 1000"),
            ("fd00::1", "\"fd00::1\" has no space before the weight, which an IPv6 address needs"),
            ("10.244.1.11:80", "\"10.244.1.11:80\" has no space before the weight, which an address needs"),
            (
                "10.244.1.*: 0",
                "\"10.244.1.*: 0\" begins with no pattern for names of pods, no address and no network",
            ),
            ("Web-*: 5", "\"Web-*: 5\" begins with no pattern for names of pods, no address and no network"),
            ("web-*: +5", "\"web-*: +5\" has no weight from 0 to 1000"),
            (
                "a*b*c*d*e*: 5",
                "\"a*b*c*d*e*: 5\" has a pattern of more than 253 characters, or of more than 4 *",
            ),
            (": 5", "\": 5\" begins with no pattern for names of pods, no address and no network"),
            (
                "app=web: 5",
                "\"app=web: 5\" begins with no pattern for names of pods, no address and no network",
            ),
        ] {
            assert_eq!(of(value, A, ""), Err(expected.to_owned()), "{value:?}");
        }
        assert_eq!(of(&"a: 1,".repeat(ENTRIES), A, "a"), Ok(1));
        assert_eq!(of(&"a: 1,".repeat(ENTRIES + 1), A, ""), Err("has more than 100 entries".to_owned()));
        let long = Weights::parse(&"ü".repeat(1000)).unwrap_err();
        assert_eq!(long, format!("{:?} is not PATTERN: WEIGHT", "ü".repeat(SHOWN)));
    }
}
