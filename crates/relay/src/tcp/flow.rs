//! One direction of a connection: from its source through a pipe into its sink. Nothing here knows
//! a descriptor, so that tests can try out every order in which a kernel may answer.
//!
//! The kernel reports only changes (edge-triggered): whatever was reported is remembered until it
//! proves wrong.

use std::io::{self, ErrorKind};

/// What a flow moves octets with.
pub(super) trait Ends {
    /// Takes octets from the source into the pipe, which is empty.
    fn fill(&mut self) -> Result<Filled, Broken>;

    /// Takes up to `held` octets from the pipe into the sink.
    fn drain(&mut self, held: usize) -> io::Result<usize>;
}

/// What became of an attempt to take octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// Some were taken.
    Taken(Taken),
    /// There are none now.
    SourceIsEmpty,
    /// There are some, and the sink takes none now.
    SinkIsFull,
    /// There will be no more.
    End,
}

/// Octets that were taken from a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Taken {
    /// So many went to the sink at once.
    pub(super) passed: usize,
    /// So many are in the pipe.
    pub(super) held: usize,
    /// The source had no more: what comes next is reported.
    pub(super) all: bool,
}

/// One of the two sides is of no more use.
#[derive(Debug)]
pub(super) struct Broken;

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Broken {
        Broken
    }
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// An event must come first.
    Waits,
    /// Others have their turn first.
    Again,
    /// The sink has everything, and no more will come.
    Ended,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Octets in the pipe.
    held: usize,
    /// Octets that the sink has taken since this was last asked for.
    passed: u64,
    /// The source may have something.
    pub(super) readable: bool,
    /// It may have something even if it had no more octets: an end, or octets behind urgent ones.
    pub(super) more: bool,
    /// The sink may take something.
    pub(super) writable: bool,
    end: End,
}

/// The end of what the source sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum End {
    #[default]
    NotYet,
    /// No more will come.
    Came,
    /// The sink knows.
    Passed,
}

