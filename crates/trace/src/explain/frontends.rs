//! The addresses and ports of Services: from what is known of them, and from the rules.

use std::net::IpAddr;

use portolan_service::{Family, FrontendKind, Protocol};

use super::case::{Case, actions, calls, tests};
use super::naming::PortName;
use crate::printable::printable;
use crate::ruleset::{
    Action, Data, Field, Goal, Rule, Table, TableFamily, Test, Tool, Translation, test_only,
};
use crate::value::value_address;

/// What the rules do with a frontend, as far as a look at them shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Has {
    Endpoints,
    NoEndpoints,
    NoLocalEndpoints,
}

/// One address and port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Frontend {
    /// `None`: the node's addresses.
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    pub(super) service: Option<PortName>,
    pub(super) kind: Option<FrontendKind>,
    /// `None` if it is not from the rules.
    pub(super) has: Option<Has>,
}

pub(super) fn kind_name(kind: FrontendKind) -> &'static str {
    match kind {
        FrontendKind::ClusterIp => "ClusterIP",
        FrontendKind::ExternalIp => "external IP",
        FrontendKind::LoadBalancer => "load-balancer IP",
        FrontendKind::NodePort => "NodePort",
    }
}

/// All frontends of the packet's family that are known, those of Services first.
pub(super) fn all(case: &Case<'_>) -> Vec<Frontend> {
    let family = case.packet.family();
    let mut frontends = Vec::new();
    for service in &case.services.services {
        for known in &service.frontends {
            if known.address.is_some_and(|address| Family::of(address) != family) {
                continue;
            }
            let clean = |text: &str| printable(text).into_owned();
            frontends.push(Frontend {
                address: known.address,
                port: known.port,
                protocol: known.protocol,
                service: Some(PortName {
                    namespace: clean(&service.namespace),
                    name: clean(&service.name),
                    port: clean(&known.port_name),
                }),
                kind: Some(known.kind),
                has: None,
            });
        }
    }
    let mut of_rules = Vec::new();
    for table in case.ruleset.tables() {
        if table.family != TableFamily::Only(family) {
            continue;
        }
        match table.tool {
            Tool::Iptables => of_iptables(table, family, &mut of_rules),
            Tool::Ipvs => of_virtual_servers(table, family, &mut of_rules),
            Tool::Nftables if table.is_all_proxys() => of_nftables(table, family, &mut of_rules),
            Tool::Nftables => {}
        }
    }
    of_rules.sort();
    of_rules.dedup();
    frontends.append(&mut of_rules);
    frontends
}

/// The frontends that are exactly what the packet asks for.
pub(super) fn asked<'f>(case: &Case<'_>, frontends: &'f [Frontend]) -> Vec<&'f Frontend> {
    let packet = case.packet;
    frontends
        .iter()
        .filter(|frontend| {
            frontend.port == packet.destination.port()
                && frontend.protocol == packet.protocol
                && frontend
                    .address
                    .map_or_else(|| case.is_for_node(), |address| address == packet.destination.ip())
        })
        .collect()
}

fn of_iptables(table: &Table, family: Family, frontends: &mut Vec<Frontend>) {
    for chain in &table.chains {
        let node_ports = match (&*chain.name, &*table.name) {
            ("KUBE-NODEPORTS" | "KUBE-NODEPORT-CONTAINER" | "KUBE-NODEPORT-HOST", "nat") => true,
            ("KUBE-SERVICES" | "KUBE-EXTERNAL-SERVICES", _)
            | ("KUBE-PORTALS-CONTAINER" | "KUBE-PORTALS-HOST", "nat") => false,
            _ => continue,
        };
        frontends.extend(chain.rules.iter().filter_map(|rule| of_rule(rule, family, node_ports)));
    }
}

