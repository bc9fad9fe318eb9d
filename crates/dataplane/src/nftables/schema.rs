//! The chains of one table, their rules and its sets: everything that does not belong to a Service.
//!
//! All of it is a function of the family, the [`Settings`], the [`Features`] in use and the endpoint counts in
//! use; it is never read back from state that we keep.

use std::time::Duration;

use ipnet::IpNet;
use portolan_netfilter::nft::{
    self, BaseChain, ChainType, CmpOp, CtKey, DataType, Direction, Expr, Hook, KeyType, MetaKey, PayloadBase,
    Register, Rule, TableFamily, TableRef,
};
use portolan_service::{Family, Protocol};

use crate::{LocalDetector, Settings};

/// The name of our table in either family.
pub(crate) const TABLE: &str = "portolan";
/// What `nft list` shows for it.
pub(crate) const TABLE_COMMENT: &str = "Services of Kubernetes; managed by portolan, do not edit";
/// Clients remembered for session affinity in each family; packets fill this set.
const AFFINITY_SIZE: u32 = 1 << 20;

/// Our table in `family`.
pub(crate) fn table(family: Family) -> TableRef<'static> {
    TableRef {
        family: match family {
            Family::V4 => TableFamily::Ip,
            Family::V6 => TableFamily::Ip6,
        },
        name: TABLE,
    }
}

/// Our table in `family`, for people.
pub(crate) fn table_name(family: Family) -> String {
    format!("table {} {TABLE}", if family == Family::V4 { "ip" } else { "ip6" })
}

/// The sets and maps of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SetName {
    /// Every ClusterIP, with or without endpoints
    ClusterIps,
    /// Endpoints on this node, twice: its own client
    Hairpin,
    /// Learnt: client and frontend to endpoint
    Affinity,
    /// Number and frontend to endpoint
    Endpoints,
    /// The same for outside sources, where they get another list
    EndpointsLocal,
    /// Load-balancer frontends with source ranges
    Firewalled,
    /// Frontend and permitted source networks
    Allowed,
    /// Frontend to chain that picks an endpoint
    Services,
    /// The same for outside sources, where they get another list
    ServicesLocal,
    /// Frontend to what refuses its packets
    NoEndpoints,
    /// External frontends to when they are masqueraded
    MasqExternal,
    /// Frontends with session affinity to the chain that remembers the client
    AffinityServices,
}

impl SetName {
    /// All sets, in the order in which they are created and filled: what others lead to comes first.
    pub(crate) const ALL: [SetName; 12] = [
        SetName::ClusterIps,
        SetName::Hairpin,
        SetName::Affinity,
        SetName::Endpoints,
        SetName::EndpointsLocal,
        SetName::Firewalled,
        SetName::Allowed,
        SetName::Services,
        SetName::ServicesLocal,
        SetName::NoEndpoints,
        SetName::MasqExternal,
        SetName::AffinityServices,
    ];

    /// Those that we fill, not packets.
    pub(crate) fn filled() -> impl DoubleEndedIterator<Item = SetName> {
        SetName::ALL.into_iter().filter(|set| *set != SetName::Affinity)
    }

    /// Its name in the kernel.
    pub(crate) fn name(self) -> &'static str {
        match self {
            SetName::ClusterIps => "cluster-ips",
            SetName::Hairpin => "hairpin",
            SetName::Affinity => "affinity",
            SetName::Endpoints => "endpoints",
            SetName::EndpointsLocal => "endpoints-local",
            SetName::Firewalled => "firewalled",
            SetName::Allowed => "allowed",
            SetName::Services => "services",
            SetName::ServicesLocal => "services-local",
            SetName::NoEndpoints => "no-endpoints",
            SetName::MasqExternal => "masq-external",
            SetName::AffinityServices => "affinity-services",
        }
    }

    /// `set` or `map`
    pub(crate) fn kind(self) -> &'static str {
        match self {
            SetName::ClusterIps | SetName::Hairpin | SetName::Firewalled | SetName::Allowed => "set",
            _ => "map",
        }
    }

    /// What it holds, for people.
    pub(crate) fn comment(self) -> &'static str {
        match self {
            SetName::ClusterIps => "every ClusterIP",
            SetName::Hairpin => "endpoints on this node: connections to themselves",
            SetName::Affinity => "clients and the endpoint each stays at",
            SetName::Endpoints => "endpoints of each frontend, numbered",
            SetName::EndpointsLocal => "endpoints on this node, for traffic from outside",
            SetName::Firewalled => "load-balancer frontends with source ranges",
            SetName::Allowed => "source ranges of load-balancer frontends",
            SetName::Services => "frontends, to the number of their endpoints",
            SetName::ServicesLocal => "the same for traffic from outside under externalTrafficPolicy Local",
            SetName::NoEndpoints => "frontends without endpoints",
            SetName::MasqExternal => "when connections to external frontends are masqueraded",
            SetName::AffinityServices => "frontends with session affinity",
        }
    }
}

