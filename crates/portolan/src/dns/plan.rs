//! What follows from a Corefile, before any of it is done.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use ipnet::IpNet;
use portolan_corefile::{Autopath, Bind, Cache, Corefile, Host, Listen, Log, ServerBlock};
use portolan_dns::MayAsk;
use portolan_names::{PodMode, SOA_TTL_MAX, Search, TTL_MAX};
use portolan_netlink::rtnetlink::Rtnetlink;

use super::access;
use super::fixed::Codes;
use super::metrics::server_label;
use super::search_list;
use super::upstream;

/// What a Corefile asks for.
#[derive(Clone)]
pub(super) struct Plan {
    /// Where questions are answered, and the zones of which server blocks there.
    pub(super) listeners: BTreeMap<SocketAddr, Vec<(usize, Vec<String>)>>,
    /// The server blocks.
    pub(super) blocks: Vec<BlockPlan>,
    /// The cluster's names, one for each server block that has some.
    pub(super) names: Vec<portolan_names::Settings>,
    /// Who may ask.
    pub(super) may_ask: MayAsk,
    /// Which pages are where.
    pub(super) pages: BTreeMap<SocketAddr, PagesThere>,
    /// How long is answered after the end was asked for.
    pub(super) lameduck: Duration,
    /// Whether the Corefile is followed.
    pub(super) reload: bool,
    /// Server, zone and name of each plugin that is in use.
    pub(super) enabled: Vec<(String, String, &'static str)>,
}

/// A server block.
#[derive(Clone)]
pub(super) struct BlockPlan {
    pub(super) upstream: portolan_upstream::Settings,
    /// The number of its names.
    pub(super) names: Option<usize>,
    /// Response codes that are given before anything is looked up.
    pub(super) codes: Codes,
    /// It has static names.
    pub(super) hosts: bool,
    /// Failures are logged.
    pub(super) errors: bool,
    pub(super) log: Vec<Log>,
}

/// Pages at one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct PagesThere {
    pub(super) health: bool,
    pub(super) ready: bool,
    pub(super) metrics: bool,
}

impl Plan {
    /// Of `corefile`. Names of addresses in `own_networks` are nobody else's.
    pub(super) fn new(
        corefile: &Corefile,
        allow_from: &[IpNet],
        own_networks: &[IpNet],
    ) -> anyhow::Result<Plan> {
        let mut plan = Plan {
            listeners: BTreeMap::new(),
            blocks: Vec::new(),
            names: Vec::new(),
            may_ask: access::may_ask(&corefile.blocks, allow_from)?,
            pages: BTreeMap::new(),
            lameduck: Duration::ZERO,
            reload: false,
            enabled: Vec::new(),
        };
        let interfaces = Interfaces::now().context("listing interface addresses")?;
        let everywhere = everywhere();
        for (number, block) in corefile.blocks.iter().enumerate() {
            let addresses = interfaces.bound(&block.bind)?;
            let listening = if addresses.is_empty() { vec![everywhere] } else { addresses.clone() };
            for zone in &block.zones {
                for address in &listening {
                    plan.listen(SocketAddr::new(*address, zone.port), number, &zone.domain);
                }
            }
            let first = SocketAddr::new(listening[0], block.zones[0].port);
            let names = block.kubernetes.as_ref().map(|kubernetes| {
                let own = if addresses.is_empty() { &interfaces.outside() } else { &addresses };
                let names = limited(kubernetes.names.clone(), block.cache.as_ref());
                plan.names.push(portolan_names::Settings {
                    search: search(block.autopath.as_ref(), names.pods),
                    own_addresses: own.clone(),
                    own_networks: own_networks.to_vec(),
                    ..names
                });
                plan.names.len() - 1
            });
            plan.blocks.push(BlockPlan {
                upstream: upstream::settings(block, &server_label(first)),
                names,
                codes: Codes::new(&block.template),
                hosts: block.hosts.is_some(),
                errors: block.errors,
                log: block.log.clone(),
            });
            plan.pages_of(block, everywhere);
            plan.reload |= block.reload.is_some();
            plan.enable(block, first);
        }
        plan.set_own_addresses();
        Ok(plan)
    }

    /// The zones of server blocks that are for `port`, at whatever address.
    pub(super) fn zones_at(&self, port: u16) -> impl Iterator<Item = &(usize, Vec<String>)> {
        self.listeners.iter().filter(move |(address, _)| address.port() == port).flat_map(|(_, zones)| zones)
    }

    /// The same, but what it has for `port` at these addresses, and nothing elsewhere.
    pub(super) fn at(&self, addresses: impl IntoIterator<Item = IpAddr>, port: u16) -> Plan {
        let zones: Vec<(usize, Vec<String>)> = self.zones_at(port).cloned().collect();
        let listeners = addresses.into_iter().map(|address| (SocketAddr::new(address, port), zones.clone()));
        let mut plan = Plan { listeners: listeners.collect(), ..self.clone() };
        plan.set_own_addresses();
        plan
    }

