//! Mode IPVS: rules that look into ipsets, virtual servers, and the device that holds their
//! addresses (spec §7).

use libtest_mimic::Failed;
use portolan_dataplane::kube_proxy;

use crate::namespace::{alone, lock, tool};

/// Sets of kube-proxy for both families, and two of others.
pub(crate) const SETS: &str = "\
create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536
add KUBE-CLUSTER-IP 10.96.0.1,tcp:443
add KUBE-CLUSTER-IP 10.96.0.10,udp:53
create KUBE-LOOP-BACK hash:ip,port,ip family inet hashsize 1024 maxelem 65536
create KUBE-LOAD-BALANCER hash:ip,port family inet hashsize 1024 maxelem 65536
add KUBE-LOAD-BALANCER 192.0.2.1,tcp:443
create KUBE-NODE-PORT-TCP bitmap:port range 0-65535
add KUBE-NODE-PORT-TCP 30080
create KUBE-IPVS-IPS hash:ip family inet hashsize 1024 maxelem 65536
create KUBE-6-CLUSTER-IP hash:ip,port family inet6 hashsize 1024 maxelem 65536
add KUBE-6-CLUSTER-IP fd00:96::a,tcp:80
create KUBE-6-LOAD-BALANCER-SOURCE-CID hash:ip,port,net family inet6 hashsize 1024 maxelem 65536
create KUBE-SRC-ABCDEFGHIJKLMNOP hash:ip family inet hashsize 1024 maxelem 65536
create cali40all-ipam-pools hash:net family inet hashsize 1024 maxelem 1048576
";

/// Spec §7.17-§7.20; the first rule and its chain are of somebody else.
pub(crate) const RULES: &str = "\
*filter
:KUBE-ROUTER-FORWARD - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-IPVS-FILTER - [0:0]
:KUBE-NODE-PORT - [0:0]
-A FORWARD -j KUBE-ROUTER-FORWARD
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A INPUT -m comment --comment \"kubernetes ipvs access filter\" -j KUBE-IPVS-FILTER
-A INPUT -m comment --comment \"kubernetes health check rules\" -j KUBE-NODE-PORT
-A KUBE-ROUTER-FORWARD -m set --match-set KUBE-SRC-ABCDEFGHIJKLMNOP src -j ACCEPT
-A KUBE-IPVS-FILTER -m set --match-set KUBE-LOAD-BALANCER dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT
COMMIT
*nat
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-NODE-PORT -p tcp -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ
-A KUBE-POSTROUTING -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-SERVICES -m set --match-set KUBE-LOAD-BALANCER dst,dst -j KUBE-LOAD-BALANCER
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP src,dst -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
COMMIT
";

fn sets() -> Result<Vec<String>, Failed> {
    let mut sets: Vec<String> = tool("ipset list -name", "")?.lines().map(str::to_owned).collect();
    sets.sort_unstable();
    Ok(sets)
}

const FOREIGN_SETS: [&str; 2] = ["KUBE-SRC-ABCDEFGHIJKLMNOP", "cali40all-ipam-pools"];

/// Rules and sets, for whichever rules; nobody else's are touched.
pub(crate) fn sets_go_after_their_rules() -> Result<(), Failed> {
    for variant in ["nft", "legacy"] {
        alone(move || {
            tool("ipset restore", SETS)?;
            tool(&format!("iptables-{variant}-restore"), RULES)?;
            let found: Vec<String> = kube_proxy::find()?.lines().collect();
            let rules = format!("iptables ({variant}), IPv4: 8 chains, 18 rules");
            assert_eq!(found, [rules.as_str(), "ipvs: 7 ipsets"]);
            let removed: Vec<String> = kube_proxy::remove_locking(&lock())?.lines().collect();
            assert_eq!(removed, found);
            assert_eq!(sets()?, FOREIGN_SETS);
            let left = tool(&format!("iptables-{variant}-save"), "")?;
            assert!(left.contains(
                "-A KUBE-ROUTER-FORWARD -m set --match-set KUBE-SRC-ABCDEFGHIJKLMNOP src -j ACCEPT"
            ));
            assert!(!left.contains("KUBE-SERVICES") && !left.contains("KUBE-IPVS"), "{variant}: {left}");
            Ok(())
        })?;
    }
    Ok(())
}

