//! DNS messages: any question gets an answer that can be read, and fits, also one that a search
//! goes on with; any answer of another server completes one.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portolan_names::wire::{Answers, Query};
use portolan_names::{Names, Outcome, Reply, Search, Settings, Sought, Transport};
use portolan_service::{Change, Endpoint, EndpointNames, EndpointSlice, Family, ObjectName, Protocol};
use portolan_service::{NamesChange, Pod, PodPhase, Service, ServicePort, ServiceType, SlicePort};

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let name = |name| ObjectName::new("a", name);
    let port = ServicePort { name: "p".into(), protocol: Protocol::Tcp, port: 1, node_port: None };
    let ip = |text: &str| text.parse().unwrap();
    let endpoint = |text: &str| Endpoint {
        names: EndpointNames::new(Some("e"), None),
        zone: Some("z".into()),
        ..Endpoint::new(ip(text))
    };
    let search = Some(Search { domains: Vec::new(), list: vec!["o.example".to_owned()] });
    let mut names = Names::new(Settings { zonal: true, search, ..Settings::default() }, 1).unwrap();
    let objects = [
        Change::from(Service {
            cluster_ip: Some(ip("10.96.0.1")),
            cluster_ips: vec![ip("10.96.0.1"), ip("fd00::1")],
            ports: vec![port.clone()],
            ..Service::new(name("s"))
        }),
        Change::from(Service { headless: true, ports: vec![port], ..Service::new(name("h")) }),
        Change::from(Service {
            kind: ServiceType::ExternalName,
            external_name: Some("o.example".into()),
            ..Service::new(name("x"))
        }),
        Change::from(EndpointSlice {
            name: name("h-1"),
            service: name("h"),
            family: Family::V4,
            ports: vec![SlicePort { name: "p".into(), protocol: Protocol::Tcp, port: Some(1) }],
            endpoints: vec![endpoint("10.1.0.1"), endpoint("10.1.0.2"), Endpoint::new(ip("10.1.0.3"))],
        }),
    ];
    names.apply(objects.map(Into::into), 1);
    let pod = Pod {
        name: name("client"),
        addresses: vec![ip("10.1.0.9")],
        phase: PodPhase::Running,
        leaving: false,
    };
    names.apply([NamesChange::Pod(pod).into()], 1);
    names.set_synced();
    names
});

/// Goes on as for a pod, as far as there are names.
fn search(message: &[u8], transport: Transport, upstream: &[u8], reply: &mut Reply) {
    let Ok(query) = Query::parse(message) else { return };
    if reply.message()[3] & 0xf != 3 {
        return;
    }
    let mut sought = NAMES.search(&query, [10, 1, 0, 9].into(), transport, 1, reply);
    loop {
        sought = match sought {
            Sought::Reply => return,
            Sought::Outside(outside) => return outside.finish(Some(upstream), reply),
            Sought::Others(searching) => NAMES.search_on(searching, 1, reply),
        };
    }
}

// The first octet says how long the question is; the rest is what another server answers.
fuzz_target!(|bytes: &[u8]| {
    let Some((&length, rest)) = bytes.split_first() else { return };
    let (message, upstream) = rest.split_at(usize::from(length).min(rest.len()));
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut reply = Reply::new();
        match NAMES.answer(message, transport, 1, &mut reply) {
            Outcome::Silent | Outcome::Forward(_) => return,
            Outcome::Reply => search(message, transport, upstream, &mut reply),
            Outcome::Outside(outside) => outside.finish(Some(upstream), &mut reply),
        }
        let limit = Query::parse(message).map_or(12, |query| query.limit(transport));
        assert!(reply.message().len() <= limit);
        assert_eq!(reply.message()[..2], message[..2]);
        assert!(Answers::parse(reply.message()).unwrap().all(|record| record.is_ok()));
    }
});
