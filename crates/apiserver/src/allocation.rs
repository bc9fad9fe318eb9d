//! Addresses and ports that Services are given.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::clock::random;
use crate::refusal::Errors;
use crate::value::{items, items_mut, number, remove, text};

/// What Services are given from.
#[derive(Debug, Clone)]
pub(crate) struct Ranges {
    /// At most one of each family; that of the first is the one for Services that do not say.
    pub(crate) networks: Vec<IpNet>,
    pub(crate) node_ports: RangeInclusive<u16>,
}

/// Namespace and name.
type Key = (String, String);

/// What is taken.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    addresses: HashMap<IpAddr, Key>,
    /// By protocol; the port for health checks is one of TCP.
    ports: HashMap<(String, u16), Key>,
}

impl Claims {
    /// Notes what a Service has now; none if it is gone.
    pub(crate) fn note(&mut self, key: &Key, service: Option<&Value>) {
        self.addresses.retain(|_, holder| holder != key);
        self.ports.retain(|_, holder| holder != key);
        let Some(service) = service else { return };
        for address in addresses(service) {
            self.addresses.entry(address).or_insert_with(|| key.clone());
        }
        for port in ports(service) {
            self.ports.entry(port).or_insert_with(|| key.clone());
        }
    }
}

fn addresses(service: &Value) -> impl Iterator<Item = IpAddr> {
    items(service, "/spec/clusterIPs").filter_map(|address| address.as_str()?.parse().ok())
}

fn port_of(value: &Value, pointer: &str) -> Option<u16> {
    number(value, pointer).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}

fn ports(service: &Value) -> Vec<(String, u16)> {
    let node_ports = items(service, "/spec/ports")
        .filter_map(|port| Some((text(port, "/protocol").to_owned(), port_of(port, "/nodePort")?)));
    let health = port_of(service, "/spec/healthCheckNodePort").map(|port| ("TCP".to_owned(), port));
    node_ports.chain(health).collect()
}

/// Gives a Service what it asks for, or what is free. `old` is what it replaces, and keeps what it
/// has.
pub(crate) fn allocate(
    claims: &Claims,
    ranges: &Ranges,
    service: &mut Value,
    old: Option<&Value>,
    errors: &mut Errors,
) {
    let key = (text(service, "/metadata/namespace").to_owned(), text(service, "/metadata/name").to_owned());
    if let Some(old) = old {
        keep(service, old);
    }
    // What it has already is its own; a new one of the same name has nothing.
    let key = old.map(|_| &key);
    let kind = text(service, "/spec/type").to_owned();
    if kind == "ExternalName" {
        for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            remove(service, "/spec", field);
        }
    } else {
        families(ranges, service, errors);
        if text(service, "/spec/clusterIP") == "None" {
            service["spec"]["clusterIPs"] = json!(["None"]);
        } else {
            give_addresses(claims, ranges, service, key, errors);
        }
    }
    let taken = |protocol: &str, port: u16| {
        claims.ports.get(&(protocol.to_owned(), port)).is_some_and(|holder| Some(holder) != key)
    };
    if kind == "NodePort"
        || (kind == "LoadBalancer" && service["spec"]["allocateLoadBalancerNodePorts"] != false)
        || ports(service).iter().any(|_| kind == "LoadBalancer")
    {
        give_node_ports(ranges, service, &taken, errors);
    }
    if kind == "LoadBalancer" && text(service, "/spec/externalTrafficPolicy") == "Local" {
        let used: HashSet<u16> = ports(service).into_iter().map(|(_, port)| port).collect();
        if port_of(service, "/spec/healthCheckNodePort").is_none() {
            let free = free_port(ranges, |port| !taken("TCP", port) && !used.contains(&port));
            service["spec"]["healthCheckNodePort"] = json!(free.unwrap_or(0));
        }
    }
}

