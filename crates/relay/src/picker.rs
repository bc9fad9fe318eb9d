//! Who chooses the endpoint.

use std::net::SocketAddr;

/// Chooses an endpoint for each connection and for each UDP client. It is asked from several
/// threads, and must answer at once: while it thinks, all connections of a thread wait.
pub trait Picker: Send + Sync {
    /// An endpoint for this client; `None` refuses it. A refused connection is reset. A refused
    /// datagram is dropped.
    fn pick(&self, asked: &Asked<'_>) -> Option<SocketAddr>;
}

/// For whom an endpoint is asked.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The client.
    pub client: SocketAddr,
    /// Where it wanted to go, as far as the listener finds out
    /// ([`Destination`](crate::Destination)).
    pub destination: SocketAddr,
    /// 0 at first, then one more for each endpoint that could not be reached.
    pub attempt: usize,
    /// The endpoints that could not be reached, in order.
    pub failed: &'a [SocketAddr],
}
