//! What is left after removal must be what a node has on which kube-proxy never ran, counters
//! included.

use libtest_mimic::Failed;
use portolan_dataplane::iptables::{self, MARK, OwnChains};
use portolan_dataplane::kube_proxy::{self, Search};
use portolan_dataplane::{InUse, Kept, Part, Variant as Kind};
use portolan_service::{Family, PerFamily};

use crate::namespace::{alone, lock, tool};
use crate::rules::{Random, Table, foreign, kube_proxy, mixed, text};

/// `nft` or `legacy`
type Variant = &'static str;

fn program(variant: Variant, ipv6: bool, what: &str) -> String {
    format!("{}-{variant}{what}", if ipv6 { "ip6tables" } else { "iptables" })
}

/// What is there, without remarks.
fn saved(variant: Variant, ipv6: bool) -> Result<String, Failed> {
    let text = tool(&format!("{} -c", program(variant, ipv6, "-save")), "")?;
    Ok(text.split_inclusive('\n').filter(|line| !line.starts_with('#')).collect())
}

fn restore(variant: Variant, ipv6: bool, rules: &str) -> Result<(), Failed> {
    tool(&format!("{} -c", program(variant, ipv6, "-restore")), rules).map(drop)
}

fn tables_sorted(saved: &str) -> Vec<&str> {
    let mut tables: Vec<&str> = saved.split_inclusive("COMMIT\n").collect();
    tables.sort_unstable();
    tables
}

fn chains_of(kept: &[Kept]) -> Vec<&str> {
    kept.iter()
        .map(|kept| match kept {
            Kept::Chain { chain, .. } => chain.as_str(),
            Kept::IpSet(set) => set,
            Kept::VirtualServers(_) => "virtual servers",
        })
        .collect()
}

/// Loads `rules`, removes what is kube-proxy's and compares with what the rest of `rules` is alone.
fn removes_exactly(variant: Variant, ipv6: bool, rules: Vec<Table>) -> Result<(), Failed> {
    let without = text(&rules, false);
    let expected = alone(move || {
        restore(variant, ipv6, &without)?;
        saved(variant, ipv6)
    })?;
    alone(move || {
        restore(variant, ipv6, &text(&rules, true))?;
        let chains = rules.iter().flat_map(|table| &table.chains).filter(|(_, ours)| *ours).count();
        let rules = rules.iter().flat_map(|table| &table.rules).filter(|(_, ours)| *ours).count();
        let found = kube_proxy::find()?;
        let [Part::Iptables { chains: found_chains, rules: found_rules, .. }] = found.parts[..] else {
            return Err(format!("found {found}").into());
        };
        assert_eq!((found_chains, found_rules), (chains, rules), "{found}");
        let removed = kube_proxy::remove_locking(&lock())?;
        assert_eq!(removed.parts, found.parts);
        let left = saved(variant, ipv6)?;
        assert_eq!(tables_sorted(&left), tables_sorted(&expected));
        let again = kube_proxy::remove_locking(&lock())?;
        assert!(again.is_empty(), "a second time: {again}");
        assert!(kube_proxy::find()?.is_empty());
        Ok(())
    })
}

fn mixed_rules(variant: Variant) -> Result<(), Failed> {
    for ipv6 in [false, true] {
        for seed in 0..6 {
            let rules = mixed(foreign(ipv6), kube_proxy(ipv6, 5, 3), &mut Random(seed));
            removes_exactly(variant, ipv6, rules)
                .map_err(|error| format!("seed {seed}, IPv6 {ipv6}: {error:?}"))?;
        }
    }
    Ok(())
}

pub(crate) fn mixed_nft() -> Result<(), Failed> {
    mixed_rules("nft")
}

pub(crate) fn mixed_legacy() -> Result<(), Failed> {
    mixed_rules("legacy")
}

