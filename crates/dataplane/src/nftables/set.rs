//! The sets and maps of a table.

use portolan_netfilter::nft::{self, DataType, KeyType};
use portolan_service::Family;

use std::time::Duration;

use super::table::table;

/// How the names of the sets of remembered clients begin; the names of a Service port and an
/// endpoint follow.
pub(crate) const AFFINITY_SETS: &str = "affinity/";
/// How long an expired client is counted at most. The kernel walks a whole set this often: a
/// second, its own choice, takes a tenth of a processor for a million clients.
const AFFINITY_GC: Duration = Duration::from_secs(20);

/// The sets and maps of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SetName {
    /// Every ClusterIP, with or without endpoints
    ClusterIps,
    /// Endpoints on this node, twice: its own client
    Hairpin,
    /// Number and frontend to endpoint
    Endpoints,
    /// The same for outside sources, where they get another list
    EndpointsLocal,
    /// UDP frontends with endpoints, which no rule looks into
    UdpFrontends,
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
    /// Every frontend that IPVS serves
    Frontends,
    /// Those that lead clients from outside to endpoints of their own, to the mark for these
    LocalMarks,
}

impl SetName {
    /// How many there are.
    pub(crate) const COUNT: usize = 13;

    /// Its name in the kernel.
    pub(crate) fn name(self) -> &'static str {
        match self {
            SetName::ClusterIps => "cluster-ips",
            SetName::Hairpin => "hairpin",
            SetName::Endpoints => "endpoints",
            SetName::EndpointsLocal => "endpoints-local",
            SetName::UdpFrontends => "udp-frontends",
            SetName::Firewalled => "firewalled",
            SetName::Allowed => "allowed",
            SetName::Services => "services",
            SetName::ServicesLocal => "services-local",
            SetName::NoEndpoints => "no-endpoints",
            SetName::MasqExternal => "masq-external",
            SetName::Frontends => "frontends",
            SetName::LocalMarks => "local-marks",
        }
    }

    /// `set` or `map`
    pub(crate) fn kind(self) -> &'static str {
        match self {
            SetName::ClusterIps
            | SetName::Hairpin
            | SetName::UdpFrontends
            | SetName::Firewalled
            | SetName::Allowed
            | SetName::Frontends => "set",
            _ => "map",
        }
    }

    /// What it holds, for people.
    pub(crate) fn comment(self) -> &'static str {
        match self {
            SetName::ClusterIps => "every ClusterIP",
            SetName::Hairpin => "endpoints on this node: connections to themselves",
            SetName::Endpoints => "endpoints of each frontend, numbered",
            SetName::EndpointsLocal => "endpoints on this node, for traffic from outside",
            SetName::UdpFrontends => "UDP frontends: whose flows may outlive an endpoint",
            SetName::Firewalled => "load-balancer frontends with source ranges",
            SetName::Allowed => "source ranges of load-balancer frontends",
            SetName::Services => "frontends of many endpoints, to their number",
            SetName::ServicesLocal => "the same for traffic from outside under externalTrafficPolicy Local",
            SetName::NoEndpoints => "frontends without endpoints",
            SetName::MasqExternal => "when connections to external frontends are masqueraded",
            SetName::Frontends => "frontends that IPVS serves",
            SetName::LocalMarks => "marks that IPVS knows traffic from outside by, policy Local",
        }
    }
}

/// `set` as the kernel takes it; `id` is its number in the batch.
pub(crate) fn declare_set(set: SetName, family: Family, id: u32) -> nft::Set {
    use nft::Field::{DestinationAddress, DestinationPort, IpProtocol, L4Proto, Mark, Random, SourceAddress};
    let (key, data): (&'static [nft::Field], Option<DataType>) = match set {
        SetName::ClusterIps => (&[DestinationAddress], None),
        SetName::Hairpin => (&[SourceAddress, DestinationAddress], None),
        SetName::Endpoints | SetName::EndpointsLocal => (
            &[Random, DestinationAddress, L4Proto, DestinationPort],
            Some(DataType::Value(&[DestinationAddress, DestinationPort])),
        ),
        SetName::UdpFrontends | SetName::Firewalled | SetName::Frontends => {
            (&[DestinationAddress, L4Proto, DestinationPort], None)
        }
        SetName::LocalMarks => {
            (&[DestinationAddress, L4Proto, DestinationPort], Some(DataType::Value(&[Mark])))
        }
        SetName::Allowed if family == Family::V4 => {
            (&[DestinationAddress, IpProtocol, DestinationPort, SourceAddress], None)
        }
        SetName::Allowed => (&[DestinationAddress, L4Proto, DestinationPort, SourceAddress], None),
        SetName::Services | SetName::ServicesLocal | SetName::NoEndpoints | SetName::MasqExternal => {
            (&[DestinationAddress, L4Proto, DestinationPort], Some(DataType::Verdict))
        }
    };
    nft::Set {
        name: set.name().into(),
        id,
        key: KeyType(key),
        data,
        dynamic: false,
        timeouts: false,
        interval: set == SetName::Allowed,
        gc_interval: None,
        size: None,
        comment: Some(set.comment().into()),
    }
}

/// A set of clients, with room for `size` of them, which packets fill.
pub(crate) fn declare_affinity_set(name: &str, size: Option<u32>, id: u32) -> nft::Set {
    nft::Set {
        name: name.into(),
        id,
        key: KeyType(&[nft::Field::SourceAddress]),
        data: None,
        dynamic: true,
        timeouts: true,
        interval: false,
        gc_interval: Some(AFFINITY_GC),
        size,
        comment: None,
    }
}

/// Whether a set in the kernel can be one of ours that remembers clients. Its size does not matter:
/// it depends on how many endpoints there were when it was created.
pub(crate) fn is_affinity_set(family: Family, info: &nft::SetInfo) -> bool {
    let declared = declare_affinity_set(&info.name, None, 0);
    let table = table(family).family;
    info.name.starts_with(AFFINITY_SETS)
        && info.flags == declared.flags()
        && info.key_len == declared.key_len(table)
        && info.data_len == 0
        && info.userdata == declared.userdata(table)
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
