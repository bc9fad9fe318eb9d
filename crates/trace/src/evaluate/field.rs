//! What the fields of a packet hold.

use portolan_service::{Family, Protocol};

use super::Walk;
use super::fact::{self, Fact, Unknown};
use super::flight::Flight;
use crate::packet::State;
use crate::ruleset::{Field, Hook, Operand, state};
use crate::value::{address_value, value_address};

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Known(u128),
    /// The packet has no such field.
    Absent,
    /// It has one, and some of it is not known.
    Unknown(Unknown),
}

/// RTN_LOCAL of linux/rtnetlink.h.
const LOCAL: u8 = 2;

impl Walk<'_> {
    pub(super) fn value(&self, flight: &Flight, hook: Hook, operand: Operand) -> Value {
        let known = |value: u128| Value::Known(value & operand.mask);
        let of_family =
            |family: Family, value: u128| if family == self.family { known(value) } else { Value::Absent };
        let connection = !flight.untracked && flight.tracked && self.packet.state != State::Invalid;
        let of_connection = |value: Value| if connection { value } else { Value::Absent };
        let bits = |bits: fact::Bits| match bits.within(operand.mask) {
            Ok(value) => Value::Known(value),
            Err(unknown) => Value::Unknown(unknown),
        };
        let unknown = |fact: u32| Value::Unknown(Unknown { fact, bits: operand.mask, with: 0 });
        let common = |of: &Fact| unknown(fact::number(of));
        let own_address = flight.at_own_address;
        match operand.field {
            Field::Source(family) => of_family(family, flight.source),
            Field::Destination(family) if own_address && family == self.family => common(&Fact::OwnAddress),
            Field::Destination(family) => of_family(family, flight.destination),
            Field::Protocol => known(self.packet.protocol.number().into()),
            Field::SourcePort => known(flight.source_port.into()),
            Field::DestinationPort => known(flight.destination_port.into()),
            Field::NetworkProtocol => known(match self.family {
                Family::V4 => 2,
                Family::V6 => 10,
            }),
            Field::InInterface => {
                flight.in_interface.as_ref().map_or_else(|| common(&Fact::InInterface), |(it, _)| known(*it))
            }
            Field::OutInterface if matches!(hook, Hook::Prerouting | Hook::Input) => known(0),
            Field::OutInterface => {
                flight.out_interface.as_ref().map_or_else(|| unknown(flight.out_fact), |(it, _)| known(*it))
            }
            Field::Mark => bits(flight.mark),
            Field::ConnectionMark => of_connection(bits(flight.connection_mark)),
            Field::State => known(self.state(flight)),
            Field::Status => of_connection(self.status(flight, operand.mask)),
            Field::Direction => of_connection(known(0)),
            Field::OriginalSource(family) => {
                of_connection(of_family(family, address_value(self.packet.source.ip())))
            }
            Field::OriginalDestination(family) => {
                of_connection(of_family(family, address_value(self.packet.destination.ip())))
            }
            Field::OriginalSourcePort => of_connection(known(self.packet.source.port().into())),
            Field::OriginalDestinationPort => of_connection(known(self.packet.destination.port().into())),
            Field::ReplySource(family) if own_address && family == self.family => {
                of_connection(common(&Fact::OwnAddress))
            }
            Field::ReplySource(family) => of_connection(of_family(family, flight.destination)),
            Field::ReplySourcePort => of_connection(known(flight.destination_port.into())),
            Field::SourceType => {
                known(self.node.address_type(value_address(flight.source, self.family)).into())
            }
            Field::DestinationType if own_address => known(LOCAL.into()),
            Field::DestinationType => {
                known(self.node.address_type(value_address(flight.destination, self.family)).into())
            }
            Field::TcpFlags if self.packet.protocol != Protocol::Tcp => Value::Absent,
            Field::TcpFlags if self.is_new() => known(0x02),
            // What is drawn is looked at where it is asked for.
            Field::TcpFlags | Field::Random { .. } => common(&Fact::TcpFlags),
        }
    }

    fn state(&self, flight: &Flight) -> u128 {
        if flight.untracked {
            return state::UNTRACKED;
        }
        let state = match self.packet.state {
            _ if !flight.tracked => return state::INVALID,
            State::Invalid => return state::INVALID,
            State::New => state::NEW,
            State::Established => state::ESTABLISHED,
            State::Related => state::RELATED,
        };
        let snat = if flight.changed.source { state::SNAT } else { 0 };
        let dnat = if flight.changed.destination { state::DNAT } else { 0 };
        state | snat | dnat
    }

    /// IPS_SRC_NAT and IPS_DST_NAT are all that is known of connections that have begun.
    fn status(&self, flight: &Flight, mask: u128) -> Value {
        const SNAT: u128 = 1 << 4;
        const DNAT: u128 = 1 << 5;
        let snat = if flight.changed.source { SNAT } else { 0 };
        let dnat = if flight.changed.destination { DNAT } else { 0 };
        if !self.is_new() && mask & !DNAT != 0 {
            let status = fact::number(&Fact::Status);
            return Value::Unknown(Unknown { fact: status, bits: mask & !DNAT, with: dnat & mask });
        }
        Value::Known((snat | dnat) & mask)
    }
}
