//! The rules that are asked, put together from what several programs or readers found.

use std::net::IpAddr;

use anyhow::{anyhow, bail};
use portolan_service::Family;
use portolan_trace::explain::Services;
use portolan_trace::ipvs::{Serves, VirtualServers};
use portolan_trace::{IpSets, Ruleset, nft_text_listing};
use serde_json::{Value, json};

use crate::comments::Comments;

/// The set of the addresses that kube-proxy's mode ipvs gives the node (spec §7.16).
const BOUND: [&str; 2] = ["KUBE-IPVS-IPS", "KUBE-6-IPVS-IPS"];

/// Rules, with the names of Services in them.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) ruleset: Ruleset,
    pub(crate) services: Services,
    /// What people should know of the answers.
    pub(crate) warnings: Vec<String>,
    /// Addresses that the node must have where kube-proxy's mode ipvs is in force.
    pub(crate) own_addresses: Vec<IpAddr>,
}

/// Rules of mode iptables as text, for each family.
pub(crate) fn from_texts(texts: &[(Family, String)]) -> anyhow::Result<Rules> {
    let mut collected = Collected::default();
    for (family, text) in texts {
        collected.iptables(text, *family)?;
    }
    Ok(collected.done())
}

/// Rule sets that are put together.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) ruleset: Ruleset,
    pub(crate) ipsets: IpSets,
    comments: Comments,
    pub(crate) warnings: Vec<String>,
    own_addresses: Vec<IpAddr>,
}

impl Collected {
    pub(crate) fn listing(&mut self, text: &str) -> anyhow::Result<()> {
        let listing: Value = serde_json::from_str(text)
            .map_err(|error| anyhow!("not JSON ({error}): give the output of `nft -j list ruleset`"))?;
        self.tables(&listing)
    }

    /// What nft lists as text.
    pub(crate) fn nft_text(&mut self, text: &str) -> anyhow::Result<()> {
        self.tables(&nft_text_listing(text)?)
    }

    fn tables(&mut self, listing: &Value) -> anyhow::Result<()> {
        if let Some(table) = without_elements(listing) {
            bail!(
                "no set or map of table {table} has an element, so that no answer could be trusted: was it listed with \
                 `nft -t`? List it without -t"
            );
        }
        self.comments.read_listing(listing);
        self.ruleset.merge(Ruleset::from_nft_listing(listing)?);
        Ok(())
    }

    pub(crate) fn objects(&mut self, objects: &[Value]) -> anyhow::Result<()> {
        let listing = json!({"nftables": objects});
        self.comments.read_listing(&listing);
        self.ruleset.merge(Ruleset::from_nft_listing(&listing)?);
        Ok(())
    }

    pub(crate) fn iptables(&mut self, text: &str, family: Family) -> anyhow::Result<()> {
        self.add(Ruleset::from_iptables_save_with(text, family, &self.ipsets)?);
        Ok(())
    }

    /// The same, in whatever form and of whatever family.
    pub(crate) fn printed_by_iptables(&mut self, text: &str) -> anyhow::Result<()> {
        self.add(Ruleset::from_iptables(text, &self.ipsets)?);
        Ok(())
    }

    /// Adds rules of iptables.
    fn add(&mut self, rules: Ruleset) {
        self.comments.read_iptables(&rules);
        self.ruleset.merge(rules);
    }

    /// Adds what a dump has of virtual servers, or that it has none though rules lead there.
    pub(crate) fn virtual_servers(&mut self, servers: &[VirtualServers]) {
        let bound = self.ipsets.addresses(BOUND);
        if !servers.is_empty() && Family::ALL.iter().any(|family| self.ruleset.binds_addresses(*family)) {
            let served = servers.iter().flat_map(|servers| &servers.servers);
            let served = served.filter_map(|server| match server.serves {
                Serves::Address(_, address) => Some(address.ip()),
                Serves::Mark(..) => None,
            });
            self.own_addresses = if bound.is_empty() { served.collect() } else { bound };
            self.own_addresses.sort_unstable();
            self.own_addresses.dedup();
        }
        if servers.is_empty() {
            for family in Family::ALL {
                if self.ruleset.lacks_virtual_servers(family) {
                    self.ruleset.miss_virtual_servers(family);
                }
            }
        }
        for servers in servers {
            self.ruleset.add_virtual_servers(servers);
        }
    }

    pub(crate) fn done(self) -> Rules {
        Rules {
            ruleset: self.ruleset,
            services: self.comments.services(),
            warnings: self.warnings,
            own_addresses: self.own_addresses,
        }
    }
}

/// The first table of a service proxy none of whose sets has an element.
fn without_elements(listing: &Value) -> Option<String> {
    let objects = listing.get("nftables")?.as_array()?;
    let mut empty: Option<String> = None;
    for object in objects {
        let Some(set) = object.get("set").or_else(|| object.get("map")) else { continue };
        let table = set.get("table").and_then(Value::as_str).unwrap_or_default();
        if !matches!(table, "portolan" | "kube-proxy") {
            continue;
        }
        if set.get("elem").is_some() {
            return None;
        }
        let family = set.get("family").and_then(Value::as_str).unwrap_or_default();
        empty.get_or_insert_with(|| format!("{family} {table}"));
    }
    empty
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_without_elements_is_known() {
        let listing = |elements: Value| {
            let mut set = json!({"family": "ip", "table": "portolan", "name": "services"});
            if !elements.is_null() {
                set["elem"] = elements;
            }
            json!({"nftables": [{"set": {"family": "ip", "table": "mine", "name": "a"}}, {"map": set}]})
        };
        assert_eq!(without_elements(&listing(Value::Null)).as_deref(), Some("ip portolan"));
        assert_eq!(without_elements(&listing(json!(["10.96.0.1"]))), None);
        assert_eq!(without_elements(&json!({"nftables": []})), None);
    }
}
