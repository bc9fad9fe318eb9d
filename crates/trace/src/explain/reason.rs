//! Why a packet is not forwarded.

use portolan_service::{Family, FrontendKind};

use super::case::{Case, Why, is, tests};
use super::explanation::{Reason, ReasonCode, ShownVerdict};
use super::few::few;
use super::frontends::{Frontend, Has, asked, kind_name};
use super::known::{KnownEndpoint, KnownService, Next};
use super::naming::PortName;
use super::neighbours::{neighbours, node_port_not_here};
use crate::evaluate::{Step, StepKind};
use crate::packet::State;
use crate::printable::printable;
use crate::ruleset::{Action, Field, Hook, Part, TableFamily, Test, Tool};

/// Why the packet ends as `verdict`; `None` if it is forwarded or let through.
pub(super) fn reason(case: &Case<'_>, verdict: ShownVerdict, frontends: &[Frontend]) -> Option<Reason> {
    if let (ShownVerdict::Drop | ShownVerdict::Reject | ShownVerdict::Depends, Some((by, towards))) =
        (verdict, case.stopped_by_kernel())
    {
        let (code, text) = super::kernel::stopped(case, by, towards);
        if !case.has_proxy() {
            let (code, first) = without_proxy(case);
            return Some(Reason { code, text: format!("{first}; and {text}") });
        }
        return Some(Reason { code, text });
    }
    let stop = match verdict {
        ShownVerdict::Accept if case.packet.state != State::New && case.packet.translated.is_none() => None,
        ShownVerdict::Forward => return other_translation(case, frontends),
        ShownVerdict::Accept => return None,
        ShownVerdict::Depends => case.stop().map(Some)?,
        ShownVerdict::Reject | ShownVerdict::Drop => case.stop(),
        ShownVerdict::None => None,
    };
    let (code, text) = match stop {
        Some(step) => stopped(case, step, frontends),
        None if case.packet.state != State::New => (
            ReasonCode::NotNew,
            "later packets of a connection do not meet the rules that translate: they follow what was decided for its first packet".to_owned(),
        ),
        None => unmatched(case, frontends),
    };
    Some(Reason { code, text })
}

/// That a rule of another program decides where a packet for a Service goes.
fn other_translation(case: &Case<'_>, frontends: &[Frontend]) -> Option<Reason> {
    let others = case.unremembered().filter_map(|outcome| case.translated_by(outcome));
    let mut others = others.filter(|step| !case.is_proxys(step));
    let step = others.next()?;
    let rule = case.shown_rule(step);
    let asked = asked(case, frontends);
    let whose = if asked.is_empty() {
        format!("a rule of chain {} in table {} leads there", rule.chain, rule.table)
    } else {
        let title = asked
            .iter()
            .find_map(|frontend| frontend.service.as_ref())
            .map_or("a Service".to_owned(), PortName::title);
        let kind = asked.iter().find_map(|frontend| frontend.kind).map_or("address", kind_name);
        format!(
            "a rule of chain {} in table {} leads there, which is not the proxy's, although {} is the {kind} of {title}",
            rule.chain, rule.table, case.packet.destination
        )
    };
    Some(Reason { code: ReasonCode::OtherRule, text: whose })
}

