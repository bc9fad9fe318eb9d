//! A routing daemon that reads the routing table of addresses: BIRD on nodes, and BIRD on the
//! machine outside, which learns from them where to send packets.

use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use portolan_lab::netns::Namespace;
use portolan_netlink::rtnetlink::{MAIN_TABLE, Rtnetlink};
use tempfile::TempDir;

use crate::network::{NODES, Network, ROUTED};

/// The routing table that the nodes keep.
pub(crate) const TABLE: &str = "155";
const SOON: Duration = Duration::from_secs(20);

/// A routing daemon. It is killed when this is dropped.
struct Bird {
    child: Child,
    _folder: TempDir,
}

impl Bird {
    fn start(namespace: &Namespace, settings: &str) -> anyhow::Result<Bird> {
        let folder = TempDir::new_in("/run")?;
        let file = folder.path().join("bird.conf");
        std::fs::write(&file, settings)?;
        let mut command = Command::new("bird");
        command.arg("-f").arg("-c").arg(&file).arg("-s").arg(folder.path().join("control"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Bird { child: namespace.spawn(&mut command).context("starting bird")?, _folder: folder })
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As docs/announcement.md has it.
fn on_node(address: &str) -> String {
    format!(
        "router id {address};\nprotocol device {{}}\nipv4 table services;\n\
         protocol kernel services4 {{ kernel table {TABLE}; learn; \
         ipv4 {{ table services; import all; export none; }}; }}\n\
         protocol bgp uplink {{ local {address} as 64512; neighbor 192.0.2.99 as 64511; connect retry time 1; \
         error wait time 1, 2; ipv4 {{ table services; import none; export all; next hop self; }}; }}\n"
    )
}

fn outside() -> String {
    let neighbour = |n: usize| {
        format!(
            "protocol bgp node{n} {{ local 192.0.2.99 as 64511; neighbor 192.0.2.{n} as 64512; connect retry time 1; \
             error wait time 1, 2; ipv4 {{ import all; export none; }}; }}\n"
        )
    };
    format!(
        "router id 192.0.2.99;\nprotocol device {{}}\nprotocol kernel {{ ipv4 {{ import none; export all; }}; }}\n{}{}",
        neighbour(1),
        neighbour(2)
    )
}

/// Whether the machine outside has a route to the address.
fn is_routed(network: &Network, address: IpAddr) -> anyhow::Result<bool> {
    let routes = network.outside().run(|| Rtnetlink::open()?.routes())??;
    Ok(routes.iter().any(|route| route.table == MAIN_TABLE && route.destination == address.into()))
}

fn until(network: &Network, address: IpAddr, routed: bool) -> anyhow::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < SOON {
        if is_routed(network, address)? == routed {
            return Ok(());
        }
        std::thread::yield_now();
    }
    bail!(
        "{address}: a route outside is {} within {SOON:?}",
        if routed { "not there" } else { "still there" }
    );
}

/// A route goes with the endpoints, and with the proxies.
pub(crate) fn announced_by_bird() -> anyhow::Result<()> {
    let address: IpAddr = ROUTED.parse()?;
    let mut network = Network::routed(&NODES[..2])?;
    let _birds = [
        Bird::start(network.node(NODES[0]), &on_node("192.0.2.1"))?,
        Bird::start(network.node(NODES[1]), &on_node("192.0.2.2"))?,
        Bird::start(network.outside(), &outside())?,
    ];
    until(&network, address, true)?;
    let node = network.answering(address)?.context("no answer")?;
    ensure!(NODES[..2].contains(&node.as_str()), "{node} answers");

    network.endpoints(&[NODES[2]])?;
    until(&network, address, false)?;
    network.endpoints(&[NODES[1]])?;
    until(&network, address, true)?;
    network.until_held_by(address, NODES[1])?;
    network.change(NODES[1], crate::network::Change::ProxyEnds)?;
    until(&network, address, false)
}
