//! Who may use an address and port that several Services ask for.
//!
//! The kernel can give it to one only. The winner does not depend on the order in which Services arrive:
//! ClusterIPs come before external and load-balancer addresses, these before NodePorts; then the Service's name
//! decides, then the port's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::{FrontendKind, ObjectName, Protocol};

/// What can be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    /// A whole address, as a ClusterIP.
    ClusterIp(IpAddr),
    /// A frontend.
    Frontend(IpAddr, Protocol, u16),
    /// The port of a health-check responder.
    HealthCheck(u16),
}

/// Who claims; the smallest wins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claimant {
    pub(crate) rank: u8,
    pub(crate) service: ObjectName,
    /// The port's name; empty for claims of the whole Service.
    pub(crate) port: Arc<str>,
}

/// The order among kinds of frontends (spec §3.5: NodePorts come after all VIPs).
pub(crate) fn rank(kind: FrontendKind) -> u8 {
    match kind {
        FrontendKind::ClusterIp => 0,
        FrontendKind::ExternalIp | FrontendKind::LoadBalancer => 1,
        FrontendKind::NodePort => 2,
    }
}

/// All claims. Uncontested ones, nearly all, cost one entry of the map.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    winners: HashMap<Key, Claimant>,
    /// Sorted; only for keys with more than one claimant.
    others: HashMap<Key, Vec<Claimant>>,
}

impl Claims {
    /// Enters a claim. Returns the Services for which the winner changes by it.
    pub(crate) fn enter(&mut self, key: Key, claimant: Claimant) -> Vec<ObjectName> {
        let Some(winner) = self.winners.get_mut(&key) else {
            self.winners.insert(key, claimant);
            return Vec::new();
        };
        if *winner == claimant {
            return Vec::new();
        }
        let others = self.others.entry(key).or_default();
        let wins = claimant < *winner;
        let loser = if wins { std::mem::replace(winner, claimant) } else { claimant };
        if let Err(place) = others.binary_search(&loser) {
            others.insert(place, loser);
        }
        if wins { services(others) } else { Vec::new() }
    }

    /// Withdraws a claim. Returns the Services for which the winner changes by it.
    pub(crate) fn withdraw(&mut self, key: Key, claimant: &Claimant) -> Vec<ObjectName> {
        let won = self.winners.get(&key) == Some(claimant);
        let Some(others) = self.others.get_mut(&key) else {
            if won {
                self.winners.remove(&key);
            }
            return Vec::new();
        };
        let affected = if won {
            let affected = services(others);
            self.winners.insert(key, others.remove(0));
            affected
        } else {
            others.retain(|other| other != claimant);
            Vec::new()
        };
        if others.is_empty() {
            self.others.remove(&key);
        }
        affected
    }

    /// Who has the key.
    pub(crate) fn winner(&self, key: Key) -> Option<&Claimant> {
        self.winners.get(&key)
    }
}

fn services(claimants: &[Claimant]) -> Vec<ObjectName> {
    claimants.iter().map(|claimant| claimant.service.clone()).collect()
}
