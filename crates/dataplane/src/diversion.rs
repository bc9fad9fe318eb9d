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
//! A datagram is a question, and may go either way. A connection stays where it began: a set knows
//! those that began on the node.
//!
//! The table goes with the process, however that ends. From that moment the rules of Services
//! translate as for any other address, and the route has no effect: translation comes before it.
//! So the route may stay behind; [`Diversion::clean_up`] removes it.
//!
//! The order is the caller's: [`Diversion::prepare`] an address, bind sockets to it, then
//! [`Diversion::divert`]; at the end divert nothing, answer what has come, close the connections,
//! then [`Diversion::forget`] the address and close the sockets. Answers are never tracked
//! meanwhile: an entry for one could clash with that of an earlier question from the same port.
//! Sockets for IPv6 need `IPV6_FREEBIND`: a route makes an address local to packets, and not to
//! `bind`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use portolan_netfilter::nft::{
    BaseChain, Batch, Chain, ChainType, CmpOp, Expr, Field, Hook, KeyType, MetaKey, PayloadBase, Register,
    Rule, Set, TableFamily, TableRef, Verdict,
};
use portolan_netfilter::socket::Socket;
use portolan_netlink::rtnetlink::{LOCAL_TABLE, Rtnetlink};
use portolan_service::{Family, Protocol};

use crate::error::Error;

