//! What the kernel reports of packets that a rule has marked with `meta nftrace set 1`
//! (`net/netfilter/nf_tables_trace.c`).

use std::net::IpAddr;

use super::uapi::{self, attr};
use portolan_netlink::wire::{Attributes, Message};

/// `NFNLGRP_NFTRACE` of linux/netfilter/nfnetlink.h: the multicast group of trace events.
pub(crate) const TRACE_GROUP: libc::c_int = 9;

// enum nft_trace_types
const POLICY: u32 = 1;
const RETURN: u32 = 2;
const RULE: u32 = 3;

/// One step of a packet through the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceEvent {
    /// Tells packets apart that are under way at the same time; later ones may have it again.
    pub id: u32,
    /// The family of the table: `NFPROTO_INET` (1), `NFPROTO_IPV4` (2), `NFPROTO_IPV6` (10), or
    /// another
    pub family: u8,
    /// The table
    pub table: String,
    /// The chain
    pub chain: String,
    /// What happened there
    pub kind: TraceKind,
    /// The packet's headers as they are now; only the first event of each base chain has them.
    pub headers: Option<TraceHeaders>,
    /// Index of the interface that it came in through
    pub input: Option<u32>,
    /// Index of the interface that it leaves through
    pub output: Option<u32>,
    /// Its mark, if it is not 0
    pub mark: u32,
}

/// What happened to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceKind {
    /// It reached the end of a base chain, whose policy decides.
    Policy {
        /// The policy is accept.
        accepts: bool,
    },
    /// It reached the end of a chain that was called, or a return.
    Return,
    /// No more rules of the chain match.
    End,
    /// A rule matched.
    Rule {
        /// The rule's number, unique in the table
        handle: u64,
        /// What the rule decided
        verdict: TraceVerdict,
    },
}

/// What a rule decided (`enum nft_verdicts`, linux/netfilter.h).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceVerdict {
    /// The next rule is asked.
    Continue,
    /// No more rules of this base chain are asked.
    Accept,
    /// The packet goes no further; a rule that rejects answers it first.
    Drop,
    /// It is asked in another chain, which returns here.
    Jump(String),
    /// It is asked in another chain, which does not return here.
    Goto(String),
    /// The calling chain goes on.
    Return,
    /// Something else takes the packet: `NF_STOLEN`, `NF_QUEUE` and what comes later.
    Other(u32),
}

/// Addresses and ports of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceHeaders {
    /// Source address
    pub source: IpAddr,
    /// Destination address
    pub destination: IpAddr,
    /// Protocol number (IPv4), or that of the first next header (IPv6)
    pub protocol: u8,
    /// Source and destination port, of TCP, UDP and SCTP
    pub ports: Option<(u16, u16)>,
}

impl TraceHeaders {
    /// Reads the beginnings of the network header (RFC 791 §3.1, RFC 8200 §3) and of the transport
    /// header.
    fn parse(network: &[u8], transport: &[u8]) -> Option<TraceHeaders> {
        let (source, destination, protocol): (IpAddr, IpAddr, u8) = match network.first()? >> 4 {
            4 => (
                <[u8; 4]>::try_from(network.get(12..16)?).ok()?.into(),
                <[u8; 4]>::try_from(network.get(16..20)?).ok()?.into(),
                *network.get(9)?,
            ),
            6 => (
                <[u8; 16]>::try_from(network.get(8..24)?).ok()?.into(),
                <[u8; 16]>::try_from(network.get(24..40)?).ok()?.into(),
                *network.get(6)?,
            ),
            _ => return None,
        };
        let ports = match (protocol, transport) {
            (6 | 17 | 132, [s0, s1, d0, d1, ..]) => {
                Some((u16::from_be_bytes([*s0, *s1]), u16::from_be_bytes([*d0, *d1])))
            }
            _ => None,
        };
        Some(TraceHeaders { source, destination, protocol, ports })
    }
}

