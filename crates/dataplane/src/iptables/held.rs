//! To which sockets the kernel sends clients, for who takes that as a starting point.

use std::net::{IpAddr, SocketAddr};

use portolan_service::{Family, Protocol};

use super::Iptables;
use super::chains::Shared;
use super::compare::Tables;
use super::rule::{Match, Rule, Target};
use super::saved::Held;
use crate::error::Error;

/// What clients connect to, and the sockets that they get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeldPortal {
    /// `None` for a NodePort.
    pub(crate) address: Option<IpAddr>,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    /// For pods of the node and the node itself
    pub(crate) inside: Option<SocketAddr>,
    /// For all others
    pub(crate) outside: Option<SocketAddr>,
}

impl Iptables {
    /// What the chains of mode userspace lead to. Reads everything.
    pub(crate) fn held_portals(&self) -> Result<Vec<HeldPortal>, Error> {
        let mut portals = Vec::new();
        for tables in &self.families {
            let saved = tables.save()?;
            portals.extend(read(&Tables::read(&saved).nat, tables.style.family));
        }
        Ok(portals)
    }
}

fn read(nat: &Held<'_>, family: Family) -> Vec<HeldPortal> {
    let chains = [Shared::PortalsContainer, Shared::NodePortContainer];
    let rules = chains.iter().flat_map(|shared| nat.rules(shared.chain()));
    rules.filter_map(|text| portal(&Rule::parse(text, family)?, nat, family)).collect()
}

fn portal(rule: &Rule, nat: &Held<'_>, family: Family) -> Option<HeldPortal> {
    let (mut address, mut transport) = (None, None);
    for condition in rule.matches() {
        match condition {
            Match::Destination { not: false, network } => address = Some(network.addr()),
            Match::Transport { protocol, port: Some(port) } => transport = Some((*protocol, *port)),
            _ => {}
        }
    }
    let (protocol, port) = transport?;
    let (inside, outside) = sockets(rule.verdict()?, nat, family, 2);
    Some(HeldPortal { address, protocol, port, inside, outside })
}

/// Where pods of the node go, and where others do. `depth`: from the chain with source ranges to
/// that of external traffic.
fn sockets(
    target: &Target,
    nat: &Held<'_>,
    family: Family,
    depth: usize,
) -> (Option<SocketAddr>, Option<SocketAddr>) {
    let chain = match target {
        Target::Dnat(socket) => return (Some(*socket), Some(*socket)),
        Target::Jump(chain) if depth > 0 => chain,
        _ => return (None, None),
    };
    let rules = nat.rules(chain).iter().filter_map(|text| Rule::parse(text, family));
    let targets: Vec<Target> = rules.filter_map(|rule| rule.verdict().cloned()).collect();
    match &targets[..] {
        [next @ Target::Jump(_), ..] => sockets(next, nat, family, depth - 1),
        [first, .., last] => (of(first), of(last)),
        [only] => (of(only), of(only)),
        [] => (None, None),
    }
}

fn of(target: &Target) -> Option<SocketAddr> {
    match target {
        Target::Dnat(socket) => Some(*socket),
        _ => None,
    }
}
