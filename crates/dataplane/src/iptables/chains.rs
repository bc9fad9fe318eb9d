//! Chains that every node has, whatever Services there are: those that hold something of many
//! Services, those with fixed rules, and the jumps that lead there (spec §5B, §5C).

use portolan_service::Family;

use super::options::Options;
use super::rule::{Match, Rule, States, Target};
use crate::chain_names::{FORWARD, MARK, MARK_MASQ, POSTROUTING};
use crate::settings::{NodePorts, Settings};

/// A table of iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Table {
    Mangle,
    Filter,
    Nat,
}

impl Table {
    /// In the order in which they are written: what may be forwarded comes before what is.
    pub(super) const ALL: [Table; 3] = [Table::Mangle, Table::Filter, Table::Nat];

    pub(super) fn name(self) -> &'static str {
        match self {
            Table::Mangle => "mangle",
            Table::Filter => "filter",
            Table::Nat => "nat",
        }
    }
}

/// How many rules of ours there are in each table that has more than a few.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) filter: usize,
    pub(super) nat: usize,
}

impl Counts {
    pub(super) fn add(&mut self, table: Table, rules: usize) {
        match table {
            Table::Filter => self.filter += rules,
            Table::Nat => self.nat += rules,
            Table::Mangle => {}
        }
    }

    /// What is left of these when `before` gives way to `after`.
    pub(super) fn change(&mut self, before: Counts, after: Counts) {
        self.filter = (self.filter + after.filter).saturating_sub(before.filter);
        self.nat = (self.nat + after.nat).saturating_sub(before.nat);
    }
}

/// A chain with rules of many Services, in no particular order among Services (spec §5.31).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Shared {
    /// Table nat: from a virtual address to the chain of its port. Rules that lead to NodePorts
    /// come last.
    Services,
    /// Table nat: from a NodePort to the chain of its port.
    NodePorts,
    /// Table filter: ClusterIPs that nobody answers.
    Unanswered,
    /// Table filter: external addresses that nobody answers.
    ExternalUnanswered,
    /// Table filter: health-check node ports.
    HealthChecks,
    /// Table filter: load-balancer traffic from sources that are not allowed.
    Firewall,
}

impl Shared {
    pub(super) const ALL: [Shared; 6] = [
        Shared::Services,
        Shared::NodePorts,
        Shared::Unanswered,
        Shared::ExternalUnanswered,
        Shared::HealthChecks,
        Shared::Firewall,
    ];

    pub(super) fn table(self) -> Table {
        match self {
            Shared::Services | Shared::NodePorts => Table::Nat,
            Shared::Unanswered | Shared::ExternalUnanswered | Shared::HealthChecks | Shared::Firewall => {
                Table::Filter
            }
        }
    }

    pub(super) fn chain(self) -> &'static str {
        match self {
            Shared::Services | Shared::Unanswered => "KUBE-SERVICES",
            Shared::NodePorts | Shared::HealthChecks => "KUBE-NODEPORTS",
            Shared::ExternalUnanswered => "KUBE-EXTERNAL-SERVICES",
            Shared::Firewall => "KUBE-PROXY-FIREWALL",
        }
    }
}

/// Kubelet's too: never removed (spec §5.40).
const FIREWALL: &str = "KUBE-FIREWALL";
/// Vanishes with all others when somebody flushes tables (spec §5.38).
const CANARY: &str = "KUBE-PROXY-CANARY";

/// Counter of what the rule against invalid packets drops (spec §5.16).
pub(super) const DROPPED_INVALID: &str = "ct_state_invalid_dropped_pkts";
/// Counter of connections to NodePorts on a loopback address.
pub(super) const LOCALHOST_ACCEPTED: &str = "localhost_nps_accepted_pkts";

/// What rules of one family depend on besides Services.
#[derive(Debug, Clone)]
pub(super) struct Style {
    pub(super) family: Family,
    pub(super) settings: Settings,
    pub(super) options: Options,
    /// iptables masquerades to a random port (1.6.2 and later).
    pub(super) random_fully: bool,
    /// The kernel has the two counters.
    pub(super) counters: bool,
    /// Rules of single Services go without comments (spec §5.33).
    pub(super) large: bool,
}

impl Style {
    pub(super) fn localhost_node_ports(&self) -> bool {
        self.family == Family::V4 && self.options.localhost_node_ports
    }

    pub(super) fn counter(&self, name: &str) -> Option<Match> {
        self.counters.then(|| Match::Counter(name.to_owned()))
    }
}

/// A chain whose rules are all known, in order.
#[derive(Debug)]
pub(super) struct Fixed {
    pub(super) table: Table,
    pub(super) chain: &'static str,
    /// `None`: it must be there, and somebody else may have rules in it.
    pub(super) rules: Option<Vec<Rule>>,
}

