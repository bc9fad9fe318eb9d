//! Targets: what a rule does.

use std::collections::HashMap;
use std::net::IpAddr;

use portolan_service::Family;

use super::values::{number, value_and_mask};
use super::words::{UNSUPPORTED, Words};
use crate::ruleset::{Action, Goal, Mark, SourceAddress, Translation};

/// Targets that neither change what rules ask nor where the packet goes.
const NOTES: [&str; 22] = [
    "LOG",
    "NFLOG",
    "ULOG",
    "TRACE",
    "AUDIT",
    "TCPMSS",
    "TCPOPTSTRIP",
    "DSCP",
    "TOS",
    "TTL",
    "HL",
    "CHECKSUM",
    "CLASSIFY",
    "SECMARK",
    "CONNSECMARK",
    "SET",
    "TEE",
    "IDLETIMER",
    "RATEEST",
    "LED",
    "ECN",
    "ACCOUNT",
];

/// What can be said of a target whose options are not shown: those that log never take a packet,
/// and marks stay packets'.
pub(crate) fn unsupported_target(name: &str) -> Option<Action> {
    match name {
        name if NOTES.contains(&name) => Some(Action::Note),
        "MARK" => Some(Action::ForgetMark),
        "CONNMARK" => Some(Action::ForgetConnectionMark),
        _ => None,
    }
}

/// How a rule names its target.
pub(super) struct Target {
    pub(super) name: String,
    /// `-g` rather than `-j`.
    pub(super) goto: bool,
}

/// The action of `target`, whose options are all that is left of the line.
pub(super) fn action(
    target: Target,
    words: &mut Words<'_>,
    chains: &HashMap<Box<str>, u32>,
    in_part: bool,
    family: Family,
) -> Result<Action, String> {
    let Target { name, goto } = target;
    let mut options = Options::read(words)?;
    if options.unsupported {
        let action = unsupported_target(&name);
        return Ok(action.unwrap_or_else(|| Action::Unknown(format!("{name} {UNSUPPORTED}").into())));
    }
    if let Some(chain) = chains.get(name.as_str()) {
        return Ok(Action::Goal(if goto { Goal::Goto(*chain) } else { Goal::Jump(*chain) }));
    }
    if in_part && (goto || name.contains('-') || name.chars().any(char::is_lowercase)) {
        return Ok(Action::Unknown(format!("chain {name}, which the dump leaves out,").into()));
    }
    if goto {
        return Err(format!("chain {name} was not declared"));
    }
    let action = match name.as_str() {
        "ACCEPT" => Some(Action::Goal(Goal::Accept)),
        "DROP" => Some(Action::Goal(Goal::Drop)),
        "REJECT" => Some(Action::Goal(Goal::Reject)),
        "RETURN" => Some(Action::Goal(Goal::Return)),
        "MARK" => options.mark()?.map(Action::Mark),
        "CONNMARK" => options.connection_mark()?,
        "DNAT" => options.dnat(family)?,
        "REDIRECT" => Some(Action::Destination(Translation::ToNode {
            ports: options.value("--to-ports").map(ports).transpose()?,
        })),
        "MASQUERADE" => Some(Action::Source(SourceAddress::OfInterface)),
        "SNAT" => options.snat(family)?,
        "NOTRACK" => Some(Action::Untrack),
        "CT" => Some(if options.has("--notrack") { Action::Untrack } else { Action::Note }),
        name if NOTES.contains(&name) => Some(Action::Note),
        _ => None,
    };
    Ok(action.unwrap_or_else(|| Action::Unknown(options.text(&name).into())))
}

/// The options of a target.
struct Options {
    all: Vec<(String, Option<String>)>,
    /// In their place stands that they cannot be printed.
    unsupported: bool,
}

impl Options {
    fn read(words: &mut Words<'_>) -> Result<Options, String> {
        let mut options: Vec<(String, Option<String>)> = Vec::new();
        let mut unsupported = false;
        while let Some(word) = words.next() {
            if words.at_unsupported(&word) {
                words.next();
                unsupported = true;
                continue;
            }
            if word.is_option() {
                options.push((word.text.into_owned(), None));
                continue;
            }
            let (_, value) = options.last_mut().ok_or_else(|| format!("{} after the target", word.text))?;
            match value {
                Some(value) => {
                    value.push(' ');
                    value.push_str(&word.text);
                }
                None => *value = Some(word.text.into_owned()),
            }
        }
        Ok(Options { all: options, unsupported })
    }

