//! `/etc/resolv.conf`.

use std::fmt;
use std::net::IpAddr;

use super::{DnsPolicy, Naming};

/// So many name servers are asked at most, as by glibc (`MAXNS`).
const SERVERS_MAX: usize = 3;
/// So many domains are searched at most.
const SEARCHES_MAX: usize = 32;
/// So long is the list of them at most, octets, with the spaces between them.
const SEARCHES_LEN_MAX: usize = 2048;
/// So long is one of them at most; some resolvers crash on a longer one.
const DOMAIN_MAX: usize = 253;
/// The option of pods that use the cluster's DNS.
const CLUSTER_OPTION: &str = "ndots:5";
/// How many dots a name has at least to be asked for before the domains are searched, if no option
/// says so (resolv.conf(5)).
const NDOTS: usize = 1;

/// What a resolver is configured with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Whom to ask.
    pub servers: Vec<IpAddr>,
    /// The domains that names without one may be in.
    pub searches: Vec<String>,
    /// Such as `ndots:5`.
    pub options: Vec<String>,
}

/// The cluster's DNS, as kubelet is configured with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDns {
    /// `clusterDNS`: addresses of its Service.
    pub servers: Vec<IpAddr>,
    /// `clusterDomain`, such as `cluster.local`.
    pub domain: String,
}

impl ResolvConf {
    /// That of a pod in `namespace`, on a node with its own. Without a DNS of the cluster, it is
    /// the node's.
    pub fn of_pod(naming: &Naming, namespace: &str, cluster: &ClusterDns, node: &ResolvConf) -> ResolvConf {
        let asks_cluster = match naming.policy {
            DnsPolicy::ClusterFirst => !naming.host_network,
            DnsPolicy::ClusterFirstWithHostNet => true,
            DnsPolicy::Default | DnsPolicy::None => false,
        };
        let mut own = if naming.policy == DnsPolicy::None {
            ResolvConf::default()
        } else if asks_cluster && !cluster.servers.is_empty() {
            ResolvConf::of_cluster(namespace, cluster, node)
        } else {
            node.clone()
        };
        add(&mut own.servers, &naming.dns.servers);
        add(&mut own.searches, &naming.dns.searches);
        for (name, value) in &naming.dns.options {
            own.set_option(name, value.as_deref());
        }
        own.limit();
        own
    }

    fn of_cluster(namespace: &str, cluster: &ClusterDns, node: &ResolvConf) -> ResolvConf {
        let domain = &cluster.domain;
        let mut searches = Vec::new();
        let own = [format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
        add(&mut searches, &own);
        add(&mut searches, &node.searches);
        ResolvConf { servers: cluster.servers.clone(), searches, options: vec![CLUSTER_OPTION.to_owned()] }
    }

    /// An option of the same name is replaced.
    fn set_option(&mut self, name: &str, value: Option<&str>) {
        let text = match value.filter(|value| !value.is_empty()) {
            Some(value) => format!("{name}:{value}"),
            None => name.to_owned(),
        };
        match self.options.iter_mut().find(|option| option.split(':').next() == Some(name)) {
            Some(option) => *option = text,
            None => self.options.push(text),
        }
    }

    fn limit(&mut self) {
        self.servers.truncate(SERVERS_MAX);
        self.searches.truncate(SEARCHES_MAX);
        self.searches.retain(|domain| domain.len() <= DOMAIN_MAX);
        while self.searches.join(" ").len() > SEARCHES_LEN_MAX {
            self.searches.pop();
        }
    }

    /// Reads one (resolv.conf(5)). What it does not know, or cannot read, is passed over.
    pub fn parse(text: &str) -> ResolvConf {
        let mut read = ResolvConf::default();
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    read.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
                }
                // The last one counts.
                Some("search" | "domain") => {
                    read.searches = words.map(|word| bare(word).to_owned()).collect();
                }
                Some("options") => {
                    for word in words {
                        let (name, value) =
                            word.split_once(':').map_or((word, None), |(name, value)| (name, Some(value)));
                        read.set_option(name, value);
                    }
                }
                _ => {}
            }
        }
        read
    }

    /// How many dots a name has at least to be asked for before the domains are searched.
    pub fn ndots(&self) -> usize {
        let given = self.options.iter().rev().find_map(|option| option.strip_prefix("ndots:")?.parse().ok());
        given.unwrap_or(NDOTS)
    }

    /// The names that are asked for when `name` is looked up, one after the other until one is
    /// found, as by glibc, without dots at their ends.
    pub fn questions(&self, name: &str) -> Vec<String> {
        let as_is = bare(name).to_owned();
        if name.ends_with('.') {
            return vec![as_is];
        }
        let searched = self.searches.iter().map(|domain| match bare(domain) {
            "" => as_is.clone(),
            domain => format!("{as_is}.{domain}"),
        });
        let mut all: Vec<String> = searched.collect();
        let first = name.matches('.').count() >= self.ndots();
        all.insert(if first { 0 } else { all.len() }, as_is);
        let mut seen = Vec::new();
        add(&mut seen, &all);
        seen
    }
}

