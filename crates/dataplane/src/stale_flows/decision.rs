//! Which UDP flows are stale after a change. Pure: knows plans and flows, and asks nobody.
//!
//! Unlike the behaviour of spec §8A, flows of Services that fall to zero endpoints or are deleted
//! go too (spec §8.5), NodePorts are matched with their address (§8.3), and nothing but a change is
//! a reason to look.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use portolan_netfilter::conntrack::Flow;
use portolan_service::{Backend, Frontend, PortPlan, Protocol, ServicePlan, Verdict};

/// The most that are known by name of those who may answer stale flows to a frontend.
const SUSPECTS: usize = 4;

/// Address and port.
pub(super) type Address = (IpAddr, u16);

/// What becomes of the flows to one UDP frontend.
#[derive(Debug, Clone)]
enum Keep {
    /// Those to these backends are right; others, and those never translated, are stale.
    Serving(Arc<HashSet<Address>>),
    /// Nobody serves it any more; what was translated is stale, what was not has nothing to do with
    /// us.
    Untranslated,
}

/// UDP frontends whose flows may be stale, until they have been looked through.
#[derive(Debug, Clone, Default)]
pub(super) struct StaleFlows {
    frontends: HashMap<Address, Pending>,
    /// How many entries were made so far.
    made: u64,
}

/// A frontend that is to be looked through.
#[derive(Debug, Clone)]
struct Pending {
    keep: Keep,
    /// Who may answer flows that are stale: no others are, as everything was right before the
    /// change. `None`: anybody.
    suspects: Option<Vec<Address>>,
    /// The number of this entry: a later one for the same frontend has another.
    number: u64,
}

impl StaleFlows {
    /// Nothing has to be looked through.
    pub(super) fn is_empty(&self) -> bool {
        self.frontends.is_empty()
    }

    /// The frontends whose flows are to be looked through.
    pub(super) fn frontends(&self) -> impl ExactSizeIterator<Item = Address> {
        self.frontends.keys().copied()
    }

    /// The pairs of frontend and who answers between which flows may be stale, if there are at most
    /// so many.
    pub(super) fn suspects(&self, most: usize) -> Option<Vec<(Address, Address)>> {
        let mut pairs = Vec::new();
        for (frontend, pending) in &self.frontends {
            let suspects = pending.suspects.as_ref().filter(|all| pairs.len() + all.len() <= most)?;
            pairs.extend(suspects.iter().map(|suspect| (*frontend, *suspect)));
        }
        Some(pairs)
    }

    /// What `seen` had of these has been looked through. What came or changed since then stays.
    pub(super) fn done(&mut self, seen: &StaleFlows) {
        for (frontend, entry) in &seen.frontends {
            if self.frontends.get(frontend).is_some_and(|now| now.number == entry.number) {
                self.frontends.remove(frontend);
            }
        }
    }

    fn insert(&mut self, frontend: Address, keep: Keep, suspects: Option<Vec<Address>>) {
        self.made += 1;
        self.frontends.insert(frontend, Pending { keep, suspects, number: self.made });
    }

    /// Adds what a change set makes stale: for each Service its plan before and after.
    pub(super) fn changes<'a, S>(&mut self, steps: impl Fn() -> S)
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

    /// Adds what the change of one Service makes stale: frontends that are new, gone, or lost a
    /// serving backend; and those that connections are forwarded from now and were not before.
    /// iptables writes one table after the other: a datagram that comes in between is tracked, is
    /// not translated, and all that follow it would not be either.
    fn change(&mut self, before: Option<&ServicePlan>, after: Option<&ServicePlan>) {
        let mut old: HashMap<Address, UdpFrontend<'_>> = keyed(before).collect();
        let mut lists = Lists::default();
        for (frontend, new) in keyed(after) {
            let UdpFrontend { port, .. } = new;
            let old = old.remove(&frontend);
            let looks = old.is_none_or(|old| lists.lost_any(old.port, port) || new.forwards_more_than(&old));
            // What is pending follows later changes.
            let pending = self.frontends.contains_key(&frontend);
            if looks || pending {
                let suspects = old.filter(|_| !pending).and_then(|old| lists.suspects(&old, &new, frontend));
                self.insert(frontend, Keep::Serving(lists.serving(port)), suspects);
            }
        }
        for frontend in old.into_keys() {
            // Another Service of the same change set may have taken it over.
            if !self.frontends.contains_key(&frontend) {
                self.insert(frontend, Keep::Untranslated, None);
            }
        }
    }

