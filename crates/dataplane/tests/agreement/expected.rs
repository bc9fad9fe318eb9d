//! What must happen to a packet, worked out from the plan by the words of the spec, without any
//! rules.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use portolan_dataplane::{LocalDetector, Settings};
use portolan_service::{
    Family, Frontend, FrontendKind, Masquerade, PortPlan, Protocol, ServicePlan, Verdict as Planned,
};
use portolan_trace::{Outcome, Verdict};

use super::clusters::{Client, bridge_network, node_address};

/// Which rules are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Nftables,
    Iptables,
    Ipvs,
}

/// Where a packet ends up, whether its source is replaced on the way, and how likely that is.
#[derive(Clone, Default)]
pub(crate) struct Ends(BTreeMap<(Verdict, bool), f64>);

impl Ends {
    fn one(verdict: Verdict) -> Ends {
        Ends(BTreeMap::from([((verdict, false), 1.0)]))
    }

    /// Probabilities in rules are of limited precision (spec §5.30).
    pub(crate) fn is_close_to(&self, other: &Ends) -> bool {
        self.0.len() == other.0.len()
            && self
                .0
                .iter()
                .zip(&other.0)
                .all(|((one, p), (another, q))| one == another && (p - q).abs() < 1e-6)
    }
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |((verdict, masquerade), probability): (&(Verdict, bool), &f64)| {
            format!("{verdict:?}{} {probability:.4}", if *masquerade { " masqueraded" } else { "" })
        };
        f.debug_list().entries(self.0.iter().map(text)).finish()
    }
}

/// What the rules say.
pub(crate) fn ends(outcomes: Vec<&Outcome>) -> Ends {
    let mut ends = Ends::default();
    for outcome in outcomes {
        *ends.0.entry((outcome.verdict, outcome.masquerade)).or_default() += outcome.probability.to_f64();
    }
    ends
}

/// What the spec says.
pub(crate) fn expected(
    mode: Mode,
    plans: &[ServicePlan],
    settings: &Settings,
    client: &Client,
    destination: SocketAddr,
    protocol: Protocol,
) -> Ends {
    let found = plans.iter().flat_map(|plan| &plan.ports).find_map(|port| {
        let at = |frontend: &&Frontend| {
            frontend.address == destination.ip() && frontend.port == destination.port()
        };
        port.frontends.iter().find(at).filter(|_| port.protocol == protocol).map(|frontend| (port, frontend))
    });
    let Some((port, frontend)) = found else {
        // nftables answers for ports that a ClusterIP does not have (spec §6.7).
        let mut frontends = plans.iter().flat_map(|plan| &plan.ports).flat_map(|port| &port.frontends);
        let is_cluster_ip = frontends
            .any(|frontend| frontend.kind == FrontendKind::ClusterIp && frontend.address == destination.ip());
        let refused = is_cluster_ip && mode != Mode::Iptables;
        // iptables refuses on every address of the node what nobody answers on those selected (spec
        // §5.25).
        let bridge = bridge_network(Family::of(destination.ip())).addr();
        let mut ports = plans.iter().flat_map(|plan| &plan.ports).filter(|port| port.protocol == protocol);
        let node_port = ports.find_map(|port| {
            port.frontends.iter().find(|frontend| {
                frontend.kind == FrontendKind::NodePort && frontend.port == destination.port()
            })
        });
        if mode == Mode::Iptables
            && destination.ip() == bridge
            && let Some(frontend) = node_port
        {
            match frontend.outside {
                Planned::Reject => return Ends::one(Verdict::Reject),
                Planned::Drop => return Ends::one(Verdict::Drop),
                Planned::Forward(_) => {}
            }
        }
        return Ends::one(if refused { Verdict::Reject } else { Verdict::Accept });
    };
    let is_pod = is_local_pod(settings, client.address);
    let is_node = client.interface.is_none();
    let inside = is_pod || is_node;
    let verdict = if inside { frontend.inside } else { frontend.outside };

    let allowed = frontend
        .allowed_sources
        .as_ref()
        .is_none_or(|sources| sources.merged.iter().any(|network| network.contains(&client.address)));
    // iptables lets those who may not connect know that nobody is there (spec §3.19).
    if !allowed && (mode != Mode::Iptables || frontend.outside != Planned::Reject) {
        return Ends::one(Verdict::Drop);
    }
    let external = frontend.kind != FrontendKind::ClusterIp;
    let local = destination.ip() == node_address(Family::of(destination.ip()));
    match verdict {
        // With iptables nobody looks at what the node itself sends to addresses elsewhere (spec
        // §5.26).
        Planned::Reject | Planned::Drop if mode == Mode::Iptables && external && is_node && !local => {
            Ends::one(Verdict::Accept)
        }
        Planned::Reject => Ends::one(Verdict::Reject),
        Planned::Drop => Ends::one(Verdict::Drop),
        Planned::Forward(list) => {
            let masquerade = match frontend.masquerade {
                Masquerade::Always => true,
                Masquerade::FromNode => is_node,
                Masquerade::NotLocal => {
                    let detected = settings.local.get(Family::of(destination.ip())).is_some();
                    settings.masquerade_all || (detected && !is_pod)
                }
            };
            forwarded(port, list, masquerade, client.address)
        }
    }
}

fn forwarded(port: &PortPlan, list: portolan_service::List, masquerade: bool, client: IpAddr) -> Ends {
    let backends = port.backends(list);
    let all: f64 = backends.iter().map(|backend| f64::from(backend.weight)).sum();
    let mut ends = Ends::default();
    for backend in backends.iter() {
        // To itself: it would not know the answer (spec §4.7).
        let masquerade = masquerade || backend.address == client;
        let end = Verdict::Forward(SocketAddr::new(backend.address, backend.port));
        *ends.0.entry((end, masquerade)).or_default() += f64::from(backend.weight) / all;
    }
    ends
}

fn is_local_pod(settings: &Settings, client: IpAddr) -> bool {
    match settings.local.get(Family::of(client)) {
        Some(LocalDetector::SourceNetwork(network)) => network.contains(&client),
        _ => false,
    }
}
