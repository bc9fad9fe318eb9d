//! Tables as people see them, compared as a whole.

use std::net::IpAddr;
use std::time::Duration;

use portolan_observe::rows::{
    ChangeRow, CountsRow, DestinationRow, EndpointRow, FrontendRow, PodRow, ProbeFailureRow, ProbeRow,
    ServiceRow, TrafficRow,
};

use super::super::table;

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
        traffic: None,
        destinations: Vec::new(),
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
        &table::services(&rows, false),
        &[
            "SERVICE                TYPE       ENDPOINTS    ADDRESS",
            "shop/a-long-name:http  ClusterIP  3 (1 local)  [fd00::1]:80/tcp",
            "                       NodePort   drop         [2001:db8::1]:30080/tcp",
            "  from this node and its pods: 3 (1 local)",
            "shop/none              ClusterIP  reject       10.96.0.2:80/tcp",
            "shop/headless          -          3            -",
        ],
    );
    same(&table::services(&[], false), &["SERVICE  TYPE  ENDPOINTS  ADDRESS"]);
}

#[test]
fn names_and_addresses_of_full_length_stay_within_80_columns() {
    let full = "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff";
    let long = "a-service-with-a-name-that-nearly-fills-a-line";
    let mut limited = frontend("LoadBalancer", full, 30080, "local", "drop");
    limited.allowed_sources = (0..20).map(|number| format!("192.0.2.{number}/32")).collect();
    let rows = [ServiceRow {
        port: "https-metrics".to_owned(),
        endpoints: 120,
        local_endpoints: 12,
        ..service(long, "IPv6", vec![frontend("ClusterIP", full, 443, "cluster", "cluster"), limited])
    }];
    same(
        &table::services(&rows, false),
        &[
            "SERVICE  TYPE          ENDPOINTS       ADDRESS",
            "shop/a-service-with-a-name-that-nearly-fills-a-line:https-metrics",
            "         ClusterIP     120 (12 local)",
            "                                [2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:443/tcp",
            "         LoadBalancer  drop",
            "                              [2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:30080/tcp",
            "  from this node and its pods: 12 local",
            "  only from 192.0.2.0/32, 192.0.2.1/32, 192.0.2.2/32, 192.0.2.3/32,",
            "      192.0.2.4/32, 192.0.2.5/32, 192.0.2.6/32, 192.0.2.7/32, 192.0.2.8/32,",
            "      192.0.2.9/32, 192.0.2.10/32, 192.0.2.11/32, 192.0.2.12/32, 192.0.2.13/32,",
            "      192.0.2.14/32, 192.0.2.15/32, 192.0.2.16/32, 192.0.2.17/32, 192.0.2.18/32,",
            "      192.0.2.19/32",
        ],
    );
}

#[test]
fn what_does_not_hold_for_all_clients_is_below_the_address() {
    let sources = ["192.0.2.0/24", "198.51.100.1/32"];
    for (kind, inside, outside, sources, to, notes) in [
        ("NodePort", "local", "local", &[][..], "1 local", &[][..]),
        ("ClusterIP", "local", "cluster", &[], "1 local", &["from outside: 3 (1 local)"]),
        ("NodePort", "cluster", "local", &[], "1 local", &["from this node and its pods: 3 (1 local)"]),
        ("NodePort", "reject", "drop", &[], "drop", &["from this node and its pods: reject"]),
        ("ClusterIP", "drop", "drop", &[], "drop", &[]),
        ("LoadBalancer", "local", "local", &sources, "1 local", &["only from 192.0.2.0/24, 198.51.100.1/32"]),
    ] {
        let mut row = frontend(kind, "10.96.0.2", 80, inside, outside);
        row.allowed_sources = sources.iter().map(|source| (*source).to_owned()).collect();
        let table =
            table::services(&[ServiceRow { local_endpoints: 1, ..service("web", "IPv4", vec![row]) }], false);
        let lines: Vec<&str> = table.lines().skip(1).collect();
        let cells: Vec<&str> = lines[0].split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect();
        assert_eq!(cells, ["shop/web", kind, to, "10.96.0.2:80/tcp"], "{inside}, {outside}");
        let below: Vec<&str> = lines[1..].iter().map(|line| line.trim()).collect();
        assert_eq!(below, notes, "{inside}, {outside}");
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
        weight: None,
        traffic: None,
    };
    same(
        &table::endpoints(
            &[row([10, 1, 0, 2], true, &["cluster", "local"]), row([10, 1, 200, 3], false, &["serving"])],
            &[],
            true,
        ),
        &[
            "SERVICE        LOCAL  LISTS          ENDPOINT",
            "shop/web:http  yes    cluster,local  10.1.0.2:8080/udp",
            "               no     serving        10.1.200.3:8080/udp",
        ],
    );
}

fn counted(active: u64) -> TrafficRow {
    let counts = |connections| CountsRow {
        connections,
        packets_in: 8 * connections,
        packets_out: 7 * connections,
        bytes_in: 800 * connections,
        bytes_out: 70_000 * connections,
    };
    TrafficRow { active, inactive: 12, total: counts(15), per_second: counts(2) }
}