/// A node of 2017 (`node-of-2017.iptables-save`, its rules in the order and words of that time),
/// parted by hand.
fn node_of_2017(variant: Variant) -> Result<(), Failed> {
    let dump = include_str!("node-of-2017.iptables-save");
    let kubelets = ["KUBE-FIREWALL", "KUBE-HOSTPORTS", "KUBE-MARK-DROP"];
    let mut tables: Vec<Table> = Vec::new();
    for line in dump.lines() {
        if let Some(name) = line.strip_prefix('*') {
            let name = if name == "nat" { "nat" } else { "filter" };
            tables.push(Table { name, ..Table::default() });
        }
        let Some(table) = tables.last_mut() else { continue };
        let ours = |word: &str| word.starts_with("KUBE-") && !kubelets.contains(&word);
        if let Some(chain) = line.strip_prefix(':').and_then(|line| line.strip_suffix(" - [0:0]")) {
            table.chains.push((chain.to_owned(), ours(chain)));
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let (chain, target) = (rule.split(' ').next(), rule.rsplit(' ').next());
            table.rules.push((rule.to_owned(), chain.is_some_and(ours) || target.is_some_and(ours)));
        }
    }
    assert_eq!(tables.len(), 2);
    removes_exactly(variant, false, tables)
}

pub(crate) fn node_of_2017_nft() -> Result<(), Failed> {
    node_of_2017("nft")
}

pub(crate) fn node_of_2017_legacy() -> Result<(), Failed> {
    node_of_2017("legacy")
}

/// kubelet's host ports mark packets with kube-proxy's chain (spec §5.43).
pub(crate) fn host_ports_go_on() -> Result<(), Failed> {
    for variant in ["nft", "legacy"] {
        alone(move || {
            let mut rules = kube_proxy(false, 2, 2);
            let foreign = [
                "PREROUTING -m comment --comment \"kube hostport portals\" -m addrtype --dst-type LOCAL -j KUBE-HOSTPORTS",
                "KUBE-HOSTPORTS -p tcp -m tcp --dport 8080 -j KUBE-HP-ABCDEFGHIJKLMNOP",
                "KUBE-HP-ABCDEFGHIJKLMNOP -s 10.244.0.9/32 -j KUBE-MARK-MASQ",
                "KUBE-HP-ABCDEFGHIJKLMNOP -p tcp -m tcp -j DNAT --to-destination 10.244.0.9:80",
            ];
            let nat = &mut rules[2];
            nat.chains.extend(
                ["KUBE-HOSTPORTS", "KUBE-HP-ABCDEFGHIJKLMNOP"].map(|chain| (chain.to_owned(), false)),
            );
            nat.rules.extend(foreign.map(|rule| (rule.to_owned(), false)));
            restore(variant, false, &text(&rules, true))?;
            let removed = kube_proxy::remove_locking(&lock())?;
            let kept = chains_of(&removed.kept);
            assert_eq!(kept, ["KUBE-MARK-MASQ", "KUBE-POSTROUTING"], "{variant}");
            assert!(
                removed.kept[0].to_string().contains("KUBE-HP-ABCDEFGHIJKLMNOP jumps to it"),
                "{variant}"
            );
            let left = saved(variant, false)?;
            for rule in foreign {
                assert!(left.contains(rule), "{variant}: {rule} is missing from {left}");
            }
            for rule in &rules[2].rules {
                let stays = [" KUBE-POSTROUTING", "KUBE-POSTROUTING ", "KUBE-MARK-MASQ "]
                    .iter()
                    .any(|words| rule.0.contains(words) && !rule.0.contains("-j KUBE-MARK-MASQ"));
                if rule.1 && stays {
                    assert!(
                        left.contains(&format!("-A {}", rule.0)),
                        "{variant}: {} is missing from {left}",
                        rule.0
                    );
                }
            }
            assert!(!left.contains("KUBE-SERVICES") && !left.contains("KUBE-SEP-"), "{variant}: {left}");
            assert!(kube_proxy::find()?.is_empty());
            Ok(())
        })?;
    }
    Ok(())
}

