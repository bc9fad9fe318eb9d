//! What is diverted, and real clients of real sockets.

mod golden;
mod kernel;
mod unserved;

use std::net::{IpAddr, SocketAddr};

use portolan_service::{Family, List, PerFamily, PortPlan, ServicePlan};

use super::divert::divert;
use super::settings::UserspaceSettings;
use crate::tests::plans::{ip, settings};

/// Sockets on this address, and none for IPv6.
fn on(address: &str) -> UserspaceSettings {
    UserspaceSettings {
        rules: settings(),
        iptables: None,
        addresses: PerFamily { v4: Some(ip(address)), v6: None },
        ports: None,
        udp_idle: std::time::Duration::from_secs(5),
    }
}

/// `plans` with sockets in place of endpoints, whose ports count up from 41000.
fn numbered(plans: &[ServicePlan], addresses: PerFamily<IpAddr>) -> Vec<ServicePlan> {
    let mut next = 41_000;
    let mut place = |port: &PortPlan, _: List| {
        next += 1;
        let address = match port.family {
            Family::V4 => addresses.v4,
            Family::V6 => addresses.v6,
        };
        (port.protocol != portolan_service::Protocol::Sctp).then_some(SocketAddr::new(address, next))
    };
    plans.iter().map(|plan| divert(plan, &mut place)).collect()
}
