//! Rules computed from manifests, as `portolan run` would write them. Nothing of this machine is touched: those of
//! nftables are written into a network namespace that ends with the process.

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::Parser;
use portolan_config::Mode;
use portolan_dataplane::iptables;
use portolan_dataplane::nftables::Nftables;
use portolan_dataplane::{Dataplane, Settings};
use portolan_lab::sandbox::{self, Entered};
use portolan_service::{Change, Family, Planner, ServicePlan};
use portolan_source::manifests::Manifests;

use super::args::RuleMode;
use super::names::{self, Names};
use super::rules::{self, Rules};
use crate::cli::ProxyArgs;
use crate::configuration;
use crate::run::options;
use crate::this_node::{self, ThisNode};

/// Flags of `portolan run`.
#[derive(Debug, Parser)]
#[command(name = "portolan trace ... --", no_binary_name = true)]
struct RunFlags {
    #[command(flatten)]
    proxy: ProxyArgs,
}

/// What manifests say, and what would be forwarded for them on one node.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) names: Names,
    /// The addresses that the Node object of the node names.
    pub(super) node_addresses: Vec<IpAddr>,
    pub(super) problems: Vec<String>,
    settings: Settings,
    plans: Vec<Arc<ServicePlan>>,
}

/// Reads the manifests in `folder` and plans for the node that `flags` describe. `addresses` are those of its interfaces;
/// `None` if only its Node object knows them.
pub(super) fn plan(
    folder: &Path,
    mode: Option<RuleMode>,
    flags: &[String],
    addresses: Option<Vec<IpAddr>>,
) -> anyhow::Result<Planned> {
    let mode = mode.map(|mode| format!("--proxy-mode={}", mode.name()));
    let RunFlags { proxy } = RunFlags::try_parse_from(flags.iter().chain(&mode)).map_err(|error| {
        anyhow!("flags after `--`: {}", error.to_string().lines().next().unwrap_or_default())
    })?;
    let (loaded, _) = configuration::load(&proxy.flags)?;
    let mut config = loaded.config;
    // A configuration file may say another one.
    config.mode = match mode.as_deref() {
        Some("--proxy-mode=iptables") => Mode::Iptables,
        _ => Mode::Nftables,
    };
    let mut node = ThisNode::new(&this_node::name(&config)?, &config, &proxy.service_cluster_ip_range, false);
    let mut manifests = Manifests::open(folder, options(&proxy, true))?;
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
    node.set_addresses(addresses.unwrap_or_else(|| node_addresses.clone()));
    let mut planner = Planner::new(node.local_node());
    planner.apply(update.changes.iter().cloned());
    let plans: Vec<Arc<ServicePlan>> = planner.plans().cloned().collect();
    let pods = manifests.pods().map(|(name, addresses)| (name.clone(), addresses)).collect();
    let mut problems: Vec<String> = update.new_problems.iter().map(ToString::to_string).collect();
    problems.extend(planner.problems().iter().map(ToString::to_string));
    Ok(Planned {
        names: names::from_objects(&update.changes, plans.iter().map(|plan| &**plan), pods, node.name()),
        node_addresses,
        problems,
        settings: node.settings(),
        plans,
    })
}

/// The rules, or the exit code of the process that has done all the rest.
pub(super) enum Computed {
    Rules(Box<Rules>),
    Ended(ExitCode),
}

impl Planned {
    /// The rules of `mode`. For nftables, the process goes on inside of a sandbox; outside of it there is nothing left to do.
    ///
    /// Call it before any thread is started.
    pub(super) fn rules(&self, mode: RuleMode) -> anyhow::Result<Computed> {
        match mode {
            RuleMode::Iptables => {
                let plans: Vec<&ServicePlan> = self.plans.iter().map(|plan| &**plan).collect();
                let texts =
                    Family::ALL.map(|family| (family, iptables::rules(&self.settings, family, &plans)));
                Ok(Computed::Rules(Box::new(rules::from_texts(&texts)?)))
            }
            RuleMode::Nftables => {
                let entered = sandbox::enter().context(
                    "rules of mode nftables are computed in namespaces of their own; --proxy-mode=iptables needs none",
                )?;
                if let Entered::Ended(code) = entered {
                    return Ok(Computed::Ended(code));
                }
                let mut dataplane = Nftables::new(self.settings.clone())?;
                let outcome = dataplane.sync(&mut self.plans.iter().map(|plan| &**plan))?;
                let mut rules = rules::live()?;
                let refused = outcome.refused.iter();
                rules
                    .warnings
                    .extend(refused.map(|(service, why)| format!("Service {service} is left out: {why}")));
                Ok(Computed::Rules(Box::new(rules)))
            }
        }
    }
}
