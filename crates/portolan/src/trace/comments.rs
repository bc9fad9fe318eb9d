//! Names of Services from the rules: comments of iptables rules, comments and chains of nftables' elements.

use std::collections::HashMap;
use std::net::IpAddr;

use portolan_service::{Family, FrontendKind, Protocol};
use portolan_trace::Ruleset;
use portolan_trace::explain::{KnownFrontend, KnownService, Services};
use portolan_trace::ruleset::{Field, Part, Rule, Test, Tool};
use serde_json::Value;

use super::names::protocol_named;

/// Services by name, while they are found.
#[derive(Debug, Default)]
pub(super) struct Comments {
    services: Vec<KnownService>,
    places: HashMap<(String, String), usize>,
}

impl Comments {
    /// What was found.
    pub(super) fn services(self) -> Services {
        Services { services: self.services }
    }

    fn add(&mut self, name: &PortName<'_>, frontend: KnownFrontend) {
        let key = (name.namespace.to_owned(), name.name.to_owned());
        let place = *self.places.entry(key).or_insert_with(|| {
            self.services.push(KnownService {
                namespace: name.namespace.to_owned(),
                name: name.name.to_owned(),
                ..KnownService::default()
            });
            self.services.len() - 1
        });
        let known = &mut self.services[place].frontends;
        if !known.contains(&frontend) {
            known.push(frontend);
        }
    }

    /// Reads the rules of iptables: kube-proxy's and ours name the Service port in a comment, `shop/web:http cluster IP`.
    pub(super) fn read_iptables(&mut self, rules: &Ruleset) {
        for table in rules.tables().iter().filter(|table| table.tool == Tool::Iptables) {
            for rule in table.chains.iter().flat_map(|chain| &chain.rules) {
                self.read_rule(rule);
            }
        }
    }

    fn read_rule(&mut self, rule: &Rule) {
        let Some(comment) = &rule.comment else { return };
        let (title, kind) = comment.split_once(' ').unwrap_or((comment, ""));
        let Some(name) = PortName::with_colon(title) else { return };
        let (mut address, mut port, mut protocol) = (None, None, None);
        for part in &rule.parts {
            let Part::Test(Test::Compare { operand, ranges, negate: false }) = part else { continue };
            let Some(only) = ranges.only() else { continue };
            match operand.field {
                Field::Destination(family) => address = address_of(only, family),
                Field::DestinationPort => port = u16::try_from(only).ok(),
                Field::Protocol => {
                    protocol = Protocol::ALL.into_iter().find(|it| u128::from(it.number()) == only);
                }
                _ => {}
            }
        }
        let (Some(port), Some(protocol)) = (port, protocol) else { return };
        let kind = match (address, kind) {
            (None, _) => FrontendKind::NodePort,
            (_, kind) if kind.starts_with("external") => FrontendKind::ExternalIp,
            (_, kind) if kind.starts_with("loadbalancer") => FrontendKind::LoadBalancer,
            _ => FrontendKind::ClusterIp,
        };
        let port_name = name.port.to_owned();
        self.add(&name, KnownFrontend { kind, address, port, protocol, port_name });
    }

    /// Reads a listing of nftables: ours comments elements with `shop/web:http`, kube-proxy leads them to chains called
    /// `service-XXXXXXXX-shop/web/tcp/http`.
    pub(super) fn read_listing(&mut self, listing: &Value) {
        let cluster_ips = cluster_ips(listing);
        let maps = objects(listing).filter_map(|object| object.get("map"));
        for element in maps.filter_map(|map| map.get("elem")?.as_array()).flatten() {
            self.read_element(element, &cluster_ips);
        }
    }

    fn read_element(&mut self, element: &Value, cluster_ips: &[IpAddr]) -> Option<()> {
        let [key, value] = element.as_array()?.as_slice() else { return None };
        let comment = key.pointer("/elem/comment").and_then(Value::as_str);
        let target = ["goto", "jump"].iter().find_map(|goal| value.get(goal)?.get("target")?.as_str());
        let name = comment.and_then(PortName::with_colon).or_else(|| target.and_then(PortName::of_chain))?;
        let key = key.pointer("/elem/val").unwrap_or(key);
        let parts = key.get("concat")?.as_array()?;
        let (mut address, mut protocol) = (None, None);
        let mut port = None;
        for part in parts {
            match part {
                Value::String(text) => match protocol_named(text) {
                    Some(found) => protocol = Some(found),
                    None => address = text.parse().ok(),
                },
                // The last number: the first is that of an endpoint.
                Value::Number(number) => port = number.as_u64().and_then(|port| u16::try_from(port).ok()),
                _ => return None,
            }
        }
        let kind = match address {
            None => FrontendKind::NodePort,
            Some(address) if cluster_ips.contains(&address) => FrontendKind::ClusterIp,
            Some(_) => FrontendKind::ExternalIp,
        };
        let port_name = name.port.to_owned();
        let frontend = KnownFrontend { kind, address, port: port?, protocol: protocol?, port_name };
        self.add(&name, frontend);
        Some(())
    }
}

/// A Service port by name.
struct PortName<'a> {
    namespace: &'a str,
    name: &'a str,
    port: &'a str,
}

impl<'a> PortName<'a> {
    /// `shop/web:http`, or `shop/web` for a port without a name.
    fn with_colon(title: &'a str) -> Option<PortName<'a>> {
        let (path, port) = title.split_once(':').unwrap_or((title, ""));
        let (namespace, name) = path.split_once('/')?;
        let fits = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
        fits.then_some(PortName { namespace, name, port })
    }

    /// `service-XXXXXXXX-shop/web/tcp/http`
    fn of_chain(chain: &'a str) -> Option<PortName<'a>> {
        let after = ["service-", "external-", "local-"].iter().find_map(|kind| chain.strip_prefix(kind))?;
        let segments: Vec<&str> = after.split('/').collect();
        match segments[..] {
            [first, name, _, port] => Some(PortName { namespace: first.split_once('-')?.1, name, port }),
            [_, namespace, name, _, port] => Some(PortName { namespace, name, port }),
            _ => None,
        }
    }
}

fn objects(listing: &Value) -> impl Iterator<Item = &Value> {
    listing.get("nftables").and_then(Value::as_array).into_iter().flatten()
}

/// The elements of the sets called `cluster-ips`, as ours and kube-proxy's are.
fn cluster_ips(listing: &Value) -> Vec<IpAddr> {
    objects(listing)
        .filter_map(|object| object.get("set"))
        .filter(|set| set.get("name").is_some_and(|name| name == "cluster-ips"))
        .filter_map(|set| set.get("elem")?.as_array())
        .flatten()
        .filter_map(|element| element.pointer("/elem/val").unwrap_or(element).as_str()?.parse().ok())
        .collect()
}

fn address_of(value: u128, family: Family) -> Option<IpAddr> {
    Some(match family {
        Family::V4 => IpAddr::from(u32::try_from(value).ok()?.to_be_bytes()),
        Family::V6 => IpAddr::from(value.to_be_bytes()),
    })
}
