//! The sets and maps of a table.

use portolan_netfilter::nft::{self, DataType, KeyType};
use portolan_service::Family;

use super::table;

/// Clients remembered for session affinity in each family; packets fill this set.
const AFFINITY_SIZE: u32 = 1 << 20;

/// The sets and maps of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SetName {
    /// Every ClusterIP, with or without endpoints
    ClusterIps,
    /// Endpoints on this node, twice: its own client
    Hairpin,
    /// Learnt: client and frontend to endpoint
    Affinity,
    /// Number and frontend to endpoint
    Endpoints,
    /// The same for outside sources, where they get another list
    EndpointsLocal,
    /// Load-balancer frontends with source ranges
    Firewalled,
    /// Frontend and permitted source networks
    Allowed,
    /// Frontend to chain that picks an endpoint
    Services,
    /// The same for outside sources, where they get another list
    ServicesLocal,
    /// Frontend to what refuses its packets
    NoEndpoints,
    /// External frontends to when they are masqueraded
    MasqExternal,
    /// Frontends with session affinity to the chain that remembers the client
    AffinityServices,
}

impl SetName {
    /// All sets, in the order in which they are created and filled: what others lead to comes first.
    pub(crate) const ALL: [SetName; 12] = [
        SetName::ClusterIps,
        SetName::Hairpin,
        SetName::Affinity,
        SetName::Endpoints,
        SetName::EndpointsLocal,
        SetName::Firewalled,
        SetName::Allowed,
        SetName::Services,
        SetName::ServicesLocal,
        SetName::NoEndpoints,
        SetName::MasqExternal,
        SetName::AffinityServices,
    ];

    /// Those that we fill, not packets.
    pub(crate) fn filled() -> impl DoubleEndedIterator<Item = SetName> {
        SetName::ALL.into_iter().filter(|set| *set != SetName::Affinity)
    }

    /// Its name in the kernel.
    pub(crate) fn name(self) -> &'static str {
        match self {
            SetName::ClusterIps => "cluster-ips",
            SetName::Hairpin => "hairpin",
            SetName::Affinity => "affinity",
            SetName::Endpoints => "endpoints",
            SetName::EndpointsLocal => "endpoints-local",
            SetName::Firewalled => "firewalled",
            SetName::Allowed => "allowed",
            SetName::Services => "services",
            SetName::ServicesLocal => "services-local",
            SetName::NoEndpoints => "no-endpoints",
            SetName::MasqExternal => "masq-external",
            SetName::AffinityServices => "affinity-services",
        }
    }

    /// `set` or `map`
    pub(crate) fn kind(self) -> &'static str {
        match self {
            SetName::ClusterIps | SetName::Hairpin | SetName::Firewalled | SetName::Allowed => "set",
            _ => "map",
        }
    }

    /// What it holds, for people.
    pub(crate) fn comment(self) -> &'static str {
        match self {
            SetName::ClusterIps => "every ClusterIP",
            SetName::Hairpin => "endpoints on this node: connections to themselves",
            SetName::Affinity => "clients and the endpoint each stays at",
            SetName::Endpoints => "endpoints of each frontend, numbered",
            SetName::EndpointsLocal => "endpoints on this node, for traffic from outside",
            SetName::Firewalled => "load-balancer frontends with source ranges",
            SetName::Allowed => "source ranges of load-balancer frontends",
            SetName::Services => "frontends of several endpoints, to their number",
            SetName::ServicesLocal => "the same for traffic from outside under externalTrafficPolicy Local",
            SetName::NoEndpoints => "frontends without endpoints",
            SetName::MasqExternal => "when connections to external frontends are masqueraded",
            SetName::AffinityServices => "frontends with session affinity",
        }
    }
}

/// `set` as the kernel is told; `id` is its number in the batch.
pub(crate) fn declare_set(set: SetName, family: Family, id: u32) -> nft::Set {
    use nft::Field::{DestinationAddress, DestinationPort, IpProtocol, L4Proto, Random, SourceAddress};
    let (key, data): (&'static [nft::Field], Option<DataType>) = match set {
        SetName::ClusterIps => (&[DestinationAddress], None),
        SetName::Hairpin => (&[SourceAddress, DestinationAddress], None),
        SetName::Affinity => (
            &[SourceAddress, DestinationAddress, L4Proto, DestinationPort],
            Some(DataType::Value(&[DestinationAddress, DestinationPort])),
        ),
        SetName::Endpoints | SetName::EndpointsLocal => (
            &[Random, DestinationAddress, L4Proto, DestinationPort],
            Some(DataType::Value(&[DestinationAddress, DestinationPort])),
        ),
        SetName::Firewalled => (&[DestinationAddress, L4Proto, DestinationPort], None),
        SetName::Allowed if family == Family::V4 => {
            (&[DestinationAddress, IpProtocol, DestinationPort, SourceAddress], None)
        }
        SetName::Allowed => (&[DestinationAddress, L4Proto, DestinationPort, SourceAddress], None),
        SetName::Services
        | SetName::ServicesLocal
        | SetName::NoEndpoints
        | SetName::MasqExternal
        | SetName::AffinityServices => {
            (&[DestinationAddress, L4Proto, DestinationPort], Some(DataType::Verdict))
        }
    };
    let learnt = set == SetName::Affinity;
    nft::Set {
        name: set.name().into(),
        id,
        key: KeyType(key),
        data,
        dynamic: learnt,
        timeouts: learnt,
        interval: set == SetName::Allowed,
        size: learnt.then_some(AFFINITY_SIZE),
        comment: Some(set.comment().into()),
    }
}

/// Whether a set in the kernel is ours as this version of the program declares it.
pub(crate) fn is_like(set: SetName, family: Family, info: &nft::SetInfo) -> bool {
    let declared = declare_set(set, family, 0);
    let table = table(family).family;
    info.name == declared.name
        && info.flags == declared.flags()
        && info.key_len == declared.key_len(table)
        && info.data_len == declared.data_len(table)
        && info.size == declared.size
        && info.userdata == declared.userdata(table)
}
