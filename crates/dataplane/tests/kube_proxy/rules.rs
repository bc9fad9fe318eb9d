//! Rule sets as iptables-save prints them: kube-proxy's, those of others, and both mixed.

use std::fmt::Write;

/// A table; what is kube-proxy's is marked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// Chains of the user's
    pub(crate) chains: Vec<(String, bool)>,
    /// Rules, without counters
    pub(crate) rules: Vec<(String, bool)>,
}

/// Random numbers, the same every time (Knuth's MMIX generator).
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }
}

/// What iptables-restore reads, each rule with counters of its own; without what is kube-proxy's
/// unless it is asked for.
pub(crate) fn text(tables: &[Table], with_kube_proxy: bool) -> String {
    let mut text = String::new();
    for table in tables {
        let shown = |ours: bool| with_kube_proxy || !ours;
        let _ = writeln!(text, "*{}", table.name);
        let hooks: &[&str] = match table.name {
            "filter" => &["INPUT", "FORWARD", "OUTPUT"],
            "nat" => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
            _ => &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
        };
        for (hook, packets) in hooks.iter().zip(1..) {
            let policy = if table.name == "filter" && *hook == "FORWARD" { "DROP" } else { "ACCEPT" };
            let _ = writeln!(text, ":{hook} {policy} [{packets}:{}]", packets * 60);
        }
        for (chain, _) in table.chains.iter().filter(|(_, ours)| shown(*ours)) {
            let _ = writeln!(text, ":{chain} - [0:0]");
        }
        for (number, (rule, _)) in (1..).zip(&table.rules).filter(|(_, (_, ours))| shown(*ours)) {
            let _ = writeln!(text, "[{number}:{}] -A {rule}", u64::from(number + 1u32) * 1_000_003);
        }
        text.push_str("COMMIT\n");
    }
    text
}

fn mark(lines: &[&str], ours: bool) -> Vec<(String, bool)> {
    lines.iter().map(|line| ((*line).to_owned(), ours)).collect()
}

