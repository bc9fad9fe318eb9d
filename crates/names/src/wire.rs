//! DNS messages (RFC 1035, RFC 2181, RFC 6891): read and written, without a policy of what the
//! answer is.

mod code;
mod name;
mod query;
mod records;
mod writer;

pub use code::{class, kind, rcode};
pub use name::{LABEL_MAX, NAME_MAX, Name};
pub use query::{Edns, Query, Transport, Unusable};
pub use records::{Answers, Malformed, Record};
pub use writer::{Header, Owner, Section, Writer};

/// Length of a message's header, octets.
pub const HEADER_LEN: usize = 12;
/// What a datagram may hold without EDNS, octets (RFC 1035 §2.3.4).
pub const UDP_PLAIN: usize = 512;
/// What a datagram holds at most, octets, whatever the client says: no fragments on any path.
pub const UDP_MAX: usize = 1232;
/// What a message over TCP holds at most, octets.
pub const TCP_MAX: usize = 65_535;

/// The 16-bit number at `at`.
fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes([field[0], field[1]]))
}

/// The 32-bit number at `at`.
fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes([field[0], field[1], field[2], field[3]]))
}
