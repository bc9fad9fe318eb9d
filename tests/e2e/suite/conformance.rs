//! What Kubernetes' own tests ask of a service proxy and of the names of Services, under the names
//! of those tests (`test/e2e/network` there, without the tags in brackets). The cases are ours.
//! docs/conformance.md lists them, and those that cannot apply.

mod affinity;
mod expect;
mod host_port;
mod labels;
mod names;
mod networking;
mod policy;
mod ports;
mod slices;
mod terminating;
mod types;
mod udp;
mod unready;

use crate::Case;

/// The long ones first.
const ALL: &[&[Case]] = &[
    terminating::CASES,
    affinity::CASES,
    udp::CASES,
    unready::CASES,
    policy::CASES,
    types::CASES,
    ports::CASES,
    networking::CASES,
    slices::CASES,
    names::CASES,
    host_port::CASES,
    labels::CASES,
];

/// All cases.
pub(crate) fn cases() -> impl Iterator<Item = &'static Case> {
    ALL.iter().flat_map(|cases| cases.iter())
}
