//! What `portolan trace` asks of the program: plans for manifests, and the rules of their modes, as
//! `portolan run` would write them. Nothing of this machine is touched: rules of nftables are
//! written into a network namespace that ends with the process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::Parser;
use portolan_config::Mode;
use portolan_dataplane::{Computed, ConfiguredMode};
use portolan_lab::sandbox::{self, Entered};
use portolan_names::{Names, PodMode, Settings};
use portolan_service::{Change, Family, Loopback, ObjectName, Planner, ServicePlan};
use portolan_source::manifests::{Manifests, Update, Workloads};
use portolan_trace_cli::{ComputedRules, Plan, PlanRequest, Program, RuleMode, TraceArgs};

use crate::cli::ProxyArgs;
use crate::configuration;
use crate::manifests::options;
use crate::run;
use crate::this_node::{self, ThisNode};

/// Answers, and prints the answer.
pub(crate) fn trace(args: &TraceArgs) -> anyhow::Result<ExitCode> {
    portolan_trace_cli::trace(args, Program { plan })
}

/// Flags of `portolan run`.
#[derive(Debug, Parser)]
#[command(name = "portolan trace ... --", no_binary_name = true)]
struct RunFlags {
    #[command(flatten)]
    proxy: ProxyArgs,
}

fn plan(request: &PlanRequest<'_>) -> anyhow::Result<Plan> {
    let mode = request.mode.map(|mode| format!("--proxy-mode={}", mode.name()));
    let RunFlags { proxy } =
        RunFlags::try_parse_from(request.flags.iter().chain(&mode)).map_err(|error| {
            anyhow!("flags after `--`: {}", error.to_string().lines().next().unwrap_or_default())
        })?;
    let (loaded, _) = configuration::load(&proxy.flags)?;
    let mut config = loaded.config;
    // A configuration file may say another one.
    config.mode = match request.mode {
        Some(RuleMode::Iptables) => Mode::Iptables,
        Some(RuleMode::Ipvs) => Mode::Ipvs,
        Some(RuleMode::Userspace) => Mode::Userspace,
        Some(RuleMode::Nftables) | None => Mode::Nftables,
    };
    let ranges = &proxy.service_cluster_ip_range;
    let mode = run::mode(&config)?;
    let mut node = ThisNode::new(&this_node::name(&config)?, mode, &config, ranges, false);
    let mut manifests = Manifests::open(request.folder, options(&proxy, &config, true))?;
    let update = manifests.load();
    let mut node_addresses = Vec::new();
    for change in &update.changes {
        if let Change::Node(object) = change
            && object.name == *node.name()
        {
            node_addresses.clone_from(&object.addresses);
            node.set_object(object.clone());
        }
    }
    let mut addresses = request.addresses.clone().unwrap_or_else(|| node_addresses.clone());
    if (mode.loopback)(&config) == Loopback::Named {
        // Flags and Node objects do not have what every node has.
        addresses.extend([IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()]);
    }
    node.set_addresses(addresses);
    let mut planner = Planner::new(node.local_node());
    planner.apply(update.changes.iter().cloned());
    let services: Vec<Arc<ServicePlan>> = planner.plans().cloned().collect();
    let mut problems: Vec<String> = update.new_problems.iter().map(ToString::to_string).collect();
    problems.extend(planner.problems().iter().map(ToString::to_string));
    let mode = node.configured();
    let unmatched = unmatched(&manifests);
    Ok(Plan {
        unmatched,
        node: node.name().clone(),
        node_addresses,
        pods: manifests.pods().map(|(name, addresses)| (name.clone(), addresses)).collect(),
        naming: manifests.naming().map(|(name, naming)| (name.clone(), naming.clone())).collect(),
        dns: Some(dns(&update, request.cluster_domain)?),
        changes: update.changes,
        problems,
        rules: {
            let services = services.clone();
            Box::new(move || rules(&*mode, &services))
        },
        services,
    })
}

/// What the cluster's DNS answers for these objects, with the pod names that kubeadm configures.
fn dns(update: &Update, domain: &str) -> anyhow::Result<Names> {
    let zones = [domain, "in-addr.arpa", "ip6.arpa"].map(str::to_owned).to_vec();
    let settings = Settings { zones, pods: PodMode::Insecure, ..Settings::default() };
    // Nobody else chooses these names, so that no secret is needed.
    let mut names = Names::new(settings, 0).context("--cluster-domain")?;
    names.apply(update.changes.iter().cloned().map(Into::into), 0);
    names.apply(update.names.iter().cloned().map(Into::into), 0);
    names.set_synced();
    Ok(names)
}

/// The fields of Services that match nothing, and what is wrong with them.
fn unmatched(manifests: &Manifests) -> Vec<(ObjectName, String)> {
    let found = manifests.unmatched(Workloads::Ignored).into_iter();
    let of_services = found.filter_map(|problem| {
        let (namespace, name) = problem.object.as_deref()?.strip_prefix("Service ")?.split_once('/')?;
        let field = problem.field.map_or_else(String::new, |field| format!("{field}: "));
        Some((ObjectName::new(namespace, name), format!("{field}{}", problem.message)))
    });
    of_services.collect()
}

/// The rules of `mode` for `services`. Those that only a kernel can say are written into that of a
/// sandbox, and the process goes on inside of it; outside of it there is nothing left to do.
fn rules(mode: &dyn ConfiguredMode, services: &[Arc<ServicePlan>]) -> anyhow::Result<ComputedRules> {
    let plans: Vec<&ServicePlan> = services.iter().map(|plan| &**plan).collect();
    let texts: Option<Vec<(Family, String)>> =
        Family::ALL.into_iter().map(|family| Some((family, mode.text(family, &plans)?))).collect();
    if let Some(texts) = texts {
        return Ok(ComputedRules::IptablesSave(texts));
    }
    let entered = sandbox::enter().context(
        "rules of mode nftables are computed in namespaces of their own; --proxy-mode=iptables needs none",
    )?;
    if let Entered::Ended(code) = entered {
        return Ok(ComputedRules::Ended(code));
    }
    let Computed { outcome, virtual_servers } = mode.compute(&plans)?;
    let refused = outcome.refused.iter();
    let warnings = refused.map(|(service, why)| format!("Service {service} is left out: {why}"));
    Ok(ComputedRules::InKernel { warnings: warnings.collect(), virtual_servers })
}
