//! Host ports as chains of iptables, by the names that kubelet's kubenet gave them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use data_encoding::BASE32;
use ipnet::IpNet;
use sha2::{Digest, Sha256};

use super::program;
use super::{HostPort, HostPorts, PodName, of_family};
use crate::Error;
use crate::netns::Namespace;
use crate::topology::POD_BRIDGE;

/// All host ports, and those that one pod's own packets come back through.
const PORTS: &str = "KUBE-HOSTPORTS";
const HAIRPIN: &str = "KUBE-HOSTPORTS-MASQ";

/// The chains of one family on a node.
#[derive(Debug)]
pub(super) struct Chains {
    cluster_network: IpNet,
    /// Of single ports, as they are in the kernel.
    of_ports: BTreeSet<String>,
}

impl Chains {
    pub(super) fn new(cluster_network: IpNet) -> Chains {
        Chains { cluster_network, of_ports: BTreeSet::new() }
    }

    /// Puts the empty chains in place, on a node that has none yet.
    pub(super) fn begin(&self, node: &Namespace) -> Result<(), Error> {
        self.restore(node, &beginning(self.cluster_network))
    }

    /// Makes these the host ports of the family.
    pub(super) fn set(&mut self, node: &Namespace, host_ports: &HostPorts) -> Result<(), Error> {
        let (script, of_ports) = script(&self.of_ports, host_ports, self.is_ipv4());
        self.restore(node, &script)?;
        self.of_ports = of_ports;
        Ok(())
    }

    fn is_ipv4(&self) -> bool {
        self.cluster_network.addr().is_ipv4()
    }

    fn restore(&self, node: &Namespace, script: &str) -> Result<(), Error> {
        let program = if self.is_ipv4() { "iptables-restore" } else { "ip6tables-restore" };
        program::run(node, program, &["--noflush", "--wait", "5"], script)
    }
}

/// What is there from the beginning. The rules that lead to host ports are appended, and the
/// proxy's are inserted, so these are the last.
fn beginning(cluster_network: IpNet) -> String {
    let mut script = format!("*nat\n:{PORTS} - [0:0]\n:{HAIRPIN} - [0:0]\n");
    for chain in ["PREROUTING", "OUTPUT"] {
        let _ = writeln!(
            script,
            "-A {chain} -m comment --comment \"kube hostport portals\" -m addrtype --dst-type LOCAL -j {PORTS}"
        );
    }
    let _ =
        writeln!(script, "-A POSTROUTING -m comment --comment \"kube hostport masquerading\" -j {HAIRPIN}");
    let _ = writeln!(
        script,
        "-A POSTROUTING ! -d {cluster_network} -m comment --comment \"kubenet: SNAT for outbound traffic from \
         cluster\" -m addrtype ! --dst-type LOCAL -j MASQUERADE"
    );
    if cluster_network.addr().is_ipv4() {
        let _ = writeln!(
            script,
            "-A POSTROUTING -s 127.0.0.0/8 -o {POD_BRIDGE} -m comment --comment \"SNAT for localhost access to \
             hostports\" -j MASQUERADE"
        );
    }
    script.push_str("COMMIT\n");
    script
}

