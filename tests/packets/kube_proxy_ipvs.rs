//! kube-proxy's mode ipvs as it is on a node (spec §7): `portolan trace` must say of each packet
//! what becomes of it, over live state and over dumps of that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use portolan_lab::netns::Namespace;
use portolan_service::{Family, Protocol};
use portolan_tests::ask::{self, Outcome};
use portolan_tests::site::Site;
use serde_json::{Value, json};

use crate::fixture::{self, HOST1, HOST1_SECOND, OUTSIDE, PORT, TARGET, gateway, pod_address, underlay};

const NODE: &str = "host1";
/// More than any virtual server has destinations.
const ASKED: usize = 6;

/// Where a virtual server is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum At {
    /// On this ClusterIP.
    ClusterIp([u8; 4]),
    /// On the node's own address.
    NodePort(u16),
    /// The same with policy Local.
    LocalNodePort(u16),
}

impl At {
    pub(crate) fn address(self) -> SocketAddr {
        match self {
            At::ClusterIp(address) => SocketAddr::new(IpAddr::from(address), PORT),
            At::NodePort(port) | At::LocalNodePort(port) => {
                SocketAddr::new(underlay(HOST1, Family::V4), port)
            }
        }
    }
}

/// A virtual server of IPv4 and TCP.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server {
    pub(crate) at: At,
    /// Pods and their weights.
    pub(crate) to: &'static [(&'static str, u32)],
    pub(crate) persistent: bool,
}

const fn cluster_ip(number: u8) -> At {
    At::ClusterIp([10, 96, 9, number])
}

const fn server(at: At, to: &'static [(&'static str, u32)]) -> Server {
    Server { at, to, persistent: false }
}

const SERVERS: &[Server] = &[
    server(cluster_ip(1), &[("a1", 1), ("a2", 1), ("b1", 1)]),
    server(cluster_ip(2), &[("a1", 1), ("a2", 0), ("b1", 1)]),
    server(cluster_ip(3), &[("a1", 0), ("b1", 0)]),
    server(cluster_ip(4), &[]),
    Server { at: cluster_ip(5), to: &[("a1", 1), ("a2", 1), ("b1", 1)], persistent: true },
    server(At::NodePort(30_901), &[("a1", 1), ("b1", 1)]),
    server(At::LocalNodePort(30_902), &[("a1", 1), ("a2", 1)]),
];

/// The rules of spec §7.17 to §7.21 for clusters whose pods are 10.244.0.0/16, as far as the sets
/// below have anything in them.
const CHAINS: &str = "*nat
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
-A KUBE-NODE-PORT -p tcp -m set --match-set KUBE-NODE-PORT-LOCAL-TCP dst -j RETURN
-A KUBE-NODE-PORT -p tcp -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ
-A KUBE-POSTROUTING -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN
-A KUBE-SERVICES ! -s 10.244.0.0/16 -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ
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
-A INPUT -m comment --comment \"kubernetes ipvs access filter\" -j KUBE-IPVS-FILTER
-A INPUT -m comment --comment \"kube-proxy firewall rules\" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment \"kubernetes health check rules\" -j KUBE-NODE-PORT
-A FORWARD -m comment --comment \"kube-proxy firewall rules\" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A OUTPUT -m comment --comment \"kubernetes ipvs access filter\" -j KUBE-IPVS-OUT-FILTER
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT
COMMIT
";

/// Has the node serve as kube-proxy's mode ipvs does.
pub(crate) fn install(node: &Namespace, servers: &[Server]) -> anyhow::Result<()> {
    feed(node, "ipset", &["restore"], &sets(servers))?;
    feed(node, "iptables-nft-restore", &["--noflush"], CHAINS)?;
    let mut device = String::from("link add kube-ipvs0 type dummy\n");
    for address in bound(servers) {
        writeln!(device, "addr add {address}/32 dev kube-ipvs0")?;
    }
    feed(node, "ip", &["-batch", "-"], &device)?;
    node.run(|| {
        for setting in ["conntrack", "expire_nodest_conn", "expire_quiescent_template"] {
            std::fs::write(format!("/proc/sys/net/ipv4/vs/{setting}"), "1")?;
        }
        std::io::Result::Ok(())
    })??;
    Ok(())
}

/// The virtual servers themselves.
pub(crate) fn serve(node: &Namespace, servers: &[Server]) -> anyhow::Result<()> {
    let mut text = String::new();
    for server in servers {
        let address = server.at.address();
        let persistent = if server.persistent { " -p 300" } else { "" };
        writeln!(text, "-A -t {address} -s rr{persistent}")?;
        for (pod, weight) in server.to {
            writeln!(text, "-a -t {address} -r {} -m -w {weight}", endpoint(pod))?;
        }
    }
    feed(node, "ipvsadm", &["-R"], &text)
}

fn endpoint(pod: &str) -> SocketAddr {
    SocketAddr::new(pod_address(pod, Family::V4), TARGET)
}

