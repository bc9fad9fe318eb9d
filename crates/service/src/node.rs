//! Nodes, and what the planner must know of the node it plans for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::{Family, PerFamily};

/// A Node object, reduced to what a service proxy reads (spec §1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`
    pub name: Arc<str>,
    /// Label `topology.kubernetes.io/zone`; `None` when missing or empty.
    pub zone: Option<Arc<str>>,
    /// `status.addresses` of type InternalIP, in order, then those of type ExternalIP.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`
    pub pod_cidrs: Vec<IpNet>,
    /// It is being deleted, or the cluster autoscaler has marked it for deletion. Load balancers
    /// should send it nothing new (spec §11.5, §12.7).
    pub leaving: bool,
    /// `status.conditions` of type Ready is True, or is not there.
    pub ready: bool,
    /// The label `node.kubernetes.io/exclude-from-external-load-balancers` is set.
    pub excluded: bool,
}

/// The node a [`crate::Planner`] plans for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Independent facts.
pub struct LocalNode {
    /// The name that endpoints and hints use for it (spec §1.25).
    pub name: Arc<str>,
    /// Its zone (spec §2.2).
    pub zone: Option<Arc<str>>,
    /// Its first address of each family, if known (spec §1.33). Source ranges need it for access
    /// from the node itself (§3.18).
    pub ips: PerFamily<Option<IpAddr>>,
    /// The addresses on which NodePorts answer (spec §3.5-3.11), sorted, without duplicates.
    /// Loopback addresses are there as [`Loopback`] says of the mode.
    pub nodeport_addresses: Vec<IpAddr>,
    /// On loopback addresses, the proxy itself takes the connections to NodePorts: see
    /// [`Loopback::Named`]. There `externalTrafficPolicy: Local` holds for the node itself, too,
    /// and what it leaves without endpoints is refused. SCTP is refused.
    pub relays_loopback: bool,
    /// The proxy takes all TCP connections itself, and so can begin those to endpoints with the
    /// PROXY protocol. Elsewhere, Services that ask for it are served without.
    pub writes_proxy_protocol: bool,
    /// The kernel's IPVS chooses endpoints, by a scheduler. Elsewhere, Services that ask for one
    /// are served without.
    pub has_schedulers: bool,
    /// All addresses on its interfaces that a Service could have: sorted. A Service that asks for
    /// one of them takes connections from the node itself.
    pub addresses: Vec<IpAddr>,
    /// The addresses at which this node reaches the API server, beside those of Service
    /// default/kubernetes: sorted.
    pub api_server: Vec<IpAddr>,
    /// `spec.externalIPs` of Services is not served (spec §0.4).
    pub ignore_external_ips: bool,
}

/// The loopback addresses that NodePorts answer on in a mode, if they are selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Loopback {
    /// None.
    #[default]
    None,
    /// Those of IPv4, by rules (spec §3.10).
    V4,
    /// Those of both families, by sockets of the proxy, where an entry is about loopback addresses
    /// (KEP-6032): `localhost`, or a network of nothing else. Other entries do not select them,
    /// though they may contain them.
    Named,
}

/// One entry of `--nodeport-addresses`: what it selects of the node's addresses (spec §3.6-3.9,
/// KEP-6032).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodePortSelector {
    /// The node's first address of each family: the word `primary`.
    Primary,
    /// Loopback addresses, 127.0.0.0/8 and ::1: the word `localhost`.
    Localhost,
    /// Every address of both families: the word `all`.
    All,
    /// Addresses of any interface within this network; a zero prefix selects all of its family.
    Network(IpNet),
}

impl NodePortSelector {
    /// The words that stand for addresses, as flags and files spell them.
    pub const WORDS: [(&str, NodePortSelector); 3] = [
        ("primary", NodePortSelector::Primary),
        ("localhost", NodePortSelector::Localhost),
        ("all", NodePortSelector::All),
    ];
}

impl fmt::Display for NodePortSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodePortSelector::Network(network) => network.fmt(f),
            word => {
                let name = NodePortSelector::WORDS.iter().find(|(_, selector)| selector == word);
                f.write_str(name.map_or("", |(name, _)| name))
            }
        }
    }
}

/// `--nodeport-addresses`: an address is selected if one of the entries selects it. A family that
/// no entry is about is selected as a whole (spec §3.6). Without entries both are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodePortAddresses(pub Vec<NodePortSelector>);

impl NodePortAddresses {
    /// The word `primary` alone.
    pub fn primary() -> NodePortAddresses {
        NodePortAddresses(vec![NodePortSelector::Primary])
    }

