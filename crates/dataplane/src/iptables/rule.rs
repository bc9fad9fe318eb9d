//! The rules that this mode writes (spec §5), as iptables-restore takes them and as iptables-save gives them back.

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use portolan_service::{Family, Protocol};

use super::names::lower_case;

/// One rule: all of its matches must hold. Equal if it does the same, in whatever order its matches are written.
#[derive(Debug, Clone, Default)]
pub(super) struct Rule {
    matches: Vec<Match>,
    target: Option<Target>,
}

/// What a rule looks at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Match {
    /// Matches always; tells people what the rule is for.
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
    /// The source address was remembered under this name in the last so many seconds.
    RecentCheck { name: String, seconds: u32 },
    /// One of so many packets.
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

    /// Does the same, whatever people are told (spec §5.33).
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

/// The rule as iptables-restore takes it, without the chain.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        let mut matches = self.matches.iter().peekable();
        while let Some(condition) = matches.next() {
            f.write_str(between)?;
            between = " ";
            write_match(f, condition)?;
            if let Match::Transport { port: Some(port), .. } = condition {
                // As everybody writes it, an address stands between a protocol and its port.
                if let Some(address) = matches.next_if(|next| matches!(next, Match::Destination { .. })) {
                    f.write_char(' ')?;
                    write_match(f, address)?;
                }
                write!(f, " --dport {port}")?;
            }
        }
        if let Some(target) = &self.target {
            write!(f, "{between}-j ")?;
            write_target(f, target)?;
        }
        Ok(())
    }
}

fn write_match(f: &mut fmt::Formatter<'_>, condition: &Match) -> fmt::Result {
    let not = |not: bool| if not { "! " } else { "" };
    match condition {
        Match::Comment(text) => {
            f.write_str("-m comment --comment ")?;
            write_quoted(f, text)
        }
        Match::Source { not: negated, network } => write!(f, "{}-s {}", not(*negated), Short(*network)),
        Match::Destination { not: negated, network } => write!(f, "{}-d {}", not(*negated), Short(*network)),
        Match::Input { not: negated, interface } => {
            write!(f, "{}-i ", not(*negated))?;
            write_quoted(f, interface)
        }
        Match::Transport { protocol, .. } => {
            let protocol = lower_case(*protocol);
            write!(f, "-m {protocol} -p {protocol}")
        }
        Match::State { not: negated, states } => {
            write!(f, "-m conntrack {}--ctstate {}", not(*negated), states.text())
        }
        Match::Mark { not: negated, value, mask } => {
            write!(f, "-m mark {}--mark {value:#010x}/{mask:#010x}", not(*negated))
        }
        Match::SourceIsLocal => f.write_str("-m addrtype --src-type LOCAL"),
        Match::DestinationIsLocal => f.write_str("-m addrtype --dst-type LOCAL"),
        Match::RecentSet(name) => write!(f, "-m recent --name {name} --set"),
        Match::RecentCheck { name, seconds } => {
            write!(f, "-m recent --name {name} --rcheck --seconds {seconds} --reap")
        }
        Match::OneIn(count) => {
            write!(f, "-m statistic --mode random --probability {:.10}", 1.0 / f64::from(*count))
        }
        Match::Counter(name) => write!(f, "-m nfacct --nfacct-name {name}"),
    }
}

fn write_target(f: &mut fmt::Formatter<'_>, target: &Target) -> fmt::Result {
    match target {
        Target::Accept => f.write_str("ACCEPT"),
        Target::Drop => f.write_str("DROP"),
        Target::Reject => f.write_str("REJECT"),
        Target::Return => f.write_str("RETURN"),
        Target::Jump(chain) => f.write_str(chain),
        Target::Dnat(endpoint) => write!(f, "DNAT --to-destination {endpoint}"),
        Target::Masquerade { random_fully: true } => f.write_str("MASQUERADE --random-fully"),
        Target::Masquerade { random_fully: false } => f.write_str("MASQUERADE"),
        Target::OrMark(mark) => write!(f, "MARK --or-mark {mark:#010x}"),
        Target::XorMark(mark) => write!(f, "MARK --xor-mark {mark:#010x}"),
    }
}

