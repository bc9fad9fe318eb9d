//! Who may use an address and port that several Services ask for.
//!
//! The kernel can give it to one only. The winner does not depend on the order in which Services
//! arrive: ClusterIPs come before load-balancer addresses, which the cluster gave, these before
//! external ones, which whoever writes the Service chooses, and these before NodePorts; then the
//! Service's name decides, then the port's.

use std::collections::{BTreeSet, HashMap};
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
        FrontendKind::LoadBalancer => 1,
        FrontendKind::ExternalIp => 2,
        FrontendKind::NodePort => 3,
    }
}

/// All claims. Uncontested ones, nearly all, cost one entry of the map.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    winners: HashMap<Key, Claimant>,
    /// Only for keys with more than one claimant.
    others: HashMap<Key, BTreeSet<Claimant>>,
}

impl Claims {
    /// Enters a claim. Returns the Service that loses the key by it, if one does.
    ///
    /// Those who had lost it before have lost it still: however many ask for a key, a claim
    /// concerns two of them.
    pub(crate) fn enter(&mut self, key: Key, claimant: Claimant) -> Option<ObjectName> {
        let Some(winner) = self.winners.get_mut(&key) else {
            self.winners.insert(key, claimant);
            return None;
        };
        if *winner == claimant {
            return None;
        }
        let wins = claimant < *winner;
        let loser = if wins { std::mem::replace(winner, claimant) } else { claimant };
        let service = wins.then(|| loser.service.clone());
        self.others.entry(key).or_default().insert(loser);
        service
    }

    /// Withdraws a claim. Returns the Service that wins the key by it, if one does.
    pub(crate) fn withdraw(&mut self, key: Key, claimant: &Claimant) -> Option<ObjectName> {
        let won = self.winners.get(&key) == Some(claimant);
        let Some(others) = self.others.get_mut(&key) else {
            if won {
                self.winners.remove(&key);
            }
            return None;
        };
        let mut next = None;
        if won {
            next = others.pop_first();
        } else {
            others.remove(claimant);
        }
        if others.is_empty() {
            self.others.remove(&key);
        }
        let service = next.as_ref().map(|winner| winner.service.clone());
        if let Some(winner) = next {
            self.winners.insert(key, winner);
        }
        service
    }

    /// Who has the key.
    pub(crate) fn winner(&self, key: Key) -> Option<&Claimant> {
        self.winners.get(&key)
    }
}
