//! The rule by which connections to Services pass a host whose iptables drops what is forwarded
//! (`--accept-forwarded`).
//!
//! It is the last rule of `FORWARD` in table `filter`, so that it decides nothing but what the
//! policy would have dropped: whatever Docker, ufw or somebody else drops or rejects before it
//! stays dropped. It leads to a chain of its own, which accepts packets of connections whose
//! destination was translated, in both directions. The address of a Service always is. So is a port
//! that somebody else forwards, and that is accepted too.

use std::time::{Duration, Instant};

use portolan_netfilter::nft::{TableFamily, TableRef};
use portolan_netfilter::socket::Socket;
use portolan_netfilter::xtables::{self, Place, Xtables};
use portolan_service::Family;

use super::chains::Table;
use super::compare::Tables;
use super::family_tables::rejected;
use super::rule::{Rule, States, Target};
use super::saved::target;
use super::script::Script;
use super::tool::{RestoreError, Tool};
use crate::error::Error;
use crate::families::families;
use crate::forward_policy::{Dropper, droppers};
use crate::variant::{Variant, table_family};

/// The chain that is ours
const CHAIN: &str = "PORTOLAN-FORWARD";
const FORWARD: &str = "FORWARD";
/// How often to look whether the rule is still the last one. There is no event for a change of
/// iptables-legacy, and others come seldom.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Looking may take this share of the time: 1 of 20.
const LOOK_SHARE: u32 = 20;

fn jump() -> Rule {
    Rule::new().comment("connections to Services").jump(CHAIN)
}

fn accept() -> Rule {
    Rule::new().comment("destination was translated").state(States::Translated).target(Target::Accept)
}

/// Keeps the rule in force wherever iptables drops what is forwarded.
#[derive(Debug)]
pub struct AcceptForwarded {
    families: Vec<Family>,
}

impl AcceptForwarded {
    /// For the families of this host. Changes nothing yet.
    pub fn new() -> AcceptForwarded {
        AcceptForwarded { families: families() }
    }

    /// Puts the rule where it is needed and not yet, or no longer, the last one. Returns a line for
    /// each place where it was put, for people, and when to look again.
    pub fn ensure(&self) -> (Result<Vec<String>, Error>, Instant) {
        let started = Instant::now();
        let done = self.put();
        let now = Instant::now();
        (done, now + LOOK_EVERY.max((now - started) * LOOK_SHARE))
    }

    fn put(&self) -> Result<Vec<String>, Error> {
        let mut done = Vec::new();
        for dropper in droppers(&self.families)? {
            let Dropper::Iptables { variant, family } = dropper else { continue };
            let tool = Tool::of(family, variant)?;
            let saved = tool.save(&["filter"])?;
            let script = missing(&Tables::read(&saved), family);
            if !script.is_empty() {
                restore(&tool, &script)?;
                done.push(format!(
                    "{variant}, {family}: chain FORWARD drops by default; its last rule accepts connections to Services now"
                ));
            }
        }
        Ok(done)
    }

