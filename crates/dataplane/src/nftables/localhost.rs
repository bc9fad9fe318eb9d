//! NodePorts on loopback addresses (KEP-6032).
//!
//! No rule can serve them: the kernel lets no packet with a loopback address leave the node, and
//! `route_localnet`, which would change that for IPv4, opens the node's loopback addresses to its
//! neighbours. So a process listens there, this one. Its connections to endpoints are like any of
//! the node's own, and no rule translates them.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use portolan_relay::Settings;
use portolan_service::{Frontend, PortPlan, ServicePlan, Verdict};

use crate::listeners::{Listeners, SocketName, Way, Wish};

/// Threads that serve clients on the node itself, at most. Each thread has a socket of its own for
/// every UDP port.
const THREADS: usize = 4;

/// Listeners that want nothing yet.
pub(super) fn listeners() -> Listeners {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    Listeners::new(Settings { threads: Some(processors.min(THREADS)), ..Settings::default() })
}

/// The frontends of `port` that rules serve.
pub(crate) fn by_rules(port: &PortPlan) -> impl Iterator<Item = &Frontend> {
    port.frontends.iter().filter(|frontend| !frontend.is_relayed())
}

/// What is to be listened on for `plans`.
pub(super) fn wishes<'a>(plans: impl IntoIterator<Item = &'a ServicePlan>) -> Vec<Wish> {
    let mut wishes = Vec::new();
    for plan in plans {
        for port in &plan.ports {
            let loopback = port.frontends.iter().filter(|frontend| frontend.is_relayed());
            wishes.extend(loopback.filter_map(|frontend| wish(plan, port, frontend)));
        }
    }
    wishes
}

fn wish(plan: &ServicePlan, port: &PortPlan, frontend: &Frontend) -> Option<Wish> {
    let address = SocketAddr::new(frontend.address, frontend.port);
    let endpoints = match frontend.inside {
        Verdict::Forward(list) => port.backends(list).clone(),
        Verdict::Reject | Verdict::Drop => [].into(),
    };
    Some(Wish {
        socket: SocketName::new(plan, port, address)?,
        endpoints,
        keeping: port.serving.clone(),
        affinity: port.affinity.map(|seconds| Duration::from_secs(seconds.into())),
        way: Way::default(),
    })
}

#[cfg(test)]
mod tests {
    use portolan_service::{FrontendKind, Masquerade, Protocol};

    use super::*;
    use crate::tests::plans::{CLUSTER, LOCAL, PortExt, port, service};

    #[test]
    fn what_is_listened_on() {
        let at = |plan: PortPlan, address: &str, verdict| {
            let mut plan = plan.at(FrontendKind::NodePort, address, 30080, verdict, verdict);
            plan.frontends.last_mut().expect("a frontend").masquerade = Masquerade::FromNode;
            plan
        };
        let endpoints = ["10.244.1.11:8080*", "10.244.2.21:8080"];
        let plan = |protocol| port("http", protocol, &endpoints).cluster_ip("10.96.0.1");
        let both = "10.244.1.11:8080 10.244.2.21:8080";
        for (name, port, expected) in [
            ("no NodePort on loopback", at(plan(Protocol::Tcp), "192.0.2.1", CLUSTER), None),
            ("policy Cluster", at(plan(Protocol::Tcp), "127.0.0.1", CLUSTER), Some((both, None))),
            ("policy Local", at(plan(Protocol::Tcp), "127.0.0.1", LOCAL), Some(("10.244.1.11:8080", None))),
            ("no endpoint", at(plan(Protocol::Tcp), "127.0.0.1", Verdict::Reject), Some(("", None))),
            ("UDP", at(plan(Protocol::Udp), "127.0.0.1", CLUSTER), Some((both, None))),
            ("SCTP", at(plan(Protocol::Sctp), "127.0.0.1", Verdict::Reject), None),
            (
                "session affinity",
                at(plan(Protocol::Tcp).sticky(60), "127.0.0.1", CLUSTER),
                Some((both, Some(60))),
            ),
        ] {
            let plan = service("web", vec![port]);
            let found = wishes([&plan]);
            let shown = found.first().map(|wish| {
                let of = |backend: &portolan_service::Backend| {
                    SocketAddr::new(backend.address, backend.port).to_string()
                };
                assert_eq!(wish.socket.address, "127.0.0.1:30080".parse().unwrap(), "{name}");
                let endpoints: Vec<String> = wish.endpoints.iter().map(of).collect();
                (endpoints.join(" "), wish.affinity.map(|time| time.as_secs()))
            });
            assert_eq!(shown, expected.map(|(endpoints, time)| (endpoints.to_owned(), time)), "{name}");
            assert!(by_rules(&plan.ports[0]).all(|frontend| !frontend.is_relayed()), "{name}");
        }
    }
}