/// The addresses that the node gets.
fn bound(servers: &[Server]) -> impl Iterator<Item = IpAddr> {
    servers
        .iter()
        .filter(|server| matches!(server.at, At::ClusterIp(_)))
        .map(|server| server.at.address().ip())
}

fn sets(servers: &[Server]) -> String {
    let mut text = String::from(
        "create KUBE-CLUSTER-IP hash:ip,port\ncreate KUBE-IPVS-IPS hash:ip\n\
         create KUBE-LOOP-BACK hash:ip,port,ip\ncreate KUBE-NODE-PORT-TCP bitmap:port range 0-65535\n\
         create KUBE-NODE-PORT-LOCAL-TCP bitmap:port range 0-65535\n",
    );
    for pod in ["a1", "a2"] {
        let to = endpoint(pod);
        let _ = writeln!(text, "add KUBE-LOOP-BACK {0},tcp:{1},{0}", to.ip(), to.port());
    }
    for address in bound(servers) {
        let _ = writeln!(text, "add KUBE-CLUSTER-IP {address},tcp:{PORT}\nadd KUBE-IPVS-IPS {address}");
    }
    for server in servers {
        let sets: &[&str] = match server.at {
            At::ClusterIp(_) => &[],
            At::NodePort(_) => &["TCP"],
            At::LocalNodePort(_) => &["TCP", "LOCAL-TCP"],
        };
        for set in sets {
            let _ = writeln!(text, "add KUBE-NODE-PORT-{set} {}", server.at.address().port());
        }
    }
    text
}

/// Runs a program in the namespace with this input, and returns what it prints.
fn feed(node: &Namespace, program: &str, arguments: &[&str], input: &str) -> anyhow::Result<()> {
    run(node, program, arguments, input).map(drop)
}

pub(crate) fn run(
    node: &Namespace,
    program: &str,
    arguments: &[&str],
    input: &str,
) -> anyhow::Result<String> {
    // Small enough for a pipe to hold before anybody reads.
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(input.as_bytes())?;
    drop(writer);
    let mut command = Command::new(program);
    command.args(arguments).stdin(reader).stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = node.spawn(&mut command).with_context(|| program.to_owned())?.wait_with_output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{program} {arguments:?}: {} {said}", done.status);
    Ok(String::from_utf8(done.stdout)?)
}