/// What an update leaves open stays as it was.
fn keep(service: &mut Value, old: &Value) {
    let kind = text(service, "/spec/type").to_owned();
    let had_addresses = text(old, "/spec/type") != "ExternalName";
    if kind != "ExternalName" && had_addresses {
        let asks = !text(service, "/spec/clusterIP").is_empty() || service["spec"]["clusterIPs"].is_array();
        for field in ["clusterIP", "clusterIPs"] {
            if !asks && !old["spec"][field].is_null() {
                service["spec"][field] = old["spec"][field].clone();
            }
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if service["spec"].get(field).is_none() && !old["spec"][field].is_null() {
                service["spec"][field] = old["spec"][field].clone();
            }
        }
    } else if kind == "ExternalName" && text(service, "/spec/clusterIP") == text(old, "/spec/clusterIP") {
        remove(service, "/spec", "clusterIP");
    }
    let before: Vec<Value> = items(old, "/spec/ports").cloned().collect();
    let needs_ports = matches!(&*kind, "NodePort" | "LoadBalancer");
    let used: Vec<u16> = ports(service).into_iter().map(|(_, port)| port).collect();
    for port in items_mut(service, "/spec/ports") {
        let same =
            before.iter().find(|old| old["port"] == port["port"] && old["protocol"] == port["protocol"]);
        let had = same.and_then(|old| port_of(old, "/nodePort"));
        if needs_ports && port_of(port, "/nodePort").is_none() {
            if let Some(had) = had.filter(|had| !used.contains(had)) {
                port["nodePort"] = json!(had);
            }
        } else if !needs_ports && had.is_some() && port_of(port, "/nodePort") == had {
            remove(port, "", "nodePort");
        }
    }
    let is_local = |service: &Value| {
        text(service, "/spec/type") == "LoadBalancer"
            && text(service, "/spec/externalTrafficPolicy") == "Local"
    };
    if let Some(port) = port_of(old, "/spec/healthCheckNodePort") {
        if !is_local(service) {
            remove(service, "/spec", "healthCheckNodePort");
        } else if port_of(service, "/spec/healthCheckNodePort").is_none() {
            service["spec"]["healthCheckNodePort"] = json!(port);
        }
    }
    if !needs_ports
        && text(old, "/spec/externalTrafficPolicy") == text(service, "/spec/externalTrafficPolicy")
    {
        let has_addresses = items(service, "/spec/externalIPs").next().is_some();
        if !has_addresses {
            remove(service, "/spec", "externalTrafficPolicy");
        }
        remove(service, "/spec", "allocateLoadBalancerNodePorts");
    }
}

fn family(network: &IpNet) -> &'static str {
    if matches!(network, IpNet::V4(_)) { "IPv4" } else { "IPv6" }
}

/// Fills in `ipFamilies` and `ipFamilyPolicy`.
fn families(ranges: &Ranges, service: &mut Value, errors: &mut Errors) {
    let offered: Vec<&str> = ranges.networks.iter().map(family).collect();
    let spec = &mut service["spec"];
    let mut wanted: Vec<String> =
        items(spec, "/ipFamilies").filter_map(|family| family.as_str().map(str::to_owned)).collect();
    for (position, family) in wanted.iter().enumerate() {
        if !offered.contains(&&**family) {
            let at = format!("spec.ipFamilies[{position}]");
            errors.invalid(at, &**family, "not configured on this cluster");
        }
    }
    let asked = items(spec, "/clusterIPs").filter_map(Value::as_str).chain([text(spec, "/clusterIP")]);
    let asked: Vec<IpAddr> = asked.filter_map(|address| address.parse().ok()).collect();
    if wanted.is_empty() {
        for address in &asked {
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            if !wanted.iter().any(|wanted| wanted == family) {
                wanted.push(family.to_owned());
            }
        }
    }
    let several = wanted.len() > 1;
    let default = if several { "RequireDualStack" } else { "SingleStack" };
    let policy = match text(spec, "/ipFamilyPolicy") {
        "" => default,
        "RequireDualStack" => {
            if offered.len() < 2 {
                let message = "this cluster is not configured for dual-stack services";
                errors.invalid("spec.ipFamilyPolicy", "RequireDualStack", message);
            }
            "RequireDualStack"
        }
        "PreferDualStack" => "PreferDualStack",
        _ => "SingleStack",
    };
    let most = if policy == "SingleStack" { 1 } else { 2 };
    for family in offered {
        if wanted.len() < most && !wanted.iter().any(|wanted| wanted == family) {
            wanted.push(family.to_owned());
        }
    }
    wanted.truncate(most);
    let policy = policy.to_owned();
    spec["ipFamilyPolicy"] = json!(policy);
    spec["ipFamilies"] = json!(wanted);
}

