//! The model of rules that every reader fills and the evaluator walks.

mod action;
mod balance;
mod index;
mod proxy;
mod set;
mod test;

use std::cmp::Reverse;
use std::fmt;

use portolan_service::{Family, PerFamily};

pub use action::{Action, Goal, Mark, SourceAddress, Translation};
pub use balance::{Balance, Target, Way};
pub(crate) use index::{Index, test_only};
pub use set::{Data, Set};
pub use test::{Field, Operand, Ranges, Test, state};

/// A place in the kernel where rules are asked (linux/netfilter.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// Packets that come in, before routing.
    Prerouting,
    /// Packets to this node.
    Input,
    /// Packets through this node.
    Forward,
    /// Packets from this node.
    Output,
    /// Packets that go out, after routing.
    Postrouting,
}

impl Hook {
    /// The priority at which the kernel runs all chains of type nat.
    fn of_nat(self) -> i32 {
        match self {
            Hook::Prerouting | Hook::Output => -100,
            Hook::Input | Hook::Forward | Hook::Postrouting => 100,
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        })
    }
}

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TableFamily {
    /// Those of one address family.
    Only(Family),
    /// Those of both: nftables' `inet`.
    Inet,
}

impl TableFamily {
    fn sees(self, family: Family) -> bool {
        match self {
            TableFamily::Only(only) => only == family,
            TableFamily::Inet => true,
        }
    }
}

impl fmt::Display for TableFamily {
    /// As nft names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TableFamily::Only(Family::V4) => "ip",
            TableFamily::Only(Family::V6) => "ip6",
            TableFamily::Inet => "inet",
        })
    }
}

/// What a base chain runs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Every packet.
    Filter,
    /// The first packet of each connection, until one chain has translated it.
    Nat,
}

/// How a base chain is bound to its hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Base {
    /// Where.
    pub hook: Hook,
    /// What for.
    pub kind: Kind,
    /// The order among the chains of the hook, lowest first.
    pub priority: i32,
    /// Whether packets that reach its end are dropped.
    pub drops: bool,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// As the tool that wrote it shows it, without control characters.
    pub text: Box<str>,
    /// Its comment.
    pub comment: Option<Box<str>>,
    /// Tests and actions, in order. The first test that fails ends the rule.
    pub parts: Box<[Part]>,
}

/// One piece of a rule.
#[derive(Debug, Clone)]
pub enum Part {
    /// Must hold for the rule to go on.
    Test(Test),
    /// Is done.
    Action(Action),
}

/// Rules in order.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Its name, unique within the table.
    pub name: Box<str>,
    /// For base chains: where the kernel enters it.
    pub base: Option<Base>,
    /// First to last.
    pub rules: Vec<Rule>,
    pub(crate) index: Index,
}

impl Chain {
    pub(crate) fn new(name: &str, base: Option<Base>) -> Chain {
        Chain { name: name.into(), base, rules: Vec::new(), index: Index::default() }
    }
}

/// Which program a table is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tool {
    /// iptables or ip6tables, of either variant.
    Iptables,
    /// nftables.
    Nftables,
    /// No rules: virtual servers of IPVS, of which each is shown as one.
    Ipvs,
}

/// What a table stands for whose rules a dump leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum StandIn {
    /// The table of this name.
    Table,
    /// All tables of iptables-legacy.
    Legacy,
    /// Virtual servers of IPVS.
    VirtualServers,
}

/// A table of chains and sets.
#[derive(Debug, Clone)]
pub struct Table {
    /// Which packets it sees.
    pub family: TableFamily,
    /// Its name.
    pub name: Box<str>,
    /// What it is written with.
    pub tool: Tool,
    /// Its chains.
    pub chains: Vec<Chain>,
    /// Its sets and maps, anonymous ones among them.
    pub sets: Vec<Set>,
    /// Of iptables-nft, read from a listing of nftables that does not show what its rules test.
    pub(crate) opaque: bool,
    /// iptables-nft's, read from iptables-save.
    pub(crate) by_iptables_nft: bool,
    /// Its rules are missing: one rule that is not known stands for them.
    pub(crate) stand_in: Option<StandIn>,
    /// Read from a text that shows one table at a time.
    pub(crate) shown_alone: bool,
}

impl Table {
    pub(crate) fn new(family: TableFamily, name: &str, tool: Tool) -> Table {
        Table {
            family,
            name: name.into(),
            tool,
            chains: Vec::new(),
            sets: Vec::new(),
            opaque: false,
            by_iptables_nft: false,
            stand_in: None,
            shown_alone: false,
        }
    }
}

