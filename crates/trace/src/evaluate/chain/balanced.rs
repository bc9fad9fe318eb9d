//! Virtual servers of IPVS: where each sends a packet.

use std::net::SocketAddr;

use super::{End, Next, Visit};
use crate::evaluate::flight::{Flight, Frame};
use crate::evaluate::{Undecided, Walk};
use crate::packet::State;
use crate::probability::Probability;
use crate::ruleset::{Balance, Rule, Target, Way};
use crate::value::value_address;

impl Walk<'_> {
    /// Sends `flight` to one of the destinations, each on a way of its own.
    pub(super) fn balance(
        &mut self,
        flight: &mut Flight,
        visit: &mut Visit<'_>,
        frame: Frame,
        rule: &Rule,
        balance: &Balance,
    ) -> Next {
        let begun = matches!(self.packet.state, State::Established | State::Related);
        let (ways, how) = if begun {
            (&balance.held, "where the connection has been from its beginning")
        } else {
            (&balance.ways, &*balance.how)
        };
        let all: u64 = ways.iter().map(|way| u64::from(way.share)).sum();
        let mut left = all;
        let mut end = self.refused(flight);
        if ways.is_empty() && self.steps {
            self.hit(flight, visit.place, frame, rule, format!("{how}: {}", self.refusal(flight)));
        }
        for (number, way) in (1..).zip(ways) {
            let chance = Probability::ratio(way.share.into(), all);
            if number == ways.len() {
                flight.probability = flight.probability.and(&chance);
                end = self.take(flight, visit, frame, rule, (way, how, balance.tracked));
                break;
            }
            let Some(mut other) = self.branch(flight, visit) else {
                // Instead of the copy that was left undecided: one for all ways that remain.
                visit.left.pop();
                flight.probability = flight.probability.and(&Probability::ratio(left, all));
                return Next::End(End::Undecided(Undecided::TooMany));
            };
            left -= u64::from(way.share);
            other.probability = other.probability.and(&chance);
            let end = self.take(&mut other, visit, frame, rule, (way, how, balance.tracked));
            visit.left.push((other, end));
        }
        Next::End(end)
    }

    fn take(
        &mut self,
        flight: &mut Flight,
        visit: &Visit<'_>,
        frame: Frame,
        rule: &Rule,
        (way, how, tracked): (&Way, &str, bool),
    ) -> End {
        let Some(to) = way.to else {
            if self.steps {
                let refusal = self.refusal(flight);
                self.hit(flight, visit.place, frame, rule, format!("{how}, one of weight 0: {refusal}"));
            }
            return self.refused(flight);
        };
        if self.steps {
            let address = SocketAddr::new(
                value_address(to.address, self.family),
                to.port.unwrap_or(flight.destination_port),
            );
            let does = if to.translated { "destination becomes" } else { "sent as it is to" };
            self.hit(flight, visit.place, frame, rule, format!("{how}, {does} {address}"));
        }
        send(flight, to, tracked);
        End::Balanced
    }

    /// The node refuses from the address that the packet was sent to. If that is not its own, the
    /// kernel has no way to send from it, and the client hears nothing (`icmp_send`).
    fn refused(&self, flight: &Flight) -> End {
        if self.node.is_local(flight.destination(self.family)) { End::Rejected } else { End::Dropped }
    }

    fn refusal(&self, flight: &Flight) -> &'static str {
        if self.refused(flight) == End::Rejected { "reject" } else { "drop" }
    }
}

fn send(flight: &mut Flight, to: Target, tracked: bool) {
    flight.balanced = true;
    // Only what is translated is tracked (`ip_vs_notrack`).
    flight.untracked |= !(tracked && to.translated);
    if to.translated {
        flight.destination = to.address;
        flight.destination_port = to.port.unwrap_or(flight.destination_port);
        flight.translated = true;
    } else {
        flight.carried_to = Some(to.address);
    }
}
