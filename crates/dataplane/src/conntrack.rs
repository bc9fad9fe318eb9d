//! Stale UDP flows: connection tracking keeps sending a client's datagrams where its first one went, even when
//! that endpoint is gone, for as long as they keep coming (spec §8A).
//!
//! Unlike the behaviour described there, flows of Services that fall to zero endpoints or are deleted go too
//! (spec §8.5), NodePorts are matched with their address (§8.3), and nothing but a change is a reason to look.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::Instant;

use portolan_netfilter::conntrack::{Conntrack, Flow};
use portolan_netfilter::nft::TableFamily;
use portolan_service::{Backend, Family, Frontend, PerFamily, PortPlan, Protocol, ServicePlan, Verdict};

use crate::{Outcome, Reconciled};

/// Above this many frontends, one pass over all flows is cheaper than one for each frontend: the kernel walks
/// its whole table for either.
const ASK_FOR_EACH: usize = 4;

type Address = (IpAddr, u16);

/// What becomes of the flows to one UDP frontend.
#[derive(Debug, Clone)]
enum Keep {
    /// Those to these backends are right; others, and those never translated, are stale.
    Serving(Vec<Address>),
    /// Nobody serves it any more; what was translated is stale, what was not has nothing to do with us.
    Untranslated,
}

/// UDP frontends whose flows may be stale. Kept until they have been looked through.
#[derive(Debug, Default)]
pub(crate) struct StaleFlows {
    frontends: HashMap<Address, Keep>,
}

impl StaleFlows {
    /// Nothing has to be looked through.
    pub(crate) fn is_empty(&self) -> bool {
        self.frontends.is_empty()
    }

    /// Adds what a change set makes stale: for each Service its plan before and after.
    pub(crate) fn changes<'a, S>(&mut self, steps: impl Fn() -> S)
    where
        S: Iterator<Item = (Option<&'a ServicePlan>, Option<&'a ServicePlan>)>,
    {
        for (before, _) in steps() {
            self.supersede(before);
        }
        for (before, after) in steps() {
            self.change(before, after);
        }
    }

    /// Looks the flows through and removes the stale ones. What fails stays pending for the next time: the rules are in
    /// force already.
    pub(crate) fn settle(&mut self, outcome: &mut Outcome) {
        match self.remove() {
            Ok(reconciled) => outcome.reconciled = reconciled,
            Err(error) => tracing::warn!(%error, "stale UDP flows could not be removed; will be tried again"),
        }
    }

    /// Adds what the change of one Service makes stale: frontends that are new, gone, or lost a serving backend; and
    /// those that connections are forwarded from now and were not before. iptables writes one table after the other:
    /// a datagram that comes in between is tracked, is not translated, and all that follow it would not be either.
    fn change(&mut self, before: Option<&ServicePlan>, after: Option<&ServicePlan>) {
        let mut old: HashMap<Address, UdpFrontend<'_>> = keyed(before).collect();
        for (frontend, new) in keyed(after) {
            let UdpFrontend { port, .. } = new;
            let looks = old
                .remove(&frontend)
                .is_none_or(|old| lost_any(&old.port.serving, &port.serving) || new.forwards_more_than(&old));
            if looks {
                self.frontends.insert(frontend, Keep::Serving(addresses(&port.serving)));
            } else if let Some(pending) = self.frontends.get_mut(&frontend) {
                *pending = Keep::Serving(addresses(&port.serving));
            }
        }
        for frontend in old.into_keys() {
            // Another Service of the same change set may have taken it over.
            self.frontends.entry(frontend).or_insert(Keep::Untranslated);
        }
    }

    /// Forgets what an earlier call decided about the frontends of `plan`, before [`StaleFlows::change`] is called
    /// for every Service of a change set.
    fn supersede(&mut self, before: Option<&ServicePlan>) {
        for (frontend, _) in keyed(before) {
            if let Some(Keep::Serving(_)) = self.frontends.get(&frontend) {
                self.frontends.insert(frontend, Keep::Untranslated);
            }
        }
    }