/// Everything that a packet can meet on a node.
#[derive(Debug, Clone, Default)]
pub struct Ruleset {
    tables: Vec<Table>,
    /// Per hook: table, chain and binding, in the order in which the kernel enters them.
    hooks: [Vec<Bound>; 5],
    /// What parts of dumps leave out, in sentences.
    left_out: Vec<(Family, String)>,
    /// Bits of the mark by which packets are routed to the node itself.
    steering: PerFamily<u32>,
}

/// A base chain in its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) table: u32,
    pub(crate) chain: u32,
    pub(crate) base: Base,
}

impl Bound {
    /// Which came first: tables and chains are listed in the order in which they were made.
    fn place(&self) -> (u32, u32) {
        (self.table, self.chain)
    }

    /// When it is entered: chains of type nat run together, whatever their own priority.
    pub(crate) fn runs_at(&self) -> i32 {
        match self.base.kind {
            Kind::Nat => self.base.hook.of_nat(),
            Kind::Filter => self.base.priority,
        }
    }
}

/// Where IPVS takes packets to the node, and where those that the node sends (`ip_vs_ops4` of
/// net/netfilter/ipvs/ip_vs_core.c).
pub(crate) const TO_NODE: Base = Base { hook: Hook::Input, kind: Kind::Filter, priority: 99, drops: false };
const OF_NODE: Base = Base { hook: Hook::Output, kind: Kind::Filter, priority: -98, drops: false };

impl Ruleset {
    pub(crate) fn of(mut tables: Vec<Table>) -> Ruleset {
        for chain in tables.iter_mut().flat_map(|table| &mut table.chains) {
            chain.index = Index::of(&chain.rules);
        }
        let mut ruleset = Ruleset { tables, ..Ruleset::default() };
        ruleset.bind();
        ruleset
    }

    /// The tables, in the order they were read.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// How many rules there are.
    pub fn rule_count(&self) -> usize {
        self.tables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum()
    }

    /// Bits of the mark by which packets are routed to the node itself, whatever their destination:
    /// rules of ours bring packets to IPVS so.
    pub(crate) fn steering(&self, family: Family) -> u32 {
        *self.steering.get(family)
    }

    /// Adds what another dump of the same node holds. Where `nft` lists tables of iptables without
    /// what their rules test, the tables of iptables-save replace them. Tables that are there
    /// replace those that another dump leaves out.
    pub fn merge(&mut self, other: Ruleset) {
        self.tables.extend(other.tables);
        self.left_out.extend(other.left_out);
        let tables = &self.tables;
        let is_read = |table: &Table| table.tool == Tool::Iptables && table.stand_in.is_none();
        let takes_the_place = |other: &Table, table: &Table| {
            let same = other.family == table.family && other.name == table.name;
            match (table.stand_in, table.tool) {
                (Some(StandIn::Table | StandIn::VirtualServers), _) => same && other.stand_in.is_none(),
                (Some(StandIn::Legacy), _) => {
                    other.family == table.family && is_read(other) && !other.by_iptables_nft
                }
                (None, Tool::Iptables | Tool::Ipvs) => false,
                (None, Tool::Nftables) => same && is_read(other) && (other.by_iptables_nft || table.opaque),
            }
        };
        let stays: Vec<bool> =
            tables.iter().map(|table| !tables.iter().any(|other| takes_the_place(other, table))).collect();
        let mut stays = stays.into_iter();
        self.tables.retain(|_| stays.next().unwrap_or(true));
        self.bind();
    }

    /// Whether the rules of this table are missing from a dump that names it.
    pub fn stands_in(&self, family: TableFamily, name: &str) -> bool {
        self.tables
            .iter()
            .any(|table| table.family == family && &*table.name == name && table.stand_in.is_some())
    }

    /// Whether it has this table, or says that it is missing.
    pub fn has(&self, family: TableFamily, name: &str) -> bool {
        self.tables.iter().any(|table| table.family == family && &*table.name == name)
    }

    /// Puts what another listing holds in the place of a table, for lack of a better one.
    pub fn replace(&mut self, family: TableFamily, name: &str, mut other: Ruleset) {
        // Whichever program lists it, iptables-nft wrote it.
        for table in &mut other.tables {
            (table.opaque, table.tool, table.by_iptables_nft) = (false, Tool::Iptables, true);
        }
        self.tables.retain(|table| table.family != family || &*table.name != name);
        self.merge(other);
    }

