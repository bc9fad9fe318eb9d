//! What there is in place of what a packet asks for: the same address with other ports, or the same
//! port elsewhere.

use std::collections::BTreeSet;
use std::net::IpAddr;

use portolan_service::FrontendKind;

use super::case::{Case, Why, calls, protocol_name, tests};
use super::explanation::ReasonCode;
use super::few::few;
use super::frontends::Frontend;
use super::known::Next;
use super::naming::PortName;
use crate::printable::printable;
use crate::ruleset::{Field, Test};
use crate::value::value_address;

/// Ports that Kubernetes gives to NodePorts by default (`--service-node-port-range`).
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// That the rules have the NodePort, but not at this address.
pub(super) fn node_port_not_here(case: &Case<'_>, title: &str) -> String {
    let (to, port) = (case.destination(), case.packet.destination.port());
    let mut text = format!("NodePort {port} of {title} is not served at {to}");
    let served = node_port_ips(case);
    if !served.is_empty() {
        text.push_str(", only at ");
        text.push_str(&few(served));
    } else if to.is_loopback() {
        text.push_str(": it is at the node's other addresses, but not on loopback");
    }
    text
}

/// What there is instead: the same address with other ports, the same port elsewhere.
pub(super) fn neighbours(case: &Case<'_>, frontends: &[Frontend]) -> Why {
    let packet = case.packet;
    let (to, port, protocol) = (packet.destination.ip(), packet.destination.port(), packet.protocol);
    let asked = protocol_name(protocol);
    let at: Vec<&Frontend> = frontends
        .iter()
        .filter(|frontend| match frontend.address {
            Some(address) => address == to,
            None => case.is_for_node(),
        })
        .collect();
    if let Some(other) = at.iter().find(|frontend| frontend.port == port) {
        let has = protocol_name(other.protocol);
        return (
            ReasonCode::WrongProtocol,
            format!("{} has port {port} of {to} with {has}, not with {asked}", title(other)),
        );
    }
    if let Some(other_port) = other_ports(case, &at) {
        return other_port;
    }
    if let Some(text) = another_node(case) {
        return (ReasonCode::AnotherNode, text);
    }
    if let Some(node_port) = node_port_elsewhere(case, frontends) {
        return node_port;
    }
    if case.is_for_node() {
        let text = if NODE_PORTS.contains(&port) {
            format!("{to} is the node's own address, and no Service has NodePort {port}/{asked}")
        } else {
            format!("{to} is the node's own address, and no Service has port {port}/{asked} of it")
        };
        return (ReasonCode::NoSuchService, text);
    }
    if let Some(text) = behind(case) {
        return (ReasonCode::NoSuchService, text);
    }
    let text = match same_port(frontends, to, port, protocol) {
        Some(others) => format!("no Service has the address {to}; port {port}/{asked} is at {others}"),
        None => format!("no Service has the address {to}"),
    };
    (ReasonCode::NoSuchService, text)
}

/// The other ports of the Service that has the address; `at` are all frontends there.
fn other_ports(case: &Case<'_>, at: &[&Frontend]) -> Option<Why> {
    let (to, port) = (case.destination(), case.packet.destination.port());
    // NodePorts at the node's addresses belong to many Services: others at the address show
    // nothing.
    let vips: Vec<&&Frontend> =
        at.iter().filter(|frontend| !case.is_for_node() && frontend.address.is_some()).collect();
    let first = vips.first()?;
    let ports: BTreeSet<String> = vips
        .iter()
        .map(|frontend| {
            let name = frontend.service.as_ref().map_or("", |name| &name.port);
            let protocol = protocol_name(frontend.protocol);
            if name.is_empty() {
                format!("{}/{protocol}", frontend.port)
            } else {
                format!("{}/{protocol} ({name})", frontend.port)
            }
        })
        .collect();
    let service = first
        .service
        .as_ref()
        .map_or_else(|| "the Service".to_owned(), |name| format!("{}/{}", name.namespace, name.name));
    let asked = protocol_name(case.packet.protocol);
    let s = if ports.len() == 1 { "" } else { "s" };
    Some((
        ReasonCode::WrongPort,
        format!("{to} belongs to {service}, which has no port {port}/{asked}; it has port{s} {}", few(ports)),
    ))
}