    /// Everything that is in force, after a start: `plans`, and frontends that the kernel had before.
    pub(crate) fn everything<'a>(
        plans: impl IntoIterator<Item = &'a ServicePlan>,
        before: impl IntoIterator<Item = Address>,
    ) -> StaleFlows {
        let mut frontends: HashMap<Address, Keep> =
            before.into_iter().map(|frontend| (frontend, Keep::Untranslated)).collect();
        frontends.extend(
            keyed(plans)
                .map(|(address, frontend)| (address, Keep::Serving(addresses(&frontend.port.serving)))),
        );
        StaleFlows { frontends }
    }

    fn is_stale(&self, flow: &Flow) -> bool {
        let translated = (flow.reply.source, flow.reply.source_port);
        let frontend = (flow.original.destination, flow.original.destination_port);
        flow.protocol == Protocol::Udp.number()
            && match self.frontends.get(&frontend) {
                None => false,
                Some(Keep::Serving(backends)) => !backends.contains(&translated),
                Some(Keep::Untranslated) => translated != frontend,
            }
    }

    /// Looks the flows through and removes the stale ones, if any can be. Afterwards nothing is pending, unless it
    /// fails.
    fn remove(&mut self) -> io::Result<Option<Reconciled>> {
        if self.is_empty() {
            return Ok(None);
        }
        let started = Instant::now();
        let mut conntrack = Conntrack::open()?;
        let mut stale = Vec::new();
        {
            let mut look = |flow: &Flow| {
                if self.is_stale(flow) {
                    stale.push(*flow);
                }
            };
            if self.frontends.len() <= ASK_FOR_EACH {
                for frontend in self.frontends.keys() {
                    conntrack.udp_flows(
                        address_family(Family::of(frontend.0)),
                        Some(*frontend),
                        &mut look,
                    )?;
                }
            } else {
                for family in Family::ALL {
                    if self.frontends.keys().any(|(address, _)| Family::of(*address) == family) {
                        conntrack.udp_flows(address_family(family), None, &mut look)?;
                    }
                }
            }
        }
        let mut removed = PerFamily::<usize>::default();
        for flow in &stale {
            let family = Family::of(flow.original.destination);
            *removed.get_mut(family) += usize::from(conntrack.delete(flow)?);
        }
        self.frontends.clear();
        Ok(Some(Reconciled { removed, took: started.elapsed() }))
    }
}

fn address_family(family: Family) -> TableFamily {
    match family {
        Family::V4 => TableFamily::Ip,
        Family::V6 => TableFamily::Ip6,
    }
}

/// A UDP frontend, with its port.
#[derive(Debug, Clone, Copy)]
struct UdpFrontend<'a> {
    port: &'a PortPlan,
    frontend: &'a Frontend,
}

impl UdpFrontend<'_> {
    /// Some connections are forwarded that were refused or dropped as `old` had it.
    fn forwards_more_than(&self, old: &UdpFrontend<'_>) -> bool {
        let forwarded = |verdict| matches!(verdict, Verdict::Forward(_));
        let (new, old) = (self.frontend, old.frontend);
        forwarded(new.inside) && !forwarded(old.inside) || forwarded(new.outside) && !forwarded(old.outside)
    }
}

/// The UDP frontends of `plans`, by address and port.
fn keyed<'a>(
    plans: impl IntoIterator<Item = &'a ServicePlan>,
) -> impl Iterator<Item = (Address, UdpFrontend<'a>)> {
    plans.into_iter().flat_map(|plan| &plan.ports).filter(|port| port.protocol == Protocol::Udp).flat_map(
        |port| {
            let of_port = move |frontend| UdpFrontend { port, frontend };
            port.frontends.iter().map(move |frontend| ((frontend.address, frontend.port), of_port(frontend)))
        },
    )
}

fn addresses(backends: &[Backend]) -> Vec<Address> {
    backends.iter().map(|backend| (backend.address, backend.port)).collect()
}

