//! Chains that every node has, whatever Services there are: those that hold something of many
//! Services, and those with fixed rules (spec §5B, §5C; `docs/userspace.md`, U5).

use portolan_service::Family;

use super::options::{Layout, Options};
use super::rule::{Match, Rule, States, Target};
use crate::chain_names::{FORWARD, MARK, MARK_MASQ, NODE_PORT_HOST, NODE_PORT_NON_LOCAL, POSTROUTING};
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
    /// Table nat: from a virtual address to a socket, for all but the node itself (U5.1).
    PortalsContainer,
    /// Table nat: from a virtual address to a socket, for the node itself.
    PortalsHost,
    /// Table nat: from a NodePort to a socket, for all but the node itself.
    NodePortContainer,
    /// Table nat: from a NodePort to a socket, for the node itself.
    NodePortHost,
    /// Table filter: sockets of NodePorts.
    NodePortNonLocal,
    /// Table mangle: what is sent to a socket directly.
    SocketFirewall,
}

impl Shared {
    pub(super) const ALL: [Shared; 12] = [
        Shared::Services,
        Shared::NodePorts,
        Shared::Unanswered,
        Shared::ExternalUnanswered,
        Shared::HealthChecks,
        Shared::Firewall,
        Shared::PortalsContainer,
        Shared::PortalsHost,
        Shared::NodePortContainer,
        Shared::NodePortHost,
        Shared::NodePortNonLocal,
        Shared::SocketFirewall,
    ];

    /// Whether the chain is one of this layout.
    pub(super) fn is_of(self, layout: Layout) -> bool {
        match self {
            Shared::Unanswered | Shared::ExternalUnanswered | Shared::Firewall => true,
            Shared::Services | Shared::NodePorts | Shared::HealthChecks => layout == Layout::Services,
            Shared::PortalsContainer
            | Shared::PortalsHost
            | Shared::NodePortContainer
            | Shared::NodePortHost
            | Shared::NodePortNonLocal
            | Shared::SocketFirewall => layout == Layout::Portals,
        }
    }

    pub(super) fn table(self) -> Table {
        match self {
            Shared::Services
            | Shared::NodePorts
            | Shared::PortalsContainer
            | Shared::PortalsHost
            | Shared::NodePortContainer
            | Shared::NodePortHost => Table::Nat,
            Shared::Unanswered
            | Shared::ExternalUnanswered
            | Shared::HealthChecks
            | Shared::Firewall
            | Shared::NodePortNonLocal => Table::Filter,
            Shared::SocketFirewall => Table::Mangle,
        }
    }

    pub(super) const fn chain(self) -> &'static str {
        match self {
            Shared::Services | Shared::Unanswered => "KUBE-SERVICES",
            Shared::NodePorts | Shared::HealthChecks => "KUBE-NODEPORTS",
            Shared::ExternalUnanswered => "KUBE-EXTERNAL-SERVICES",
            Shared::Firewall | Shared::SocketFirewall => "KUBE-PROXY-FIREWALL",
            Shared::PortalsContainer => "KUBE-PORTALS-CONTAINER",
            Shared::PortalsHost => "KUBE-PORTALS-HOST",
            Shared::NodePortContainer => "KUBE-NODEPORT-CONTAINER",
            Shared::NodePortHost => NODE_PORT_HOST,
            Shared::NodePortNonLocal => NODE_PORT_NON_LOCAL,
        }
    }

    /// The rules that must be the end of the chain, in order.
    pub(super) fn last(self, style: &Style) -> Vec<Rule> {
        match self {
            Shared::Services => to_node_ports(style),
            Shared::NodePortHost | Shared::NodePortNonLocal => vec![mark()],
            _ => Vec::new(),
        }
    }
}

/// Kubelet's too: never removed (spec §5.40).
pub(super) const FIREWALL: &str = "KUBE-FIREWALL";
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

    /// NodePorts answer on loopback addresses of IPv4. Sockets are on another address of the node,
    /// to which it may send from those without more ado.
    fn serves_loopback(&self) -> bool {
        self.localhost_node_ports() || self.options.layout == Layout::Portals
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

/// Says whose rules these are, and decides nothing.
fn mark() -> Rule {
    Rule::new().comment(MARK).target(Target::Return)
}

/// The chains of spec §5C. Sockets need none: what is sent to them is neither forwarded nor
/// masqueraded.
pub(super) fn fixed(style: &Style) -> Vec<Fixed> {
    if style.options.layout == Layout::Portals {
        return Vec::new();
    }
    let mark_bit = style.options.masquerade_mark;
    let marked = |not| Match::Mark { not, value: mark_bit, mask: mark_bit };
    let chain = |table, chain, rules| Fixed { table, chain, rules: Some(rules) };
    let invalid = style.options.drop_invalid.then(|| {
        Rule::new().state(States::Invalid).maybe(style.counter(DROPPED_INVALID)).target(Target::Drop)
    });
    let mut forward = Vec::from_iter(invalid);
    forward.extend([
        Rule::new().comment("kubernetes forwarding rules").with(marked(false)).target(Target::Accept),
        Rule::new()
            .comment("kubernetes forwarding conntrack rule")
            .state(States::Established)
            .target(Target::Accept),
        mark(),
    ]);
    let postrouting = vec![
        Rule::new().with(marked(true)).target(Target::Return),
        Rule::new().target(Target::XorMark(mark_bit)),
        Rule::new()
            .comment("kubernetes service traffic requiring SNAT")
            .target(Target::Masquerade { random_fully: style.random_fully }),
        mark(),
    ];
    vec![
        chain(Table::Mangle, CANARY, Vec::new()),
        chain(Table::Filter, CANARY, Vec::new()),
        chain(Table::Nat, CANARY, Vec::new()),
        chain(Table::Filter, FORWARD, forward),
        Fixed { table: Table::Filter, chain: FIREWALL, rules: firewall(style) },
        chain(Table::Nat, POSTROUTING, postrouting),
        chain(Table::Nat, MARK_MASQ, vec![Rule::new().target(Target::OrMark(mark_bit))]),
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
fn to_node_ports(style: &Style) -> Vec<Rule> {
    let comment = "kubernetes service nodeports; NOTE: this must be the last rule in this chain";
    let rule = Rule::new().comment(comment);
    for_node_ports(style, &rule).into_iter().map(|rule| rule.jump(Shared::NodePorts.chain())).collect()
}

/// `rule` for packets to the addresses that NodePorts answer on.
pub(super) fn for_node_ports(style: &Style, rule: &Rule) -> Vec<Rule> {
    match style.options.node_ports.get(style.family) {
        NodePorts::All => {
            let loopback = match style.family {
                Family::V4 if style.serves_loopback() => None,
                Family::V4 => Some("127.0.0.0/8"),
                Family::V6 => Some("::1/128"),
            };
            let elsewhere = loopback.map(|network| Match::Destination {
                not: true,
                network: network.parse().expect("a network"),
            });
            vec![rule.clone().with(Match::DestinationIsLocal).maybe(elsewhere)]
        }
        NodePorts::Addresses(addresses) => {
            addresses.iter().map(|address| rule.clone().to(*address)).collect()
        }
    }
}

/// The chain is ours alone, of whatever layout, and goes with us.
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
