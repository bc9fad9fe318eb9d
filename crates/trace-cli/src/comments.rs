//! Names of Services from the rules: the comments of iptables rules, and comments and chains of
//! elements of nftables.

use std::collections::HashMap;
use std::net::IpAddr;

use portolan_service::{Family, FrontendKind, Protocol};
use portolan_trace::Ruleset;
use portolan_trace::explain::{KnownFrontend, KnownService, Services};
use portolan_trace::ruleset::{Field, Part, Rule, Test, Tool};
use serde_json::Value;

use crate::names::protocol_named;

/// Services by name, while they are found.
#[derive(Debug, Default)]
pub(crate) struct Comments {
    services: Vec<KnownService>,
    places: HashMap<(String, String), usize>,
}

impl Comments {
    /// What was found.
    pub(crate) fn services(mut self) -> Services {
        for service in &mut self.services {
            tell_node_ports(&mut service.frontends);
        }
        Services { services: self.services, ..Services::default() }
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

    /// Reads the rules of iptables. Those of kube-proxy and ours name the Service port in a
    /// comment: `shop/web:http cluster IP`.
    pub(crate) fn read_iptables(&mut self, rules: &Ruleset) {
        for table in rules.tables().iter().filter(|table| table.tool == Tool::Iptables) {
            // Comments of other programs may read alike.
            let chains = table.chains.iter().filter(|chain| table.is_proxys(chain));
            for rule in chains.flat_map(|chain| &chain.rules) {
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
        // It has the address of a load balancer, and says so nowhere.
        if kind.starts_with("traffic not accepted") {
            return;
        }
        let kind = match (address, kind) {
            (None, _) => FrontendKind::NodePort,
            (_, kind) if kind.starts_with("external") => FrontendKind::ExternalIp,
            (_, kind) if kind.starts_with("loadbalancer") => FrontendKind::LoadBalancer,
            _ => FrontendKind::ClusterIp,
        };
        let port_name = name.port.to_owned();
        self.add(&name, KnownFrontend { kind, address, port, protocol, port_name });
    }

    /// Reads a listing of nftables. Our elements have comments like `shop/web:http`; those of
    /// kube-proxy lead to chains like `service-XXXXXXXX-shop/web/tcp/http`.
    pub(crate) fn read_listing(&mut self, listing: &Value) {
        let cluster_ips = cluster_ips(listing);
        let is_proxys =
            |map: &&Value| map.get("table").is_some_and(|table| table == "portolan" || table == "kube-proxy");
        let maps = objects(listing).filter_map(|object| object.get("map")).filter(is_proxys);
        for element in maps.filter_map(|map| map.get("elem")?.as_array()).flatten() {
            let Some([key, value]) = element.as_array().map(Vec::as_slice) else { continue };
            self.read_element(key, value, &cluster_ips);
        }
        // Where IPVS translates, its frontends lead nowhere.
        let sets = objects(listing).filter_map(|object| object.get("set")).filter(is_proxys);
        let frontends = sets.filter(|set| set.get("name").is_some_and(|name| name == "frontends"));
        for key in frontends.filter_map(|set| set.get("elem")?.as_array()).flatten() {
            self.read_element(key, &Value::Null, &cluster_ips);
        }
    }

    fn read_element(&mut self, key: &Value, value: &Value, cluster_ips: &[IpAddr]) -> Option<()> {
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

/// Elements do not say what kind of address they are for. An external address has the port of the
/// ClusterIP; a NodePort has another one.
fn tell_node_ports(frontends: &mut [KnownFrontend]) {
    let cluster_ips: Vec<KnownFrontend> =
        frontends.iter().filter(|it| it.kind == FrontendKind::ClusterIp).cloned().collect();
    for frontend in frontends.iter_mut().filter(|it| it.kind == FrontendKind::ExternalIp) {
        let same =
            |it: &&KnownFrontend| it.port_name == frontend.port_name && it.protocol == frontend.protocol;
        if cluster_ips.iter().find(same).is_some_and(|it| it.port != frontend.port) {
            frontend.kind = FrontendKind::NodePort;
        }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listed(services: &Services) -> Vec<String> {
        let frontends = services.services.iter().flat_map(|service| {
            service.frontends.iter().map(|it| {
                let address = it.address.map_or_else(|| "any".to_owned(), |address| address.to_string());
                format!(
                    "{}:{} {:?} {address} {}/{}",
                    service.title(),
                    it.port_name,
                    it.kind,
                    it.port,
                    it.protocol
                )
            })
        });
        frontends.collect()
    }

    #[test]
    fn rules_of_iptables_name_service_ports() {
        let rules = Ruleset::from_iptables_save(
            "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-A - [0:0]\n\
             -A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment \"shop/web:http cluster IP\" -m tcp --dport 80 -j KUBE-SVC-A\n\
             -A KUBE-SERVICES -d 203.0.113.1/32 -p tcp -m comment --comment \"shop/web:http external IP\" -m tcp --dport 80 -j KUBE-SVC-A\n\
             -A KUBE-SERVICES -p tcp -m comment --comment \"shop/web:http\" -m tcp --dport 30080 -j KUBE-SVC-A\n\
             -A KUBE-SERVICES -d 10.96.0.2/32 -p udp -m comment --comment \"shop/old: cluster IP\" -m udp --dport 53 -j KUBE-SVC-A\n\
             -A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports\" -j KUBE-SVC-A\nCOMMIT\n",
            Family::V4,
        )
        .unwrap();
        let mut comments = Comments::default();
        comments.read_iptables(&rules);
        assert_eq!(
            listed(&comments.services()),
            [
                "shop/web:http ClusterIp 10.96.0.1 80/tcp",
                "shop/web:http ExternalIp 203.0.113.1 80/tcp",
                "shop/web:http NodePort any 30080/tcp",
                "shop/old: ClusterIp 10.96.0.2 53/udp",
            ]
        );
    }

    #[test]
    fn elements_name_service_ports_by_comment_or_chain() {
        let elements = json!([
            [{"elem": {"val": {"concat": ["10.96.0.1", "tcp", 80]}, "comment": "shop/web:http"}}, {"jump": {"target": "pick-3"}}],
            [{"elem": {"val": {"concat": [0, "192.168.50.1", "tcp", 30080]}, "comment": "shop/web:http"}}, {"concat": ["10.244.1.1", 8080]}],
            [{"concat": ["10.96.0.3", "tcp", 443]}, {"goto": {"target": "service-ULMVA6XW-shop/pay/tcp/https"}}],
            [{"concat": ["tcp", 30443]}, {"goto": {"target": "external-ULMVA6XW-shop/pay/tcp/https"}}],
            [{"concat": ["10.96.0.4", "tcp", 1]}, {"drop": null}],
        ]);
        let listing = json!({"nftables": [
            {"set": {"name": "cluster-ips", "elem": ["10.96.0.1", "10.96.0.3"]}},
            {"map": {"table": "portolan", "name": "services", "elem": elements}},
            {"map": {"table": "other", "name": "services", "elem": [
                [{"elem": {"val": {"concat": ["10.96.0.9", "tcp", 80]}, "comment": "default/shop:"}}, {"jump": {"target": "x"}}],
            ]}},
        ]});
        let mut comments = Comments::default();
        comments.read_listing(&listing);
        assert_eq!(
            listed(&comments.services()),
            [
                "shop/web:http ClusterIp 10.96.0.1 80/tcp",
                "shop/web:http NodePort 192.168.50.1 30080/tcp",
                "shop/pay:https ClusterIp 10.96.0.3 443/tcp",
                "shop/pay:https NodePort any 30443/tcp",
            ]
        );
    }
}
