//! Which chains and rules are to be removed, whatever program wrote them.
//!
//! The chains are known by name and table. The jumps are the rules of other chains that lead there.
//! Those of built-in chains are the proxy's own: no other program has a reason to write them, and
//! several versions worded them differently. Those of other chains belong to somebody who relies on
//! what they lead to.

use std::collections::{BTreeSet, HashMap};

use super::IsSought;
use crate::chain_names::{MARK_MASQ, POSTROUTING};

/// The tables that kube-proxy has ever written to, and we have.
pub(super) const TABLES: [&str; 3] = ["filter", "nat", "mangle"];

/// A chain and what its rules lead to.
#[derive(Debug, Clone)]
pub(super) struct SeenChain<'a> {
    pub(super) name: &'a str,
    /// The kernel calls it.
    pub(super) is_base: bool,
    /// How many rules it has
    pub(super) rules: usize,
    /// The chains that its rules jump or go to, each with what names the rule
    pub(super) jumps: Vec<(u64, &'a str)>,
}

/// What is to be removed from a table.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    /// Chains, by their place in the list, with all their rules
    pub(super) chains: Vec<usize>,
    /// Rules of other chains: the chain's place in the list, and what names the rule
    pub(super) jumps: Vec<(usize, u64)>,
    /// How many rules that is altogether
    pub(super) rules: usize,
    /// Chains that were looked for and must stay, each with the reason, for people
    pub(super) kept: Vec<(String, String)>,
}

impl Selection {
    pub(super) fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.jumps.is_empty()
    }
}

