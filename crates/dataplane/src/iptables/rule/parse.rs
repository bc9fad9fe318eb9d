//! Rules as iptables-save gives them back, after the chain.

use std::net::IpAddr;

use ipnet::IpNet;
use portolan_service::{Family, Protocol};

use super::super::names::lower_case;
use super::{Match, Rule, States, Target};

impl Rule {
    /// The rule, if it is one that this mode could have written.
    pub(in crate::iptables) fn parse(text: &str, family: Family) -> Option<Rule> {
        let words = words(text)?;
        let mut reader = Reader { words: words.into_iter(), family, not: false };
        reader.rule()
    }
}

/// Splits at spaces; quotes hold words together, a backslash takes what follows as it is.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| *c == ' ').is_some() {}
        if chars.peek().is_none() {
            return Some(words);
        }
        let mut word = String::new();
        let mut quoted = false;
        while let Some(c) = chars.next_if(|c| quoted || *c != ' ') {
            match c {
                '"' => quoted = !quoted,
                '\\' => word.push(chars.next()?),
                c => word.push(c),
            }
        }
        if quoted {
            return None;
        }
        words.push(word);
    }
}

struct Reader {
    words: std::vec::IntoIter<String>,
    family: Family,
    not: bool,
}

/// What the options of one `-m recent` say.
#[derive(Default)]
struct Recent {
    set: bool,
    check: bool,
    seconds: Option<u32>,
    name: Option<String>,
}

impl Reader {
    fn rule(&mut self) -> Option<Rule> {
        let mut rule = Rule::new();
        let mut protocol = None;
        let mut port = None;
        let mut recent = Recent::default();
        while let Some(word) = self.words.next() {
            if word == "!" {
                self.not = true;
                continue;
            }
            let condition = match word.as_str() {
                "-s" => Some(Match::Source { not: self.take_not(), network: self.network()? }),
                "-d" => Some(Match::Destination { not: self.take_not(), network: self.network()? }),
                "-i" => Some(Match::Input { not: self.take_not(), interface: self.words.next()? }),
                "-p" => {
                    protocol = Some(protocol_named(&self.words.next()?)?);
                    None
                }
                // What a module tests is said by its options.
                "-m" => self.words.next().map(|_| None)?,
                "--dport" => {
                    port = Some(self.words.next()?.parse().ok()?);
                    None
                }
                "--comment" => Some(Match::Comment(self.words.next()?)),
                "--ctstate" => {
                    Some(Match::State { not: self.take_not(), states: States::parse(&self.words.next()?)? })
                }
                "--mark" => {
                    let (value, mask) = masked(&self.words.next()?)?;
                    Some(Match::Mark { not: self.take_not(), value, mask })
                }
                "--src-type" => self.local().map(|()| Some(Match::SourceIsLocal))?,
                "--dst-type" => self.local().map(|()| Some(Match::DestinationIsLocal))?,
                "--set" => {
                    recent.set = true;
                    None
                }
                "--rcheck" => {
                    recent.check = true;
                    None
                }
                "--reap" | "--rsource" => None,
                "--seconds" => {
                    recent.seconds = Some(self.words.next()?.parse().ok()?);
                    None
                }
                "--name" => {
                    recent.name = Some(self.words.next()?);
                    None
                }
                "--mask" => {
                    let mask: IpAddr = self.words.next()?.parse().ok()?;
                    is_all_ones(mask).then_some(None)?
                }
                "--mode" => (self.words.next()? == "random").then_some(None)?,
                "--probability" => Some(Match::OneIn(one_in(&self.words.next()?)?)),
                "--nfacct-name" => Some(Match::Counter(self.words.next()?)),
                "-j" => {
                    let target = self.words.next()?;
                    rule.target = Some(self.target(target)?);
                    None
                }
                _ => return None,
            };
            if self.not {
                return None;
            }
            rule.matches.extend(condition);
        }
        if let Some(protocol) = protocol {
            rule.matches.push(Match::Transport { protocol, port });
        } else if port.is_some() {
            return None;
        }
        recent.add_to(&mut rule).then_some(rule)
    }