/// A set that somebody else's rule looks into stays and is named; so does one that a chain looks
/// into that must stay.
pub(crate) fn set_in_use_stays() -> Result<(), Failed> {
    alone(|| {
        tool("ipset restore", SETS)?;
        tool("iptables-legacy-restore", RULES)?;
        tool("iptables-legacy -A OUTPUT -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT", "")?;
        let host_ports = "*nat\n:KUBE-HP-ABCDEFGHIJKLMNOP - [0:0]\n-A KUBE-HP-ABCDEFGHIJKLMNOP -j KUBE-MARK-MASQ\nCOMMIT\n";
        tool("iptables-legacy-restore -n", host_ports)?;
        let removed = kube_proxy::remove_locking(&lock())?;
        let parts: Vec<String> = removed.parts.iter().map(ToString::to_string).collect();
        assert_eq!(parts, ["iptables (legacy), IPv4: 6 chains, 13 rules", "ipvs: 5 ipsets"]);
        let found = kube_proxy::find()?;
        assert!(found.is_empty(), "{found}");
        assert_eq!(found.kept, removed.kept);
        let kept: Vec<String> = removed.kept[2..].iter().map(ToString::to_string).collect();
        assert_eq!(
            kept,
            ["KUBE-CLUSTER-IP", "KUBE-LOOP-BACK"]
                .map(|set| format!("ipvs: ipset {set} stays: rules that stay look into it"))
        );
        Ok(())
    })
}

/// All of it. Needs a kernel with IPVS and dummy devices.
pub(crate) fn whole_mode() -> Result<(), Failed> {
    alone(|| {
        tool("ipset restore", SETS)?;
        tool("iptables-nft-restore", RULES)?;
        for command in [
            "link set lo up",
            "link add eth7 type dummy",
            "addr add 10.0.0.5/24 dev eth7",
            "addr add 192.0.2.1/32 dev eth7",
            "addr add 192.0.2.9/32 dev lo",
            "link add kube-ipvs0 type dummy",
            "addr add 10.96.0.1/32 dev kube-ipvs0",
            "addr add 10.96.0.10/32 dev kube-ipvs0",
            "addr add fd00:96::a/128 dev kube-ipvs0 nodad",
        ] {
            tool(&format!("ip {command}"), "")?;
        }
        let foreign = "\
-A -f 7 -s rr
-A -t 192.0.2.1:80 -s rr
-A -t 192.0.2.9:443 -s wlc
-a -t 192.0.2.9:443 -r 10.0.0.9:443 -m -w 1
";
        let ours = "\
-A -t 10.96.0.1:443 -s rr
-a -t 10.96.0.1:443 -r 10.0.0.6:6443 -m -w 1
-A -u 10.96.0.10:53 -s rr
-A -t 192.0.2.1:443 -s rr
-A -t 10.0.0.5:30080 -s rr
-A -t [fd00:96::a]:80 -s rr
";
        tool("ipvsadm -R", foreign)?;
        let expected = tool("ipvsadm -Sn", "")?;
        tool("ipvsadm -R", ours)?;
        let found: Vec<String> = kube_proxy::find()?.lines().collect();
        assert_eq!(
            found,
            [
                "iptables (nft), IPv4: 8 chains, 18 rules",
                "ipvs: 5 virtual servers",
                "ipvs: device kube-ipvs0",
                "ipvs: 7 ipsets"
            ]
        );
        let removed: Vec<String> = kube_proxy::remove_locking(&lock())?.lines().collect();
        assert_eq!(removed, found);
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        assert_eq!(sorted(&tool("ipvsadm -Sn", "")?), sorted(&expected));
        assert!(!tool("ip link show", "")?.contains("kube-ipvs0"));
        assert_eq!(sets()?, FOREIGN_SETS);
        assert!(kube_proxy::remove_locking(&lock())?.is_empty());
        Ok(())
    })
}

/// The running kernel has IPVS.
pub(crate) fn is_possible() -> bool {
    portolan_netfilter::ipvs::is_present()
}
