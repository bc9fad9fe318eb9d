//! Others as a test has them: they answer when the test does.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use portolan_dns::{Answered, LookedUp, Others};
use portolan_names::Transport;
use portolan_names::wire::Name;

use crate::asking::PATIENCE;

/// What others were asked.
pub(crate) enum Asked {
    Message(Box<[u8]>, Answered),
    Name(String, u16, LookedUp),
    Search(String, LookedUp),
}

/// Passes on what it is asked.
pub(crate) struct Elsewhere(Mutex<Sender<Asked>>);

/// Others, and what they are asked.
pub(crate) fn elsewhere() -> (Arc<dyn Others>, Receiver<Asked>) {
    let (sender, receiver) = channel();
    (Arc::new(Elsewhere(Mutex::new(sender))), receiver)
}

/// The next message that others are asked.
pub(crate) fn message(asked: &Receiver<Asked>) -> (Box<[u8]>, Answered) {
    match asked.recv_timeout(PATIENCE).expect("a question in time") {
        Asked::Message(message, done) => (message, done),
        Asked::Name(name, ..) | Asked::Search(name, _) => panic!("{name} was looked up"),
    }
}

/// The answer to `message` with one address.
pub(crate) fn address(message: &[u8], octets: [u8; 4]) -> Vec<u8> {
    let mut answer = message.to_vec();
    answer[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
    answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
    answer.extend_from_slice(&octets);
    answer
}

impl Others for Elsewhere {
    fn ask(&self, message: Box<[u8]>, _: SocketAddr, _: Transport, done: Answered) {
        // It fails when the test has ended.
        let _ = self.0.lock().unwrap().send(Asked::Message(message, done));
    }

    fn look_up(&self, name: &Name, kind: u16, done: LookedUp) {
        let _ = self.0.lock().unwrap().send(Asked::Name(name.to_string(), kind, done));
    }

    fn search(&self, _: Box<[u8]>, name: &Name, _: Transport, done: LookedUp) {
        let _ = self.0.lock().unwrap().send(Asked::Search(name.to_string(), done));
    }
}
