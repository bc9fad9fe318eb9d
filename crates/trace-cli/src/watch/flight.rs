//! Packets on their way, put together from events.

use std::time::{Duration, Instant, SystemTime};

use portolan_netfilter::nft::{TraceEvent, TraceHeaders, TraceKind, TraceVerdict};

/// After this long without an event, a packet is reported as far as it came: routing ends some ways
/// without an event.
const QUIET: Duration = Duration::from_millis(500);
/// `LOOPBACK_IFINDEX` of include/net/flow.h
const LOOPBACK: u32 = 1;

/// How a packet's way through the rules ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Past the last chain of postrouting.
    Left,
    /// Past the last chain of input.
    Delivered,
    /// By a rule or policy.
    Stopped,
    /// Nothing more was heard.
    Unknown,
}

/// One packet.
#[derive(Debug, Clone)]
pub(super) struct Flight {
    pub(super) begun: SystemTime,
    id: u32,
    heard: Instant,
    /// When it met the first rule
    pub(super) first: TraceHeaders,
    /// When it was last seen
    pub(super) last: TraceHeaders,
    /// It enters at output.
    pub(super) from_node: bool,
    pub(super) input: Option<u32>,
    pub(super) output: Option<u32>,
    pub(super) mark: u32,
    /// Without those of our own table
    pub(super) events: Vec<TraceEvent>,
    pub(super) end: End,
}

/// All packets on their way.
#[derive(Debug)]
pub(super) struct Flights {
    /// The name of our own table
    own: String,
    under_way: Vec<Flight>,
    done: Vec<Flight>,
}

impl Flights {
    /// None yet; `own` is the table that marks packets.
    pub(super) fn new(own: String) -> Flights {
        Flights { own, under_way: Vec::new(), done: Vec::new() }
    }

    /// Takes what was heard at `now`, which is `time` on the wall.
    pub(super) fn hear(&mut self, event: TraceEvent, now: Instant, time: SystemTime) {
        let at = self.under_way.iter().position(|flight| flight.id == event.id);
        if event.table == self.own {
            self.hear_own(&event, at, now, time);
            return;
        }
        // Others watch, too.
        if event.table.starts_with(super::TABLE) {
            return;
        }
        let Some(at) = at else { return };
        let flight = &mut self.under_way[at];
        flight.update(&event, now);
        let stops = matches!(
            event.kind,
            TraceKind::Policy { accepts: false } | TraceKind::Rule { verdict: TraceVerdict::Drop, .. }
        );
        if event.kind != TraceKind::End {
            flight.events.push(event);
        }
        if stops {
            self.finish(at, End::Stopped);
        }
    }

    /// Our own chains are the first where packets enter and the last where they leave.
    fn hear_own(&mut self, event: &TraceEvent, at: Option<usize>, now: Instant, time: SystemTime) {
        let end = match &*event.chain {
            "postrouting" => End::Left,
            "input" => End::Delivered,
            _ => {
                // What the node sends to itself comes in again. Once translated, it need not pass
                // the filter any more.
                let marked = matches!(event.kind, TraceKind::Rule { .. });
                let returns = event.input == Some(LOOPBACK) && event.chain == "prerouting";
                if let (true, Some(headers)) = (marked || returns, event.headers) {
                    if let Some(at) = at {
                        self.finish(at, End::Unknown);
                    }
                    self.under_way.push(Flight::new(event, headers, now, time));
                }
                return;
            }
        };
        if let Some(at) = at {
            self.under_way[at].update(event, now);
            self.finish(at, end);
        }
    }

    fn finish(&mut self, at: usize, end: End) {
        let flight = self.under_way.remove(at);
        self.done.push(Flight { end, ..flight });
    }

    /// How long from `now` until something has been quiet for too long.
    pub(super) fn patience(&self, now: Instant) -> Option<Duration> {
        let longest = self.under_way.iter().map(|flight| flight.heard).min()?;
        Some((longest + QUIET).saturating_duration_since(now))
    }

    /// Takes those whose way has ended, at `now`.
    pub(super) fn ended(&mut self, now: Instant) -> Vec<Flight> {
        while let Some(at) =
            self.under_way.iter().position(|it| now.saturating_duration_since(it.heard) >= QUIET)
        {
            self.finish(at, End::Unknown);
        }
        std::mem::take(&mut self.done)
    }

    /// Takes all, wherever they are.
    pub(super) fn all(mut self) -> Vec<Flight> {
        self.done.append(&mut self.under_way);
        self.done
    }
}

