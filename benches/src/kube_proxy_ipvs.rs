//! What kube-proxy's mode ipvs writes for a cluster (spec §7): virtual servers, addresses on a
//! device, sets, and chains of iptables that look into them.

use std::fmt::Write as _;

use portolan_service::Protocol;

use crate::cluster::{ENDPOINT_PORT, POD_NETWORK, SERVICE_PORT, Shape, members};
use crate::ipvs::FLOW_SECONDS;
use crate::namespace;
use crate::process::output_of;

/// The chains, with those rules that its sets lead to.
const CHAINS: &str = "*nat
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN
-A KUBE-SERVICES ! -s PODS -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
COMMIT
*filter
:KUBE-FORWARD - [0:0]
:KUBE-IPVS-FILTER - [0:0]
:KUBE-IPVS-OUT-FILTER - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SOURCE-RANGES-FIREWALL - [0:0]
-A INPUT -j KUBE-IPVS-FILTER
-A INPUT -j KUBE-PROXY-FIREWALL
-A INPUT -j KUBE-NODE-PORT
-A FORWARD -j KUBE-PROXY-FIREWALL
-A FORWARD -j KUBE-FORWARD
-A OUTPUT -j KUBE-IPVS-OUT-FILTER
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-IPVS-FILTER -m set --match-set KUBE-LOAD-BALANCER dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-EXTERNAL-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-EXTERNAL-IP-LOCAL dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j RETURN
-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT
-A KUBE-NODE-PORT -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j ACCEPT
COMMIT
";

/// Its device, which is never up.
const DEVICE: &str = "kube-ipvs0";

/// Brings it into force in the network namespace of the calling thread.
pub(crate) fn load(shape: Shape) -> anyhow::Result<()> {
    output_of("ipset", &["restore"], &sets(shape))?;
    output_of("iptables-restore", &["--noflush"], &CHAINS.replace("PODS", POD_NETWORK))?;
    output_of("ip", &["-batch", "-"], &addresses(shape))?;
    output_of("ipvsadm", &["-R"], &servers(shape))?;
    // What is set when the first virtual server is there.
    for setting in ["conntrack", "expire_nodest_conn", "expire_quiescent_template"] {
        namespace::write(format!("/proc/sys/net/ipv4/vs/{setting}"), "1")?;
    }
    output_of("ipvsadm", &["--set", "0", "0", &FLOW_SECONDS.to_string()], "").map(drop)
}

fn sets(shape: Shape) -> String {
    let mut text = String::from("create KUBE-CLUSTER-IP hash:ip,port maxelem 65536\n");
    for name in ["KUBE-LOAD-BALANCER", "KUBE-EXTERNAL-IP", "KUBE-EXTERNAL-IP-LOCAL"] {
        let _ = writeln!(text, "create {name} hash:ip,port");
    }
    text.push_str(
        "create KUBE-IPVS-IPS hash:ip maxelem 65536\ncreate KUBE-HEALTH-CHECK-NODE-PORT bitmap:port range 0-65535\n\
         create KUBE-LOOP-BACK hash:ip,port,ip\n",
    );
    for member in members(shape, Protocol::Udp) {
        let address = member.cluster_ip();
        let _ =
            writeln!(text, "add KUBE-CLUSTER-IP {address},udp:{SERVICE_PORT}\nadd KUBE-IPVS-IPS {address}");
    }
    // Those of the node's own pods.
    for member in members(shape, Protocol::Udp).step_by(100) {
        let endpoint = member.endpoint(0);
        let _ = writeln!(text, "add KUBE-LOOP-BACK {endpoint},udp:{ENDPOINT_PORT},{endpoint}");
    }
    text
}

fn addresses(shape: Shape) -> String {
    let mut text = format!("link add {DEVICE} type dummy\n");
    for member in members(shape, Protocol::Udp) {
        let _ = writeln!(text, "addr add {}/32 dev {DEVICE}", member.cluster_ip());
    }
    text
}

fn servers(shape: Shape) -> String {
    let mut text = String::new();
    for member in members(shape, Protocol::Udp) {
        let server = format!("-u {}:{SERVICE_PORT}", member.cluster_ip());
        let _ = writeln!(text, "-A {server} -s rr");
        for index in 0..member.endpoints {
            let _ = writeln!(text, "-a {server} -r {}:{ENDPOINT_PORT} -m -w 1", member.endpoint(index));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_is_everywhere() {
        let shape = Shape::new(20, 3);
        assert_eq!(sets(shape).matches("add KUBE-CLUSTER-IP").count(), 20);
        assert_eq!(sets(shape).matches("add KUBE-LOOP-BACK").count(), 1);
        assert_eq!(addresses(shape).matches("addr add").count(), 20);
        assert_eq!((servers(shape).matches("-A ").count(), servers(shape).matches("-a ").count()), (20, 60));
    }
}
