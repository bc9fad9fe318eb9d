//! A client, a node and a server in network namespaces of their own: client - node - server.

use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use libtest_mimic::Failed;
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, setns, unshare};
use nix::unistd::Pid;
use portolan_trace::Node;

pub(crate) const CLIENTS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(10, 1, 0, 3), Ipv4Addr::new(10, 1, 0, 4)];
pub(crate) const SERVERS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 2, 0, 2), Ipv4Addr::new(10, 2, 0, 3), Ipv4Addr::new(10, 2, 0, 4)];
/// Addresses behind the server: where a packet goes that no rule translates.
pub(crate) const VIRTUAL: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 96, 0, 1), Ipv4Addr::new(10, 96, 0, 2), Ipv4Addr::new(10, 96, 0, 3)];
pub(crate) const NODE: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 2, 0, 1)];

/// The namespaces. The thread is in the node's.
pub(crate) struct Topology {
    pub(crate) client: File,
    pub(crate) node: File,
    pub(crate) server: File,
}

impl Topology {
    /// Moves the calling thread, which must be root of its user namespace, to a new node. From here
    /// on it stays on one processor, so that packets are handled in the order in which they are
    /// sent.
    pub(crate) fn new() -> Result<Topology, Failed> {
        let this = Pid::from_raw(0);
        let allowed = sched_getaffinity(this)?;
        let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap_or(false));
        let mut one = CpuSet::new();
        one.set(first.ok_or("no processor")?)?;
        sched_setaffinity(this, &one)?;

        let namespace = || -> Result<File, Failed> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(File::open("/proc/thread-self/ns/net")?)
        };
        let topology = Topology { client: namespace()?, server: namespace()?, node: namespace()? };
        let path = |namespace: &File| format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
        tool(&format!("ip link add vc type veth peer name c0 netns {}", path(&topology.client)), "")?;
        tool(&format!("ip link add vs type veth peer name s0 netns {}", path(&topology.server)), "")?;
        addresses("vc", &NODE[..1])?;
        addresses("vs", &NODE[1..])?;
        tool("ip link set lo up", "")?;
        tool("ip route add 10.96.0.0/16 via 10.2.0.2", "")?;
        for (name, value) in [
            ("ip_forward", "1"),
            ("conf/all/rp_filter", "0"),
            ("conf/vc/rp_filter", "0"),
            ("conf/vs/rp_filter", "0"),
            // No kind of ICMP message is limited in rate.
            ("icmp_ratemask", "0"),
        ] {
            std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value)
                .map_err(|error| format!("{name} of the node: {error}"))?;
        }
        topology.within(&topology.client, || {
            addresses("c0", &CLIENTS)?;
            tool("ip route add default via 10.1.0.1", "").map(drop)
        })?;
        topology.within(&topology.server, || {
            addresses("s0", &SERVERS)?;
            tool("ip link set lo up", "")?;
            for address in VIRTUAL {
                tool(&format!("ip address add {address}/32 dev lo"), "")?;
            }
            tool("ip route add default via 10.2.0.1", "").map(drop)
        })?;
        Ok(topology)
    }

    /// Does `work` in `namespace`, and comes back to the node.
    pub(crate) fn within<T>(
        &self,
        namespace: &File,
        work: impl FnOnce() -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        let done = work();
        setns(&self.node, CloneFlags::CLONE_NEWNET)?;
        done
    }
}

/// The node as the tracer sees it.
pub(crate) fn described() -> Node {
    let at = |network: &str, interface: &str| (network.parse().expect("a network"), interface.to_owned());
    Node {
        addresses: vec![at("127.0.0.1/8", "lo"), at("10.1.0.1/24", "vc"), at("10.2.0.1/24", "vs")],
        routes: vec![at("10.96.0.0/16", "vs")],
        ..Node::default()
    }
}

fn addresses(interface: &str, addresses: &[Ipv4Addr]) -> Result<(), Failed> {
    for address in addresses {
        tool(&format!("ip address add {address}/24 dev {interface}"), "")?;
    }
    tool(&format!("ip link set {interface} up"), "").map(drop)
}

/// Runs a tool in the calling thread's namespace, with `input`, and returns what it prints.
pub(crate) fn tool(words: &str, input: &str) -> Result<String, Failed> {
    let mut words_of = words.split_whitespace();
    let program = words_of.next().unwrap_or_default();
    let mut child = Command::new("timeout")
        .args(["10", program])
        .args(words_of)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}, which these tests need: {error}"))?;
    // Rule sets of these tests fit in a pipe. A tool that fails need not read them.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{words}: {}\n{input}", String::from_utf8_lossy(&output.stderr)).into())
}