    /// Removes the rule and its chain, whatever the policy is now. Returns in how many places they
    /// were.
    pub fn remove(&self) -> Result<usize, Error> {
        let mut removed = 0;
        for family in Family::ALL {
            for variant in [Variant::Nft, Variant::Legacy] {
                if has_chain(variant, family)? {
                    let tool = Tool::of(family, variant)?;
                    let saved = tool.save(&["filter"])?;
                    restore(&tool, &removal(&Tables::read(&saved)))?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

impl Default for AcceptForwarded {
    fn default() -> AcceptForwarded {
        AcceptForwarded::new()
    }
}

/// What brings the rule to the end of `FORWARD`.
fn missing(held: &Tables<'_>, family: Family) -> Script {
    let mut script = Script::default();
    let is = |text: &&str, rule: &Rule| Rule::parse(text, family).as_ref() == Some(rule);
    let forward = held.get(Table::Filter).rules(FORWARD);
    let leads_here = forward.iter().filter(|rule| target(rule) == Some(CHAIN)).count();
    let is_last = leads_here == 1 && forward.last().is_some_and(|last| is(last, &jump()));
    let own = held.get(Table::Filter).rules(CHAIN);
    if is_last && own.len() == 1 && is(&own[0], &accept()) {
        return script;
    }
    script.declare(Table::Filter, CHAIN, None);
    delete_jumps(&mut script, forward);
    script.append(Table::Filter, CHAIN, &accept(), None);
    script.append(Table::Filter, FORWARD, &jump(), None);
    script
}

fn removal(held: &Tables<'_>) -> Script {
    let mut script = Script::default();
    delete_jumps(&mut script, held.get(Table::Filter).rules(FORWARD));
    script.remove(Table::Filter, CHAIN, None);
    script
}

fn delete_jumps(script: &mut Script, forward: &[&str]) {
    for rule in forward.iter().filter(|rule| target(rule) == Some(CHAIN)) {
        script.delete(Table::Filter, FORWARD, rule, None);
    }
}

fn restore(tool: &Tool, script: &Script) -> Result<(), Error> {
    tool.restore(&script.text()).map_err(|error| match error {
        RestoreError::Rejected { line, message } => Error::Unusable(rejected(script, line, None, &message)),
        RestoreError::Failed(error) => error,
    })
}

/// Whether the chain is there, looked for without the programs of iptables, which this host may not
/// have.
fn has_chain(variant: Variant, family: Family) -> Result<bool, Error> {
    let netlink = |source| Error::Netlink { doing: format!("looking for chain {CHAIN}"), source };
    let family: TableFamily = table_family(family);
    match variant {
        Variant::Nft => {
            let chains = Socket::open()
                .and_then(|mut socket| socket.chains(TableRef { family, name: "filter" }))
                .map_err(netlink)?;
            Ok(chains.iter().any(|chain| chain.name == CHAIN))
        }
        Variant::Legacy => {
            // To ask for a table that is not there would create it.
            if !xtables::tables(family).map_err(netlink)?.iter().any(|table| table == "filter") {
                return Ok(false);
            }
            let table = Xtables::open(family).and_then(|kernel| kernel.read("filter")).map_err(netlink)?;
            Ok(table.chains().iter().any(|chain| matches!(&chain.place, Place::User(name) if name == CHAIN)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "-A FORWARD -m comment --comment \"connections to Services\" -j PORTOLAN-FORWARD\n";
    const CHAIN_LINE: &str = ":PORTOLAN-FORWARD - [0:0]\n";
    const ACCEPTS: &str = "-A PORTOLAN-FORWARD -m comment --comment \"destination was translated\" -m conntrack --ctstate DNAT -j ACCEPT\n";

    /// What is written where table filter holds these chains and rules.
    fn written(chains: &str, rules: &str) -> String {
        let saved = format!("*filter\n:FORWARD DROP [0:0]\n{chains}{rules}COMMIT\n");
        missing(&Tables::read(&saved), Family::V4).text()
    }

    #[test]
    fn the_rule_is_put_last_and_once() {
        let docker = "-A FORWARD -j DOCKER-USER\n";
        let all = format!("*filter\n{CHAIN_LINE}{ACCEPTS}{OURS}COMMIT\n");
        let again = format!("*filter\n{CHAIN_LINE}{}{ACCEPTS}{OURS}COMMIT\n", OURS.replace("-A", "-D"));
        let ours_twice = format!("{OURS}{OURS}{ACCEPTS}");
        let twice = again.replace(&OURS.replace("-A", "-D"), &OURS.replace("-A", "-D").repeat(2));
        for (name, chains, rules, expected) in [
            ("nothing there", "", String::new(), all.clone()),
            ("behind what others have", ":DOCKER-USER - [0:0]\n", docker.to_owned(), all.clone()),
            ("there", CHAIN_LINE, format!("{docker}{OURS}{ACCEPTS}"), String::new()),
            (
                "ufw was reloaded",
                CHAIN_LINE,
                format!("{OURS}-A FORWARD -j ufw-before-forward\n{ACCEPTS}"),
                again.clone(),
            ),
            ("its chain was emptied", CHAIN_LINE, OURS.to_owned(), again),
            ("twice", CHAIN_LINE, ours_twice, twice),
        ] {
            assert_eq!(written(chains, &rules), expected, "{name}");
        }
    }

    #[test]
    fn everything_of_it_is_removed() {
        let saved = format!(
            "*filter\n:FORWARD DROP [0:0]\n{CHAIN_LINE}-A FORWARD -j DOCKER-USER\n{OURS}{ACCEPTS}COMMIT\n"
        );
        let delete = OURS.replace("-A", "-D");
        let expected = format!("*filter\n{CHAIN_LINE}{delete}-X PORTOLAN-FORWARD\nCOMMIT\n");
        assert_eq!(removal(&Tables::read(&saved)).text(), expected);
    }
}