impl TraceEvent {
    /// Reads an `NFT_MSG_TRACE`; `None` for what is none.
    pub fn parse(message: &Message<'_>) -> Option<TraceEvent> {
        if message.kind != uapi::TRACE {
            return None;
        }
        let (family, attributes) = message.netfilter()?;
        let number = |kind| attributes.get(kind).and_then(|attribute| attribute.be32());
        let text = |kind| Some(attributes.get(kind)?.text()?.to_owned());
        let kind = match number(attr::TRACE_TYPE)? {
            POLICY => TraceKind::Policy { accepts: number(attr::TRACE_POLICY) == Some(1) },
            RETURN => TraceKind::Return,
            RULE => match attributes.get(attr::TRACE_RULE_HANDLE) {
                Some(handle) => TraceKind::Rule { handle: handle.be64()?, verdict: verdict(&attributes)? },
                // The mark behind the last rule of a chain is reported as a rule without a number.
                None => TraceKind::End,
            },
            _ => return None,
        };
        let bytes = |kind| attributes.get(kind).map_or(&[][..], |attribute| attribute.payload);
        Some(TraceEvent {
            id: number(attr::TRACE_ID)?,
            family,
            table: text(attr::TRACE_TABLE)?,
            chain: text(attr::TRACE_CHAIN)?,
            kind,
            headers: TraceHeaders::parse(
                bytes(attr::TRACE_NETWORK_HEADER),
                bytes(attr::TRACE_TRANSPORT_HEADER),
            ),
            input: number(attr::TRACE_IIF),
            output: number(attr::TRACE_OIF),
            mark: number(attr::TRACE_MARK).unwrap_or(0),
        })
    }
}

fn verdict(attributes: &Attributes<'_>) -> Option<TraceVerdict> {
    let inside = attributes.get(attr::TRACE_VERDICT)?.nested();
    let chain = || Some(inside.get(attr::VERDICT_CHAIN)?.text()?.to_owned());
    let code = inside.get(attr::VERDICT_CODE)?.be32()?;
    Some(match code.cast_signed() {
        0 => TraceVerdict::Drop,
        1 => TraceVerdict::Accept,
        -1 => TraceVerdict::Continue,
        -3 => TraceVerdict::Jump(chain()?),
        -4 => TraceVerdict::Goto(chain()?),
        -5 => TraceVerdict::Return,
        _ => TraceVerdict::Other(code),
    })
}

/// The rules of one chain, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainHandles {
    /// The family of its table, as in [`TraceEvent::family`]
    pub family: u8,
    /// Its table
    pub table: String,
    /// Its name
    pub chain: String,
    /// The numbers of its rules, in order
    pub handles: Vec<u64>,
}