#[test]
fn what_was_counted_for_services() {
    let frontends =
        ["10.96.0.2", "192.0.2.1"].map(|address| frontend("ClusterIP", address, 80, "cluster", "cluster"));
    let row = ServiceRow {
        traffic: Some(counted(3)),
        destinations: vec![DestinationRow {
            address: IpAddr::from([10, 1, 0, 2]),
            target_port: 8080,
            weight: 4,
            traffic: counted(1),
        }],
        ..service("web", "IPv4", frontends.into())
    };
    let usual = [
        "SERVICE   TYPE       ENDPOINTS  ADDRESS",
        "shop/web  ClusterIP  3          10.96.0.2:80/tcp",
        "          ClusterIP  3          192.0.2.1:80/tcp",
        "  connections: 3 active, 12 inactive, 15 so far",
    ];
    same(&table::services(std::slice::from_ref(&row), false), &usual);
    let so_far = "  so far: connections 15; in: packets 120, bytes 12000; out: packets 105, bytes";
    let each_second = "  each second: connections 2; in: packets 16, bytes 1600; out: packets 14, bytes";
    let more = [so_far, "      1050000", each_second, "      140000"];
    let endpoint = ["  to 10.1.0.2:8080, weight 4: 1 active, 12 inactive, 15 so far"];
    let lines = [&usual[..], &more, &endpoint, &more].concat();
    same(&table::services(&[row], true), &lines);
}

#[test]
fn what_was_counted_for_endpoints() {
    let row = |last, traffic: Option<TrafficRow>| EndpointRow {
        namespace: "shop".to_owned(),
        service: "web".to_owned(),
        port: String::new(),
        protocol: "tcp".to_owned(),
        address: IpAddr::from([10, 1, 0, last]),
        target_port: 8080,
        local: false,
        lists: vec!["cluster".to_owned()],
        weight: traffic.map(|_| 4),
        traffic,
    };
    same(
        &table::endpoints(&[row(2, Some(counted(3))), row(3, None)], &[], false),
        &[
            "SERVICE   LOCAL  LISTS    WEIGHT  ACTIVE  INACTIVE  ENDPOINT",
            "shop/web  no     cluster  4       3       12        10.1.0.2:8080/tcp",
            "          no     cluster  -       -       -         10.1.0.3:8080/tcp",
        ],
    );
    let wide = table::endpoints(&[row(2, Some(counted(3)))], &[], true);
    assert!(wide.contains("\n  so far: connections 15; in: packets 120, "), "{wide}");
}

#[test]
fn pods_that_are_probed() {
    let probe = |kind: &str, passes, failed: Option<(f64, bool)>| ProbeRow {
        container: "web".to_owned(),
        kind: kind.to_owned(),
        passes,
        count: 7,
        ago_seconds: Some(3.2),
        took_seconds: Some(0.000_812),
        last_failure: failed.map(|(ago_seconds, over)| ProbeFailureRow {
            ago_seconds,
            reason: "HTTP probe failed with statuscode: 503".to_owned(),
            over,
        }),
    };
    let pod = |name: &str, ready: Option<bool>, probes: &[ProbeRow]| PodRow {
        namespace: "shop".to_owned(),
        pod: name.to_owned(),
        address: IpAddr::from([10, 1, 0, 2]),
        ready,
        since_seconds: ready.map(|_| 187.9),
        probes: probes.to_vec(),
    };
    let new = ProbeRow { ago_seconds: None, took_seconds: None, ..probe("startup", false, None) };
    same(
        &table::endpoints(
            &[],
            &[
                pod("web-1", Some(true), &[probe("liveness", true, None)]),
                pod("web-2", Some(true), &[probe("readiness", true, Some((4000.0, true)))]),
                pod("web-3", Some(false), &[probe("readiness", false, Some((3.2, false)))]),
                pod("web-4", None, &[new]),
            ],
            false,
        ),
        &[
            "PROBED POD  READY    SINCE  ADDRESS",
            "shop/web-1  yes      3m7s   10.1.0.2",
            "  liveness of web passes; last 3s ago, in 812.0µs",
            "shop/web-2  yes      3m7s   10.1.0.2",
            "  readiness of web passes; last 3s ago, in 812.0µs; failed 1h6m ago: HTTP probe",
            "      failed with statuscode: 503",
            "shop/web-3  no       3m7s   10.1.0.2",
            "  readiness of web fails; last 3s ago, in 812.0µs: HTTP probe failed with",
            "      statuscode: 503",
            "shop/web-4  unknown  -      10.1.0.2",
            "  startup of web: not carried out yet",
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
            "AGO    LATENCY  COMMIT   OPERATIONS",
            "2d10h  -        450.0µs  6",
            "  everything written anew",
            "2h0m   1.2ms    450.0µs  6",
            "  2 Services",
            "  failed: out of memory",
            "48s    1.2ms    450.0µs  6",
            "  shop/a: gone",
            "  shop/b: new",
            "5s     1.2ms    450.0µs  6",
            "  shop/c: endpoints 2 -> 3",
        ],
    );
}