    /// The addresses among `local` (all addresses on the node's interfaces) on which NodePorts
    /// answer. `ips` are the node's own addresses.
    ///
    /// Under `primary` a family whose node address is unknown has no entry of its own (spec §3.7).
    /// IPv6 link-local addresses are never selected, and loopback addresses as `loopback` says.
    pub fn select(
        &self,
        ips: &PerFamily<Option<IpAddr>>,
        local: &[IpAddr],
        loopback: Loopback,
    ) -> Vec<IpAddr> {
        let mut selected = Vec::new();
        for family in Family::ALL {
            selected.extend(
                self.select_family(family, ips, local)
                    .into_iter()
                    .filter(|ip| !ip.is_loopback() || (loopback == Loopback::V4 && ip.is_ipv4())),
            );
        }
        if loopback == Loopback::Named {
            selected.extend(self.named_loopback(local));
        }
        selected.sort_unstable();
        selected.dedup();
        selected
    }

    /// The addresses of `family` that are selected as in [`NodePortAddresses::select`], and
    /// loopback addresses too: sockets can be bound to those whatever the rules do.
    pub fn select_family(
        &self,
        family: Family,
        ips: &PerFamily<Option<IpAddr>>,
        local: &[IpAddr],
    ) -> Vec<IpAddr> {
        let entries = self.entries(family, ips);
        let all = selects_all(&entries);
        // The node's own address counts whatever interfaces there are.
        let own = ips.get(family).iter().copied().filter(|_| self.0.contains(&NodePortSelector::Primary));
        let mut selected: Vec<IpAddr> = local
            .iter()
            .copied()
            .filter(|address| Family::of(*address) == family && can_answer(*address))
            .filter(|address| all || entries.iter().any(|network| network.contains(address)))
            .chain(own)
            .collect();
        selected.sort_unstable();
        selected.dedup();
        selected
    }

    /// Whether every address of `family` is selected, whatever addresses there are.
    pub fn selects_all(&self, family: Family, ips: &PerFamily<Option<IpAddr>>) -> bool {
        selects_all(&self.entries(family, ips))
    }

    /// Whether IPv4 loopback addresses are among the selected (spec §3.10). They are if a network
    /// is all of IPv4, has 127.0.0.0, or begins with a loopback address.
    pub fn selects_loopback(&self, ips: &PerFamily<Option<IpAddr>>) -> bool {
        let entries = self.entries(Family::V4, ips);
        selects_all(&entries)
            || entries.iter().any(|network| {
                network.addr().is_loopback() || network.contains(&IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)))
            })
    }

    /// The loopback addresses that entries are about: those among `local`, and a single address of
    /// IPv4, which is the node's whatever its interfaces have.
    fn named_loopback(&self, local: &[IpAddr]) -> Vec<IpAddr> {
        let mut named = Vec::new();
        for network in Family::ALL.iter().flat_map(|family| self.entries(*family, &PerFamily::default())) {
            if network.addr().is_loopback() {
                named.extend(local.iter().copied().filter(|address| network.contains(address)));
                named.extend(Some(network.addr()).filter(|ip| ip.is_ipv4() && network.prefix_len() == 32));
            }
        }
        named
    }

    /// What the entries are as networks of `family`.
    fn entries(&self, family: Family, ips: &PerFamily<Option<IpAddr>>) -> Vec<IpNet> {
        let (loopback, any) = match family {
            Family::V4 => (net([127, 0, 0, 0].into(), 8), net([0; 4].into(), 0)),
            Family::V6 => (net(Ipv6Addr::LOCALHOST.into(), 128), net([0; 16].into(), 0)),
        };
        let entries = self.0.iter().filter_map(|selector| match selector {
            NodePortSelector::Primary => ips.get(family).map(IpNet::from),
            NodePortSelector::Localhost => Some(loopback),
            NodePortSelector::All => Some(any),
            NodePortSelector::Network(network) => Some(*network),
        });
        entries.filter(|network| Family::of(network.addr()) == family).collect()
    }
}

fn net(address: IpAddr, length: u8) -> IpNet {
    IpNet::new_assert(address, length)
}

fn selects_all(entries: &[IpNet]) -> bool {
    entries.is_empty() || entries.iter().any(|network| network.prefix_len() == 0)
}

