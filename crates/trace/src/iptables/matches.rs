//! Matches: what a rule asks.

use std::fmt::Write;
use std::net::IpAddr;
use std::ops::ControlFlow;

use portolan_service::Family;

use super::targets::Target;
use super::values::{
    address_types, flags, interface, number, ports, probability, protocol, range, states, value_and_mask,
    whole,
};
use super::words::{UNSUPPORTED, Word, Words};
use crate::ipset::{InUse, IpSets};
use crate::probability::Probability;
use crate::ruleset::{Field, Operand, Ranges, Set, Test};
use crate::value::{address_value, network_range};

/// An option that takes what a rule asks in words.
pub(super) const AS_LISTED: &str = "--as-listed";

/// The sets of ipset that rules look into, and where the table keeps them.
pub(super) struct Lookups<'a> {
    pub(super) given: &'a IpSets,
    pub(super) sets: &'a mut Vec<Set>,
    pub(super) in_use: &'a mut InUse,
}

/// Collects the tests of one rule, option by option.
pub(super) struct Matches<'a> {
    lookups: Lookups<'a>,
    family: Family,
    /// Addresses, protocol and interfaces: the kernel asks for them first.
    header: Vec<Test>,
    extensions: Vec<Test>,
    comment: Option<Box<str>>,
    module: Module,
    negated: bool,
}

/// A match that is being read.
enum Module {
    None,
    /// All of its options stand for themselves.
    Plain(String),
    Statistic {
        mode: Option<String>,
        chance: Option<Probability>,
        every: u32,
        negated: bool,
    },
    Recent {
        list: String,
        set: bool,
        ask: Option<bool>,
        seconds: Option<u32>,
        text: String,
    },
    Set {
        name: String,
        directions: String,
        negated: bool,
        /// As written.
        text: String,
        /// It asks for more than whether something is in the set.
        asks_more: bool,
    },
    Unknown {
        text: String,
    },
}