/// The name of the tables, one of each family.
const TABLE: &str = "portolan-dns";
const PREROUTING: &str = "raw-prerouting";
const OUTPUT: &str = "raw-output";
const INPUT: &str = "filter-input";
const COMMENT: &str = "what the cluster's DNS is asked, answered on this node";
/// The connections that began on the node, each by address, client and its port.
const CONNECTIONS: &str = "connections";
const CONNECTION: KeyType = KeyType(&[Field::DestinationAddress, Field::SourceAddress, Field::SourcePort]);
/// More of them at a time begin at the Service.
const CONNECTIONS_MAX: u32 = 65_536;
/// One without packets for so long is forgotten; servers close them earlier.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(2);
/// Before connection tracking (`NF_IP_PRI_RAW`).
const RAW: i32 = -300;
/// `NF_IP_PRI_FILTER`
const FILTER: i32 = 0;
/// Errors of netlink (errno(3)).
const EEXIST: i32 = 17;
const ESRCH: i32 = 3;
/// Whose our routes are (`rtm_protocol`): a number that nobody else is known to use.
const OURS: u8 = 0x70;
/// A descriptor above those of sockets that answer.
const ABOVE_ALL: i32 = 1000;
/// FIN, SYN, RST and ACK (RFC 9293 §3.1).
const OPENING_FLAGS: u8 = 0x17;
const SYN: u8 = 0x02;

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
        let mut nft = Socket::open().map_err(netlink("opening a socket for nftables"))?;
        // It may not be allowed, and then a killed process loses a few questions more.
        let _ = nft.move_above(ABOVE_ALL);
        let routes = Rtnetlink::open().map_err(netlink("opening a socket for routes"))?;
        Ok(Diversion { nft, routes, port, prepared: BTreeSet::new(), diverted: BTreeSet::new() })
    }

    /// Has the node take `address` for its own, unless it does already, which is refused: such a
    /// route is somebody else's. After an error all is as before.
    ///
    /// Whoever asks from the node itself does so from `source`, which must be an address of the
    /// node; else from `address`, and its questions reach a Service only if that masquerades.
    pub fn prepare(&mut self, address: IpAddr, source: Option<IpAddr>) -> Result<(), Error> {
        if self.prepared.contains(&address) {
            // With another source, perhaps.
            self.remove_route(address)?;
        }
        if !self.add_route(address, source)? {
            return Err(Error::Unusable(format!(
                "{address} is an address of this node already, or has a route there (ip route show table local): \
                 it is left as it is"
            )));
        }
        let mut prepared = self.prepared.clone();
        prepared.insert(address);
        let committed = self.commit(prepared, self.diverted.clone());
        if committed.is_err() {
            self.remove_route(address)?;
        }
        committed
    }

    /// Adds the local routes that somebody has removed again. Returns where they lead.
    pub fn restore(&mut self, sources: &BTreeMap<IpAddr, Option<IpAddr>>) -> Result<Vec<IpAddr>, Error> {
        let mut restored = Vec::new();
        for address in self.prepared.clone() {
            if self.add_route(address, sources.get(&address).copied().flatten())? {
                restored.push(address);
            }
        }
        Ok(restored)
    }

    /// The addresses that are prepared.
    pub fn prepared(&self) -> &BTreeSet<IpAddr> {
        &self.prepared
    }

    /// Returns false if there is a route already.
    fn add_route(&mut self, address: IpAddr, source: Option<IpAddr>) -> Result<bool, Error> {
        match self.routes.add_local_route(address, source, OURS) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(EEXIST) => Ok(false),
            Err(error) => Err(netlink(&format!("adding a local route to {address}"))(error)),
        }
    }

    /// Removes the route to `address`, if nobody else has.
    fn remove_route(&mut self, address: IpAddr) -> Result<(), Error> {
        match self.routes.delete_local_route(address, OURS) {
            Err(error) if error.raw_os_error() != Some(ESRCH) => {
                Err(netlink(&format!("removing the local route to {address}"))(error))
            }
            _ => Ok(()),
        }
    }

    /// Takes [`Diversion::prepare`] back. What is sent to `address` is not diverted from now on.
    pub fn forget(&mut self, address: IpAddr) -> Result<(), Error> {
        let (mut prepared, mut diverted) = (self.prepared.clone(), self.diverted.clone());
        prepared.remove(&address);
        diverted.remove(&address);
        self.commit(prepared, diverted)?;
        self.remove_route(address)
    }

    /// From now on diverts what is sent to these addresses over TCP and UDP, and nothing else, in
    /// one transaction. All of them are prepared. Connections stay where they began.
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
            // The hooks stay: a commit changes their rules at once, and hooks one by one. So does
            // the set.
            batch.flush_rules(table);
            for address in prepared {
                for protocol in [Protocol::Udp, Protocol::Tcp] {
                    let answers = [self.packets(address, protocol, Way::From), vec![Expr::NoTrack]];
                    batch.add_rule(table, OUTPUT, &rule(answers));
                }
                for accepted in self.only_dns(address) {
                    batch.add_rule(table, INPUT, &accepted);
                }
                for questions in self.questions(address, diverted.contains(&address)) {
                    batch.add_rule(table, OUTPUT, &questions);
                    batch.add_rule(table, PREROUTING, &questions);
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
        let ours = routes.routes_of(OURS).map_err(netlink("listing routes"))?;
        let local = ours.into_iter().filter(|route| route.table == LOCAL_TABLE);
        let addresses: Vec<IpAddr> = local.map(|route| route.destination.addr()).collect();
        for address in &addresses {
            let removing = netlink(&format!("removing the local route to {address}"));
            routes.delete_local_route(*address, OURS).map_err(removing)?;
        }
        Ok(addresses)
    }

    /// The rules by which no other server of the node is reached at `address`, which the node takes
    /// for its own.
    fn only_dns(&self, address: IpAddr) -> [Rule; 3] {
        let accept = || vec![Expr::Immediate(Verdict::Accept)];
        let [udp, tcp] =
            [Protocol::Udp, Protocol::Tcp].map(|protocol| self.packets(address, protocol, Way::To));
        let all = has_address(address, addresses_at(Family::of(address)).1);
        let reject = vec![Expr::RejectPortUnreachable { ipv6: address.is_ipv6() }];
        [rule([udp, accept()]), rule([tcp, accept()]), rule([all, reject])]
    }

    /// The rules for what is sent to `address`, which is diverted or only prepared.
    fn questions(&self, address: IpAddr, diverted: bool) -> Vec<Rule> {
        let [datagrams, segments] =
            [Protocol::Udp, Protocol::Tcp].map(|protocol| self.packets(address, protocol, Way::To));
        let set = || CONNECTIONS.to_owned();
        let timeout = Some(CONNECTION_TIMEOUT);
        let stay = Expr::UpdateSet { set: set(), key: Register::R1, data: None, timeout };
        let known = Expr::Lookup { set: set(), source: Register::R1, dest: None, inverted: false };
        let forget = Expr::DeleteFromSet { set: set(), key: Register::R1 };
        let opening = opening();
        let key = connection(address);
        let mut rules = Vec::new();
        if diverted {
            rules.push(rule([datagrams, vec![Expr::NoTrack]]));
            // With no room in the set, this ends the rule before it has an effect.
            let begin = vec![stay.clone(), Expr::NoTrack];
            rules.push(rule([segments.clone(), opening, key.clone(), begin]));
        } else {
            // A port that is used again: this connection is another one.
            rules.push(rule([segments.clone(), opening, key.clone(), vec![forget]]));
        }
        rules.push(rule([segments, key, vec![known, stay, Expr::NoTrack]]));
        rules
    }

    /// `ip daddr ADDRESS udp dport PORT`, or the same of its answers.
    fn packets(&self, address: IpAddr, protocol: Protocol, way: Way) -> Vec<Expr> {
        let (source, destination) = addresses_at(Family::of(address));
        let (offset, port_offset) = match way {
            Way::To => (destination, 2),
            Way::From => (source, 0),
        };
        let mut exprs = has_address(address, offset);
        exprs.extend([
            Expr::Meta { key: MetaKey::L4Proto, dest: Register::R1 },
            equal(vec![protocol.number()]),
            load(PayloadBase::Transport, port_offset, 2, 0),
            equal(self.port.to_be_bytes().into()),
        ]);
        exprs
    }
}

