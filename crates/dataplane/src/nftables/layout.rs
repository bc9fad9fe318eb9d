//! What a table is for: which sets, chains and rules it has, and which elements a plan adds.

use portolan_service::{PortPlan, ServicePlan};

use super::marks::{MarkedPort, Marks};
use super::set::SetName;

/// What becomes of packets for frontends.
#[derive(Debug)]
pub(crate) enum Layout {
    /// Rules translate them.
    Translate,
    /// Rules bring them to the kernel's IPVS, which translates them.
    Steer {
        /// The bit of a packet's mark by which it is routed to the node itself
        bit: u32,
        /// The marks by which IPVS knows traffic from outside
        marks: Marks,
    },
}

/// The sets of tables that translate, in the order in which they are created and filled: what
/// others lead to comes first.
const TRANSLATE: &[SetName] = &[
    SetName::ClusterIps,
    SetName::Hairpin,
    SetName::Endpoints,
    SetName::EndpointsLocal,
    SetName::UdpFrontends,
    SetName::Firewalled,
    SetName::Allowed,
    SetName::Services,
    SetName::ServicesLocal,
    SetName::NoEndpoints,
    SetName::MasqExternal,
];

/// The sets of tables that steer.
const STEER: &[SetName] = &[
    SetName::ClusterIps,
    SetName::Hairpin,
    SetName::Firewalled,
    SetName::Allowed,
    SetName::LocalMarks,
    SetName::Frontends,
    SetName::NoEndpoints,
    SetName::MasqExternal,
];

impl Layout {
    /// Brings packets to IPVS by this bit of their mark.
    pub(crate) fn steer(bit: u32) -> Layout {
        Layout::Steer { bit, marks: Marks::default() }
    }

    /// The sets of a table.
    pub(crate) fn sets(&self) -> &'static [SetName] {
        match self {
            Layout::Translate => TRANSLATE,
            Layout::Steer { .. } => STEER,
        }
    }

    /// Rules choose endpoints, and remember which clients have which.
    pub(crate) fn chooses_endpoints(&self) -> bool {
        matches!(self, Layout::Translate)
    }

    /// The bit that steers, if one does.
    pub(crate) fn bit(&self) -> Option<u32> {
        match self {
            Layout::Translate => None,
            Layout::Steer { bit, .. } => Some(*bit),
        }
    }

    /// The mark for clients from outside of a Service port.
    pub(crate) fn mark(&self, plan: &ServicePlan, port: &PortPlan) -> Option<u32> {
        match self {
            Layout::Translate => None,
            Layout::Steer { marks, .. } => marks.of(&MarkedPort::new(plan, port)),
        }
    }
}
