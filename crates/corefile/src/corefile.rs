//! What a Corefile asks for, server block by server block.

use crate::key::Zone;
use crate::plugins::acl::Acl;
use crate::plugins::autopath::Autopath;
use crate::plugins::bind::Bind;
use crate::plugins::cache::Cache;
use crate::plugins::forward::Forward;
use crate::plugins::health::Health;
use crate::plugins::hosts::Hosts;
use crate::plugins::kubernetes::Kubernetes;
use crate::plugins::log::Log;
use crate::plugins::ready::Ready;
use crate::plugins::reload::Reload;
use crate::plugins::template::Template;
use crate::problem::{Place, Problem};
use crate::words::Listen;

/// What a Corefile asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Corefile {
    /// At least one.
    pub blocks: Vec<ServerBlock>,
    /// What is accepted and has no effect.
    pub notices: Vec<Problem>,
}

/// A server block: which domains it answers for, and how. A plugin that is not there is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerBlock {
    /// Where it begins.
    pub place: Place,
    /// What it answers for, at least one.
    pub zones: Vec<Zone>,
    /// `acl`, in order: the first policy that fits decides.
    pub acl: Vec<Acl>,
    /// `autopath`: the search lists of pods are finished.
    pub autopath: Option<Autopath>,
    /// `bind`: where it listens. None at all is everywhere.
    pub bind: Vec<Bind>,
    /// `cache`
    pub cache: Option<Cache>,
    /// `errors`: failures are logged.
    pub errors: bool,
    /// `forward`, in order: the first one that takes a name does.
    pub forward: Vec<Forward>,
    /// `health`
    pub health: Option<Health>,
    /// `hosts`
    pub hosts: Option<Hosts>,
    /// `kubernetes`
    pub kubernetes: Option<Kubernetes>,
    /// `log`, in order: the first rule that fits decides.
    pub log: Vec<Log>,
    /// `loop`: loops of forwarding are looked for.
    pub loop_detection: bool,
    /// `prometheus`: where the metrics are.
    pub prometheus: Option<Listen>,
    /// `ready`
    pub ready: Option<Ready>,
    /// `reload`: the Corefile is read again when it changes.
    pub reload: Option<Reload>,
    /// `template`, in order: the first one that fits decides.
    pub template: Vec<Template>,
}
