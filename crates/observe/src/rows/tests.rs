use std::sync::Arc;

use portolan_service::{AllowedSources, Family, HealthCheck, ObjectName, PerFamily, Place, Protocol};

use super::*;

fn backend(last: u8, local: bool) -> Backend {
    let place = if local { Place::Here } else { Place::Elsewhere };
    Backend { address: IpAddr::from([10, 1, 0, last]), port: 8080, place, weight: 1 }
}

fn frontend(kind: FrontendKind, inside: Verdict, outside: Verdict, masquerade: Masquerade) -> Frontend {
    let address = IpAddr::from([10, 96, 0, 1]);
    Frontend { kind, address, port: 80, inside, outside, masquerade, allowed_sources: None }
}

fn relayed(verdict: Verdict) -> Frontend {
    let address = IpAddr::from([127, 0, 0, 1]);
    Frontend { address, ..frontend(FrontendKind::NodePort, verdict, verdict, Masquerade::FromNode) }
}

fn port(frontends: Vec<Frontend>) -> PortPlan {
    PortPlan {
        family: Family::V4,
        name: "dns".into(),
        protocol: Protocol::Udp,
        cluster: Arc::new([backend(3, false), backend(2, true)]),
        local: Arc::new([backend(2, true)]),
        serving: Arc::new([backend(2, true), backend(3, false), backend(9, false)]),
        affinity: Some(10800),
        proxy_protocol: None,
        scheduler: None,
        resting: Arc::default(),
        node_port: Some(30053),
        frontends,
    }
}

fn plan(ports: Vec<PortPlan>) -> ServicePlan {
    let health_check = Some(HealthCheck { port: 32000, local_endpoints: PerFamily { v4: 1, v6: 0 } });
    ServicePlan { name: ObjectName::new("kube-system", "dns"), ports, health_check }
}

#[test]
fn policies_are_those_that_lead_to_the_verdicts() {
    use FrontendKind::{ClusterIp, NodePort};
    use Masquerade::{Always, FromNode, NotLocal};
    let cluster = Verdict::Forward(List::Cluster);
    let local = Verdict::Forward(List::Local);
    for (situation, frontends, internal, external) in [
        ("ClusterIP", vec![frontend(ClusterIp, cluster, cluster, NotLocal)], Some("Cluster"), None),
        ("internal Local", vec![frontend(ClusterIp, local, local, NotLocal)], Some("Local"), None),
        (
            "internal Local, none here, §2.10",
            vec![frontend(ClusterIp, Verdict::Drop, Verdict::Drop, NotLocal)],
            Some("Local"),
            None,
        ),
        (
            "no endpoints: both policies reject",
            vec![frontend(ClusterIp, Verdict::Reject, Verdict::Reject, NotLocal)],
            None,
            None,
        ),
        (
            "external Cluster",
            vec![
                frontend(ClusterIp, cluster, cluster, NotLocal),
                frontend(NodePort, cluster, cluster, Always),
            ],
            Some("Cluster"),
            Some("Cluster"),
        ),
        (
            "NodePorts that the proxy relays, KEP-6032",
            vec![
                frontend(ClusterIp, cluster, cluster, NotLocal),
                relayed(cluster),
                frontend(NodePort, cluster, cluster, Always),
            ],
            Some("Cluster"),
            Some("Cluster"),
        ),
        (
            "those alone",
            vec![frontend(ClusterIp, cluster, cluster, NotLocal), relayed(local)],
            Some("Cluster"),
            Some("Local"),
        ),
        (
            "external Local, none here: still known, §4.6",
            vec![
                frontend(ClusterIp, cluster, cluster, NotLocal),
                frontend(NodePort, cluster, Verdict::Drop, FromNode),
            ],
            Some("Cluster"),
            Some("Local"),
        ),
    ] {
        let rows = service_rows(&plan(vec![port(frontends)]));
        assert_eq!(rows[0].internal_policy.as_deref(), internal, "{situation}");
        assert_eq!(rows[0].external_policy.as_deref(), external, "{situation}");
    }
}

#[test]
fn endpoints_of_two_lists_are_counted_once() {
    let rows = service_rows(&plan(vec![port(Vec::new())]));
    assert_eq!((rows[0].endpoints, rows[0].local_endpoints), (2, 1));
    assert_eq!((rows[0].affinity_seconds, rows[0].node_port), (Some(10800), Some(30053)));
}

#[test]
fn an_endpoint_tells_which_lists_it_is_in() {
    let rows = endpoint_rows(&plan(vec![port(Vec::new())]));
    let found: Vec<(String, bool, String)> =
        rows.iter().map(|row| (row.socket().to_string(), row.local, row.lists.join(","))).collect();
    let expected = [
        ("10.1.0.2:8080", true, "cluster,local,serving"),
        ("10.1.0.3:8080", false, "cluster,serving"),
        // Drains: established flows only.
        ("10.1.0.9:8080", false, "serving"),
    ];
    assert_eq!(found, expected.map(|(socket, local, lists)| (socket.to_owned(), local, lists.to_owned())));
}

#[test]
fn rows_are_read_as_they_are_written() {
    let mut restricted = frontend(
        FrontendKind::LoadBalancer,
        Verdict::Forward(List::Cluster),
        Verdict::Drop,
        Masquerade::FromNode,
    );
    restricted.allowed_sources = Some(Arc::new(AllowedSources::new(["192.0.2.0/24".parse().unwrap()])));
    let plan = plan(vec![port(vec![restricted])]);
    let services = service_rows(&plan);
    assert_eq!(services[0].frontends[0].allowed_sources, ["192.0.2.0/24"]);
    let text = serde_json::to_string(&services).unwrap();
    assert_eq!(serde_json::from_str::<Vec<ServiceRow>>(&text).unwrap(), services);
    let endpoints = endpoint_rows(&plan);
    let text = serde_json::to_string(&endpoints).unwrap();
    assert_eq!(serde_json::from_str::<Vec<EndpointRow>>(&text).unwrap(), endpoints);
}