impl ChainHandles {
    /// Adds an `NFT_MSG_NEWRULE`; the rules of a chain come one after the other.
    pub(crate) fn collect(message: &Message<'_>, chains: &mut Vec<ChainHandles>) {
        let Some((family, attributes)) = message.netfilter().filter(|_| message.kind == uapi::NEWRULE) else {
            return;
        };
        let text = |kind| attributes.get(kind).and_then(|attribute| attribute.text());
        let handle = attributes.get(attr::RULE_HANDLE).and_then(|handle| handle.be64());
        let (Some(table), Some(chain), Some(handle)) =
            (text(attr::RULE_TABLE), text(attr::RULE_CHAIN), handle)
        else {
            return;
        };
        match chains.last_mut() {
            Some(last) if (last.family, &*last.table, &*last.chain) == (family, table, chain) => {
                last.handles.push(handle);
            }
            _ => chains.push(ChainHandles {
                family,
                table: table.to_owned(),
                chain: chain.to_owned(),
                handles: vec![handle],
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portolan_netlink::wire::{Messages, Writer};

    /// UDP from 192.168.50.1:60574 to 10.96.0.1:53: the beginnings of its headers.
    const NETWORK: [u8; 20] =
        [0x45, 0, 0, 31, 0xe9, 0x4c, 0x40, 0, 64, 17, 0, 0, 192, 168, 50, 1, 10, 96, 0, 1];
    const TRANSPORT: [u8; 8] = [0xec, 0x9e, 0, 53, 0, 11, 0, 0];

    fn message(kind: u32, code: Option<(i32, &str)>, policy: Option<u32>) -> Vec<u8> {
        let mut to = Writer::new();
        let message = to.message(uapi::TRACE, 0, 0, 2, 0);
        to.be32(attr::TRACE_ID, 7);
        to.be32(attr::TRACE_TYPE, kind);
        to.string(attr::TRACE_TABLE, "nat");
        to.string(attr::TRACE_CHAIN, "output");
        to.be64(attr::TRACE_RULE_HANDLE, 42);
        if let Some((code, chain)) = code {
            let verdict = to.nest(attr::TRACE_VERDICT);
            to.be32(attr::VERDICT_CODE, code.cast_unsigned());
            to.string(attr::VERDICT_CHAIN, chain);
            to.end_nest(verdict);
        }
        to.be32(attr::TRACE_OIF, 1);
        to.attribute(attr::TRACE_NETWORK_HEADER, &NETWORK);
        to.attribute(attr::TRACE_TRANSPORT_HEADER, &TRANSPORT);
        if let Some(policy) = policy {
            to.be32(attr::TRACE_POLICY, policy);
        }
        to.end_message(message);
        to.as_bytes().to_vec()
    }

    fn parsed(bytes: &[u8]) -> Option<TraceEvent> {
        Messages::new(bytes).map_while(Result::ok).find_map(|message| TraceEvent::parse(&message))
    }

    #[test]
    fn events() {
        let rule = |verdict| Some(TraceKind::Rule { handle: 42, verdict });
        for (situation, bytes, expected) in [
            ("on", message(RULE, Some((-1, "")), None), rule(TraceVerdict::Continue)),
            ("accept", message(RULE, Some((1, "")), None), rule(TraceVerdict::Accept)),
            ("drop", message(RULE, Some((0, "")), None), rule(TraceVerdict::Drop)),
            ("jump", message(RULE, Some((-3, "x")), None), rule(TraceVerdict::Jump("x".to_owned()))),
            ("goto", message(RULE, Some((-4, "x")), None), rule(TraceVerdict::Goto("x".to_owned()))),
            ("return", message(RULE, Some((-5, "")), None), rule(TraceVerdict::Return)),
            ("queue", message(RULE, Some((3, "")), None), rule(TraceVerdict::Other(3))),
            ("no verdict", message(RULE, None, None), None),
            ("end of a chain", message(RETURN, Some((-1, "")), None), Some(TraceKind::Return)),
            ("policy", message(POLICY, None, Some(1)), Some(TraceKind::Policy { accepts: true })),
            ("policy drop", message(POLICY, None, Some(0)), Some(TraceKind::Policy { accepts: false })),
            ("of a later kernel", message(9, None, None), None),
        ] {
            assert_eq!(parsed(&bytes).map(|event| event.kind), expected, "{situation}");
        }
        let event = parsed(&message(POLICY, None, Some(1))).expect("an event");
        assert_eq!((event.id, event.family, event.input, event.output), (7, 2, None, Some(1)));
        assert_eq!((&*event.table, &*event.chain), ("nat", "output"));
        let headers = TraceHeaders {
            source: [192, 168, 50, 1].into(),
            destination: [10, 96, 0, 1].into(),
            protocol: 17,
            ports: Some((60574, 53)),
        };
        assert_eq!(event.headers, Some(headers));
    }

    /// As kernel 6.18 reported a translated packet in a chain where no rule matched.
    #[test]
    fn recorded() {
        let attributes: [(u16, &[u8]); 13] = [
            (15, &[0, 0, 0, 2]),
            (4, &[0, 0, 0, 3]),
            (6, &[0x7e, 0x75, 0x7c, 0x3a]),
            (2, b"f\0"),
            (1, b"portolan\0"),
            (5, &[8, 0, 1, 0, 255, 255, 255, 255]),
            (12, &[0, 0, 0, 1]),
            (13, &[3, 4]),
            (8, &[69, 0, 0, 29, 65, 163, 64, 0, 64, 17, 19, 218, 192, 168, 50, 1, 192, 168, 50, 1]),
            (9, &[0xb6, 0xbd, 0x14, 0xe9, 0, 9, 0xe5, 0x6d, 0x78]),
            (21, &[0, 0, 0, 8]),
            (18, &[0x33, 0xe0, 0x2c, 0xdd]),
            (20, &[0, 0, 1, 0x20]),
        ];
        let mut to = Writer::new();
        let message = to.message(2577, 0, 0, 2, 0);
        for (kind, payload) in attributes {
            to.attribute(kind, payload);
        }
        to.end_message(message);
        let node = [192, 168, 50, 1].into();
        let expected = TraceEvent {
            id: 0x7e75_7c3a,
            family: 2,
            table: "portolan".to_owned(),
            chain: "f".to_owned(),
            kind: TraceKind::End,
            headers: Some(TraceHeaders {
                source: node,
                destination: node,
                protocol: 17,
                ports: Some((46781, 5353)),
            }),
            input: None,
            output: Some(1),
            mark: 0,
        };
        assert_eq!(parsed(to.as_bytes()), Some(expected));
    }

    #[test]
    fn headers_that_are_cut_off_are_none() {
        for length in 0..NETWORK.len() {
            assert_eq!(TraceHeaders::parse(&NETWORK[..length], &TRANSPORT), None, "{length} bytes");
        }
        let without_ports = TraceHeaders::parse(&NETWORK, &TRANSPORT[..3]).expect("addresses");
        assert_eq!(without_ports.ports, None);
    }
}