    /// Lets rule number `rule` of a chain, from 0, ask for something more. `tests` look into no
    /// set.
    pub fn require(&mut self, family: TableFamily, table: &str, chain: &str, rule: usize, tests: &[Test]) {
        let chains = self
            .tables
            .iter_mut()
            .filter(|it| it.family == family && &*it.name == table)
            .flat_map(|table| &mut table.chains)
            .filter(|it| &*it.name == chain);
        for chain in chains {
            if let Some(rule) = chain.rules.get_mut(rule) {
                let tests = tests.iter().cloned().map(Part::Test);
                rule.parts = tests.chain(rule.parts.iter().cloned()).collect();
                chain.index = Index::of(&chain.rules);
            }
        }
    }

    /// Whether it has a table that packets of `family` meet.
    pub fn sees(&self, family: Family) -> bool {
        self.tables.iter().any(|table| table.family.sees(family))
    }

    /// The only family of which it has tables.
    pub fn only_family(&self) -> Option<Family> {
        match (self.sees(Family::V4), self.sees(Family::V6)) {
            (true, false) => Some(Family::V4),
            (false, true) => Some(Family::V6),
            _ => None,
        }
    }

    /// Says, in a sentence, what is missing from it for packets of `family`.
    pub(crate) fn leaves_out(&mut self, family: Family, what: &str) {
        self.left_out.push((family, what.to_owned()));
    }

    /// What is missing from it for packets of `family`, a sentence each, with how to get it.
    pub fn left_out(&self, family: Family) -> Vec<String> {
        let mut said: Vec<String> =
            self.left_out.iter().filter(|(of, _)| *of == family).map(|(_, what)| what.clone()).collect();
        let of_family = || self.tables.iter().filter(move |table| table.family.sees(family));
        for table in of_family() {
            let name = &table.name;
            let program =
                if table.family == TableFamily::Only(Family::V6) { "ip6tables" } else { "iptables" };
            match table.stand_in {
                Some(StandIn::Table) => said.push(format!(
                    "{program}-save cannot print table {name}, which holds rules that only nft can read: give what \
                     `nft list ruleset` prints (or `nft -j list ruleset`), too (--nft-json)."
                )),
                Some(StandIn::Legacy) => said.push(format!(
                    "There are rules of {name} beside these: give what `{name}-save` prints, too (--iptables-save)."
                )),
                Some(StandIn::VirtualServers) => said.push(
                    "The rules lead to virtual servers of IPVS, which are not among them: give what `ipvsadm -Sn` prints, too \
                     (--ipvsadm-save)."
                        .to_owned(),
                ),
                None if table.opaque => said.push(format!(
                    "Table {} {name} was written by iptables, and this listing names the matches and targets of iptables \
                     (xt) without what they ask: what `{program}-save` of the node prints gives the answer.",
                    table.family
                )),
                None => {}
            }
        }
        let alone = of_family().any(|table| table.shown_alone);
        for name in ["nat", "filter"] {
            let known = of_family().any(|table| table.tool == Tool::Iptables && &*table.name == name);
            if alone && !known {
                said.push(format!(
                    "Table {name} was not given: what its rules do is not known (`iptables -t {name} -S` prints them, \
                     iptables-save all tables)."
                ));
            }
        }
        said
    }

    fn bind(&mut self) {
        self.hooks = Default::default();
        for family in Family::ALL {
            *self.steering.get_mut(family) =
                self.tables.iter().map(|table| table.steers(family)).fold(0, |all, bits| all | bits);
        }
        for (table_number, table) in (0..).zip(&self.tables) {
            for (chain_number, chain) in (0..).zip(&table.chains) {
                let of_node = chain.base.filter(|_| table.tool == Tool::Ipvs).map(|_| OF_NODE);
                for base in chain.base.into_iter().chain(of_node) {
                    let bound = Bound { table: table_number, chain: chain_number, base };
                    self.hooks[base.hook as usize].push(bound);
                }
            }
        }
        for hook in &mut self.hooks {
            // Of several with the same priority, the kernel enters the one first that came last
            // (`nf_hook_entries_grow` of net/netfilter/core.c). Chains of type nat share one entry,
            // which is as old as the first of them.
            let nat = hook.iter().find(|bound| bound.base.kind == Kind::Nat).map(Bound::place);
            hook.sort_by_key(|bound| {
                let entry = if bound.base.kind == Kind::Nat { nat } else { None };
                let entry = entry.unwrap_or_else(|| bound.place());
                (bound.runs_at(), Reverse(entry), bound.base.priority, Reverse(bound.place()))
            });
        }
    }

    pub(crate) fn bound(&self, hook: Hook, family: Family) -> impl Iterator<Item = &Bound> {
        self.hooks[hook as usize]
            .iter()
            .filter(move |bound| self.tables[bound.table as usize].family.sees(family))
    }

    pub(crate) fn table(&self, number: u32) -> &Table {
        &self.tables[number as usize]
    }
}
