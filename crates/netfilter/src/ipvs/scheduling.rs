//! How a virtual server chooses among its destinations.

use portolan_netlink::wire::{Attributes, Writer};

use crate::nft::TableFamily;

// linux/ip_vs.h: IPVS_SVC_ATTR_*
const SCHEDULER: u16 = 6;
const FLAGS: u16 = 7;
const TIMEOUT: u16 = 8;
const NETMASK: u16 = 9;

/// `IP_VS_SVC_F_PERSISTENT`
const PERSISTENT: u32 = 0x1;
/// `IP_VS_SVC_F_HASHED`: of the kernel's own.
const HASHED: u32 = 0x2;

/// `sh` and `mh`: who would go to a destination of weight 0 goes to another (`IP_VS_SVC_F_SCHED1`).
pub const REFUSE_NOBODY: u32 = 0x8;
/// `sh` and `mh`: the client's port is hashed too (`IP_VS_SVC_F_SCHED2`).
pub const HASH_BY_PORT: u32 = 0x10;

/// How a virtual server chooses among its destinations.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scheduling {
    /// The name of the scheduler, such as `rr`
    pub scheduler: String,
    /// The scheduler's flags, such as [`HASH_BY_PORT`]
    pub flags: u32,
    /// A client's address stays with its destination until it has been silent for this many
    /// seconds.
    pub persistence: Option<u32>,
}

impl Scheduling {
    pub(super) fn parse(service: &Attributes<'_>) -> Option<Scheduling> {
        let flags = service.get(FLAGS)?.payload.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))?;
        let timeout = service.get(TIMEOUT)?.ne32()?;
        Some(Scheduling {
            scheduler: service.get(SCHEDULER)?.text()?.to_owned(),
            flags: flags & !(PERSISTENT | HASHED),
            persistence: (flags & PERSISTENT != 0).then_some(timeout),
        })
    }

    pub(super) fn emit(&self, family: TableFamily, to: &mut Writer) {
        let persistent = if self.persistence.is_some() { PERSISTENT } else { 0 };
        to.string(SCHEDULER, &self.scheduler);
        let [f0, f1, f2, f3] = (self.flags | persistent).to_ne_bytes();
        to.attribute(FLAGS, &[f0, f1, f2, f3, 0xff, 0xff, 0xff, 0xff]);
        to.ne32(TIMEOUT, self.persistence.unwrap_or(0));
        // Each address by itself: a mask in IPv4, a length in IPv6.
        to.ne32(NETMASK, if family == TableFamily::Ip { u32::MAX } else { 128 });
    }
}
