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
    /// Enters a claim. Returns the Service that loses the key by it.
    pub(crate) fn enter(&mut self, key: Key, claimant: Claimant) -> Option<ObjectName> {
        let Some(winner) = self.winners.get_mut(&key) else {
            self.winners.insert(key, claimant);
            return None;
        };
        if *winner == claimant {
            return None;
        }
        let others = self.others.entry(key).or_default();
        let (loser, lost) = if claimant < *winner {
            let loser = std::mem::replace(winner, claimant);
            let lost = loser.service.clone();
            (loser, Some(lost))
        } else {
            (claimant, None)
        };
        if let Err(place) = others.binary_search(&loser) {
            others.insert(place, loser);
        }
        lost
    }

    /// Withdraws a claim. Returns the Service that gains the key by it.
    pub(crate) fn withdraw(&mut self, key: Key, claimant: &Claimant) -> Option<ObjectName> {
        if self.winners.get(&key) != Some(claimant) {
            if let Some(others) = self.others.get_mut(&key) {
                others.retain(|other| other != claimant);
                if others.is_empty() {
                    self.others.remove(&key);
                }
            }
            return None;
        }
        let Some(others) = self.others.get_mut(&key) else {
            self.winners.remove(&key);
            return None;
        };
        let next = others.remove(0);
        if others.is_empty() {
            self.others.remove(&key);
        }
        let gained = next.service.clone();
        self.winners.insert(key, next);
        Some(gained)
    }

    /// Who has the key.
    pub(crate) fn winner(&self, key: Key) -> Option<&Claimant> {
        self.winners.get(&key)
    }
}