/// From the chains of `before` to those of `host_ports`, which are named in the second value.
fn script(before: &BTreeSet<String>, host_ports: &HostPorts, ipv4: bool) -> (String, BTreeSet<String>) {
    let mut chains = BTreeSet::new();
    let (mut rules, mut pods) = (String::new(), BTreeSet::new());
    // Ports of one address go before those of all.
    let mut all: Vec<_> = of_family(host_ports, ipv4).collect();
    all.sort_by_key(|(_, port)| port.bound_to().is_none());
    for (pod, port) in all {
        let chain = chain(pod, port);
        let comment =
            format!("-m comment --comment \"{}_{} hostport {}\"", pod.name, pod.namespace, port.port);
        let protocol = port.protocol;
        let address = port.bound_to().map_or(String::new(), |ip| format!("-d {ip} "));
        let _ = writeln!(
            rules,
            "-A {PORTS} {address}-p {protocol} {comment} -m {protocol} --dport {} -j {chain}",
            port.port
        );
        if chains.insert(chain.clone()) {
            let to = std::net::SocketAddr::new(port.pod_ip, port.pod_port);
            let _ = writeln!(
                rules,
                "-A {chain} -p {protocol} {comment} -m {protocol} -j DNAT --to-destination {to}"
            );
        }
        pods.insert(port.pod_ip);
    }
    let mut script = format!("*nat\n:{PORTS} - [0:0]\n:{HAIRPIN} - [0:0]\n");
    for chain in before.union(&chains) {
        let _ = writeln!(script, ":{chain} - [0:0]");
    }
    script.push_str(&rules);
    for pod in pods {
        let _ = writeln!(script, "{}", hairpin(pod));
    }
    for gone in before.difference(&chains) {
        let _ = writeln!(script, "-X {gone}");
    }
    script.push_str("COMMIT\n");
    (script, chains)
}

fn hairpin(pod: IpAddr) -> String {
    format!("-A {HAIRPIN} -s {pod} -d {pod} -m conntrack --ctstate DNAT -j MASQUERADE")
}

/// `KUBE-HP-` and a hash of what identifies the port.
fn chain(pod: &PodName, port: &HostPort) -> String {
    let protocol = port.protocol.to_string().to_uppercase();
    let address = port.bound_to().map_or(String::new(), |ip| ip.to_string());
    let text = format!("{}{protocol}{}_{}{address}", port.port, pod.name, pod.namespace);
    let hash = BASE32.encode(&Sha256::digest(text.as_bytes()));
    format!("KUBE-HP-{}", hash.get(..16).unwrap_or(&hash))
}

#[cfg(test)]
mod tests {
    use portolan_service::Protocol;

    use super::*;

    #[test]
    fn chains_come_and_go_in_one_script() {
        let pod = PodName { namespace: "default".to_owned(), name: "web".to_owned() };
        let port = |ip: &str, pod_ip: &str| HostPort {
            ip: ip.parse().ok(),
            port: 8080,
            protocol: Protocol::Tcp,
            pod_ip: pod_ip.parse().unwrap(),
            pod_port: 80,
        };
        let ports = vec![
            port("", "10.244.1.2"),
            port("192.168.50.1", "10.244.1.2"),
            port("", "fd00::2"),
            port("fd00::1", "10.244.1.2"),
        ];
        let before = BTreeSet::from(["KUBE-HP-GONE".to_owned()]);
        let host_ports = HostPorts::from([(pod.clone(), ports.clone())]);
        let (text, chains) = script(&before, &host_ports, true);
        let (all, one) = (chain(&pod, &ports[0]), chain(&pod, &ports[1]));
        assert_eq!(chains, BTreeSet::from([all.clone(), one.clone()]));
        let comment = "-m comment --comment \"web_default hostport 8080\"";
        let expected = [
            format!("-A KUBE-HOSTPORTS -d 192.168.50.1 -p tcp {comment} -m tcp --dport 8080 -j {one}"),
            format!("-A {one} -p tcp {comment} -m tcp -j DNAT --to-destination 10.244.1.2:80"),
            format!("-A KUBE-HOSTPORTS -p tcp {comment} -m tcp --dport 8080 -j {all}"),
            format!("-A {all} -p tcp {comment} -m tcp -j DNAT --to-destination 10.244.1.2:80"),
            hairpin("10.244.1.2".parse().unwrap()),
            "-X KUBE-HP-GONE".to_owned(),
        ];
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('-')).collect();
        assert_eq!(lines, expected);
        assert!(text.contains("\n:KUBE-HP-GONE - [0:0]\n"), "it is emptied before it goes: {text}");
        let (text, chains) = script(&chains, &HostPorts::new(), true);
        assert!(chains.is_empty() && text.contains(&format!("-X {all}\n")), "{text}");
    }
}
