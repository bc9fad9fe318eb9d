//! The marks by which IPVS knows traffic from outside, where that has endpoints of its own.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use portolan_service::{Family, ObjectName, PortPlan, Protocol, ServicePlan};

/// Such marks begin with these four bits.
pub(crate) const LOCAL_MARKS: u32 = 0x7000_0000;
/// Those bits
pub(crate) const LOCAL_MARKS_MASK: u32 = 0xf000_0000;

/// A Service port that has endpoints of its own for clients from outside.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct MarkedPort {
    service: ObjectName,
    family: Family,
    protocol: Protocol,
    port: Arc<str>,
}

impl MarkedPort {
    pub(crate) fn new(plan: &ServicePlan, port: &PortPlan) -> MarkedPort {
        MarkedPort {
            service: plan.name.clone(),
            family: port.family,
            protocol: port.protocol,
            port: Arc::clone(&port.name),
        }
    }
}

/// Which Service port has which mark. No two have the same.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    by_port: HashMap<MarkedPort, u32>,
    taken: HashSet<u32>,
    /// Where the last one was found free
    last: u32,
}

impl Marks {
    pub(crate) fn of(&self, port: &MarkedPort) -> Option<u32> {
        self.by_port.get(port).copied()
    }

    /// Whether `mark` can be one of these.
    pub(crate) fn is_one(mark: u32) -> bool {
        mark & LOCAL_MARKS_MASK == LOCAL_MARKS && mark != LOCAL_MARKS
    }

    /// Gives `port` a mark if it has none: `preferred`, unless another port has that.
    pub(crate) fn assign(&mut self, port: MarkedPort, preferred: Option<u32>) {
        if self.by_port.contains_key(&port) {
            return;
        }
        let mark = preferred.filter(|mark| Marks::is_one(*mark) && !self.taken.contains(mark));
        let mark = mark.unwrap_or_else(|| self.free());
        self.taken.insert(mark);
        self.by_port.insert(port, mark);
    }

    /// There are as many marks as nobody has Services.
    fn free(&mut self) -> u32 {
        loop {
            self.last = (self.last + 1) & !LOCAL_MARKS_MASK;
            let mark = LOCAL_MARKS | self.last;
            if Marks::is_one(mark) && !self.taken.contains(&mark) {
                return mark;
            }
        }
    }

    /// `port` needs its mark no more.
    pub(crate) fn release(&mut self, port: &MarkedPort) {
        if let Some(mark) = self.by_port.remove(port) {
            self.taken.remove(&mark);
        }
    }

    /// No port has a mark.
    pub(crate) fn clear(&mut self) {
        *self = Marks::default();
    }
}
