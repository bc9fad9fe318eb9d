//! One row of a listing, as the rule that iptables-save would print.

use std::net::IpAddr;

use ipnet::IpNet;
use portolan_service::Family;

use super::extensions::extensions;
use super::words::{Out, Rest, negation};

/// Which columns rows have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Columns {
    numbers: bool,
    counters: bool,
    interfaces: bool,
}

/// The line that names the columns.
pub(super) fn columns(line: &str) -> Option<Columns> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let has = |word: &str| words.contains(&word);
    let all = ["target", "prot", "source", "destination"].iter().all(|word| has(word));
    all.then(|| Columns { numbers: has("num"), counters: has("pkts"), interfaces: has("in") && has("out") })
}

/// One rule as it is listed.
#[derive(Debug)]
pub(super) struct Row<'a> {
    target: Option<&'a str>,
    protocol: &'a str,
    fragment: Option<&'a str>,
    interfaces: Option<(&'a str, &'a str)>,
    source: &'a str,
    destination: &'a str,
    /// What matches and target print.
    rest: Rest<'a>,
    /// The row without counters, its words a blank apart.
    pub(super) shown: String,
}

impl<'a> Row<'a> {
    pub(super) fn read(line: &'a str, columns: Option<Columns>) -> Result<Row<'a>, String> {
        let wrong = || "its columns are not those of iptables -L: was it wrapped or edited?".to_owned();
        if let Some(columns) = columns {
            return Row::with(line, columns).ok_or_else(wrong);
        }
        // The line that names the columns was cut out.
        let of = |numbers, verbose| Columns { numbers, counters: verbose, interfaces: verbose };
        let possible = [of(false, true), of(false, false), of(true, true), of(true, false)];
        possible.into_iter().find_map(|columns| Row::with(line, columns)).ok_or_else(wrong)
    }

    fn with(line: &'a str, columns: Columns) -> Option<Row<'a>> {
        let mut rest = Rest(line);
        let skipped = usize::from(columns.numbers) + 2 * usize::from(columns.counters);
        for _ in 0..skipped {
            rest.word();
        }
        let shown = rest.0.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        // Rules without a target leave its column empty, old versions that of the options of IPv6.
        let with_target = Row::of(rest, columns, true, &shown);
        let without = || Row::of(rest, columns, false, &shown);
        with_target.or_else(without)
    }

    fn of(mut rest: Rest<'a>, columns: Columns, has_target: bool, shown: &str) -> Option<Row<'a>> {
        let target = if has_target { Some(rest.word()?) } else { None };
        let protocol = rest.word().filter(|word| is_protocol(word))?;
        let mut fragment = None;
        if let Some(word) = rest.peek().filter(|word| matches!(*word, "--" | "-f" | "!f")) {
            rest.word();
            fragment = Some(word).filter(|word| *word != "--");
        }
        let interfaces = if columns.interfaces { Some((rest.word()?, rest.word()?)) } else { None };
        let source = rest.word().filter(|word| is_address(word))?;
        let destination = rest.word().filter(|word| is_address(word))?;
        Some(Row {
            target,
            protocol,
            fragment,
            interfaces,
            source,
            destination,
            rest,
            shown: shown.to_owned(),
        })
    }

    pub(super) fn family(&self) -> Option<Family> {
        [self.source, self.destination].into_iter().find_map(|address| {
            let address = address.trim_start_matches('!');
            let ip = address.split_once('/').map_or(address, |(ip, _)| ip).parse::<IpAddr>().ok()?;
            Some(Family::of(ip))
        })
    }

    /// The rule in the words of iptables-save.
    pub(super) fn rule(&self, chain: &str) -> String {
        let mut out = Out(format!("-A {chain}"));
        for (option, address) in [("-s", self.source), ("-d", self.destination)] {
            let (negated, address) = negation(address);
            if matches!(address, "anywhere" | "0.0.0.0/0" | "::/0") && !negated {
                continue;
            }
            if address.parse::<IpNet>().is_ok() || address.parse::<IpAddr>().is_ok() || is_masked(address) {
                out.option(negated, &[option, address]);
            } else {
                out.unknown(&format!("{} {address}", if option == "-s" { "source" } else { "destination" }));
            }
        }
        if let Some((input, output)) = self.interfaces {
            for (option, name) in [("-i", input), ("-o", output)] {
                let (negated, name) = negation(name);
                if !matches!(name, "*" | "any") {
                    out.option(negated, &[option, name]);
                }
            }
        } else if !chain.starts_with("KUBE-") && !self.target.is_some_and(|name| name.starts_with("KUBE-")) {
            // kube-proxy asks for no interface; others do as a rule.
            out.unknown("interfaces that `iptables -L` shows only with -v");
        }
        let (negated, protocol) = negation(self.protocol);
        if !matches!(protocol, "all" | "0") {
            out.option(negated, &["-p", protocol]);
        }
        if let Some(fragment) = self.fragment {
            out.option(fragment.starts_with('!'), &["-f"]);
        }
        let mut rest = self.rest;
        let goto = rest.skip("[goto]");
        let options = extensions(rest, self.target.unwrap_or_default(), &mut out);
        if let Some(target) = self.target {
            out.option(false, &[if goto { "-g" } else { "-j" }, target]);
            out.0.push_str(&options);
        }
        out.0
    }
}

fn is_protocol(word: &str) -> bool {
    const NAMES: [&str; 18] = [
        "all",
        "tcp",
        "udp",
        "sctp",
        "icmp",
        "icmpv6",
        "ipv6-icmp",
        "igmp",
        "gre",
        "esp",
        "ah",
        "dccp",
        "udplite",
        "ipencap",
        "ipv6",
        "ipip",
        "vrrp",
        "ospf",
    ];
    let (_, name) = negation(word);
    NAMES.contains(&name) || name.parse::<u8>().is_ok()
}

/// Addresses, networks, and names that they stand for: no more than that can be seen without `-n`.
fn is_address(word: &str) -> bool {
    let (_, word) = negation(word);
    !word.is_empty()
        && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '/' | '-' | '_'))
}

/// `10.0.0.0/255.0.255.0`
fn is_masked(word: &str) -> bool {
    word.split_once('/')
        .is_some_and(|(ip, mask)| ip.parse::<IpAddr>().is_ok() && mask.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Columns = Columns { numbers: false, counters: true, interfaces: true };
    const SHORT: Columns = Columns { numbers: false, counters: false, interfaces: false };

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table of cases")]
    fn rows_become_rules() {
        let cases = [
            (
                "a ClusterIP",
                ALL,
                "    0     0 KUBE-SVC-A  6    --  *      *       0.0.0.0/0            10.96.0.80           /* shop/web:http cluster IP */ tcp dpt:80",
                "-A C -d 10.96.0.80 -p 6 -m comment --comment \"shop/web:http cluster IP\" -m tcp --dport 80 -j KUBE-SVC-A",
            ),
            (
                "the same of older versions",
                ALL,
                " 12K  720K KUBE-SVC-A  tcp  --  *      *       0.0.0.0/0            10.96.0.80           /* shop/web:http cluster IP */ tcp dpt:80",
                "-A C -d 10.96.0.80 -p tcp -m comment --comment \"shop/web:http cluster IP\" -m tcp --dport 80 -j KUBE-SVC-A",
            ),
            (
                "a negated source",
                ALL,
                "    0     0 KUBE-MARK-MASQ  6    --  *      *      !10.244.0.0/16        10.96.0.80           tcp dpt:80",
                "-A C ! -s 10.244.0.0/16 -d 10.96.0.80 -p 6 -m tcp --dport 80 -j KUBE-MARK-MASQ",
            ),
            (
                "interfaces",
                ALL,
                "    0     0 KUBE-FORWARD  0    --  !eth0  cali+   0.0.0.0/0            0.0.0.0/0           [goto]  tcp spts:1000:2000 dpt:!33",
                "-A C ! -i eth0 -o cali+ -m tcp --sport 1000:2000 ! --dport 33 -g KUBE-FORWARD",
            ),
            (
                "no target",
                ALL,
                "    0     0            6    --  *      *       0.0.0.0/0            0.0.0.0/0            tcp dpt:22 recent: SET name: DEFAULT side: source mask: 255.255.255.255",
                "-A C -p 6 -m tcp --dport 22 -m recent --set --name DEFAULT --rsource --mask 255.255.255.255",
            ),
            (
                "IPv6 of old versions: no column of options",
                SHORT,
                "KUBE-SVC-A  tcp      ::/0                 fd00::1              tcp dpt:80",
                "-A C -d fd00::1 -p tcp -m tcp --dport 80 -j KUBE-SVC-A",
            ),
            (
                "names without -n, and no interfaces without -v",
                SHORT,
                "ACCEPT     tcp  --  anywhere             web.example          multiport dports http,https",
                "-A C --as-listed \"destination web.example\" --as-listed \"interfaces that `iptables -L` shows only with -v\" -p tcp -m multiport --dports 80,443 -j ACCEPT",
            ),
            (
                "marks",
                SHORT,
                "MARK       all  --  anywhere             anywhere             mark match ! 0x4000/0x4000 MARK or 0x4000",
                "-A C --as-listed \"interfaces that `iptables -L` shows only with -v\" -m mark ! --mark 0x4000/0x4000 -j MARK --or-mark 0x4000",
            ),
            (
                "a draw",
                ALL,
                "0 0 KUBE-SEP-A  all  --  *  *  0.0.0.0/0  0.0.0.0/0  /* shop/web */ statistic mode random probability 0.50000000000",
                "-A C -m comment --comment \"shop/web\" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-A",
            ),
            (
                "a translation",
                ALL,
                "0 0 DNAT       tcp  --  *      *       0.0.0.0/0            0.0.0.0/0            /* shop/web */ tcp to:10.244.1.5:8080",
                "-A C -p tcp -m comment --comment \"shop/web\" -m tcp -j DNAT --to-destination 10.244.1.5:8080",
            ),
            (
                "what is not known is named",
                ALL,
                "0 0 RETURN  all  --  *  *  0.0.0.0/0  0.0.0.0/0  owner UID match 1337 ctstate NEW limit: avg 3/min burst 5",
                "-A C --as-listed \"owner UID match 1337\" -m conntrack --ctstate NEW --as-listed \"limit: avg 3/min burst 5\" -j RETURN",
            ),
            (
                "what is logged",
                ALL,
                "0 0 LOG  all  --  *  *  0.0.0.0/0  0.0.0.0/0  LOG flags 0 level 4 prefix \"tcp dpt:80 \"",
                "-A C -j LOG",
            ),
        ];
        for (situation, columns, line, expected) in cases {
            let row = Row::read(line, Some(columns)).expect(situation);
            assert_eq!(
                Row::read(line, None).map(|row| row.rule("C")).ok().as_deref(),
                Some(expected),
                "{situation}"
            );
            assert_eq!(row.rule("C"), expected, "{situation}");
        }
    }
}