    /// What is sent to where this listens comes back.
    fn set_own_addresses(&mut self) {
        let own: Vec<SocketAddr> = self.listeners.keys().copied().collect();
        for block in &mut self.blocks {
            block.upstream.own_addresses.clone_from(&own);
        }
    }

    fn listen(&mut self, address: SocketAddr, block: usize, domain: &str) {
        let blocks = self.listeners.entry(address).or_default();
        match blocks.iter_mut().find(|(number, _)| *number == block) {
            Some((_, zones)) => zones.push(domain.to_owned()),
            None => blocks.push((block, vec![domain.to_owned()])),
        }
    }

    fn pages_of(&mut self, block: &ServerBlock, everywhere: IpAddr) {
        let mut there = |listen: Listen, mark: fn(&mut PagesThere)| {
            let address = SocketAddr::new(listen.address.unwrap_or(everywhere), listen.port);
            mark(self.pages.entry(address).or_default());
        };
        if let Some(health) = block.health {
            there(health.listen, |pages| pages.health = true);
            self.lameduck = self.lameduck.max(health.lameduck);
        }
        if let Some(ready) = block.ready {
            there(ready.listen, |pages| pages.ready = true);
        }
        if let Some(listen) = block.prometheus {
            there(listen, |pages| pages.metrics = true);
        }
    }

    fn enable(&mut self, block: &ServerBlock, address: SocketAddr) {
        let plugins = [
            ("acl", !block.acl.is_empty()),
            ("autopath", block.autopath.is_some()),
            ("cache", block.cache.is_some()),
            ("errors", block.errors),
            ("forward", !block.forward.is_empty()),
            ("hosts", block.hosts.is_some()),
            ("kubernetes", block.kubernetes.is_some()),
            ("log", !block.log.is_empty()),
            ("loop", block.loop_detection),
            ("prometheus", block.prometheus.is_some()),
            ("template", !block.template.is_empty()),
        ];
        for zone in &block.zones {
            let server = server_label(SocketAddr::new(address.ip(), zone.port));
            let enabled = plugins.iter().filter(|(_, enabled)| *enabled);
            let zone = || if zone.domain == "." { ".".to_owned() } else { format!("{}.", zone.domain) };
            self.enabled.extend(enabled.map(|(plugin, _)| (server.clone(), zone(), *plugin)));
        }
    }
}

/// Server-side search, if it is asked for and the namespaces of pods are known.
fn search(autopath: Option<&Autopath>, pods: PodMode) -> Option<Search> {
    let domains = autopath.filter(|_| pods == PodMode::Verified)?.domains.clone();
    Some(Search { domains, list: search_list::of(Path::new("/etc/resolv.conf")) })
}

/// The settings of `names`, with the TTLs that a cache in front of them makes of theirs. The
/// reference's does so also where it is disabled.
fn limited(mut names: portolan_names::Settings, cache: Option<&Cache>) -> portolan_names::Settings {
    let Some(cache) = cache else { return names };
    let covers = |domain: &String| {
        let within = |zone: &String| zone == domain || zone.ends_with(&format!(".{domain}"));
        domain == "." || names.zones.iter().any(within)
    };
    if !cache.domains.iter().any(covers) {
        return names;
    }
    let (ttl, soa) = (names.ttl, names.ttl.min(SOA_TTL_MAX));
    names.ttl = ttl.max(cache.success.ttl_min).min(cache.success.ttl_max).min(TTL_MAX);
    names.negative_ttl = Some(soa.max(cache.denial.ttl_min).min(cache.denial.ttl_max).min(TTL_MAX));
    names.minimum = Some(ttl);
    names.ttl_limit = Some(cache.success.ttl_max);
    names
}

