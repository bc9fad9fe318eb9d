//! Pods, reduced to what makes endpoints of them.

use std::net::IpAddr;
use std::sync::Arc;

use portolan_service::{PerFamily, Protocol};

use crate::{Labels, Naming};

/// A Pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pod {
    /// `metadata.labels`
    pub labels: Labels,
    /// `status.podIPs`; for a pod on the host's network without, `status.hostIP`.
    pub addresses: PerFamily<Option<IpAddr>>,
    /// The condition `Ready`.
    pub ready: bool,
    /// It has a `metadata.deletionTimestamp`.
    pub terminating: bool,
    /// It has run to its end (phase Succeeded or Failed) and will never serve again.
    pub finished: bool,
    /// `spec.nodeName`
    pub node: Option<Arc<str>>,
    /// What its spec says of names; `None` if nothing.
    pub naming: Option<Arc<Naming>>,
    /// The named ports of its containers.
    pub ports: Vec<ContainerPort>,
}

/// A named port of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPort {
    /// Its name.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number, 1-65535.
    pub port: u16,
}
