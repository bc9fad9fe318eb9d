//! Reads what the programs of iptables print, of the legacy and the nft variant: iptables-save and
//! ip6tables-save with and without counters, `iptables -S`, `iptables -L`, and lines that grep has
//! cut out of these.

mod commands;
mod families;
mod fragment;
mod group;
mod hooks;
mod incomplete;
mod listing;
mod matches;
mod open;
mod saved;
mod tables;
mod targets;
mod values;
mod words;

use portolan_service::Family;

use crate::Error;
use crate::ipset::IpSets;
use crate::ruleset::Ruleset;
use open::Given;
use saved::Reader;
pub(crate) use targets::unsupported_target;

impl Ruleset {
    /// Reads the output of iptables-save (or, with `family` V6, ip6tables-save), or a text for
    /// iptables-restore that fills empty tables: appends and inserts. Matches and targets that are
    /// not known are kept as such, see [`crate::ruleset::Test::Unknown`].
    ///
    /// # Errors
    /// A line that iptables-save does not write, or a text that was cut off.
    pub fn from_iptables_save(text: &str, family: Family) -> Result<Ruleset, Error> {
        Ruleset::from_iptables_save_with(text, family, &IpSets::default())
    }

    /// The same, for rules that look into `ipsets`.
    ///
    /// # Errors
    /// As [`Ruleset::from_iptables_save`].
    pub fn from_iptables_save_with(text: &str, family: Family, ipsets: &IpSets) -> Result<Ruleset, Error> {
        let mut reader = Reader::new(Given { family, ipsets });
        for (line, raw) in (1..).zip(text.lines()) {
            reader.read(line, raw)?;
        }
        reader.done()
    }

    /// Reads whatever a program of iptables has printed of its rules, and finds out what it is:
    /// iptables-save, `iptables -S` or `iptables -L`, one table or several, of either family or
    /// both, whole or a part (`iptables-save | grep KUBE`). What a part leaves out is named in
    /// [`Ruleset::left_out`], and answers depend on it. `ipsets` are those that rules look into.
    ///
    /// # Errors
    /// As [`Ruleset::from_iptables_save`].
    pub fn from_iptables(text: &str, ipsets: &IpSets) -> Result<Ruleset, Error> {
        match form(text) {
            Form::Saved => families::read(text, ipsets),
            Form::Listed => tables::read(listing::groups(text)?, ipsets),
            Form::Commands => tables::read(commands::groups(text)?, ipsets),
        }
    }
}

/// What a text was printed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// iptables-save.
    Saved,
    /// `iptables -L`.
    Listed,
    /// `iptables -S`, or lines cut out of what iptables-save has printed.
    Commands,
}

fn form(text: &str) -> Form {
    let any = |holds: fn(&str) -> bool| text.lines().any(|line| holds(line.trim_start()));
    // Whole tables begin with an asterisk and end with COMMIT; a part may have lost either.
    let rules = any(|line| commands::rule(line).is_some());
    let begins = any(|line| line.starts_with('*'));
    let ends = any(|line| line.trim_end() == "COMMIT");
    if any(|line| listing::heading(line).is_some()) && !ends {
        return Form::Listed;
    }
    let declares = any(|line| line.starts_with(':'));
    if rules && !(begins && (ends || declares)) || !begins && any(|line| line.starts_with("-P ")) {
        return Form::Commands;
    }
    Form::Saved
}