/// Rules of container runtimes, network plugins, kubelet and administrators: matches and targets of
/// all kinds.
#[expect(clippy::too_many_lines, reason = "one table of cases")]
pub(crate) fn foreign(ipv6: bool) -> Vec<Table> {
    let filter = [
        "INPUT -j KUBE-FIREWALL",
        "INPUT -j cali-INPUT",
        "INPUT -i lo -j ACCEPT",
        "INPUT -p tcp -m multiport --dports 22,80,443:450 -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT",
        "INPUT -m recent --update --seconds 60 --hitcount 4 --name ssh --rsource -j DROP",
        "INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m limit --limit 25/min --limit-burst 100 -j ACCEPT",
        "INPUT -m comment --comment \"a rule that only counts, \\\"quoted\\\"\"",
        "FORWARD -j DOCKER-USER",
        "FORWARD -g cali-FORWARD",
        "FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "FORWARD -o docker0 -j DOCKER",
        "FORWARD -m statistic --mode random --probability 0.33332999982 -j LOG --log-prefix \"third: \" --log-level 4",
        "OUTPUT -j KUBE-FIREWALL",
        "OUTPUT -m owner --uid-owner 0 -j REJECT",
        "OUTPUT -p udp -m hashlimit --hashlimit-upto 10/sec --hashlimit-burst 5 --hashlimit-mode srcip --hashlimit-name dns -j ACCEPT",
        "DOCKER -i docker0 ! -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT",
        "DOCKER-USER -j RETURN",
        "KUBE-FIREWALL -m comment --comment \"kubernetes firewall for dropping marked packets\" -m mark --mark 0x8000/0x8000 -j DROP",
        "cali-FORWARD -m comment --comment \"cali:vjrMJCRpqwy5oRoX\" -j MARK --set-xmark 0x0/0xe0000",
        "cali-FORWARD -m mark --mark 0x0/0x10000 -j cali-from-wl-dispatch",
        "cali-INPUT -m addrtype --dst-type LOCAL -j ACCEPT",
        "cali-INPUT -j NFLOG --nflog-prefix \"calico\" --nflog-group 1",
        "cali-from-wl-dispatch -i cali+ -g cali-FORWARD-2",
        "cali-FORWARD-2 -m mac --mac-source 02:00:00:00:00:01 -m time --timestart 08:00:00 --timestop 17:00:00 -j ACCEPT",
        "cali-FORWARD-2 -m u32 --u32 \"0x0&0xf0000000=0x40000000\" -j DROP",
        "cali-FORWARD-2 -m string --string \"needle\" --algo bm --to 1500 -j DROP",
        "cali-FORWARD-2 -m connmark --mark 0x1 -m length --length 100:1500 -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff",
    ];
    let (a, b, c) = if ipv6 {
        ("fd00::1", "fd00:1::/64", "[fd00::2]:8080")
    } else {
        ("192.0.2.1", "172.17.0.0/16", "172.17.0.2:8080")
    };
    let nat = [
        "PREROUTING -m addrtype --dst-type LOCAL -j DOCKER".to_owned(),
        "PREROUTING -j cali-PREROUTING".to_owned(),
        "OUTPUT -m addrtype --dst-type LOCAL -j DOCKER".to_owned(),
        format!("POSTROUTING -s {b} ! -o docker0 -j MASQUERADE"),
        "POSTROUTING -p tcp -j MASQUERADE --to-ports 1024-65535 --random".to_owned(),
        format!("POSTROUTING -d {b} -j SNAT --to-source {a} --persistent"),
        "DOCKER -i docker0 -j RETURN".to_owned(),
        format!("DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination {c}"),
        "KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000".to_owned(),
        "cali-PREROUTING -p tcp -m tcp --dport 8443 -j REDIRECT --to-ports 443".to_owned(),
        format!("cali-PREROUTING -d {b} -j NETMAP --to {b}"),
    ];
    let nat: Vec<&str> = nat.iter().map(String::as_str).collect();
    let mangle = [
        "PREROUTING -m conntrack --ctstate INVALID -j DROP",
        "FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
        "OUTPUT -p udp -j DSCP --set-dscp 0x2e",
        "POSTROUTING -j CLASSIFY --set-class 0001:0010",
        "OUTPUT -j istio",
        "istio -m connlimit --connlimit-above 100 --connlimit-mask 32 --connlimit-saddr -j RETURN",
    ];
    let table = |name, chains: &[&str], rules: &[&str]| Table {
        name,
        chains: mark(chains, false),
        rules: mark(rules, false),
    };
    vec![
        table("mangle", &["KUBE-KUBELET-CANARY", "istio"], &mangle),
        table(
            "filter",
            &[
                "DOCKER",
                "DOCKER-USER",
                "KUBE-FIREWALL",
                "KUBE-KUBELET-CANARY",
                "cali-FORWARD",
                "cali-FORWARD-2",
                "cali-INPUT",
                "cali-from-wl-dispatch",
            ],
            &filter,
        ),
        table(
            "nat",
            &["DOCKER", "KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY", "KUBE-MARK-DROP", "cali-PREROUTING"],
            &nat,
        ),
    ]
}