    fn take_not(&mut self) -> bool {
        std::mem::take(&mut self.not)
    }

    fn network(&mut self) -> Option<IpNet> {
        let text = self.words.next()?;
        let network: IpNet = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
        (Family::of(network.addr()) == self.family).then_some(network)
    }

    fn local(&mut self) -> Option<()> {
        (self.words.next()? == "LOCAL").then_some(())
    }

    /// The target and all options that follow it: they are the end of the line.
    fn target(&mut self, name: String) -> Option<Target> {
        let options: Vec<String> = self.words.by_ref().collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let unreachable = match self.family {
            Family::V4 => "icmp-port-unreachable",
            Family::V6 => "icmp6-port-unreachable",
        };
        match (name.as_str(), &options[..]) {
            ("ACCEPT", []) => Some(Target::Accept),
            ("DROP", []) => Some(Target::Drop),
            ("RETURN", []) => Some(Target::Return),
            ("REJECT", []) => Some(Target::Reject),
            ("REJECT", ["--reject-with", with]) if *with == unreachable => Some(Target::Reject),
            ("DNAT", ["--to-destination", endpoint]) => endpoint.parse().ok().map(Target::Dnat),
            ("MASQUERADE", []) => Some(Target::Masquerade { random_fully: false }),
            ("MASQUERADE", ["--random-fully"]) => Some(Target::Masquerade { random_fully: true }),
            ("MARK", ["--or-mark", mark]) => number(mark).map(Target::OrMark),
            ("MARK", ["--xor-mark", mark]) => number(mark).map(Target::XorMark),
            ("MARK", ["--set-xmark", mark]) => match masked(mark)? {
                (value, mask) if value == mask => Some(Target::OrMark(value)),
                (value, 0) => Some(Target::XorMark(value)),
                _ => None,
            },
            (_, []) => Some(Target::Jump(name)),
            _ => None,
        }
    }
}

impl Recent {
    /// False if it is not one of ours.
    fn add_to(self, rule: &mut Rule) -> bool {
        let condition = match self {
            Recent { set: false, check: false, seconds: None, name: None } => return true,
            Recent { set: true, check: false, seconds: None, name: Some(name) } => Match::RecentSet(name),
            Recent { set: false, check: true, seconds: Some(seconds), name: Some(name) } => {
                Match::RecentCheck { name, seconds }
            }
            _ => return false,
        };
        rule.matches.push(condition);
        true
    }
}

fn protocol_named(text: &str) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|protocol| lower_case(*protocol) == text)
}

fn is_all_ones(mask: IpAddr) -> bool {
    match mask {
        IpAddr::V4(mask) => mask.to_bits() == u32::MAX,
        IpAddr::V6(mask) => mask.to_bits() == u128::MAX,
    }
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn masked(text: &str) -> Option<(u32, u32)> {
    match text.split_once('/') {
        Some((value, mask)) => Some((number(value)?, number(mask)?)),
        None => Some((number(text)?, u32::MAX)),
    }
}

/// The kernel keeps a probability in units of 2^-31 (`xt_statistic.h`), so what is printed differs
/// from what was given.
pub(super) fn one_in(probability: &str) -> Option<u32> {
    let units = |probability: f64| (probability * f64::from(1_u32 << 31)).round();
    let held: f64 = probability.parse().ok().filter(|held| *held > 0.0 && *held <= 1.0)?;
    // In 1-2^32 or infinite, which no count is equal to below.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    let near = (1.0 / held).round() as u32;
    let is_held = |count: &u32| {
        let given = format!("{:.10}", 1.0 / f64::from(*count)).parse().unwrap_or(0.0);
        #[expect(clippy::float_cmp, reason = "both are whole numbers")]
        let same = units(given) == units(held);
        same
    };
    // Above 46,000 several counts are the same to the kernel.
    [near, near.saturating_sub(1), near.saturating_add(1)].into_iter().find(is_held)
}
