//! What the program does for rules that are computed from manifests: only it knows its flags, its
//! planner and its modes.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;
use portolan_controllers::Naming;
use portolan_names::Names;
use portolan_netfilter::ipvs::{Destination, ServerState};
use portolan_service::{Change, Family, ObjectName, PerFamily, ServicePlan};

/// What `portolan trace` asks of the program that it is a part of.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Reads the manifests, and plans for one node.
    pub plan: fn(&PlanRequest<'_>) -> anyhow::Result<Plan>,
}

/// For whom to plan.
#[derive(Debug, Clone)]
pub struct PlanRequest<'a> {
    /// The folder of manifests.
    pub folder: &'a Path,
    /// The mode whose rules will be computed, if any will.
    pub mode: Option<RuleMode>,
    /// Flags of `portolan run` that describe the node.
    pub flags: &'a [String],
    /// The cluster's domain.
    pub cluster_domain: &'a str,
    /// The addresses on the node's interfaces; `None` if only its Node object knows them.
    pub addresses: Option<Vec<IpAddr>>,
}

/// What the manifests hold, and what one node would do for them.
pub struct Plan {
    /// The node's name.
    pub node: Arc<str>,
    /// The addresses that its Node object has.
    pub node_addresses: Vec<IpAddr>,
    /// All objects.
    pub changes: Vec<Change>,
    /// The addresses of pods.
    pub pods: HashMap<ObjectName, PerFamily<Option<IpAddr>>>,
    /// What those pods say of names that say anything.
    pub naming: HashMap<ObjectName, Arc<Naming>>,
    /// What DNS answers.
    pub dns: Option<Names>,
    /// The Services as the node would serve them.
    pub services: Vec<Arc<ServicePlan>>,
    /// What people should know of the manifests.
    pub problems: Vec<String>,
    /// What Services name and nothing in the manifests matches: the field, and what is wrong.
    pub unmatched: Vec<(ObjectName, String)>,
    /// Computes the rules of the mode that was asked for. Call it before any thread is started.
    pub rules: ComputeRules,
}

/// Computes the rules of a plan.
pub type ComputeRules = Box<dyn Fn() -> anyhow::Result<ComputedRules>>;

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("node", &self.node)
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

/// A virtual server of IPVS that a plan asks for, and its destinations, to which packets are
/// translated.
pub type PlannedServer = (ServerState, Vec<Destination>);

/// Where the computed rules are.
#[derive(Debug)]
pub enum ComputedRules {
    /// In texts, as iptables-save prints them.
    IptablesSave(Vec<(Family, String)>),
    /// In the kernel, in the network namespace of its own that the process is now in.
    InKernel {
        /// What people should know of them.
        warnings: Vec<String>,
        /// The virtual servers of IPVS that go with them.
        virtual_servers: Vec<PlannedServer>,
    },
    /// Another process, inside of a sandbox, has done the rest, and ended with this code.
    Ended(ExitCode),
}

/// Modes whose rules can be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "clap would print them as the help of values that explain themselves")]
pub enum RuleMode {
    Nftables,
    Iptables,
    Ipvs,
    Userspace,
}

impl RuleMode {
    /// As `--proxy-mode` has it.
    pub fn name(self) -> &'static str {
        match self {
            RuleMode::Nftables => "nftables",
            RuleMode::Iptables => "iptables",
            RuleMode::Ipvs => "ipvs",
            RuleMode::Userspace => "userspace",
        }
    }
}
