//! The two counters that rules count into (spec §5.16).

use portolan_netfilter::nfacct;
use portolan_netfilter::socket::Socket;

use crate::iptables::chains::{DROPPED_INVALID, LOCALHOST_ACCEPTED};

/// Creates both counters where they are missing; those that are there count on. False, and rules
/// must do without, if the kernel has no such counters or does not let us.
pub(in crate::iptables) fn ensure_counters() -> bool {
    let ensure = || -> std::io::Result<bool> {
        let mut socket = Socket::open()?;
        Ok(nfacct::ensure(&mut socket, DROPPED_INVALID)? && nfacct::ensure(&mut socket, LOCALHOST_ACCEPTED)?)
    };
    match ensure() {
        Ok(true) => true,
        Ok(false) => {
            tracing::info!("the kernel has no nfacct: dropped and accepted packets are not counted");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "no nfacct counters: dropped and accepted packets are not counted");
            false
        }
    }
}
