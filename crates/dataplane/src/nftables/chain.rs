//! The chains of a table.

use std::sync::Arc;

use data_encoding::BASE32;
use portolan_netfilter::nft::{self, BaseChain, ChainType, Hook};
use sha2::{Digest, Sha256};

/// The longest name of a Service port within names of chains and sets, bytes. The longest that the
/// API allows has 148. With an IPv6 address, a port and a prefix, 255 bytes are not exceeded, the
/// kernel's limit (`NFT_NAME_MAXLEN`).
const PORT_NAME_MAX: usize = 200;
/// How much of the hash of a longer name takes the place of its end.
const HASH: usize = 16;

/// The chains of a table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Chain {
    /// Picks one of this many `endpoints`.
    Pick(u32),
    /// Picks one of this many `endpoints-local`.
    PickLocal(u32),
    /// The client's endpoint, else one of the Cluster list of this Service port, remembered from
    /// now on.
    Affinity(Arc<str>),
    /// The same with the Local list.
    AffinityLocal(Arc<str>),
    /// Remembers the client, and sends it to this endpoint of a Service port.
    Endpoint(Arc<str>),
    /// Leaves traffic from outside untranslated.
    NoLocal,
    /// Refuses with an ICMP error.
    RejectIt,
    /// Masquerades ClusterIP traffic that needs it.
    MasqCluster,
    /// Masquerades.
    MasqAlways,
    /// Masquerades the node's own connections, and endpoints to themselves.
    MasqNode,
    /// Decides whether to masquerade.
    Masq,
    /// Drops what source ranges exclude.
    Firewall,
    /// Answers connections to frontends without endpoints.
    Undeliverable,
    /// Drops connections to ClusterIPs that no Service has.
    Unallocated,
    /// Base chain: marks what IPVS is to have, so that it is routed to the node itself.
    Steer,
    /// Base chain: takes that mark off before IPVS looks.
    Unsteer,
    /// Base chain: refuses what IPVS left, so that no socket of the node gets it.
    Unhandled,
    /// Base chain: takes the marks off by which IPVS knew traffic from outside.
    Unmark,
    /// Base chain: brings what the node sent to a ClusterIP to an endpoint on the node.
    Reroute,
    /// Base chain
    NatPrerouting,
    /// Base chain
    NatOutput,
    /// Base chain
    NatPostrouting,
    /// Base chain
    FirewallPrerouting,
    /// Base chain
    FirewallOutput,
    /// Base chain
    FilterInput,
    /// Base chain
    FilterForward,
    /// Base chain
    FilterOutput,
}

/// Chains that exist under one name only.
pub(super) const NAMED: [(Chain, &str); 22] = [
    (Chain::NoLocal, "no-local"),
    (Chain::RejectIt, "reject-it"),
    (Chain::MasqCluster, "masq-cluster"),
    (Chain::MasqAlways, "masq-always"),
    (Chain::MasqNode, "masq-node"),
    (Chain::Masq, "masq"),
    (Chain::Firewall, "firewall"),
    (Chain::Undeliverable, "undeliverable"),
    (Chain::Unallocated, "unallocated"),
    (Chain::Steer, "steer"),
    (Chain::Unsteer, "unsteer"),
    (Chain::Unhandled, "unhandled"),
    (Chain::Unmark, "unmark"),
    (Chain::Reroute, "reroute"),
    (Chain::NatPrerouting, "nat-prerouting"),
    (Chain::NatOutput, "nat-output"),
    (Chain::NatPostrouting, "nat-postrouting"),
    (Chain::FirewallPrerouting, "firewall-prerouting"),
    (Chain::FirewallOutput, "firewall-output"),
    (Chain::FilterInput, "filter-input"),
    (Chain::FilterForward, "filter-forward"),
    (Chain::FilterOutput, "filter-output"),
];

const AFFINITY: &str = "affinity/";
const AFFINITY_LOCAL: &str = "affinity-local/";
const ENDPOINT: &str = "endpoint/";

impl Chain {
    /// Its name in the kernel.
    pub(crate) fn name(&self) -> String {
        match self {
            Chain::Pick(count) => format!("pick-{count}"),
            Chain::PickLocal(count) => format!("pick-local-{count}"),
            Chain::Affinity(port) => format!("{AFFINITY}{port}"),
            Chain::AffinityLocal(port) => format!("{AFFINITY_LOCAL}{port}"),
            Chain::Endpoint(endpoint) => format!("{ENDPOINT}{endpoint}"),
            named => NAMED.iter().find(|(chain, _)| chain == named).map_or("", |(_, name)| name).to_owned(),
        }
    }

