//! The rules of each chain.

use std::time::Duration;

use portolan_netfilter::nft::{self, CmpOp, CtKey, Direction, Expr, MetaKey, PayloadBase, Register, Rule};
use portolan_service::{Backend, Family, List, Protocol};

use super::Schema;
use super::expressions::{
    commented, ct_state_new, ct_status_dnat, in_network, jump, lookup, protocol_is, rule, source_is_local,
    vmap,
};
use super::steering::{masquerade_steered, unmark};
use crate::nftables::affinity::{Content, Endpoint, StickyPort};
use crate::nftables::chain::Chain;
use crate::nftables::element::DRAWN_AT_ONCE;
use crate::nftables::encoding::put_address;
use crate::nftables::set::SetName;
use crate::settings::LocalDetector;
use crate::slots::{slot_count, slots};

/// On rules for packets that meet a commit between two look-ups.
const AGAIN: &str = "for who met a commit in between";
/// On the rules for frontends whose endpoints nobody has counted.
const ONE_OF_TWO: &str = "one of two endpoints; if there is one, this rule or the next finds it";
const FIRST: &str = "the only endpoint, or the first for who met a commit in between";

/// On the rule for what comes back to the node through loopback.
const OWN: &str = "from the node itself: looked at before it was translated";

impl Schema<'_> {
    /// The rules of `chain`, in order; none for those that belong to a Service port. One case for
    /// each chain, however many lines that takes.
    #[expect(clippy::too_many_lines, reason = "a case for each chain")]
    pub(crate) fn rules(&self, chain: &Chain) -> Vec<Rule> {
        let undeliverable = || rule([ct_state_new(), jump(&Chain::Undeliverable)]);
        match *chain {
            Chain::Pick(count) => vec![rule([self.pick(count, SetName::Endpoints)])],
            Chain::PickLocal(count) => vec![rule([self.pick(count, SetName::EndpointsLocal)])],
            // The plan knows: see `affinity_rules`.
            Chain::Affinity(_) | Chain::AffinityLocal(_) | Chain::Endpoint(_) => Vec::new(),
            Chain::NoLocal => vec![rule([vec![Expr::Immediate(nft::Verdict::Accept)]])],
            Chain::RejectIt => vec![rule([self.reject()])],
            Chain::MasqCluster => {
                let masquerade = vec![Expr::MasqueradeFullyRandom];
                let mut rules = Vec::new();
                if self.settings.masquerade_all {
                    rules.push(commented([masquerade.clone()], "masquerade-all"));
                } else if let Some(outside) = self.not_local() {
                    rules.push(commented([outside, masquerade.clone()], "not a pod of this node"));
                }
                rules.push(rule([self.hairpin(), masquerade]));
                rules
            }
            Chain::MasqAlways => vec![rule([vec![Expr::MasqueradeFullyRandom]])],
            Chain::MasqNode => vec![
                rule([source_is_local(), vec![Expr::MasqueradeFullyRandom]]),
                rule([self.hairpin(), vec![Expr::MasqueradeFullyRandom]]),
            ],
            Chain::Masq => {
                let cluster_ips = vec![
                    self.original_address(Register::R1),
                    lookup(SetName::ClusterIps),
                    Expr::Immediate(nft::Verdict::Goto(Chain::MasqCluster.name())),
                ];
                let mut rules = vec![rule([cluster_ips])];
                if self.features.masq_external {
                    rules.extend(self.by_original_frontend(SetName::MasqExternal));
                }
                rules
            }
            Chain::Firewall => {
                let words = self.frontend_words();
                let mut not_allowed = self.frontend(0);
                not_allowed.push(lookup(SetName::Firewalled));
                not_allowed.extend(self.frontend(0));
                if self.family == Family::V4 {
                    // `ip protocol`: nft 1.0.6 cannot load `meta l4proto` in a set of ranges from
                    // text.
                    not_allowed.truncate(not_allowed.len() - 2);
                    not_allowed.push(Expr::Payload {
                        base: PayloadBase::Network,
                        offset: 9,
                        len: 1,
                        dest: Register::word(1),
                    });
                    not_allowed.push(Expr::Payload {
                        base: PayloadBase::Transport,
                        offset: 2,
                        len: 2,
                        dest: Register::word(2),
                    });
                }
                not_allowed.push(self.source(words));
                not_allowed.push(Expr::Lookup {
                    set: SetName::Allowed.name().into(),
                    source: Register::R1,
                    dest: None,
                    inverted: true,
                });
                not_allowed.push(Expr::Immediate(nft::Verdict::Drop));
                let seen = vec![Expr::Immediate(nft::Verdict::Return)];
                vec![commented([ct_status_dnat(), seen], OWN), rule([not_allowed])]
            }
            Chain::Undeliverable => {
                let mut rules = Vec::new();
                if self.features.no_endpoints {
                    rules.push(rule([self.frontend(0), vec![vmap(SetName::NoEndpoints)]]));
                }
                let known = vec![self.destination(0), lookup(SetName::ClusterIps)];
                rules.push(commented([known, self.reject()], "ClusterIP without endpoints, or unknown port"));
                rules
            }
            Chain::Unallocated => self
                .service_networks()
                .map(|network| {
                    let inside = in_network(self.destination(0), network, CmpOp::Equal);
                    rule([inside, vec![Expr::Immediate(nft::Verdict::Drop)]])
                })
                .collect(),
            Chain::NatPrerouting => {
                let mut rules = Vec::new();
                if self.features.services_local {
                    let outside = self.not_local().unwrap_or_default();
                    let dispatch = vec![vmap(SetName::ServicesLocal)];
                    rules.push(rule([outside.clone(), self.frontend(0), dispatch]));
                    rules.push(commented([outside, self.pick(1, SetName::EndpointsLocal)], AGAIN));
                }
                rules.extend(self.dispatch());
                rules
            }
            Chain::NatOutput => self.dispatch(),
            Chain::NatPostrouting if self.bit().is_some() => masquerade_steered(),
            Chain::NatPostrouting => {
                vec![rule([ct_status_dnat(), jump(&Chain::Masq)])]
            }
            Chain::Steer => self.steer(),
            Chain::Unsteer => self.unsteer(),
            Chain::Unhandled => self.unhandled(),
            Chain::Unmark => unmark(),
            Chain::Reroute => self.reroute(),
            Chain::FirewallPrerouting | Chain::FirewallOutput => {
                vec![rule([ct_state_new(), jump(&Chain::Firewall)])]
            }
            Chain::FilterInput if self.bit().is_some() => {
                vec![rule([self.is_steered(false), ct_state_new(), jump(&Chain::Undeliverable)])]
            }
            Chain::FilterInput => vec![undeliverable()],
            // A ClusterIP is never an address of the node: what comes in for one is for somebody
            // else's.
            Chain::FilterForward | Chain::FilterOutput => {
                let mut rules = vec![undeliverable()];
                if self.service_networks().next().is_some() {
                    rules.push(rule([ct_state_new(), jump(&Chain::Unallocated)]));
                }
                rules
            }
        }
    }

    /// `ip daddr . meta l4proto . th dport vmap @services`, while anything is there: it has the
    /// frontends of more than [`DRAWN_AT_ONCE`] endpoints. Then the others, whatever their number:
    /// one of two, and else the first. A frontend of two always is served by the first of these
    /// rules. That of one is by either, whatever number was drawn. So a change between one and two
    /// is a change of an endpoint alone.
    ///
    /// These rules are also a second chance for packets that read the number of endpoints just
    /// before a commit and looked for the last of them just after it. That look-up fails, its
    /// chain ends, and they take one of the first endpoints, which a frontend with any has. (A
    /// second look at `services` would do as well, but the kernel walks a verdict map once for each
    /// rule that looks into it, in every transaction that adds a verdict.) The last rule stands
    /// there twice because kernels before 6.17 can miss an element for the moment in which its data
    /// is replaced.
    fn dispatch(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        if self.features.services {
            rules.push(rule([self.frontend(0), vec![vmap(SetName::Services)]]));
        }
        for count in (2..=DRAWN_AT_ONCE).rev() {
            rules.push(commented([self.pick(count, SetName::Endpoints)], ONE_OF_TWO));
        }
        rules.push(commented([self.pick(1, SetName::Endpoints)], FIRST));
        rules.push(commented([self.pick(1, SetName::Endpoints)], AGAIN));
        rules
    }

    /// `dnat to numgen random mod COUNT . ip daddr . meta l4proto . th dport map @SET`
    fn pick(&self, count: u32, endpoints: SetName) -> Vec<Expr> {
        let mut exprs = vec![Expr::RandomBelow { modulus: count, dest: Register::word(0) }];
        exprs.extend(self.frontend(1));
        exprs.extend(self.translate(endpoints));
        exprs
    }

    fn translate(&self, map: SetName) -> [Expr; 2] {
        [
            Expr::Lookup {
                set: map.name().into(),
                source: Register::R1,
                dest: Some(Register::R1),
                inverted: false,
            },
            Expr::Dnat {
                ipv6: self.family == Family::V6,
                address: Register::R1,
                port: Some(Register::word(self.address_words())),
            },
        ]
    }

    /// The rules of a chain of a Service port with session affinity.
    pub(crate) fn affinity_rules(&self, content: &Content<'_>) -> Vec<Rule> {
        match content {
            Content::List(port, list) => self.stay_or_draw(port, *list),
            Content::Endpoint(port, endpoint) => self.remember(port, *endpoint),
            Content::Nothing => Vec::new(),
        }
    }

    /// Who is remembered goes where it went, in the order of the list. Others draw: one of N slots,
    /// else one of N - 1, and so on.
    fn stay_or_draw(&self, port: &StickyPort<'_>, list: List) -> Vec<Rule> {
        let backends = port.port.backends(list);
        let count = slot_count(backends);
        let endpoint = |backend: &Backend| (backend.address, backend.port);
        let goto = |endpoint| Expr::Immediate(nft::Verdict::Goto(port.endpoint_chain(endpoint).name()));
        let known = backends.iter().map(endpoint).map(|endpoint| {
            let set = port.set_of(endpoint);
            let known = Expr::Lookup { set, source: Register::R1, dest: None, inverted: false };
            rule([vec![self.source(0), known, goto(endpoint)]])
        });
        let drawn = (0..count).zip(slots(backends).map(endpoint)).map(|(before, endpoint)| {
            let draw = match count - before {
                1 => Vec::new(),
                left => vec![
                    Expr::RandomBelow { modulus: left, dest: Register::R1 },
                    Expr::Cmp { op: CmpOp::Equal, source: Register::R1, value: 0u32.to_ne_bytes().into() },
                ],
            };
            rule([draw, vec![goto(endpoint)]])
        });
        known.chain(drawn).collect()
    }

    /// `update @SET { ip saddr timeout T }`, then `dnat to ENDPOINT`: two rules, for the first ends
    /// where the set is full.
    fn remember(&self, port: &StickyPort<'_>, endpoint: Endpoint) -> Vec<Rule> {
        let (address, number) = endpoint;
        let (mut address_bytes, port_at) = (Vec::new(), Register::word(self.address_words()));
        put_address(&mut address_bytes, address);
        let update = Expr::UpdateSet {
            set: port.set_of(endpoint),
            key: Register::R1,
            data: None,
            timeout: Some(Duration::from_secs(port.seconds().into())),
        };
        let translate = vec![
            Expr::Constant { value: address_bytes, dest: Register::R1 },
            Expr::Constant { value: number.to_be_bytes().into(), dest: port_at },
            Expr::Dnat { ipv6: self.family == Family::V6, address: Register::R1, port: Some(port_at) },
        ];
        vec![rule([vec![self.source(0), update]]), rule([protocol_is(port.port.protocol), translate])]
    }

    /// A verdict map asked for the destination before translation, a rule for each protocol: nft
    /// gives ports of the original tuple a type only after a match on one.
    fn by_original_frontend(&self, map: SetName) -> Vec<Rule> {
        let address = self.address_words();
        Protocol::ALL
            .into_iter()
            .map(|protocol| {
                let look = vec![
                    self.original_address(Register::R1),
                    Expr::Meta { key: MetaKey::L4Proto, dest: Register::word(address) },
                    Expr::Ct {
                        key: CtKey::ProtoDestination,
                        direction: Some(Direction::Original),
                        dest: Register::word(address + 1),
                    },
                    vmap(map),
                ];
                rule([protocol_is(protocol), look])
            })
            .collect()
    }

    /// Sources that are not pods of this node (spec §4.8); `None` where nothing separates them.
    pub(super) fn not_local(&self) -> Option<Vec<Expr>> {
        let name = |value: Vec<u8>| {
            vec![
                Expr::Meta { key: MetaKey::InputInterfaceName, dest: Register::R1 },
                Expr::Cmp { op: CmpOp::NotEqual, source: Register::R1, value },
            ]
        };
        Some(match self.settings.local.get(self.family).as_ref()? {
            LocalDetector::SourceNetwork(network) => in_network(self.source(0), *network, CmpOp::NotEqual),
            LocalDetector::Interface(interface) => {
                let mut padded = interface.clone().into_bytes();
                padded.resize(16, 0);
                name(padded)
            }
            // Comparing no further than the prefix goes is how nftables writes `veth*`.
            LocalDetector::InterfacePrefix(prefix) => name(prefix.clone().into_bytes()),
        })
    }

    /// `ip saddr . ip daddr @hairpin`
    fn hairpin(&self) -> Vec<Expr> {
        vec![self.source(0), self.destination(self.address_words()), lookup(SetName::Hairpin)]
    }

    pub(super) fn reject(&self) -> Vec<Expr> {
        vec![Expr::RejectPortUnreachable { ipv6: self.family == Family::V6 }]
    }

    pub(super) fn original_address(&self, dest: Register) -> Expr {
        let key = if self.family == Family::V6 { CtKey::DestinationIp6 } else { CtKey::DestinationIp };
        Expr::Ct { key, direction: Some(Direction::Original), dest }
    }

    /// `ip daddr . meta l4proto . th dport` into registers from word `at` on.
    pub(super) fn frontend(&self, at: u32) -> Vec<Expr> {
        let address = self.address_words();
        vec![
            self.destination(at),
            Expr::Meta { key: MetaKey::L4Proto, dest: Register::word(at + address) },
            Expr::Payload {
                base: PayloadBase::Transport,
                offset: 2,
                len: 2,
                dest: Register::word(at + address + 1),
            },
        ]
    }

    fn source(&self, at: u32) -> Expr {
        let offset = if self.family == Family::V6 { 8 } else { 12 };
        Expr::Payload {
            base: PayloadBase::Network,
            offset,
            len: 4 * self.address_words(),
            dest: Register::word(at),
        }
    }

    fn destination(&self, at: u32) -> Expr {
        let offset = if self.family == Family::V6 { 24 } else { 16 };
        Expr::Payload {
            base: PayloadBase::Network,
            offset,
            len: 4 * self.address_words(),
            dest: Register::word(at),
        }
    }

    fn address_words(&self) -> u32 {
        if self.family == Family::V6 { 4 } else { 1 }
    }

    fn frontend_words(&self) -> u32 {
        self.address_words() + 2
    }
}
