//! A server with a few names.

use std::net::SocketAddr;
use std::sync::{Arc, RwLock};

use portolan_dns::{Block, Listener, Server, Settings};
use portolan_names::Names;
use portolan_service::{Change, ObjectName, Service, ServiceType};

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

/// `web.shop.svc.cluster.local`, which is 10.96.0.1, and two aliases.
pub(crate) fn names() -> Arc<RwLock<Names>> {
    let mut names = Names::new(portolan_names::Settings::default(), 1).unwrap();
    let objects = [
        service("web", "10.96.0.1"),
        external("alias", "web.shop.svc.cluster.local"),
        external("out", "www.example.com"),
    ];
    names.apply(objects.map(Into::into), 1);
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
