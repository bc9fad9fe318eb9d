//! What is sent to an address of a Service, such as that of the cluster's DNS, answered by a
//! process on this node: without NAT and without connection tracking.
//!
//! Two questions that a client sends from one port at the same moment race for the entry in
//! connection tracking that translation needs, and one of them is lost. Here there is neither entry
//! nor translation:
//!
//! - A `local` route has the node take the address for its own, so that sockets can be bound to it
//!   and packets reach them.
//! - A table of nftables has these packets, and what is answered, not tracked. Then they are not
//!   translated either, in whatever mode the rules of Services are.
//!
//! The table goes with the process, however that ends. From that moment the rules of Services
//! translate as for any other address, and the route has no effect: translation comes before it.
//! So the route may stay behind; [`Diversion::clean_up`] removes it.
//!
//! The order is the caller's: [`Diversion::prepare`] an address, bind sockets to it, then
//! [`Diversion::divert`]; at the end divert nothing, answer what has come, then
//! [`Diversion::forget`] the address and close the sockets. Answers are never tracked meanwhile: an
//! entry for one could clash with that of an earlier question from the same port. Sockets for IPv6
//! need `IPV6_FREEBIND`: a route makes an address local to packets, and not to `bind`.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use portolan_netfilter::nft::{
    BaseChain, Batch, Chain, ChainType, CmpOp, Expr, Hook, MetaKey, PayloadBase, Register, Rule, TableFamily,
    TableRef,
};
use portolan_netfilter::socket::Socket;
use portolan_netlink::rtnetlink::{LOCAL_TABLE, Rtnetlink};
use portolan_service::{Family, Protocol};

use crate::error::Error;

/// The name of the tables, one of each family.
const TABLE: &str = "portolan-dns";
const PREROUTING: &str = "raw-prerouting";
const OUTPUT: &str = "raw-output";
const COMMENT: &str = "what the cluster's DNS is asked, answered on this node";
/// Before connection tracking (`NF_IP_PRI_RAW`).
const RAW: i32 = -300;
/// Whose our routes are (`rtm_protocol`): a number that nobody else is known to use.
const OURS: u8 = 0x70;

/// Addresses of Services whose packets stay on this node. Everything that was diverted goes to the
/// Services again when this is dropped.
#[derive(Debug)]
pub struct Diversion {
    /// Owns the tables.
    nft: Socket,
    routes: Rtnetlink,
    port: u16,
    prepared: BTreeSet<IpAddr>,
    diverted: BTreeSet<IpAddr>,
}

impl Diversion {
    /// Diverts nothing yet, and later what is sent to `port`. Needs kernel 5.12.
    pub fn new(port: u16) -> Result<Diversion, Error> {
        let nft = Socket::open().map_err(netlink("opening a socket for nftables"))?;
        let routes = Rtnetlink::open().map_err(netlink("opening a socket for routes"))?;
        Ok(Diversion { nft, routes, port, prepared: BTreeSet::new(), diverted: BTreeSet::new() })
    }

    /// Has the node take `address` for its own. Whoever asks from the node itself does so from
    /// `source`, which must be an address of the node; else from `address`, and its questions reach
    /// a Service only if that masquerades.
    pub fn prepare(&mut self, address: IpAddr, source: Option<IpAddr>) -> Result<(), Error> {
        self.routes
            .set_local_route(address, source, OURS)
            .map_err(netlink(&format!("adding a local route to {address}")))?;
        let mut prepared = self.prepared.clone();
        prepared.insert(address);
        self.commit(prepared, self.diverted.clone())
    }

    /// Takes [`Diversion::prepare`] back. What is sent to `address` is not diverted from now on.
    pub fn forget(&mut self, address: IpAddr) -> Result<(), Error> {
        let (mut prepared, mut diverted) = (self.prepared.clone(), self.diverted.clone());
        prepared.remove(&address);
        diverted.remove(&address);
        self.commit(prepared, diverted)?;
        self.routes
            .delete_local_route(address, OURS)
            .map_err(netlink(&format!("removing the local route to {address}")))
    }

    /// From now on diverts what is sent to these addresses over TCP and UDP, and nothing else, in
    /// one transaction. All of them are prepared.
    pub fn divert(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), Error> {
        let diverted = addresses.intersection(&self.prepared).copied().collect();
        self.commit(self.prepared.clone(), diverted)
    }

