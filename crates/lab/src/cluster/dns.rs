//! The cluster's DNS: the Service `kube-system/kube-dns`, and pods in which `portolan dns` answers.
//! Manifests may bring the one, or both.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::folder::Taken;
use super::workload::{Count, Wanted, WantedPods};
use super::{DNS_NAMESPACE, DNS_SERVICE, own_files, proxy};
use crate::Error;
use crate::netns::Namespace;

/// What the lab's own pods are called.
const PODS: &str = "portolan-dns";
/// How many there are.
const REPLICAS: u32 = 2;
/// Where `portolan dns` listens: DNS, health, readiness, metrics.
const PORTS: [u16; 4] = [53, 8080, 8181, 9153];
/// From its start to its first answer, on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Between two questions whether it answers yet.
const PAUSE: Duration = Duration::from_millis(20);

/// kubeadm's, without servers to forward to: the lab has no outside.
const COREFILE: &str = "\
.:53 {
    errors
    health
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        ttl 5
    }
    prometheus :9153
    loadbalance
}
";

/// Adds what manifests do not bring, and marks the pods in which the DNS answers. Returns the
/// objects of the lab's own.
pub(super) fn complete(taken: &mut Taken, ipv4: bool) -> Vec<Value> {
    let own = taken.services.iter().find(|it| (&*it.namespace, &*it.name) == (DNS_NAMESPACE, DNS_SERVICE));
    let (selector, objects) = if let Some(given) = own {
        (given.selector.clone(), Vec::new())
    } else {
        let selector = BTreeMap::from([("k8s-app".to_owned(), DNS_SERVICE.to_owned())]);
        let taken: Vec<IpAddr> = taken.services.iter().flat_map(|it| it.addresses.clone()).collect();
        (selector.clone(), vec![service(&selector, &taken, ipv4)])
    };
    // Its endpoints may be given by hand.
    if selector.is_empty() {
        return objects;
    }
    let is_selected = |pods: &WantedPods| {
        pods.namespace == DNS_NAMESPACE
            && selector.iter().all(|(key, value)| pods.labels[key] == value.as_str())
    };
    let mut any = false;
    for item in &mut taken.wanted {
        if let Wanted::Pods(pods) = item
            && is_selected(pods)
        {
            any = true;
            pods.runs_dns = true;
            pods.ports.retain(|port| !PORTS.contains(port));
        }
    }
    if !any {
        taken.wanted.push(Wanted::Pods(pods(&selector)));
    }
    objects
}

/// kubeadm's Service: the tenth address of the range, or the next that nobody asks for.
fn service(selector: &BTreeMap<String, String>, taken: &[IpAddr], ipv4: bool) -> Value {
    let address = |number: u8| -> IpAddr {
        if ipv4 { [10, 96, 0, number].into() } else { [0xfd00, 0x10, 0x96, 0, 0, 0, 0, number.into()].into() }
    };
    let free = (10..=250).map(address).find(|address| !taken.contains(address));
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": DNS_SERVICE, "namespace": DNS_NAMESPACE},
        "spec": {
            "clusterIP": free,
            "selector": selector,
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
                {"name": "metrics", "port": 9153, "protocol": "TCP"},
            ],
        },
    })
}

fn pods(labels: &BTreeMap<String, String>) -> WantedPods {
    WantedPods {
        namespace: DNS_NAMESPACE.to_owned(),
        name: PODS.to_owned(),
        count: Count::Replicas(REPLICAS),
        labels: json!(labels),
        node: None,
        addresses: Vec::new(),
        host_network: false,
        containers: json!([]),
        ports: Vec::new(),
        ready: true,
        naming: Box::default(),
        naming_fields: json!({"dnsPolicy": "Default"}),
        runs_dns: true,
    }
}

/// What all servers of a cluster are started with.
#[derive(Debug)]
pub(super) struct DnsLaunch {
    program: PathBuf,
    manifests: PathBuf,
    state: PathBuf,
}

impl DnsLaunch {
    pub(super) fn new(program: &Path, manifests: &Path, state: &Path) -> Result<DnsLaunch, Error> {
        let conf = state.join("Corefile");
        fs::write(&conf, COREFILE).map_err(Error::io(format!("writing {}", conf.display())))?;
        Ok(DnsLaunch {
            program: program.to_owned(),
            manifests: manifests.to_owned(),
            state: state.to_owned(),
        })
    }

