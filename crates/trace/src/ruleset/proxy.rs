//! Which tables and chains are a service proxy's: kube-proxy's of any mode and age, or our own.

use portolan_service::Family;

use super::{Action, Chain, Part, Ruleset, Table, TableFamily, Tool};

/// Chains of iptables that kube-proxy has written since 2015, in one mode or another (spec §5,
/// §7.17), and those that kubelet keeps for it (spec §5.41). Other programs have names that begin
/// with `KUBE-` as well.
const CHAINS: [&str; 20] = [
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-POSTROUTING",
    "KUBE-FORWARD",
    "KUBE-PROXY-FIREWALL",
    "KUBE-PROXY-CANARY",
    "KUBE-FIREWALL",
    "KUBE-MARK-MASQ",
    "KUBE-MARK-DROP",
    "KUBE-NODE-PORT",
    "KUBE-LOAD-BALANCER",
    "KUBE-FIRE-WALL",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
    "KUBE-PORTALS-CONTAINER",
    "KUBE-PORTALS-HOST",
    "KUBE-NODEPORT-CONTAINER",
    "KUBE-NODEPORT-HOST",
];

/// Those of single Services and endpoints, by their beginning.
const PREFIXES: [&str; 7] =
    ["KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-", "KUBE-NODEPORT-NON-LOCAL"];

/// Those that kubelet writes whether a proxy runs or not, until 1.28.
const KUBELETS: [&str; 4] = ["KUBE-FIREWALL", "KUBE-MARK-DROP", "KUBE-MARK-MASQ", "KUBE-POSTROUTING"];

impl Ruleset {
    /// Whether a service proxy has written any rule of these. Chains that kubelet keeps are none.
    pub fn has_proxy(&self) -> bool {
        self.tables().iter().any(|table| {
            let written = |chain: &&Chain| !chain.rules.is_empty() && table.is_proxys(chain);
            table.chains.iter().filter(written).any(|chain| !KUBELETS.contains(&&*chain.name))
        })
    }
}

impl Ruleset {
    /// Whether kube-proxy's mode ipvs has written rules for packets of `family`: then the node has
    /// the addresses of Services.
    pub fn binds_addresses(&self, family: Family) -> bool {
        let mut tables = self.tables().iter().filter(|table| table.family.sees(family));
        tables.any(Table::binds_addresses)
    }

    /// Whether rules lead to virtual servers of IPVS for packets of `family`, and none are known.
    pub fn lacks_virtual_servers(&self, family: Family) -> bool {
        let of_family = || self.tables().iter().filter(|table| table.family.sees(family));
        of_family().any(Table::balances) && !of_family().any(|table| table.tool == Tool::Ipvs)
    }
}

impl Table {
    /// Whether its rules lead to virtual servers of IPVS: ours, or kube-proxy's.
    fn balances(&self) -> bool {
        self.is_all_proxys() && self.has_chain("steer") || self.binds_addresses()
    }

    /// Whether it is of kube-proxy's mode ipvs (spec §7.18).
    fn binds_addresses(&self) -> bool {
        self.tool == Tool::Iptables && self.has_chain("KUBE-IPVS-FILTER")
    }

    fn has_chain(&self, name: &str) -> bool {
        self.chains.iter().any(|chain| &*chain.name == name)
    }

    /// Whether a service proxy writes all of this table.
    pub fn is_all_proxys(&self) -> bool {
        self.tool == Tool::Nftables
            && self.family != TableFamily::Inet
            && matches!(&*self.name, "kube-proxy" | "portolan")
    }

    /// Whether a service proxy writes `chain` of this table.
    pub fn is_proxys(&self, chain: &Chain) -> bool {
        match self.tool {
            Tool::Iptables => {
                CHAINS.contains(&&*chain.name) || PREFIXES.iter().any(|prefix| chain.name.starts_with(prefix))
            }
            Tool::Nftables => self.is_all_proxys(),
            Tool::Ipvs => true,
        }
    }

    /// The bits of the mark by which our rules bring packets of `family` to IPVS.
    pub(super) fn steers(&self, family: Family) -> u32 {
        if !self.is_all_proxys() || self.family != TableFamily::Only(family) {
            return 0;
        }
        let steer = self.chains.iter().filter(|chain| &*chain.name == "steer");
        let parts = steer.flat_map(|chain| &chain.rules).flat_map(|rule| &rule.parts);
        let bits = parts.map(|part| match part {
            Part::Action(Action::Mark(mark)) => mark.flip & !mark.keep,
            _ => 0,
        });
        bits.fold(0, |all, bits| all | bits)
    }
}
