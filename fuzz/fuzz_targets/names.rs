//! DNS messages: any question gets an answer that can be read, and fits; any answer of another
//! server completes one.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portolan_names::wire::{Answers, Query};
use portolan_names::{Names, Outcome, Reply, Settings, Transport};
use portolan_service::{Change, Endpoint, EndpointNames, EndpointSlice, Family, ObjectName, Protocol};
use portolan_service::{Service, ServicePort, ServiceType, SlicePort};

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let name = |name| ObjectName::new("a", name);
    let port = ServicePort { name: "p".into(), protocol: Protocol::Tcp, port: 1, node_port: None };
    let ip = |text: &str| text.parse().unwrap();
    let endpoint = |text: &str| Endpoint {
        names: EndpointNames::new(Some("e"), None),
        zone: Some("z".into()),
        ..Endpoint::new(ip(text))
    };
    let mut names = Names::new(Settings { zonal: true, ..Settings::default() }, 1).unwrap();
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
    names.set_synced();
    names
});

// The first octet says how long the question is; the rest is what another server answers.
fuzz_target!(|bytes: &[u8]| {
    let Some((&length, rest)) = bytes.split_first() else { return };
    let (message, upstream) = rest.split_at(usize::from(length).min(rest.len()));
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut reply = Reply::new();
        match NAMES.answer(message, transport, 1, &mut reply) {
            Outcome::Silent | Outcome::Forward(_) => return,
            Outcome::Reply => {}
            Outcome::Outside(outside) => outside.finish(Some(upstream), &mut reply),
        }
        let limit = Query::parse(message).map_or(12, |query| query.limit(transport));
        assert!(reply.message().len() <= limit);
        assert_eq!(reply.message()[..2], message[..2]);
        assert!(Answers::parse(reply.message()).unwrap().all(|record| record.is_ok()));
    }
});