/// The chains of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Chain {
    /// Picks one of so many `endpoints`.
    Pick(u32),
    /// Picks one of so many `endpoints-local`.
    PickLocal(u32),
    /// The client's endpoint, else one of so many `endpoints`.
    Affinity(u32),
    /// The client's endpoint, else one of so many `endpoints-local`.
    AffinityLocal(u32),
    /// Remembers the client's endpoint for so many seconds.
    Learn(u32),
    /// Leaves traffic from outside untranslated.
    NoLocal,
    /// Refuses with an ICMP error.
    RejectIt,
    /// Masquerades ClusterIP traffic that needs it.
    MasqCluster,
    /// Masquerades.
    MasqAlways,
    /// Masquerades the node's own connections, and endpoints to themselves.
    MasqNode,
    /// Decides whether to masquerade.
    Masq,
    /// Finds out for how long to remember a client.
    Learning,
    /// Drops what source ranges exclude.
    Firewall,
    /// Answers connections to frontends without endpoints.
    Undeliverable,
    /// Drops connections to ClusterIPs that no Service has.
    Unallocated,
    /// Base chain
    NatPrerouting,
    /// Base chain
    NatOutput,
    /// Base chain
    NatPostrouting,
    /// Base chain
    FirewallPrerouting,
    /// Base chain
    FirewallOutput,
    /// Base chain
    FilterInput,
    /// Base chain
    FilterForward,
    /// Base chain
    FilterOutput,
}

/// Chains that exist under one name only.
const NAMED: [(Chain, &str); 18] = [
    (Chain::NoLocal, "no-local"),
    (Chain::RejectIt, "reject-it"),
    (Chain::MasqCluster, "masq-cluster"),
    (Chain::MasqAlways, "masq-always"),
    (Chain::MasqNode, "masq-node"),
    (Chain::Masq, "masq"),
    (Chain::Learning, "learn"),
    (Chain::Firewall, "firewall"),
    (Chain::Undeliverable, "undeliverable"),
    (Chain::Unallocated, "unallocated"),
    (Chain::NatPrerouting, "nat-prerouting"),
    (Chain::NatOutput, "nat-output"),
    (Chain::NatPostrouting, "nat-postrouting"),
    (Chain::FirewallPrerouting, "firewall-prerouting"),
    (Chain::FirewallOutput, "firewall-output"),
    (Chain::FilterInput, "filter-input"),
    (Chain::FilterForward, "filter-forward"),
    (Chain::FilterOutput, "filter-output"),
];

impl Chain {
    /// Its name in the kernel.
    pub(crate) fn name(self) -> String {
        match self {
            Chain::Pick(count) => format!("pick-{count}"),
            Chain::PickLocal(count) => format!("pick-local-{count}"),
            Chain::Affinity(count) => format!("affinity-{count}"),
            Chain::AffinityLocal(count) => format!("affinity-local-{count}"),
            Chain::Learn(seconds) => format!("learn-{seconds}"),
            named => NAMED.iter().find(|(chain, _)| *chain == named).map_or("", |(_, name)| name).to_owned(),
        }
    }

