//! What sockets and rules of mode userspace depend on besides Services.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use portolan_service::PerFamily;

use crate::iptables;
use crate::settings::Settings;

/// Settings of mode userspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserspaceSettings {
    /// Those of the rules.
    pub rules: Settings,
    /// Rules of iptables bring clients to the sockets, with these options. `None`: our nftables
    /// tables do.
    pub iptables: Option<iptables::Options>,
    /// The addresses of the node that sockets are bound to. A family without one is not served.
    pub addresses: PerFamily<Option<IpAddr>>,
    /// The ports of sockets; `None`: the kernel chooses (clause U1.3).
    pub ports: Option<RangeInclusive<u16>>,
    /// A UDP client that has neither sent nor got anything for so long is forgotten (U4.2).
    pub udp_idle: Duration,
}
