//! What this mode does not serve, and how that is said.

use portolan_service::{FrontendKind, PortPlan, Protocol, Verdict};

use super::{numbered, on};
use crate::tests::plans::{CLUSTER, PortExt, ip, port, service};
use crate::userspace::UserspaceSettings;
use crate::userspace::unserved::reasons;
use crate::userspace::wishes::{Shuffle, wishes};

#[test]
fn sctp_and_families_without_an_address_are_refused() {
    let plan = service(
        "all",
        vec![
            port("web", Protocol::Tcp, &["10.1.0.1:80"]).cluster_ip("10.96.0.1"),
            port("old", Protocol::Sctp, &["10.1.0.1:9"]).cluster_ip("10.96.0.1"),
            port("", Protocol::Tcp, &["[fd00:1::1]:80"]).at(
                FrontendKind::ClusterIp,
                "fd00:96::1",
                80,
                CLUSTER,
                CLUSTER,
            ),
        ],
    );
    let settings = on("192.168.50.1");
    assert_eq!(
        reasons(&plan, &settings).into_iter().collect::<Vec<_>>(),
        [
            "port \"old\": SCTP is not served in mode userspace, connections are refused; use mode nftables",
            "port: the node has no IPv6 address to listen on, connections are refused; give it one, or set --bind-address",
        ]
    );
    let wishes = wishes(&plan, &settings, &Shuffle::default(), |_, _| Some(0));
    let names: Vec<String> = wishes.iter().map(|wish| wish.socket.to_string()).collect();
    assert_eq!(names, ["192.168.50.1:0/TCP of Service port shop/all:web"]);
    let addresses = portolan_service::PerFamily { v4: ip("192.168.50.1"), v6: ip("fd00:50::1") };
    let diverted = numbered(&[plan], addresses);
    let of_sctp = diverted[0].ports.iter().find(|port| &*port.name == "old").expect("it is there");
    assert_eq!(of_sctp.frontends[0].inside, Verdict::Reject);
}

#[test]
fn node_ports_in_the_range_of_sockets_are_reported() {
    let of = |number| PortPlan {
        node_port: Some(number),
        ..port("web", Protocol::Tcp, &["10.1.0.1:80"]).cluster_ip("10.96.0.1")
    };
    for (range, node_port, expected) in [
        (None, 30_080, false),
        (Some(30_000..=30_080), 30_080, true),
        (Some(30_000..=30_079), 30_080, false),
        (Some(40_000..=41_000), 30_080, false),
    ] {
        let settings = UserspaceSettings { ports: range.clone(), ..on("192.168.50.1") };
        let found = reasons(&service("shop", vec![of(node_port)]), &settings);
        assert_eq!(!found.is_empty(), expected, "{node_port} in {range:?}: {found:?}");
        let said = "port \"web\": NodePort 30080 is in --proxy-port-range 30000-30080, ";
        assert!(found.iter().all(|reason| reason.starts_with(said)), "{found:?}");
    }
}