/// Who sends.
#[derive(Debug, Clone, Copy)]
enum Sender {
    Pod(&'static str),
    Node,
    Outside,
}

/// Who sends where, and which pods answer; nobody: it is refused.
const CASES: &[(&str, Sender, At, &[&str])] = &[
    ("a ClusterIP", Sender::Pod("client-a"), cluster_ip(1), &["a1", "a2", "b1"]),
    ("hairpin", Sender::Pod("a1"), cluster_ip(1), &["a1", "a2", "b1"]),
    ("from the node", Sender::Node, cluster_ip(1), &["a1", "a2", "b1"]),
    ("from outside", Sender::Outside, cluster_ip(1), &["a1", "a2", "b1"]),
    ("one of weight 0", Sender::Pod("client-a"), cluster_ip(2), &["a1", "b1"]),
    ("all of weight 0", Sender::Pod("client-a"), cluster_ip(3), &[]),
    ("no destination", Sender::Pod("client-a"), cluster_ip(4), &[]),
    ("persistence", Sender::Pod("client-a"), cluster_ip(5), &["a1", "a2", "b1"]),
    ("a NodePort", Sender::Outside, At::NodePort(30_901), &["a1", "b1"]),
    ("a NodePort from a pod", Sender::Pod("client-a"), At::NodePort(30_901), &["a1", "b1"]),
    ("a NodePort of policy Local", Sender::Outside, At::LocalNodePort(30_902), &["a1", "a2"]),
    ("a port that nobody serves", Sender::Outside, At::NodePort(30_903), &[]),
];

/// What is said, or seen, of a packet: the pods that it may get to, and whether each sees another
/// address than the client's. None: it is refused.
type Ends = BTreeMap<String, bool>;

pub(crate) fn traced_as_packets_go() -> anyhow::Result<()> {
    let site = Site::build(&fixture::plan())?;
    let node = site.node(NODE);
    // IPVS is loaded by its first virtual server, and has its settings then.
    serve(node, SERVERS)?;
    install(node, SERVERS)?;
    let live = trace(&site, &[])?;
    let folder = tempfile::tempdir()?;
    let mut flags = vec!["--node-ip".to_owned(), underlay(HOST1, Family::V4).to_string()];
    for address in [underlay(HOST1_SECOND, Family::V4), gateway(1, Family::V4)] {
        flags.extend(["--node-ip".to_owned(), address.to_string()]);
    }
    for (flag, program, arguments) in [
        ("--iptables-save", "iptables-nft-save", &[][..]),
        ("--ipset-save", "ipset", &["save"]),
        ("--ipvsadm-save", "ipvsadm", &["-Sn"]),
    ] {
        let path = folder.path().join(program);
        std::fs::write(&path, run(node, program, arguments, "")?)?;
        flags.extend([flag.to_owned(), path.display().to_string()]);
    }
    let dumped = trace(&site, &flags)?;
    let mut wrong = Vec::new();
    for (number, (name, from, at, pods)) in CASES.iter().enumerate() {
        let persistent =
            SERVERS.iter().any(|server| server.persistent && server.at.address() == at.address());
        let seen = asked(&site, *from, at.address())?;
        let expected: BTreeSet<&str> = pods.iter().copied().collect();
        let names: BTreeSet<&str> = seen.keys().map(String::as_str).collect();
        let as_expected =
            if persistent { names.len() == 1 && names.is_subset(&expected) } else { names == expected };
        if !as_expected {
            wrong.push(format!("{name}: packets got to {seen:?}"));
        }
        for (origin, traced) in [("live", &live[number]), ("dumps", &dumped[number])] {
            let agrees = |(pod, masqueraded): (&String, &bool)| {
                traced.get(pod).is_some_and(|traced| matches!(from, Sender::Node) || traced == masqueraded)
            };
            let all = traced.keys().map(String::as_str).collect::<BTreeSet<_>>() == expected;
            if !all || !seen.iter().all(agrees) {
                wrong.push(format!("{name}: by {origin} to {traced:?}, but packets got to {seen:?}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Asks by packets.
fn asked(site: &Site, from: Sender, to: SocketAddr) -> anyhow::Result<Ends> {
    let mut ends = Ends::new();
    let (namespace, own) = match from {
        Sender::Pod(pod) => (site.pod(pod), Some(pod_address(pod, Family::V4))),
        Sender::Node => (site.node(NODE), None),
        Sender::Outside => (site.outside(), Some(underlay(OUTSIDE, Family::V4))),
    };
    for _ in 0..ASKED {
        match namespace.run(move || ask::ask(Protocol::Tcp, to, own, ask::PATIENCE))? {
            Outcome::Answered(answer) => {
                ends.insert(answer.pod, own.is_some_and(|own| own != answer.client));
            }
            Outcome::Refused => ensure!(ends.is_empty(), "{from:?} to {to}: refused after answers"),
            other => anyhow::bail!("{from:?} to {to}: {other}"),
        }
    }
    Ok(ends)
}

/// Asks the tracer for all cases.
fn trace(site: &Site, flags: &[String]) -> anyhow::Result<Vec<Ends>> {
    let launch = site.launch(NODE, []);
    let folder = tempfile::tempdir()?;
    let packets = folder.path().join("packets");
    let lines: Vec<String> =
        CASES.iter().map(|(_, from, at, _)| line(*from, at.address()).to_string()).collect();
    std::fs::write(&packets, lines.join("\n"))?;
    let mut command = Command::new(&launch.binary);
    command.arg("trace").arg("--packets").arg(&packets).args(["-o", "json"]).args(flags);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = site.node(NODE).spawn(&mut command)?.wait_with_output()?;
    let errors = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{command:?}: {} {errors}", done.status);
    let text = String::from_utf8(done.stdout)?;
    let answers: Vec<Ends> = text.lines().map(said).collect::<anyhow::Result<_>>()?;
    ensure!(answers.len() == CASES.len(), "{} answers: {errors}{text}", answers.len());
    Ok(answers)
}

fn line(from: Sender, to: SocketAddr) -> Value {
    let (from, interface) = match from {
        Sender::Pod(pod) => (pod_address(pod, Family::V4).to_string(), Some("cbr0")),
        Sender::Node => ("node".to_owned(), None),
        Sender::Outside => (underlay(OUTSIDE, Family::V4).to_string(), Some("eth0")),
    };
    let mut line = json!({"from": from, "to": to.to_string(), "protocol": "tcp"});
    if let Some(interface) = interface {
        line["in_interface"] = interface.into();
    }
    line
}

/// What an answer says. What no rule takes is refused by the node, where nobody listens.
fn said(line: &str) -> anyhow::Result<Ends> {
    let answer: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
    let mut ends = Ends::new();
    for endpoint in answer["endpoints"].as_array().into_iter().flatten() {
        let address: IpAddr = endpoint["ip"].as_str().context("an address")?.parse()?;
        let pod = fixture::PODS.iter().find(|(name, ..)| pod_address(name, Family::V4) == address);
        let pod = pod.map_or_else(|| address.to_string(), |(name, ..)| (*name).to_owned());
        ends.insert(pod, endpoint["masquerade"] == true);
    }
    let verdict = answer["verdict"].as_str().unwrap_or_default();
    let right =
        if ends.is_empty() { matches!(verdict, "reject" | "accept" | "none") } else { verdict == "forward" };
    ensure!(right, "{line}");
    Ok(ends)
}
