//! Why a packet is not forwarded.

use std::collections::BTreeSet;
use std::net::IpAddr;

use portolan_service::FrontendKind;

use super::case::{Case, calls, is, protocol_name, tests};
use super::explanation::{Reason, ReasonCode, ToldVerdict};
use super::frontends::{Frontend, Has};
use super::known::{KnownEndpoint, KnownService};
use super::naming::PortName;
use super::summary::asked;
use crate::evaluate::{Step, StepKind, value_address};
use crate::packet::State;
use crate::printable::printable;
use crate::ruleset::{Field, Test};

/// So many ports or endpoints are named.
const NAMED: usize = 8;

/// Ports that Kubernetes gives to NodePorts if it is not told otherwise (`--service-node-port-range`).
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// Why the packet ends as `verdict`; `None` if it is forwarded or let through.
pub(super) fn reason(case: &Case<'_>, verdict: ToldVerdict, frontends: &[Frontend]) -> Option<Reason> {
    let stop = match verdict {
        ToldVerdict::Accept if case.packet.state != State::New && case.packet.translated.is_none() => None,
        ToldVerdict::Forward | ToldVerdict::Accept => return None,
        ToldVerdict::Depends => case.stop().map(Some)?,
        ToldVerdict::Reject | ToldVerdict::Drop => case.stop(),
        ToldVerdict::None => None,
    };
    let (code, text) = match stop {
        Some(step) => stopped(case, step, frontends),
        None if case.packet.state != State::New => (
            ReasonCode::NotNew,
            "later packets of a connection do not meet the rules that translate: they follow what was decided for its first packet".to_owned(),
        ),
        None => unmatched(case, frontends),
    };
    Some(Reason { code, text })
}

type Why = (ReasonCode, String);

/// Why a rule stopped it.
fn stopped(case: &Case<'_>, step: &Step, frontends: &[Frontend]) -> Why {
    let rule = case.rule(step);
    let comment = rule.and_then(|rule| rule.comment.as_deref()).unwrap_or_default();
    let asked = asked(case, frontends);
    let title = asked
        .iter()
        .find_map(|frontend| frontend.service.clone())
        .or_else(|| PortName::in_comment(comment))
        .map_or_else(|| "the Service".to_owned(), |name| name.title());
    if is_source_range(case, step, comment) {
        return (ReasonCode::SourceRanges, source_ranges(case, &title, &asked));
    }
    if !case.is_proxys(step) {
        let table = case.table(step);
        let chain = &case.chain(step).name;
        let what = if rule.is_some() { "a rule" } else { "the policy" };
        return (
            ReasonCode::OtherRule,
            format!(
                "{what} of chain {chain} in table {} {}, which is not the proxy's, stops it",
                table.family, table.name
            ),
        );
    }
    let no_local = comment.ends_with("has no local endpoints")
        || met_chain(case, "KUBE-XLB-")
        || asked.iter().any(|frontend| frontend.has == Some(Has::NoLocalEndpoints));
    if no_local {
        return (ReasonCode::NoLocalEndpoints, no_local_endpoints(case, &title, &asked));
    }
    let none = comment.ends_with("has no endpoints")
        || asked.iter().any(|frontend| frontend.has == Some(Has::NoEndpoints))
        || !asked.is_empty() && asked.iter().all(|frontend| frontend.has.is_none());
    if none {
        return (ReasonCode::NoReadyEndpoints, no_ready_endpoints(case, &title, &asked));
    }
    if case.packet.state == State::Invalid {
        return (
            ReasonCode::OtherRule,
            "connection tracking cannot make sense of it, and such packets are dropped lest they pass untranslated".to_owned(),
        );
    }
    if !asked.is_empty() {
        let chain = &case.chain(step).name;
        return (
            ReasonCode::Unknown,
            format!("a rule of chain {chain} stops it, though {title} has endpoints"),
        );
    }
    let (code, mut text) = neighbours(case, frontends);
    if code == ReasonCode::NoSuchService
        && rule.is_some_and(|rule| tests(rule).any(asks_for_destination))
        && !is_cluster_ip(case)
    {
        text.push_str("; the rule stops packets to addresses that Services could have and none has");
    }
    if code == ReasonCode::NoSuchService && is_cluster_ip(case) {
        // An active ClusterIP of which nothing else is known.
        let to = case.destination();
        return (
            ReasonCode::NoReadyEndpoints,
            format!(
                "{to} is the ClusterIP of a Service, but none of its ports has a ready endpoint, and the rules do not name it"
            ),
        );
    }
    (code, text)
}

