//! The load-balancer addresses of Services, handed to who announces them on the local network.
//!
//! An address is announced once its rules are in force. Services can share one: then a node may
//! have it that each of them allows, or if there is none, that any of them does.

mod addresses;
mod key;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context;
use portolan_announce::{Allowed, Announcer, Counters, Event, Own, Routes, Selected, Settings};
use portolan_config::{Announcement, Config};
use portolan_observe::{Announcements, Metrics};
use portolan_service::{Announced, ObjectName, is_own_class};
use tracing::{info, warn};

use crate::this_node::ThisNode;

pub(crate) use self::addresses::Addresses;
pub(crate) use self::key::key;

/// Announces addresses.
pub(crate) struct Announcing {
    node: Arc<str>,
    /// Services without a class are announced, too.
    is_default: bool,
    announcer: Option<Arc<Announcer>>,
    routes: Option<Routes>,
    services: HashMap<ObjectName, Announced>,
    users: HashMap<IpAddr, BTreeMap<ObjectName, Allowed>>,
    /// Those of `users`, with the nodes that may have each.
    addresses: HashMap<IpAddr, Allowed>,
    own: Own,
    in_cluster: bool,
    /// The rules have been in force.
    served: bool,
    /// Why routes cannot be written, as it was reported.
    trouble: Option<String>,
}

impl Announcing {
    /// Starts to announce as the configuration asks for, though no address yet. In a cluster, the
    /// nodes must recognise each other. `up_to_date` is asked whether what is known of the cluster
    /// is. `None` if nothing is asked for.
    pub(crate) fn start(
        config: &Config,
        node: &str,
        in_cluster: bool,
        up_to_date: impl Fn() -> bool + Send + 'static,
        metrics: &Metrics,
    ) -> anyhow::Result<Option<Announcing>> {
        let Announcement { layer2, routing_table, .. } = config.announcement;
        if routing_table.is_none()
            && let Err(error) = Routes::clean_up()
        {
            // Of a process that was killed, and kept a table.
            warn!("routes to load-balancer addresses: {error}; `portolan cleanup` tries again");
        }
        if !layer2 && routing_table.is_none() {
            return Ok(None);
        }
        let announcer = if layer2 {
            let settings = settings(config, node, in_cluster, up_to_date)?;
            Some(Arc::new(Announcer::start(settings, log)?))
        } else {
            None
        };
        if let Some(announcer) = &announcer {
            let asked = Arc::downgrade(announcer);
            metrics.count_announcements(move || asked.upgrade()?.counters().map(counted));
        }
        let routes = routing_table.map(Routes::of).transpose().context("listing routes")?;
        Ok(Some(Announcing {
            node: node.into(),
            is_default: config.load_balancer.default,
            announcer,
            routes,
            services: HashMap::new(),
            users: HashMap::new(),
            addresses: HashMap::new(),
            own: Own::default(),
            in_cluster,
            served: false,
            trouble: None,
        }))
    }

    /// Takes the Services whose addresses have changed and are in force, and what this node is from
    /// now on. What was in force once goes on when a later commit fails.
    pub(crate) fn update(&mut self, changes: Vec<(ObjectName, Option<Announced>)>, node: &ThisNode) {
        let mut touched = self.set(changes);
        let may = node.takes_load_balancers(self.in_cluster);
        let own = Own { addresses: node.first_addresses(), willing: self.served && may };
        if own != self.own {
            if own.willing != self.own.willing {
                touched.extend(self.addresses.keys());
            }
            self.own = own.clone();
            if let Some(announcer) = &self.announcer {
                announcer.set_own(own);
            }
        }
        // Until the rules are in force, routes stay as the process before has left them.
        if self.served && (!touched.is_empty() || self.trouble.is_some()) {
            self.keep_routes(&touched);
        }
    }

    /// Takes that all rules are in force.
    pub(crate) fn in_force(&mut self) {
        self.served = true;
    }

    /// Returns the addresses that it is about.
    fn set(&mut self, changes: Vec<(ObjectName, Option<Announced>)>) -> BTreeSet<IpAddr> {
        let mut touched = BTreeSet::new();
        for (name, now) in changes {
            let now = now.filter(|now| is_own_class(now.class.as_deref(), self.is_default));
            let before = match &now {
                Some(now) => self.services.insert(name.clone(), now.clone()),
                None => self.services.remove(&name),
            };
            for (address, _) in before.into_iter().flat_map(|before| before.addresses) {
                touched.insert(address);
                if let Some(users) = self.users.get_mut(&address) {
                    users.remove(&name);
                }
            }
            for (address, allowed) in now.into_iter().flat_map(|now| now.addresses) {
                touched.insert(address);
                self.users.entry(address).or_default().insert(name.clone(), allowed);
            }
        }
        let changes: Vec<_> = touched.iter().map(|address| (*address, self.settle(*address))).collect();
        if let Some(announcer) = self.announcer.as_ref().filter(|_| !changes.is_empty()) {
            announcer.set_addresses(changes);
        }
        touched
    }

