//! The objects that changes amount to.

use std::collections::BTreeMap;
use std::sync::Arc;

use portolan_service::{Change, EndpointSlice, Node, Service};

/// All objects, by name.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct State {
    pub(crate) services: BTreeMap<String, Service>,
    pub(crate) slices: BTreeMap<String, EndpointSlice>,
    pub(crate) nodes: BTreeMap<String, Node>,
}

impl State {
    pub(crate) fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Service(service) => {
                    self.services.insert(service.name.to_string(), Arc::unwrap_or_clone(service));
                }
                Change::ServiceRemoved(name) => {
                    self.services.remove(name.as_str());
                }
                Change::Slice(slice) => {
                    self.slices.insert(slice.name.to_string(), Arc::unwrap_or_clone(slice));
                }
                Change::SliceRemoved(name) => {
                    self.slices.remove(name.as_str());
                }
                Change::Node(node) => {
                    self.nodes.insert(node.name.to_string(), node);
                }
                Change::NodeRemoved(name) => {
                    self.nodes.remove(&*name);
                }
            }
        }
    }

    /// The Services with the first port of each.
    pub(crate) fn ports(&self) -> Vec<(&str, u16)> {
        self.services.iter().map(|(name, service)| (name.as_str(), service.ports[0].port)).collect()
    }

    /// Each slice as a line: `name [port/protocol=number] address?!~ ...`, where `?` is not ready,
    /// `!` not serving, `~` terminating, and `@` begins the hints.
    pub(crate) fn slice_lines(&self) -> Vec<String> {
        self.slices.values().map(line).collect()
    }
}

fn line(slice: &EndpointSlice) -> String {
    let ports = slice.ports.iter().map(|port| {
        let number = port.port.map_or("all".to_owned(), |number| number.to_string());
        format!("{}/{}={number}", port.name, port.protocol)
    });
    let endpoints = slice.endpoints.iter().map(|endpoint| {
        let mut text = endpoint.address.to_string();
        for (mark, set) in [('?', !endpoint.ready), ('!', !endpoint.serving), ('~', endpoint.terminating)] {
            if set {
                text.push(mark);
            }
        }
        for hint in endpoint.hints.zones().iter().chain(endpoint.hints.nodes()) {
            text.push('@');
            text.push_str(hint);
        }
        text
    });
    let ports: Vec<String> = ports.collect();
    let endpoints: Vec<String> = endpoints.collect();
    format!("{} [{}] {}", slice.name, ports.join(" "), endpoints.join(" "))
}

/// A Service with one port.
pub(crate) fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n"
    )
}
