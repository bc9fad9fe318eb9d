//! `/etc/hosts`.

use std::fmt::Write;
use std::net::IpAddr;

use super::{HostAlias, HostName};

/// That of a pod with these addresses.
pub fn hosts(addresses: &[IpAddr], host: &HostName, aliases: &[HostAlias]) -> String {
    let mut text = "\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"
    .to_owned();
    let full = if host.domain.is_empty() { String::new() } else { format!("{}\t", host.full()) };
    for address in addresses {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{address}\t{full}{}", host.name);
    }
    text + &entries(aliases)
}

/// That of a pod on the network of a node whose own is `of_node`.
pub fn hosts_on_host_network(of_node: &str, aliases: &[HostAlias]) -> String {
    format!("# Kubernetes-managed hosts file (host network).\n{of_node}{}", entries(aliases))
}

fn entries(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let lines = aliases.iter().map(|alias| format!("{}\t{}\n", alias.address, alias.names.join("\t")));
    format!("\n# Entries added by HostAliases.\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Naming;

    const HEAD: &str = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n\
        ::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\n\
        fe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";

    fn alias(address: &str, names: &[&str]) -> HostAlias {
        HostAlias {
            address: address.parse().unwrap(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn files() {
        let of = |subdomain: Option<&str>| {
            let naming = Naming { subdomain: subdomain.map(Into::into), ..Naming::default() };
            HostName::of_pod(&naming, "shop", "web-1", "cluster.local")
        };
        let two: [IpAddr; 2] = ["10.244.1.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let aliases = [alias("1.2.3.4", &["a", "b.example"]), alias("fd00::9", &["c"])];
        for (situation, addresses, host, aliases, expected) in [
            ("one address", &two[..1], of(None), &[][..], "10.244.1.2\tweb-1\n"),
            ("both families", &two, of(None), &[], "10.244.1.2\tweb-1\nfd00::2\tweb-1\n"),
            (
                "a domain",
                &two[..1],
                of(Some("db")),
                &[],
                "10.244.1.2\tweb-1.db.shop.svc.cluster.local\tweb-1\n",
            ),
            (
                "aliases",
                &two[..1],
                of(None),
                &aliases,
                "10.244.1.2\tweb-1\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb.example\nfd00::9\tc\n",
            ),
        ] {
            assert_eq!(hosts(addresses, &host, aliases), format!("{HEAD}{expected}"), "{situation}");
        }
    }

    #[test]
    fn on_the_host_network_it_is_the_nodes() {
        let head = "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n";
        assert_eq!(hosts_on_host_network("127.0.0.1 localhost\n", &[]), head);
        let with = hosts_on_host_network("127.0.0.1 localhost\n", &[alias("1.2.3.4", &["a"])]);
        assert_eq!(with, format!("{head}\n# Entries added by HostAliases.\n1.2.3.4\ta\n"));
    }
}
