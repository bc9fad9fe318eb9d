//! Kernel state for a service plan. One trait, [`Dataplane`]; one module for each mode.
//!
//! A dataplane takes plans and change sets of `portolan-service` and knows no Kubernetes object. To add a mode:
//! implement [`Dataplane`] in a module of its own and name it in the program's `--proxy-mode`.

mod conntrack;
pub mod forward_policy;
pub mod iptables;
pub mod kube_proxy;
pub mod nftables;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use portolan_service::{ChangeSet, Family, ObjectName, PerFamily, ServicePlan};

/// How local pods are told from other sources (`--detect-local-mode`, spec §4.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalDetector {
    /// Their source address is in this network.
    SourceNetwork(IpNet),
    /// They come in through this interface.
    Interface(String),
    /// They come in through an interface whose name begins so.
    InterfacePrefix(String),
}

/// The addresses of one family that NodePorts answer on, for a mode that asks the kernel whether an address is the
/// node's own (spec §5.17). The plan names them too, as they are now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NodePorts {
    /// Every address that is local to the node when a packet comes (spec §3.9), loopback only as
    /// [`Settings::localhost_node_ports`] says.
    #[default]
    All,
    /// These, sorted (spec §3.8).
    Addresses(Vec<IpAddr>),
}

/// The families that are served: IPv6 if the kernel has it (`/proc/net/if_inet6`, spec §1.32).
fn families() -> Vec<Family> {
    Family::ALL.into_iter().filter(|family| absence(*family).is_none()).collect()
}

/// Why the host does not have a family, for people; `None` if it does.
fn absence(family: Family) -> Option<String> {
    let has_ipv6 = || std::path::Path::new("/proc/net/if_inet6").exists();
    (family == Family::V6 && !has_ipv6()).then(|| "the kernel has no IPv6".to_owned())
}

/// How a family is served. One that is not keeps no other from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Standing {
    /// Its tables hold what the last call left.
    #[default]
    Served,
    /// Its tables could not be brought to what is wanted; why, for people. What they held stays in force.
    Behind(String),
    /// The host does not have it, or lacks what this mode needs for it; why, and what to do, for people.
    Absent(String),
}

/// Settings that hold for the whole node. Those that only mode iptables has are at their default in other modes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How local pods are recognised, per family; without a detector nothing counts as local (spec §4.9).
    pub local: PerFamily<Option<LocalDetector>>,
    /// Masquerade all ClusterIP traffic (spec §4.4).
    pub masquerade_all: bool,
    /// Networks that ClusterIPs are allocated from: traffic to an address there that no Service has is
    /// dropped (spec §6.7). May be empty.
    pub service_networks: Vec<IpNet>,
    /// Mode iptables: the addresses that NodePorts answer on (spec §5.17).
    pub node_ports: PerFamily<NodePorts>,
    /// Mode iptables: NodePorts answer on IPv4 loopback addresses too (spec §3.10): asked for, and selected by the
    /// NodePort addresses.
    pub localhost_node_ports: bool,
    /// Mode iptables: the one bit of the packet mark that says "masquerade" (spec §4.1).
    pub masquerade_mark: u32,
    /// Mode iptables: drop forwarded packets that connection tracking calls invalid (spec §5.14).
    pub drop_invalid: bool,
}

impl Default for Settings {
    /// No local detector, nothing masqueraded without need, the rest as kube-proxy has it without configuration.
    fn default() -> Settings {
        Settings {
            local: PerFamily::default(),
            masquerade_all: false,
            service_networks: Vec::new(),
            node_ports: PerFamily::default(),
            localhost_node_ports: false,
            masquerade_mark: 1 << 14,
            drop_invalid: true,
        }
    }
}

/// What a commit did.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Services whose rules the kernel refused, with its reason. Everything else is in force.
    pub refused: Vec<(ObjectName, String)>,
    /// Set elements and rules written or removed.
    pub operations: usize,
    /// Rules in each table, for a mode whose number of rules follows the number of Services (spec §11.18).
    pub rules: Vec<RuleCount>,
    /// From first byte encoded to the kernel's acknowledgement.
    pub commit: Duration,
}

