//! What a dataplane needs that has IPVS translate: marks, and what the rules say already.

use std::collections::HashMap;

use portolan_netfilter::nft::{Batch, OwnedData, Verdict};
use portolan_service::{PortPlan, ServicePlan};

use super::encoding::{FrontendKey, take_frontend};
use super::kernel::Commit;
use super::layout::Layout;
use super::marks::MarkedPort;
use super::set::{SetName, is_like};
use super::{ATTEMPTS, Nftables};
use crate::error::Error;

/// What the rules in the kernel say of a frontend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HeldFrontend {
    /// The Service port, as far as a comment says it
    pub(crate) name: String,
    /// Its packets go to IPVS.
    pub(crate) steered: bool,
    /// The mark for clients from outside, if these have endpoints of their own
    pub(crate) mark: Option<u32>,
    /// What becomes of clients that nobody serves, for people
    pub(crate) refused: Option<&'static str>,
}

impl Nftables {
    /// The mark of a Service port.
    pub(crate) fn mark(&self, plan: &ServicePlan, port: &PortPlan) -> Option<u32> {
        self.layout.mark(plan, port)
    }

    /// Gives a Service port a mark if it has none: `preferred`, unless another port has that.
    pub(crate) fn assign_mark(&mut self, port: MarkedPort, preferred: Option<u32>) {
        if let Layout::Steer { marks, .. } = &mut self.layout {
            marks.assign(port, preferred);
        }
    }

    /// A Service port needs its mark no more. What is in force must not have it.
    pub(crate) fn release_mark(&mut self, port: &MarkedPort) {
        if let Layout::Steer { marks, .. } = &mut self.layout {
            marks.release(port);
        }
    }

    /// No Service port has a mark: everything is to be written anew.
    pub(crate) fn forget_marks(&mut self) {
        if let Layout::Steer { marks, .. } = &mut self.layout {
            marks.clear();
        }
    }

    /// The frontends in tables of ours that steer. Reads everything.
    pub(crate) fn held_frontends(&mut self) -> Result<HashMap<FrontendKey, HeldFrontend>, Error> {
        let mut held: HashMap<FrontendKey, HeldFrontend> = HashMap::new();
        for family in self.families.clone() {
            let sets = self.kernel.contents(family)?.sets;
            if !sets.iter().any(|info| is_like(SetName::Frontends, family, info)) {
                continue;
            }
            for set in [SetName::Frontends, SetName::LocalMarks, SetName::NoEndpoints] {
                self.kernel.elements(family, set, |element| {
                    let mut key = &element.key[..];
                    let Some(key) = take_frontend(&mut key, family) else { return };
                    let frontend = held.entry(key).or_default();
                    match (set, &element.data) {
                        (SetName::Frontends, _) => frontend.steered = true,
                        (SetName::LocalMarks, Some(OwnedData::Value(mark))) => {
                            frontend.mark = mark.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
                        }
                        (_, Some(OwnedData::Verdict(Verdict::Drop))) => frontend.refused = Some("dropped"),
                        _ => frontend.refused = Some("rejected: no endpoints"),
                    }
                    if let Some(comment) = &element.comment {
                        frontend.name.clone_from(comment);
                    }
                })?;
            }
        }
        Ok(held)
    }

    /// Commits what belongs to other tables than ours, whatever others do meanwhile. Commits of
    /// others are noticed afterwards as before.
    pub(crate) fn commit_beside(&mut self, fill: impl Fn(&mut Batch)) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            let mut batch = self.kernel.begin();
            fill(&mut batch);
            let known = self.kernel.generation();
            match self.kernel.commit(batch)? {
                Commit::Done => return Ok(()),
                Commit::Stale => {
                    self.kernel.expect_nothing();
                    let mut batch = self.kernel.begin();
                    fill(&mut batch);
                    let commit = self.kernel.commit(batch)?;
                    self.kernel.expect_generation(known);
                    match commit {
                        Commit::Done => return Ok(()),
                        Commit::Stale => {}
                        Commit::Refused(refusal) => return Err(refusal.into_error("changing our record")),
                    }
                }
                Commit::Refused(refusal) => return Err(refusal.into_error("changing our record")),
            }
        }
        Err(Error::Unusable(format!("gave up after {ATTEMPTS} attempts to change our record: try again")))
    }
}