/// That the address is one of an endpoint.
fn behind(case: &Case<'_>) -> Option<String> {
    let to = case.destination();
    let (service, endpoint) = case
        .services
        .services
        .iter()
        .flat_map(|service| service.endpoints.iter().map(move |endpoint| (service, endpoint)))
        .find(|(_, endpoint)| endpoint.address.ip() == to)?;
    let what = endpoint
        .pod
        .as_deref()
        .map_or_else(|| "an endpoint".to_owned(), |pod| format!("pod {}", printable(pod)));
    Some(format!(
        "{to} is {what} behind {}, not the address of a Service: packets to it are not translated",
        printable(&service.title())
    ))
}

/// That the address is another node's, and how to ask there.
fn another_node(case: &Case<'_>) -> Option<String> {
    let to = case.destination();
    if case.is_for_node() {
        return None;
    }
    let node = case.services.nodes.iter().find(|node| node.addresses.contains(&to))?;
    let name = printable(&node.name);
    let ask = match &case.services.next {
        Next::InLab { flag, from, to } => {
            format!(": `portolan lab trace {flag}--node {name} {from} {to}`")
        }
        _ => ": ask there".to_owned(),
    };
    Some(format!("{to} is an address of node {name}, whose rules decide{}", printable(&ask)))
}

/// The addresses at which the rules of kube-proxy serve NodePorts, if they list them (spec §5.17,
/// §6.3).
fn node_port_ips(case: &Case<'_>) -> Vec<String> {
    let mut addresses = BTreeSet::new();
    for table in case.ruleset.tables() {
        for set in table.sets.iter().filter(|set| &*set.name == "nodeport-ips") {
            for (key, _, _) in set.elements() {
                addresses.extend(key.first().map(|value| value_address(*value, case.packet.family())));
            }
        }
        for rule in table.chains.iter().flat_map(|chain| &chain.rules) {
            let called = calls(rule).and_then(|chain| table.chains.get(chain as usize));
            let of_node_ports = ["KUBE-NODEPORTS", "KUBE-NODEPORT-CONTAINER", "KUBE-NODEPORT-HOST"];
            if called.is_none_or(|chain| !of_node_ports.contains(&&*chain.name)) {
                continue;
            }
            for test in tests(rule) {
                if let Test::Compare { operand, ranges, negate: false } = test
                    && matches!(operand.field, Field::Destination(_))
                {
                    addresses.extend(ranges.only().map(|value| value_address(value, case.packet.family())));
                }
            }
        }
    }
    addresses.iter().map(ToString::to_string).collect()
}

/// The port is a NodePort, but not here.
fn node_port_elsewhere(case: &Case<'_>, frontends: &[Frontend]) -> Option<Why> {
    let (to, port) = (case.destination(), case.packet.destination.port());
    if !case.is_for_node() {
        return None;
    }
    let there: Vec<&Frontend> = frontends
        .iter()
        .filter(|frontend| {
            frontend.port == port
                && frontend.protocol == case.packet.protocol
                && (frontend.kind == Some(FrontendKind::NodePort)
                    || frontend.kind.is_none()
                        && frontend.address.is_some_and(|address| case.node.is_local(address)))
        })
        .collect();
    let first = there.first()?;
    let addresses: BTreeSet<IpAddr> = there.iter().filter_map(|frontend| frontend.address).collect();
    let at = if to.is_loopback() && addresses.is_empty() {
        "at the node's other addresses".to_owned()
    } else if addresses.is_empty() {
        return None;
    } else {
        format!("at {}", few(addresses.iter().map(ToString::to_string)))
    };
    Some((
        ReasonCode::NodePortAddress,
        format!("NodePort {port} of {} is served {at}, not at {to}", title(first)),
    ))
}

fn same_port(
    frontends: &[Frontend],
    to: IpAddr,
    port: u16,
    protocol: portolan_service::Protocol,
) -> Option<String> {
    let others: BTreeSet<String> = frontends
        .iter()
        .filter(|frontend| {
            frontend.port == port
                && frontend.protocol == protocol
                && frontend.address.is_some_and(|address| address != to && is_near(address, to))
        })
        .map(|frontend| {
            let address = frontend.address.map_or_else(String::new, |address| address.to_string());
            format!("{address} ({})", title(frontend))
        })
        .collect();
    // Many Services have port 80: that helps nobody.
    (1..=3).contains(&others.len()).then(|| few(others))
}

/// Whether two addresses could be of the same range: those of Services have a range of their own.
fn is_near(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => one.octets()[..2] == other.octets()[..2],
        (IpAddr::V6(one), IpAddr::V6(other)) => one.octets()[..8] == other.octets()[..8],
        _ => false,
    }
}

fn title(frontend: &Frontend) -> String {
    frontend.service.as_ref().map_or_else(|| "a Service".to_owned(), PortName::title)
}