    /// Has the tables be as these addresses need them.
    fn commit(&mut self, prepared: BTreeSet<IpAddr>, diverted: BTreeSet<IpAddr>) -> Result<(), Error> {
        if (&self.prepared, &self.diverted) == (&prepared, &diverted) {
            return Ok(());
        }
        let mut batch = Batch::new();
        for family in Family::ALL {
            let of_family = |addresses: &BTreeSet<IpAddr>| -> Vec<IpAddr> {
                addresses.iter().copied().filter(|address| Family::of(*address) == family).collect()
            };
            let before = [&self.prepared, &self.diverted].map(of_family);
            let [prepared, diverted] = [&prepared, &diverted].map(of_family);
            let table = TableRef { family: table_family(family), name: TABLE };
            if prepared.is_empty() {
                if !before[0].is_empty() {
                    batch.delete_table(table);
                }
                continue;
            }
            if before[0].is_empty() {
                add_table(&mut batch, table);
            }
            // The hooks stay: a commit changes their rules at once, and hooks one by one.
            batch.flush_rules(table);
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                for address in &prepared {
                    batch.add_rule(table, OUTPUT, &self.untracked(*address, protocol, Way::From));
                }
                for address in &diverted {
                    batch.add_rule(table, OUTPUT, &self.untracked(*address, protocol, Way::To));
                    batch.add_rule(table, PREROUTING, &self.untracked(*address, protocol, Way::To));
                }
            }
        }
        self.nft.commit(&batch).map_err(|error| {
            Error::Unusable(format!(
                "diverting to this node: {error}; it takes kernel 5.12, and tables {TABLE} that nobody else has: \
                 see nft list tables"
            ))
        })?;
        (self.prepared, self.diverted) = (prepared, diverted);
        Ok(())
    }

    /// Removes the routes that processes before have left. Returns where they led.
    pub fn clean_up() -> Result<Vec<IpAddr>, Error> {
        let mut routes = Rtnetlink::open().map_err(netlink("opening a socket for routes"))?;
        let all = routes.routes().map_err(netlink("listing routes"))?;
        let ours = all.into_iter().filter(|route| route.table == LOCAL_TABLE && route.protocol == OURS);
        let addresses: Vec<IpAddr> = ours.map(|route| route.destination.addr()).collect();
        for address in &addresses {
            let removing = netlink(&format!("removing the local route to {address}"));
            routes.delete_local_route(*address, OURS).map_err(removing)?;
        }
        Ok(addresses)
    }

    /// `ip daddr ADDRESS udp dport PORT notrack`, or the same of its answers.
    fn untracked(&self, address: IpAddr, protocol: Protocol, way: Way) -> Rule {
        let (source_offset, octets) = match address {
            IpAddr::V4(v4) => (12, v4.octets().to_vec()),
            IpAddr::V6(v6) => (8, v6.octets().to_vec()),
        };
        let length = u32::try_from(octets.len()).unwrap_or(0);
        let (offset, port_offset) = match way {
            Way::To => (source_offset + length, 2),
            Way::From => (source_offset, 0),
        };
        let equal = |value| Expr::Cmp { op: CmpOp::Equal, source: Register::R1, value };
        let load = |base, offset, len| Expr::Payload { base, offset, len, dest: Register::R1 };
        let exprs = vec![
            load(PayloadBase::Network, offset, length),
            equal(octets),
            Expr::Meta { key: MetaKey::L4Proto, dest: Register::R1 },
            equal(vec![protocol.number()]),
            load(PayloadBase::Transport, port_offset, 2),
            equal(self.port.to_be_bytes().into()),
            Expr::NoTrack,
        ];
        Rule { exprs, comment: None }
    }
}

fn add_table(batch: &mut Batch, table: TableRef<'_>) {
    batch.add_owned_table(table, COMMENT);
    for (name, hook) in [(PREROUTING, Hook::Prerouting), (OUTPUT, Hook::Output)] {
        let kind = BaseChain { kind: ChainType::Filter, hook, priority: RAW };
        batch.add_chain(table, &Chain { name: name.to_owned(), kind: Some(kind), comment: None });
    }
}

/// Which way a packet goes.
#[derive(Clone, Copy)]
enum Way {
    To,
    From,
}

fn table_family(family: Family) -> TableFamily {
    match family {
        Family::V4 => TableFamily::Ip,
        Family::V6 => TableFamily::Ip6,
    }
}

fn netlink(doing: &str) -> impl Fn(io::Error) -> Error + use<> {
    let doing = doing.to_owned();
    move |source| Error::Netlink { doing: doing.clone(), source }
}
