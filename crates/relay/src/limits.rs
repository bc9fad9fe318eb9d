//! What clients may take together.

use std::io;

use crate::system;

/// Descriptors that are left to the rest of the process.
const OTHERS: usize = 256;

/// What clients may take together. At the start it is reduced to what the descriptors of the
/// process are enough for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once. One more is reset, and counted.
    pub connections: usize,
    /// UDP clients at once. Datagrams of one more are dropped, and counted.
    pub clients: usize,
    /// Pipes at once: connections whose bytes one side has sent and the other has not taken hold
    /// one or two, all others none. If there are no more, bytes are copied.
    pub pipes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { connections: 131_072, clients: 65_536, pipes: 4096 }
    }
}

impl Limits {
    /// Raises the limit of the process's descriptors as far as it may, and returns what is possible
    /// with that. Programs that the process starts inherit the limit.
    pub(crate) fn raised(self) -> io::Result<Limits> {
        Ok(self.within(self.raise()?.saturating_sub(OTHERS)))
    }

    /// Raises the limit as for a relay with the usual limits. Returns how many descriptors there
    /// are for sockets then.
    pub(crate) fn descriptors() -> io::Result<usize> {
        Ok(Limits::default().raise()?.saturating_sub(OTHERS))
    }

    fn raise(self) -> io::Result<usize> {
        let Limits { connections, clients, pipes } = self;
        let wanted = [connections, connections, clients, pipes, pipes, OTHERS];
        let wanted = wanted.into_iter().fold(0, usize::saturating_add) as u64;
        Ok(usize::try_from(system::raise_descriptors(wanted)?).unwrap_or(usize::MAX))
    }

    /// As much of it as there are descriptors for: two a connection or pipe, one a UDP client.
    fn within(self, descriptors: usize) -> Limits {
        let pipes = self.pipes.min(descriptors / 8);
        let left = descriptors - 2 * pipes;
        let wanted = 2 * self.connections as u128 + self.clients as u128;
        if wanted <= left as u128 {
            return Limits { pipes, ..self };
        }
        let part = |of: usize| usize::try_from(of as u128 * left as u128 / wanted).unwrap_or(0);
        Limits { connections: part(self.connections), clients: part(self.clients), pipes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_fit_into_descriptors() {
        let limits = |connections, clients, pipes| Limits { connections, clients, pipes };
        for (name, wanted, descriptors, expected) in [
            ("enough", limits(100, 50, 10), 1000, limits(100, 50, 10)),
            ("just enough", limits(100, 50, 10), 270, limits(100, 50, 10)),
            ("half of what is wanted", limits(100, 50, 10), 145, limits(50, 25, 10)),
            ("fewer pipes", limits(100, 50, 10), 40, limits(12, 6, 5)),
            ("none", limits(100, 50, 10), 0, limits(0, 0, 0)),
            ("no bounds", limits(usize::MAX, 0, 0), 100, limits(50, 0, 0)),
        ] {
            let found = wanted.within(descriptors);
            assert_eq!(found, expected, "{name}");
        }
    }
}