fn give_addresses(
    claims: &Claims,
    ranges: &Ranges,
    service: &mut Value,
    key: Option<&Key>,
    errors: &mut Errors,
) {
    let spec = &mut service["spec"];
    let first = text(spec, "/clusterIP").to_owned();
    let mut asked: Vec<String> =
        items(spec, "/clusterIPs").filter_map(|address| address.as_str().map(str::to_owned)).collect();
    if asked.is_empty() && !first.is_empty() {
        asked.push(first.clone());
    } else if !first.is_empty() && asked.first() != Some(&first) {
        errors.invalid("spec.clusterIPs[0]", json!(asked), "first value must match `clusterIP`");
        return;
    }
    let taken = |address: &IpAddr| claims.addresses.get(address).is_some_and(|holder| Some(holder) != key);
    for (position, text) in asked.iter().enumerate() {
        let Ok(address) = text.parse::<IpAddr>() else {
            let message = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.invalid(format!("spec.clusterIPs[{position}]"), &**text, message);
            return;
        };
        let network =
            ranges.networks.iter().find(|network| matches!(network, IpNet::V4(_)) == address.is_ipv4());
        let failed = format!("failed to allocate IP {text}: ");
        if let Some(network) = network.filter(|network| !network.contains(&address)) {
            let message = format!(
                "{failed}the provided IP ({text}) is not in the valid range. The range of valid IPs is {network}"
            );
            errors.invalid("spec.clusterIPs", json!(asked), &message);
        } else if taken(&address) {
            let message = format!("{failed}provided IP is already allocated");
            errors.invalid("spec.clusterIPs", json!(asked), &message);
        }
    }
    let families: Vec<String> =
        items(spec, "/ipFamilies").filter_map(|family| family.as_str().map(str::to_owned)).collect();
    for wanted in families.iter().skip(asked.len()) {
        let network = ranges.networks.iter().find(|network| family(network) == wanted);
        match network.and_then(|network| free_address(network, taken)) {
            Some(address) => asked.push(address.to_string()),
            None if network.is_some() => {
                errors.invalid(
                    "spec.clusterIPs",
                    json!(asked),
                    "failed to allocate a serviceIP: range is full",
                );
            }
            None => {}
        }
    }
    asked.truncate(families.len().max(1));
    if let Some(first) = asked.first() {
        spec["clusterIP"] = json!(first);
        spec["clusterIPs"] = json!(asked);
    }
}

/// An address that nobody has, neither the first one (of Service `kubernetes`) nor the last one.
fn free_address(network: &IpNet, taken: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
    let host_bits = u32::from(network.max_prefix_len() - network.prefix_len()).min(32);
    let size = 1_u64 << host_bits;
    let usable = size.checked_sub(3).filter(|usable| *usable > 0)?;
    let start = random() % usable;
    // As many as a lab could have taken, and then some.
    (0..usable.min(1 << 17)).find_map(|step| {
        let offset = 2 + (start + step) % usable;
        let address = match network {
            IpNet::V4(network) => {
                IpAddr::from((u32::from(network.network()) + u32::try_from(offset).ok()?).to_be_bytes())
            }
            IpNet::V6(network) => {
                IpAddr::from((u128::from(network.network()) + u128::from(offset)).to_be_bytes())
            }
        };
        (!taken(&address)).then_some(address)
    })
}

fn free_port(ranges: &Ranges, is_free: impl Fn(u16) -> bool) -> Option<u16> {
    let range = &ranges.node_ports;
    let size = u64::from(range.end().checked_sub(*range.start())?) + 1;
    let start = random() % size;
    (0..size).find_map(|step| {
        let port = range.start() + u16::try_from((start + step) % size).ok()?;
        is_free(port).then_some(port)
    })
}