/// Nobody can be asked by an IPv6 link-local address without naming an interface.
fn can_answer(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table of cases")]
    fn what_nodeport_addresses_select() {
        use NodePortSelector::{All, Localhost, Network, Primary};
        let address = |text: &str| -> IpAddr { text.parse().unwrap() };
        let network = |text: &str| Network(text.parse().unwrap());
        let local = ["127.0.0.1", "192.0.2.1", "192.0.2.9", "::1", "2001:db8::1", "fe80::1"].map(address);
        let own = PerFamily { v4: Some(address("192.0.2.1")), v6: Some(address("2001:db8::1")) };
        let (v4_only, unknown) = (PerFamily { v6: None, ..own }, PerFamily::default());
        // Situation; entries; the node's own addresses; what answers, loopback addresses included;
        // whether all of each family is selected; whether IPv4 loopback addresses are.
        for (name, entries, ips, expected, all, loopback) in [
            (
                "§3.6 nothing given",
                vec![],
                &own,
                "127.0.0.1 192.0.2.1 192.0.2.9 2001:db8::1",
                [true; 2],
                true,
            ),
            ("§3.7 primary", vec![Primary], &own, "192.0.2.1 2001:db8::1", [false; 2], false),
            (
                "§3.7 a family without an address of the node",
                vec![Primary],
                &v4_only,
                "192.0.2.1 2001:db8::1",
                [false, true],
                false,
            ),
            (
                "§3.7 no address known",
                vec![Primary],
                &unknown,
                "127.0.0.1 192.0.2.1 192.0.2.9 2001:db8::1",
                [true; 2],
                true,
            ),
            ("localhost alone", vec![Localhost], &own, "127.0.0.1", [false; 2], true),
            (
                "localhost does not open a family without an address",
                vec![Primary, Localhost],
                &unknown,
                "127.0.0.1",
                [false; 2],
                true,
            ),
            (
                "two words",
                vec![Primary, Localhost],
                &own,
                "127.0.0.1 192.0.2.1 2001:db8::1",
                [false; 2],
                true,
            ),
            ("all", vec![All], &own, "127.0.0.1 192.0.2.1 192.0.2.9 2001:db8::1", [true; 2], true),
            (
                "all beside others",
                vec![network("192.0.2.9/32"), All, Primary],
                &own,
                "127.0.0.1 192.0.2.1 192.0.2.9 2001:db8::1",
                [true; 2],
                true,
            ),
            (
                "a word and a network",
                vec![Primary, network("192.0.2.8/29")],
                &own,
                "192.0.2.1 192.0.2.9 2001:db8::1",
                [false; 2],
                false,
            ),
            (
                "a network of one family",
                vec![network("192.0.2.8/29")],
                &own,
                "192.0.2.9 2001:db8::1",
                [false, true],
                false,
            ),
            (
                "nothing that is here",
                vec![network("10.0.0.0/8"), network("fd00::/8")],
                &own,
                "",
                [false; 2],
                false,
            ),
        ] {
            let addresses = NodePortAddresses(entries);
            let expected: Vec<IpAddr> = expected.split_whitespace().map(address).collect();
            assert_eq!(addresses.select(ips, &local, Loopback::V4), expected, "{name}");
            let without: Vec<IpAddr> = expected.iter().copied().filter(|ip| !ip.is_loopback()).collect();
            assert_eq!(addresses.select(ips, &local, Loopback::None), without, "{name}");
            assert_eq!(Family::ALL.map(|family| addresses.selects_all(family, ips)), all, "{name}");
            assert_eq!(addresses.selects_loopback(ips), loopback, "{name}");
        }
    }

    #[test]
    fn loopback_addresses_that_are_named() {
        use NodePortSelector::{All, Localhost, Network, Primary};
        let address = |text: &str| -> IpAddr { text.parse().unwrap() };
        let network = |text: &str| Network(text.parse().unwrap());
        let local = ["127.0.0.1", "127.0.0.53", "192.0.2.1", "::1", "2001:db8::1"].map(address);
        let own = PerFamily { v4: Some(address("192.0.2.1")), v6: Some(address("2001:db8::1")) };
        // KEP-6032
        for (name, entries, expected) in [
            ("nothing given", vec![], "192.0.2.1 2001:db8::1"),
            ("primary", vec![Primary], "192.0.2.1 2001:db8::1"),
            ("all is not about them", vec![All, network("0.0.0.0/0")], "192.0.2.1 2001:db8::1"),
            ("localhost alone", vec![Localhost], "127.0.0.1 127.0.0.53 ::1"),
            ("beside others", vec![Primary, Localhost], "127.0.0.1 127.0.0.53 192.0.2.1 ::1 2001:db8::1"),
            ("beside all", vec![All, Localhost], "127.0.0.1 127.0.0.53 192.0.2.1 ::1 2001:db8::1"),
            ("one of IPv4", vec![Primary, network("127.0.0.1/32")], "127.0.0.1 192.0.2.1 2001:db8::1"),
            (
                "one that no interface has",
                vec![Primary, network("127.9.9.9/32")],
                "127.9.9.9 192.0.2.1 2001:db8::1",
            ),
            ("a network of them", vec![network("127.0.0.32/27")], "127.0.0.53 2001:db8::1"),
            ("a network of more", vec![network("126.0.0.0/7")], "2001:db8::1"),
            ("that of IPv6", vec![network("::1/128")], "192.0.2.1 ::1"),
        ] {
            let expected: Vec<IpAddr> = expected.split_whitespace().map(address).collect();
            let selected = NodePortAddresses(entries).select(&own, &local, Loopback::Named);
            assert_eq!(selected, expected, "{name}");
        }
        let without_v6 = NodePortAddresses(vec![Localhost, network("::1/128")]);
        let selected = without_v6.select(&own, &local[..3], Loopback::Named);
        assert_eq!(selected, [address("127.0.0.1"), address("127.0.0.53")], "a node without IPv6");
    }

    #[test]
    fn words_are_written_as_they_are_read() {
        for (word, selector) in NodePortSelector::WORDS {
            assert_eq!(selector.to_string(), word);
        }
        assert_eq!(NodePortSelector::Network("10.0.0.0/8".parse().unwrap()).to_string(), "10.0.0.0/8");
    }
}