/// What rules do not show: a verdict map leads to a chain. It stays, and all else goes.
pub(crate) fn chain_in_a_map_stays() -> Result<(), Failed> {
    alone(|| {
        restore("nft", false, &text(&kube_proxy(false, 2, 2), true))?;
        tool(
            "nft -f -",
            "add map ip nat m { type ipv4_addr : verdict; }\n\
             add element ip nat m { 192.0.2.1 : jump KUBE-SVC-AAAAAAAAAAAAAAA0 }\n",
        )?;
        let removed = kube_proxy::remove_locking(&lock())?;
        let mut kept = chains_of(&removed.kept);
        let expected = [
            "KUBE-MARK-MASQ",
            "KUBE-POSTROUTING",
            "KUBE-SEP-BBBBBBBBBBBBBBB0",
            "KUBE-SEP-BBBBBBBBBBBBBBB1",
            "KUBE-SVC-AAAAAAAAAAAAAAA0",
        ];
        kept.sort_unstable();
        assert_eq!(kept, expected);
        let left = saved("nft", false)?;
        assert!(!left.contains("KUBE-SERVICES") && !left.contains("KUBE-SVC-AAAAAAAAAAAAAAA1"), "{left}");
        Ok(())
    })
}

/// Loads `rules` in as many transactions as a process without privileges must.
fn restore_in_portions(rules: &str) -> Result<(), Failed> {
    for table in rules.split_inclusive("COMMIT\n") {
        let (name, lines) = table.split_once('\n').expect("a table has a name");
        let lines: Vec<&str> = lines.lines().filter(|line| *line != "COMMIT").collect();
        for some in lines.chunks(150) {
            tool("iptables-nft-restore -c -n", &format!("{name}\n{}\nCOMMIT\n", some.join("\n")))?;
        }
    }
    Ok(())
}

/// Both families and both interfaces on one node, with 40,000 rules in one of them; a quarter of
/// that, which is still far more than fits into one transaction, where the tools may not send more.
pub(crate) fn large() -> Result<(), Failed> {
    alone(|| {
        let services =
            if portolan_netfilter::socket::Socket::open()?.batch_limit().is_some() { 1000 } else { 4000 };
        let rules = text(&kube_proxy(false, services, 3), true);
        if services == 4000 {
            restore("nft", false, &rules)?;
        } else {
            restore_in_portions(&rules)?;
        }
        restore("legacy", false, &text(&kube_proxy(false, 400, 3), true))?;
        restore("nft", true, &text(&kube_proxy(true, 10, 3), true))?;
        restore("legacy", true, &text(&kube_proxy(true, 10, 3), true))?;
        let removed = kube_proxy::remove_locking(&lock())?;
        let lines: Vec<String> = removed.lines().collect();
        // Each Service has a rule, a chain, and for each of 3 endpoints a chain and 3 rules.
        let rules = |services: usize| services * (1 + 9) + 9 + 3 + 3 + 4 + 1;
        let chains = |services: usize| services * 4 + 6 + 5 + 1;
        let expected =
            [("nft", "IPv4", services), ("nft", "IPv6", 10), ("legacy", "IPv4", 400), ("legacy", "IPv6", 10)]
                .map(|(variant, family, services)| {
                    format!(
                        "iptables ({variant}), {family}: {} chains, {} rules",
                        chains(services),
                        rules(services)
                    )
                });
        assert_eq!(lines, expected);
        assert!(kube_proxy::find()?.is_empty());
        for (variant, ipv6) in [("nft", false), ("nft", true), ("legacy", false), ("legacy", true)] {
            assert!(!saved(variant, ipv6)?.contains("KUBE"));
        }
        Ok(())
    })
}

/// Tables that nobody asked for do not come into being.
pub(crate) fn nothing_there() -> Result<(), Failed> {
    alone(|| {
        let found = kube_proxy::find()?;
        assert!(found.is_empty(), "{found}");
        let removed = kube_proxy::remove_locking(&lock())?;
        assert!(removed.is_empty(), "{removed}");
        assert_eq!(std::fs::read_to_string("/proc/thread-self/net/ip_tables_names")?, "");
        assert_eq!(std::fs::read_to_string("/proc/thread-self/net/ip6_tables_names")?, "");
        assert_eq!(tool("nft list ruleset", "")?, "");
        Ok(())
    })
}

