//! What questions are answered from: rules, names, and the node.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use ipnet::IpNet;
use portolan_observe::control::{self, Query, Table};
use portolan_observe::rows::ServiceRow;
use portolan_trace::Node;
use serde_json::Value;

use crate::args::SourceArgs;
use crate::input::Inputs;
use crate::lookup::Dns;
use crate::names::{self, Names};
use crate::printed::{Printed, read_as};
use crate::program::{ComputedRules, Plan, PlanRequest, Program};
use crate::rules::{self, Rules};
use crate::{dumps, live, this_host, virtual_servers};

/// The interface that has the addresses of Services in kube-proxy's mode ipvs (spec §7.5).
const KUBE_IPVS: &str = "kube-ipvs0";

/// A network, or an address with its network, and its interface.
type At = (IpNet, String);

/// Everything that questions are answered from.
pub(crate) struct Known {
    pub(crate) rules: Rules,
    pub(crate) names: Names,
    pub(crate) node: Node,
    /// What DNS answers, if more is known than rules.
    pub(crate) dns: Option<Dns>,
}

/// What was gathered, unless another process has answered already.
pub(crate) enum Gathered {
    Known(Box<Known>),
    Ended(ExitCode),
}

/// A plan made from manifests, and for which machine.
struct Planned {
    plan: Plan,
    /// For another machine than this one.
    elsewhere: bool,
    host: Node,
}

/// Gathers rules, names and the node, as `source` says.
pub(crate) fn gather(source: &SourceArgs, input: &mut Inputs, program: Program) -> anyhow::Result<Gathered> {
    let (addresses, routes) = given(source, input)?;
    let given = (!addresses.is_empty()).then(|| Node { addresses, ..Node::default() });
    let planned = match &source.manifests {
        None => None,
        Some(folder) => Some(plan(folder, source, given.as_ref(), program)?),
    };
    let mut node = match given {
        Some(given) => given,
        None => node(source, planned.as_ref())?,
    };
    if !routes.is_empty() {
        node.routes = routes;
    }
    let rules = match (source.proxy_mode, &planned) {
        (Some(_), Some(Planned { plan, .. })) => match (plan.rules)()? {
            ComputedRules::IptablesSave(texts) => rules::from_texts(&texts)?,
            ComputedRules::InKernel { warnings, virtual_servers } => {
                let mut rules = live::rules()?;
                rules.warnings.extend(warnings);
                rules.ruleset.add_virtual_servers(&virtual_servers::planned(&virtual_servers));
                rules
            }
            ComputedRules::Ended(code) => return Ok(Gathered::Ended(code)),
        },
        _ if source.has_dumps() => dumps::read(source, input)?,
        _ => live::read()?,
    };
    if source.ip_addr.is_empty() {
        let own = rules.own_addresses.iter().map(|address| (IpNet::from(*address), KUBE_IPVS.to_owned()));
        node.addresses.extend(own);
    }
    let domain = source.cluster_domain.clone();
    let (mut names, dns) = match planned {
        Some(Planned { mut plan, .. }) => {
            for problem in &plan.problems {
                eprintln!("portolan: {problem}");
            }
            let naming = std::mem::take(&mut plan.naming);
            let dns = plan.dns.take().map(|names| Dns { names, domain, naming, partial: false });
            (names::manifests::names(plan), dns)
        }
        None if source.has_dumps() => (Names::default(), None),
        None => from_proxy(source)?,
    };
    names.by_rules.clone_from(&rules.services);
    names.without_proxy = !rules.ruleset.has_proxy();
    Ok(Gathered::Known(Box::new(Known { rules, names, node, dns })))
}

