//! Who reaches whom.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use portolan_lab::netns::Namespace;
use portolan_lab::probe::{self, Measured, Outcome, Request};
use portolan_lab::topology::{ClientSpec, Lab, NodeSpec, PodSpec, Spec};

const TIMEOUT: Duration = Duration::from_secs(3);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("everybody_reaches_every_pod", everybody_reaches_every_pod),
        Trial::test("labs_are_apart", labs_are_apart),
        Trial::test("responders_stop_and_start", responders_stop_and_start),
        Trial::test("pods_come_and_go", pods_come_and_go),
        Trial::test("the_client_goes_by_way_of_the_chosen_node", client_route),
        Trial::test("a_responder_takes_a_crowd", crowd),
        Trial::test("processes_run_where_they_are_put", processes),
        Trial::test("missing_names_are_told", missing_names),
    ]
}

fn pod(name: &str, node: &str, addresses: &[&str]) -> PodSpec {
    PodSpec {
        name: name.to_owned(),
        node: node.to_owned(),
        addresses: addresses.iter().map(|address| address.parse().expect("an address")).collect(),
        ports: vec![8080, 9090],
        host_network: false,
    }
}

pub(crate) fn spec() -> Spec {
    let networks = |list: [&str; 2]| list.map(|network| network.parse().expect("a network")).to_vec();
    Spec {
        nodes: vec![
            NodeSpec {
                name: "host1".to_owned(),
                addresses: networks(["192.168.50.1/24", "fd00:50::1/64"]),
                pod_networks: networks(["10.244.1.0/24", "fd00:244:1::/64"]),
            },
            NodeSpec {
                name: "host2".to_owned(),
                addresses: networks(["192.168.50.2/24", "fd00:50::2/64"]),
                pod_networks: networks(["10.244.2.0/24", "fd00:244:2::/64"]),
            },
        ],
        pods: vec![
            pod("a1", "host1", &["10.244.1.11", "fd00:244:1::11"]),
            pod("a2", "host1", &["10.244.1.12", "fd00:244:1::12"]),
            pod("b1", "host2", &["10.244.2.21", "fd00:244:2::21"]),
            // In no network of its node.
            pod("far", "host2", &["172.16.9.9", "fd00:172::9"]),
            PodSpec { host_network: true, ..pod("on-host", "host2", &["192.168.50.2", "fd00:50::2"]) },
        ],
        control_plane: vec![],
        client: ClientSpec {
            addresses: networks(["192.168.50.100/24", "fd00:50::100/64"]),
            local: vec!["192.0.2.1".parse().expect("an address")],
            gateway: None,
        },
    }
}

type Probe = fn(&Request) -> Measured;
const PROTOCOLS: [(&str, Probe); 2] = [("TCP", probe::http), ("UDP", probe::udp)];

fn ask(from: &Namespace, probe: Probe, to: SocketAddr) -> Result<Outcome, Failed> {
    Ok(from.run(|| probe(&Request::to(to).within(TIMEOUT)).outcome)?)
}