/// Mode nftables, beside a table of somebody else's (spec §6.2).
pub(crate) fn nftables_mode() -> Result<(), Failed> {
    alone(|| {
        let other = "table ip kube-proxy-not {\n\tchain services {\n\t}\n}\n";
        tool("nft -f -", other)?;
        let before = tool("nft list ruleset", "")?;
        for family in ["ip", "ip6"] {
            let table = format!(
                "table {family} kube-proxy {{\n comment \"rules for kube-proxy\"\n map service-ips {{ type ipv4_addr : verdict; }}\n \
                 chain a {{ type nat hook prerouting priority dstnat; jump b; }}\n chain b {{ counter; }}\n}}\n"
            );
            // A jump needs its chain first.
            let declared = format!("add table {family} kube-proxy\nadd chain {family} kube-proxy b\n{table}");
            tool("nft -f -", &declared)?;
        }
        let removed = kube_proxy::remove_locking(&lock())?;
        let lines: Vec<String> = removed.lines().collect();
        assert_eq!(lines, ["nftables: table ip kube-proxy", "nftables: table ip6 kube-proxy"]);
        assert_eq!(tool("nft list ruleset", "")?, before);
        assert!(kube_proxy::remove_locking(&lock())?.is_empty());
        Ok(())
    })
}

/// What Calico's Felix asks for: a chain in table kube-proxy, of either family.
fn chains_of_table(family: &str) -> Result<Vec<String>, Failed> {
    let listed = tool("nft list ruleset", "")?;
    let mut inside = false;
    let mut chains = Vec::new();
    for line in listed.lines() {
        if line.starts_with("table ") {
            inside = line == format!("table {family} kube-proxy {{");
        } else if let Some(chain) = line.trim().strip_prefix("chain ").filter(|_| inside) {
            chains.push(chain.trim_end_matches(" {").to_owned());
        }
    }
    Ok(chains)
}

/// The chain that has Felix choose nftables: it stays when kube-proxy's table goes, and goes
/// without taking kube-proxy's along.
pub(crate) fn calico_marker() -> Result<(), Failed> {
    const MARKER: [&str; 1] = ["portolan-marker"];
    alone(|| {
        kube_proxy::mark(false)?;
        assert_eq!(tool("nft list ruleset", "")?, "", "where nothing is, nothing comes into being");
        for _ in 0..2 {
            kube_proxy::mark(true)?;
            assert_eq!(chains_of_table("ip")?, MARKER);
            assert_eq!(chains_of_table("ip6")?, MARKER);
        }
        let search = Search { xtables_lock: lock(), ..Search::default() };
        assert!(search.find()?.is_empty(), "the marker is nothing that kube-proxy left");
        assert!(kube_proxy::remove_locking(&lock())?.is_empty());
        assert_eq!(chains_of_table("ip")?, MARKER);

        let services = "add chain ip kube-proxy services\nadd rule ip kube-proxy services counter\n";
        tool("nft -f -", services)?;
        let removed = kube_proxy::remove_locking(&lock())?;
        assert_eq!(removed.lines().collect::<Vec<_>>(), ["nftables: table ip kube-proxy"]);
        assert_eq!(chains_of_table("ip")?, MARKER, "taking over leaves the marker");

        tool("nft -f -", services)?;
        kube_proxy::mark(false)?;
        assert_eq!(chains_of_table("ip")?, ["services"], "kube-proxy's own chains are not the marker");
        assert_eq!(chains_of_table("ip6")?, [""; 0]);
        kube_proxy::remove_locking(&lock())?;
        assert_eq!(tool("nft list ruleset", "")?, "");
        Ok(())
    })
}

/// Rules of mode iptables with some that only other modes have, marked as ours or not.
fn with_other_modes(marked: bool) -> String {
    let mark = format!("-A KUBE-POSTROUTING -m comment --comment \"{MARK}\" -j RETURN\n");
    format!(
        "*mangle\n:KUBE-PROXY-CANARY - [0:0]\nCOMMIT\n\
         *nat\n:KUBE-POSTROUTING - [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-A - [0:0]\n:KUBE-XLB-A - [0:0]\n\
         :KUBE-NODE-PORT - [0:0]\n{}-A OUTPUT -m comment --comment \"{MARK}\" -j KUBE-SERVICES\n\
         -A OUTPUT -j KUBE-NODE-PORT\n-A KUBE-SERVICES -d 10.96.0.1 -j KUBE-SVC-A\n-A KUBE-XLB-A -j KUBE-SVC-A\nCOMMIT\n",
        if marked { &mark } else { "" }
    )
}

