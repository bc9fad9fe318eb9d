//! What the virtual servers and rules of mode ipvs depend on besides Services.

use portolan_netfilter::ipvs::Timeouts;

use crate::settings::Settings;

/// The settings of mode ipvs for one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpvsSettings {
    /// What its rules depend on
    pub rules: Settings,
    /// The bit of a packet's mark that steers it to IPVS (`iptables.masqueradeBit`)
    pub bit: u32,
    /// The scheduler of Services that name none
    pub scheduler: String,
    /// How long IPVS remembers connections
    pub timeouts: Timeouts,
}
