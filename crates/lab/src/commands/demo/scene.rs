//! What the demo shows: two nodes with a pod and a proxy each, and a client outside.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net};

use crate::Error;
use crate::own_files;
use crate::proxy::{Follows, Launch, Proxy, ProxyMode};
use crate::topology::{ClientSpec, Lab, NodeSpec, PodSpec, Spec};

/// The objects that the proxies know. The topology below is the same in the lab's own terms.
const MANIFEST: &str = include_str!("hello-app.yaml");
/// Where the Service is.
pub(super) const CLUSTER_IP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 104, 81, 240)), 80);
pub(super) const NODE_PORT: u16 = 30_811;
/// Where the pods answer.
pub(super) const POD_PORT: u16 = 8080;
/// What the underlay has for each of its hosts.
const UNDERLAY_PREFIX: u8 = 24;
/// The networks of all pods.
const CLUSTER_NETWORK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 16);
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 100);

/// A node and its pod.
pub(super) struct Host {
    pub(super) node: &'static str,
    pub(super) address: Ipv4Addr,
    pub(super) pod_network: Ipv4Net,
    pub(super) pod: &'static str,
    pub(super) pod_address: Ipv4Addr,
}

pub(super) const HOSTS: [Host; 2] = [
    Host {
        node: "host1",
        address: Ipv4Addr::new(192, 168, 50, 1),
        pod_network: Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 166, 128), 26),
        pod: "hello-app-1",
        pod_address: Ipv4Addr::new(172, 16, 166, 130),
    },
    Host {
        node: "host2",
        address: Ipv4Addr::new(192, 168, 50, 2),
        pod_network: Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 192, 64), 26),
        pod: "hello-app-2",
        pod_address: Ipv4Addr::new(172, 16, 192, 89),
    },
];

/// The lab of the demo. It ends when this is dropped.
pub(super) struct Scene {
    // Before the lab that they run in.
    _proxies: Vec<Proxy>,
    pub(super) lab: Lab,
}

impl Scene {
    /// Builds it, with its files in `state`. When this returns, the Service works everywhere.
    pub(super) fn build(program: PathBuf, state: &Path) -> Result<Scene, Error> {
        own_files::hide_those_of_the_machine()?;
        let folder = state.join("manifests");
        fs::create_dir_all(&folder).map_err(Error::io(format!("creating {}", folder.display())))?;
        let file = folder.join("hello-app.yaml");
        fs::write(&file, MANIFEST).map_err(Error::io(format!("writing {}", file.display())))?;
        let lab = Lab::build(&topology())?;
        let launch = Launch {
            program,
            follows: Follows::Manifests { folder, allocations: state.join("proxy") },
            state: state.to_owned(),
            cluster_networks: vec![CLUSTER_NETWORK.into()],
            mode: ProxyMode::default(),
            nodeport_addresses: Vec::new(),
            announcement_key: None,
        };
        let start = |host: &Host| launch.start(host.node, &lab.node(host.node)?);
        let proxies = HOSTS.iter().map(start).collect::<Result<Vec<_>, _>>()?;
        proxies.iter().try_for_each(Proxy::wait_ready)?;
        Ok(Scene { _proxies: proxies, lab })
    }
}

fn topology() -> Spec {
    let on_underlay = |address| IpNet::from(Ipv4Net::new_assert(address, UNDERLAY_PREFIX));
    let node = |host: &Host| NodeSpec {
        name: host.node.to_owned(),
        addresses: vec![on_underlay(host.address)],
        pod_networks: vec![host.pod_network.into()],
    };
    let pod = |host: &Host| PodSpec {
        name: host.pod.to_owned(),
        node: host.node.to_owned(),
        addresses: vec![host.pod_address.into()],
        ports: vec![POD_PORT],
        host_network: false,
    };
    Spec {
        nodes: HOSTS.iter().map(node).collect(),
        pods: HOSTS.iter().map(pod).collect(),
        client: ClientSpec { addresses: vec![on_underlay(CLIENT)], ..ClientSpec::default() },
        ..Spec::default()
    }
}
