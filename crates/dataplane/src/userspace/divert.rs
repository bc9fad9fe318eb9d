//! From plans to plans for the rules: sockets of this process in place of endpoints.

use std::net::SocketAddr;
use std::sync::Arc;

use portolan_service::{
    AllowedSources, Backend, Frontend, FrontendKind, List, Masquerade, Place, PortPlan, Protocol,
    ServicePlan, Verdict,
};

use super::wishes::uses;

/// `plan` with the socket that `place` has for each list of endpoints. Without one, connections are
/// refused.
pub(super) fn divert(
    plan: &ServicePlan,
    mut place: impl FnMut(&PortPlan, List) -> Option<SocketAddr>,
) -> ServicePlan {
    let ports = plan.ports.iter().map(|port| {
        let mut socket = |list: List| -> Arc<[Backend]> {
            let found = uses(port, list).then(|| place(port, list)).flatten();
            found.map(backend).into_iter().collect()
        };
        let (cluster, local) = (socket(List::Cluster), socket(List::Local));
        diverted(port, cluster, local)
    });
    ServicePlan { name: plan.name.clone(), ports: ports.collect(), health_check: plan.health_check }
}

/// `diverted` with a guard beside each port, for rules of mode nftables: what is sent to a socket
/// directly, and not to a frontend, is dropped. It is a frontend that leads nowhere and allows no
/// source.
pub(super) fn guarded(diverted: ServicePlan) -> ServicePlan {
    let mut ports = Vec::with_capacity(diverted.ports.len());
    for port in diverted.ports {
        let sockets = port.cluster.iter().chain(&*port.local);
        let guards: Vec<PortPlan> = sockets.map(|socket| guard(&port, socket)).collect();
        ports.push(port);
        ports.extend(guards);
    }
    ServicePlan { ports, ..diverted }
}

/// A socket of ours is no client of its own, so that nothing has to be done about hairpins.
fn backend(socket: SocketAddr) -> Backend {
    Backend { address: socket.ip(), port: socket.port(), place: Place::Elsewhere, weight: 1 }
}

fn diverted(port: &PortPlan, cluster: Arc<[Backend]>, local: Arc<[Backend]>) -> PortPlan {
    let answer = |verdict: Verdict| match verdict {
        Verdict::Forward(List::Cluster) if cluster.is_empty() => Verdict::Reject,
        Verdict::Forward(List::Local) if local.is_empty() => Verdict::Reject,
        other => other,
    };
    let frontends = port.frontends.iter().map(|frontend| Frontend {
        inside: answer(frontend.inside),
        outside: answer(frontend.outside),
        ..frontend.clone()
    });
    let frontends = frontends.collect();
    // Flows to other sockets are stale: those of an earlier process, or of a port that was freed.
    let serving = match port.protocol {
        Protocol::Udp => cluster.iter().chain(&*local).copied().collect(),
        Protocol::Tcp | Protocol::Sctp => Arc::default(),
    };
    PortPlan {
        family: port.family,
        name: port.name.clone(),
        protocol: port.protocol,
        cluster,
        local,
        serving,
        // The socket sees to these.
        affinity: None,
        proxy_protocol: None,
        scheduler: None,
        resting: Arc::default(),
        node_port: port.node_port,
        frontends,
    }
}

fn guard(port: &PortPlan, socket: &Backend) -> PortPlan {
    let nowhere = Verdict::Forward(List::Cluster);
    let frontend = Frontend {
        kind: FrontendKind::LoadBalancer,
        address: socket.address,
        port: socket.port,
        inside: nowhere,
        outside: nowhere,
        masquerade: Masquerade::Always,
        allowed_sources: Some(Arc::new(AllowedSources::new([]))),
    };
    PortPlan {
        family: port.family,
        name: port.name.clone(),
        protocol: port.protocol,
        cluster: Arc::default(),
        local: Arc::default(),
        serving: Arc::default(),
        affinity: None,
        proxy_protocol: None,
        scheduler: None,
        resting: Arc::default(),
        node_port: None,
        frontends: vec![frontend],
    }
}