/// kube-proxy's rules in mode iptables for `services` Services of `endpoints` endpoints each (spec
/// §5B-§5D).
#[expect(clippy::too_many_lines, reason = "one table of cases")]
pub(crate) fn kube_proxy(ipv6: bool, services: usize, endpoints: usize) -> Vec<Table> {
    let mut filter = Table {
        name: "filter",
        chains: mark(
            &[
                "KUBE-EXTERNAL-SERVICES",
                "KUBE-FORWARD",
                "KUBE-NODEPORTS",
                "KUBE-PROXY-CANARY",
                "KUBE-PROXY-FIREWALL",
                "KUBE-SERVICES",
            ],
            true,
        ),
        rules: Vec::new(),
    };
    let new = |chain: &str, comment: &str, to: &str| {
        format!("{chain} -m conntrack --ctstate NEW -m comment --comment \"{comment}\" -j {to}")
    };
    let firewall = "kubernetes load balancer firewall";
    let external = "kubernetes externally-visible service portals";
    for rule in [
        new("INPUT", firewall, "KUBE-PROXY-FIREWALL"),
        "INPUT -m comment --comment \"kubernetes health check service ports\" -j KUBE-NODEPORTS".to_owned(),
        new("INPUT", external, "KUBE-EXTERNAL-SERVICES"),
        new("FORWARD", firewall, "KUBE-PROXY-FIREWALL"),
        "FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD".to_owned(),
        new("FORWARD", "kubernetes service portals", "KUBE-SERVICES"),
        new("FORWARD", external, "KUBE-EXTERNAL-SERVICES"),
        new("OUTPUT", firewall, "KUBE-PROXY-FIREWALL"),
        new("OUTPUT", "kubernetes service portals", "KUBE-SERVICES"),
        "KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP".to_owned(),
        "KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark 0x4000/0x4000 -j ACCEPT".to_owned(),
        "KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT".to_owned(),
    ] {
        filter.rules.push((rule, true));
    }
    let mut chains: Vec<String> =
        ["KUBE-MARK-MASQ", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-PROXY-CANARY", "KUBE-SERVICES"]
            .map(str::to_owned)
            .to_vec();
    let mut rules = vec![
        "PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES".to_owned(),
        "OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES".to_owned(),
        "POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING".to_owned(),
        "KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000".to_owned(),
        "KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN".to_owned(),
        "KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0".to_owned(),
        "KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully".to_owned(),
    ];
    let mut endpoint_rules = Vec::new();
    for service in 0..services {
        let (high, low) = (service / 250, service % 250 + 1);
        let name = format!("shop/web-{service}:http");
        let svc = format!("KUBE-SVC-{service:A>16}");
        let ip =
            if ipv6 { format!("fd00:96::{high:x}:{low:x}/128") } else { format!("10.96.{high}.{low}/32") };
        rules.push(format!(
            "KUBE-SERVICES -d {ip} -p tcp -m comment --comment \"{name} cluster IP\" -m tcp --dport 80 -j {svc}"
        ));
        for endpoint in 0..endpoints {
            let sep = format!("KUBE-SEP-{:B>16}", service * endpoints + endpoint);
            let (address, to) = if ipv6 {
                let address = format!("fd00:10:{endpoint:x}::{high:x}:{low:x}");
                (format!("{address}/128"), format!("[{address}]:8080"))
            } else {
                (
                    format!("10.{}.{high}.{low}/32", 100 + endpoint),
                    format!("10.{}.{high}.{low}:8080", 100 + endpoint),
                )
            };
            let chance = match endpoints - endpoint {
                1 => String::new(),
                left => format!(
                    "-m statistic --mode random --probability {:.11} ",
                    1.0 / f64::from(u32::try_from(left).expect("few"))
                ),
            };
            endpoint_rules.push(format!("{svc} -m comment --comment \"{name} -> {to}\" {chance}-j {sep}"));
            endpoint_rules
                .push(format!("{sep} -s {address} -m comment --comment \"{name}\" -j KUBE-MARK-MASQ"));
            endpoint_rules.push(format!(
                "{sep} -p tcp -m comment --comment \"{name}\" -m tcp -j DNAT --to-destination {to}"
            ));
            chains.push(sep);
        }
        chains.push(svc);
    }
    rules.push(
        "KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"
            .to_owned(),
    );
    rules.append(&mut endpoint_rules);
    let ours = |lines: Vec<String>| lines.into_iter().map(|line| (line, true)).collect();
    vec![
        Table { name: "mangle", chains: mark(&["KUBE-PROXY-CANARY"], true), rules: Vec::new() },
        filter,
        Table { name: "nat", chains: ours(chains), rules: ours(rules) },
    ]
}

/// Both, with the rules of each built-in chain and all chains in an order drawn by lot; those of
/// one side keep their order among themselves.
pub(crate) fn mixed(one: Vec<Table>, other: Vec<Table>, random: &mut Random) -> Vec<Table> {
    let mut merge = |left: Vec<(String, bool)>, right: Vec<(String, bool)>| {
        let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
        let mut both = Vec::new();
        while left.peek().is_some() || right.peek().is_some() {
            let (left_room, right_room) = (left.len(), right.len());
            let from = if random.below(left_room + right_room) < left_room { &mut left } else { &mut right };
            both.extend(from.next());
        }
        both
    };
    one.into_iter()
        .zip(other)
        .map(|(one, other)| Table {
            name: one.name,
            chains: merge(one.chains, other.chains),
            rules: merge(one.rules, other.rules),
        })
        .collect()
}