/// Why a rule stopped it.
fn stopped(case: &Case<'_>, step: &Step, frontends: &[Frontend]) -> Why {
    let rule = case.rule(step);
    let comment = rule.and_then(|rule| rule.comment.as_deref()).unwrap_or_default();
    let asked = asked(case, frontends);
    let title = asked
        .iter()
        .find_map(|frontend| frontend.service.clone())
        .or_else(|| PortName::in_comment(comment))
        .map_or_else(|| "the Service".to_owned(), |name| name.title());
    if is_source_range(case, step, comment) {
        return (ReasonCode::SourceRanges, source_ranges(case, &title, &asked));
    }
    if !case.is_proxys(step) {
        return (ReasonCode::OtherRule, other_rule(case, step, !asked.is_empty()));
    }
    if &*case.table(step).name == "mangle" {
        let to = case.packet.destination;
        let text = format!("{to} is a socket of the proxy, which clients reach by addresses of {title} only");
        return (ReasonCode::NoSuchService, text);
    }
    let no_local = comment.ends_with("has no local endpoints")
        || met_chain(case, "KUBE-XLB-")
        || asked.iter().any(|frontend| frontend.has == Some(Has::NoLocalEndpoints));
    if no_local {
        return (ReasonCode::NoLocalEndpoints, no_local_endpoints(case, &title, &asked));
    }
    let none = comment.ends_with("has no endpoints")
        || asked.iter().any(|frontend| frontend.has == Some(Has::NoEndpoints))
        || !asked.is_empty() && asked.iter().all(|frontend| frontend.has.is_none());
    if none {
        return (ReasonCode::NoReadyEndpoints, no_ready_endpoints(case, &title, &asked));
    }
    if case.packet.state == State::Invalid {
        return (
            ReasonCode::OtherRule,
            "connection tracking cannot make sense of it, and such packets are dropped lest they pass untranslated".to_owned(),
        );
    }
    if !asked.is_empty() {
        let chain = &case.chain(step).name;
        return (
            ReasonCode::Unknown,
            format!("a rule of chain {chain} stops it, though {title} has endpoints"),
        );
    }
    let (code, mut text) = neighbours(case, frontends);
    if code == ReasonCode::NoSuchService
        && rule.is_some_and(|rule| tests(rule).any(asks_for_destination))
        && !is_cluster_ip(case)
    {
        text.push_str("; the rule stops packets to addresses that Services could have and none has");
    }
    if code == ReasonCode::NoSuchService && is_cluster_ip(case) {
        // An active ClusterIP of which nothing else is known.
        let to = case.destination();
        return (
            ReasonCode::NoReadyEndpoints,
            format!(
                "{to} is the ClusterIP of a Service, but none of its ports has a ready endpoint, and the rules do not name it"
            ),
        );
    }
    (code, text)
}

/// Which rule or policy of another program stops it, and what shows it; `of_service`: the packet is
/// for a Service.
fn other_rule(case: &Case<'_>, step: &Step, of_service: bool) -> String {
    let table = case.table(step);
    let chain = &case.chain(step).name;
    let place = format!("chain {chain} of table {} {}", table.family, table.name);
    let program = match table.tool {
        Tool::Iptables => {
            let v6 = table.family == TableFamily::Only(Family::V6);
            format!("{} -t {} -S {chain}", if v6 { "ip6tables" } else { "iptables" }, table.name)
        }
        Tool::Nftables => format!("nft list chain {} {} {chain}", table.family, table.name),
        Tool::Ipvs => "ipvsadm -Ln".to_owned(),
    };
    let stops = match case.rule(step) {
        Some(_) => format!("a rule of {place} stops it"),
        None => format!("the policy of {place} is drop, and no rule before its end accepts the packet"),
    };
    let forwards = case.chain(step).base.as_ref().is_some_and(|base| base.hook == Hook::Forward);
    let by_policy = table.tool == Tool::Iptables && forwards && case.rule(step).is_none();
    let remedy = if of_service && by_policy {
        "; `portolan run --accept-forwarded` lets connections to Services pass"
    } else {
        ""
    };
    format!("{stops}; it is not the service proxy's (`{program}` shows it){remedy}")
}

fn asks_for_destination(test: &Test) -> bool {
    match test {
        Test::Compare { operand, negate: false, .. } => matches!(operand.field, Field::Destination(_)),
        Test::Lookup { key, negate: false, .. } => {
            key.iter().any(|operand| matches!(operand.field, Field::Destination(_)))
        }
        _ => false,
    }
}

/// Whether the rules of nftables list the destination among the ClusterIPs.
fn is_cluster_ip(case: &Case<'_>) -> bool {
    let address = crate::value::address_value(case.destination());
    case.ruleset
        .tables()
        .iter()
        .filter(|table| table.is_all_proxys())
        .flat_map(|table| &table.sets)
        .any(|set| &*set.name == "cluster-ips" && set.get(&[address]).is_some())
}

fn met_chain(case: &Case<'_>, beginning: &str) -> bool {
    case.every_step().any(|step| is(step, StepKind::Hit) && case.chain(step).name.starts_with(beginning))
}

