//! The rules that this mode writes (spec §5). `print.rs` writes them as iptables-restore takes
//! them, `parse.rs` reads them as iptables-save gives them back.

mod parse;
mod print;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use portolan_service::Protocol;

/// One rule: all of its matches must hold. Equal if it does the same, in whatever order its matches
/// are written.
#[derive(Debug, Clone, Default)]
pub(super) struct Rule {
    matches: Vec<Match>,
    target: Option<Target>,
}

/// What a rule looks at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Match {
    /// Matches always; says what the rule is for.
    Comment(String),
    /// The source address is in the network, or not.
    Source { not: bool, network: IpNet },
    /// The destination address is in the network, or not.
    Destination { not: bool, network: IpNet },
    /// The packet came in through the interface, or not; `+` at the end stands for any rest.
    Input { not: bool, interface: String },
    /// The transport protocol, and the destination port if there is one.
    Transport { protocol: Protocol, port: Option<u16> },
    /// The connection is in one of these states, or not.
    State { not: bool, states: States },
    /// These bits of the packet's mark have this value, or not.
    Mark { not: bool, value: u32, mask: u32 },
    /// The source is an address of this node.
    SourceIsLocal,
    /// The destination is an address of this node.
    DestinationIsLocal,
    /// Always, and the source address is remembered under this name.
    RecentSet(String),
    /// The source address was remembered under this name within the last `seconds`.
    RecentCheck { name: String, seconds: u32 },
    /// One packet of this many, at random.
    OneIn(u32),
    /// Always, and this counter counts the packet.
    Counter(String),
}

/// States of a connection that rules ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum States {
    New,
    Invalid,
    Established,
    EstablishedOrTranslated,
    Translated,
}

/// What happens to a packet that matches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Target {
    Accept,
    Drop,
    Reject,
    Return,
    Jump(String),
    Dnat(SocketAddr),
    Masquerade { random_fully: bool },
    OrMark(u32),
    XorMark(u32),
}

impl States {
    const ALL: [States; 5] = [
        States::New,
        States::Invalid,
        States::Established,
        States::EstablishedOrTranslated,
        States::Translated,
    ];

    fn text(self) -> &'static str {
        match self {
            States::New => "NEW",
            States::Invalid => "INVALID",
            States::Established => "RELATED,ESTABLISHED",
            States::EstablishedOrTranslated => "RELATED,ESTABLISHED,DNAT",
            States::Translated => "DNAT",
        }
    }

    fn parse(text: &str) -> Option<States> {
        let sorted = |text: &'_ str| {
            let mut states: Vec<String> = text.split(',').map(str::to_owned).collect();
            states.sort_unstable();
            states
        };
        let given = sorted(text);
        States::ALL.into_iter().find(|states| sorted(states.text()) == given)
    }
}

/// Building rules in the order in which they are written.
impl Rule {
    pub(super) fn new() -> Rule {
        Rule::default()
    }

    pub(super) fn with(mut self, condition: Match) -> Rule {
        self.matches.push(condition);
        self
    }

    pub(super) fn maybe(mut self, condition: Option<Match>) -> Rule {
        self.matches.extend(condition);
        self
    }

    pub(super) fn comment(self, text: impl Into<String>) -> Rule {
        self.with(Match::Comment(text.into()))
    }

    pub(super) fn transport(self, protocol: Protocol, port: Option<u16>) -> Rule {
        self.with(Match::Transport { protocol, port })
    }

    pub(super) fn to(self, address: IpAddr) -> Rule {
        self.with(Match::Destination { not: false, network: address.into() })
    }

    pub(super) fn from(self, network: IpNet) -> Rule {
        self.with(Match::Source { not: false, network })
    }

    pub(super) fn state(self, states: States) -> Rule {
        self.with(Match::State { not: false, states })
    }

    pub(super) fn target(mut self, target: Target) -> Rule {
        self.target = Some(target);
        self
    }

    pub(super) fn jump(self, chain: impl Into<String>) -> Rule {
        self.target(Target::Jump(chain.into()))
    }
}

impl Rule {
    /// The same without comments, which large clusters do without (spec §5.33).
    pub(super) fn without_comments(mut self) -> Rule {
        self.matches.retain(|condition| !matches!(condition, Match::Comment(_)));
        self
    }

    /// What the rule does.
    pub(super) fn verdict(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// What the rule looks at, in the order in which it is written.
    pub(super) fn matches(&self) -> &[Match] {
        &self.matches
    }

    /// The one UDP address and port that the rule is for.
    pub(super) fn udp_destination(&self) -> Option<(IpAddr, u16)> {
        let (mut address, mut udp_port) = (None, None);
        for condition in &self.matches {
            match condition {
                Match::Destination { not: false, network }
                    if network.prefix_len() == network.max_prefix_len() =>
                {
                    address = Some(network.addr());
                }
                Match::Transport { protocol: Protocol::Udp, port } => udp_port = *port,
                _ => {}
            }
        }
        address.zip(udp_port)
    }

    /// Does the same, whatever the comments (spec §5.33).
    pub(super) fn is_same_but_comments(&self, other: &Rule) -> bool {
        let is_test = |condition: &&Match| !matches!(condition, Match::Comment(_));
        self.target == other.target
            && sorted(self.matches.iter().filter(is_test)) == sorted(other.matches.iter().filter(is_test))
    }

    fn key(&self) -> (Vec<&Match>, Option<&Target>) {
        (sorted(self.matches.iter()), self.target.as_ref())
    }
}

fn sorted<'a>(matches: impl Iterator<Item = &'a Match>) -> Vec<&'a Match> {
    let mut matches: Vec<&Match> = matches.collect();
    matches.sort_unstable();
    matches
}

impl PartialEq for Rule {
    fn eq(&self, other: &Rule) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Rule {}

impl std::hash::Hash for Rule {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}