impl Flow {
    /// Moves octets, at most about `budget`, until an event is needed.
    pub(super) fn advance(&mut self, ends: &mut impl Ends, mut budget: usize) -> Result<Turn, Broken> {
        loop {
            if self.held > 0 {
                if !self.writable {
                    return Ok(Turn::Waits);
                }
                match ends.drain(self.held) {
                    Ok(0) => return Err(Broken),
                    Ok(taken) => {
                        self.held = self.held.saturating_sub(taken);
                        self.pass(taken, &mut budget);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
                continue;
            }
            if self.end != End::NotYet {
                return Ok(Turn::Ended);
            }
            if !self.readable || !self.writable {
                return Ok(Turn::Waits);
            }
            if budget == 0 {
                return Ok(Turn::Again);
            }
            match ends.fill()? {
                Filled::Taken(Taken { passed, held, all }) => {
                    self.held = held;
                    self.pass(passed, &mut budget);
                    self.readable = !all || self.more;
                }
                Filled::SourceIsEmpty => self.readable = false,
                Filled::SinkIsFull => self.writable = false,
                Filled::End => self.end = End::Came,
            }
        }
    }

    /// Whether octets are in the pipe.
    pub(super) fn holds_any(&self) -> bool {
        self.held > 0
    }

    /// The sink is to be shown the end. False if it knows already.
    pub(super) fn pass_end(&mut self) -> bool {
        std::mem::replace(&mut self.end, End::Passed) != End::Passed
    }

    /// Octets that the sink has taken since this was last called.
    pub(super) fn take_passed(&mut self) -> u64 {
        std::mem::take(&mut self.passed)
    }

    fn pass(&mut self, octets: usize, budget: &mut usize) {
        self.passed += octets as u64;
        *budget = budget.saturating_sub(octets);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// How octets are moved.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    enum How {
        #[default]
        Pipe,
        /// Without a pipe.
        Copy,
        /// Copied, and what the sink does not take is in the pipe.
        Both,
    }

    /// A source, a pipe and a sink, as a kernel could have them.
    #[derive(Debug, Default)]
    struct Kernel {
        source: VecDeque<u8>,
        closed: bool,
        pipe: VecDeque<u8>,
        sink: VecDeque<u8>,
        /// How much the sink takes until its reader comes.
        room: usize,
        /// How much one call moves, in turn; 0 is an interruption.
        portions: VecDeque<usize>,
        way: How,
        calls: usize,
    }

    impl Kernel {
        fn portion(&mut self) -> usize {
            self.calls += 1;
            let portion = self.portions.pop_front().unwrap_or(1000);
            self.portions.push_back(portion.max(1));
            portion
        }
    }

    impl Ends for Kernel {
        fn fill(&mut self) -> Result<Filled, Broken> {
            assert!(self.pipe.is_empty(), "filled while something is held");
            let portion = self.portion().max(1).min(self.source.len());
            if self.source.is_empty() {
                return Ok(if self.closed { Filled::End } else { Filled::SourceIsEmpty });
            }
            let fits = portion.min(self.room);
            let (passed, held) = match self.way {
                How::Pipe => (0, portion),
                How::Copy if fits == 0 => return Ok(Filled::SinkIsFull),
                How::Copy => (fits, 0),
                How::Both => (fits, portion - fits),
            };
            self.room -= passed;
            self.sink.extend(self.source.drain(..passed));
            self.pipe.extend(self.source.drain(..held));
            let all = self.way == How::Both && self.source.is_empty();
            Ok(Filled::Taken(Taken { passed, held, all }))
        }

        fn drain(&mut self, held: usize) -> io::Result<usize> {
            assert_eq!(self.pipe.len(), held, "what is held is known");
            match self.portion() {
                0 => Err(ErrorKind::Interrupted.into()),
                _ if self.room == 0 => Err(ErrorKind::WouldBlock.into()),
                portion => {
                    let portion = portion.min(held).min(self.room);
                    self.room -= portion;
                    self.sink.extend(self.pipe.drain(..portion));
                    Ok(portion)
                }
            }
        }
    }

    /// What happens outside, between two turns.
    #[derive(Debug, Clone, Copy)]
    enum Outside {
        Sends(usize),
        Reads(usize),
        Closes,
        Nothing,
    }

    fn outside() -> impl Strategy<Value = Outside> {
        prop_oneof![
            (1usize..5000).prop_map(Outside::Sends),
            (1usize..5000).prop_map(Outside::Reads),
            Just(Outside::Closes),
            Just(Outside::Nothing),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: everything arrives once and in order, the end comes
        /// after the last octet, an edge is enough to go on, and there are few calls for each.
        #[test]
        fn everything_arrives(
            events in prop::collection::vec(outside(), 0..60),
            portions in prop::collection::vec(0usize..3000, 0..20),
            way in prop::sample::select(vec![How::Pipe, How::Copy, How::Both]),
            budget in 1usize..4000,
        ) {
            let mut kernel = Kernel { portions: portions.into(), way, room: 1, ..Kernel::default() };
            let mut flow = Flow { writable: true, ..Flow::default() };
            let (mut sent, mut received, mut passed) = (Vec::new(), Vec::new(), 0);
            let mut ended = false;
            let closing = [Outside::Closes, Outside::Reads(usize::MAX / 2)];
            for event in events.into_iter().chain(closing) {
                match event {
                    Outside::Sends(octets) if !kernel.closed => {
                        let more: Vec<u8> = (sent.len()..sent.len() + octets).map(|at| at.to_le_bytes()[0]).collect();
                        kernel.source.extend(&more);
                        sent.extend(more);
                        flow.readable = true;
                    }
                    Outside::Reads(octets) => {
                        received.extend(kernel.sink.drain(..));
                        // Only a change is reported.
                        flow.writable |= kernel.room == 0;
                        kernel.room = kernel.room.saturating_add(octets).min(usize::MAX / 2);
                    }
                    Outside::Closes if !kernel.closed => {
                        (kernel.closed, flow.readable, flow.more) = (true, true, true);
                    }
                    Outside::Sends(_) | Outside::Closes | Outside::Nothing => {}
                }
                let waiting = kernel.source.len() + kernel.pipe.len();
                kernel.calls = 0;
                let mut turns = 0;
                loop {
                    turns += 1;
                    match flow.advance(&mut kernel, budget).unwrap() {
                        Turn::Again => {}
                        Turn::Waits => break,
                        Turn::Ended => {
                            ended = true;
                            break;
                        }
                    }
                }
                prop_assert!(turns <= waiting + 2, "{turns} turns for {waiting} octets");
                prop_assert!(kernel.calls <= 3 * waiting + 4, "{} calls for {waiting} octets", kernel.calls);
                // It waits only for what is missing.
                if !ended {
                    let nothing_to_do = kernel.source.is_empty() && kernel.pipe.is_empty() && !kernel.closed;
                    prop_assert!(nothing_to_do || kernel.room == 0, "stalls: {kernel:?} {flow:?}");
                }
                prop_assert!(!ended || kernel.closed && kernel.source.is_empty() && !flow.holds_any());
                passed += flow.take_passed();
            }
            received.extend(kernel.sink.drain(..));
            prop_assert!(ended);
            prop_assert_eq!(passed, sent.len() as u64);
            prop_assert_eq!(received, sent);
        }
    }

    #[test]
    fn errors_of_either_side_break_it() {
        struct Bad(bool);
        impl Ends for Bad {
            fn fill(&mut self) -> Result<Filled, Broken> {
                let held = Filled::Taken(Taken { held: 5, ..Taken::default() });
                if self.0 { Err(Broken) } else { Ok(held) }
            }

            fn drain(&mut self, _: usize) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
        }
        for source in [true, false] {
            let mut flow = Flow { readable: true, writable: true, ..Flow::default() };
            assert!(flow.advance(&mut Bad(source), 1).is_err());
        }
    }
}
