//! Asks the kernel for one element of a set, to see when a change is in force.
//!
//! Written out here, apart from the encodings under test: a benchmark that waits for the wrong
//! thing would show.

use std::io;
use std::net::Ipv4Addr;

use portolan_service::Protocol;

use crate::netlink::{self, NFGENMSG_IPV4, NLA_F_NESTED, NLM_F_REQUEST, attribute};

// linux/netfilter/nfnetlink.h and nf_tables.h
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_GETSETELEM: u16 = 13;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;

/// A connection for questions about sets of Portolan's IPv4 table.
#[derive(Debug)]
pub(crate) struct Elements {
    socket: netlink::Socket,
}

/// A question that can be asked again and again: does the map lead from this key to this data?
#[derive(Debug)]
pub(crate) struct Question {
    message: Vec<u8>,
    data: Vec<u8>,
}

impl Question {
    /// Is this endpoint number `index` of the frontend at this address?
    pub(crate) fn endpoint(
        (address, protocol, port): (Ipv4Addr, Protocol, u16),
        index: u32,
        endpoint: (Ipv4Addr, u16),
    ) -> Question {
        // `numgen . ip daddr . meta l4proto . th dport`, each field padded to four bytes.
        let mut key = index.to_ne_bytes().to_vec();
        key.extend(address.octets());
        key.extend([protocol.number(), 0, 0, 0]);
        key.extend(port.to_be_bytes());
        key.extend([0, 0]);
        let mut data = endpoint.0.octets().to_vec();
        data.extend(endpoint.1.to_be_bytes());
        Question { message: message("endpoints", &key), data }
    }
}

fn message(set: &str, key: &[u8]) -> Vec<u8> {
    let key = attribute(NFTA_SET_ELEM_KEY | NLA_F_NESTED, &attribute(NFTA_DATA_VALUE, key));
    let mut body = NFGENMSG_IPV4.to_vec();
    body.extend(attribute(NFTA_SET_ELEM_LIST_TABLE, b"portolan\0"));
    body.extend(attribute(NFTA_SET_ELEM_LIST_SET, &[set.as_bytes(), b"\0"].concat()));
    body.extend(attribute(
        NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED,
        &attribute(NFTA_LIST_ELEM | NLA_F_NESTED, &key),
    ));
    netlink::message((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETSETELEM, NLM_F_REQUEST, &body)
}

impl Elements {
    /// Opens a netlink socket in the network namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Elements> {
        Ok(Elements { socket: netlink::Socket::open(libc::NETLINK_NETFILTER)? })
    }

    /// Asks once.
    pub(crate) fn hold(&mut self, question: &Question) -> io::Result<bool> {
        match self.socket.exchange(&question.message) {
            Ok(element) => {
                let data = &question.data;
                Ok(element.windows(data.len()).any(|window| window == data))
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