    /// The chain of that name, if it can be one of ours.
    pub(crate) fn parse(name: &str) -> Option<Chain> {
        if let Some((chain, _)) = NAMED.iter().find(|(_, of)| *of == name) {
            return Some(*chain);
        }
        let (kind, number) = name.rsplit_once('-')?;
        let number: u32 = number.parse().ok()?;
        let chain = match kind {
            "pick" => Chain::Pick(number),
            "pick-local" => Chain::PickLocal(number),
            "affinity" => Chain::Affinity(number),
            "affinity-local" => Chain::AffinityLocal(number),
            "learn" => Chain::Learn(number),
            _ => return None,
        };
        // "pick-03" and "pick-0" are nobody's.
        (number > 0 && chain.name() == name).then_some(chain)
    }

    /// It exists once for each number in use, and comes and goes with it.
    pub(crate) fn is_numbered(self) -> bool {
        matches!(
            self,
            Chain::Pick(_)
                | Chain::PickLocal(_)
                | Chain::Affinity(_)
                | Chain::AffinityLocal(_)
                | Chain::Learn(_)
        )
    }

    /// Where the kernel calls it. Rejecting and source ranges stand beside NAT so that no other table has to
    /// be considered: ranges before translation, answers to what was not translated after it.
    pub(crate) fn base(self) -> Option<BaseChain> {
        let (kind, hook, priority) = match self {
            Chain::NatPrerouting => (ChainType::Nat, Hook::Prerouting, -100),
            Chain::NatOutput => (ChainType::Nat, Hook::Output, -100),
            Chain::NatPostrouting => (ChainType::Nat, Hook::Postrouting, 100),
            Chain::FirewallPrerouting => (ChainType::Filter, Hook::Prerouting, -110),
            Chain::FirewallOutput => (ChainType::Filter, Hook::Output, -110),
            Chain::FilterInput => (ChainType::Filter, Hook::Input, -90),
            Chain::FilterForward => (ChainType::Filter, Hook::Forward, -90),
            Chain::FilterOutput => (ChainType::Filter, Hook::Output, -90),
            _ => return None,
        };
        Some(BaseChain { kind, hook, priority })
    }

    fn comment(self) -> Option<&'static str> {
        Some(match self {
            Chain::NoLocal => "no endpoint on this node: left alone, then dropped",
            Chain::MasqCluster => "ClusterIPs",
            Chain::MasqAlways => "external frontends, policy Cluster",
            Chain::MasqNode => "external frontends, policy Local",
            Chain::Masq => "by the destination before translation",
            Chain::Firewall => "loadBalancerSourceRanges",
            Chain::Undeliverable => "what no endpoint takes",
            Chain::Unallocated => "ClusterIPs that no Service has",
            _ => return None,
        })
    }

    /// As the kernel is told.
    pub(crate) fn declaration(self) -> nft::Chain {
        nft::Chain { name: self.name(), kind: self.base(), comment: self.comment().map(Into::into) }
    }
}

/// What some Service needs, and what costs every packet something while it is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Five independent facts.
pub(crate) struct Features {
    /// Other endpoints for traffic from outside
    pub(crate) services_local: bool,
    /// External frontends
    pub(crate) masq_external: bool,
    /// Session affinity
    pub(crate) affinity: bool,
    /// Source ranges
    pub(crate) firewall: bool,
    /// Frontends, other than ClusterIPs, without endpoints
    pub(crate) no_endpoints: bool,
}

impl Features {
    /// What both have.
    pub(crate) fn intersection(self, other: Features) -> Features {
        Features {
            services_local: self.services_local && other.services_local,
            masq_external: self.masq_external && other.masq_external,
            affinity: self.affinity && other.affinity,
            firewall: self.firewall && other.firewall,
            no_endpoints: self.no_endpoints && other.no_endpoints,
        }
    }

    /// What either needs.
    pub(crate) fn union(self, other: Features) -> Features {
        Features {
            services_local: self.services_local || other.services_local,
            masq_external: self.masq_external || other.masq_external,
            affinity: self.affinity || other.affinity,
            firewall: self.firewall || other.firewall,
            no_endpoints: self.no_endpoints || other.no_endpoints,
        }
    }
}

/// What the rules of one table depend on, apart from the numbered chains.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schema<'a> {
    pub(crate) family: Family,
    pub(crate) settings: &'a Settings,
    pub(crate) features: Features,
}