/// The chains of spec §5C.
pub(super) fn fixed(style: &Style) -> Vec<Fixed> {
    let mark = style.options.masquerade_mark;
    let marked = |not| Match::Mark { not, value: mark, mask: mark };
    let chain = |table, chain, rules| Fixed { table, chain, rules: Some(rules) };
    let invalid = style.options.drop_invalid.then(|| {
        Rule::new().state(States::Invalid).maybe(style.counter(DROPPED_INVALID)).target(Target::Drop)
    });
    // Decides nothing.
    let ours = || Rule::new().comment(MARK).target(Target::Return);
    let mut forward = Vec::from_iter(invalid);
    forward.extend([
        Rule::new().comment("kubernetes forwarding rules").with(marked(false)).target(Target::Accept),
        Rule::new()
            .comment("kubernetes forwarding conntrack rule")
            .state(States::Established)
            .target(Target::Accept),
        ours(),
    ]);
    let postrouting = vec![
        Rule::new().with(marked(true)).target(Target::Return),
        Rule::new().target(Target::XorMark(mark)),
        Rule::new()
            .comment("kubernetes service traffic requiring SNAT")
            .target(Target::Masquerade { random_fully: style.random_fully }),
        ours(),
    ];
    vec![
        chain(Table::Mangle, CANARY, Vec::new()),
        chain(Table::Filter, CANARY, Vec::new()),
        chain(Table::Nat, CANARY, Vec::new()),
        chain(Table::Filter, FORWARD, forward),
        Fixed { table: Table::Filter, chain: FIREWALL, rules: firewall(style) },
        chain(Table::Nat, POSTROUTING, postrouting),
        chain(Table::Nat, MARK_MASQ, vec![Rule::new().target(Target::OrMark(mark))]),
    ]
}

/// Keeps others from what `route_localnet` lets in. Where it is not needed, kubelet has the chain
/// for itself.
fn firewall(style: &Style) -> Option<Vec<Rule>> {
    let loopback = "127.0.0.0/8".parse().expect("a network");
    style.localhost_node_ports().then(|| {
        vec![
            Rule::new()
                .comment("block incoming localnet connections")
                .with(Match::Destination { not: false, network: loopback })
                .with(Match::Source { not: true, network: loopback })
                .with(Match::State { not: true, states: States::EstablishedOrTranslated })
                .target(Target::Drop),
        ]
    })
}

/// The end of [`Shared::Services`]: what is for the node itself goes on to NodePorts (spec §5.17).
pub(super) fn to_node_ports(style: &Style) -> Vec<Rule> {
    let rule = || {
        Rule::new().comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain")
    };
    let to = Shared::NodePorts.chain();
    match style.options.node_ports.get(style.family) {
        NodePorts::All => {
            let loopback = match style.family {
                Family::V4 if style.localhost_node_ports() => None,
                Family::V4 => Some("127.0.0.0/8"),
                Family::V6 => Some("::1/128"),
            };
            let elsewhere = loopback.map(|network| Match::Destination {
                not: true,
                network: network.parse().expect("a network"),
            });
            vec![rule().with(Match::DestinationIsLocal).maybe(elsewhere).jump(to)]
        }
        NodePorts::Addresses(addresses) => {
            addresses.iter().map(|address| rule().to(*address).jump(to)).collect()
        }
    }
}

/// A rule of a chain that the kernel calls.
#[derive(Debug)]
pub(super) struct Jump {
    pub(super) table: Table,
    pub(super) from: &'static str,
    pub(super) rule: Rule,
    /// Ours to remove. Kubelet needs the others, too.
    pub(super) removable: bool,
}

/// The jumps of spec §5.5, in the order in which each is put at the top of its chain.
pub(super) fn jumps() -> Vec<Jump> {
    let jump = |table, from, to: &str, state: Option<States>, comment: &str| Jump {
        table,
        from,
        rule: Rule::new()
            .maybe(state.map(|states| Match::State { not: false, states }))
            .maybe((!comment.is_empty()).then(|| Match::Comment(comment.to_owned())))
            .jump(to),
        removable: to != FIREWALL,
    };
    let new = Some(States::New);
    let (external, services) = (Shared::ExternalUnanswered.chain(), Shared::Services.chain());
    let (health_checks, firewall) = (Shared::HealthChecks.chain(), Shared::Firewall.chain());
    let externally_visible = "kubernetes externally-visible service portals";
    let portals = "kubernetes service portals";
    let load_balancer = "kubernetes load balancer firewall";
    vec![
        jump(Table::Filter, "INPUT", external, new, externally_visible),
        jump(Table::Filter, "FORWARD", external, new, externally_visible),
        jump(Table::Filter, "INPUT", health_checks, None, "kubernetes health check service ports"),
        jump(Table::Filter, "FORWARD", services, new, portals),
        jump(Table::Filter, "OUTPUT", services, new, portals),
        jump(Table::Filter, "FORWARD", FORWARD, None, "kubernetes forwarding rules"),
        jump(Table::Filter, "INPUT", firewall, new, load_balancer),
        jump(Table::Filter, "OUTPUT", firewall, new, load_balancer),
        jump(Table::Filter, "FORWARD", firewall, new, load_balancer),
        jump(Table::Nat, "OUTPUT", services, None, portals),
        jump(Table::Nat, "PREROUTING", services, None, portals),
        jump(Table::Nat, "POSTROUTING", POSTROUTING, None, "kubernetes postrouting rules"),
        jump(Table::Filter, "INPUT", FIREWALL, None, ""),
        jump(Table::Filter, "OUTPUT", FIREWALL, None, ""),
    ]
}

/// The chain is ours alone, and goes with us.
pub(super) fn is_ours(table: Table, chain: &str) -> bool {
    (table == Table::Nat && super::names::is_of_a_service(chain))
        || Shared::ALL.iter().any(|shared| shared.table() == table && shared.chain() == chain)
        || matches!(
            (table, chain),
            (_, CANARY) | (Table::Filter, FORWARD) | (Table::Nat, POSTROUTING | MARK_MASQ)
        )
}

/// A style with the default options, for tests.
#[cfg(test)]
pub(super) fn style(family: Family, settings: Settings) -> Style {
    Style { family, settings, options: Options::default(), random_fully: true, counters: false, large: false }
}
