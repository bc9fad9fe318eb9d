//! A Service as the API server has it, with what its load-balancer addresses depend on.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use portolan_controllers::load_balancer::{Request, Wishes};
use portolan_service::{Family, ObjectName, Protocol, is_own_class, parse_address};
use serde::Deserialize;
use serde_json::Value;

/// A Service, and whose addresses it has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Service {
    pub(crate) name: ObjectName,
    pub(crate) uid: Arc<str>,
    /// `metadata.resourceVersion`
    pub(crate) version: String,
    is_load_balancer: bool,
    class: Option<String>,
    external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress`
    pub(crate) ingress: Vec<Ingress>,
    /// `status.conditions`
    pub(crate) conditions: Vec<Value>,
    /// What it asks for, if it is for us.
    request: Request,
}

/// An entry of `status.loadBalancer.ingress`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Ingress {
    ip: Option<String>,
    ip_mode: Option<String>,
    hostname: Option<String>,
}

impl Ingress {
    /// Its address, if it has one.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.ip.as_deref().and_then(parse_address)
    }

    /// Its address, if it says nothing else than we would write. Servers before Kubernetes 1.29
    /// leave the mode out.
    pub(crate) fn written(&self) -> Option<IpAddr> {
        let is_vip = self.ip_mode.as_deref().is_none_or(|mode| mode == "VIP");
        self.address().filter(|_| is_vip && self.hostname.as_deref().unwrap_or_default().is_empty())
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Document {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    namespace: String,
    name: String,
    uid: String,
    resource_version: String,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(rename = "type")]
    kind: String,
    load_balancer_class: Option<String>,
    #[serde(rename = "loadBalancerIP")]
    load_balancer_ip: Option<String>,
    ip_families: Option<Vec<String>>,
    ip_family_policy: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    ports: Option<Vec<Port>>,
    selector: Option<BTreeMap<String, String>>,
    external_traffic_policy: Option<String>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Port {
    protocol: String,
    port: u16,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    load_balancer: Option<LoadBalancer>,
    conditions: Option<Vec<Value>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct LoadBalancer {
    ingress: Option<Vec<Ingress>>,
}

impl Service {
    /// Reads a document. The error says what is wrong with it.
    pub(crate) fn read(document: &Value) -> Result<Service, String> {
        let Document { metadata, spec, status } =
            Document::deserialize(document).map_err(|error| error.to_string())?;
        let ingress = status.load_balancer.and_then(|status| status.ingress).unwrap_or_default();
        let selector = spec.selector.clone().unwrap_or_default();
        let is_local = spec.external_traffic_policy.as_deref() == Some("Local");
        let request = Request {
            families: families(&spec),
            every_family: spec.ip_family_policy.as_deref() == Some("RequireDualStack"),
            wishes: Wishes::read(&metadata.annotations.unwrap_or_default(), spec.load_balancer_ip.as_deref()),
            ports: spec.ports.iter().flatten().map(|port| (protocol(&port.protocol), port.port)).collect(),
            local: is_local.then_some(selector),
            labels: metadata.labels.unwrap_or_default(),
            recorded: ingress.iter().filter_map(Ingress::address).collect(),
        };
        let external_ips = spec.external_ips.iter().flatten();
        Ok(Service {
            name: ObjectName::new(&metadata.namespace, &metadata.name),
            uid: metadata.uid.into(),
            version: metadata.resource_version,
            is_load_balancer: spec.kind == "LoadBalancer",
            class: spec.load_balancer_class,
            external_ips: external_ips.filter_map(|text| parse_address(text)).collect(),
            ingress,
            conditions: status.conditions.unwrap_or_default(),
            request,
        })
    }

    /// Whether anything about it matters to anybody's addresses.
    pub(crate) fn matters(&self) -> bool {
        self.is_load_balancer || !self.external_ips.is_empty() || !self.ingress.is_empty()
    }

    /// Whether it is of type LoadBalancer.
    pub(crate) fn is_load_balancer(&self) -> bool {
        self.is_load_balancer
    }

    /// What it asks us for; `None`, if it is not for us.
    pub(crate) fn request(&self, is_default: bool) -> Option<Request> {
        let is_ours = self.is_load_balancer && is_own_class(self.class.as_deref(), is_default);
        is_ours.then(|| self.request.clone())
    }

    /// Addresses that it has without asking us: its external IPs, and those of another load
    /// balancer.
    pub(crate) fn fixed(&self, is_default: bool) -> Vec<IpAddr> {
        let others = self.is_load_balancer && self.request(is_default).is_none();
        let of_others = self.ingress.iter().filter_map(Ingress::address).filter(|_| others);
        self.external_ips.iter().copied().chain(of_others).collect()
    }
}

/// The families of its ClusterIPs, in order.
fn families(spec: &Spec) -> Vec<Family> {
    let family = |text: &String| Family::ALL.into_iter().find(|family| family.to_string() == *text);
    let named: Vec<Family> = spec.ip_families.iter().flatten().filter_map(family).collect();
    if !named.is_empty() {
        return named;
    }
    let listed = spec.cluster_ips.iter().flatten();
    let mut families: Vec<Family> = Vec::new();
    for address in listed.chain(&spec.cluster_ip).filter_map(|text| parse_address(text)) {
        if !families.contains(&Family::of(address)) {
            families.push(Family::of(address));
        }
    }
    families
}

fn protocol(text: &str) -> Protocol {
    match text {
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_ours_by_type_and_class() {
        let table = [
            ("without a class", json!({"type": "LoadBalancer"}), true, Some(true)),
            ("ours is not the default", json!({"type": "LoadBalancer"}), false, Some(false)),
            (
                "our class",
                json!({"type": "LoadBalancer", "loadBalancerClass": "portolan.dev/load-balancer"}),
                false,
                Some(true),
            ),
            (
                "another class",
                json!({"type": "LoadBalancer", "loadBalancerClass": "x.example/y"}),
                true,
                Some(false),
            ),
            ("another type", json!({"type": "NodePort"}), true, None),
        ];
        for (name, mut spec, is_default, expected) in table {
            spec["externalIPs"] = json!(["192.0.2.9"]);
            let service = Service::read(&json!({
                "metadata": {"namespace": "shop", "name": "web"}, "spec": spec,
                "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb.example"}]}},
            }));
            let service = service.expect(name);
            assert_eq!(service.request(is_default).is_some(), expected == Some(true), "{name}");
            let fixed = service.fixed(is_default).len();
            assert_eq!(fixed, if expected == Some(false) { 2 } else { 1 }, "{name}");
        }
    }

    #[test]
    fn what_it_asks_for_is_read() {
        let service = Service::read(&json!({
            "metadata": {"namespace": "shop", "name": "web", "labels": {"tier": "front"},
                         "annotations": {"metallb.io/address-pool": "lan"}},
            "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.1", "fd00::1"], "selector": {"app": "web"},
                     "externalTrafficPolicy": "Local", "ipFamilyPolicy": "RequireDualStack",
                     "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
        }));
        let request = service.expect("a Service").request(true).expect("it is ours");
        assert_eq!(request.families, [Family::V4, Family::V6]);
        assert!(request.every_family);
        assert_eq!(request.wishes.pool.as_deref(), Some("lan"));
        assert!(request.ports.contains(&(Protocol::Tcp, 80)) && request.ports.contains(&(Protocol::Udp, 53)));
        assert_eq!(request.local.and_then(|selector| selector.get("app").cloned()).as_deref(), Some("web"));
        assert_eq!(request.recorded, ["192.0.2.1".parse::<IpAddr>().expect("an address")]);
    }

    #[test]
    fn what_is_no_service_is_said() {
        assert!(Service::read(&json!({"spec": 7})).is_err());
    }

    #[test]
    fn entries_that_we_would_not_write_are_seen() {
        for (ingress, is_ours) in [
            (json!({"ip": "192.0.2.1"}), true),
            (json!({"ip": "192.0.2.1", "ipMode": "VIP"}), true),
            (json!({"ip": "192.0.2.1", "ipMode": "Proxy"}), false),
            (json!({"ip": "192.0.2.1", "hostname": "lb.example"}), false),
            (json!({"hostname": "lb.example"}), false),
        ] {
            let read: Ingress = serde_json::from_value(ingress.clone()).expect("an entry");
            assert_eq!(read.written().is_some(), is_ours, "{ingress}");
        }
    }
}