    /// Starts the server in a pod; [`DnsServer::wait_ready`] waits until it answers.
    pub(super) fn start(&self, pod: &str, addresses: &[IpAddr], at: &Namespace) -> Result<DnsServer, Error> {
        let what = || format!("starting the DNS server of pod {pod}");
        let log = self.state.join(format!("{}.log", pod.replace('/', "+")));
        own_files(&self.state, pod).create()?;
        let output = File::create(&log).map_err(Error::io(format!("creating {}", log.display())))?;
        let mut command = Command::new(&self.program);
        command.arg("dns").arg("--manifests").arg(&self.manifests);
        command.arg("--conf").arg(self.state.join("Corefile"));
        // Where the proxies write down which addresses they gave to whom.
        command.arg("--state-dir").arg(proxy::state_dir(&self.state));
        command.stdin(std::process::Stdio::null());
        command.stdout(output.try_clone().map_err(Error::io(what()))?).stderr(output);
        let child = at.spawn(&mut command)?;
        Ok(DnsServer { pod: pod.to_owned(), child, log, at: at.clone(), address: addresses.first().copied() })
    }
}

/// A server that was started. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct DnsServer {
    pod: String,
    child: Child,
    log: PathBuf,
    at: Namespace,
    address: Option<IpAddr>,
}

impl DnsServer {
    /// Waits until it answers for the cluster's names.
    pub(super) fn wait_ready(&mut self) -> Result<(), Error> {
        let Some(address) = self.address else { return Ok(()) };
        let to = SocketAddr::new(address, PORTS[0]);
        let until = Instant::now() + READY_WITHIN;
        while !self.at.run(|| answers(to))? {
            let ended = self.child.try_wait().map_err(Error::io("waiting for a DNS server"))?;
            if ended.is_some() || Instant::now() >= until {
                return Err(Error::Dns { pod: self.pod.clone(), log: proxy::last_lines(&self.log) });
            }
            // Another process; nothing of it can be awaited.
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether `to` answers a question for the SOA record of the cluster's domain.
fn answers(to: SocketAddr) -> bool {
    const QUESTION: &[u8] = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x07cluster\x05local\0\0\x06\0\x01";
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    let asked = || -> io::Result<bool> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.connect(to)?;
        socket.send(QUESTION)?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        // Its code is the low half of the fourth octet.
        Ok(length > 3 && answer[3] % 16 == 0)
    };
    asked().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::workload::Declared;
    use super::*;

    fn declared(name: &str, selector: &[(&str, &str)], address: &str) -> Declared {
        Declared {
            namespace: DNS_NAMESPACE.to_owned(),
            name: name.to_owned(),
            selector: selector.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            addresses: address.parse().into_iter().collect(),
        }
    }

    #[test]
    fn what_manifests_do_not_bring_is_added() {
        let own = || WantedPods {
            name: "coredns".to_owned(),
            ports: vec![53, 9153, 80],
            runs_dns: false,
            ..pods(&BTreeMap::from([("a".to_owned(), "b".to_owned())]))
        };
        for (situation, services, wanted, ipv4, address, names) in [
            ("nothing", vec![], vec![], true, Some("10.96.0.10"), "portolan-dns"),
            ("IPv6 only", vec![], vec![], false, Some("fd00:10:96::a"), "portolan-dns"),
            (
                "its address",
                vec![declared("a", &[], "10.96.0.10")],
                vec![],
                true,
                Some("10.96.0.11"),
                "portolan-dns",
            ),
            (
                "the Service",
                vec![declared("kube-dns", &[("a", "b")], "")],
                vec![],
                true,
                None,
                "portolan-dns",
            ),
            ("both", vec![declared("kube-dns", &[("a", "b")], "")], vec![own()], true, None, "coredns"),
            ("no selector", vec![declared("kube-dns", &[], "")], vec![], true, None, ""),
        ] {
            let wanted = wanted.into_iter().map(Wanted::Pods).collect();
            let mut taken = Taken { wanted, services, ..Taken::default() };
            let objects = complete(&mut taken, ipv4);
            let given = objects.first().map(|service| service["spec"]["clusterIP"].clone());
            assert_eq!(given, address.map(|address| json!(address)), "{situation}");
            let all: Vec<&WantedPods> = taken
                .wanted
                .iter()
                .filter_map(|item| if let Wanted::Pods(pods) = item { Some(pods) } else { None })
                .collect();
            let found: Vec<&str> = all.iter().map(|pods| pods.name.as_str()).collect();
            assert_eq!(found.join(" "), names, "{situation}");
            assert!(
                all.iter().all(|pods| pods.runs_dns && !pods.ports.contains(&53)),
                "{situation}: {all:?}"
            );
        }
    }
}