impl Flight {
    fn new(event: &TraceEvent, headers: TraceHeaders, now: Instant, time: SystemTime) -> Flight {
        Flight {
            begun: time,
            id: event.id,
            heard: now,
            first: headers,
            last: headers,
            from_node: event.chain == "output",
            input: event.input,
            output: None,
            mark: event.mark,
            events: Vec::new(),
            end: End::Unknown,
        }
    }

    fn update(&mut self, event: &TraceEvent, now: Instant) {
        self.heard = now;
        self.last = event.headers.unwrap_or(self.last);
        self.output = event.output.or(self.output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "portolan-trace-1";

    fn event(id: u32, table: &str, chain: &str, kind: TraceKind) -> TraceEvent {
        let headers = TraceHeaders {
            source: [10, 0, 0, 1].into(),
            destination: [10, 96, 0, 1].into(),
            protocol: 6,
            ports: Some((1000, 80)),
        };
        let (table, chain) = (table.to_owned(), chain.to_owned());
        TraceEvent {
            id,
            family: 2,
            table,
            chain,
            kind,
            headers: Some(headers),
            input: None,
            output: None,
            mark: 0,
        }
    }

    fn rule(verdict: TraceVerdict) -> TraceKind {
        TraceKind::Rule { handle: 1, verdict }
    }

    #[test]
    fn packets_are_put_together() {
        let start = |id| event(id, OWN, "prerouting", rule(TraceVerdict::Continue));
        let policy = TraceKind::Policy { accepts: true };
        let other = |id, verdict| event(id, "nat", "x", rule(verdict));
        let end = |id, chain| event(id, OWN, chain, TraceKind::Policy { accepts: true });
        let again = TraceEvent { input: Some(LOOPBACK), ..event(2, OWN, "prerouting", policy.clone()) };
        // Situation, events, and for each packet that has ended: its number of events, and how it
        // ended.
        for (situation, events, expected) in [
            (
                "leaves",
                vec![start(1), other(1, TraceVerdict::Accept), end(1, "postrouting")],
                vec![(1, End::Left)],
            ),
            ("is delivered", vec![start(1), end(1, "input")], vec![(0, End::Delivered)]),
            ("is dropped", vec![start(1), other(1, TraceVerdict::Drop)], vec![(1, End::Stopped)]),
            (
                "is dropped by a policy",
                vec![start(1), event(1, "f", "c", TraceKind::Policy { accepts: false })],
                vec![(1, End::Stopped)],
            ),
            ("is still under way", vec![start(1), other(1, TraceVerdict::Accept)], vec![]),
            (
                "two at a time",
                vec![start(1), start(2), other(2, TraceVerdict::Accept), end(2, "input"), end(1, "input")],
                vec![(1, End::Delivered), (0, End::Delivered)],
            ),
            (
                "a number comes again",
                vec![start(1), other(1, TraceVerdict::Accept), start(1), end(1, "input")],
                vec![(1, End::Unknown), (0, End::Delivered)],
            ),
            ("another program's mark", vec![other(1, TraceVerdict::Accept), end(1, "input")], vec![]),
            (
                "another's, through our chains",
                vec![event(1, OWN, "prerouting", policy), end(1, "input")],
                vec![],
            ),
            (
                "passes a chain without a match",
                vec![start(1), event(1, "f", "c", TraceKind::End), end(1, "input")],
                vec![(0, End::Delivered)],
            ),
            ("comes back by loopback", vec![again, end(2, "input")], vec![(0, End::Delivered)]),
        ] {
            let now = Instant::now();
            let mut flights = Flights::new(OWN.to_owned());
            for event in events {
                flights.hear(event, now, SystemTime::UNIX_EPOCH);
            }
            let ended: Vec<_> = flights.ended(now).iter().map(|it| (it.events.len(), it.end)).collect();
            assert_eq!(ended, expected, "{situation}");
        }
    }

    #[test]
    fn what_is_quiet_for_long_has_ended() {
        let now = Instant::now();
        let mut flights = Flights::new(OWN.to_owned());
        flights.hear(event(1, OWN, "output", rule(TraceVerdict::Continue)), now, SystemTime::UNIX_EPOCH);
        assert_eq!(flights.patience(now), Some(QUIET));
        assert!(flights.ended(now + QUIET / 2).is_empty());
        assert_eq!(flights.ended(now + QUIET)[0].end, End::Unknown);
        assert_eq!(flights.patience(now), None);
    }
}
