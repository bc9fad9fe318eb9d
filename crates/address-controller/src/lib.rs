//! Load-balancer addresses of a cluster's Services: allocated out of pools, and written into
//! `status.loadBalancer`, by the one of several controllers that has a Lease.
//!
//! - The status of Services is the record. Whoever gets the Lease reads all of them, as the API
//!   server's storage has them then, and adopts what they say. Nothing else is remembered, and who
//!   does not have the Lease follows nothing.
//! - [`election`] says who has the Lease, without I/O and clock. It is asked right before each
//!   write, and a write ends before another controller can have the Lease.
//! - A write names the version of the Service that it was worked out for. Where the Service has
//!   changed since, the API server refuses it, and it is worked out anew.
//! - `addresses` says which status each Service must have, without I/O. `term` follows Services,
//!   Namespaces and pools, and writes, for as long as the Lease is ours.

mod addresses;
mod controller;
pub mod election;
mod elector;
mod metallb;
mod service;
mod status;
mod term;

use portolan_service::AddressPool;

pub use controller::{Controller, start};
pub use status::{PoolUse, Report, Status};

/// Where the Lease is, how the API server is reached, and who this is.
#[derive(Debug, Clone)]
pub struct Options {
    /// How the API server is reached.
    pub api: portolan_kubernetes::Options,
    /// How long to wait for its answers.
    pub api_timing: portolan_kubernetes::Timing,
    /// The namespace of the Lease.
    pub lease_namespace: String,
    /// The name of the Lease. It is made if it is not there.
    pub lease_name: String,
    /// `holderIdentity` of the Lease: no other process has the same.
    pub identity: String,
    /// How the Lease is held.
    pub timing: election::Timing,
}

/// The pools that addresses are of, beside those of MetalLB's objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pools {
    /// They come before those of MetalLB's objects.
    pub pools: Vec<AddressPool>,
    /// Services without a `spec.loadBalancerClass` have addresses, too.
    pub is_default: bool,
    /// `IPAddressPool` objects (metallb.io/v1beta1) are read, where they are served.
    pub of_metallb: bool,
}
