//! Why the kernel of a live node stops a packet outside of its rules, and what to do about it.

use std::net::SocketAddr;

use portolan_service::Family;

use super::case::{Case, Why};
use super::explanation::ReasonCode;
use crate::evaluate::Stop;
use crate::host::ReversePath;
use crate::packet::{Entry, Routed};
use crate::printable::printable;

pub(super) fn stopped(case: &Case<'_>, by: Stop, towards: SocketAddr) -> Why {
    let to = towards.ip();
    let interface = match &case.packet.entry {
        Entry::Prerouting { interface: Some(interface) } => printable(interface).into_owned(),
        Entry::Prerouting { interface: None } | Entry::Output => "its interface".to_owned(),
    };
    let leaves_by = || case.node.route(to).map_or_else(String::new, |name| printable(name).into_owned());
    match by {
        Stop::ComesInByDown => (
            ReasonCode::InterfaceDown,
            format!(
                "interface {interface} is down, so that nothing comes in through it (`ip link set {interface} up`)"
            ),
        ),
        Stop::NotForwarding => {
            let (family, name) = match case.packet.family() {
                Family::V4 => ("IPv4", "net.ipv4.ip_forward"),
                Family::V6 => ("IPv6", "net.ipv6.conf.all.forwarding"),
            };
            (
                ReasonCode::NotForwarding,
                format!("this node forwards no packets of {family}: {name} is 0 (`sysctl -w {name}=1`)"),
            )
        }
        Stop::NotForwardingHere => {
            let name = format!("net.ipv4.conf.{interface}.forwarding");
            (
                ReasonCode::NotForwarding,
                format!(
                    "packets that come in through {interface} are not forwarded: {name} is 0 (`sysctl -w {name}=1`)"
                ),
            )
        }
        Stop::ReversePath => (ReasonCode::ReversePath, reverse_path(case, &interface)),
        Stop::Loopback => (
            ReasonCode::Loopback,
            format!(
                "{to} is a loopback address, which nothing from outside of the node may reach while route_localnet of {interface} is 0"
            ),
        ),
        Stop::NoRoute => {
            (ReasonCode::NoRoute, format!("this node has no route to {to} (`ip route get {to}`)"))
        }
        Stop::Blackhole => (ReasonCode::NoRoute, refused(to, "blackhole")),
        Stop::Unreachable => (ReasonCode::NoRoute, refused(to, "unreachable")),
        Stop::Prohibited => (ReasonCode::NoRoute, refused(to, "prohibit")),
        Stop::LeavesByDown => (
            ReasonCode::InterfaceDown,
            format!("{to} is reached through interface {}, which is down", leaves_by()),
        ),
        Stop::LeavesWithoutCarrier => (
            ReasonCode::InterfaceDown,
            format!("{to} is reached through interface {}, which has no carrier", leaves_by()),
        ),
        Stop::NoOwnAddress => (
            ReasonCode::InterfaceDown,
            format!(
                "a rule redirects it to the address of {interface}, which has none of {}",
                case.packet.family()
            ),
        ),
    }
}

fn refused(to: std::net::IpAddr, kind: &str) -> String {
    format!("a route of type {kind} of this node refuses packets to {to} (`ip route get {to}`)")
}

fn reverse_path(case: &Case<'_>, interface: &str) -> String {
    let source = case.packet.source.ip();
    let strictness =
        case.node.host.as_ref().and_then(|host| host.interfaces.get(interface)).map_or("on", |it| {
            if it.reverse_path == ReversePath::Loose { "loose (2)" } else { "strict (1)" }
        });
    let back = match case.node.routed(source) {
        Routed::Through(name) => format!("the route to {source} leads through {}", printable(name)),
        _ => format!("there is no route to {source}"),
    };
    format!(
        "it comes in through {interface}, and {back}: rp_filter of {interface} is {strictness} and drops such packets"
    )
}
