//! What iptables-save says that it has left out.

use portolan_service::Family;

use super::hooks::base;
use crate::ruleset::{Action, Base, Chain, Part, Rule, StandIn, Table, TableFamily, Tool};

/// What a dump says of itself.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Tables that it cannot print, by family and name.
    tables: Vec<(Family, String)>,
    /// Families of which iptables-legacy has rules, too.
    legacy: Vec<Family>,
}

impl Missing {
    /// Looks whether `line`, a comment of a dump or a message on standard error, says that
    /// something is missing: ``Table `nat' is incompatible, use 'nft' tool.``, `Warning:
    /// iptables-legacy tables present, use iptables-legacy-save to see them` (xtables-save.c and
    /// xtables.c of iptables).
    pub(super) fn look_at(&mut self, line: &str, family: Family) {
        let named = line.to_ascii_lowercase();
        if let Some((before, _)) = named.split_once(" is incompatible")
            && let Some((_, name)) = before.rsplit_once("table ")
        {
            let quotes: &[char] = &['`', '\'', '"'];
            let missing = (family, name.trim_matches(quotes).to_owned());
            if !self.tables.contains(&missing) {
                self.tables.push(missing);
            }
        }
        if named.contains("tables-legacy tables present") {
            let family = if named.contains("ip6tables-legacy") { Family::V6 } else { Family::V4 };
            if !self.legacy.contains(&family) {
                self.legacy.push(family);
            }
        }
    }

    /// A table in the place of each that is missing.
    pub(super) fn tables(&self) -> impl Iterator<Item = Table> {
        let named = self.tables.iter().map(|(family, name)| {
            let why = format!(
                "table {name} of {family}, which the dump leaves out (`nft -j list ruleset` shows it),"
            );
            stand_in(*family, name, StandIn::Table, &why, |chain| base(name, chain, false))
        });
        let legacy = self.legacy.iter().map(|family| {
            let program = if *family == Family::V4 { "iptables-legacy" } else { "ip6tables-legacy" };
            let why = format!("{program}, whose rules the dump leaves out (`{program}-save` shows them),");
            stand_in(*family, program, StandIn::Legacy, &why, |chain| {
                let table = if matches!(chain, "INPUT" | "FORWARD") { "filter" } else { "nat" };
                base(table, chain, false)
            })
        });
        named.chain(legacy)
    }
}

/// A table whose chains may do anything: answers depend on it, and name it with `why`.
fn stand_in(
    family: Family,
    name: &str,
    kind: StandIn,
    why: &str,
    bound: impl Fn(&str) -> Option<Base>,
) -> Table {
    let mut table = Table::new(TableFamily::Only(family), name, Tool::Iptables);
    table.by_iptables_nft = kind == StandIn::Table;
    table.stand_in = Some(kind);
    for name in ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"] {
        let Some(base) = bound(name) else { continue };
        let mut chain = Chain::new(name, Some(base));
        let parts = [Part::Action(Action::Unknown(why.into()))].into();
        chain.rules.push(Rule { text: "rules that are missing".into(), comment: None, parts });
        table.chains.push(chain);
    }
    table
}