fn asks_for_destination(test: &Test) -> bool {
    match test {
        Test::Compare { operand, negate: false, .. } => matches!(operand.field, Field::Destination(_)),
        Test::Lookup { key, negate: false, .. } => {
            key.iter().any(|operand| matches!(operand.field, Field::Destination(_)))
        }
        _ => false,
    }
}

/// Whether the rules of nftables list the destination among the ClusterIPs.
fn is_cluster_ip(case: &Case<'_>) -> bool {
    let address = crate::evaluate::address_value(case.destination());
    case.ruleset
        .tables()
        .iter()
        .flat_map(|table| &table.sets)
        .any(|set| &*set.name == "cluster-ips" && set.get(&[address]).is_some())
}

fn met_chain(case: &Case<'_>, beginning: &str) -> bool {
    case.every_step().any(|step| is(step, StepKind::Hit) && case.chain(step).name.starts_with(beginning))
}

fn is_source_range(case: &Case<'_>, step: &Step, comment: &str) -> bool {
    let chain = &*case.chain(step).name;
    comment.contains("traffic not accepted by KUBE-FW")
        || case.is_proxys(step) && (chain == "firewall" || chain.starts_with("firewall-"))
        // Until 2022 the chain of source ranges ended in a mark for dropping (spec §5.41).
        || chain == "KUBE-FIREWALL" && met_chain(case, "KUBE-FW-")
}

fn source_ranges(case: &Case<'_>, title: &str, asked: &[&Frontend]) -> String {
    let source = case.packet.source.ip();
    let ranges: Vec<String> = known(case, asked)
        .into_iter()
        .flat_map(|service| &service.source_ranges)
        .map(ToString::to_string)
        .collect();
    let of = if ranges.is_empty() { String::new() } else { format!(" ({})", ranges.join(", ")) };
    format!("{source} is not within the source ranges{of} of {title}")
}

/// The Services that are asked for and of which more is known than their rules.
fn known<'a>(case: &Case<'a>, asked: &[&Frontend]) -> Vec<&'a KnownService> {
    let name = asked.iter().find_map(|frontend| frontend.service.as_ref());
    let is_it = |service: &&KnownService| {
        name.is_some_and(|name| name.namespace == service.namespace && name.name == service.name)
    };
    case.services.services.iter().filter(is_it).collect()
}

/// The endpoints of the Service port that is asked for.
fn endpoints<'a>(case: &Case<'a>, asked: &[&Frontend]) -> Vec<&'a KnownEndpoint> {
    let port = asked.iter().find_map(|frontend| frontend.service.as_ref()).map(|name| name.port.as_str());
    let family = case.packet.source.is_ipv4();
    known(case, asked)
        .into_iter()
        .flat_map(|service| &service.endpoints)
        .filter(|endpoint| port == Some(&endpoint.port_name) && endpoint.address.is_ipv4() == family)
        .collect()
}

fn no_ready_endpoints(case: &Case<'_>, title: &str, asked: &[&Frontend]) -> String {
    if known(case, asked).is_empty() {
        return format!("{title} has no ready endpoint");
    }
    let all = endpoints(case, asked);
    if all.is_empty() {
        return format!(
            "{title} has no endpoint at all: does its selector match any pod, and do its ports exist there?"
        );
    }
    let told: Vec<String> = all
        .iter()
        .map(|endpoint| format!("{} {}", case.endpoint(endpoint.address), state(endpoint)))
        .collect();
    format!("{title} has no ready endpoint: {}", few(told))
}

fn state(endpoint: &KnownEndpoint) -> &'static str {
    match (endpoint.ready, endpoint.serving, endpoint.terminating) {
        (true, _, _) => "is ready",
        (false, true, true) => "is terminating, but still serves",
        (false, false, true) => "is terminating",
        (false, _, false) => "is not ready",
    }
}

fn no_local_endpoints(case: &Case<'_>, title: &str, asked: &[&Frontend]) -> String {
    let internal = asked.iter().any(|frontend| frontend.kind == Some(FrontendKind::ClusterIp));
    let policy = if internal { "internalTrafficPolicy" } else { "externalTrafficPolicy" };
    let elsewhere: Vec<String> = endpoints(case, asked)
        .iter()
        .filter(|endpoint| !endpoint.local && endpoint.ready)
        .map(|endpoint| match &endpoint.node {
            Some(node) => format!("{} on {}", case.endpoint(endpoint.address), printable(node)),
            None => case.endpoint(endpoint.address),
        })
        .collect();
    let mut text = format!("{title} has no endpoint on this node, and its {policy} is Local");
    if !elsewhere.is_empty() {
        text.push_str("; elsewhere it has ");
        text.push_str(&few(elsewhere));
    }
    text
}