    /// Works out who may have an address: `None` if nobody uses it any more.
    fn settle(&mut self, address: IpAddr) -> Option<Allowed> {
        let Some(users) = self.users.get(&address).filter(|users| !users.is_empty()) else {
            self.users.remove(&address);
            self.addresses.remove(&address);
            return None;
        };
        let allowed = allowed_by_all(users.values());
        self.addresses.insert(address, allowed.clone());
        Some(allowed)
    }

    /// Has routes to those of `touched` that this node may announce.
    fn keep_routes<'a>(&mut self, touched: impl IntoIterator<Item = &'a IpAddr>) {
        let Some(routes) = &mut self.routes else { return };
        for address in touched {
            let allowed = self.addresses.get(address);
            let may = allowed.is_some_and(|nodes| nodes.as_ref().is_none_or(|n| n.contains(&self.node)));
            routes.want(*address, may && self.own.willing);
        }
        let trouble = routes.sync().err().map(|error| error.to_string());
        if let Some(trouble) = trouble.as_ref().filter(|_| self.trouble != trouble) {
            warn!("routes to load-balancer addresses: {trouble}; trying again");
        }
        self.trouble = trouble;
    }

    /// Adds who announces.
    pub(crate) fn describe(&self, addresses: &mut Addresses) {
        addresses.announcer.clone_from(&self.announcer);
        addresses.is_default = self.is_default;
        addresses.routes = self.routes.as_ref().map(|routes| (routes.table(), routes.present().collect()));
    }

    /// Announces nothing any more.
    pub(crate) fn end(&mut self) {
        self.own.willing = false;
        let all: Vec<IpAddr> = self.addresses.keys().copied().collect();
        self.keep_routes(&all);
        if let Some(announcer) = &self.announcer {
            announcer.end();
        }
    }
}

fn settings(
    config: &Config,
    node: &str,
    in_cluster: bool,
    up_to_date: impl Fn() -> bool + Send + 'static,
) -> anyhow::Result<Settings> {
    let interfaces = match config.announcement.interfaces.as_slice() {
        [] => Selected::Fitting,
        patterns => Selected::Named(patterns.to_vec()),
    };
    Ok(Settings {
        node: node.into(),
        key: key(config, in_cluster)?,
        interfaces,
        up_to_date: Box::new(up_to_date),
    })
}

fn log(event: &Event) {
    if event.is_warning() {
        warn!("{event}");
    } else {
        info!("{event}");
    }
}

fn counted(counters: Counters) -> Announcements {
    Announcements {
        held: counters.held,
        heard: counters.heard,
        answers: counters.answers,
        sent: counters.announcements,
        contradictions: counters.contradictions,
        foreign: counters.foreign,
        unsent: counters.unsent,
    }
}

/// The nodes that all Services allow, or if there is none, those that any of them does.
fn allowed_by_all<'a>(users: impl Iterator<Item = &'a Allowed> + Clone) -> Allowed {
    let some = users.flatten();
    let mut common = (**some.clone().next()?).clone();
    common.retain(|node| some.clone().all(|nodes| nodes.contains(node)));
    if common.is_empty() {
        common = some.flat_map(|nodes| nodes.iter().cloned()).collect();
    }
    Some(Arc::new(common))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(names: &str) -> Arc<BTreeSet<Arc<str>>> {
        Arc::new(names.split_whitespace().map(Arc::from).collect())
    }

    #[test]
    fn who_may_have_an_address_that_is_shared() {
        for (users, expected) in [
            (vec![None], None),
            (vec![None, None], None),
            (vec![None, Some(nodes("a b"))], Some(nodes("a b"))),
            (vec![Some(nodes("a b")), Some(nodes("b c"))], Some(nodes("b"))),
            (vec![Some(nodes("a")), Some(nodes("c"))], Some(nodes("a c"))),
            (vec![Some(nodes("a")), Some(nodes(""))], Some(nodes("a"))),
            (vec![Some(nodes(""))], Some(nodes(""))),
        ] {
            assert_eq!(allowed_by_all(users.iter()), expected, "{users:?}");
        }
    }
}