impl<'a> Matches<'a> {
    pub(super) fn new(family: Family, lookups: Lookups<'a>) -> Matches<'a> {
        Matches {
            lookups,
            family,
            header: Vec::new(),
            extensions: Vec::new(),
            comment: None,
            module: Module::None,
            negated: false,
        }
    }

    /// Takes an option and its value. Breaks with the target.
    pub(super) fn option(
        &mut self,
        word: &Word<'_>,
        words: &mut Words<'_>,
    ) -> Result<ControlFlow<Target>, String> {
        let option = &*word.text;
        // What an unknown match is given is its own, up to what only a rule itself can be given.
        if let Module::Unknown { text } = &mut self.module {
            let ends = is_of_rule(word) || word.is("!") && words.peek(0).is_some_and(is_of_rule);
            if !ends {
                push_word(text, word);
                return Ok(ControlFlow::Continue(()));
            }
        }
        if word.is("!") {
            self.negated = !self.negated;
            return Ok(ControlFlow::Continue(()));
        }
        if words.at_unsupported(word) {
            words.next();
            self.unsupported();
            return Ok(ControlFlow::Continue(()));
        }
        if word.quoted || !option.starts_with('-') {
            return Err(format!("{option} stands where an option is expected"));
        }
        match option {
            "-j" | "--jump" | "-g" | "--goto" => {
                let name = words.argument(option)?.into_owned();
                return Ok(ControlFlow::Break(Target { name, goto: matches!(option, "-g" | "--goto") }));
            }
            "-m" | "--match" => {
                self.close()?;
                self.module = Module::open(&words.argument(option)?);
            }
            "-c" | "--set-counters" => {
                words.argument(option)?;
                words.argument(option)?;
            }
            // Ours, for what a listing shows in words that are not known.
            AS_LISTED => {
                self.close()?;
                self.extensions.push(Test::Unknown((*words.argument(option)?).into()));
            }
            _ => {
                // Old versions write the negation behind the option.
                if words.peek(0).is_some_and(|next| next.is("!")) {
                    words.next();
                    self.negated = !self.negated;
                }
                let negated = std::mem::take(&mut self.negated);
                if !self.header_option(option, negated, words)? {
                    self.module_option(option, negated, words)?;
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    pub(super) fn finish(mut self) -> Result<(Vec<Test>, Option<Box<str>>), String> {
        self.close()?;
        self.header.append(&mut self.extensions);
        Ok((self.header, self.comment))
    }

    fn header_option(&mut self, option: &str, negate: bool, words: &mut Words<'_>) -> Result<bool, String> {
        let test = match option {
            "-s" | "--source" | "--src" => {
                self.address(Field::Source(self.family), &words.argument(option)?, negate)?
            }
            "-d" | "--destination" | "--dst" => {
                self.address(Field::Destination(self.family), &words.argument(option)?, negate)?
            }
            "-i" | "--in-interface" => Some(interface(Field::InInterface, &words.argument(option)?, negate)),
            "-o" | "--out-interface" => {
                Some(interface(Field::OutInterface, &words.argument(option)?, negate))
            }
            "-p" | "--protocol" | "--proto" => protocol(&words.argument(option)?, negate),
            // Fragments are put together before any rule of these tables.
            "-f" | "--fragment" => (!negate).then_some(Test::Never),
            _ => return Ok(false),
        };
        self.header.extend(test);
        Ok(true)
    }

    fn address(&self, field: Field, text: &str, negate: bool) -> Result<Option<Test>, String> {
        if let Some((address, mask)) = text.split_once('/')
            && let (Ok(address), Ok(mask)) = (address.parse::<IpAddr>(), mask.parse::<IpAddr>())
        {
            let mask = address_value(mask);
            let ranges = Ranges::value(address_value(address) & mask);
            return Ok(Some(Test::Compare { operand: Operand { field, mask }, ranges, negate }));
        }
        let mut ranges = Vec::new();
        for network in text.split(',') {
            ranges.push(network_range(network, self.family)?);
        }
        if ranges[..] == [whole(self.family)] && !negate {
            return Ok(None);
        }
        Ok(Some(Test::Compare { operand: field.into(), ranges: Ranges::any(ranges), negate }))
    }

    fn module_option(&mut self, option: &str, negated: bool, words: &mut Words<'_>) -> Result<(), String> {
        match &mut self.module {
            Module::None => {
                let test = self.plain("", option, negated, words)?;
                self.extensions.extend(test);
            }
            Module::Plain(name) => {
                let name = std::mem::take(name);
                let test = self.plain(&name, option, negated, words)?;
                self.extensions.extend(test);
                self.module = Module::Plain(name);
            }
            Module::Statistic { mode, chance, every, negated: negate } => match option {
                "--mode" => *mode = Some(words.argument(option)?.into_owned()),
                "--probability" => {
                    *negate = negated;
                    *chance = Some(probability(&words.argument(option)?)?);
                }
                "--every" => {
                    *negate = negated;
                    *every = number(&words.argument(option)?, "a count")?;
                }
                "--packet" => {
                    words.argument(option)?;
                }
                _ => return Err(format!("{option} is no option of match statistic")),
            },
            Module::Recent { list, set, ask, seconds, text } => {
                let _ = write!(text, "{}{option}", if negated { " ! " } else { " " });
                match option {
                    "--set" => *set = true,
                    "--rcheck" | "--update" | "--remove" => *ask = Some(negated),
                    "--reap" | "--rsource" | "--rdest" | "--rttl" => {}
                    "--name" => {
                        *list = words.argument(option)?.into_owned();
                        let _ = write!(text, " {list}");
                    }
                    "--seconds" => {
                        let value = number(&words.argument(option)?, "a time")?;
                        *seconds = Some(value);
                        let _ = write!(text, " {value}");
                    }
                    "--hitcount" | "--mask" => {
                        let value = words.argument(option)?;
                        let _ = write!(text, " {value}");
                    }
                    _ => return Err(format!("{option} is no option of match recent")),
                }
            }
            Module::Set { name, directions, negated: negate, text, asks_more } => {
                let _ = write!(text, "{}{option}", if negated { " ! " } else { " " });
                match option {
                    "--match-set" => {
                        *negate = negated;
                        *name = words.argument(option)?.into_owned();
                        *directions = words.argument(option)?.into_owned();
                        let _ = write!(text, " {name} {directions}");
                    }
                    "--update-counters" | "--update-subcounters" => {}
                    _ => {
                        *asks_more = true;
                        while let Some(word) = words.peek(0).filter(|word| !word.is_option()) {
                            push_word(text, word);
                            words.next();
                        }
                    }
                }
            }
            // An option of a known match after an unknown one cannot be distinguished from the
            // unknown one's own.
            Module::Unknown { text } => {
                if negated {
                    text.push_str(" !");
                }
                let _ = write!(text, " {option}");
            }
        }
        Ok(())
    }

    /// An option that is a test of its own.
    #[expect(clippy::too_many_lines, reason = "a case for each option")]
    fn plain(
        &mut self,
        module: &str,
        option: &str,
        negate: bool,
        words: &mut Words<'_>,
    ) -> Result<Option<Test>, String> {
        let family = self.family;
        let compare =
            |field: Field, ranges: Ranges| Some(Test::Compare { operand: field.into(), ranges, negate });
        let masked = |field: Field, mask: u128, ranges: Ranges| {
            Some(Test::Compare { operand: Operand { field, mask }, ranges, negate })
        };
        Ok(match (module, option) {
            ("comment", "--comment") => {
                self.comment = Some((*words.argument(option)?).into());
                None
            }
            ("nfacct", "--nfacct-name") => {
                words.argument(option)?;
                None
            }
            (_, "--dport" | "--destination-port" | "--dports" | "--destination-ports") => {
                compare(Field::DestinationPort, ports(&words.argument(option)?)?)
            }
            (_, "--sport" | "--source-port" | "--sports" | "--source-ports") => {
                compare(Field::SourcePort, ports(&words.argument(option)?)?)
            }
            ("multiport", "--ports" | "--port") => {
                let ranges = ports(&words.argument(option)?)?;
                let of =
                    |field: Field| Test::Compare { operand: field.into(), ranges: ranges.clone(), negate };
                if negate {
                    self.extensions.push(of(Field::SourcePort));
                    Some(of(Field::DestinationPort))
                } else {
                    Some(Test::Any([of(Field::SourcePort), of(Field::DestinationPort)].into()))
                }
            }
            ("mark" | "connmark", "--mark") => {
                let (value, mask) = value_and_mask(&words.argument(option)?)?;
                let field = if module == "mark" { Field::Mark } else { Field::ConnectionMark };
                masked(field, u128::from(mask), Ranges::value(u128::from(value)))
            }
            ("conntrack", "--ctstate") | ("state", "--state") => {
                masked(Field::State, states(&words.argument(option)?)?, Ranges::nonzero())
            }
            ("conntrack", "--ctorigdst") => {
                return self.address(Field::OriginalDestination(family), &words.argument(option)?, negate);
            }
            ("conntrack", "--ctorigsrc") => {
                return self.address(Field::OriginalSource(family), &words.argument(option)?, negate);
            }
            ("conntrack", "--ctreplsrc") => {
                return self.address(Field::ReplySource(family), &words.argument(option)?, negate);
            }
            ("conntrack", "--ctorigdstport") => {
                compare(Field::OriginalDestinationPort, ports(&words.argument(option)?)?)
            }
            ("conntrack", "--ctorigsrcport") => {
                compare(Field::OriginalSourcePort, ports(&words.argument(option)?)?)
            }
            ("conntrack", "--ctreplsrcport") => {
                compare(Field::ReplySourcePort, ports(&words.argument(option)?)?)
            }
            ("conntrack", "--ctproto") => protocol(&words.argument(option)?, negate),
            ("conntrack", "--ctdir") => match &*words.argument(option)? {
                "ORIGINAL" => compare(Field::Direction, Ranges::value(0)),
                "REPLY" => compare(Field::Direction, Ranges::value(1)),
                other => return Err(format!("{other} is no direction")),
            },
            ("addrtype", "--src-type") => {
                compare(Field::SourceType, address_types(&words.argument(option)?)?)
            }
            ("addrtype", "--dst-type") => {
                compare(Field::DestinationType, address_types(&words.argument(option)?)?)
            }
            ("iprange", "--src-range") => {
                compare(Field::Source(family), range(&words.argument(option)?, family)?)
            }
            ("iprange", "--dst-range") => {
                compare(Field::Destination(family), range(&words.argument(option)?, family)?)
            }
            ("tcp", "--syn") => masked(Field::TcpFlags, 0x17, Ranges::value(0x02)),
            ("tcp", "--tcp-flags") => {
                let (mask, set) = (flags(&words.argument(option)?)?, flags(&words.argument(option)?)?);
                masked(Field::TcpFlags, mask, Ranges::value(set))
            }
            (module, option) => {
                let mut text = format!("-m {module}{} {option}", if negate { " !" } else { "" });
                while words.peek(0).is_some_and(|word| !word.is_option()) {
                    if let Some(word) = words.next() {
                        push_word(&mut text, &word);
                    }
                }
                if module.is_empty() {
                    return Err(format!("{option} is no option of a rule"));
                }
                Some(Test::Unknown(text.into()))
            }
        })
    }

    /// Behind the name of the match that is being read stands that iptables-save cannot print this
    /// revision of it.
    fn unsupported(&mut self) {
        let name = match &self.module {
            Module::Plain(name) if matches!(name.as_str(), "comment" | "nfacct") => return,
            Module::Plain(name) => format!("-m {name}"),
            Module::Statistic { .. } => "-m statistic".to_owned(),
            Module::Recent { text, .. } | Module::Set { text, .. } | Module::Unknown { text } => text.clone(),
            Module::None => String::new(),
        };
        self.module = Module::Unknown { text: format!("{name} {UNSUPPORTED}").trim_start().to_owned() };
    }

    /// Ends the match that is being read.
    fn close(&mut self) -> Result<(), String> {
        let test = match std::mem::replace(&mut self.module, Module::None) {
            Module::None | Module::Plain(_) | Module::Recent { ask: None, set: true, .. } => return Ok(()),
            Module::Statistic { mode, chance, every, negated } => {
                let chance = match (mode.as_deref(), chance) {
                    (Some("random"), Some(chance)) => chance,
                    (Some("nth"), _) if every > 0 => Probability::ratio(1, u64::from(every)),
                    _ => return Err("match statistic without its probability".into()),
                };
                Test::Chance(Box::new(if negated { chance.complement() } else { chance }))
            }
            Module::Recent { list, ask: Some(negate), seconds, .. } => {
                Test::Remembered { list: list.into(), seconds, negate }
            }
            Module::Set { name, directions, negated, text, asks_more } => {
                let Lookups { given, sets, in_use } = &mut self.lookups;
                let tests = given.tests((&name, &directions), negated, self.family, sets, in_use);
                match tests.filter(|_| !asks_more) {
                    Some(tests) => {
                        self.extensions.extend(tests);
                        return Ok(());
                    }
                    None => Test::Unknown(text.into()),
                }
            }
            Module::Recent { text, .. } | Module::Unknown { text } => Test::Unknown(text.into()),
        };
        self.extensions.push(test);
        Ok(())
    }
}

impl Module {
    fn open(name: &str) -> Module {
        match name {
            "comment" | "nfacct" | "multiport" | "mark" | "connmark" | "conntrack" | "state" | "addrtype"
            | "iprange" | "tcp" | "udp" | "udplite" | "sctp" | "dccp" | "physdev" => {
                Module::Plain(name.to_owned())
            }
            "statistic" => Module::Statistic { mode: None, chance: None, every: 0, negated: false },
            "recent" => Module::Recent {
                list: "DEFAULT".to_owned(),
                set: false,
                ask: None,
                seconds: None,
                text: "-m recent".to_owned(),
            },
            "set" => Module::Set {
                name: String::new(),
                directions: String::new(),
                negated: false,
                text: "-m set".to_owned(),
                asks_more: false,
            },
            name => Module::Unknown { text: format!("-m {name}") },
        }
    }
}

/// Whether `word` is an option of rules themselves, not of a match.
fn is_of_rule(word: &Word<'_>) -> bool {
    const OPTIONS: [&str; 9] = ["-m", "-j", "-g", "-s", "-d", "-p", "-i", "-o", "-f"];
    !word.quoted && OPTIONS.contains(&&*word.text)
}

fn push_word(text: &mut String, word: &Word<'_>) {
    if word.quoted {
        let _ = write!(text, " {:?}", word.text);
    } else {
        let _ = write!(text, " {}", word.text);
    }
}