fn is_source_range(case: &Case<'_>, step: &Step, comment: &str) -> bool {
    let chain = &*case.chain(step).name;
    comment.contains("traffic not accepted by KUBE-FW")
        || case.is_proxys(step) && (chain == "firewall" || chain.starts_with("firewall-"))
        // Until 2022 the chain of source ranges ended in a mark for dropping (spec §5.41).
        || chain == "KUBE-FIREWALL" && met_chain(case, "KUBE-FW-")
}

fn source_ranges(case: &Case<'_>, title: &str, asked: &[&Frontend]) -> String {
    let source = case.packet.source.ip();
    let ranges: Vec<String> = known(case, asked)
        .into_iter()
        .flat_map(|service| &service.source_ranges)
        .map(ToString::to_string)
        .collect();
    let of = if ranges.is_empty() { String::new() } else { format!(" ({})", ranges.join(", ")) };
    format!("{source} is not within the source ranges{of} of {title}")
}

/// The Services that are asked for and of which more is known than their rules.
fn known<'a>(case: &Case<'a>, asked: &[&Frontend]) -> Vec<&'a KnownService> {
    let name = asked.iter().find_map(|frontend| frontend.service.as_ref());
    let is_it = |service: &&KnownService| {
        name.is_some_and(|name| name.namespace == service.namespace && name.name == service.name)
    };
    case.services.services.iter().filter(is_it).collect()
}

/// The endpoints of the Service port that is asked for.
fn endpoints<'a>(case: &Case<'a>, asked: &[&Frontend]) -> Vec<&'a KnownEndpoint> {
    let port = asked.iter().find_map(|frontend| frontend.service.as_ref()).map(|name| name.port.as_str());
    let family = case.packet.source.is_ipv4();
    known(case, asked)
        .into_iter()
        .flat_map(|service| &service.endpoints)
        .filter(|endpoint| port == Some(&endpoint.port_name) && endpoint.address.is_ipv4() == family)
        .collect()
}

fn no_ready_endpoints(case: &Case<'_>, title: &str, asked: &[&Frontend]) -> String {
    if known(case, asked).is_empty() {
        return format!("{title} has no ready endpoint");
    }
    let all = endpoints(case, asked);
    if all.is_empty() {
        let unmatched: Vec<String> =
            known(case, asked).iter().flat_map(|service| &service.unmatched).cloned().collect();
        if !unmatched.is_empty() {
            return format!("{title} has no ready endpoint: {}", printable(&few(unmatched)));
        }
        return format!(
            "{title} has no ready endpoint, and none that is not ready is known: does its selector match pods, \
             and do they have the port that its targetPort names?"
        );
    }
    let listed: Vec<String> = all
        .iter()
        .map(|endpoint| format!("{} {}", case.endpoint(endpoint.address), state(endpoint)))
        .collect();
    format!("{title} has no ready endpoint: {}", few(listed))
}

fn state(endpoint: &KnownEndpoint) -> &'static str {
    match (endpoint.ready, endpoint.serving, endpoint.terminating) {
        (true, _, _) => "is ready",
        (false, true, true) => "is terminating, but still serves",
        (false, false, true) => "is terminating",
        (false, _, false) => "is not ready",
    }
}

fn no_local_endpoints(case: &Case<'_>, title: &str, asked: &[&Frontend]) -> String {
    let internal = asked.iter().any(|frontend| frontend.kind == Some(FrontendKind::ClusterIp));
    let policy = if internal { "internalTrafficPolicy" } else { "externalTrafficPolicy" };
    let elsewhere: Vec<String> = endpoints(case, asked)
        .iter()
        .filter(|endpoint| !endpoint.local && endpoint.ready)
        .map(|endpoint| match &endpoint.node {
            Some(node) => format!("{} on {}", case.endpoint(endpoint.address), printable(node)),
            None => case.endpoint(endpoint.address),
        })
        .collect();
    let mut text = format!("{title} has no endpoint on this node, and its {policy} is Local");
    if !elsewhere.is_empty() {
        text.push_str("; elsewhere it has ");
        text.push_str(&few(elsewhere));
    }
    text
}

