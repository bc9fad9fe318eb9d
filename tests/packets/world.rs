//! The lab of the packet table: two nodes with a proxy each, their pods, and a machine outside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use portolan_lab::netns::Namespace;
use portolan_service::{Family, Protocol};
use portolan_tests::ask::{self, Outcome};
use portolan_tests::site::Site;

use crate::case::{Case, Client, Expected, Frontend, Mode, Setting, Source};
use crate::chains;
use crate::fixture::{self, Fixture, HOST1, HOST1_SECOND, HOST2, OUTSIDE, OUTSIDE_OTHER, PORT, underlay};

/// A lab with the fixture's Services in force.
pub(crate) struct World {
    pub(crate) site: Site,
}

type Shared = Arc<OnceLock<Result<Arc<World>, String>>>;

/// One lab for each mode and setting, built when its first case runs, shared by all: cases change
/// nothing.
static WORLDS: LazyLock<Mutex<BTreeMap<(&str, Setting), Shared>>> = LazyLock::new(Mutex::default);

/// The lab for these flags.
pub(crate) fn world(mode: Mode, setting: Setting) -> Result<Arc<World>, String> {
    let shared = WORLDS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry((mode.name(), setting))
        .or_default()
        .clone();
    shared
        .get_or_init(|| {
            build(mode, setting).map(Arc::new).map_err(|error| format!("building the lab: {error:#}"))
        })
        .clone()
}

fn build(mode: Mode, setting: Setting) -> anyhow::Result<World> {
    let mut site = Site::build(&fixture::plan())?;
    for service in fixture::services() {
        site.manifests().write(service.name, &service.objects())?;
    }
    for node in ["host1", "host2"] {
        if mode.has_chains() {
            chains::choose_legacy(site.node(node))?;
        }
        site.start_proxy(node, mode.flags(setting))?;
    }
    Ok(World { site })
}

/// How often to ask so that each of `endpoints` answers, but for one run in 10^9.
pub(crate) fn attempts(endpoints: u32) -> usize {
    let endpoints = f64::from(endpoints);
    // endpoints * (1 - 1/endpoints)^attempts < 10^-9
    let miss = 1.0 - 1.0 / endpoints;
    std::iter::successors(Some(endpoints * miss), |chance| Some(chance * miss))
        .take_while(|chance| *chance > 1e-9)
        .count()
        + 2
}

impl World {
    /// Sends the packets of a row and says what was wrong, if anything.
    pub(crate) fn check(
        &self,
        case: &Case,
        mode: Mode,
        protocol: Protocol,
        family: Family,
    ) -> Result<(), String> {
        let case = &Case { expected: case.expected_in(mode), ..*case };
        let service = fixture::service(case.service);
        let to = destination(&service, case.frontend, family);
        // The machine outside has several addresses; all others start from the one the kernel
        // chooses.
        let bind = match case.client {
            Client::Outside => Some(underlay(OUTSIDE, family)),
            Client::OutsideOther => Some(underlay(OUTSIDE_OTHER, family)),
            _ => None,
        };
        let count = match case.expected {
            Expected::Answers(endpoints, _) => attempts(endpoints.iter().map(|_| 1).sum()),
            Expected::Refused | Expected::Dropped | Expected::Untouched => 2,
        };
        let patience = match case.expected {
            // Long enough for a lost first packet to be sent again.
            Expected::Answers(..) | Expected::Refused => ask::PATIENCE,
            Expected::Dropped | Expected::Untouched => ask::SILENCE,
        };
        let outcomes = self
            .namespace(case.client)
            .run(move || ask::series(count, || ask::ask(protocol, to, bind, patience)))
            .map_err(|error| format!("{error:#}"))?;
        verdict(case, family, to, &outcomes).map_err(|wrong| format!("{wrong}\n{}", self.site.logs()))
    }

    /// Where a client is.
    pub(crate) fn namespace(&self, client: Client) -> &Namespace {
        match client {
            Client::PodHere => self.site.pod("client-a"),
            Client::PodElsewhere => self.site.pod("client-b"),
            Client::Endpoint => self.site.pod("a1"),
            Client::Node => self.site.node("host1"),
            Client::Outside | Client::OutsideOther => self.site.outside(),
        }
    }
}

