//! The facts that a responder reports.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Who a responder is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The pod's name.
    pub pod: String,
    /// Its node's name.
    pub node: String,
}

/// Who answered whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The pod that answered.
    pub pod: String,
    /// Its node.
    pub node: String,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// The client's address as the pod saw it.
    pub client: SocketAddr,
    /// The pod's own address and port.
    pub server: SocketAddr,
}

impl Answer {
    /// One for tests.
    #[cfg(test)]
    pub(super) fn example() -> Answer {
        Answer {
            pod: "web".to_owned(),
            node: "host1".to_owned(),
            protocol: "TCP".to_owned(),
            client: "192.168.50.100:4000".parse().unwrap(),
            server: "10.244.1.2:8080".parse().unwrap(),
        }
    }

    pub(super) fn new(identity: &Identity, protocol: &str, client: SocketAddr, server: SocketAddr) -> Answer {
        Answer {
            pod: identity.pod.clone(),
            node: identity.node.clone(),
            protocol: protocol.to_owned(),
            client,
            server,
        }
    }

    /// As one line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|error| unreachable!("text and addresses are JSON: {error}"))
    }
}