/// A network, or the address alone if it has only one.
struct Short(IpNet);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

/// Quoted where iptables-restore needs it. A line must stay one line, whatever a name holds.
fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/:.-_+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return f.write_str(text);
    }
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            c if c.is_control() => f.write_char('?')?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

/// Reading what iptables-save prints after the chain.
impl Rule {
    /// The rule, if it is one that this mode could have written.
    pub(super) fn parse(text: &str, family: Family) -> Option<Rule> {
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

/// The kernel keeps a probability in units of 2^-31 (`xt_statistic.h`), so what is printed differs from what was given.
fn one_in(probability: &str) -> Option<u32> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Each rule, as it is written and as iptables-save of both variants (1.8.9) gives it back.
    fn rules() -> Vec<(Rule, &'static str, &'static str)> {
        let svc = "KUBE-SVC-AAAA";
        vec![
            (
                Rule::new()
                    .comment("a/b:http cluster IP")
                    .transport(Protocol::Tcp, Some(80))
                    .to(ip("10.0.0.1"))
                    .jump(svc),
                "-m comment --comment \"a/b:http cluster IP\" -m tcp -p tcp -d 10.0.0.1 --dport 80 -j KUBE-SVC-AAAA",
                "-d 10.0.0.1/32 -p tcp -m comment --comment \"a/b:http cluster IP\" -m tcp --dport 80 -j KUBE-SVC-AAAA",
            ),
            (
                Rule::new().comment("a/b:http").transport(Protocol::Udp, Some(30000)).jump(svc),
                "-m comment --comment a/b:http -m udp -p udp --dport 30000 -j KUBE-SVC-AAAA",
                "-p udp -m comment --comment \"a/b:http\" -m udp --dport 30000 -j KUBE-SVC-AAAA",
            ),
            (
                Rule::new()
                    .comment("x")
                    .transport(Protocol::Tcp, Some(80))
                    .to(ip("10.0.0.1"))
                    .with(Match::Source { not: true, network: net("10.244.0.0/16") })
                    .jump("KUBE-MARK-MASQ"),
                "-m comment --comment x -m tcp -p tcp -d 10.0.0.1 --dport 80 ! -s 10.244.0.0/16 -j KUBE-MARK-MASQ",
                "! -s 10.244.0.0/16 -d 10.0.0.1/32 -p tcp -m comment --comment x -m tcp --dport 80 -j KUBE-MARK-MASQ",
            ),
            (
                Rule::new().with(Match::Input { not: true, interface: "cbr+".into() }).target(Target::Return),
                "! -i cbr+ -j RETURN",
                "! -i cbr+ -j RETURN",
            ),
            (
                Rule::new().state(States::Established).target(Target::Accept),
                "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
                "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            ),
            (
                Rule::new()
                    .with(Match::Mark { not: true, value: 0x4000, mask: 0x4000 })
                    .target(Target::Return),
                "-m mark ! --mark 0x00004000/0x00004000 -j RETURN",
                "-m mark ! --mark 0x4000/0x4000 -j RETURN",
            ),
            (
                Rule::new().target(Target::OrMark(0x4000)),
                "-j MARK --or-mark 0x00004000",
                "-j MARK --set-xmark 0x4000/0x4000",
            ),
            (
                Rule::new().target(Target::XorMark(0x4000)),
                "-j MARK --xor-mark 0x00004000",
                "-j MARK --set-xmark 0x4000/0x0",
            ),
            (
                Rule::new().comment("m").target(Target::Masquerade { random_fully: true }),
                "-m comment --comment m -j MASQUERADE --random-fully",
                "-m comment --comment m -j MASQUERADE --random-fully",
            ),
            (
                Rule::new().with(Match::SourceIsLocal).with(Match::DestinationIsLocal).target(Target::Drop),
                "-m addrtype --src-type LOCAL -m addrtype --dst-type LOCAL -j DROP",
                "-m addrtype --src-type LOCAL -m addrtype --dst-type LOCAL -j DROP",
            ),
            (
                Rule::new().with(Match::RecentCheck { name: "KUBE-SEP-B".into(), seconds: 10800 }).jump(svc),
                "-m recent --name KUBE-SEP-B --rcheck --seconds 10800 --reap -j KUBE-SVC-AAAA",
                "-m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-B --mask 255.255.255.255 --rsource -j KUBE-SVC-AAAA",
            ),
            (
                Rule::new()
                    .comment("a/b")
                    .with(Match::RecentSet("KUBE-SEP-B".into()))
                    .transport(Protocol::Tcp, None)
                    .target(Target::Dnat("10.1.1.1:80".parse().unwrap())),
                "-m comment --comment a/b -m recent --name KUBE-SEP-B --set -m tcp -p tcp -j DNAT --to-destination 10.1.1.1:80",
                "-p tcp -m comment --comment \"a/b\" -m recent --set --name KUBE-SEP-B --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination 10.1.1.1:80",
            ),
            (
                Rule::new().with(Match::OneIn(3)).jump(svc),
                "-m statistic --mode random --probability 0.3333333333 -j KUBE-SVC-AAAA", // spec §14.3
                "-m statistic --mode random --probability 0.33333333349 -j KUBE-SVC-AAAA",
            ),
            (
                Rule::new().with(Match::OneIn(2)).target(Target::Reject),
                "-m statistic --mode random --probability 0.5000000000 -j REJECT",
                "-m statistic --mode random --probability 0.50000000000 -j REJECT --reject-with icmp-port-unreachable",
            ),
            (
                Rule::new().comment("no target"),
                "-m comment --comment \"no target\"",
                "-m comment --comment \"no target\"",
            ),
        ]
    }

    #[test]
    fn rules_are_written_and_read() {
        for (rule, written, saved) in rules() {
            assert_eq!(rule.to_string(), written);
            assert_eq!(Rule::parse(written, Family::V4).as_ref(), Some(&rule), "{written}");
            assert_eq!(Rule::parse(saved, Family::V4).as_ref(), Some(&rule), "{saved}");
        }
    }

    #[test]
    fn rules_of_others_are_not_taken_for_ours() {
        for text in [
            "-p tcp -m multiport --dports 80,443 -j ACCEPT",
            "! -p tcp -j ACCEPT",
            "-p icmp -j ACCEPT",
            "-o eth0 -j MASQUERADE",
            "-j MASQUERADE --to-ports 1024-2048",
            "-m conntrack --ctstate NEW,RELATED -j ACCEPT",
            "-j MARK --set-xmark 0x1/0xff",
            "-m statistic --mode nth --every 3 --packet 0 -j ACCEPT",
            "-m statistic --mode random --probability 0.33333333349 -g CHAIN",
            "-m statistic --mode random --probability 0.30000000000 -j ACCEPT",
            "-d 10.0.0.0/255.0.255.0 -j ACCEPT",
            "-d fd00::1/128 -j ACCEPT",
            "-m comment --comment \"never ends -j ACCEPT",
            "--dport 80 -j ACCEPT",
            "-m recent --update --seconds 1 --name x --rsource -j DROP",
        ] {
            assert_eq!(Rule::parse(text, Family::V4), None, "{text}");
        }
        let (rule, other) = (Rule::new().comment("a").jump("X"), Rule::new().comment("b").jump("X"));
        assert_ne!(rule, other);
        assert_eq!(rule.without_comments(), other.without_comments());
    }

    #[test]
    fn a_line_stays_one_line() {
        let rule = Rule::new().comment("a\n-A INPUT -j DROP \"\\").jump("X");
        let text = rule.to_string();
        assert!(!text.contains('\n'), "{text}");
        assert_eq!(text, "-m comment --comment \"a?-A INPUT -j DROP \\\"\\\\\" -j X");
    }

    #[test]
    fn every_count_is_recognised() {
        for count in (1..2000).chain([4096, 10_000, 46_000]) {
            let kernel = (f64::from(1_u32 << 31)
                * format!("{:.10}", 1.0 / f64::from(count)).parse::<f64>().unwrap())
            .round()
                / f64::from(1_u32 << 31);
            assert_eq!(one_in(&format!("{kernel:.11}")), Some(count), "{count}");
        }
    }
}
