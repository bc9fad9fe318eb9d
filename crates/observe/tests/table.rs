//! Tables as people see them, compared as a whole.

use std::net::IpAddr;
use std::time::Duration;

use portolan_observe::rows::{ChangeRow, EndpointRow, FrontendRow, ServiceRow};
use portolan_observe::table;

fn frontend(kind: &str, address: &str, port: u16, inside: &str, outside: &str) -> FrontendRow {
    FrontendRow {
        kind: kind.to_owned(),
        address: address.parse().unwrap(),
        port,
        inside: inside.to_owned(),
        outside: outside.to_owned(),
        allowed_sources: Vec::new(),
    }
}

fn service(name: &str, family: &str, frontends: Vec<FrontendRow>) -> ServiceRow {
    ServiceRow {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        port: String::new(),
        family: family.to_owned(),
        protocol: "tcp".to_owned(),
        frontends,
        internal_policy: Some("Cluster".to_owned()),
        external_policy: None,
        endpoints: 3,
        local_endpoints: 0,
        affinity_seconds: None,
        node_port: None,
    }
}

fn same(table: &str, expected: &[&str]) {
    assert_eq!(table.lines().collect::<Vec<_>>(), expected, "\n{table}");
}

#[test]
fn services() {
    let rows = [
        ServiceRow {
            port: "http".to_owned(),
            external_policy: Some("Local".to_owned()),
            local_endpoints: 1,
            ..service(
                "a-long-name",
                "IPv6",
                vec![
                    frontend("ClusterIP", "fd00::1", 80, "cluster", "cluster"),
                    frontend("NodePort", "2001:db8::1", 30080, "cluster", "drop"),
                ],
            )
        },
        ServiceRow {
            internal_policy: None,
            endpoints: 0,
            ..service("none", "IPv4", vec![frontend("ClusterIP", "10.96.0.2", 80, "reject", "reject")])
        },
        ServiceRow { external_policy: Some("Cluster".to_owned()), ..service("headless", "IPv4", Vec::new()) },
    ];
    same(
        &table::services(&rows),
        &[
            "NAMESPACE  NAME         PORT  FAMILY  PROTOCOL  FRONTENDS                                         POLICY                            ENDPOINTS",
            "shop       a-long-name  http  IPv6    tcp       [fd00::1]:80,[2001:db8::1]:30080 (outside: drop)  internal Cluster, external Local  3 (1 local)",
            "shop       none         -     IPv4    tcp       10.96.0.2:80 (reject)                             -                                 0",
            "shop       headless     -     IPv4    tcp       -                                                 Cluster                           3",
        ],
    );
    same(&table::services(&[]), &["NAMESPACE  NAME  PORT  FAMILY  PROTOCOL  FRONTENDS  POLICY  ENDPOINTS"]);
}

#[test]
fn frontends_tell_what_does_not_go_through() {
    for (inside, outside, sources, expected) in [
        ("cluster", "local", &[][..], "10.96.0.2:80"),
        ("drop", "local", &[], "10.96.0.2:80 (inside: drop)"),
        ("reject", "drop", &[], "10.96.0.2:80 (inside: reject; outside: drop)"),
        ("drop", "drop", &[], "10.96.0.2:80 (drop)"),
        (
            "local",
            "local",
            &["192.0.2.0/24", "198.51.100.1/32"],
            "10.96.0.2:80 (only from 192.0.2.0/24 198.51.100.1/32)",
        ),
        ("local", "drop", &["192.0.2.0/24"], "10.96.0.2:80 (outside: drop; only from 192.0.2.0/24)"),
    ] {
        let mut row = frontend("LoadBalancer", "10.96.0.2", 80, inside, outside);
        row.allowed_sources = sources.iter().map(|source: &&str| (*source).to_owned()).collect();
        let table = table::services(&[service("web", "IPv4", vec![row])]);
        assert!(table.contains(&format!("  {expected}  ")), "{expected} is not in\n{table}");
    }
}

#[test]
fn endpoints() {
    let row = |address: [u8; 4], local, lists: &[&str]| EndpointRow {
        namespace: "shop".to_owned(),
        service: "web".to_owned(),
        port: "http".to_owned(),
        protocol: "udp".to_owned(),
        address: IpAddr::from(address),
        target_port: 8080,
        local,
        lists: lists.iter().map(|list| (*list).to_owned()).collect(),
    };
    same(
        &table::endpoints(&[
            row([10, 1, 0, 2], true, &["cluster", "local"]),
            row([10, 1, 200, 3], false, &["serving"]),
        ]),
        &[
            "NAMESPACE  SERVICE  PORT  PROTOCOL  ENDPOINT         LOCAL  LISTS",
            "shop       web      http  udp       10.1.0.2:8080    yes    cluster,local",
            "shop       web      http  udp       10.1.200.3:8080  no     serving",
        ],
    );
}

#[test]
fn changes() {
    let row = |at: &str, lines: &[&str]| ChangeRow {
        at: at.to_owned(),
        services: Vec::new(),
        service_count: 2,
        lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        full: false,
        event_to_commit_seconds: Some(0.0012),
        commit_seconds: 0.000_45,
        operations: 6,
        error: None,
    };
    let rows = [
        ChangeRow {
            full: true,
            service_count: 0,
            event_to_commit_seconds: None,
            ..row("2024-02-27T00:00:00Z", &[])
        },
        ChangeRow { error: Some("out of memory".to_owned()), ..row("2024-02-29T08:29:59.5Z", &[]) },
        row("2024-02-29T10:29:17Z", &["shop/a: gone", "shop/b: new"]),
        row("2024-02-29T10:30:00Z", &["shop/c: endpoints 2 -> 3"]),
    ];
    // 2024-02-29T10:30:05Z
    same(
        &table::changes(&rows, Duration::from_secs(1_709_202_605)),
        &[
            "AGO    LATENCY  COMMIT   OPERATIONS  CHANGE",
            "2d10h  -        450.0µs  6           everything written anew",
            "2h0m   1.2ms    450.0µs  6           2 Services",
            "                                     failed: out of memory",
            "48s    1.2ms    450.0µs  6           shop/a: gone",
            "                                     shop/b: new",
            "5s     1.2ms    450.0µs  6           shop/c: endpoints 2 -> 3",
        ],
    );
}
