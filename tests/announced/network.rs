//! Three nodes and a machine outside on one link, and a Service that answers on each node with the
//! pod that it has there: so who answers shows who has the address.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use ipnet::IpNet;
use portolan_lab::netns::Namespace;
use portolan_netlink::rtnetlink::Rtnetlink;
use portolan_service::{Family, Protocol};
use portolan_tests::ask::{self, Outcome};
use portolan_tests::manifests::{self, EndpointManifest, PodManifest, ServiceManifest};
use portolan_tests::proxy::{Launch, Proxy};
use portolan_tests::site::{Plan, PlanNode, Site};
use serde_json::json;

/// The nodes.
pub(crate) const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];
/// The load-balancer addresses of the Service, each with the node that has it if all are there.
pub(crate) const ADDRESSES: [(&str, &str); 2] = [("192.0.2.240", "node-3"), ("2001:db8::240", "node-2")];

/// An address of the Service in no network, which routers send to nodes.
pub(crate) const ROUTED: &str = "203.0.113.7";

const PORT: u16 = 80;
/// How long a connection is waited for.
const PATIENCE: Duration = Duration::from_millis(150);
/// By then, whatever is to happen has happened, on a machine that is busy, too.
const SOON: Duration = Duration::from_secs(15);
/// The interface between nodes.
const UPLINK: &str = "eth0";

/// What can happen to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Its cable is cut, and its proxy is killed.
    Dies,
    /// It starts anew.
    Revives,
    /// Its proxy is killed.
    ProxyKilled,
    /// Its proxy is asked to end.
    ProxyEnds,
}

/// All of it.
pub(crate) struct Network {
    proxies: BTreeMap<String, (Launch, Proxy)>,
    site: Site,
    failures: Cell<usize>,
}

fn number(node: &str) -> u8 {
    NODES.iter().position(|known| *known == node).map_or(0, |i| u8::try_from(i).unwrap_or(0)) + 1
}

fn addresses(node: &str) -> anyhow::Result<[IpAddr; 2]> {
    let n = number(node);
    Ok([IpAddr::from([192, 0, 2, n]), format!("2001:db8::{n}").parse()?])
}

fn pod_networks(node: &str) -> anyhow::Result<[IpNet; 2]> {
    let n = number(node);
    Ok([format!("10.244.{n}.0/24").parse()?, format!("fd00:244:{n}::/64").parse()?])
}

fn pod_address(node: &str, family: Family) -> IpAddr {
    let n = number(node);
    match family {
        Family::V4 => IpAddr::from([10, 244, n, 10]),
        Family::V6 => IpAddr::from([0xfd00, 0x244, u16::from(n), 0, 0, 0, 0, 0x10]),
    }
}

impl Network {
    /// With proxies on `nodes`, which have `key` in common.
    pub(crate) fn build(nodes: &[&str], key: &str) -> anyhow::Result<Network> {
        let mut network = Network::without_proxies()?;
        nodes.iter().try_for_each(|node| network.start(node, key))?;
        Ok(network)
    }

    /// With proxies on `nodes` that keep a routing table.
    pub(crate) fn routed(nodes: &[&str]) -> anyhow::Result<Network> {
        let mut network = Network::without_proxies()?;
        for node in nodes {
            network.start_with(node, &["--announcement-routing-table", crate::bgp::TABLE])?;
        }
        Ok(network)
    }

    fn without_proxies() -> anyhow::Result<Network> {
        let plan = |node: &&str| {
            let (addresses, pod_networks) = (addresses(node)?.into(), pod_networks(node)?.into());
            Ok(PlanNode { name: (*node).to_owned(), addresses, extra: Vec::new(), pod_networks, zone: None })
        };
        let pod = |node: &&str| {
            PodManifest::new(node, node, &pod_address(node, Family::V4).to_string())
                .address(pod_address(node, Family::V6))
                .port("http", 8080)
        };
        let site = Site::build(&Plan {
            nodes: NODES.iter().map(plan).collect::<anyhow::Result<_>>()?,
            pods: NODES.iter().map(pod).collect(),
            outside: vec!["192.0.2.99".parse()?, "2001:db8::99".parse()?],
            through: NODES[0].to_owned(),
            load_balancers: Vec::new(),
        })?;
        let network = Network { proxies: BTreeMap::new(), site, failures: Cell::new(0) };
        network.endpoints(&NODES)?;
        Ok(network)
    }

