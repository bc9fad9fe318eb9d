//! Which packets are watched, as the tests of a rule.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, bail};
use portolan_netfilter::nft::{CmpOp, Expr, MetaKey, PayloadBase, Register, TableFamily};
use portolan_service::{Family, Protocol};

use crate::meant::meant;
use crate::names::{Client, Names};
use crate::place::{PLACES, Place};
use crate::question::Question;

/// `RTN_LOCAL` of linux/rtnetlink.h
const LOCAL: u32 = 2;

/// The tests for packets of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) family: TableFamily,
    pub(super) tests: Vec<Expr>,
    /// Only packets that come in can pass.
    pub(super) incoming: bool,
}

/// One end of the packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct End {
    address: Address,
    port: Option<u16>,
    protocol: Option<Protocol>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Address {
    #[default]
    Any,
    /// Any of the node's
    Local,
    Only(IpAddr),
}

/// The filters for what is asked: one for each family that it can be of.
pub(super) fn filters(
    from: Option<&Place>,
    to: Option<&Place>,
    question: &Question,
    names: &Names,
) -> anyhow::Result<Vec<Filter>> {
    let families = match question.family()? {
        Some(family) => vec![family],
        None => vec![Family::V4, Family::V6],
    };
    let mut filters = Vec::new();
    let mut refused = None;
    for family in families {
        let ends = end("--from", from, family, question, names)
            .and_then(|source| Ok((source, end("--to", to, family, question, names)?)));
        match ends {
            Ok((source, destination)) => filters.push(filter(source, destination, family, question)?),
            // A name may have an address of one family only.
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    match refused {
        Some(error) if filters.is_empty() => Err(error),
        _ => Ok(filters),
    }
}

fn end(
    flag: &str,
    place: Option<&Place>,
    family: Family,
    question: &Question,
    names: &Names,
) -> anyhow::Result<End> {
    let only =
        |address, port: &Option<u16>| End { address: Address::Only(address), port: *port, protocol: None };
    let place = place.map(|place| meant(place, names)).transpose().context(flag.to_owned())?;
    Ok(match &place {
        None => End::default(),
        Some(Place::Address(address, port)) => only(*address, port),
        Some(Place::Pod { namespace, name, port }) => only(names.pod(namespace, name, Some(family))?, port),
        Some(Place::Service { namespace, name, .. }) if flag == "--from" => {
            bail!("--from svc/{namespace}/{name}: Services send nothing: give the pod or address that does")
        }
        Some(Place::Service { namespace, name, port }) => {
            let found = names.service(
                namespace,
                name,
                port.as_deref(),
                question.protocol,
                Some(family),
                Client::Inside,
            )?;
            End {
                address: found.address.map_or(Address::Local, Address::Only),
                port: Some(found.port),
                protocol: Some(found.protocol),
            }
        }
        Some(Place::Short { .. } | Place::Bare { .. }) => bail!("{flag}: {PLACES}"),
        Some(Place::Node(port)) => End { address: Address::Local, port: *port, protocol: None },
        Some(Place::Localhost(port)) => match family {
            Family::V4 => only(Ipv4Addr::LOCALHOST.into(), port),
            Family::V6 => only(Ipv6Addr::LOCALHOST.into(), port),
        },
        Some(Place::Outside) => bail!(
            "{flag} outside: machines outside have no address in common: give an address, or leave {flag} out for packets of all"
        ),
    })
}

fn filter(source: End, destination: End, family: Family, question: &Question) -> anyhow::Result<Filter> {
    let mut tests = Vec::new();
    let compare = |value: Vec<u8>| Expr::Cmp { op: CmpOp::Equal, source: Register::R1, value };
    let incoming = question.in_interface.is_some();
    if let Some(interface) = &question.in_interface {
        // IFNAMSIZ, with its NUL
        if interface.is_empty() || interface.len() > 15 {
            bail!("--in-interface {interface:?}: names of interfaces have 1 to 15 characters");
        }
        let mut name = interface.clone().into_bytes();
        name.resize(16, 0);
        tests.push(Expr::Meta { key: MetaKey::InputInterfaceName, dest: Register::R1 });
        tests.push(compare(name));
    }
    // Offsets of RFC 791 §3.1 and RFC 8200 §3.
    let (table, at, len) = match family {
        Family::V4 => (TableFamily::Ip, [12, 16], 4),
        Family::V6 => (TableFamily::Ip6, [8, 24], 16),
    };
    let type_of_source = Expr::FibSourceType { dest: Register::R1 };
    let type_of_destination = Expr::FibDestinationType { dest: Register::R1 };
    for (end, offset, kind) in [(source, at[0], type_of_source), (destination, at[1], type_of_destination)] {
        match end.address {
            Address::Any => {}
            Address::Local => tests.extend([kind, compare(LOCAL.to_ne_bytes().to_vec())]),
            Address::Only(address) => {
                let bytes = match address {
                    IpAddr::V4(v4) => v4.octets().to_vec(),
                    IpAddr::V6(v6) => v6.octets().to_vec(),
                };
                tests.push(Expr::Payload { base: PayloadBase::Network, offset, len, dest: Register::R1 });
                tests.push(compare(bytes));
            }
        }
    }
    // What has ports and no protocol would be any bytes of any protocol.
    let has_port = source.port.or(destination.port).is_some();
    let protocol = question.protocol.or(destination.protocol).or(has_port.then_some(Protocol::Tcp));
    if let Some(protocol) = protocol {
        tests.push(Expr::Meta { key: MetaKey::L4Proto, dest: Register::R1 });
        tests.push(compare(vec![protocol.number()]));
    }
    for (port, offset) in [(source.port, 0), (destination.port, 2)] {
        if let Some(port) = port {
            tests.push(Expr::Payload { base: PayloadBase::Transport, offset, len: 2, dest: Register::R1 });
            tests.push(compare(port.to_be_bytes().to_vec()));
        }
    }
    Ok(Filter { family: table, tests, incoming })
}
