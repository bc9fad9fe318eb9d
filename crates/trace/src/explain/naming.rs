//! Names of Services in comments and in names of chains.

use ipnet::IpNet;

/// A Service port as rules name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PortName {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) port: String,
}

impl PortName {
    /// `namespace/name:port`.
    pub(super) fn title(&self) -> String {
        let colon = if self.port.is_empty() { "" } else { ":" };
        format!("{}/{}{colon}{}", self.namespace, self.name, self.port)
    }

    /// The first word of a comment that names a Service port (spec §1.19, §5.21-5.31, §5.47).
    pub(super) fn in_comment(comment: &str) -> Option<PortName> {
        comment.split(' ').find_map(PortName::of_word)
    }

    fn of_word(word: &str) -> Option<PortName> {
        let (namespace, rest) = word.split_once('/')?;
        let (name, port) = rest.split_once(':').unwrap_or((rest, ""));
        let is_label = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-.".contains(&c))
        };
        let named = is_label(namespace) && is_label(name) && (port.is_empty() || is_label(port));
        (named && word.parse::<IpNet>().is_err()).then(|| PortName {
            namespace: namespace.into(),
            name: name.into(),
            port: port.into(),
        })
    }

    /// From a chain of kube-proxy's nftables mode, `service-HASH-namespace/name/protocol/port`
    /// (spec §6.9), or one of our own for session affinity,
    /// `affinity/namespace/name/protocol/port`.
    pub(super) fn in_chain(chain: &str) -> Option<PortName> {
        let of_ours = |kind: &str| matches!(kind, "affinity" | "affinity-local" | "endpoint");
        if let Some((_, base)) = chain.split_once('/').filter(|(kind, _)| of_ours(kind)) {
            return PortName::of_base(base);
        }
        let (kind, rest) = chain.split_once('-')?;
        if !matches!(kind, "service" | "local" | "external" | "firewall" | "endpoint") {
            return None;
        }
        let (_, base) = rest.split_once('-')?;
        PortName::of_base(base)
    }

    fn of_base(base: &str) -> Option<PortName> {
        let mut words = base.splitn(4, '/');
        let (namespace, name, _, port) = (words.next()?, words.next()?, words.next()?, words.next()?);
        // An endpoint may follow: after "__" with kube-proxy, after "/" with us.
        let port = port.split("__").next().unwrap_or(port);
        let port = port.split('/').next().unwrap_or(port);
        Some(PortName { namespace: namespace.into(), name: name.into(), port: port.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found() {
        let cases = [
            ("ClusterIP (§5.21)", "shop/web:http cluster IP", Some("shop/web:http")),
            ("unnamed port", "shop/web cluster IP", Some("shop/web")),
            ("unnamed port of 2017 (§5.47)", "default/svc-test-1: cluster IP", Some("default/svc-test-1")),
            (
                "in the middle (§5.28)",
                "masquerade traffic for a-b/c:d external destinations",
                Some("a-b/c:d"),
            ),
            ("an endpoint (§5.30)", "shop/web:http -> 10.1.1.1:80", Some("shop/web:http")),
            ("a network is no Service", "pods of 10.244.0.0/16", None),
            ("no name", "kubernetes service portals", None),
        ];
        for (name, comment, expected) in cases {
            let found = PortName::in_comment(comment).map(|found| found.title());
            assert_eq!(found.as_deref(), expected, "{name}");
        }
        let chains = [
            ("a Service port (§6.9)", "service-ULMVA6XW-my-ns/web/tcp/p80", Some("my-ns/web:p80")),
            ("without a port name", "external-ULMVA6XW-ns1/svc1/tcp/", Some("ns1/svc1")),
            ("an endpoint", "endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.1.1.1/80", Some("ns1/svc1:p80")),
            ("our own, an endpoint", "endpoint/ns1/svc1/tcp/p80/10.1.1.1/80", Some("ns1/svc1:p80")),
            ("our own, with affinity", "affinity-local/ns1/svc1/tcp/p80", Some("ns1/svc1:p80")),
            ("a fixed chain", "firewall-check", None),
        ];
        for (name, chain, expected) in chains {
            assert_eq!(PortName::in_chain(chain).map(|found| found.title()).as_deref(), expected, "{name}");
        }
    }
}
