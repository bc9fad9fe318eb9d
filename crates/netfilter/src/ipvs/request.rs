//! What can be asked of IPVS.

use portolan_netlink::wire::Writer;

use super::destination::Destination;
use super::scheduling::Scheduling;
use super::server::ServerKey;

// linux/ip_vs.h: IPVS_CMD_*
const NEW_SERVICE: u8 = 1;
const SET_SERVICE: u8 = 2;
const DELETE_SERVICE: u8 = 3;
const NEW_DESTINATION: u8 = 5;
const SET_DESTINATION: u8 = 6;
const DELETE_DESTINATION: u8 = 7;

/// A change of IPVS.
#[derive(Debug, Clone, Copy)]
pub enum Request<'a> {
    /// Creates a virtual server.
    NewServer(&'a ServerKey, &'a Scheduling),
    /// Changes how a virtual server chooses. Connections stay.
    SetServer(&'a ServerKey, &'a Scheduling),
    /// Deletes a virtual server with its destinations.
    DeleteServer(&'a ServerKey),
    /// Gives a virtual server a destination.
    NewDestination(&'a ServerKey, Destination),
    /// Changes the weight of a destination. Connections stay.
    SetDestination(&'a ServerKey, Destination),
    /// Takes a destination from a virtual server, whatever its weight.
    DeleteDestination(&'a ServerKey, Destination),
}

impl Request<'_> {
    pub(super) fn command(&self) -> u8 {
        match self {
            Request::NewServer(..) => NEW_SERVICE,
            Request::SetServer(..) => SET_SERVICE,
            Request::DeleteServer(_) => DELETE_SERVICE,
            Request::NewDestination(..) => NEW_DESTINATION,
            Request::SetDestination(..) => SET_DESTINATION,
            Request::DeleteDestination(..) => DELETE_DESTINATION,
        }
    }

    pub(super) fn emit(&self, to: &mut Writer) {
        match self {
            Request::NewServer(key, scheduling) | Request::SetServer(key, scheduling) => {
                key.emit(to, |to| scheduling.emit(key.family(), to));
            }
            Request::DeleteServer(key) => key.emit(to, |_| {}),
            Request::NewDestination(key, destination) | Request::SetDestination(key, destination) => {
                key.emit(to, |_| {});
                destination.emit(to);
            }
            Request::DeleteDestination(key, destination) => {
                key.emit(to, |_| {});
                destination.emit_known(to);
            }
        }
    }
}