    /// Forgets what an earlier call decided about the frontends of `plan`, before
    /// [`StaleFlows::change`] is called for every Service of a change set.
    fn supersede(&mut self, before: Option<&ServicePlan>) {
        for (frontend, _) in keyed(before) {
            if self.frontends.contains_key(&frontend) {
                self.insert(frontend, Keep::Untranslated, None);
            }
        }
    }

    /// Everything that is in force, after a start: `plans`, and frontends that the kernel had
    /// before. Replaces what was pending.
    pub(super) fn everything<'a>(
        &mut self,
        plans: impl IntoIterator<Item = &'a ServicePlan>,
        before: impl IntoIterator<Item = Address>,
    ) {
        let mut lists = Lists::default();
        self.frontends.clear();
        for frontend in before {
            self.insert(frontend, Keep::Untranslated, None);
        }
        for (address, frontend) in keyed(plans) {
            self.insert(address, Keep::Serving(lists.serving(frontend.port)), None);
        }
    }

    /// A UDP flow leads from a pending frontend to where it should not.
    pub(super) fn is_stale(&self, flow: &Flow) -> bool {
        let translated = (flow.reply.source, flow.reply.source_port);
        let frontend = (flow.original.destination, flow.original.destination_port);
        flow.protocol == Protocol::Udp.number()
            && match self.frontends.get(&frontend).map(|pending| &pending.keep) {
                None => false,
                Some(Keep::Serving(backends)) => !backends.contains(&translated),
                Some(Keep::Untranslated) => translated != frontend,
            }
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

/// What was found out about lists of backends, which all frontends of a port share: each list is
/// gone through once, however many frontends there are. Ports and lists are known by where they
/// are.
#[derive(Debug, Default)]
struct Lists {
    serving: HashMap<*const Backend, Arc<HashSet<Address>>>,
    lost: HashMap<(*const PortPlan, *const PortPlan), bool>,
}

impl Lists {
    /// The backends of `port` that serve.
    fn serving(&mut self, port: &PortPlan) -> Arc<HashSet<Address>> {
        let addresses = || port.serving.iter().map(|backend| (backend.address, backend.port)).collect();
        self.serving.entry(port.serving.as_ptr()).or_insert_with(|| Arc::new(addresses())).clone()
    }

    /// Some backend served `old` and does not serve `new`.
    fn lost_any(&mut self, old: &PortPlan, new: &PortPlan) -> bool {
        if Arc::ptr_eq(&old.serving, &new.serving) {
            return false;
        }
        let after = self.serving(new);
        let lost = || old.serving.iter().any(|backend| !after.contains(&(backend.address, backend.port)));
        *self.lost.entry((old, new)).or_insert_with(lost)
    }

    /// Who may answer flows to `frontend` that are stale now and were right before: backends that
    /// have left, and the frontend itself where nothing was forwarded. `None` if they are many.
    fn suspects(
        &mut self,
        old: &UdpFrontend<'_>,
        new: &UdpFrontend<'_>,
        frontend: Address,
    ) -> Option<Vec<Address>> {
        let after = self.serving(new.port);
        let left = old.port.serving.iter().map(|backend| (backend.address, backend.port));
        let left = left.filter(|backend| !after.contains(backend)).take(SUSPECTS + 1);
        let suspects: Vec<Address> = left.chain(new.forwards_more_than(old).then_some(frontend)).collect();
        (suspects.len() <= SUSPECTS).then_some(suspects)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use portolan_netfilter::conntrack::Tuple;
    use portolan_service::{Family, FrontendKind, List, Masquerade, ObjectName, Place};

    use super::*;

    /// A UDP Service at 10.96.0.1:53 and, with a NodePort, 192.0.2.1:30053.
    fn dns(name: &str, serving: &[&str], node_port: bool) -> ServicePlan {
        let serving: Arc<[Backend]> = serving
            .iter()
            .map(|text| text.parse::<SocketAddr>().expect("address:port"))
            .map(|socket| Backend {
                address: socket.ip(),
                port: socket.port(),
                place: Place::Elsewhere,
                weight: 1,
            })
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
            proxy_protocol: None,
            scheduler: None,
            resting: Arc::default(),
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
            // What is stale is found by whom it is asked for.
            let frontend = (flow.original.destination, flow.original.destination_port);
            let found = flows
                .suspects(usize::MAX)
                .is_none_or(|pairs| pairs.contains(&(frontend, (flow.reply.source, flow.reply.source_port))));
            assert!(found || !stale, "{situation}: not asked for");
        }
        let mut flows = StaleFlows::default();
        flows.change(Some(&both), Some(&only_b));
        assert_eq!(flows.suspects(4).map(|pairs| pairs.len()), Some(2), "one for each frontend");
        assert_eq!(flows.suspects(1), None);
        flows.change(Some(&only_b), Some(&both));
        assert_eq!(flows.suspects(4), None, "pending before: anybody");
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
    fn what_changed_while_it_was_looked_through_stays_pending() {
        let (first, second) = (dns("d", &["10.244.1.1:5353"], true), dns("d", &["10.244.1.2:5353"], true));
        let mut flows = StaleFlows::default();
        flows.changes(|| [(Some(&first), Some(&second))].into_iter());
        let seen = flows.clone();
        // The NodePort goes.
        let third = dns("d", &["10.244.1.2:5353"], false);
        flows.changes(|| [(Some(&second), Some(&third))].into_iter());
        flows.done(&seen);
        let node_port = flow(Protocol::Udp, "192.0.2.1:30053", "10.244.1.2:5353");
        assert!(!seen.is_stale(&node_port) && flows.is_stale(&node_port));
        let seen = flows.clone();
        flows.done(&seen);
        assert!(flows.is_empty());
    }

    #[test]
    fn after_a_start_flows_to_todays_endpoints_are_kept() {
        let today = dns("d", &["10.244.1.1:5353"], false);
        let yesterday = ("10.96.0.7".parse().expect("an address"), 53);
        let mut flows = StaleFlows::default();
        flows.everything([&today], [yesterday]);
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

    #[test]
    fn all_frontends_of_a_port_share_one_list() {
        let endpoints = |range: std::ops::Range<u16>| -> Vec<String> {
            range.map(|host| format!("10.244.{}.{}:53", host / 250, host % 250 + 1)).collect()
        };
        let with_addresses = |endpoints: &[String]| {
            let serving: Vec<&str> = endpoints.iter().map(String::as_str).collect();
            let mut plan = dns("d", &serving, false);
            let first = plan.ports[0].frontends[0].clone();
            plan.ports[0].frontends.extend((0..1000u16).map(|number| {
                let [high, low] = number.to_be_bytes();
                Frontend { address: IpAddr::from([203, 0, high, low]), ..first.clone() }
            }));
            plan
        };
        let (before, after) = (with_addresses(&endpoints(0..1000)), with_addresses(&endpoints(1..1000)));
        let mut flows = StaleFlows::default();
        flows.change(Some(&before), Some(&after));
        assert_eq!(flows.frontends.len(), 1001);
        let mut lists: Vec<_> = flows
            .frontends
            .values()
            .map(|pending| match &pending.keep {
                Keep::Serving(list) => Arc::as_ptr(list),
                Keep::Untranslated => panic!("all are served"),
            })
            .collect();
        lists.dedup();
        assert_eq!(lists.len(), 1, "one list, not one for each frontend");
    }
}