    fn has(&self, option: &str) -> bool {
        self.all.iter().any(|(name, _)| name == option)
    }

    fn value(&self, option: &str) -> Option<&str> {
        self.all.iter().find(|(name, _)| name == option)?.1.as_deref()
    }

    fn text(&self, target: &str) -> String {
        let mut text = target.to_owned();
        for (name, value) in &self.all {
            text.push(' ');
            text.push_str(name);
            if let Some(value) = value {
                text.push(' ');
                text.push_str(value);
            }
        }
        text
    }

    /// The ways to write a change of a mark (iptables-extensions(8), MARK).
    fn mark(&mut self) -> Result<Option<Mark>, String> {
        let word = |text: &str| number(text, "a mark");
        for (option, value) in &self.all {
            let Some(value) = value else { continue };
            let mark = match option.as_str() {
                "--set-xmark" => {
                    let (value, mask) = value_and_mask(value)?;
                    Mark { keep: !mask, flip: value }
                }
                "--set-mark" => {
                    let (value, mask) = value_and_mask(value)?;
                    Mark { keep: !(value | mask), flip: value }
                }
                "--and-mark" => Mark { keep: word(value)?, flip: 0 },
                "--or-mark" => Mark { keep: !word(value)?, flip: word(value)? },
                "--xor-mark" => Mark { keep: u32::MAX, flip: word(value)? },
                _ => continue,
            };
            return Ok(Some(mark));
        }
        Ok(None)
    }

    fn connection_mark(&mut self) -> Result<Option<Action>, String> {
        let bits = |option: &str| -> Result<u32, String> {
            self.value(option).or(self.value("--mask")).map_or(Ok(u32::MAX), |text| number(text, "a mask"))
        };
        let (connection, packet) = (bits("--ctmask")?, bits("--nfmask")?);
        if self.has("--save-mark") {
            return Ok(Some(Action::SaveMark { connection, packet }));
        }
        if self.has("--restore-mark") {
            return Ok(Some(Action::RestoreMark { connection, packet }));
        }
        Ok(self.mark()?.map(Action::ConnectionMark))
    }

    fn dnat(&self, family: Family) -> Result<Option<Action>, String> {
        let mut destinations = self.all.iter().filter(|(name, _)| name == "--to-destination");
        let (Some((_, Some(text))), None) = (destinations.next(), destinations.next()) else {
            return Ok(None);
        };
        let (addresses, ports) = addresses_and_ports(text, family)?;
        Ok(Some(Action::Destination(Translation::To { addresses, ports })))
    }

    fn snat(&self, family: Family) -> Result<Option<Action>, String> {
        let Some(text) = self.value("--to-source") else { return Ok(None) };
        let (addresses, _) = addresses_and_ports(text, family)?;
        let only = addresses.and_then(|(first, last)| (first == last).then_some(first));
        Ok(Some(Action::Source(SourceAddress::Named(only))))
    }
}

type Addresses = Option<(u128, u128)>;
type Ports = Option<(u16, u16)>;

/// `[first[-last]][:port[-port]]`, IPv6 addresses in brackets if a port follows.
fn addresses_and_ports(text: &str, family: Family) -> Result<(Addresses, Ports), String> {
    let (addresses, port_text) = match family {
        Family::V4 => {
            text.split_once(':').map_or((text, None), |(addresses, ports)| (addresses, Some(ports)))
        }
        Family::V6 => match text.rsplit_once("]:") {
            Some((addresses, ports)) => (addresses, Some(ports)),
            None => (text, None),
        },
    };
    let addresses = if addresses.is_empty() {
        None
    } else {
        let (first, last) = addresses.split_once('-').unwrap_or((addresses, addresses));
        let address = |text: &str| -> Result<u128, String> {
            let text = text.trim_start_matches('[').trim_end_matches(']');
            let address: IpAddr = text.parse().map_err(|_| format!("{text} is not an address"))?;
            if Family::of(address) == family {
                Ok(crate::value::address_value(address))
            } else {
                Err(format!("{text} is not an {family} address"))
            }
        };
        Some((address(first)?, address(last)?))
    };
    Ok((addresses, port_text.map(ports).transpose()?))
}

/// `port[-port]`; what follows a slash is where a range is counted from.
fn ports(text: &str) -> Result<(u16, u16), String> {
    let text = text.split_once('/').map_or(text, |(ports, _)| ports);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Ok((number(first, "a port")?, number(last, "a port")?))
}
