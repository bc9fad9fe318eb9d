//! A server of many names, to be measured from outside:
//! `cargo run --release -p portolan-dns --example serve -- ADDRESS SERVICES THREADS`.
//!
//! Its names are `service-N.bench.svc.cluster.local`. It ends with its input.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, RwLock};

use portolan_dns::{Block, Listener, Server, Settings};
use portolan_names::Names;
use portolan_service::{Change, ObjectName, Service};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().ok_or("which address?")?.parse()?;
    let services: u32 = arguments.next().ok_or("how many Services?")?.parse()?;
    let threads = arguments.next().map(|text| text.parse()).transpose()?;
    let mut names = Names::new(portolan_names::Settings::default(), 0x5eed)?;
    let service = |number| {
        let mut service = Service::new(ObjectName::new("bench", &format!("service-{number:05}")));
        service.cluster_ips = vec![Ipv4Addr::from_bits(0x0a60_0001 + number).into()];
        Change::from(service)
    };
    names.apply((0..services).map(|number| service(number).into()), 1);
    names.set_synced();
    let names = Some(Arc::new(RwLock::new(names)));
    let block = Block { zones: vec![".".to_owned()], names, ..Block::default() };
    let listeners = vec![Listener::new(address, vec![block])];
    let server = Server::start(Settings { listeners, threads, ..Settings::default() })?;
    println!("{:?}", server.addresses());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
