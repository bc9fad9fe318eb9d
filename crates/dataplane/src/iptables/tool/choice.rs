//! Which variant of iptables a host uses. All of Kubernetes must use the same (spec §5.1).

use std::io;

use portolan_netfilter::nft::TableRef;
use portolan_netfilter::socket::Socket;
use portolan_netfilter::xtables::{self, Place, Xtables};
use portolan_service::Family;

use crate::error::Error;
use crate::variant::{Variant, table_family};

/// What kubelet creates in table `mangle` of the variant that it uses (spec §5.1).
const KUBELET: [&str; 2] = ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"];
/// What service proxies create in tables `nat` and `filter` of the variant that they use.
const PROXY: [&str; 2] = ["KUBE-SERVICES", "KUBE-PROXY-CANARY"];
/// The tables that iptables has.
const TABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];

/// What a variant holds, of both families.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Traces {
    /// kubelet has been here.
    kubelet: bool,
    /// A service proxy has been here.
    proxy: bool,
    /// Rules of whomever
    rules: usize,
}

impl Traces {
    fn chain(&mut self, table: &str, chain: &str) {
        self.kubelet |= table == "mangle" && KUBELET.contains(&chain);
        self.proxy |= matches!(table, "nat" | "filter") && PROXY.contains(&chain);
    }
}

/// Why a variant is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Kubelet,
    Proxy,
    Rules,
}

impl Reason {
    /// For people, after "because".
    pub(super) fn text(self) -> &'static str {
        match self {
            Reason::Kubelet => "kubelet has its chains there",
            Reason::Proxy => "a service proxy has its chains there",
            Reason::Rules => "most of the host's rules are there",
        }
    }
}

/// The variant that the host uses already; `None` if neither stands out.
///
/// Looks at both families, so that it is the same for both. Loads no module of iptables-legacy.
pub(super) fn choose() -> Result<Option<(Variant, Reason)>, Error> {
    // Most hosts are decided by chains; rules may be many, and change while they are read.
    match prefer(&read(Depth::Chains)?) {
        None => Ok(prefer(&read(Depth::Rules)?)),
        chosen => Ok(chosen),
    }
}

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    Chains,
    Rules,
}

/// What both variants hold: iptables-nft, iptables-legacy.
fn read(depth: Depth) -> Result<[Traces; 2], Error> {
    let netlink = |variant| {
        let doing = format!("looking what the host has in {variant}, which needs CAP_NET_ADMIN");
        move |source| Error::Netlink { doing, source }
    };
    Ok([
        read_nft(depth).map_err(netlink(Variant::Nft))?,
        read_legacy(depth).map_err(netlink(Variant::Legacy))?,
    ])
}

fn prefer([nft, legacy]: &[Traces; 2]) -> Option<(Variant, Reason)> {
    let evidence = [
        (Reason::Kubelet, usize::from(nft.kubelet), usize::from(legacy.kubelet)),
        (Reason::Proxy, usize::from(nft.proxy), usize::from(legacy.proxy)),
        (Reason::Rules, nft.rules, legacy.rules),
    ];
    let (reason, nft, legacy) = evidence.into_iter().find(|(_, nft, legacy)| nft != legacy)?;
    Some((if nft > legacy { Variant::Nft } else { Variant::Legacy }, reason))
}

fn read_nft(depth: Depth) -> io::Result<Traces> {
    let mut traces = Traces::default();
    let mut socket = match Socket::open() {
        Ok(socket) => socket,
        Err(error) => return without_kernel_part(error),
    };
    for family in Family::ALL.map(table_family) {
        let present = match socket.tables(family) {
            Ok(present) => present,
            Err(error) => return without_kernel_part(error),
        };
        for name in TABLES.into_iter().filter(|name| present.iter().any(|table| table.name == *name)) {
            let table = TableRef { family, name };
            for chain in socket.chains(table)? {
                traces.chain(name, &chain.name);
            }
            if depth == Depth::Rules {
                traces.rules += socket.jumps(table)?.iter().map(|chain| chain.rules).sum::<usize>();
            }
        }
    }
    Ok(traces)
}

/// A kernel without nf_tables has no rules there.
fn without_kernel_part(error: io::Error) -> io::Result<Traces> {
    if error.kind() == io::ErrorKind::PermissionDenied { Err(error) } else { Ok(Traces::default()) }
}

fn read_legacy(depth: Depth) -> io::Result<Traces> {
    let mut traces = Traces::default();
    for family in Family::ALL.map(table_family) {
        let present = xtables::tables(family)?;
        for name in TABLES.into_iter().filter(|name| present.iter().any(|table| table == name)) {
            for chain in Xtables::open(family)?.read(name)?.chains() {
                if let Place::User(chain) = &chain.place {
                    traces.chain(name, chain);
                }
                if depth == Depth::Rules {
                    traces.rules += chain.rules.len();
                }
            }
        }
    }
    Ok(traces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variant_that_is_in_use_is_preferred() {
        let traces = |kubelet, proxy, rules| Traces { kubelet, proxy, rules };
        let nothing = Traces::default();
        let nft = |reason| Some((Variant::Nft, reason));
        let legacy = |reason| Some((Variant::Legacy, reason));
        // Situation, what nft and legacy hold, what is chosen (spec §5.1)
        let cases = [
            ("an empty host", nothing, nothing, None),
            ("kubelet's hint in nft", traces(true, false, 0), traces(false, true, 900), nft(Reason::Kubelet)),
            (
                "kubelet's hint in legacy",
                traces(false, true, 9),
                traces(true, false, 0),
                legacy(Reason::Kubelet),
            ),
            (
                "both hints: an earlier proxy",
                traces(true, false, 9),
                traces(true, true, 1),
                legacy(Reason::Proxy),
            ),
            ("an earlier proxy in nft", traces(false, true, 1), traces(false, false, 9), nft(Reason::Proxy)),
            ("proxies in both: rules", traces(false, true, 5), traces(false, true, 9), legacy(Reason::Rules)),
            ("rules of others", traces(false, false, 5), nothing, nft(Reason::Rules)),
            ("as many rules", traces(false, false, 5), traces(false, false, 5), None),
        ];
        for (situation, nft, legacy, expected) in cases {
            assert_eq!(prefer(&[nft, legacy]), expected, "{situation}");
        }
    }

    #[test]
    fn chains_are_known_by_table_and_name() {
        // Table, chain, kubelet, proxy
        let cases = [
            ("mangle", "KUBE-IPTABLES-HINT", true, false),
            ("mangle", "KUBE-KUBELET-CANARY", true, false),
            ("nat", "KUBE-KUBELET-CANARY", false, false),
            ("nat", "KUBE-SERVICES", false, true),
            ("filter", "KUBE-PROXY-CANARY", false, true),
            ("mangle", "KUBE-PROXY-CANARY", false, false),
            ("filter", "KUBE-FIREWALL", false, false),
            ("nat", "DOCKER", false, false),
        ];
        for (table, chain, kubelet, proxy) in cases {
            let mut traces = Traces::default();
            traces.chain(table, chain);
            assert_eq!((traces.kubelet, traces.proxy), (kubelet, proxy), "{table} {chain}");
        }
    }
}