/// Rules are ours where the mark is: in its chain, and all of the comment.
fn marks(variant: Variant, kind: Kind) -> Result<(), Failed> {
    let in_use = InUse { iptables: PerFamily { v4: Some(kind), v6: None }, ..InUse::default() };
    let own = || OwnChains { beside: InUse::default(), xtables_lock: lock() };
    let beside = move || Search { beside: in_use, xtables_lock: lock() };
    alone(move || {
        assert!(iptables::marked()?.is_empty(), "without any table");
        restore(variant, false, &with_other_modes(false))?;
        assert!(iptables::marked()?.is_empty(), "the comment elsewhere is no mark");
        assert!(own().find()?.is_empty());
        let before = saved(variant, false)?;
        assert!(own().remove()?.is_empty());
        assert_eq!(saved(variant, false)?, before);
        tool(
            &format!(
                "{} -t nat -A KUBE-POSTROUTING -m comment --comment writtenbyportolan -j RETURN",
                program(variant, false, "")
            ),
            "",
        )?;
        assert!(iptables::marked()?.is_empty(), "another comment is no mark");
        Ok(())
    })?;
    alone(move || {
        restore(variant, false, &with_other_modes(true))?;
        assert_eq!(iptables::marked()?, [(kind, Family::V4)]);
        let serving = OwnChains { beside: in_use, xtables_lock: lock() };
        assert!(serving.find()?.is_empty(), "what serves is not looked for");
        let removed = beside().remove()?;
        let [Part::Iptables { chains: 2, rules: 2, .. }] = removed.parts[..] else {
            return Err(format!("removed {removed}").into());
        };
        let left = saved(variant, false)?;
        for gone in ["KUBE-XLB-A", "KUBE-NODE-PORT"] {
            assert!(!left.contains(gone), "{gone}:\n{left}");
        }
        for stays in ["-A OUTPUT", "-A KUBE-SERVICES", "-A KUBE-POSTROUTING", ":KUBE-SVC-A"] {
            assert!(left.contains(stays), "{stays}:\n{left}");
        }
        let removed = own().remove()?;
        let [Part::Iptables { chains: 4, rules: 3, .. }] = removed.parts[..] else {
            return Err(format!("removed {removed}").into());
        };
        assert!(!saved(variant, false)?.contains("KUBE-"));
        assert!(iptables::marked()?.is_empty());
        Ok(())
    })?;
    // Somebody flushed nat while nobody served: what is left is ours all the same.
    alone(move || {
        let filter = format!(
            "*filter\n:KUBE-FORWARD - [0:0]\n:KUBE-SERVICES - [0:0]\n-A FORWARD -j KUBE-FORWARD\n\
             -A KUBE-FORWARD -m comment --comment \"{MARK}\" -j RETURN\nCOMMIT\n"
        );
        restore(variant, false, &format!("{}{filter}", with_other_modes(true)))?;
        for flush in ["-t nat -F", "-t nat -X"] {
            tool(&format!("{} {flush}", program(variant, false, "")), "")?;
        }
        assert_eq!(iptables::marked()?, [(kind, Family::V4)]);
        let removed = own().remove()?;
        let [Part::Iptables { chains: 3, rules: 2, .. }] = removed.parts[..] else {
            return Err(format!("removed {removed}").into());
        };
        assert!(!saved(variant, false)?.contains("KUBE-"));
        Ok(())
    })?;
    // kube-proxy begins each sync with the headers of these chains, which empties them.
    alone(move || {
        restore(variant, false, &with_other_modes(true))?;
        let sync = "*nat\n:KUBE-POSTROUTING - [0:0]\n-A KUBE-POSTROUTING -j MASQUERADE\nCOMMIT\n";
        tool(&format!("{} --noflush", program(variant, false, "-restore")), sync)?;
        assert!(iptables::marked()?.is_empty(), "the chains are kube-proxy's again");
        assert!(own().find()?.is_empty());
        Ok(())
    })
}

pub(crate) fn marks_nft() -> Result<(), Failed> {
    marks("nft", Kind::Nft)
}

pub(crate) fn marks_legacy() -> Result<(), Failed> {
    marks("legacy", Kind::Legacy)
}