/// Plans for the node that flags give, or else for this machine; for another machine if its Node
/// object has none of this one's addresses.
fn plan(
    folder: &Path,
    source: &SourceArgs,
    given: Option<&Node>,
    program: Program,
) -> anyhow::Result<Planned> {
    let host = this_host()?;
    let addresses = |node: &Node| node.addresses.iter().map(|(address, _)| address.addr()).collect();
    let request = PlanRequest {
        folder,
        mode: source.proxy_mode,
        flags: &source.run_flags,
        cluster_domain: &source.cluster_domain,
        addresses: Some(addresses(given.unwrap_or(&host))),
    };
    let plan = (program.plan)(&request)?;
    let elsewhere = given.is_none()
        && !plan.node_addresses.is_empty()
        && !plan.node_addresses.iter().any(|address| host.is_local(*address));
    let plan = if elsewhere { (program.plan)(&PlanRequest { addresses: None, ..request })? } else { plan };
    Ok(Planned { plan, elsewhere, host })
}

/// The node where no flag gives its addresses.
fn node(source: &SourceArgs, planned: Option<&Planned>) -> anyhow::Result<Node> {
    let dumps = source.has_dumps();
    match planned {
        Some(Planned { plan, elsewhere: true, .. }) if source.proxy_mode.is_some() => {
            Ok(of_addresses(&plan.node_addresses))
        }
        // Whether this machine forwards today says nothing about rules that it does not have.
        Some(Planned { host, .. }) if source.proxy_mode.is_some() => Ok(Node { host: None, ..host.clone() }),
        Some(Planned { plan, .. }) if dumps => Ok(of_addresses(&plan.node_addresses)),
        None if dumps => Ok(Node::default()),
        _ => this_host(),
    }
}

fn this_host() -> anyhow::Result<Node> {
    this_host::node().context("asking the kernel for addresses and routes")
}

fn of_addresses(addresses: &[IpAddr]) -> Node {
    Node {
        addresses: addresses.iter().map(|address| (IpNet::from(*address), String::new())).collect(),
        ..Node::default()
    }
}

/// Addresses and routes of the node that flags give.
fn given(source: &SourceArgs, input: &mut Inputs) -> anyhow::Result<(Vec<At>, Vec<At>)> {
    let others = source.has_dumps() || source.proxy_mode.is_some();
    for (flag, files) in [
        ("--ip-addr", &source.ip_addr),
        ("--ip-route", &source.ip_route),
        ("--ipset-save", &source.ipset_save),
        ("--ipvsadm-save", &source.ipvsadm_save),
    ] {
        if !files.is_empty() && !others {
            anyhow::bail!("{flag} is for rules that are not this node's: give them, too, or leave it out");
        }
    }
    let mut addresses = Vec::new();
    for path in &source.ip_addr {
        let text = input.read(path)?;
        let read = Node::addresses_from(&text).map_err(Into::into);
        addresses.extend(read_as(&[Printed::Addresses], path, &text, read)?);
    }
    let known = |address: &IpAddr, all: &[At]| all.iter().any(|(own, _)| own.addr() == *address);
    for address in &source.node_ip {
        if !known(address, &addresses) {
            addresses.push((IpNet::from(*address), String::new()));
        }
    }
    let mut routes = Vec::new();
    for path in &source.ip_route {
        let text = input.read(path)?;
        let read = Node::routes_from(&text).map_err(Into::into);
        routes.extend(read_as(&[Printed::Routes], path, &text, read)?);
    }
    Ok((addresses, routes))
}

/// What the running proxy knows; only what the rules say if none runs here: they may be another's.
fn from_proxy(source: &SourceArgs) -> anyhow::Result<(Names, Option<Dns>)> {
    let ask = |table: Table| -> Option<Value> {
        let mut answer = control::ask(&source.socket, &Query::of(table)).ok()?;
        answer.get_mut(table.name()).map(Value::take)
    };
    let rows = || {
        let services: Vec<ServiceRow> = serde_json::from_value(ask(Table::Services)?).ok()?;
        let endpoints = serde_json::from_value(ask(Table::Endpoints)?).ok()?;
        Some((services, endpoints))
    };
    let Some((services, endpoints)) = rows() else { return Ok((Names::default(), None)) };
    let domain = source.cluster_domain.clone();
    let dns = names::proxy::dns(&services, &domain).context("--cluster-domain")?;
    let dns = Dns { names: dns, domain, naming: HashMap::new(), partial: true };
    Ok((names::proxy::names(services, endpoints), Some(dns)))
}