fn give_node_ports(
    ranges: &Ranges,
    service: &mut Value,
    taken: &impl Fn(&str, u16) -> bool,
    errors: &mut Errors,
) {
    let range = &ranges.node_ports;
    for (position, port) in items(service, "/spec/ports").enumerate() {
        let Some(wanted) = number(port, "/nodePort").filter(|wanted| *wanted != 0) else { continue };
        let at = format!("spec.ports[{position}].nodePort");
        match u16::try_from(wanted).ok().filter(|wanted| range.contains(wanted)) {
            None => {
                let message = format!(
                    "provided port is not in the valid range. The range of valid ports is {}-{}",
                    range.start(),
                    range.end()
                );
                errors.invalid(at, wanted, &message);
            }
            Some(wanted) if taken(text(port, "/protocol"), wanted) => {
                errors.invalid(at, wanted, "provided port is already allocated");
            }
            Some(_) => {}
        }
    }
    let mut used: HashMap<(String, u16), i64> = items(service, "/spec/ports")
        .filter_map(|port| {
            let node_port = port_of(port, "/nodePort")?;
            Some(((text(port, "/protocol").to_owned(), node_port), number(port, "/port")?))
        })
        .collect();
    for port in items_mut(service, "/spec/ports") {
        if port_of(port, "/nodePort").is_some() {
            continue;
        }
        let protocol = text(port, "/protocol").to_owned();
        let own = number(port, "/port").unwrap_or(0);
        let is_free = |candidate: u16| {
            !taken(&protocol, candidate) && !used.contains_key(&(protocol.clone(), candidate))
        };
        // The same port with another protocol gets the same number.
        let shared = used.iter().find(|((_, candidate), port)| **port == own && is_free(*candidate));
        let shared = shared.map(|((_, candidate), _)| *candidate);
        let unused =
            |candidate: u16| is_free(candidate) && !used.keys().any(|(_, other)| *other == candidate);
        match shared.or_else(|| free_port(ranges, unused)) {
            Some(free) => {
                port["nodePort"] = json!(free);
                used.insert((protocol, free), own);
            }
            None => errors.invalid("spec.ports", 0, "failed to allocate a nodePort: range is full"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(networks: &[&str]) -> Ranges {
        let networks = networks.iter().map(|network| network.parse().expect("a network")).collect();
        Ranges { networks, node_ports: 30_000..=30_009 }
    }

    fn service(name: &str, spec: &Value) -> Value {
        json!({ "metadata": { "namespace": "shop", "name": name }, "spec": spec })
    }

    fn given(claims: &Claims, networks: &[&str], spec: &Value) -> Result<Value, String> {
        let mut service = service("web", spec);
        let mut errors = Errors::default();
        allocate(claims, &ranges(networks), &mut service, None, &mut errors);
        let view = crate::view::View::stored(crate::resource::Resource::Services);
        errors.result(view, "web").map_err(|failure| failure.message).map(|()| service["spec"].take())
    }

    #[test]
    fn gives_what_is_free() {
        let v4 = &["10.96.0.0/29"];
        let mut claims = Claims::default();
        for (name, ip) in [("a", "10.96.0.2"), ("b", "10.96.0.3"), ("c", "10.96.0.4"), ("d", "10.96.0.5")] {
            let spec = json!({ "clusterIPs": [ip],
                "ports": [{ "protocol": "TCP", "port": 80, "nodePort": 30_000 }] });
            claims.note(&("shop".to_owned(), name.to_owned()), Some(&service(name, &spec)));
        }
        let plain = json!({ "type": "ClusterIP", "ports": [{ "protocol": "TCP", "port": 80 }] });
        let spec = given(&claims, v4, &plain).expect("one is free");
        assert_eq!((&spec["clusterIP"], &spec["clusterIPs"]), (&json!("10.96.0.6"), &json!(["10.96.0.6"])));
        assert_eq!((&spec["ipFamilyPolicy"], &spec["ipFamilies"]), (&json!("SingleStack"), &json!(["IPv4"])));
        let dual = json!({ "type": "ClusterIP", "ipFamilyPolicy": "PreferDualStack" });
        let spec = given(&Claims::default(), &["10.96.0.0/12", "fd00:10:96::/112"], &dual).expect("free");
        assert_eq!(spec["ipFamilies"], json!(["IPv4", "IPv6"]));
        assert!(spec["clusterIPs"][1].as_str().is_some_and(|address| address.starts_with("fd00:10:96::")));
        let both = json!({ "type": "NodePort", "ports": [
            { "protocol": "TCP", "port": 53 }, { "protocol": "UDP", "port": 53 }] });
        let spec = given(&claims, v4, &both).expect("free");
        assert_eq!(spec["ports"][0]["nodePort"], spec["ports"][1]["nodePort"], "shared by protocols");
        claims.note(&("shop".to_owned(), "a".to_owned()), None);
        let asked = json!({ "type": "ClusterIP", "clusterIP": "10.96.0.2" });
        assert!(given(&claims, v4, &asked).is_ok(), "was given back");
    }

    #[test]
    fn refuses_what_is_taken_or_out_of_range() {
        let v4 = &["10.96.0.0/12"];
        let mut claims = Claims::default();
        let other = json!({ "clusterIPs": ["10.96.0.2"],
            "ports": [{ "protocol": "TCP", "port": 80, "nodePort": 30_001 }] });
        claims.note(&("shop".to_owned(), "other".to_owned()), Some(&service("other", &other)));
        let with_port = |port: i64| json!({ "type": "NodePort", "ports": [{ "protocol": "TCP", "port": 80, "nodePort": port }] });
        for (spec, message) in [
            (
                with_port(80),
                "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid \
                 ports is 30000-30009",
            ),
            (
                with_port(30_001),
                "spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated",
            ),
            (
                json!({ "type": "ClusterIP", "clusterIP": "10.96.0.2" }),
                "spec.clusterIPs: Invalid value: [\"10.96.0.2\"]: failed to allocate IP 10.96.0.2: provided IP is already \
                 allocated",
            ),
            (
                json!({ "type": "ClusterIP", "clusterIP": "192.0.2.1" }),
                "spec.clusterIPs: Invalid value: [\"192.0.2.1\"]: failed to allocate IP 192.0.2.1: the provided IP \
                 (192.0.2.1) is not in the valid range. The range of valid IPs is 10.96.0.0/12",
            ),
            (
                json!({ "type": "ClusterIP", "ipFamilyPolicy": "RequireDualStack" }),
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack \
                 services",
            ),
        ] {
            let expected = format!("Service \"web\" is invalid: {message}");
            assert_eq!(given(&claims, v4, &spec), Err(expected), "{spec}");
        }
    }
}