/// The address that takes questions to any address: IPv4 alone where the kernel has no IPv6.
fn everywhere() -> IpAddr {
    match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => Ipv6Addr::UNSPECIFIED.into(),
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// The addresses of this host, with the names of their interfaces.
struct Interfaces(Vec<(String, IpAddr)>);

impl Interfaces {
    fn now() -> std::io::Result<Interfaces> {
        let mut kernel = Rtnetlink::open()?;
        let links = kernel.links()?;
        let name = |index| links.iter().find(|link| link.index == index).map(|link| link.name.clone());
        let addresses = kernel.addresses()?;
        let named =
            addresses.iter().map(|address| (name(address.index).unwrap_or_default(), address.network.addr()));
        Ok(Interfaces(named.collect()))
    }

    /// Those that others reach: not loopback, nor link-local addresses of IPv6.
    fn outside(&self) -> Vec<IpAddr> {
        let reached = |address: &IpAddr| match address {
            IpAddr::V4(address) => !address.is_loopback(),
            IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
        };
        self.0.iter().map(|(_, address)| *address).filter(reached).collect()
    }

    /// The addresses that `binds` name; none if there are no such lines.
    fn bound(&self, binds: &[Bind]) -> anyhow::Result<Vec<IpAddr>> {
        let mut found = Vec::new();
        for bind in binds {
            let except = self.all(&bind.except, bind)?;
            for address in self.all(&bind.hosts, bind)? {
                if !except.contains(&address) && !found.contains(&address) {
                    found.push(address);
                }
            }
            if found.is_empty() {
                bail!("{}: bind: no address is left: delete what is below except, or the line", bind.place);
            }
        }
        Ok(found)
    }

    fn all(&self, hosts: &[Host], bind: &Bind) -> anyhow::Result<Vec<IpAddr>> {
        let mut found = Vec::new();
        for host in hosts {
            match host {
                Host::Address(address) => found.push(*address),
                Host::Interface(name) => {
                    let before = found.len();
                    let own = self.0.iter().filter(|(interface, _)| interface == name);
                    // Those of links have no meaning without a scope, which addresses here lack.
                    let whole =
                        |address: &IpAddr| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
                    found.extend(own.map(|(_, address)| *address).filter(whole));
                    if found.len() == before {
                        let place = &bind.place;
                        bail!("{place}: bind: {name} is neither an address nor an interface with one");
                    }
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use portolan_corefile::{NoSurroundings, parse};

    use super::*;

    fn plan(text: &str) -> anyhow::Result<Plan> {
        let corefile = parse("C", text, 53, &NoSurroundings).unwrap_or_else(|errors| panic!("{errors}"));
        Plan::new(&corefile, &[], &[])
    }

    #[test]
    fn server_blocks_become_listeners() {
        let text =
            ". {\nkubernetes cluster.local\n}\na:53 b:54 {\n}\nc {\nbind 127.0.0.1 lo {\nexcept ::1\n}\n}";
        let plan = plan(text).unwrap();
        let all = everywhere();
        let expected = BTreeMap::from([
            (SocketAddr::new("127.0.0.1".parse().unwrap(), 53), vec![(2, vec!["c".to_owned()])]),
            (SocketAddr::new(all, 53), vec![(0, vec![".".to_owned()]), (1, vec!["a".to_owned()])]),
            (SocketAddr::new(all, 54), vec![(1, vec!["b".to_owned()])]),
        ]);
        assert_eq!(plan.listeners, expected);
        assert_eq!(plan.blocks[0].names, Some(0));
        assert_eq!((plan.blocks[1].names, plan.names.len()), (None, 1));
        assert_eq!(plan.blocks[2].upstream.own_addresses.len(), 3);
        assert_eq!(plan.enabled, [("dns://:53".to_owned(), ".".to_owned(), "kubernetes")]);
    }

    #[test]
    fn pages_are_where_they_are_asked_for() {
        let plan = plan(
            "a {\nhealth {\nlameduck 3s\n}\nready 127.0.0.1:1\nprometheus :8080\nreload\n}\nb {\nhealth\n}",
        )
        .unwrap();
        let all = everywhere();
        let both = PagesThere { health: true, metrics: true, ready: false };
        let ready = PagesThere { ready: true, ..PagesThere::default() };
        let expected = BTreeMap::from([
            (SocketAddr::new(all, 8080), both),
            (SocketAddr::new("127.0.0.1".parse().unwrap(), 1), ready),
        ]);
        assert_eq!(plan.pages, expected);
        assert_eq!((plan.lameduck, plan.reload), (Duration::from_secs(3), true));
    }

    #[test]
    fn pods_are_searched_for_where_they_are_verified() {
        for (text, expected) in [
            ("pods verified\n}\nautopath @kubernetes", Some(vec![".".to_owned()])),
            ("pods verified\n}\nautopath a.example @kubernetes", Some(vec!["a.example".to_owned()])),
            ("pods insecure\n}\nautopath @kubernetes", None),
            ("pods verified\n}", None),
        ] {
            let plan = plan(&format!(". {{\nkubernetes c.example {{\n{text}\n}}")).unwrap();
            let search = plan.names[0].search.as_ref().map(|search| search.domains.clone());
            assert_eq!(search, expected, "{text}");
        }
    }

    #[test]
    fn a_cache_limits_the_ttls_of_names() {
        for (text, expected) in [
            ("ttl 30\n}", (30, None, None, None)),
            ("ttl 60\n}\ncache 30", (30, Some(30), Some(60), Some(30))),
            ("ttl 600\n}\ncache", (600, Some(300), Some(600), Some(3600))),
            ("ttl 0\n}\ncache {\ndenial 1 20 2\n}", (5, Some(2), Some(0), Some(3600))),
            ("ttl 60\n}\ncache {\nsuccess 1 10\ndenial 1 40\n}", (10, Some(40), Some(60), Some(10))),
            ("ttl 60\n}\ncache 30 other.example", (60, None, None, None)),
            ("ttl 60\n}\ncache 30 example", (30, Some(30), Some(60), Some(30))),
        ] {
            let plan = plan(&format!(". {{\nkubernetes c.example {{\n{text}\n}}")).unwrap();
            let names = &plan.names[0];
            let found = (names.ttl, names.negative_ttl, names.minimum, names.ttl_limit);
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn binds_that_cannot_be_are_named() {
        for (text, expected) in [
            ("a {\nbind none9\n}", "C:2: bind: none9 is neither"),
            ("a {\nbind 127.0.0.1 {\nexcept lo\n}\n}", "C:2: bind: no address is left"),
        ] {
            let error = plan(text).err().unwrap().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
