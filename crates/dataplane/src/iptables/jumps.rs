//! The rules that lead from chains that the kernel calls to ours (spec §5.5; `docs/userspace.md`,
//! U5.2-U5.4).

use super::chains::{FIREWALL, Shared, Style, Table, for_node_ports};
use super::options::Layout;
use super::rule::{Match, Rule, States, Target};
use crate::chain_names::{FORWARD, POSTROUTING};

/// A rule, or one for each address for NodePorts, of a chain that the kernel calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Jump {
    pub(super) table: Table,
    pub(super) from: &'static str,
    to: &'static str,
    comment: &'static str,
    packets: Packets,
    /// Whose it is; `None`: that of all.
    layout: Option<Layout>,
}

/// Which packets take it, which also says where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packets {
    /// All. It is put at the top of its chain.
    All,
    /// Those that begin a connection. It is put at the top of its chain.
    New,
    /// Those to addresses that NodePorts answer on. It is put at the end of its chain.
    ToNodePorts,
}

const EXTERNAL: &str = "kubernetes externally-visible service portals";
const PORTALS: &str = "kubernetes service portals";
const LOAD_BALANCER: &str = "kubernetes load balancer firewall";
const CLUSTER_IPS: &str = "handle ClusterIPs; NOTE: this must be before the NodePort rules";
const NODE_PORTS: &str = "handle service NodePorts; NOTE: this must be the last rule in the chain";
const NON_LOCAL: &str = "Ensure that non-local NodePort traffic can flow";
const SOCKETS: &str = "kubernetes service proxy ports are reached through services";

/// In the order in which each is put at the top of its chain.
#[rustfmt::skip]
const JUMPS: [Jump; 22] = {
    use Packets::{All, New, ToNodePorts};
    use Table::{Filter, Mangle, Nat};
    let external = Shared::ExternalUnanswered.chain();
    let (services, health_checks) = (Shared::Unanswered.chain(), Shared::HealthChecks.chain());
    let firewall = Shared::Firewall.chain();
    [
        shared(Filter, "INPUT",   external, EXTERNAL, New),
        shared(Filter, "FORWARD", external, EXTERNAL, New),
        portals(Filter, "OUTPUT", external, EXTERNAL, New),
        of_services(Filter, "INPUT", health_checks, "kubernetes health check service ports", All),
        shared(Filter, "FORWARD", services, PORTALS, New),
        shared(Filter, "OUTPUT",  services, PORTALS, New),
        of_services(Filter, "FORWARD", FORWARD, "kubernetes forwarding rules", All),
        shared(Filter, "INPUT",   firewall, LOAD_BALANCER, New),
        shared(Filter, "OUTPUT",  firewall, LOAD_BALANCER, New),
        shared(Filter, "FORWARD", firewall, LOAD_BALANCER, New),
        of_services(Nat, "OUTPUT",      services, PORTALS, All),
        of_services(Nat, "PREROUTING",  services, PORTALS, All),
        of_services(Nat, "POSTROUTING", POSTROUTING, "kubernetes postrouting rules", All),
        of_services(Filter, "INPUT",  FIREWALL, "", All),
        of_services(Filter, "OUTPUT", FIREWALL, "", All),
        portals(Mangle, "PREROUTING", Shared::SocketFirewall.chain(),   SOCKETS, New),
        portals(Mangle, "OUTPUT",     Shared::SocketFirewall.chain(),   SOCKETS, New),
        portals(Filter, "INPUT",      Shared::NodePortNonLocal.chain(), NON_LOCAL, All),
        portals(Nat,    "PREROUTING", Shared::PortalsContainer.chain(), CLUSTER_IPS, All),
        portals(Nat,    "OUTPUT",     Shared::PortalsHost.chain(),      CLUSTER_IPS, All),
        portals(Nat,    "PREROUTING", Shared::NodePortContainer.chain(), NODE_PORTS, ToNodePorts),
        portals(Nat,    "OUTPUT",     Shared::NodePortHost.chain(),     NODE_PORTS, ToNodePorts),
    ]
};

const fn shared(
    table: Table,
    from: &'static str,
    to: &'static str,
    comment: &'static str,
    packets: Packets,
) -> Jump {
    Jump { table, from, to, comment, packets, layout: None }
}

const fn of_services(
    table: Table,
    from: &'static str,
    to: &'static str,
    comment: &'static str,
    packets: Packets,
) -> Jump {
    Jump { layout: Some(Layout::Services), ..shared(table, from, to, comment, packets) }
}

const fn portals(
    table: Table,
    from: &'static str,
    to: &'static str,
    comment: &'static str,
    packets: Packets,
) -> Jump {
    Jump { layout: Some(Layout::Portals), ..shared(table, from, to, comment, packets) }
}

impl Jump {
    /// Those of a layout, in the order in which they are to be put in place.
    pub(super) fn of(layout: Layout) -> impl Iterator<Item = &'static Jump> {
        JUMPS.iter().filter(move |jump| jump.layout.is_none_or(|of| of == layout))
    }

    /// The one of any layout that `rule` of chain `from` is, or was: under other settings, or as
    /// another version wrote it.
    pub(super) fn that_is(table: Table, from: &str, rule: &Rule) -> Option<&'static Jump> {
        let Some(Target::Jump(to)) = rule.verdict() else { return None };
        let comment = rule.matches().iter().find_map(|condition| match condition {
            Match::Comment(text) => Some(text.as_str()),
            _ => None,
        });
        let comment = comment.unwrap_or_default();
        JUMPS
            .iter()
            .find(|jump| jump.table == table && jump.from == from && jump.to == to && jump.comment == comment)
    }

    /// The rules that it is.
    pub(super) fn rules(&self, style: &Style) -> Vec<Rule> {
        let comment = (!self.comment.is_empty()).then(|| Match::Comment(self.comment.to_owned()));
        let rule = match self.packets {
            Packets::All => Rule::new().maybe(comment),
            Packets::New => Rule::new().state(States::New).maybe(comment),
            Packets::ToNodePorts => {
                let rules = for_node_ports(style, &Rule::new().maybe(comment));
                return rules.into_iter().map(|rule| rule.jump(self.to)).collect();
            }
        };
        vec![rule.jump(self.to)]
    }

    /// It is put at the end of its chain, else at the top.
    pub(super) fn is_last(&self) -> bool {
        self.packets == Packets::ToNodePorts
    }

    /// Ours to remove. Kubelet needs the others, too.
    pub(super) fn is_removable(&self) -> bool {
        self.to != FIREWALL
    }

    /// The chain that it leads to.
    pub(super) fn leads_to(&self) -> &'static str {
        self.to
    }
}
