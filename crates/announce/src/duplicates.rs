//! Others that say they have an address of this node.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use portolan_netlink::rtnetlink::HardwareAddress;

/// Whoever else announces an address is answered by an announcement at most this often (RFC 5227
/// §2.4). Who has been silent for so long begins anew.
const DEFENDED_EVERY: Duration = Duration::from_secs(10);
/// Another node of ours may announce an address for so long while it moves.
const MOVES_WITHIN: Duration = Duration::from_secs(5);
/// Who has been silent for longer is not shown.
const SHOWN_FOR: Duration = Duration::from_mins(1);
/// So many others of one address are remembered and reported: hardware addresses can be invented.
const MOST: usize = 8;

/// All of them, by address.
#[derive(Debug, Default)]
pub(crate) struct Duplicates {
    by_address: HashMap<IpAddr, Others>,
}

#[derive(Debug)]
struct Others {
    defended: Option<Instant>,
    by_hardware: BTreeMap<HardwareAddress, Other>,
}

#[derive(Debug)]
struct Other {
    first: Instant,
    last: Instant,
    reported: bool,
}

/// What is to be done about one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ToDo {
    /// The address is to be announced once more.
    pub(crate) defend: bool,
    /// Somebody is to know of it.
    pub(crate) report: bool,
}

impl Duplicates {
    /// Takes that `hardware` says it has `address`. It is another node's if `of_node`.
    pub(crate) fn note(
        &mut self,
        address: IpAddr,
        hardware: HardwareAddress,
        of_node: bool,
        now: Instant,
    ) -> ToDo {
        let others = self
            .by_address
            .entry(address)
            .or_insert_with(|| Others { defended: None, by_hardware: BTreeMap::new() });
        let mut to_do = ToDo::default();
        if others.defended.is_none_or(|at| now >= at + DEFENDED_EVERY) {
            others.defended = Some(now);
            to_do.defend = true;
        }
        if others.by_hardware.len() >= MOST && !others.by_hardware.contains_key(&hardware) {
            return to_do;
        }
        let other =
            others.by_hardware.entry(hardware).or_insert(Other { first: now, last: now, reported: false });
        if now >= other.last + DEFENDED_EVERY {
            other.first = now;
        }
        other.last = now;
        if !other.reported && (!of_node || now >= other.first + MOVES_WITHIN) {
            other.reported = true;
            to_do.report = true;
        }
        to_do
    }

    /// Forgets those of an address.
    pub(crate) fn forget(&mut self, address: IpAddr) {
        self.by_address.remove(&address);
    }

    /// Those that were reported and have been there of late.
    pub(crate) fn reported(&self, address: IpAddr, now: Instant) -> Vec<HardwareAddress> {
        let others = self.by_address.get(&address).into_iter().flat_map(|others| &others.by_hardware);
        others
            .filter(|(_, other)| other.reported && now < other.last + SHOWN_FOR)
            .map(|(hardware, _)| *hardware)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFEND: ToDo = ToDo { defend: true, report: false };
    const BOTH: ToDo = ToDo { defend: true, report: true };

    fn hardware(last: u8) -> HardwareAddress {
        [2, 9, 9, 9, 9, last]
    }

    #[test]
    fn a_stranger_is_reported_once_and_defended_against_now_and_then() {
        let (mut duplicates, start) = (Duplicates::default(), Instant::now());
        let address = IpAddr::from([192, 0, 2, 7]);
        let mut at =
            |seconds| duplicates.note(address, hardware(1), false, start + Duration::from_secs(seconds));
        assert_eq!(
            [0, 1, 9, 10, 11].map(&mut at),
            [BOTH, ToDo::default(), ToDo::default(), DEFEND, ToDo::default()]
        );
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(duplicates.reported(address, after(70)), [hardware(1)]);
        assert!(duplicates.reported(address, after(72)).is_empty(), "it was put right");
        duplicates.forget(address);
        assert!(duplicates.reported(address, start).is_empty());
    }

    #[test]
    fn a_node_is_reported_when_it_goes_on() {
        let (mut duplicates, start) = (Duplicates::default(), Instant::now());
        let address = IpAddr::from([192, 0, 2, 7]);
        let mut at = |seconds| {
            duplicates.note(address, hardware(1), true, start + Duration::from_secs(seconds)).report
        };
        // Two moves of the address, a minute apart, and then one that does not end.
        assert_eq!([0, 2, 60, 63, 64].map(&mut at), [false; 5]);
        assert_eq!([65, 66].map(&mut at), [true, false]);
    }

    #[test]
    fn invented_ones_make_nothing_grow() {
        let (mut duplicates, now) = (Duplicates::default(), Instant::now());
        let address = IpAddr::from([192, 0, 2, 7]);
        let noted = (0..=255).map(|last| duplicates.note(address, hardware(last), false, now));
        let noted: Vec<ToDo> = noted.collect();
        assert_eq!(noted.iter().filter(|to_do| to_do.report).count(), MOST);
        assert_eq!(noted.iter().filter(|to_do| to_do.defend).count(), 1);
    }
}
