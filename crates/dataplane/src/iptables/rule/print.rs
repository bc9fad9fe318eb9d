//! Rules as iptables-restore takes them, without the chain.

use std::fmt::{self, Write};

use ipnet::IpNet;

use super::super::names::lower_case;
use super::{Match, Rule, Target};

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
