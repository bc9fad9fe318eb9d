//! Weights of endpoints: how many of the new connections of a Service each gets, next to others.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Endpoint, Family, parse_address, parse_network};

/// So many entries are read at most.
const ENTRIES: usize = 100;
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
    let number = weight.trim().parse().ok().filter(|weight| *weight <= Weights::MAX);
    let weight = number.ok_or_else(|| format!("has no weight from 0 to {}", Weights::MAX))?;
    Ok((self::which(which.trim())?, weight))
}

fn which(text: &str) -> Result<Which, &'static str> {
    if let Some(address) = parse_address(text) {
        return Ok(Which::Addresses(address.into()));
    }
    if let Some(network) = parse_network(text) {
        return Ok(Which::Addresses(network));
    }
    let of_a_name = |character: char| character.is_ascii_alphanumeric() || "-.*".contains(character);
    if text.is_empty() || !text.chars().all(of_a_name) {
        return Err("begins with no pattern for names of pods, no address and no network");
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

    #[test]
    fn entries_of_the_annotation() {
        const A: &str = "10.244.1.11";
        const V6: &str = "fd00:244::1";
        let of = |value: &str, address: &str, pod: &str| {
            let endpoint = Endpoint {
                names: EndpointNames::new(None, Some(pod)),
                ..Endpoint::new(address.parse().unwrap())
            };
            Weights::parse(value).map(|weights| weights.of(&endpoint))
        };
        let cases = [
            ("*: 3", A, "web-1", Ok(3)),
            ("*: 3", A, "", Ok(3)),
            ("*:0", A, "", Ok(0)),
            ("web-v2-*: 1, *: 9", A, "web-v2-x1", Ok(1)),
            ("web-v2-*: 1, *: 9", A, "web-v1-x1", Ok(9)),
            ("\n  web-v2-*: 5\n  *: 9\n", A, "web-v2-x1", Ok(5)),
            ("*: 9, web-v2-*: 1", A, "web-v2-x1", Ok(9)),
            ("web-v2-*: 5", A, "web-v1-x1", Ok(1)),
            ("web-v2-*: 5", A, "", Ok(1)),
            ("web-0: 1000", A, "web-0", Ok(1000)),
            ("web-0: 5", A, "web-01", Ok(1)),
            ("*-canary-*-x: 5", A, "web-canary-7-x", Ok(5)),
            ("*-canary-*-x: 5", A, "web-canary-x", Ok(1)),
            ("*a*b: 5", A, "aab", Ok(5)),
            ("ab*ba: 5", A, "aba", Ok(1)),
            ("10.244.1.11: 5", A, "", Ok(5)),
            ("10.244.1.0/24: 5", A, "", Ok(5)),
            ("10.244.2.0/24: 5, ::/0: 6", A, "", Ok(1)),
            ("fd00:244::1: 5", V6, "", Ok(5)),
            ("fd00:244::/64: 5", V6, "", Ok(5)),
            ("", A, "", Err("is empty")),
            (" ,, ", A, "", Err("is empty")),
            ("web", A, "", Err("\"web\" is not PATTERN: WEIGHT")),
            ("a: 1, b", A, "", Err("\"b\" is not PATTERN: WEIGHT")),
            ("*: ", A, "", Err("\"*:\" has no weight from 0 to 1000")),
            ("*: 1001", A, "", Err("\"*: 1001\" has no weight from 0 to 1000")),
            ("*: -1", A, "", Err("\"*: -1\" has no weight from 0 to 1000")),
            ("*: 10%", A, "", Err("\"*: 10%\" has no weight from 0 to 1000")),
            (
                "fd00::1",
                V6,
                "",
                Err("\"fd00::1\" has no space before the weight, which an IPv6 address needs"),
            ),
            (
                ": 5",
                A,
                "",
                Err("\": 5\" begins with no pattern for names of pods, no address and no network"),
            ),
            (
                "app=web: 5",
                A,
                "",
                Err("\"app=web: 5\" begins with no pattern for names of pods, no address and no network"),
            ),
        ];
        for (value, address, pod, expected) in cases {
            assert_eq!(of(value, address, pod), expected.map_err(str::to_owned), "{value:?} {pod:?}");
        }
        assert_eq!(of(&"a: 1,".repeat(ENTRIES), A, "a"), Ok(1));
        assert_eq!(of(&"a: 1,".repeat(ENTRIES + 1), A, ""), Err("has more than 100 entries".to_owned()));
        let long = Weights::parse(&"ü".repeat(1000)).unwrap_err();
        assert_eq!(long, format!("{:?} is not PATTERN: WEIGHT", "ü".repeat(SHOWN)));
    }
}
