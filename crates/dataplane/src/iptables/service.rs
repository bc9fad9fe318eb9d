//! The rules of one Service (spec §5D): a pure function of its plan.

mod portals;

use std::collections::HashSet;
use std::net::SocketAddr;

use portolan_service::{
    Backend, Family, Frontend, FrontendKind, List, Masquerade, PortPlan, ServicePlan, Verdict,
};

use super::chains::{Counts, LOCALHOST_ACCEPTED, Shared, Style, Table};
use super::names::{PortChains, endpoint_chain};
use super::options::Layout;
use super::rule::{Match, Rule, Target};
use crate::chain_names::MARK_MASQ;
use crate::settings::LocalDetector;
use crate::slots::{slot_count, slots};

/// What one Service needs in one family.
#[derive(Debug, Default)]
pub(super) struct ServiceRules {
    /// Its rules in chains with rules of many Services.
    pub(super) shared: Vec<(Shared, Rule)>,
    /// Its own chains, all in table nat.
    pub(super) chains: Vec<(String, Vec<Rule>)>,
}

impl ServiceRules {
    /// How many rules that is.
    pub(super) fn count(&self) -> Counts {
        let mut counts = Counts::default();
        for (shared, _) in &self.shared {
            counts.add(shared.table(), 1);
        }
        for (_, rules) in &self.chains {
            counts.add(Table::Nat, rules.len());
        }
        counts
    }
}

/// The rules of `plan` in the family of `style`.
pub(super) fn render(style: &Style, plan: &ServicePlan) -> ServiceRules {
    let mut rules = ServiceRules::default();
    for port in plan.ports.iter().filter(|port| port.family == style.family) {
        let rendered = Port::new(style, plan, port);
        if style.options.layout == Layout::Portals {
            rendered.portals(&mut rules);
            continue;
        }
        rendered.render(&mut rules);
        if let Some(check) = plan.health_check {
            let comment = format!("{} health check node port", plan.port_name(port));
            let rule = Rule::new()
                .comment(comment)
                .transport(portolan_service::Protocol::Tcp, Some(check.port))
                .target(Target::Accept);
            rules.shared.push((Shared::HealthChecks, rule));
        }
    }
    rules
}

/// How many endpoints the rules of `plan` name, for the threshold of spec §5.33.
pub(super) fn endpoints(plan: &ServicePlan, family: Family) -> usize {
    plan.ports.iter().filter(|port| port.family == family).map(|port| reachable(port).count()).sum()
}

/// Members of both lists, each once (spec §2.6).
fn reachable(port: &PortPlan) -> impl Iterator<Item = &Backend> {
    // Mostly there is one list, or both are the same.
    let one_list = port.local.is_empty() || port.cluster == port.local;
    let local: &[Backend] = if one_list { &[] } else { &port.local };
    let cluster: HashSet<SocketAddr> =
        if one_list { HashSet::new() } else { port.cluster.iter().map(endpoint).collect() };
    port.cluster.iter().chain(local.iter().filter(move |backend| !cluster.contains(&endpoint(backend))))
}

fn endpoint(backend: &Backend) -> SocketAddr {
    SocketAddr::new(backend.address, backend.port)
}

/// A Service port and what its rules need.
struct Port<'a> {
    style: &'a Style,
    plan: &'a PortPlan,
    /// `namespace/name:port`
    name: String,
    chains: PortChains,
}

