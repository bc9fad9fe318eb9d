//! The contract of every mode.

use std::time::Duration;

use portolan_service::{ChangeSet, Family, ObjectName, PerFamily, ServicePlan};

use crate::error::Error;
use crate::listeners::Listeners;
use crate::variant::Variant;

/// How a family is served. One that is not keeps no other from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Standing {
    /// Its tables hold what the last call left.
    #[default]
    Served,
    /// Its tables could not be brought to what is wanted; why, for people. What they held stays in
    /// force.
    Behind(String),
    /// The host does not have it, or lacks what this mode needs for it; why, and what to do, for
    /// people.
    Absent(String),
}

/// What a commit did.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Services whose rules the kernel refused, with its reason. Everything else is in force.
    pub refused: Vec<(ObjectName, String)>,
    /// Set elements and rules written or removed.
    pub operations: usize,
    /// Rules in each table, for a mode whose number of rules follows the number of Services (spec
    /// §11.18).
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

/// Places in the kernel that a dataplane serves with. Whoever removes what an earlier proxy left,
/// of ours or kube-proxy, keeps off these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InUse {
    /// The nftables tables `portolan`.
    pub tables: bool,
    /// The virtual servers of IPVS that our record names.
    pub virtual_servers: bool,
    /// Chains of kube-proxy's names, for each family in the rules of this variant of iptables.
    pub iptables: PerFamily<Option<Variant>>,
}

/// Brings plans into the kernel.
///
/// What every mode promises: after a call that succeeds the kernel holds what was asked for, in the
/// families that are [`Standing::Served`]. A call that fails leaves what was in force. A Service
/// whose rules are refused keeps no other from being served. Nothing of others is changed.
///
/// The [`ModeDescriptor`] says what a mode promises beyond that. With [`Atomicity::AllTables`] a
/// packet meets the rules before a call or those after it, never some of each. With
/// [`Atomicity::EachTable`] that holds for each table by itself: a packet may meet new rules in one
/// and old ones in another, and the order of tables is such that it is forwarded before or after
/// the change, refused, or sent again.
///
/// [`ModeDescriptor`]: crate::ModeDescriptor
/// [`Atomicity::AllTables`]: crate::Atomicity::AllTables
/// [`Atomicity::EachTable`]: crate::Atomicity::EachTable
pub trait Dataplane {
    /// Makes the kernel hold exactly `plans`, whatever of ours it holds now (nothing, the state of
    /// an earlier process, a damaged state), without a moment in which a Service in both fails.
    ///
    /// A family for which that cannot be done stays as it is, and [`Dataplane::standing`] says so
    /// from then on. It is an error only if it can be done for no family.
    fn sync(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Outcome, Error>;

    /// Applies `changes` to what the last successful call left, in the families that are served.
    /// Costs what the change costs. If the kernel turns out not to hold what was left, or a family
    /// cannot be changed, fails: call [`Dataplane::sync`].
    fn apply(&mut self, changes: &ChangeSet) -> Result<Outcome, Error>;

    /// How each family is served since the last call.
    fn standing(&self) -> PerFamily<Standing>;

    /// Tries again to make the families that are not served hold `plans`, as [`Dataplane::sync`]
    /// does, and leaves the others as they are. `None` if nothing has become of it.
    fn catch_up(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Option<Outcome>, Error>;

    /// Looks whether the kernel still holds what was left in the families that are served: `plans`,
    /// as given to [`Dataplane::sync`] and changed by [`Dataplane::apply`] since. Asks for no plan,
    /// and costs one small request, when nobody changed anything.
    fn verify(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Integrity, Error>;

    /// What [`Dataplane::sync`] with `plans` would change for clients: frontends that come, go, or
    /// lead elsewhere. Reads everything that is in the kernel and changes nothing.
    fn preview(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Vec<Difference>, Error>;

    /// What the kernel holds of ours, whoever wrote it: a line for each frontend, for people. Reads
    /// everything.
    fn listing(&mut self) -> Result<Vec<String>, Error>;

    /// The looks through connection tracking that ended since the last call. Clients that send to
    /// UDP endpoints that left are sent elsewhere soon after each commit (spec §8A), by a thread of
    /// its own; this waits for it, at most `patience`.
    fn reconciled(&mut self, patience: Duration) -> Vec<Reconciled>;

    /// Housekeeping that may wait: call when idle. Returns whether there is more to do later.
    fn tidy(&mut self) -> Result<bool, Error>;

    /// Removes everything of ours from the kernel, whoever left it.
    fn cleanup(&mut self) -> Result<(), Error>;

    /// What this dataplane uses of places where a mode may also have left something unused.
    fn in_use(&self) -> InUse;

    /// What of the plans is not served since the last call, though all rules are in force: each a
    /// sentence for people, which names the Service port and says what to do.
    fn unserved(&self) -> Vec<String> {
        Vec::new()
    }

    /// What of `plans` other programs of this host would keep from being served, likewise. Changes
    /// nothing.
    fn obstacles(&self, _plans: &mut dyn Iterator<Item = &ServicePlan>) -> Vec<String> {
        Vec::new()
    }

    /// The sockets that it serves with, of a mode that has some. Their connections end with them.
    /// So another dataplane that takes the place of this one is given them before its first
    /// [`Dataplane::sync`].
    fn listeners(&mut self) -> Option<&mut Listeners> {
        None
    }
}
