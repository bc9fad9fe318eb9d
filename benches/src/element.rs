//! Asks the kernel for one element of a set, to see when a change is in force.
//!
//! What the question says is written out here, apart from the encodings of nftables, which are
//! under test: a benchmark that waits for the wrong thing would show.

use std::io;
use std::net::Ipv4Addr;

use portolan_netlink::socket::NetlinkSocket;
use portolan_netlink::wire::Writer;
use portolan_service::Protocol;

// linux/netfilter/nfnetlink.h and nf_tables.h
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_GETSETELEM: u16 = 13;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;
/// `struct nfgenmsg` for IPv4 (linux/netfilter/nfnetlink.h)
const NFGENMSG_IPV4: [u8; 4] = [2, 0, 0, 0];

/// A connection for questions about sets of Portolan's IPv4 table.
#[derive(Debug)]
pub(crate) struct Elements {
    netlink: NetlinkSocket,
}

/// A question that can be asked again and again: does the map `endpoints` lead from this key to
/// this data?
#[derive(Debug)]
pub(crate) struct Question {
    key: Vec<u8>,
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
        Question { key, data }
    }

    fn emit(&self, to: &mut Writer) {
        to.string(NFTA_SET_ELEM_LIST_TABLE, "portolan");
        to.string(NFTA_SET_ELEM_LIST_SET, "endpoints");
        let elements = to.nest(NFTA_SET_ELEM_LIST_ELEMENTS);
        let element = to.nest(NFTA_LIST_ELEM);
        let key = to.nest(NFTA_SET_ELEM_KEY);
        to.attribute(NFTA_DATA_VALUE, &self.key);
        to.end_nest(key);
        to.end_nest(element);
        to.end_nest(elements);
    }

    fn is_answered_by(&self, element: &[u8]) -> bool {
        element.windows(self.data.len()).any(|window| window == self.data)
    }
}

impl Elements {
    /// Opens a netlink socket in the network namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Elements> {
        Ok(Elements { netlink: NetlinkSocket::open(libc::NETLINK_NETFILTER)? })
    }

    /// Asks once.
    pub(crate) fn hold(&mut self, question: &Question) -> io::Result<bool> {
        let kind = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETSETELEM;
        let answer = self.netlink.ask_one(
            kind,
            &NFGENMSG_IPV4,
            |to| question.emit(to),
            |message| Some(question.is_answered_by(message.payload)),
        );
        match answer {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            answer => answer,
        }
    }
}