    /// Starts the proxy of a node.
    pub(crate) fn start(&mut self, node: &str, key: &str) -> anyhow::Result<()> {
        let file = self.site.manifests().path().with_file_name(format!("key-{node}"));
        std::fs::write(&file, key)?;
        let file = file.to_str().context("a path in UTF-8")?;
        self.start_with(node, &["--announce-layer2", "--announcement-key-file", file])
    }

    fn start_with(&mut self, node: &str, flags: &[&str]) -> anyhow::Result<()> {
        let launch = self.site.launch(node, flags.iter().copied());
        let proxy = launch.start(self.site.node(node))?;
        self.proxies.insert(node.to_owned(), (launch, proxy));
        Ok(())
    }

    /// Has the Service answer on these nodes only.
    pub(crate) fn endpoints(&self, nodes: &[&str]) -> anyhow::Result<()> {
        let mut service = ServiceManifest::new("web", &["10.96.0.80".parse()?, "fd00:96::80".parse()?])
            .port("http", Protocol::Tcp, PORT)
            .kind("LoadBalancer")
            .spec("externalTrafficPolicy", "Local")
            .without_node_ports();
        for address in ADDRESSES.map(|(address, _)| address).into_iter().chain([ROUTED]) {
            service = service.ingress(address.parse()?, "VIP");
        }
        let mut objects = vec![service.object()];
        for family in Family::ALL {
            let endpoints: Vec<EndpointManifest> = nodes
                .iter()
                .map(|node| EndpointManifest::new(pod_address(node, family), Some(node)))
                .collect();
            let name = format!("web-{family}").to_lowercase();
            objects.push(manifests::slice(
                &name,
                "web",
                family,
                &[("http", Protocol::Tcp, 8080)],
                &endpoints,
            ));
        }
        self.site.manifests().write("web", &objects)
    }

    /// The machine outside.
    pub(crate) fn outside(&self) -> &Namespace {
        self.site.outside()
    }

    /// A node.
    pub(crate) fn node(&self, name: &str) -> &Namespace {
        self.site.node(name)
    }

    /// Excludes a node from load balancers.
    pub(crate) fn exclude(&self, node: &str) -> anyhow::Result<()> {
        let mut objects = Vec::new();
        for each in NODES {
            let mut object = manifests::node(each, None, &addresses(each)?, &pod_networks(each)?);
            if each == node {
                object["metadata"]["labels"] =
                    json!({ "node.kubernetes.io/exclude-from-external-load-balancers": "" });
            }
            objects.push(object);
        }
        self.site.manifests().write("the-nodes", &objects)
    }

    /// Has something happen to a node.
    pub(crate) fn change(&mut self, node: &str, change: Change) -> anyhow::Result<()> {
        let (launch, proxy) = self.proxies.get_mut(node).context("a node with a proxy")?;
        match change {
            Change::Dies => {
                self.site.set_connected(node, false)?;
                proxy.kill();
            }
            Change::Revives => {
                self.site.set_connected(node, true)?;
                *proxy = launch.start(self.site.node(node))?;
            }
            Change::ProxyKilled => proxy.kill(),
            Change::ProxyEnds => proxy.ask_to_end()?,
        }
        Ok(())
    }