impl Schema<'_> {
    /// The chains that exist whatever the numbers of endpoints, each after those that it leads to.
    pub(crate) fn chains(&self) -> Vec<Chain> {
        NAMED
            .iter()
            .map(|(chain, _)| *chain)
            .filter(|chain| match chain {
                Chain::Learning => self.features.affinity,
                Chain::Firewall | Chain::FirewallPrerouting | Chain::FirewallOutput => self.features.firewall,
                Chain::Unallocated => self.service_networks().next().is_some(),
                _ => true,
            })
            .collect()
    }

    fn service_networks(&self) -> impl Iterator<Item = IpNet> {
        self.settings
            .service_networks
            .iter()
            .copied()
            .filter(|network| Family::of(network.addr()) == self.family)
    }

    /// The rules of `chain`, in order.
    pub(crate) fn rules(&self, chain: Chain) -> Vec<Rule> {
        let undeliverable = || rule([ct_state_new(), jump(Chain::Undeliverable)]);
        match chain {
            Chain::Pick(count) => vec![rule([self.pick(count, SetName::Endpoints)])],
            Chain::PickLocal(count) => vec![rule([self.pick(count, SetName::EndpointsLocal)])],
            Chain::Affinity(count) => {
                vec![rule([self.stay()]), rule([self.pick(count, SetName::Endpoints)])]
            }
            Chain::AffinityLocal(count) => {
                vec![rule([self.stay()]), rule([self.pick(count, SetName::EndpointsLocal)])]
            }
            Chain::Learn(seconds) => self.learn(seconds),
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
            Chain::Learning => self.by_original_frontend(SetName::AffinityServices),
            Chain::Firewall => {
                let words = self.frontend_words();
                let mut not_allowed = self.frontend(0);
                not_allowed.push(lookup(SetName::Firewalled));
                not_allowed.extend(self.frontend(0));
                if self.family == Family::V4 {
                    // `ip protocol`: nft 1.0.6 cannot load `meta l4proto` in a set of ranges from text.
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
                vec![rule([not_allowed])]
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
                    let dispatch = vec![vmap(SetName::ServicesLocal)];
                    rules.push(rule([self.not_local().unwrap_or_default(), self.frontend(0), dispatch]));
                }
                rules.extend(self.dispatch());
                rules
            }
            Chain::NatOutput => self.dispatch(),
            Chain::NatPostrouting => {
                let mut rules = Vec::new();
                if self.features.affinity {
                    rules.push(rule([ct_status_dnat(), jump(Chain::Learning)]));
                }
                rules.push(rule([ct_status_dnat(), jump(Chain::Masq)]));
                rules
            }
            Chain::FirewallPrerouting | Chain::FirewallOutput => {
                vec![rule([ct_state_new(), jump(Chain::Firewall)])]
            }
            Chain::FilterInput => vec![undeliverable()],
            // A ClusterIP is never an address of the node: what comes in for one is for somebody else's.
            Chain::FilterForward | Chain::FilterOutput => {
                let mut rules = vec![undeliverable()];
                if self.service_networks().next().is_some() {
                    rules.push(rule([ct_state_new(), jump(Chain::Unallocated)]));
                }
                rules
            }
        }
    }

    /// `ip daddr . meta l4proto . th dport vmap @services`, twice: a packet may read the number of endpoints
    /// just before a commit and look for the last of them just after it. That look-up fails, its chain ends,
    /// and the second rule starts over.
    fn dispatch(&self) -> Vec<Rule> {
        let once = || [self.frontend(0), vec![vmap(SetName::Services)]];
        vec![rule(once()), commented(once(), "again for who met a commit in between")]
    }

    /// `dnat to numgen random mod COUNT . ip daddr . meta l4proto . th dport map @SET`
    fn pick(&self, count: u32, endpoints: SetName) -> Vec<Expr> {
        let mut exprs = vec![Expr::RandomBelow { modulus: count, dest: Register::word(0) }];
        exprs.extend(self.frontend(1));
        exprs.extend(self.translate(endpoints));
        exprs
    }

    /// `dnat to ip saddr . ip daddr . meta l4proto . th dport map @affinity`
    fn stay(&self) -> Vec<Expr> {
        let mut exprs = vec![self.source(0)];
        exprs.extend(self.frontend(self.address_words()));
        exprs.extend(self.translate(SetName::Affinity));
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

    /// `update @affinity { client . frontend timeout T : endpoint }`, a rule for each protocol: nft gives ports
    /// of the original tuple a type only after a match on one.
    fn learn(&self, seconds: u32) -> Vec<Rule> {
        let address = self.address_words();
        let v6 = self.family == Family::V6;
        let (source, destination) = if v6 {
            (CtKey::SourceIp6, CtKey::DestinationIp6)
        } else {
            (CtKey::SourceIp, CtKey::DestinationIp)
        };
        let load =
            |key, direction, at| Expr::Ct { key, direction: Some(direction), dest: Register::word(at) };
        let data = 2 * address + 2;
        Protocol::ALL
            .into_iter()
            .map(|protocol| {
                let update = vec![
                    load(source, Direction::Original, 0),
                    load(destination, Direction::Original, address),
                    Expr::Meta { key: MetaKey::L4Proto, dest: Register::word(2 * address) },
                    load(CtKey::ProtoDestination, Direction::Original, 2 * address + 1),
                    load(source, Direction::Reply, data),
                    load(CtKey::ProtoSource, Direction::Reply, data + address),
                    Expr::UpdateSet {
                        set: SetName::Affinity.name().into(),
                        key: Register::R1,
                        data: Some(Register::word(data)),
                        timeout: Some(Duration::from_secs(seconds.into())),
                    },
                ];
                rule([protocol_is(protocol), update])
            })
            .collect()
    }

    /// A verdict map asked for the destination before translation, a rule for each protocol as in `learn`.
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

    /// Sources that are not pods of this node (spec §4.8); `None` where nothing tells them apart.
    fn not_local(&self) -> Option<Vec<Expr>> {
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

    fn reject(&self) -> Vec<Expr> {
        vec![Expr::RejectPortUnreachable { ipv6: self.family == Family::V6 }]
    }

    fn original_address(&self, dest: Register) -> Expr {
        let key = if self.family == Family::V6 { CtKey::DestinationIp6 } else { CtKey::DestinationIp };
        Expr::Ct { key, direction: Some(Direction::Original), dest }
    }

    /// `ip daddr . meta l4proto . th dport` into registers from word `at` on.
    fn frontend(&self, at: u32) -> Vec<Expr> {
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

fn rule<const N: usize>(parts: [Vec<Expr>; N]) -> Rule {
    Rule { exprs: parts.into_iter().flatten().collect(), comment: None }
}

fn commented<const N: usize>(parts: [Vec<Expr>; N], comment: &str) -> Rule {
    Rule { exprs: parts.into_iter().flatten().collect(), comment: Some(comment.into()) }
}

fn lookup(set: SetName) -> Expr {
    Expr::Lookup { set: set.name().into(), source: Register::R1, dest: None, inverted: false }
}

fn vmap(map: SetName) -> Expr {
    Expr::Lookup {
        set: map.name().into(),
        source: Register::R1,
        dest: Some(Register::VERDICT),
        inverted: false,
    }
}

fn jump(chain: Chain) -> Vec<Expr> {
    vec![Expr::Immediate(nft::Verdict::Jump(chain.name()))]
}

fn protocol_is(protocol: Protocol) -> Vec<Expr> {
    vec![
        Expr::Meta { key: MetaKey::L4Proto, dest: Register::R1 },
        Expr::Cmp { op: CmpOp::Equal, source: Register::R1, value: vec![protocol.number()] },
    ]
}

/// `ct state new`: bit 3 of `NF_CT_STATE_BIT`.
fn ct_state_new() -> Vec<Expr> {
    ct_bit(CtKey::State, 1 << 3)
}

/// `ct status dnat`: `IPS_DST_NAT`.
fn ct_status_dnat() -> Vec<Expr> {
    ct_bit(CtKey::Status, 1 << 5)
}

fn ct_bit(key: CtKey, bit: u32) -> Vec<Expr> {
    vec![
        Expr::Ct { key, direction: None, dest: Register::R1 },
        Expr::Bitwise {
            source: Register::R1,
            dest: Register::R1,
            mask: bit.to_ne_bytes().into(),
            xor: vec![0; 4],
        },
        Expr::Cmp { op: CmpOp::NotEqual, source: Register::R1, value: vec![0; 4] },
    ]
}

/// `fib saddr type local`: `RTN_LOCAL` (linux/rtnetlink.h).
fn source_is_local() -> Vec<Expr> {
    vec![
        Expr::FibSourceType { dest: Register::R1 },
        Expr::Cmp { op: CmpOp::Equal, source: Register::R1, value: 2u32.to_ne_bytes().into() },
    ]
}

/// Compares the address that `load` puts into the first register.
fn in_network(load: Expr, network: IpNet, op: CmpOp) -> Vec<Expr> {
    let mut value = Vec::with_capacity(16);
    let mut mask = Vec::with_capacity(16);
    super::element::put_address(&mut value, network.network());
    super::element::put_address(&mut mask, network.netmask());
    let mut exprs = vec![load];
    if network.prefix_len() < network.max_prefix_len() {
        let xor = vec![0; mask.len()];
        exprs.push(Expr::Bitwise { source: Register::R1, dest: Register::R1, mask, xor });
    }
    exprs.push(Expr::Cmp { op, source: Register::R1, value });
    exprs
}

/// Whether a chain in the kernel is called where `chain` has to be.
pub(crate) fn is_in_place(chain: Chain, info: &nft::ChainInfo) -> bool {
    info.kind == chain.base() && info.is_base == chain.base().is_some() && !info.drops
}

/// `set` as the kernel is told; `id` is its number in the batch.
pub(crate) fn declare_set(set: SetName, family: Family, id: u32) -> nft::Set {
    use nft::Field::{DestinationAddress, DestinationPort, IpProtocol, L4Proto, Random, SourceAddress};
    let (key, data): (&'static [nft::Field], Option<DataType>) = match set {
        SetName::ClusterIps => (&[DestinationAddress], None),
        SetName::Hairpin => (&[SourceAddress, DestinationAddress], None),
        SetName::Affinity => (
            &[SourceAddress, DestinationAddress, L4Proto, DestinationPort],
            Some(DataType::Value(&[DestinationAddress, DestinationPort])),
        ),
        SetName::Endpoints | SetName::EndpointsLocal => (
            &[Random, DestinationAddress, L4Proto, DestinationPort],
            Some(DataType::Value(&[DestinationAddress, DestinationPort])),
        ),
        SetName::Firewalled => (&[DestinationAddress, L4Proto, DestinationPort], None),
        SetName::Allowed if family == Family::V4 => {
            (&[DestinationAddress, IpProtocol, DestinationPort, SourceAddress], None)
        }
        SetName::Allowed => (&[DestinationAddress, L4Proto, DestinationPort, SourceAddress], None),
        SetName::Services
        | SetName::ServicesLocal
        | SetName::NoEndpoints
        | SetName::MasqExternal
        | SetName::AffinityServices => {
            (&[DestinationAddress, L4Proto, DestinationPort], Some(DataType::Verdict))
        }
    };
    let learnt = set == SetName::Affinity;
    nft::Set {
        name: set.name().into(),
        id,
        key: KeyType(key),
        data,
        dynamic: learnt,
        timeouts: learnt,
        interval: set == SetName::Allowed,
        size: learnt.then_some(AFFINITY_SIZE),
        comment: Some(set.comment().into()),
    }
}

/// Whether a set in the kernel is ours as this version of the program declares it.
pub(crate) fn is_like(set: SetName, family: Family, info: &nft::SetInfo) -> bool {
    let declared = declare_set(set, family, 0);
    let table = table(family).family;
    info.name == declared.name
        && info.flags == declared.flags()
        && info.key_len == declared.key_len(table)
        && info.data_len == declared.data_len(table)
        && info.size == declared.size
        && info.userdata == declared.userdata(table)
}
