//! What pods say of names: their own, and how they look up others'.

use std::net::IpAddr;

use portolan_controllers::{DnsConfig, DnsPolicy, HostAlias, Naming};

use super::{Issues, given, is_subdomain};
use crate::objects;

/// The longest host name that a kernel keeps.
const HOST_NAME_MAX: usize = 64;
/// Limits of the API for `dnsConfig`.
const SERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCHES_LEN_MAX: usize = 2048;

pub(super) fn declare(issues: &mut Issues, spec: &objects::Naming) -> Naming {
    for (field, label) in [("spec.hostname", &spec.hostname), ("spec.subdomain", &spec.subdomain)] {
        if let Some(label) = label.as_deref().filter(|label| !label.is_empty()) {
            issues.label(field, label);
        }
    }
    hostname_override(issues, spec);
    let policies = [
        ("ClusterFirst", DnsPolicy::ClusterFirst),
        ("ClusterFirstWithHostNet", DnsPolicy::ClusterFirstWithHostNet),
        ("Default", DnsPolicy::Default),
        ("None", DnsPolicy::None),
    ];
    let policy = spec.dns_policy.as_deref().filter(|policy| !policy.is_empty());
    let policy = policy.and_then(|policy| issues.word("spec.dnsPolicy", policy, &policies));
    let policy = policy.unwrap_or_default();
    let dns = dns_config(issues, &spec.dns_config);
    if policy == DnsPolicy::None && spec.dns_config.nameservers.is_empty() {
        issues.add(
            "spec.dnsConfig.nameservers",
            "empty, but dnsPolicy is None: give at least one, or another dnsPolicy",
        );
    }
    Naming {
        host_network: spec.host_network,
        hostname: given(spec.hostname.as_deref()),
        subdomain: given(spec.subdomain.as_deref()),
        hostname_override: given(spec.hostname_override.as_deref()),
        hostname_as_fqdn: spec.set_hostname_as_fqdn,
        aliases: aliases(issues, &spec.host_aliases),
        policy,
        dns,
    }
}

fn hostname_override(issues: &mut Issues, spec: &objects::Naming) {
    let Some(name) = spec.hostname_override.as_deref().filter(|name| !name.is_empty()) else { return };
    let field = "spec.hostnameOverride";
    if !is_subdomain(name) || name.len() > HOST_NAME_MAX {
        issues
            .add(field, format!("{name:?} is not a DNS name of up to {HOST_NAME_MAX} of a-z, 0-9, - and ."));
    }
    for (other, given) in
        [("hostNetwork", spec.host_network), ("setHostnameAsFQDN", spec.set_hostname_as_fqdn)]
    {
        if given {
            issues.add(field, format!("cannot be given beside {other}; take one of the two out"));
        }
    }
}

fn dns_config(issues: &mut Issues, config: &objects::PodDnsConfig) -> DnsConfig {
    if config.nameservers.len() > SERVERS_MAX {
        issues.add(
            "spec.dnsConfig.nameservers",
            format!("{} of them; resolvers ask {SERVERS_MAX} at most", config.nameservers.len()),
        );
    }
    let mut servers: Vec<IpAddr> = Vec::new();
    for (i, text) in config.nameservers.iter().enumerate() {
        servers.extend(issues.address(format!("spec.dnsConfig.nameservers[{i}]"), text));
    }
    for (i, domain) in config.searches.iter().enumerate() {
        // The API takes a dot behind it, or alone for the root.
        let bare = domain.strip_suffix('.').unwrap_or(domain);
        if domain != "." && !is_subdomain(&bare.replace('_', "a")) {
            issues.add(format!("spec.dnsConfig.searches[{i}]"), format!("{domain:?} is not a DNS name"));
        }
    }
    let (count, length) = (config.searches.len(), config.searches.join(" ").len());
    if count > SEARCHES_MAX || length > SEARCHES_LEN_MAX {
        issues.add(
            "spec.dnsConfig.searches",
            format!(
                "{count} domains of {length} characters; at most are {SEARCHES_MAX} of {SEARCHES_LEN_MAX}"
            ),
        );
    }
    for (i, option) in config.options.iter().enumerate() {
        if option.name.is_empty() {
            issues.add(format!("spec.dnsConfig.options[{i}].name"), "missing; give one");
        }
    }
    DnsConfig {
        servers,
        searches: config.searches.clone(),
        options: config.options.iter().map(|option| (option.name.clone(), option.value.clone())).collect(),
    }
}

fn aliases(issues: &mut Issues, aliases: &[objects::HostAlias]) -> Vec<HostAlias> {
    let mut usable = Vec::new();
    for (i, alias) in aliases.iter().enumerate() {
        let address = issues.address(format!("spec.hostAliases[{i}].ip"), &alias.ip);
        for (j, name) in alias.hostnames.iter().enumerate() {
            if !is_subdomain(name) {
                let field = format!("spec.hostAliases[{i}].hostnames[{j}]");
                issues.add(field, format!("{name:?} is not a DNS name"));
            }
        }
        usable.extend(address.map(|address| HostAlias { address, names: alias.hostnames.clone() }));
    }
    usable
}
