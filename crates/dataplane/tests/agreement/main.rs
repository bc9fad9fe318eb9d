//! All modes must agree on every packet: random Services are brought into the kernel by each mode,
//! the rules are read back with the tools of people, and thousands of packets are followed through
//! them. What the spec says is worked out independently, from the plan (`spec §4.12`). Where modes
//! differ by the spec, the clause is named.

mod clusters;
mod expected;
#[path = "../kube_proxy/namespace.rs"]
mod namespace;
mod virtual_servers;

use std::net::SocketAddr;

use fastrand::Rng;
use libtest_mimic::{Arguments, Failed, Trial};
use portolan_dataplane::iptables::{Iptables, Options};
use portolan_dataplane::ipvs::{IpvsSettings, Timeouts, compute};
use portolan_dataplane::nftables::Nftables;
use portolan_dataplane::{Dataplane, LocalDetector, NodePorts, Settings};
use portolan_service::{Family, PerFamily, ServicePlan};
use portolan_trace::{Entry, Node, Packet, Record, Ruleset, evaluate};

use self::clusters::{Client, Cluster};
use self::expected::{Ends, Mode, ends, expected};
use self::namespace::{alone, tool};

/// How many clusters each trial looks at.
const CLUSTERS: u64 = 20;

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    if let Err(error) = namespace::enter_user_namespace() {
        eprintln!("entering a user namespace: {error}: are they allowed on this machine?");
        return std::process::ExitCode::FAILURE;
    }
    // SAFETY: this process has one thread so far.
    unsafe { std::env::set_var("XTABLES_LOCKFILE", namespace::lock()) };
    let trials = Family::ALL
        .into_iter()
        .flat_map(|family| {
            [true, false].into_iter().flat_map(move |detector| {
                [true, false].into_iter().map(move |masquerade_all| (family, detector, masquerade_all))
            })
        })
        .map(|(family, detector, masquerade_all)| {
            let name = format!("{family}, detector {detector}, masquerade-all {masquerade_all}");
            Trial::test(name, move || alone(move || agree(family, detector, masquerade_all)))
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let _ = std::fs::remove_file(namespace::lock());
    conclusion.exit_code()
}

fn settings(family: Family, detector: bool, masquerade_all: bool) -> Settings {
    let pods = LocalDetector::SourceNetwork(clusters::local_pods(family));
    let mut settings = Settings { masquerade_all, ..Settings::default() };
    if detector {
        *settings.local.get_mut(family) = Some(pods);
    }
    settings
}

/// As in mode nftables, where only these NodePorts answer (spec §3.11).
fn options(family: Family) -> Options {
    let none = || NodePorts::Addresses(Vec::new());
    let mut node_ports = PerFamily { v4: none(), v6: none() };
    *node_ports.get_mut(family) = NodePorts::Addresses(vec![clusters::node_address(family)]);
    Options { node_ports, ..Options::default() }
}

/// With one of the schedulers that give every endpoint the same share.
fn ipvs(settings: &Settings, random: &mut Rng) -> IpvsSettings {
    IpvsSettings {
        rules: settings.clone(),
        bit: 0x4000,
        scheduler: random.choice(["rr", "wrr", "lc", "mh", "sh"]).expect("one of five").to_owned(),
        timeouts: Timeouts::default(),
    }
}

fn agree(family: Family, detector: bool, masquerade_all: bool) -> Result<(), Failed> {
    let iptables = match family {
        Family::V4 => "iptables-nft",
        Family::V6 => "ip6tables-nft",
    };
    // As kubelet does: this is the variant that the host uses (spec §5.1).
    tool(&format!("{iptables} -t mangle -N KUBE-IPTABLES-HINT"), "")?;
    let settings = settings(family, detector, masquerade_all);
    let mut asked = 0;
    for seed in 0..CLUSTERS {
        let mut random = Rng::with_seed(seed);
        let cluster = Cluster::random(&mut random, family);
        let plans = cluster.plans();

        let mut dataplane = Nftables::new(settings.clone())?;
        sync(&mut dataplane, &plans)?;
        let nftables = Ruleset::from_nft_json(&tool("nft -j list ruleset", "")?)?;
        dataplane.cleanup()?;

        let mut dataplane = Iptables::new(&settings, &options(family))?;
        sync(&mut dataplane, &plans)?;
        let mut held = Ruleset::default();
        for table in ["mangle", "filter", "nat"] {
            let saved = tool(&format!("{iptables}-save -t {table}"), "")?;
            held.merge(Ruleset::from_iptables_save(&saved, family)?);
        }
        dataplane.cleanup()?;

        let settings_of_ipvs = ipvs(&settings, &mut random);
        let computed = compute(&settings_of_ipvs, &plans.iter().collect::<Vec<_>>())?;
        let mut balanced = Ruleset::from_nft_json(&tool("nft -j list ruleset", "")?)?;
        balanced.add_virtual_servers(&virtual_servers::read(&computed.virtual_servers)?);
        Nftables::new(settings.clone())?.cleanup()?;
        for (mode, rules) in [(Mode::Nftables, &nftables), (Mode::Iptables, &held), (Mode::Ipvs, &balanced)] {
            asked += ask(mode, rules, &cluster, &plans, &settings)
                .map_err(|error| format!("seed {seed}, {mode:?}: {error}\n{plans:#?}"))?;
        }
    }
    if asked < 3000 { Err(format!("only {asked} packets were asked about").into()) } else { Ok(()) }
}

fn sync(dataplane: &mut dyn Dataplane, plans: &[ServicePlan]) -> Result<(), Failed> {
    let outcome = dataplane.sync(&mut plans.iter())?;
    if outcome.refused.is_empty() { Ok(()) } else { Err(format!("{:?}", outcome.refused).into()) }
}

/// Returns how many packets were asked about.
fn ask(
    mode: Mode,
    rules: &Ruleset,
    cluster: &Cluster,
    plans: &[ServicePlan],
    settings: &Settings,
) -> Result<usize, String> {
    let node = Node {
        addresses: vec![
            (clusters::node_network(cluster.family), "eth0".to_owned()),
            (clusters::bridge_network(cluster.family), "cni0".to_owned()),
        ],
        routes: vec![(clusters::everything(cluster.family), "eth0".to_owned())],
        ..Node::default()
    };
    let mut asked = 0;
    for destination in cluster.destinations(plans) {
        for client in cluster.clients() {
            let (address, protocol) = destination;
            let source = SocketAddr::new(client.address, 40_000);
            let entry = match client.interface {
                Some(interface) => Entry::Prerouting { interface: Some(interface.to_owned()) },
                None => Entry::Output,
            };
            let packet = Packet::new(source, address, protocol, entry);
            let answer = evaluate(rules, &node, &packet, Record::Nothing);
            // Nobody has connected before.
            let met: Ends = ends(answer.given(|_| false));
            let wanted = expected(mode, plans, settings, &client, address, protocol);
            if !met.is_close_to(&wanted) {
                return Err(format!("{client:?} to {address}/{protocol}: {met:?}, but should be {wanted:?}"));
            }
            asked += 1;
        }
    }
    Ok(asked)
}

/// So that failures read well.
impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} through {}", self.address, self.interface.unwrap_or("output"))
    }
}
