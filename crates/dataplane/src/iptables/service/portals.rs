//! The rules of one Service port whose endpoints are sockets of this process: those of kube-proxy's
//! userspace mode (`docs/userspace.md`, U5.5-U5.10), and what it did not have, as mode iptables has
//! it.

use portolan_service::{Backend, Frontend, FrontendKind, List, Verdict};

use super::{Port, ServiceRules, endpoint, refusal};
use crate::iptables::chains::Shared;
use crate::iptables::rule::{Match, Rule, States, Target};

impl Port<'_> {
    /// The rules that lead to the port's sockets, and those that keep others away from these.
    pub(super) fn portals(&self, to: &mut ServiceRules) {
        for frontend in &self.plan.frontends {
            if frontend.kind != FrontendKind::NodePort {
                self.portal(frontend, to);
            }
        }
        // One rule serves all addresses.
        let external = || self.plan.frontends.iter().filter(|other| other.kind != FrontendKind::ClusterIp);
        if let Some(frontend) = external().find(|frontend| frontend.kind == FrontendKind::NodePort) {
            self.node_port_to_socket(frontend, to);
        }
        if let Some(frontend) = external().find(|frontend| is_restricted(frontend) || !is_same(frontend)) {
            to.chains.push((self.chains.external.clone(), self.external_to_socket(frontend)));
        }
        if let Some(frontend) = external().find(|frontend| is_restricted(frontend)) {
            to.chains.push((self.chains.firewall.clone(), self.firewall_chain(frontend)));
        }
        for socket in self.sockets() {
            let guard = Rule::new()
                .comment(&*self.name)
                .transport(self.plan.protocol, Some(socket.port))
                .to(socket.address)
                .with(Match::State { not: true, states: States::Translated })
                .target(Target::Drop);
            to.shared.push((Shared::SocketFirewall, guard));
        }
    }

    fn sockets(&self) -> impl Iterator<Item = &Backend> {
        self.plan.cluster.iter().chain(&*self.plan.local)
    }

    /// U5.5-U5.9.
    fn portal(&self, frontend: &Frontend, to: &mut ServiceRules) {
        let rule = || {
            Rule::new()
                .comment(&*self.name)
                .transport(self.plan.protocol, Some(frontend.port))
                .to(frontend.address)
        };
        if is_restricted(frontend) {
            for shared in [Shared::PortalsContainer, Shared::PortalsHost] {
                to.shared.push((shared, rule().jump(&*self.chains.firewall)));
            }
            let comment = format!("traffic not accepted by {}", self.chains.firewall);
            let rule = self.destination(&comment, frontend).target(Target::Drop);
            to.shared.push((Shared::Firewall, rule));
        } else {
            let container = self.for_others(frontend);
            to.shared.extend(container.map(|target| (Shared::PortalsContainer, rule().target(target))));
            let host = self.to_socket(frontend.inside);
            to.shared.extend(host.map(|target| (Shared::PortalsHost, rule().target(target))));
        }
        if let Some(verdict) = refused(frontend) {
            let (comment, target) = refusal(verdict);
            let shared = match frontend.kind {
                FrontendKind::ClusterIp => Shared::Unanswered,
                _ => Shared::ExternalUnanswered,
            };
            to.shared.push((shared, self.destination(comment, frontend).target(target)));
        }
    }

    /// U5.10. The socket's address is in the rule that accepts, so that it opens no port of another
    /// address.
    fn node_port_to_socket(&self, frontend: &Frontend, to: &mut ServiceRules) {
        let protocol = self.plan.protocol;
        let rule = || Rule::new().comment(&*self.name).transport(protocol, Some(frontend.port));
        let container = self.for_others(frontend);
        to.shared.extend(container.map(|target| (Shared::NodePortContainer, rule().target(target))));
        let host = self.to_socket(frontend.inside);
        to.shared.extend(host.map(|target| (Shared::NodePortHost, rule().target(target))));
        for list in [List::Cluster, List::Local] {
            let forward = Verdict::Forward(list);
            if let Some(socket) = self.plan.backends(list).first()
                && (frontend.inside == forward || frontend.outside == forward)
            {
                let accept = Rule::new()
                    .comment(&*self.name)
                    .transport(protocol, Some(socket.port))
                    .to(socket.address)
                    .state(States::New)
                    .target(Target::Accept);
                to.shared.push((Shared::NodePortNonLocal, accept));
            }
        }
        if let Some(verdict) = refused(frontend) {
            let (comment, target) = refusal(verdict);
            let rule = Rule::new()
                .comment(format!("{} {comment}", self.name))
                .with(Match::DestinationIsLocal)
                .transport(protocol, Some(frontend.port))
                .target(target);
            to.shared.push((Shared::ExternalUnanswered, rule));
        }
    }

    /// Where what comes from pods and from outside goes; `None` if it is refused.
    fn for_others(&self, frontend: &Frontend) -> Option<Target> {
        if is_same(frontend) {
            self.to_socket(frontend.inside)
        } else {
            Some(Target::Jump(self.chains.external.clone()))
        }
    }

    /// Clients from outside have a socket of their own, or none. It stands for the chain of spec
    /// §5.28.
    fn external_to_socket(&self, frontend: &Frontend) -> Vec<Rule> {
        let destinations =
            |what: &str| Rule::new().comment(format!("{what} for {} external destinations", self.name));
        let to = |rule: Rule, verdict: Verdict| match self.to_socket(verdict) {
            Some(target) => rule.transport(self.plan.protocol, None).target(target),
            None => rule.target(Target::Return),
        };
        let mut rules = Vec::new();
        if !is_same(frontend) {
            if let Some(local) = self.local_pod(false) {
                rules.push(to(destinations("pod traffic").with(local), frontend.inside));
            }
            let from_node = destinations("LOCAL traffic").with(Match::SourceIsLocal);
            rules.push(to(from_node, frontend.inside));
        }
        rules.push(to(Rule::new().comment(&*self.name), frontend.outside));
        rules
    }

    fn to_socket(&self, verdict: Verdict) -> Option<Target> {
        let Verdict::Forward(list) = verdict else { return None };
        self.plan.backends(list).first().map(|socket| Target::Dnat(endpoint(socket)))
    }
}

/// Not all sources may use it. Where all are refused, none needs to be kept away.
fn is_restricted(frontend: &Frontend) -> bool {
    frontend.allowed_sources.is_some() && (forwards(frontend.inside) || forwards(frontend.outside))
}

/// Clients from outside go where all go.
fn is_same(frontend: &Frontend) -> bool {
    frontend.kind == FrontendKind::ClusterIp || frontend.inside == frontend.outside
}

/// What happens to those whom no rule leads to a socket.
fn refused(frontend: &Frontend) -> Option<Verdict> {
    let outside = if is_same(frontend) { frontend.inside } else { frontend.outside };
    [outside, frontend.inside].into_iter().find(|verdict| !forwards(*verdict))
}

fn forwards(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Forward(_))
}
