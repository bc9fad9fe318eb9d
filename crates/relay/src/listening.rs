//! The listeners that a thread serves.

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;

use crate::listener::Sockets;
use crate::served::Served;

/// A listener that a thread serves.
#[derive(Clone)]
pub(crate) struct Listening {
    pub(crate) served: Arc<Served>,
    pub(crate) sockets: Arc<Sockets>,
}

/// The listeners that a thread serves, by number.
#[derive(Default)]
pub(crate) struct Listeners(Vec<Option<Listening>>);

impl Listening {
    /// The socket that connections come to.
    pub(crate) fn connections(&self) -> Option<&TcpListener> {
        match &*self.sockets {
            Sockets::Tcp(socket) => Some(socket),
            Sockets::Udp(_) => None,
        }
    }

    /// One of the sockets that datagrams come to.
    pub(crate) fn datagrams(&self, number: u32) -> Option<&UdpSocket> {
        match &*self.sockets {
            Sockets::Udp(sockets) => sockets.get(number as usize),
            Sockets::Tcp(_) => None,
        }
    }

    /// The sockets for datagrams that are this thread's, with their numbers.
    pub(crate) fn own_datagrams(
        &self,
        thread: usize,
        threads: usize,
    ) -> impl Iterator<Item = (u32, &UdpSocket)> {
        let all: &[UdpSocket] = match &*self.sockets {
            Sockets::Udp(sockets) => sockets,
            Sockets::Tcp(_) => &[],
        };
        (0u32..).zip(all).skip(thread).step_by(threads.max(1))
    }
}

impl Listeners {
    pub(crate) fn put(&mut self, number: u32, listening: Listening) {
        let at = number as usize;
        if self.0.len() <= at {
            self.0.resize_with(at + 1, || None);
        }
        self.0[at] = Some(listening);
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Listening> {
        self.0.get(number as usize)?.as_ref()
    }

    pub(crate) fn take(&mut self, number: u32) -> Option<Listening> {
        self.0.get_mut(number as usize)?.take()
    }

    /// All, with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Listening)> {
        (0u32..).zip(&self.0).filter_map(|(number, listening)| Some((number, listening.as_ref()?)))
    }
}