/// Why no rule of the proxy matches.
fn unmatched(case: &Case<'_>, frontends: &[Frontend]) -> Why {
    let asked = asked(case, frontends);
    let Some(name) = asked.iter().find_map(|frontend| frontend.service.as_ref()) else {
        return neighbours(case, frontends);
    };
    let title = name.title();
    let all = endpoints(case, &asked);
    if asked.iter().any(|frontend| frontend.has == Some(Has::NoLocalEndpoints)) {
        return (ReasonCode::NoLocalEndpoints, no_local_endpoints(case, &title, &asked));
    }
    if asked.iter().any(|frontend| frontend.has == Some(Has::NoEndpoints))
        || !known(case, &asked).is_empty() && !all.iter().any(|endpoint| endpoint.ready)
    {
        return (ReasonCode::NoReadyEndpoints, no_ready_endpoints(case, &title, &asked));
    }
    if asked.iter().all(|frontend| frontend.has.is_none()) {
        return (
            ReasonCode::Unknown,
            format!(
                "{title} has this address and port, but the rules do not: they are older, or of another node"
            ),
        );
    }
    if asked.iter().all(|frontend| frontend.kind == Some(FrontendKind::NodePort)) {
        return (ReasonCode::NodePortAddress, node_port_not_here(case, &title));
    }
    (
        ReasonCode::Unknown,
        format!("the rules of {title} do not apply to this packet: see the rules that did not match (-v)"),
    )
}

/// That the rules have the NodePort, but not at this address.
fn node_port_not_here(case: &Case<'_>, title: &str) -> String {
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
fn neighbours(case: &Case<'_>, frontends: &[Frontend]) -> Why {
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
    // NodePorts at the node's addresses are of all sorts of Services: others at the address say nothing.
    let vips: Vec<&&Frontend> =
        at.iter().filter(|frontend| !case.is_for_node() && frontend.address.is_some()).collect();
    if let Some(first) = vips.first() {
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
        let s = if ports.len() == 1 { "" } else { "s" };
        return (
            ReasonCode::WrongPort,
            format!(
                "{to} belongs to {service}, which has no port {port}/{asked}; it has port{s} {}",
                few(ports)
            ),
        );
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
    let endpoints = case
        .services
        .services
        .iter()
        .flat_map(|service| service.endpoints.iter().map(move |endpoint| (service, endpoint)));
    if let Some((service, endpoint)) = { endpoints }.find(|(_, endpoint)| endpoint.address.ip() == to) {
        let what = endpoint
            .pod
            .as_deref()
            .map_or_else(|| "an endpoint".to_owned(), |pod| format!("pod {}", printable(pod)));
        return (
            ReasonCode::NoSuchService,
            format!(
                "{to} is {what} behind {}, not the address of a Service: packets to it are not translated",
                printable(&service.title())
            ),
        );
    }
    let text = match same_port(frontends, to, port, protocol) {
        Some(others) => format!("no Service has the address {to}; port {port}/{asked} is at {others}"),
        None => format!("no Service has the address {to}"),
    };
    (ReasonCode::NoSuchService, text)
}

/// The addresses that the rules of kube-proxy serve NodePorts at, if they list them (spec §5.17, §6.3).
fn node_port_ips(case: &Case<'_>) -> Vec<String> {
    let mut addresses = BTreeSet::new();
    for table in case.ruleset.tables() {
        for set in table.sets.iter().filter(|set| &*set.name == "nodeport-ips") {
            for (key, _, _) in set.elements() {
                addresses.extend(key.first().map(|value| value_address(*value, case.packet.family())));
            }
        }
        for rule in
            table.chains.iter().filter(|chain| &*chain.name == "KUBE-SERVICES").flat_map(|chain| &chain.rules)
        {
            let called = calls(rule).and_then(|chain| table.chains.get(chain as usize));
            if called.is_none_or(|chain| &*chain.name != "KUBE-NODEPORTS") {
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

/// The first of `items`, and how many more there are.
pub(super) fn few(items: impl IntoIterator<Item = String>) -> String {
    let mut items = items.into_iter();
    let mut text: Vec<String> = items.by_ref().take(NAMED).collect();
    let more = items.count();
    if more > 0 {
        text.push(format!("{more} more"));
    }
    text.join(", ")
}