impl fmt::Display for ResolvConf {
    /// The text of the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.searches.is_empty() {
            writeln!(f, "search {}", self.searches.join(" "))?;
        }
        for server in &self.servers {
            writeln!(f, "nameserver {server}")?;
        }
        if !self.options.is_empty() {
            writeln!(f, "options {}", self.options.join(" "))?;
        }
        Ok(())
    }
}

/// Appends what is not there yet.
fn add<T: PartialEq + Clone>(list: &mut Vec<T>, more: &[T]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

/// A name without the dot at its end.
fn bare(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DnsConfig;

    const NODE: &str = "nameserver 192.0.2.53\nsearch corp.example corp.example.\noptions timeout:1 rotate\n";

    fn cluster() -> ClusterDns {
        ClusterDns { servers: vec!["10.96.0.10".parse().unwrap()], domain: "cluster.local".to_owned() }
    }

    fn config(servers: &[&str], searches: &[&str], options: &[(&str, Option<&str>)]) -> DnsConfig {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        DnsConfig {
            servers: servers.iter().map(|text| text.parse().unwrap()).collect(),
            searches: texts(searches),
            options: options
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)))
                .collect(),
        }
    }

    fn made(naming: &Naming) -> String {
        ResolvConf::of_pod(naming, "shop", &cluster(), &ResolvConf::parse(NODE)).to_string()
    }

    const SEARCH: &str = "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example";
    const OF_CLUSTER: &str = "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\n\
        nameserver 10.96.0.10\noptions ndots:5\n";
    const OF_NODE: &str =
        "search corp.example corp.example\nnameserver 192.0.2.53\noptions timeout:1 rotate\n";

    #[test]
    fn policies() {
        use DnsPolicy::{ClusterFirst, ClusterFirstWithHostNet, Default as OfNode, None as Alone};
        for (policy, host_network, expected) in [
            (ClusterFirst, false, OF_CLUSTER),
            (ClusterFirst, true, OF_NODE),
            (ClusterFirstWithHostNet, false, OF_CLUSTER),
            (ClusterFirstWithHostNet, true, OF_CLUSTER),
            (OfNode, false, OF_NODE),
            (OfNode, true, OF_NODE),
            (Alone, false, ""),
            (Alone, true, ""),
        ] {
            let naming = Naming { host_network, policy, ..Naming::default() };
            assert_eq!(made(&naming), expected, "{policy:?}, host network: {host_network}");
        }
        let nobody = ClusterDns { servers: Vec::new(), ..cluster() };
        let own = ResolvConf::of_pod(&Naming::default(), "shop", &nobody, &ResolvConf::parse(NODE));
        assert_eq!(own.to_string(), OF_NODE, "a cluster without DNS");
    }

    #[test]
    fn configurations_are_merged() {
        use DnsPolicy::{ClusterFirst, None as Alone};
        let too_many: Vec<String> = (0..40).map(|number| format!("d{number}")).collect();
        let too_many: Vec<&str> = too_many.iter().map(String::as_str).collect();
        let long = format!("{}examples", "a.".repeat(123));
        let wide: Vec<String> = (0..28).map(|number| format!("d{number:02}.{}", "a".repeat(70))).collect();
        let wide: Vec<&str> = wide.iter().map(String::as_str).collect();
        for (situation, policy, dns, expected) in [
            (
                "more of each",
                ClusterFirst,
                config(&["192.0.2.1"], &["a.example"], &[("timeout", Some("2")), ("rotate", None)]),
                format!(
                    "{SEARCH} a.example\nnameserver 10.96.0.10\nnameserver 192.0.2.1\noptions ndots:5 timeout:2 rotate\n"
                ),
            ),
            (
                "the same again",
                ClusterFirst,
                config(&["10.96.0.10"], &["svc.cluster.local"], &[("ndots", Some("2"))]),
                format!("{SEARCH}\nnameserver 10.96.0.10\noptions ndots:2\n"),
            ),
            (
                "an option without its value",
                ClusterFirst,
                config(&[], &[], &[("ndots", Some("")), ("edns0", None)]),
                format!("{SEARCH}\nnameserver 10.96.0.10\noptions ndots edns0\n"),
            ),
            (
                "alone",
                Alone,
                config(&["fd00::1", "1.1.1.1"], &["x"], &[("edns0", None)]),
                "search x\nnameserver fd00::1\nnameserver 1.1.1.1\noptions edns0\n".to_owned(),
            ),
            (
                "four name servers",
                ClusterFirst,
                config(&["1.1.1.1", "2.2.2.2", "3.3.3.3"], &[], &[]),
                format!(
                    "{SEARCH}\nnameserver 10.96.0.10\nnameserver 1.1.1.1\nnameserver 2.2.2.2\noptions ndots:5\n"
                ),
            ),
            (
                "forty domains",
                Alone,
                config(&["1.1.1.1"], &too_many, &[]),
                format!("search {}\nnameserver 1.1.1.1\n", too_many[..32].join(" ")),
            ),
            (
                "a domain of 254",
                Alone,
                config(&["1.1.1.1"], &["a", &long, "b"], &[]),
                "search a b\nnameserver 1.1.1.1\n".to_owned(),
            ),
            (
                // 27 of 74 and the spaces between them are 2024, one more would be 2099.
                "2099 octets of domains",
                Alone,
                config(&["1.1.1.1"], &wide, &[]),
                format!("search {}\nnameserver 1.1.1.1\n", wide[..27].join(" ")),
            ),
        ] {
            assert_eq!(made(&Naming { policy, dns, ..Naming::default() }), expected, "{situation}");
        }
        assert_eq!(long.len(), 253 + 1, "the long domain is one too long");
    }

    #[test]
    fn files_are_read() {
        for (text, expected) in [
            ("", ""),
            ("# search a\n;nameserver 1.1.1.1\n  \n", ""),
            ("nameserver 1.1.1.1 2.2.2.2\nnameserver x\n", "nameserver 1.1.1.1\n"),
            ("search a. b\ndomain c\n", "search c\n"),
            ("options ndots:2\noptions edns0 ndots:3\n", "options ndots:3 edns0\n"),
            ("sortlist 1.2.3.4\n\tnameserver fd00::1\n", "nameserver fd00::1\n"),
        ] {
            assert_eq!(ResolvConf::parse(text).to_string(), expected, "{text:?}");
        }
    }

    #[test]
    fn questions_follow_the_search_list() {
        let list = |text: &str| ResolvConf::parse(text);
        let five = list("search a.z z\noptions ndots:5");
        let one = list("search a.z z");
        let root = list("search . z\noptions ndots:5");
        for (situation, conf, name, expected) in [
            ("a name alone", &five, "web", &["web.a.z", "web.z", "web"][..]),
            (
                "few dots",
                &five,
                "www.example.com",
                &["www.example.com.a.z", "www.example.com.z", "www.example.com"],
            ),
            ("a dot at the end", &five, "web.", &["web"]),
            ("five dots", &five, "a.b.c.d.e.f", &["a.b.c.d.e.f", "a.b.c.d.e.f.a.z", "a.b.c.d.e.f.z"]),
            ("one dot is enough by default", &one, "web.shop", &["web.shop", "web.shop.a.z", "web.shop.z"]),
            ("none is not", &one, "web", &["web.a.z", "web.z", "web"]),
            ("the root in the list", &root, "web", &["web", "web.z"]),
            ("no list", &ResolvConf::default(), "web", &["web"]),
        ] {
            assert_eq!(conf.questions(name), expected, "{situation}");
        }
    }
}