/// The address and port that a frontend has.
pub(crate) fn destination(service: &Fixture, frontend: Frontend, family: Family) -> SocketAddr {
    let node_port = service.node_port();
    let (address, port) = match frontend {
        Frontend::ClusterIp => (service.cluster_ip(family), PORT),
        Frontend::UnknownPort => (service.cluster_ip(family), PORT + 1),
        Frontend::Unallocated => match family {
            Family::V4 => (Ipv4Addr::new(10, 96, 200, 200).into(), PORT),
            Family::V6 => (Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0xfefe).into(), PORT),
        },
        Frontend::ExternalIp => (service.external_ip(family), PORT),
        Frontend::LoadBalancer => (service.load_balancer(family), PORT),
        Frontend::ProxyModeAddress => (service.proxy_mode_address(family), PORT),
        Frontend::NodePort => (underlay(HOST1, family), node_port),
        Frontend::SecondNodePort => (underlay(HOST1_SECOND, family), node_port),
        Frontend::RemoteNodePort => (underlay(HOST2, family), node_port),
        Frontend::LoopbackNodePort => match family {
            Family::V4 => (Ipv4Addr::LOCALHOST.into(), node_port),
            Family::V6 => (Ipv6Addr::LOCALHOST.into(), node_port),
        },
    };
    SocketAddr::new(address, port)
}

/// Compares what happened with what must happen.
fn verdict(case: &Case, family: Family, to: SocketAddr, outcomes: &[Outcome]) -> Result<(), String> {
    let context = || {
        let seen: BTreeSet<String> = outcomes.iter().map(ToString::to_string).collect();
        format!("{to}: expected {:?}, saw {seen:?} in {} attempts", case.expected, outcomes.len())
    };
    match case.expected {
        Expected::Refused if outcomes.iter().all(|outcome| matches!(outcome, Outcome::Refused)) => Ok(()),
        Expected::Dropped if outcomes.iter().all(|outcome| matches!(outcome, Outcome::Silence)) => Ok(()),
        Expected::Untouched
            if outcomes.iter().all(|outcome| matches!(outcome, Outcome::Silence | Outcome::Other(_))) =>
        {
            Ok(())
        }
        Expected::Refused | Expected::Dropped | Expected::Untouched => Err(context()),
        Expected::Answers(endpoints, source) => {
            let mut missing: BTreeSet<&str> = endpoints.iter().copied().collect();
            for outcome in outcomes {
                let Outcome::Answered(answer) = outcome else { return Err(context()) };
                let expected = endpoints
                    .iter()
                    .find(|endpoint| {
                        **endpoint == answer.pod || **endpoint == format!("{}:{}", answer.pod, answer.port)
                    })
                    .ok_or_else(context)?;
                missing.remove(expected);
                let hairpin = case.client == Client::Endpoint && answer.pod == "a1";
                let sources = if source == Source::Node || hairpin {
                    node_addresses(family)
                } else {
                    own_addresses(case.client, family)
                };
                if !sources.contains(&answer.client) {
                    return Err(format!("{}; {} saw the source {}", context(), answer.pod, answer.client));
                }
            }
            if missing.is_empty() {
                Ok(())
            } else {
                Err(format!("{}; {missing:?} never answered", context()))
            }
        }
    }
}

/// The addresses that a connection of `client` starts with.
fn own_addresses(client: Client, family: Family) -> Vec<IpAddr> {
    match client {
        Client::PodHere => vec![fixture::pod_address("client-a", family)],
        Client::PodElsewhere => vec![fixture::pod_address("client-b", family)],
        Client::Endpoint => vec![fixture::pod_address("a1", family)],
        Client::Node => node_addresses(family),
        Client::Outside => vec![underlay(OUTSIDE, family)],
        Client::OutsideOther => vec![underlay(OUTSIDE_OTHER, family)],
    }
}

/// All addresses that the nodes may masquerade with: on the outer network and on the pods' bridges.
pub(crate) fn node_addresses(family: Family) -> Vec<IpAddr> {
    let bridges = [1, 2].map(|node| fixture::gateway(node, family));
    [HOST1, HOST1_SECOND, HOST2].map(|host| underlay(host, family)).into_iter().chain(bridges).collect()
}