fn without_proxy(case: &Case<'_>) -> Why {
    let compute = if case.services.next == Next::ComputeRules {
        "; for the rules that these manifests would get add --proxy-mode nftables"
    } else {
        ""
    };
    (
        ReasonCode::NoProxyRules,
        format!(
            "this node holds no rules of any service proxy: none runs here, or one in a mode without rules (eBPF){compute}"
        ),
    )
}

/// Whether a rule on the way keeps it from being tracked, and so from being translated.
fn is_untracked(case: &Case<'_>) -> bool {
    let paths = case.answer.outcomes.iter().flat_map(|outcome| &outcome.paths);
    let mut rules = paths.flat_map(|path| &path.steps).filter_map(|step| case.rule(step));
    rules.any(|rule| rule.parts.iter().any(|part| matches!(part, Part::Action(Action::Untrack))))
}

fn answered_on_node(case: &Case<'_>, title: &str) -> String {
    let destination = case.packet.destination;
    format!(
        "it is not tracked, so the rules of {title} do not translate it, and this node takes {} for its own: what listens here on {} port {} answers, as with portolan run --dns",
        destination.ip(),
        case.packet.protocol,
        destination.port()
    )
}

/// Whether the proxy itself listens where the packet goes: at a NodePort on a loopback address, to
/// which no rule of Portolan's tables leads.
fn is_relayed(case: &Case<'_>, asked: &[&Frontend]) -> bool {
    let mut tables = case.ruleset.tables().iter();
    case.destination().is_loopback()
        && tables.any(|table| table.tool == Tool::Nftables && &*table.name == "portolan")
        && asked
            .iter()
            .all(|frontend| frontend.has.is_none() && frontend.kind == Some(FrontendKind::NodePort))
}

fn relayed(case: &Case<'_>, title: &str, asked: &[&Frontend]) -> Why {
    let local = known(case, asked).iter().any(|service| service.external_local);
    let endpoints = endpoints(case, asked).into_iter().filter(|it| it.ready && (!local || it.local));
    let endpoints = few(endpoints.map(|endpoint| case.endpoint(endpoint.address)));
    if endpoints.is_empty() {
        return (ReasonCode::NoLocalEndpoints, no_local_endpoints(case, title, asked));
    }
    let text = format!(
        "no rule leads to NodePorts on loopback addresses: unless another program has {} port {}, the proxy itself listens there, and passes clients of {title} on to {endpoints}",
        case.destination(),
        case.packet.destination.port()
    );
    (ReasonCode::AnsweredOnNode, text)
}

/// Why no rule of the proxy matches.
fn unmatched(case: &Case<'_>, frontends: &[Frontend]) -> Why {
    if !case.has_proxy() {
        return without_proxy(case);
    }
    let asked = asked(case, frontends);
    let Some(name) = asked.iter().find_map(|frontend| frontend.service.as_ref()) else {
        return neighbours(case, frontends);
    };
    let title = name.title();
    if case.is_for_node() && is_untracked(case) {
        return (ReasonCode::AnsweredOnNode, answered_on_node(case, &title));
    }
    let all = endpoints(case, &asked);
    if asked.iter().any(|frontend| frontend.has == Some(Has::NoLocalEndpoints)) {
        return (ReasonCode::NoLocalEndpoints, no_local_endpoints(case, &title, &asked));
    }
    if asked.iter().any(|frontend| frontend.has == Some(Has::NoEndpoints))
        || !known(case, &asked).is_empty() && !all.iter().any(|endpoint| endpoint.ready)
    {
        return (ReasonCode::NoReadyEndpoints, no_ready_endpoints(case, &title, &asked));
    }
    if is_relayed(case, &asked) {
        return relayed(case, &title, &asked);
    }
    if asked.iter().all(|frontend| frontend.has.is_none()) {
        return (
            ReasonCode::Unknown,
            format!(
                "{title} has this address and port, but the rules do not: they are older, or of another node"
            ),
        );
    }
    if asked.iter().all(|frontend| frontend.kind == Some(FrontendKind::NodePort)) {
        return (ReasonCode::NodePortAddress, node_port_not_here(case, &title));
    }
    (
        ReasonCode::Unknown,
        format!("the rules of {title} do not apply to this packet: see the rules that did not match (-v)"),
    )
}