fn of_rule(rule: &Rule, family: Family, node_ports: bool) -> Option<Frontend> {
    let (mut address, mut port, mut protocol, mut local) = (None, None, None, node_ports);
    for test in tests(rule) {
        let Test::Compare { operand, ranges, negate: false } = test else { continue };
        match operand.field {
            Field::Destination(_) => {
                address = test_only(ranges, operand.mask).map(|value| value_address(value, family));
            }
            Field::DestinationPort => port = ranges.only().and_then(|port| u16::try_from(port).ok()),
            Field::Protocol => protocol = ranges.only().and_then(protocol_of),
            Field::DestinationType => local = true,
            _ => {}
        }
    }
    if address.is_none() && !local {
        return None;
    }
    let comment = rule.comment.as_deref().unwrap_or_default();
    let has = if comment.ends_with("has no endpoints") {
        Has::NoEndpoints
    } else if comment.ends_with("has no local endpoints") {
        Has::NoLocalEndpoints
    } else {
        let translates = actions(rule).any(|action| matches!(action, Action::Destination(_)));
        (translates || calls(rule).is_some()).then_some(Has::Endpoints)?
    };
    let kind = if address.is_none() {
        Some(FrontendKind::NodePort)
    } else if comment.ends_with("cluster IP") {
        Some(FrontendKind::ClusterIp)
    } else if comment.ends_with("external IP") {
        Some(FrontendKind::ExternalIp)
    } else if comment.ends_with("loadbalancer IP") {
        Some(FrontendKind::LoadBalancer)
    } else {
        None
    };
    Some(Frontend {
        address,
        port: port?,
        protocol: protocol?,
        service: PortName::in_comment(comment),
        kind,
        has: Some(has),
    })
}

/// Virtual servers have no names.
fn of_virtual_servers(table: &Table, family: Family, frontends: &mut Vec<Frontend>) {
    for rule in table.chains.iter().flat_map(|chain| &chain.rules) {
        let serves = actions(rule).any(|action| match action {
            Action::Destination(Translation::Balanced(balance)) => {
                balance.ways.iter().any(|way| way.to.is_some())
            }
            _ => false,
        });
        let has = if serves { Has::Endpoints } else { Has::NoEndpoints };
        frontends.extend(of_rule(rule, family, false).map(|found| Frontend { has: Some(has), ..found }));
    }
}

fn of_nftables(table: &Table, family: Family, frontends: &mut Vec<Frontend>) {
    let set = |name: &str| table.sets.iter().find(|set| &*set.name == name);
    let is_cluster_ip = |address: u128| set("cluster-ips").is_some_and(|set| set.get(&[address]).is_some());
    for set in &table.sets {
        // kube-proxy's (spec §6.3), then those of our own flat table.
        let by_address = match &*set.name {
            "service-ips"
            | "no-endpoint-services"
            | "services"
            | "services-local"
            | "endpoints"
            | "frontends"
            | "no-endpoints" => true,
            "service-nodeports" | "no-endpoint-nodeports" => false,
            _ => continue,
        };
        for (key, data, comment) in set.elements() {
            let (address, protocol, port) = match *key {
                [0, address, protocol, port] if &*set.name == "endpoints" => (Some(address), protocol, port),
                [address, protocol, port] if by_address => (Some(address), protocol, port),
                [protocol, port] if !by_address => (None, protocol, port),
                _ => continue,
            };
            let (Some(protocol), Ok(port)) = (protocol_of(protocol), u16::try_from(port)) else { continue };
            let target = match data {
                Data::Goal(Goal::Jump(chain) | Goal::Goto(chain)) => {
                    table.chains.get(*chain as usize).map_or("", |chain| &*chain.name)
                }
                _ => "",
            };
            let kind = match address {
                None => Some(FrontendKind::NodePort),
                Some(address) if is_cluster_ip(address) => Some(FrontendKind::ClusterIp),
                Some(_) => None,
            };
            let has = match (set.name.starts_with("no-endpoint"), data) {
                (true, Data::Goal(Goal::Drop)) => Has::NoLocalEndpoints,
                (true, _) => Has::NoEndpoints,
                (false, _) if target == "no-local" => Has::NoLocalEndpoints,
                (false, _) => Has::Endpoints,
            };
            frontends.push(Frontend {
                address: address.map(|value| value_address(value, family)),
                port,
                protocol,
                service: comment.and_then(PortName::in_comment).or_else(|| PortName::in_chain(target)),
                kind,
                has: Some(has),
            });
        }
    }
}

fn protocol_of(number: u128) -> Option<Protocol> {
    match number {
        6 => Some(Protocol::Tcp),
        17 => Some(Protocol::Udp),
        132 => Some(Protocol::Sctp),
        _ => None,
    }
}
