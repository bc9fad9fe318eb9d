//! How much memory names take: `cargo run --release --example memory -- SERVICES ENDPOINTS`.
//!
//! Prints what the process holds (VmRSS of /proc/self/status) before, with the objects alone, and
//! with names made from them, and how long the latter took.

use std::sync::Arc;
use std::time::Instant;

use portolan_names::{Names, Settings, Update};
use portolan_service::{
    Change, Endpoint, EndpointNames, EndpointSlice, Family, ObjectName, Protocol, Service, ServicePort,
    SlicePort,
};

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.map_or("?", |line| line.trim_start_matches("VmRSS:").trim()).to_owned()
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|text| text.parse::<u32>().ok());
    let services = arguments.next().unwrap_or(10_000).max(1);
    let endpoints = arguments.next().unwrap_or(20_000);
    println!("before: {}", resident());
    let objects = objects(services, endpoints);
    println!("objects of {services} Services and {endpoints} endpoints: {}", resident());
    let start = Instant::now();
    let mut names = Names::new(Settings::default(), 1).expect("the default settings");
    names.apply(objects.iter().cloned().map(Update::from), 1);
    names.set_synced();
    println!("names: {}, after {:?}", resident(), start.elapsed());
    drop(objects);
    println!("names alone: {}", resident());
    assert!(names.is_synced());
}

fn objects(services: u32, endpoints: u32) -> Vec<Change> {
    let (http, zones): (Arc<str>, [Arc<str>; 3]) = ("http".into(), ["a".into(), "b".into(), "c".into()]);
    let nodes: Vec<Arc<str>> = (0..200).map(|number| format!("node-{number}").into()).collect();
    let mut objects = Vec::new();
    let mut next = 0u32;
    for number in 0..services {
        let name = ObjectName::new(&format!("namespace-{}", number / 50), &format!("service-{number}"));
        let address = std::net::Ipv4Addr::from_bits(0x0a60_0001 + number).into();
        objects.push(Change::from(Service {
            cluster_ip: Some(address),
            cluster_ips: vec![address],
            ip_families: vec![Family::V4],
            ports: vec![ServicePort {
                name: http.clone(),
                protocol: Protocol::Tcp,
                port: 80,
                node_port: None,
            }],
            ..Service::new(name.clone())
        }));
        let until =
            u32::try_from(u64::from(endpoints) * u64::from(number + 1) / u64::from(services)).unwrap_or(0);
        let list: Vec<Endpoint> = (next..until)
            .map(|number| Endpoint {
                node: Some(nodes[number as usize % nodes.len()].clone()),
                zone: Some(zones[number as usize % zones.len()].clone()),
                names: EndpointNames::new(None, Some(&format!("service-7d9f8b6c5-{number:06}"))),
                ..Endpoint::new(std::net::Ipv4Addr::from_bits(0x0b00_0001 + number).into())
            })
            .collect();
        next = until;
        objects.push(Change::from(EndpointSlice {
            name: ObjectName::new(name.namespace(), &format!("{}-x7x7x", name.name())),
            service: name,
            family: Family::V4,
            ports: vec![SlicePort { name: http.clone(), protocol: Protocol::Tcp, port: Some(8080) }],
            endpoints: list,
        }));
    }
    objects
}