/// Rules of ours in one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleCount {
    /// The table's family.
    pub family: Family,
    /// The table's name.
    pub table: &'static str,
    /// All that are in force.
    pub total: usize,
    /// Those that this commit wrote.
    pub written: usize,
}

/// What one look through connection tracking did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Stale UDP entries removed (spec §8A).
    pub removed: PerFamily<usize>,
    /// From the first question to the last removal.
    pub took: Duration,
}

/// The state of the kernel's copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Integrity {
    /// As we left it, as far as was looked.
    Intact,
    /// Someone else changed it; one line for each finding, for people. Needs [`Dataplane::sync`].
    Changed(Vec<String>),
}

/// One thing that a sync would change, named for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// It is not there yet.
    Added(String),
    /// It is there and leads elsewhere.
    Changed(String),
    /// It is there and should not be.
    Removed(String),
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Difference::Added(what) => write!(f, "+ {what}"),
            Difference::Changed(what) => write!(f, "~ {what}"),
            Difference::Removed(what) => write!(f, "- {what}"),
        }
    }
}

/// Why kernel state could not be brought up to date. The previous state is still in force.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A netlink call failed.
    #[error("{doing}: {source}")]
    Netlink {
        /// What was being done, for people.
        doing: String,
        /// The cause.
        source: std::io::Error,
    },
    /// Anything else that the kernel answers and that cannot be worked with, and what to do about it.
    #[error("{0}")]
    Unusable(String),
    /// The host lacks a program or a part of the kernel; which, and what to do about it.
    #[error("{0}")]
    Missing(String),
}

/// Brings plans into the kernel. All changes of one call are one atomic transaction.
pub trait Dataplane {
    /// Makes the kernel hold exactly `plans`, whatever of ours it holds now (nothing, the state of an earlier
    /// process, a damaged state), without a moment in which a Service in both fails.
    ///
    /// A family for which that cannot be done stays as it is, which [`Dataplane::standing`] says from then on. An error
    /// only if it can be done for none.
    fn sync(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Outcome, Error>;

    /// Applies `changes` to what the last successful call left, in the families that are served. Costs what the change
    /// costs. If the kernel turns out not to hold what was left, or a family cannot be changed, fails: call
    /// [`Dataplane::sync`].
    fn apply(&mut self, changes: &ChangeSet) -> Result<Outcome, Error>;

    /// How each family is served since the last call.
    fn standing(&self) -> PerFamily<Standing>;

    /// Tries again to make the families that are not served hold `plans`, as [`Dataplane::sync`] does, and leaves the
    /// others as they are. `None` if nothing has become of it.
    fn catch_up(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Option<Outcome>, Error>;

    /// Looks whether the kernel still holds what was left in the families that are served: `plans`, as given to [`Dataplane::sync`] and changed
    /// by [`Dataplane::apply`] since. Asks for no plan, and costs one small request, when nobody changed anything.
    fn verify(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Integrity, Error>;

    /// What [`Dataplane::sync`] with `plans` would change for clients: frontends that come, go, or lead elsewhere. Reads
    /// everything that is in the kernel and changes nothing.
    fn preview(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Vec<Difference>, Error>;

    /// What the kernel holds of ours, whoever wrote it: a line for each frontend, for people. Reads everything.
    fn listing(&mut self) -> Result<Vec<String>, Error>;

    /// The looks through connection tracking that ended since the last call. Clients that send to
    /// UDP endpoints that left are sent elsewhere soon after each commit (spec §8A), by a thread of
    /// its own; this waits for it, at most `patience`.
    fn reconciled(&mut self, patience: Duration) -> Vec<Reconciled>;

    /// Housekeeping that may wait: call when idle. Returns whether there is more to do later.
    fn tidy(&mut self) -> Result<bool, Error>;

    /// Removes everything of ours from the kernel, whoever left it.
    fn cleanup(&mut self) -> Result<(), Error>;

    /// The variant of iptables, for each family, in which chains that are kube-proxy's by name are this dataplane's own.
    fn iptables(&self) -> PerFamily<Option<kube_proxy::Variant>> {
        PerFamily::default()
    }
}