/// Pod to pod on the same node and on another, node to pod, client to pod, pod to itself.
fn everybody_reaches_every_pod() -> Result<(), Failed> {
    let lab = Lab::build(&spec())?;
    let mut wrong = Vec::new();
    for from in ["a1", "a2", "b1", "far", "host1", "host2", "client"] {
        let namespace = lab.namespace(from)?;
        for target in lab.pod_specs() {
            for (address, port) in
                target.addresses.iter().flat_map(|address| [(*address, 8080), (*address, 9090)])
            {
                for (protocol, probe) in PROTOCOLS {
                    let to = SocketAddr::new(address, port);
                    let outcome = ask(&namespace, probe, to)?;
                    let as_wanted = outcome.answer().is_some_and(|answer| {
                        (answer.pod.as_str(), answer.node.as_str(), answer.protocol.as_str(), answer.server)
                            == (target.name.as_str(), target.node.as_str(), protocol, to)
                            && own_addresses(&lab, from, to.ip()).contains(&answer.client.ip())
                    });
                    if !as_wanted {
                        wrong.push(format!("{from} to {} by {protocol} at {to}: {outcome}", target.name));
                    }
                }
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// The addresses that `from` may be seen by: its own, nobody rewrites any.
fn own_addresses(lab: &Lab, from: &str, to: IpAddr) -> BTreeSet<IpAddr> {
    let mut own: BTreeSet<IpAddr> =
        match (lab.node_spec(from), lab.pod_specs().into_iter().find(|pod| pod.name == from)) {
            (Ok(node), _) => node
                .addresses
                .iter()
                .map(ipnet::IpNet::addr)
                .chain(node.gateways().iter().map(ipnet::IpNet::addr))
                .collect(),
            (_, Some(pod)) => pod.addresses.into_iter().collect(),
            _ => lab.client_spec().addresses.iter().map(ipnet::IpNet::addr).collect(),
        };
    own.retain(|address| address.is_ipv4() == to.is_ipv4());
    own
}

/// Labs with the same addresses, at the same time.
fn labs_are_apart() -> Result<(), Failed> {
    let to = SocketAddr::from(([10, 244, 1, 11], 8080));
    let labs = std::thread::scope(|scope| {
        let builds: Vec<_> = (0..4)
            .map(|number| {
                scope.spawn(move || {
                    let mut spec = spec();
                    spec.pods.truncate(1);
                    spec.pods[0].name = format!("lab-{number}");
                    Lab::build(&spec)
                })
            })
            .collect();
        builds.into_iter().map(|build| build.join().expect("no panic")).collect::<Result<Vec<_>, _>>()
    })?;
    for (number, lab) in labs.iter().enumerate() {
        let outcome = ask(lab.client(), probe::http, to)?;
        if outcome.answer().map(|answer| answer.pod.clone()) != Some(format!("lab-{number}")) {
            return Err(format!("lab {number} was answered by: {outcome}").into());
        }
    }
    Ok(())
}

fn responders_stop_and_start() -> Result<(), Failed> {
    let lab = Lab::build(&spec())?;
    let to = SocketAddr::from(([10, 244, 1, 11], 8080));
    for round in 0..20 {
        for (protocol, probe) in PROTOCOLS {
            lab.stop_responder("a1")?;
            let stopped = ask(lab.client(), probe, to)?;
            lab.start_responder("a1")?;
            let started = ask(lab.client(), probe, to)?;
            if stopped != Outcome::Refused || started.answer().is_none() {
                return Err(
                    format!("{protocol}, round {round}: stopped: {stopped}; started: {started}").into()
                );
            }
        }
    }
    Ok(())
}

fn pods_come_and_go() -> Result<(), Failed> {
    let lab = Lab::build(&spec())?;
    for (address, node) in [("10.244.1.50", "host1"), ("172.16.9.50", "host2"), ("fd00:244:2::50", "host2")] {
        let to = SocketAddr::new(address.parse()?, 8080);
        for name in ["first", "second"] {
            lab.add_pod(pod(name, node, &[address]))?;
            let outcome = ask(lab.client(), probe::http, to)?;
            lab.remove_pod(name)?;
            if outcome.answer().map(|answer| answer.pod.as_str()) != Some(name) {
                return Err(format!("{name} at {address}: {outcome}").into());
            }
        }
        let gone =
            lab.client().run(|| probe::http(&Request::to(to).within(Duration::from_millis(200))).outcome)?;
        if gone.answer().is_some() {
            return Err(format!("after its removal: {gone}").into());
        }
    }
    match lab.add_pod(pod("thief", "host2", &["10.244.1.11"])) {
        Err(error) if error.to_string().contains("10.244.1.11 is taken by a1") => Ok(()),
        other => Err(format!("a second pod with an address: {other:?}").into()),
    }
}

/// Also a node's further address.
fn client_route() -> Result<(), Failed> {
    let lab = Lab::build(&spec())?;
    // Nobody has this address; who is asked shows by who answers on it.
    let service: IpAddr = [10, 96, 0, 1].into();
    for node in ["host2", "host1"] {
        lab.route_client(service.into(), node)?;
        let server = lab.node(node)?.run(|| std::net::TcpListener::bind(("0.0.0.0", 80)))??;
        lab.add_node_address(node, service.into())?;
        let outcome =
            lab.client().run(|| std::net::TcpStream::connect_timeout(&(service, 80).into(), TIMEOUT))?;
        drop(server);
        lab.remove_node_address(node, service.into())?;
        outcome.map_err(|error| format!("by way of {node}: {error}"))?;
    }
    Ok(())
}

fn crowd() -> Result<(), Failed> {
    let lab = Lab::build(&spec())?;
    let to = SocketAddr::from(([10, 244, 1, 11], 8080));
    // A client that says nothing holds up nobody.
    let _silent = lab.client().run(|| std::net::TcpStream::connect_timeout(&to, TIMEOUT))??;
    let failures: Vec<_> = lab.client().run(|| {
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1000).map(|_| probe::http(&Request::to(to))).collect::<Vec<_>>()))
                .collect();
            clients
                .into_iter()
                .flat_map(|client| client.join().expect("no panic"))
                .filter(|measured| measured.outcome.answer().is_none())
                .collect()
        })
    })?;
    if failures.is_empty() {
        Ok(())
    } else {
        Err(format!("{} failed, first {:?}", failures.len(), failures[0]).into())
    }
}

fn processes() -> Result<(), Failed> {
    let lab = Lab::build(&spec())?;
    let mut command = std::process::Command::new("cat");
    command.arg("/proc/self/net/fib_trie").stdout(std::process::Stdio::piped());
    let output = lab.pod("a2")?.spawn(&mut command)?.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    match (text.contains("10.244.1.12"), text.contains("10.244.1.11")) {
        (true, false) => Ok(()),
        _ => Err(format!("not the pod's addresses: {text}").into()),
    }
}

fn missing_names() -> Result<(), Failed> {
    let lab = Lab::build(&spec())?;
    for (kind, message, expected) in [
        (
            "pod",
            lab.pod("x").map(drop),
            "there is no pod \"x\" in the lab; there is a1, a2, b1, far, on-host",
        ),
        ("node", lab.node("x").map(drop), "there is no node \"x\" in the lab; there is host1, host2"),
        (
            "any",
            lab.namespace("x").map(drop),
            "there is no pod or node \"x\" in the lab; there is client, host1, host2, a1, a2, b1, far, on-host",
        ),
    ] {
        let message = message.map_or_else(|error| error.to_string(), |()| "found".to_owned());
        if message != expected {
            return Err(format!("{kind}: {message}").into());
        }
    }
    Ok(())
}
