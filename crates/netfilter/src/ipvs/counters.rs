//! What IPVS counts at virtual servers and destinations.

use std::ops::AddAssign;

use portolan_netlink::wire::Attributes;

// linux/ip_vs.h: IPVS_STATS_ATTR_*
const CONNECTIONS: u16 = 1;
const PACKETS_IN: u16 = 2;
const PACKETS_OUT: u16 = 3;
const BYTES_IN: u16 = 4;
const BYTES_OUT: u16 = 5;
/// The first of five rates, in the order of the above
const RATES: u16 = 6;

/// What was counted since a virtual server or a destination was created. The kernel adds up every
/// two seconds, unless `net.ipv4.vs.run_estimation` is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// All of it
    pub total: Counts,
    /// Each second, over the last few
    pub rate: Counts,
}

/// Connections, and what was sent over them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections, or flows of UDP
    pub connections: u64,
    /// Packets of clients
    pub packets_in: u64,
    /// Packets to clients
    pub packets_out: u64,
    /// Bytes of clients, with the headers of IP
    pub bytes_in: u64,
    /// Bytes to clients, likewise
    pub bytes_out: u64,
}

impl Counters {
    /// Reads the nested attributes `IPVS_STATS_ATTR_*`, of 64 bits each.
    pub(super) fn parse(of: &Attributes<'_>) -> Counters {
        let counts = |first: u16| {
            let count = |kind: u16| {
                let payload = of.get(kind - CONNECTIONS + first).map(|found| found.payload);
                let bytes = payload.and_then(|payload| payload.first_chunk());
                bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
            };
            Counts {
                connections: count(CONNECTIONS),
                packets_in: count(PACKETS_IN),
                packets_out: count(PACKETS_OUT),
                bytes_in: count(BYTES_IN),
                bytes_out: count(BYTES_OUT),
            }
        };
        Counters { total: counts(CONNECTIONS), rate: counts(RATES) }
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, more: Counters) {
        self.total += more.total;
        self.rate += more.rate;
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Counts) {
        let sum = |to: &mut u64, more: u64| *to = to.saturating_add(more);
        sum(&mut self.connections, more.connections);
        sum(&mut self.packets_in, more.packets_in);
        sum(&mut self.packets_out, more.packets_out);
        sum(&mut self.bytes_in, more.bytes_in);
        sum(&mut self.bytes_out, more.bytes_out);
    }
}