    /// The chain of that name, if it can be one of ours.
    pub(crate) fn parse(name: &str) -> Option<Chain> {
        if let Some((chain, _)) = NAMED.iter().find(|(_, of)| *of == name) {
            return Some(chain.clone());
        }
        if let Some(port) = name.strip_prefix(AFFINITY) {
            return Some(Chain::Affinity(port.into()));
        }
        if let Some(port) = name.strip_prefix(AFFINITY_LOCAL) {
            return Some(Chain::AffinityLocal(port.into()));
        }
        if let Some(endpoint) = name.strip_prefix(ENDPOINT) {
            return Some(Chain::Endpoint(endpoint.into()));
        }
        let (kind, number) = name.rsplit_once('-')?;
        let number: u32 = number.parse().ok()?;
        let chain = match kind {
            "pick" => Chain::Pick(number),
            "pick-local" => Chain::PickLocal(number),
            _ => return None,
        };
        // "pick-03" and "pick-0" are nobody's.
        (number > 0 && chain.name() == name).then_some(chain)
    }

    /// It exists once for each number, or for each Service port with affinity, and comes and goes
    /// with its use.
    pub(crate) fn comes_and_goes(&self) -> bool {
        matches!(self, Chain::Pick(_) | Chain::PickLocal(_)) || self.is_of_a_port()
    }

    /// It belongs to a Service port, whose plan says which rules it has.
    pub(crate) fn is_of_a_port(&self) -> bool {
        matches!(self, Chain::Affinity(_) | Chain::AffinityLocal(_) | Chain::Endpoint(_))
    }

    /// Where the kernel calls it. Rejecting and source ranges stand beside NAT so that no other
    /// table has to be considered: ranges before translation, answers to what was not translated
    /// after it.
    pub(crate) fn base(&self) -> Option<BaseChain> {
        let (kind, hook, priority) = match self {
            Chain::NatPrerouting => (ChainType::Nat, Hook::Prerouting, -100),
            Chain::NatOutput => (ChainType::Nat, Hook::Output, -100),
            Chain::NatPostrouting => (ChainType::Nat, Hook::Postrouting, 100),
            Chain::FirewallPrerouting => (ChainType::Filter, Hook::Prerouting, -110),
            Chain::FirewallOutput => (ChainType::Filter, Hook::Output, -110),
            Chain::FilterInput => (ChainType::Filter, Hook::Input, -90),
            // After source ranges, and before routing. Replies to masqueraded connections have the
            // node's address until NAT has seen them, and a port that may be a NodePort's.
            Chain::Steer => (ChainType::Filter, Hook::Prerouting, -99),
            // IPVS takes requests at 98 and 99 of input, and at -99 and -98 of output
            // (`ip_vs_ops4` of net/netfilter/ipvs/ip_vs_core.c).
            Chain::Unsteer => (ChainType::Filter, Hook::Input, 97),
            Chain::Unhandled => (ChainType::Filter, Hook::Input, 101),
            Chain::Unmark => (ChainType::Filter, Hook::Output, -97),
            Chain::Reroute => (ChainType::Route, Hook::Output, -96),
            Chain::FilterForward => (ChainType::Filter, Hook::Forward, -90),
            Chain::FilterOutput => (ChainType::Filter, Hook::Output, -90),
            _ => return None,
        };
        Some(BaseChain { kind, hook, priority })
    }

    fn comment(&self) -> Option<&'static str> {
        Some(match self {
            Chain::NoLocal => "no endpoint on this node: left alone, then dropped",
            Chain::MasqCluster => "ClusterIPs",
            Chain::MasqAlways => "external frontends, policy Cluster",
            Chain::MasqNode => "external frontends, policy Local",
            Chain::Masq => "by the destination before translation",
            Chain::Firewall => "loadBalancerSourceRanges",
            Chain::Undeliverable => "what no endpoint takes",
            Chain::Unallocated => "ClusterIPs that no Service has",
            Chain::Steer => "to IPVS, by a route of its own",
            Chain::Unsteer => "right before IPVS",
            Chain::Unhandled => "what IPVS left",
            Chain::Unmark => "right after IPVS",
            Chain::Reroute => "from the node by a ClusterIP to the node",
            _ => return None,
        })
    }

    /// As the kernel takes it.
    pub(crate) fn declaration(&self) -> nft::Chain {
        nft::Chain { name: self.name(), kind: self.base(), comment: self.comment().map(Into::into) }
    }
}

/// Whether a chain in the kernel is called where `chain` has to be.
pub(crate) fn is_in_place(chain: &Chain, info: &nft::ChainInfo) -> bool {
    info.kind == chain.base() && info.is_base == chain.base().is_some() && !info.drops
}

/// `name` if it is not too long, or as much of it as leaves room for a hash of all of it.
pub(crate) fn short_name(mut name: String) -> String {
    if name.len() > PORT_NAME_MAX {
        let hash = BASE32.encode(&Sha256::digest(&name));
        let mut end = PORT_NAME_MAX - HASH - 3;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
        name.push_str("...");
        name.push_str(&hash[..HASH]);
    }
    name
}
