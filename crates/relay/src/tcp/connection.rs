//! One connection: a client, an endpoint, and a flow each way.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use super::flow::{Broken, Flow, Turn};
use super::pipes::{Pipe, Pipes};
use super::splice::Splice;
use crate::listener::Upstream;
use crate::served::Served;
use crate::sockets;

/// A flow gives way to others after about so many octets. Many at once cost less each: both sides
/// stay awake.
const BUDGET: usize = 4 << 20;

/// A connection.
pub(super) struct Connection {
    pub(super) served: Arc<Served>,
    pub(super) client: TcpStream,
    /// The socket to the endpoint.
    pub(super) upstream: TcpStream,
    pub(super) endpoint: SocketAddr,
    /// Until the endpoint is reached.
    pub(super) dial: Option<Box<Dial>>,
    /// From the client to the endpoint.
    pub(super) up: Way,
    /// From the endpoint to the client.
    pub(super) down: Way,
    /// When it is cut.
    pub(super) until: Option<Instant>,
    /// It is in the list of those that wait for their turn.
    pub(super) queued: bool,
    /// Keepalive is set on the socket to the endpoint.
    pub(super) kept_alive: bool,
}

/// A flow, with its pipe if it holds something.
#[derive(Default)]
pub(super) struct Way {
    pub(super) flow: Flow,
    pipe: Option<Pipe>,
    /// Many octets came last.
    many: bool,
}

/// What is known while an endpoint is not yet reached.
pub(super) struct Dial {
    pub(super) client: SocketAddr,
    pub(super) destination: SocketAddr,
    /// How endpoints were reached when the client came.
    pub(super) upstream: Upstream,
    /// Those that could not be reached.
    pub(super) failed: Vec<SocketAddr>,
    /// When this attempt has taken too long.
    pub(super) until: Instant,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It waits for events.
    Waits,
    /// Others have their turn first.
    Again,
    /// Both sides have everything.
    Done,
}

impl Connection {
    /// Moves what there is, both ways, on this thread.
    pub(super) fn relay(
        &mut self,
        pipes: &mut Pipes,
        buffer: &mut [u8],
        thread: usize,
    ) -> Result<Next, Broken> {
        let counters = &self.served.counters[thread];
        let up = self.up.turn(&self.client, &self.upstream, pipes, buffer);
        counters.octets_in.add(self.up.flow.take_passed());
        let up = up?;
        let down = self.down.turn(&self.upstream, &self.client, pipes, buffer);
        counters.octets_out.add(self.down.flow.take_passed());
        let down = down?;
        if up == Turn::Ended && down == Turn::Ended {
            return Ok(Next::Done);
        }
        for (turn, flow, sink) in
            [(up, &mut self.up.flow, &self.upstream), (down, &mut self.down.flow, &self.client)]
        {
            if turn == Turn::Ended && flow.pass_end() {
                sink.shutdown(std::net::Shutdown::Write)?;
            }
        }
        Ok(if up == Turn::Again || down == Turn::Again { Next::Again } else { Next::Waits })
    }

    /// Many octets came last on one of its ways.
    pub(super) fn moves_many(&self) -> bool {
        self.up.many || self.down.many
    }

    /// Gives the pipes back. Both sides get a reset if it is `broken`.
    pub(super) fn close(self, pipes: &mut Pipes, broken: bool) {
        for way in [self.up, self.down] {
            if let Some(pipe) = way.pipe {
                pipes.discard(pipe);
            }
        }
        if broken {
            sockets::end_with_reset(&self.client);
            sockets::end_with_reset(&self.upstream);
        }
    }
}

impl Way {
    fn turn(
        &mut self,
        source: &TcpStream,
        sink: &TcpStream,
        pipes: &mut Pipes,
        buffer: &mut [u8],
    ) -> Result<Turn, Broken> {
        let Way { pipe, many, .. } = self;
        let mut ends = Splice { source, sink, pipe, pipes, buffer, many };
        let turn = self.flow.advance(&mut ends, BUDGET);
        if !self.flow.holds_any()
            && let Some(pipe) = self.pipe.take()
        {
            pipes.give_back(pipe);
        }
        turn
    }
}