    /// Of a hundred frames that come to each node, so many are lost.
    pub(crate) fn lose(&self, percent: u32) -> anyhow::Result<()> {
        if percent == 0 {
            return Ok(());
        }
        let rules = format!(
            "table netdev loss {{ chain in {{ type filter hook ingress device {UPLINK} priority 0; \
             numgen random mod 100 < {percent} drop; }}; }}"
        );
        for node in NODES {
            let done = self.site.node(node).run(|| Command::new("nft").arg(&rules).output())??;
            ensure!(done.status.success(), "nft: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(())
    }

    /// The node that answers a connection from outside, if one does.
    pub(crate) fn answering(&self, address: IpAddr) -> anyhow::Result<Option<String>> {
        let to = SocketAddr::new(address, PORT);
        let outcome = self.site.outside().run(|| ask::ask(Protocol::Tcp, to, None, PATIENCE))?;
        if outcome.pod().is_none() {
            self.failures.set(self.failures.get() + 1);
        }
        Ok(outcome.pod().map(str::to_owned))
    }

    /// How many connections were not answered since the last time that one was waited for.
    pub(crate) fn failures(&self) -> usize {
        self.failures.get()
    }

    /// Connects until a node other than `node` answers. Returns how long that took.
    pub(crate) fn until_another(&self, address: IpAddr, node: &str) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        self.failures.set(0);
        while begun.elapsed() < SOON {
            if self.answering(address)?.is_some_and(|answering| answering != node) {
                return Ok(begun.elapsed());
            }
        }
        bail!("{address}: no node but {node} answers within {SOON:?}");
    }

    /// Connects until `node` answers, and answers again when nobody remembers where the address is.
    pub(crate) fn until_held_by(&self, address: IpAddr, node: &str) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < SOON {
            self.forget(address)?;
            if self.answering(address)?.is_some_and(|answering| answering == node) {
                self.failures.set(0);
                return Ok(());
            }
        }
        bail!("{address}: {node} does not answer within {SOON:?}");
    }

    /// Waits until nobody says who has the address.
    pub(crate) fn until_nobody(&self, address: IpAddr) -> anyhow::Result<()> {
        let to = SocketAddr::new(address, PORT);
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < SOON {
            self.forget(address)?;
            // The kernel gives up after three seconds.
            let outcome = self.site.outside().run(|| ask::ask(Protocol::Tcp, to, None, SOON))?;
            if matches!(&outcome, Outcome::Other(why) if why == "unreachable") {
                return Ok(());
            }
            last = Some(outcome);
        }
        bail!("{address}: {last:?}");
    }

    /// Has the machine outside forget where the address is.
    pub(crate) fn forget(&self, address: IpAddr) -> anyhow::Result<()> {
        self.site.outside().run(|| {
            let mut rtnetlink = Rtnetlink::open()?;
            let uplink = rtnetlink.link(UPLINK)?.context("no uplink")?;
            rtnetlink.forget_neighbour(uplink.index, address)?;
            anyhow::Ok(())
        })?
    }

    /// Which node has an address, as each node says.
    pub(crate) fn said(&self, address: IpAddr) -> anyhow::Result<Vec<Option<String>>> {
        let of_node = |(_, proxy): &(Launch, Proxy)| {
            let rows = proxy.addresses()?;
            let row = rows.into_iter().find(|row| row.address == address.to_string());
            Ok(row.context("an address that is in force")?.node)
        };
        self.proxies.values().map(of_node).collect()
    }

    /// Gives an address to the machine outside, too.
    pub(crate) fn claim_outside(&self, address: IpAddr) -> anyhow::Result<()> {
        self.site.outside().run(|| {
            let mut rtnetlink = Rtnetlink::open()?;
            let uplink = rtnetlink.link(UPLINK)?.context("no uplink")?;
            let network = IpNet::new(address, 24)?;
            rtnetlink.add_address(&portolan_netlink::rtnetlink::Address { index: uplink.index, network })?;
            anyhow::Ok(())
        })??;
        // It asks for a node as who has the address, which all nodes hear.
        let asked: SocketAddr = "192.0.2.77:9".parse()?;
        self.site.outside().run(|| ask::ask(Protocol::Tcp, asked, Some(address), PATIENCE))?;
        Ok(())
    }

    /// Waits for a line of a node's log.
    pub(crate) fn log(&self, node: &str, text: &str) -> anyhow::Result<String> {
        self.proxies.get(node).context("a node with a proxy")?.1.wait_for_log(text, SOON)
    }

    /// What a node has logged so far.
    pub(crate) fn whole_log(&self, node: &str) -> String {
        self.proxies.get(node).map(|(_, proxy)| proxy.log()).unwrap_or_default()
    }
}