impl Port<'_> {
    fn new<'a>(style: &'a Style, plan: &ServicePlan, port: &'a PortPlan) -> Port<'a> {
        let name = plan.port_name(port);
        Port { style, plan: port, chains: PortChains::of(&name, port.protocol), name }
    }

    fn render(&self, to: &mut ServiceRules) {
        for frontend in &self.plan.frontends {
            match frontend.kind {
                FrontendKind::ClusterIp => self.cluster_ip(frontend, to),
                FrontendKind::ExternalIp | FrontendKind::LoadBalancer => self.external(frontend, to),
                FrontendKind::NodePort => {}
            }
        }
        // One rule serves all addresses.
        let node_port = self.plan.frontends.iter().find(|frontend| frontend.kind == FrontendKind::NodePort);
        if let Some(frontend) = node_port {
            self.node_port(frontend, to);
        }
        for (list, chain) in [(List::Cluster, &self.chains.cluster), (List::Local, &self.chains.local)] {
            if !self.plan.backends(list).is_empty() {
                to.chains.push((chain.clone(), self.balancing(list)));
            }
        }
        let external = self.plan.frontends.iter().find(|frontend| frontend.kind != FrontendKind::ClusterIp);
        if let Some(frontend) = external
            && frontend.outside != Verdict::Reject
        {
            to.chains.push((self.chains.external.clone(), self.external_chain(frontend)));
        }
        let restricted =
            |frontend: &&Frontend| frontend.allowed_sources.is_some() && frontend.outside != Verdict::Reject;
        if let Some(frontend) = self.plan.frontends.iter().find(restricted) {
            to.chains.push((self.chains.firewall.clone(), self.firewall_chain(frontend)));
        }
        for backend in reachable(self.plan) {
            to.chains.push(self.endpoint_chain(backend));
        }
    }

    /// The destination address, protocol and port of `frontend`.
    fn destination(&self, comment: &str, frontend: &Frontend) -> Rule {
        Rule::new()
            .comment(format!("{} {comment}", self.name))
            .transport(self.plan.protocol, Some(frontend.port))
            .to(frontend.address)
    }

    /// Spec §5.21, §5.22.
    fn cluster_ip(&self, frontend: &Frontend, to: &mut ServiceRules) {
        match frontend.inside {
            Verdict::Forward(list) => {
                let rule = self.destination("cluster IP", frontend).jump(self.list_chain(list));
                to.shared.push((Shared::Services, rule));
            }
            verdict => {
                let (comment, target) = refusal(verdict);
                let rule = self.destination(comment, frontend).target(target);
                to.shared.push((Shared::Unanswered, rule));
            }
        }
    }

    /// Spec §5.23, §5.24.
    fn external(&self, frontend: &Frontend, to: &mut ServiceRules) {
        let has_any = frontend.outside != Verdict::Reject;
        if has_any {
            let comment = match frontend.kind {
                FrontendKind::LoadBalancer => "loadbalancer IP",
                _ => "external IP",
            };
            let restricted = frontend.allowed_sources.is_some();
            let chain = if restricted { &self.chains.firewall } else { &self.chains.external };
            let rule = self.destination(comment, frontend).jump(chain);
            to.shared.push((Shared::Services, rule));
            if restricted {
                let comment = format!("traffic not accepted by {}", self.chains.firewall);
                let rule = self.destination(&comment, frontend).target(Target::Drop);
                to.shared.push((Shared::Firewall, rule));
            }
        }
        if !matches!(frontend.outside, Verdict::Forward(_)) {
            let (comment, target) = refusal(frontend.outside);
            let rule = self.destination(comment, frontend).target(target);
            to.shared.push((Shared::ExternalUnanswered, rule));
        }
    }

    /// Spec §5.25.
    fn node_port(&self, frontend: &Frontend, to: &mut ServiceRules) {
        let (protocol, port) = (self.plan.protocol, Some(frontend.port));
        if frontend.outside != Verdict::Reject {
            let rule = || Rule::new().comment(&*self.name).transport(protocol, port);
            if self.style.localhost_node_ports()
                && let Some(counter) = self.style.counter(LOCALHOST_ACCEPTED)
            {
                let network = "127.0.0.0/8".parse().expect("a network");
                let counted = rule()
                    .with(Match::Destination { not: false, network })
                    .with(counter)
                    .jump(&*self.chains.external);
                to.shared.push((Shared::NodePorts, counted));
            }
            to.shared.push((Shared::NodePorts, rule().jump(&*self.chains.external)));
        }
        if !matches!(frontend.outside, Verdict::Forward(_)) {
            let (comment, target) = refusal(frontend.outside);
            let rule = Rule::new()
                .comment(format!("{} {comment}", self.name))
                .with(Match::DestinationIsLocal)
                .transport(protocol, port)
                .target(target);
            to.shared.push((Shared::ExternalUnanswered, rule));
        }
    }

    /// Spec §5.28.
    fn external_chain(&self, frontend: &Frontend) -> Vec<Rule> {
        let destinations =
            |what: &str| Rule::new().comment(format!("{what} for {} external destinations", self.name));
        let mut rules = Vec::new();
        if frontend.masquerade == Masquerade::FromNode {
            let cluster = &*self.chains.cluster;
            if let Some(local) = self.local_pod(false) {
                rules.push(destinations("pod traffic").with(local).jump(cluster));
            }
            rules.push(destinations("masquerade LOCAL traffic").with(Match::SourceIsLocal).jump(MARK_MASQ));
            rules.push(destinations("route LOCAL traffic").with(Match::SourceIsLocal).jump(cluster));
        } else {
            rules.push(destinations("masquerade traffic").jump(MARK_MASQ));
        }
        if let Verdict::Forward(list) = frontend.outside {
            rules.push(Rule::new().jump(self.list_chain(list)));
        }
        rules
    }

    /// Spec §5.29.
    fn firewall_chain(&self, frontend: &Frontend) -> Vec<Rule> {
        let sources = frontend.allowed_sources.iter().flat_map(|sources| &sources.listed);
        let mut rules: Vec<Rule> = sources
            .map(|network| {
                Rule::new()
                    .comment(format!("{} loadbalancer IP", self.name))
                    .from(*network)
                    .jump(&*self.chains.external)
            })
            .collect();
        let rest = format!("other traffic to {} will be dropped by KUBE-PROXY-FIREWALL", self.name);
        rules.push(Rule::new().comment(rest));
        rules
    }

    /// Spec §5.27, §5.30.
    fn balancing(&self, list: List) -> Vec<Rule> {
        let mut rules = Vec::new();
        let internal = self.plan.frontends.iter().find(|frontend| {
            frontend.kind == FrontendKind::ClusterIp && frontend.inside == Verdict::Forward(list)
        });
        if let Some(frontend) = internal {
            let rule = self.destination("cluster IP", frontend);
            if self.style.settings.masquerade_all {
                rules.push(rule.jump(MARK_MASQ));
            } else if let Some(not_local) = self.local_pod(true) {
                rules.push(rule.with(not_local).jump(MARK_MASQ));
            }
        }
        let backends = self.plan.backends(list);
        let to_endpoint =
            |backend: &Backend| Rule::new().comment(format!("{} -> {}", self.name, endpoint(backend)));
        if let Some(seconds) = self.plan.affinity {
            for backend in backends.iter() {
                let chain = self.chain_of(backend);
                let recent = Match::RecentCheck { name: chain.clone(), seconds };
                rules.push(to_endpoint(backend).with(recent).jump(chain));
            }
        }
        let count = slot_count(backends);
        for (left, backend) in (1..=count).rev().zip(slots(backends)) {
            let chance = (left > 1).then_some(Match::OneIn(left));
            rules.push(to_endpoint(backend).maybe(chance).jump(self.chain_of(backend)));
        }
        self.styled(rules)
    }

    /// Spec §5.31.
    fn endpoint_chain(&self, backend: &Backend) -> (String, Vec<Rule>) {
        let chain = self.chain_of(backend);
        let rule = || Rule::new().comment(&*self.name);
        let remember = self.plan.affinity.map(|_| Match::RecentSet(chain.clone()));
        let rules = vec![
            rule().from(backend.address.into()).jump(MARK_MASQ),
            rule()
                .maybe(remember)
                .transport(self.plan.protocol, None)
                .target(Target::Dnat(endpoint(backend))),
        ];
        (chain, self.styled(rules))
    }

    /// Spec §5.33.
    fn styled(&self, rules: Vec<Rule>) -> Vec<Rule> {
        if self.style.large { rules.into_iter().map(Rule::without_comments).collect() } else { rules }
    }

    fn chain_of(&self, backend: &Backend) -> String {
        endpoint_chain(&self.name, self.plan.protocol, endpoint(backend))
    }

    fn list_chain(&self, list: List) -> &str {
        match list {
            List::Cluster => &self.chains.cluster,
            List::Local => &self.chains.local,
        }
    }

    /// The packet is from a pod of this node, or is not (spec §4.8). `None` if nothing is known.
    fn local_pod(&self, not: bool) -> Option<Match> {
        Some(match self.style.settings.local.get(self.style.family).as_ref()? {
            LocalDetector::SourceNetwork(network) => Match::Source { not, network: *network },
            LocalDetector::Interface(name) => Match::Input { not, interface: name.clone() },
            LocalDetector::InterfacePrefix(prefix) => Match::Input { not, interface: format!("{prefix}+") },
        })
    }
}

/// Why nobody answers, and what happens (spec §2.10).
fn refusal(verdict: Verdict) -> (&'static str, Target) {
    match verdict {
        Verdict::Drop => ("has no local endpoints", Target::Drop),
        Verdict::Reject | Verdict::Forward(_) => ("has no endpoints", Target::Reject),
    }
}
