//! `--proxy-mode` of `portolan lab up`: of all nodes, and of single ones.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;

use super::UpArgs;
use crate::proxy::ProxyMode;

/// A mode, or that of one node's proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModeOf {
    /// All nodes that are not named, if it is missing.
    node: Option<String>,
    mode: ProxyMode,
}

impl FromStr for ModeOf {
    type Err = String;

    fn from_str(text: &str) -> Result<ModeOf, String> {
        let (node, mode) = match text.split_once('=') {
            Some(("", _)) => return Err("write NODE=MODE, such as host2=iptables".to_owned()),
            Some((node, mode)) => (Some(node.to_owned()), mode),
            None => (None, text),
        };
        let parsed = ProxyMode::from_str(mode, false);
        let mode =
            parsed.map_err(|_| format!("{mode:?} is no mode; take nftables, iptables or userspace"))?;
        Ok(ModeOf { node, mode })
    }
}

impl fmt::Display for ModeOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Some(node) => write!(f, "{node}={}", self.mode.name()),
            None => f.write_str(self.mode.name()),
        }
    }
}

impl UpArgs {
    /// That of nodes that are not named: the last one given.
    pub(super) fn usual_proxy_mode(&self) -> ProxyMode {
        let mut usual = self.proxy_mode.iter().filter(|one| one.node.is_none());
        usual.next_back().map(|one| one.mode).unwrap_or_default()
    }

    /// Those of nodes that are named.
    pub(super) fn node_proxy_modes(&self) -> BTreeMap<String, ProxyMode> {
        let named = self.proxy_mode.iter().filter_map(|one| Some((one.node.clone()?, one.mode)));
        named.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_they_are_written() {
        for text in ["nftables", "host2=iptables"] {
            assert_eq!(text.parse::<ModeOf>().unwrap().to_string(), text);
        }
        for (text, message) in [
            ("ipvs", "\"ipvs\" is no mode; take nftables, iptables or userspace"),
            ("a=ipvs", "\"ipvs\" is no mode; take nftables, iptables or userspace"),
            ("=iptables", "write NODE=MODE, such as host2=iptables"),
        ] {
            assert_eq!(text.parse::<ModeOf>().unwrap_err(), message);
        }
    }
}