fn lost_any(before: &[Backend], after: &[Backend]) -> bool {
    if std::ptr::eq(before, after) {
        return false;
    }
    let after: std::collections::HashSet<Address> =
        after.iter().map(|backend| (backend.address, backend.port)).collect();
    before.iter().any(|backend| !after.contains(&(backend.address, backend.port)))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use portolan_netfilter::conntrack::Tuple;
    use portolan_service::{FrontendKind, List, Masquerade, ObjectName, Place};

    use super::*;

    /// A UDP Service at 10.96.0.1:53 and, with a NodePort, 192.0.2.1:30053.
    fn dns(name: &str, serving: &[&str], node_port: bool) -> ServicePlan {
        let serving: Arc<[Backend]> = serving
            .iter()
            .map(|text| text.parse::<SocketAddr>().expect("address:port"))
            .map(|socket| Backend { address: socket.ip(), port: socket.port(), place: Place::Elsewhere })
            .collect();
        let verdict = if serving.is_empty() { Verdict::Reject } else { Verdict::Forward(List::Cluster) };
        let frontend = |kind, address: &str, port| Frontend {
            kind,
            address: address.parse().expect("an address"),
            port,
            inside: verdict,
            outside: verdict,
            masquerade: Masquerade::NotLocal,
            allowed_sources: None,
        };
        let mut frontends = vec![frontend(FrontendKind::ClusterIp, "10.96.0.1", 53)];
        if node_port {
            frontends.push(frontend(FrontendKind::NodePort, "192.0.2.1", 30053));
        }
        let port = PortPlan {
            family: Family::V4,
            name: "dns".into(),
            protocol: Protocol::Udp,
            cluster: serving.clone(),
            local: Arc::from([]),
            serving,
            affinity: None,
            node_port: None,
            frontends,
        };
        ServicePlan { name: ObjectName::new("kube-system", name), ports: vec![port], health_check: None }
    }

    fn flow(protocol: Protocol, to: &str, from: &str) -> Flow {
        let (to, from): (SocketAddr, SocketAddr) = (to.parse().expect("to"), from.parse().expect("from"));
        let client: SocketAddr = "10.244.1.9:4000".parse().expect("client");
        let tuple = |source: SocketAddr, destination: SocketAddr| Tuple {
            source: source.ip(),
            destination: destination.ip(),
            source_port: source.port(),
            destination_port: destination.port(),
        };
        Flow {
            protocol: protocol.number(),
            original: tuple(client, to),
            reply: tuple(from, client),
            status: 0,
            id: 1,
            zone: None,
        }
    }

    /// Situation, before, after, a flow, whether it is stale.
    type Case<'a> = (&'a str, Option<&'a ServicePlan>, Option<&'a ServicePlan>, Flow, bool);

    #[test]
    fn flows_are_stale_as_the_change_says() {
        const IP: &str = "10.96.0.1:53";
        const NODE: &str = "192.0.2.1:30053";
        const A: &str = "10.244.1.1:5353";
        const B: &str = "10.244.1.2:5353";
        let udp = |to, from| flow(Protocol::Udp, to, from);
        let (both, only_b, none) = (dns("d", &[A, B], true), dns("d", &[B], true), dns("d", &[], true));
        let cluster_only = dns("d", &[A, B], false);
        #[rustfmt::skip]
        let cases: &[Case<'_>] = &[
            ("its endpoint left (§8.2)",              Some(&both), Some(&only_b), udp(IP, A), true),
            ("its endpoint left, NodePort",           Some(&both), Some(&only_b), udp(NODE, A), true),
            ("its endpoint serves",                   Some(&both), Some(&only_b), udp(IP, B), false),
            ("another address, same port (not §8.3)", Some(&both), Some(&only_b), udp("198.51.100.1:30053", A), false),
            ("another protocol (§8.1)",               Some(&both), Some(&only_b), flow(Protocol::Tcp, IP, A), false),
            ("no endpoint is left (not §8.5)",        Some(&both), Some(&none),   udp(IP, B), true),
            ("the Service is gone (not §8.5)",        Some(&both), None,          udp(IP, B), true),
            ("gone; it was never translated",         Some(&both), None,          udp(NODE, NODE), false),
            ("the NodePort is gone",                  Some(&both), Some(&cluster_only), udp(NODE, A), true),
            ("the NodePort is gone, not this",        Some(&both), Some(&cluster_only), udp(IP, A), false),
            ("new; it was never translated (§8.4)",   None,        Some(&both),   udp(IP, IP), true),
            ("new; another proxy translated it",      None,        Some(&both),   udp(IP, A), false),
            ("an endpoint came",                      Some(&only_b), Some(&both), udp(IP, B), false),
            ("the first came; not translated",        Some(&none), Some(&only_b), udp(IP, IP), true),
            ("the first came; translated to it",      Some(&none), Some(&only_b), udp(IP, B), false),
        ];
        for (situation, before, after, flow, stale) in cases {
            let mut flows = StaleFlows::default();
            flows.change(*before, *after);
            assert_eq!(flows.is_stale(flow), *stale, "{situation}");
        }
        let mut flows = StaleFlows::default();
        flows.change(Some(&only_b), Some(&both));
        assert!(flows.is_empty(), "where further endpoints come, nothing has to be looked through");
    }

    #[test]
    fn a_frontend_that_moves_between_services_keeps_what_the_new_one_serves() {
        let (old, new) = (dns("old", &["10.244.1.1:5353"], false), dns("new", &["10.244.1.2:5353"], false));
        for order in [[(Some(&old), None), (None, Some(&new))], [(None, Some(&new)), (Some(&old), None)]] {
            let mut flows = StaleFlows::default();
            for (before, after) in order {
                flows.change(before, after);
            }
            assert!(flows.is_stale(&flow(Protocol::Udp, "10.96.0.1:53", "10.244.1.1:5353")));
            assert!(!flows.is_stale(&flow(Protocol::Udp, "10.96.0.1:53", "10.244.1.2:5353")));
        }
    }

    #[test]
    fn what_is_pending_follows_later_changes() {
        let (first, second) = (dns("d", &["10.244.1.1:5353"], false), dns("d", &["10.244.1.2:5353"], false));
        let mut flows = StaleFlows::default();
        flows.change(Some(&first), Some(&second));
        flows.supersede(Some(&second));
        flows.change(Some(&second), None);
        assert!(flows.is_stale(&flow(Protocol::Udp, "10.96.0.1:53", "10.244.1.2:5353")), "gone meanwhile");
    }

    #[test]
    fn after_a_start_flows_to_todays_endpoints_are_kept() {
        let today = dns("d", &["10.244.1.1:5353"], false);
        let yesterday = ("10.96.0.7".parse().expect("an address"), 53);
        let flows = StaleFlows::everything([&today], [yesterday]);
        let cases = [
            ("of today", "10.96.0.1:53", "10.244.1.1:5353", false),
            ("an endpoint of yesterday", "10.96.0.1:53", "10.244.1.9:5353", true),
            ("a frontend of yesterday", "10.96.0.7:53", "10.244.1.1:5353", true),
            ("nobody's", "10.96.0.8:53", "10.244.1.1:5353", false),
        ];
        for (situation, to, from, stale) in cases {
            assert_eq!(flows.is_stale(&flow(Protocol::Udp, to, from)), stale, "{situation}");
        }
    }
}
