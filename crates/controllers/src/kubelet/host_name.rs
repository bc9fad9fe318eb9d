//! A pod's host name.

use super::Naming;

/// The longest label of a DNS name (RFC 1035 §2.3.4).
const LABEL_MAX: usize = 63;
/// The longest host name that the kernel keeps (`__NEW_UTS_LEN`).
const KERNEL_MAX: usize = 64;

/// What a pod is called within itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName {
    /// Its name.
    pub name: String,
    /// What comes behind it in `/etc/hosts`, without a dot before it; empty for nothing.
    pub domain: String,
    /// Whether the kernel has the domain, too.
    in_kernel: bool,
}

/// A host name with its domain that the kernel does not keep: kubelet does not start such a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostNameTooLong(
    /// Name and domain.
    pub String,
);

impl HostName {
    /// Of the pod `name` in `namespace`, in a cluster with this domain.
    pub fn of_pod(naming: &Naming, namespace: &str, name: &str, cluster_domain: &str) -> HostName {
        if let Some(own) = &naming.hostname_override {
            return HostName { name: own.to_string(), domain: String::new(), in_kernel: false };
        }
        let own = naming.hostname.as_deref().unwrap_or(name);
        let cut = own.char_indices().nth(LABEL_MAX).map_or(own, |(end, _)| {
            // Nothing that a name cannot end with.
            own[..end].trim_end_matches(['-', '.'])
        });
        let domain = naming
            .subdomain
            .as_deref()
            .map_or_else(String::new, |subdomain| format!("{subdomain}.{namespace}.svc.{cluster_domain}"));
        HostName { name: cut.to_owned(), domain, in_kernel: naming.hostname_as_fqdn }
    }

    /// The name with its domain, if it has one.
    pub fn full(&self) -> String {
        if self.domain.is_empty() { self.name.clone() } else { format!("{}.{}", self.name, self.domain) }
    }

    /// What `hostname` prints there.
    pub fn kernel(&self) -> Result<String, HostNameTooLong> {
        let name = if self.in_kernel { self.full() } else { self.name.clone() };
        if name.len() > KERNEL_MAX { Err(HostNameTooLong(name)) } else { Ok(name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names() {
        let plain = Naming::default();
        let hostname = Naming { hostname: Some("h".into()), ..Naming::default() };
        let subdomain = Naming { subdomain: Some("db".into()), ..Naming::default() };
        let both = Naming { subdomain: Some("db".into()), ..hostname.clone() };
        let full = Naming { hostname_as_fqdn: true, ..both.clone() };
        let alone = Naming { hostname_as_fqdn: true, ..plain.clone() };
        let other = Naming { hostname_override: Some("a.example".into()), ..both.clone() };
        let (long, dashed) = ("a".repeat(70), format!("{}-.-b", "a".repeat(60)));
        let (cut, trimmed) = ("a".repeat(63), "a".repeat(60));
        for (situation, naming, pod, name, domain, kernel) in [
            ("nothing asked for", &plain, "web-1", "web-1", "", "web-1"),
            ("a name of its own", &hostname, "web-1", "h", "", "h"),
            ("a subdomain alone", &subdomain, "web-1", "web-1", "db.shop.svc.z", "web-1"),
            ("both", &both, "web-1", "h", "db.shop.svc.z", "h"),
            ("in the kernel, too", &full, "web-1", "h", "db.shop.svc.z", "h.db.shop.svc.z"),
            ("without a domain", &alone, "web-1", "web-1", "", "web-1"),
            ("another name altogether", &other, "web-1", "a.example", "", "a.example"),
            ("the name of a long pod", &plain, &long, &cut, "", &cut),
            ("cut at what no name ends with", &plain, &dashed, &trimmed, "", &trimmed),
        ] {
            let found = HostName::of_pod(naming, "shop", pod, "z");
            assert_eq!((found.name.as_str(), found.domain.as_str()), (name, domain), "{situation}");
            assert_eq!(found.kernel().as_deref(), Ok(kernel), "{situation}");
        }
    }

    #[test]
    fn the_kernel_keeps_64_octets() {
        let naming = Naming { subdomain: Some("s".into()), hostname_as_fqdn: true, ..Naming::default() };
        // `.s.ns.svc.z` has 11.
        let (most, more) = ("a".repeat(53), "a".repeat(54));
        let of = |pod: &str| HostName::of_pod(&naming, "ns", pod, "z").kernel();
        assert_eq!(of(&most).map(|name| name.len()), Ok(64));
        assert_eq!(of(&more), Err(HostNameTooLong(format!("{more}.s.ns.svc.z"))));
    }
}