/// Selects what is looked for among the chains of `table`. A chain that somebody else's rules lead
/// to stays, with all that it leads to; so do those in `pinned`, which turned out to be in use in a
/// way that is not seen here.
///
/// That keeps the host ports of kubelet and old container runtimes working: their rules mark
/// packets by jumping to KUBE-MARK-MASQ, which is useless without KUBE-POSTROUTING (spec §5.43).
pub(super) fn select(
    is_sought: IsSought,
    table: &str,
    chains: &[SeenChain<'_>],
    pinned: &BTreeSet<String>,
) -> Selection {
    let ours: HashMap<&str, usize> = chains
        .iter()
        .enumerate()
        .filter(|(_, chain)| !chain.is_base && is_sought(table, chain.name))
        .map(|(at, chain)| (chain.name, at))
        .collect();
    let mut keep = Keep { reasons: HashMap::new(), pending: Vec::new() };
    for name in pinned {
        if let Some(at) = ours.get(name.as_str()) {
            keep.keep(*at, || "something other than a rule leads to it".to_owned());
        }
    }
    let mut jumps = Vec::new();
    for (at, chain) in chains.iter().enumerate().filter(|(_, chain)| !ours.contains_key(chain.name)) {
        for (rule, target) in &chain.jumps {
            let Some(to) = ours.get(target) else { continue };
            if chain.is_base && *target != MARK_MASQ {
                jumps.push((at, *rule, *target));
            } else {
                keep.keep(*to, || format!("chain {} jumps to it", chain.name));
            }
        }
    }
    keep.follow(chains, &ours);
    let masquerades = ours.get(MARK_MASQ).is_some_and(|at| keep.reasons.contains_key(at));
    if masquerades && let Some(at) = ours.get(POSTROUTING) {
        keep.keep(*at, || format!("{MARK_MASQ}, which stays, is of no use without it"));
        keep.follow(chains, &ours);
    }

    let mut selection = Selection::default();
    for (at, rule, target) in jumps {
        if !(masquerades && target == POSTROUTING) {
            selection.jumps.push((at, rule));
        }
    }
    selection.rules = selection.jumps.len();
    for (at, chain) in chains.iter().enumerate().filter(|(_, chain)| ours.contains_key(chain.name)) {
        if let Some(reason) = keep.reasons.remove(&at) {
            selection.kept.push((chain.name.to_owned(), reason));
        } else {
            selection.chains.push(at);
            selection.rules += chain.rules;
        }
    }
    selection
}

/// Chains that must stay.
struct Keep {
    reasons: HashMap<usize, String>,
    /// What these lead to was not looked at yet.
    pending: Vec<usize>,
}

impl Keep {
    fn keep(&mut self, at: usize, reason: impl FnOnce() -> String) {
        self.reasons.entry(at).or_insert_with(|| {
            self.pending.push(at);
            reason()
        });
    }

    fn follow(&mut self, chains: &[SeenChain<'_>], ours: &HashMap<&str, usize>) {
        while let Some(at) = self.pending.pop() {
            for (_, target) in &chains[at].jumps {
                if let Some(to) = ours.get(target) {
                    self.keep(*to, || format!("{}, which stays, jumps to it", chains[at].name));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube_proxy::{is_of_kube_proxy, is_of_other_modes};

    /// `chain: target target …`; capitals without a dash are built in.
    fn parse(text: &str) -> Vec<(String, Vec<String>)> {
        text.split(';')
            .map(|chain| {
                let (name, targets) = chain.split_once(':').expect("a colon");
                (name.trim().to_owned(), targets.split_whitespace().map(str::to_owned).collect())
            })
            .collect()
    }

    fn selected(is_sought: IsSought, table: &str, text: &str, pinned: &[&str]) -> String {
        let parsed = parse(text);
        let chains: Vec<SeenChain<'_>> = parsed
            .iter()
            .map(|(name, targets)| SeenChain {
                name,
                is_base: !name.contains('-') && *name == name.to_uppercase(),
                rules: targets.len(),
                jumps: targets.iter().zip(0..).map(|(target, rule)| (rule, target.as_str())).collect(),
            })
            .collect();
        let pinned = pinned.iter().map(|name| (*name).to_owned()).collect();
        let selection = select(is_sought, table, &chains, &pinned);
        let names: Vec<&str> = selection.chains.iter().map(|at| chains[*at].name).collect();
        let jumps: Vec<String> =
            selection.jumps.iter().map(|(at, rule)| format!("{}#{rule}", chains[*at].name)).collect();
        let kept: Vec<&str> = selection.kept.iter().map(|(name, _)| name.as_str()).collect();
        format!("{} | {} | {}", names.join(" "), jumps.join(" "), kept.join(" "))
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table of cases")]
    fn selections() {
        // name, table, chains with what they lead to, pinned, removed chains | removed jumps | kept
        // chains
        let cases: [(&str, &str, &str, &[&str], &str); 14] = [
            ("nothing there", "nat", "OUTPUT: DOCKER ACCEPT; DOCKER: RETURN", &[], " |  | "),
            (
                "§5.5: built-in chains lose their jumps only",
                "nat",
                "PREROUTING: KUBE-SERVICES DOCKER; OUTPUT: DOCKER KUBE-SERVICES; KUBE-SERVICES: KUBE-SVC-A; KUBE-SVC-A: ; DOCKER: ",
                &[],
                "KUBE-SERVICES KUBE-SVC-A | PREROUTING#0 OUTPUT#1 | ",
            ),
            (
                "§5.9, §5.44: every chain of a Service port",
                "nat",
                "KUBE-SVC-A: ; KUBE-SVL-A: ; KUBE-EXT-A: ; KUBE-FW-A: ; KUBE-SEP-A: ; KUBE-XLB-A: ; KUBE-SVCX: ",
                &[],
                "KUBE-SVC-A KUBE-SVL-A KUBE-EXT-A KUBE-FW-A KUBE-SEP-A KUBE-XLB-A |  | ",
            ),
            ("Service chains are of nat alone", "filter", "KUBE-SVC-A: ; KUBE-MARK-MASQ: ", &[], " |  | "),
            (
                "§5.40: kubelet's stay with their jumps",
                "filter",
                "INPUT: KUBE-FIREWALL KUBE-NODEPORTS; KUBE-FIREWALL: DROP; KUBE-KUBELET-CANARY: ; KUBE-NODEPORTS: ACCEPT",
                &[],
                "KUBE-NODEPORTS | INPUT#1 | ",
            ),
            (
                "§5.41: KUBE-MARK-DROP is kubelet's",
                "nat",
                "KUBE-MARK-DROP: MARK; KUBE-XLB-A: KUBE-MARK-DROP",
                &[],
                "KUBE-XLB-A |  | ",
            ),
            (
                "§5.43: host ports keep their mark and what acts on it",
                "nat",
                "PREROUTING: KUBE-HOSTPORTS KUBE-SERVICES; POSTROUTING: KUBE-POSTROUTING; KUBE-HOSTPORTS: KUBE-HP-A; KUBE-HP-A: KUBE-MARK-MASQ; KUBE-MARK-MASQ: ; KUBE-POSTROUTING: ; KUBE-SERVICES: ",
                &[],
                "KUBE-SERVICES | PREROUTING#1 | KUBE-MARK-MASQ KUBE-POSTROUTING",
            ),
            (
                "a built-in chain that marks is not kube-proxy's",
                "nat",
                "PREROUTING: KUBE-MARK-MASQ; POSTROUTING: KUBE-POSTROUTING; KUBE-MARK-MASQ: ; KUBE-POSTROUTING: ",
                &[],
                " |  | KUBE-MARK-MASQ KUBE-POSTROUTING",
            ),
            (
                "without host ports nothing is kept",
                "nat",
                "POSTROUTING: KUBE-POSTROUTING; KUBE-HOSTPORTS: ; KUBE-MARK-MASQ: ; KUBE-POSTROUTING: ; KUBE-SEP-A: KUBE-MARK-MASQ",
                &[],
                "KUBE-MARK-MASQ KUBE-POSTROUTING KUBE-SEP-A | POSTROUTING#0 | ",
            ),
            (
                "what a foreign chain leads to stays with all behind it",
                "nat",
                "OUTPUT: KUBE-SERVICES; cali-x: KUBE-SVC-A; KUBE-SERVICES: KUBE-SVC-A KUBE-SVC-B; KUBE-SVC-A: KUBE-SEP-A; KUBE-SVC-B: KUBE-SEP-B; KUBE-SEP-A: ; KUBE-SEP-B: ",
                &[],
                "KUBE-SERVICES KUBE-SVC-B KUBE-SEP-B | OUTPUT#0 | KUBE-SVC-A KUBE-SEP-A",
            ),
            (
                "a pinned chain stays with what it leads to",
                "nat",
                "KUBE-SVC-A: KUBE-SEP-A; KUBE-SEP-A: ; KUBE-SEP-B: ",
                &["KUBE-SVC-A", "KUBE-SVC-GONE"],
                "KUBE-SEP-B |  | KUBE-SVC-A KUBE-SEP-A",
            ),
            (
                "§7.17, §7.18: IPVS mode",
                "filter",
                "INPUT: KUBE-IPVS-FILTER KUBE-PROXY-FIREWALL KUBE-NODE-PORT; KUBE-IPVS-FILTER: ; KUBE-PROXY-FIREWALL: KUBE-SOURCE-RANGES-FIREWALL; KUBE-SOURCE-RANGES-FIREWALL: ; KUBE-NODE-PORT: ; KUBE-IPVS-OUT-FILTER: ",
                &[],
                "KUBE-IPVS-FILTER KUBE-PROXY-FIREWALL KUBE-SOURCE-RANGES-FIREWALL KUBE-NODE-PORT KUBE-IPVS-OUT-FILTER | INPUT#0 INPUT#1 INPUT#2 | ",
            ),
            (
                "§7.24: userspace mode",
                "nat",
                "PREROUTING: KUBE-PORTALS-CONTAINER KUBE-NODEPORT-CONTAINER; KUBE-PORTALS-CONTAINER: ; KUBE-NODEPORT-CONTAINER: ; KUBE-PORTALS-HOST: ; KUBE-NODEPORT-HOST: ",
                &[],
                "KUBE-PORTALS-CONTAINER KUBE-NODEPORT-CONTAINER KUBE-PORTALS-HOST KUBE-NODEPORT-HOST | PREROUTING#0 PREROUTING#1 | ",
            ),
            (
                "network policy chains of others that begin alike",
                "filter",
                "FORWARD: KUBE-ROUTER-FORWARD; KUBE-ROUTER-FORWARD: KUBE-POD-FW-A; KUBE-POD-FW-A: KUBE-NWPLCY-A; KUBE-NWPLCY-A: ",
                &[],
                " |  | ",
            ),
        ];
        for (name, table, chains, pinned, expected) in cases {
            assert_eq!(selected(is_of_kube_proxy, table, chains, pinned), expected, "{name}");
        }
    }

    #[test]
    fn what_mode_iptables_uses_stays_while_it_serves() {
        for (name, table, chains, expected) in [
            (
                "all of mode iptables",
                "nat",
                "OUTPUT: KUBE-SERVICES; POSTROUTING: KUBE-POSTROUTING; KUBE-SERVICES: KUBE-SVC-A KUBE-NODEPORTS; KUBE-NODEPORTS: KUBE-EXT-A; KUBE-SVC-A: KUBE-SEP-A; KUBE-EXT-A: KUBE-SVC-A; KUBE-SEP-A: KUBE-MARK-MASQ; KUBE-SVL-A: ; KUBE-FW-A: ; KUBE-MARK-MASQ: ; KUBE-POSTROUTING: ; KUBE-PROXY-CANARY: ",
                " |  | ",
            ),
            (
                "§7.18, §5.44: chains of IPVS mode and of old versions go",
                "nat",
                "OUTPUT: KUBE-SERVICES KUBE-LOAD-BALANCER; KUBE-SERVICES: KUBE-SVC-A; KUBE-SVC-A: ; KUBE-LOAD-BALANCER: ; KUBE-XLB-A: KUBE-SVC-A; KUBE-NODE-PORT: KUBE-MARK-MASQ; KUBE-MARK-MASQ: ",
                "KUBE-LOAD-BALANCER KUBE-XLB-A KUBE-NODE-PORT | OUTPUT#1 | ",
            ),
            (
                "unless one that serves leads there",
                "nat",
                "OUTPUT: KUBE-SERVICES; KUBE-SERVICES: KUBE-NODE-PORT; KUBE-NODE-PORT: ",
                " |  | KUBE-NODE-PORT",
            ),
            (
                "§7.17: IPVS mode's of table filter",
                "filter",
                "INPUT: KUBE-IPVS-FILTER KUBE-PROXY-FIREWALL; KUBE-IPVS-FILTER: ; KUBE-PROXY-FIREWALL: ",
                "KUBE-IPVS-FILTER | INPUT#0 | ",
            ),
        ] {
            assert_eq!(selected(is_of_other_modes, table, chains, &[]), expected, "{name}");
        }
    }

    #[test]
    fn rules_are_counted_once() {
        let chains = [
            SeenChain { name: "OUTPUT", is_base: true, rules: 7, jumps: vec![(3, "KUBE-SERVICES")] },
            SeenChain { name: "KUBE-SERVICES", is_base: false, rules: 5, jumps: vec![(9, "KUBE-SVC-A")] },
            SeenChain { name: "KUBE-SVC-A", is_base: false, rules: 2, jumps: vec![] },
        ];
        assert_eq!(select(is_of_kube_proxy, "nat", &chains, &BTreeSet::new()).rules, 1 + 5 + 2);
    }
}
