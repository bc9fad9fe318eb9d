//! What an event of the kernel, or a deadline, is about, as a number that it carries along.

/// What something is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// Commands for the thread.
    Mailbox,
    /// A listener for connections, by its number.
    Listener(u32),
    /// A socket for datagrams: the listener's number, and which of its sockets.
    Datagrams(u32, u32),
    /// The client's side of a connection, by its [`number`](crate::slots::Slots).
    Client(u64),
    /// The endpoint's side of a connection.
    Endpoint(u64),
    /// The socket to the endpoint of a UDP client.
    UdpClient(u64),
}

/// The numbers of slots, and pairs of numbers, are below this.
pub(crate) const KIND: u32 = 60;
const REST: u64 = (1 << KIND) - 1;

impl Token {
    pub(crate) fn pack(self) -> u64 {
        let (kind, number) = match self {
            Token::Mailbox => (0, 0),
            Token::Listener(number) => (1, u64::from(number)),
            Token::Datagrams(number, socket) => (2, u64::from(socket) << 32 | u64::from(number)),
            Token::Client(number) => (3, number),
            Token::Endpoint(number) => (4, number),
            Token::UdpClient(number) => (5, number),
        };
        kind << KIND | number & REST
    }

    pub(crate) fn unpack(packed: u64) -> Option<Token> {
        let number = packed & REST;
        let [low, high] = [number & 0xffff_ffff, number >> 32].map(|part| u32::try_from(part).unwrap_or(0));
        Some(match packed >> KIND {
            0 => Token::Mailbox,
            1 => Token::Listener(low),
            2 => Token::Datagrams(low, high),
            3 => Token::Client(number),
            4 => Token::Endpoint(number),
            5 => Token::UdpClient(number),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        for token in [
            Token::Mailbox,
            Token::Listener(u32::MAX),
            Token::Datagrams(7, 3),
            Token::Client(REST),
            Token::Endpoint(1 << 59 | 5),
            Token::UdpClient(0),
        ] {
            assert_eq!(Token::unpack(token.pack()), Some(token));
        }
        assert_eq!(Token::unpack(u64::MAX), None);
    }
}
