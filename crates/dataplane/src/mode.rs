//! What a mode says of itself.

use std::any::Any;
use std::fmt;

use caps::Capability;
use portolan_config::Config;
use portolan_netfilter::ipvs::{Destination, ServerState};
use portolan_service::{Family, Loopback, ServicePlan};

use crate::dataplane::{Dataplane, InUse, Outcome};
use crate::error::Error;
use crate::removal::{Leftovers, RemovalError};
use crate::settings::NodeFacts;
use crate::traffic::Traffic;

/// A mode: what it is called, what it promises, what it needs of the node, and how it is made.
///
/// Each mode's folder fills one, and [`crate::MODES`] lists them.
#[derive(Debug)]
pub struct ModeDescriptor {
    /// Its name in `--proxy-mode`
    pub name: &'static str,
    /// What packets meet while a change is brought into force
    pub atomicity: fn(&Config) -> Atomicity,
    /// What the process must be allowed to do, besides `CAP_NET_ADMIN`, which every mode needs
    pub capabilities: fn(&Config) -> &'static [Capability],
    /// Where Calico chooses what fits kube-proxy's mode, nftables fits this one
    /// (`--calico-marker`).
    pub fits_nftables: fn(&Config) -> bool,
    /// With this configuration, NodePorts answer on such loopback addresses if the addresses for
    /// NodePorts select them.
    pub loopback: fn(&Config) -> Loopback,
    /// It takes all TCP connections itself, and so can begin those to endpoints with the PROXY
    /// protocol.
    pub writes_proxy_protocol: bool,
    /// The kernel's IPVS chooses endpoints, by a scheduler that a Service may name.
    pub has_schedulers: bool,
    /// Has the kernel load what [`ConfiguredMode::sysctls`] are part of.
    pub load: fn(),
    /// Makes its settings for a node, from its own part of the configuration and from what is known
    /// of the node. Asks the kernel nothing.
    pub configure: fn(&Config, &NodeFacts) -> Box<dyn ConfiguredMode>,
    /// What on this host will keep Services from working in this mode, for people. Changes nothing.
    pub warnings: fn() -> Vec<String>,
    /// What its rules count
    pub counters: &'static [PacketCounter],
    /// Reads what the kernel has counted for Services and endpoints, of a mode that has it count
    pub traffic: Option<OpenTraffic>,
    /// A chain of this name, in this table of iptables, is kube-proxy's too.
    pub shares_chain: fn(table: &str, chain: &str) -> bool,
    /// What ends when a proxy takes over from this mode that serves with something else, for
    /// people. Changes nothing.
    pub ends: fn(InUse) -> Option<String>,
    /// Looks for what this mode left in the kernel, whoever ran it, apart from what is in use.
    /// Changes nothing.
    pub find_own: fn(InUse) -> Result<Leftovers, RemovalError>,
    /// Removes what [`ModeDescriptor::find_own`] finds.
    pub remove_own: fn(InUse) -> Result<Leftovers, RemovalError>,
}

/// Opens what reads the kernel's counters, in the network namespace of the calling thread.
pub type OpenTraffic = fn() -> Result<Box<dyn Traffic>, Error>;

/// What packets meet while a change is brought into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Atomicity {
    /// All rules from before it, or all from after it.
    AllTables,
    /// In each table all rules from before it or all from after it. Tables change one after the
    /// other.
    EachTable,
}

/// A mode with its settings for one node. Two that are equal write the same rules for the same
/// plans.
pub trait ConfiguredMode: fmt::Debug + Any {
    /// Makes the dataplane, in the network namespace of the calling thread. Changes nothing in the
    /// kernel.
    fn dataplane(&self) -> Result<Box<dyn Dataplane>, Error>;

    /// The rules of one family for `plans`, as text for iptables-restore, of a mode that can say
    /// them without a kernel.
    fn text(&self, _family: Family, _plans: &[&ServicePlan]) -> Option<String> {
        None
    }

    /// Writes the rules for `plans` into the network namespace of the calling thread, as far as
    /// they can be written in a user namespace, and says what else the kernel would have.
    fn compute(&self, plans: &[&ServicePlan]) -> Result<Computed, Error> {
        let outcome = self.dataplane()?.sync(&mut plans.iter().copied())?;
        Ok(Computed { outcome, virtual_servers: Vec::new() })
    }

    /// Settings of the kernel that it needs, to be made when its rules are in force: what they let
    /// in, the rules keep in bounds.
    fn sysctls(&self) -> Vec<Sysctl> {
        Vec::new()
    }

    /// The other is of the same mode, with the same settings.
    fn equals(&self, other: &dyn ConfiguredMode) -> bool;
}

/// What a plan asks for, without having it served.
#[derive(Debug)]
pub struct Computed {
    /// What became of the rules
    pub outcome: Outcome,
    /// The virtual servers of IPVS that go with them, with the destinations of each, to which
    /// packets are translated
    pub virtual_servers: Vec<(ServerState, Vec<Destination>)>,
}

/// Whether `other` is of the same type as `one`, and equal.
pub(crate) fn same<T: PartialEq + 'static>(one: &T, other: &dyn ConfiguredMode) -> bool {
    let other: &dyn Any = other;
    other.downcast_ref::<T>() == Some(one)
}

/// A setting of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sysctl {
    /// Its file below `/proc/sys`
    pub path: &'static str,
    /// What it has to be
    pub value: i64,
    /// What to say in the configuration to do without it, for people
    pub leave: &'static str,
}

/// A counter of packets in the kernel.
#[derive(Debug, Clone, Copy)]
pub struct PacketCounter {
    /// The name of its metric, after kube-proxy's prefix (spec §11.16)
    pub metric: &'static str,
    /// What it counts, for people
    pub help: &'static str,
    /// Reads it; `None` if nobody counts
    pub read: fn() -> Option<u64>,
}