/// The address at `offset` of the header is this one.
fn has_address(address: IpAddr, offset: u32) -> Vec<Expr> {
    let octets = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let length = u32::try_from(octets.len()).unwrap_or(0);
    vec![load(PayloadBase::Network, offset, length, 0), equal(octets)]
}

fn rule<const N: usize>(parts: [Vec<Expr>; N]) -> Rule {
    Rule { exprs: parts.into_iter().flatten().collect(), comment: None }
}

fn equal(value: Vec<u8>) -> Expr {
    Expr::Cmp { op: CmpOp::Equal, source: Register::R1, value }
}

/// Loads `len` octets into the register of that number, counted in words.
fn load(base: PayloadBase, offset: u32, len: u32, word: u32) -> Expr {
    Expr::Payload { base, offset, len, dest: Register::word(word) }
}

/// Where the source and the destination are in a header (RFC 791 §3.1, RFC 8200 §3).
fn addresses_at(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (12, 16),
        Family::V6 => (8, 24),
    }
}

/// The first packet of a connection.
fn opening() -> Vec<Expr> {
    let (source, dest) = (Register::R1, Register::R1);
    vec![
        load(PayloadBase::Transport, 13, 1, 0),
        Expr::Bitwise { source, dest, mask: vec![OPENING_FLAGS], xor: vec![0] },
        equal(vec![SYN]),
    ]
}

/// Loads the key of a connection to `address` ([`CONNECTION`]).
fn connection(address: IpAddr) -> Vec<Expr> {
    let family = Family::of(address);
    let (source, destination) = addresses_at(family);
    let words = if family == Family::V4 { 1 } else { 4 };
    vec![
        load(PayloadBase::Network, destination, words * 4, 0),
        load(PayloadBase::Network, source, words * 4, words),
        load(PayloadBase::Transport, 0, 2, words * 2),
    ]
}

fn add_table(batch: &mut Batch, table: TableRef<'_>) {
    batch.add_owned_table(table, COMMENT);
    for (name, hook, priority) in
        [(PREROUTING, Hook::Prerouting, RAW), (OUTPUT, Hook::Output, RAW), (INPUT, Hook::Input, FILTER)]
    {
        let kind = BaseChain { kind: ChainType::Filter, hook, priority };
        batch.add_chain(table, &Chain { name: name.to_owned(), kind: Some(kind), comment: None });
    }
    batch.add_set(
        table,
        &Set {
            name: CONNECTIONS.to_owned(),
            id: 1,
            key: CONNECTION,
            data: None,
            dynamic: true,
            timeouts: true,
            interval: false,
            gc_interval: Some(CONNECTION_TIMEOUT),
            size: Some(CONNECTIONS_MAX),
            comment: None,
        },
    );
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
