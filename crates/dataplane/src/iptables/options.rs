//! The settings of mode iptables beside those of every mode.

use portolan_config::Config;
use portolan_service::PerFamily;

use crate::settings::{NodeFacts, NodePorts};

/// What mode iptables alone asks of the configuration, and of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whose chains are written
    pub layout: Layout,
    /// The addresses that NodePorts answer on (spec §5.17)
    pub node_ports: PerFamily<NodePorts>,
    /// NodePorts answer on IPv4 loopback addresses too (spec §3.10): asked for, and selected by the
    /// addresses for NodePorts.
    pub localhost_node_ports: bool,
    /// The one bit of the packet mark that says "masquerade" (spec §4.1)
    pub masquerade_mark: u32,
    /// Drop forwarded packets that connection tracking calls invalid (spec §5.14).
    pub drop_invalid: bool,
}

/// For which of kube-proxy's modes the chains are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layout {
    /// Mode iptables: rules lead to endpoints (spec §5).
    #[default]
    Services,
    /// Mode userspace: rules lead to sockets of this process, which stand for endpoints
    /// (`docs/userspace.md`, U5.1).
    Portals,
}

impl Default for Options {
    /// As kube-proxy has it without configuration, on a node whose loopback addresses have no
    /// NodePorts.
    fn default() -> Options {
        Options {
            layout: Layout::Services,
            node_ports: PerFamily::default(),
            localhost_node_ports: false,
            masquerade_mark: 1 << 14,
            drop_invalid: true,
        }
    }
}

impl Options {
    /// Those of mode iptables.
    pub(super) fn new(config: &Config, node: &NodeFacts) -> Options {
        Options {
            layout: Layout::Services,
            node_ports: node.node_ports.clone(),
            localhost_node_ports: serves_loopback(config) && node.selects_loopback,
            masquerade_mark: 1 << config.iptables.masquerade_bit,
            drop_invalid: !node.tcp_is_liberal,
        }
    }

    /// Those of rules that lead to sockets, which neither masquerade nor forward.
    pub(crate) fn portals(node: &NodeFacts) -> Options {
        Options { layout: Layout::Portals, node_ports: node.node_ports.clone(), ..Options::default() }
    }
}

pub(super) fn serves_loopback(config: &Config) -> bool {
    config.iptables.localhost_nodeports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_configuration_and_the_kernel() {
        let mut config = Config::default();
        config.iptables.masquerade_bit = 20;
        let strict = Options::new(&config, &NodeFacts::default());
        assert_eq!(strict.masquerade_mark, 0x0010_0000); // spec §4.1
        assert!(strict.drop_invalid); // spec §5.14
        let liberal = NodeFacts { tcp_is_liberal: true, ..NodeFacts::default() };
        assert!(!Options::new(&config, &liberal).drop_invalid);
    }
}
