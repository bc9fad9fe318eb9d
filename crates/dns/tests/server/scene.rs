//! A server with a few names.

use std::net::SocketAddr;
use std::sync::{Arc, RwLock};

use portolan_dns::{Block, Listener, Server, Settings};
use portolan_names::Names;
use portolan_service::{Change, Endpoint, EndpointSlice, Family, ObjectName, Service, ServiceType};

/// A server, and its names to be changed.
pub(crate) struct Scene {
    pub(crate) server: Server,
    pub(crate) names: Arc<RwLock<Names>>,
}

/// A Service with a ClusterIP.
pub(crate) fn service(name: &str, address: &str) -> Change {
    let mut service = Service::new(ObjectName::new("shop", name));
    service.cluster_ips = vec![address.parse().unwrap()];
    service.into()
}

/// An ExternalName Service.
pub(crate) fn external(name: &str, target: &str) -> Change {
    let mut service = Service::new(ObjectName::new("shop", name));
    service.kind = ServiceType::ExternalName;
    service.external_name = Some(target.into());
    service.into()
}

/// `large.shop.svc.cluster.local`, a headless Service whose 4000 addresses fill a message of 64 kB.
fn large() -> [Change; 2] {
    let name = ObjectName::new("shop", "large");
    let mut service = Service::new(name.clone());
    service.headless = true;
    let address = |number: u32| std::net::Ipv4Addr::from_bits(0x0a01_0000 + number);
    let endpoints = (0..4000).map(|number| Endpoint::new(address(number).into())).collect();
    let slice = EndpointSlice {
        name: ObjectName::new("shop", "large-a"),
        service: name,
        family: Family::V4,
        ports: Vec::new(),
        endpoints,
    };
    [service.into(), slice.into()]
}

/// `web.shop.svc.cluster.local`, which is 10.96.0.1, and two aliases.
pub(crate) fn names() -> Arc<RwLock<Names>> {
    let mut names = Names::new(portolan_names::Settings::default(), 1).unwrap();
    let mut objects = vec![
        service("web", "10.96.0.1"),
        external("alias", "web.shop.svc.cluster.local"),
        external("out", "www.example.com"),
    ];
    objects.extend(large());
    names.apply(objects.into_iter().map(Into::into), 1);
    names.set_synced();
    Arc::new(RwLock::new(names))
}

/// All names, the cluster's among them.
pub(crate) fn block(names: &Arc<RwLock<Names>>) -> Block {
    Block { zones: vec![".".to_owned()], names: Some(names.clone()), ..Block::default() }
}

impl Scene {
    /// With what `change` makes of the settings for one listener on a port that is free.
    pub(crate) fn new(change: impl FnOnce(&mut Settings)) -> Scene {
        let names = names();
        let listener = Listener::new("127.0.0.1:0".parse().unwrap(), vec![block(&names)]);
        let mut settings = Settings { listeners: vec![listener], threads: Some(2), ..Settings::default() };
        change(&mut settings);
        Scene { server: Server::start(settings).unwrap(), names }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.addresses()[0]
    }
}
