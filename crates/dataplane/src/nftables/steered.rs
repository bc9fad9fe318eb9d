//! What a dataplane needs that has IPVS translate: marks, and what the rules say already.

use std::collections::HashMap;

use portolan_netfilter::nft::{Batch, OwnedData, OwnedElement, Verdict};
use portolan_service::{PortPlan, ServicePlan};

use super::Nftables;
use super::encoding::{FrontendKey, take_frontend};
use super::kernel::Commit;
use super::layout::Layout;
use super::marks::MarkedPort;
use super::set::{SetName, is_like};
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
        let sets = [SetName::Frontends, SetName::LocalMarks, SetName::NoEndpoints];
        self.steered_elements(&sets, |set, key, element| {
            let frontend = held.entry(key).or_default();
            match (set, &element.data) {
                (SetName::Frontends, _) => frontend.steered = true,
                (SetName::LocalMarks, data) => frontend.mark = mark(data.as_ref()),
                (_, Some(OwnedData::Verdict(Verdict::Drop))) => frontend.refused = Some("dropped"),
                _ => frontend.refused = Some("rejected: no endpoints"),
            }
            if let Some(comment) = &element.comment {
                frontend.name.clone_from(comment);
            }
        })?;
        Ok(held)
    }

    /// The marks in tables of ours that steer.
    pub(crate) fn held_marks(&mut self) -> Result<HashMap<FrontendKey, u32>, Error> {
        let mut held = HashMap::new();
        self.steered_elements(&[SetName::LocalMarks], |_, key, element| {
            held.extend(mark(element.data.as_ref()).map(|mark| (key, mark)));
        })?;
        Ok(held)
    }

    /// The elements of sets with frontends, as far as tables of ours steer.
    fn steered_elements(
        &mut self,
        sets: &[SetName],
        mut each: impl FnMut(SetName, FrontendKey, &OwnedElement),
    ) -> Result<(), Error> {
        for family in self.families.clone() {
            let present = self.kernel.contents(family)?.sets;
            if !present.iter().any(|info| is_like(SetName::Frontends, family, info)) {
                continue;
            }
            for set in sets {
                self.kernel.elements(family, *set, |element| {
                    if let Some(key) = take_frontend(&mut &element.key[..], family) {
                        each(*set, key, element);
                    }
                })?;
            }
        }
        Ok(())
    }

    /// Commits what belongs to other tables than ours, whatever others do meanwhile. Commits of
    /// others are noticed afterwards as before.
    pub(crate) fn commit_beside(&mut self, fill: impl Fn(&mut Batch)) -> Result<(), Error> {
        let known = self.kernel.generation();
        let mut commit = self.commit_filled(&fill)?;
        if matches!(commit, Commit::Stale) {
            self.kernel.expect_nothing();
            let again = self.commit_filled(&fill);
            self.kernel.expect_generation(known);
            commit = again?;
        }
        match commit {
            Commit::Done => Ok(()),
            Commit::Stale => {
                Err(Error::Unusable("others change the rule set all the time: try again".into()))
            }
            Commit::Refused(refusal) => Err(refusal.into_error("changing our record")),
        }
    }

    fn commit_filled(&mut self, fill: impl Fn(&mut Batch)) -> Result<Commit, Error> {
        let mut batch = self.kernel.begin();
        fill(&mut batch);
        self.kernel.commit(batch)
    }
}

fn mark(data: Option<&OwnedData>) -> Option<u32> {
    match data {
        Some(OwnedData::Value(mark)) => mark.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes)),
        _ => None,
    }
}
