//! Readiness, liveness and startup probes, as kubelet 1.36 has them, for whoever has no kubelet.
//!
//! [`Health`] says what the outcomes of probes mean for one container: no I/O, no clock.
//! [`check()`] carries out one probe. [`Prober`] does both for many pods, from one thread.

mod check;
mod health;
mod prober;
mod schedule;
mod spec;

pub use check::{check, check_blocking};
pub use health::{Health, Moment, Pace};
pub use prober::Prober;
pub use schedule::{Counters, Failure, Outcomes, PodReport, ProbeReport, Verdict};
pub use spec::{Action, ContainerProbes, HttpGet, Probe, ProbeKind, Target, Timing};
