//! What `iptables -L` prints, with and without `-n`, `-v` and `--line-numbers`: each row is turned
//! into the words of iptables-save. Words that are not known become conditions that are named.

use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;
use portolan_service::Family;

use super::commands::{self, Command};
use super::group::{Group, Line};
use super::matches::AS_LISTED;
use crate::Error;
use crate::printable::{printable, shortened};

/// The line that begins a chain: `Chain INPUT (policy ACCEPT 0 packets, 0 bytes)`, `Chain
/// KUBE-SERVICES (2 references)`.
pub(super) fn heading(line: &str) -> Option<(&str, Option<&str>)> {
    let (name, after) = line.trim().strip_prefix("Chain ")?.split_once(" (")?;
    if name.is_empty() || name.contains(char::is_whitespace) || !after.ends_with(')') {
        return None;
    }
    let policy = after.strip_prefix("policy ").and_then(|policy| policy.split([' ', ')']).next());
    Some((name, policy))
}

/// Which columns rows have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Columns {
    numbers: bool,
    counters: bool,
    interfaces: bool,
}

/// The line that names the columns.
fn columns(line: &str) -> Option<Columns> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let has = |word: &str| words.contains(&word);
    let all = ["target", "prot", "source", "destination"].iter().all(|word| has(word));
    all.then(|| Columns { numbers: has("num"), counters: has("pkts"), interfaces: has("in") && has("out") })
}

/// The tables of `text`.
pub(super) fn groups(text: &str) -> Result<Vec<Group>, Error> {
    let mut groups: Vec<Group> = Vec::new();
    let mut said: Option<Command> = None;
    let mut begin = true;
    let mut user_chains = false;
    let mut at: Option<(String, Option<Columns>)> = None;
    for (number, raw) in (1..).zip(text.lines()) {
        let clean = printable(raw);
        let line = clean.trim();
        if line.is_empty() || line == "--" {
            continue;
        }
        if let Some((name, policy)) = heading(line) {
            let another = |group: &Group| policy.is_some() && (user_chains || group.is_another(name));
            if begin || groups.last().is_none_or(another) {
                let named = said.as_ref().map(|said| said.family).filter(|family| *family == Family::V6);
                let table = said.take().and_then(|said| said.table);
                let mut group = Group::new(table);
                group.named = named;
                group.whole_chains = true;
                groups.push(group);
                (begin, user_chains) = (false, false);
            }
            let group = groups.last_mut().expect("it was added");
            match policy {
                Some(policy) => group.base(number, name, policy),
                None => group.chain(number, name),
            }
            user_chains |= policy.is_none();
            at = Some((name.to_owned(), None));
            continue;
        }
        if let (Some(found), Some((_, columns))) = (columns(line), &mut at) {
            *columns = Some(found);
            continue;
        }
        if commands::is_message(line) {
            commands::message(&mut groups, line);
            continue;
        }
        let prompt = !line.contains(" -- ") && !line.contains("/*");
        if let Some(command) = commands::command(line).filter(|_| prompt) {
            said = Some(command);
            begin = true;
            at = None;
            continue;
        }
        if line.starts_with('#') || commands::is_noise(line) {
            continue;
        }
        let (Some((chain, columns)), Some(group)) = (&at, groups.last_mut()) else {
            return Err(problem(
                number,
                raw,
                "a row of iptables -L without the `Chain` line of its chain before it",
            ));
        };
        let row = Row::read(line, *columns).map_err(|what| problem(number, raw, &what))?;
        group.family = group.family.or(row.family());
        group.rule(Line { number, text: row.rule(chain), shown: Some(row.shown) });
    }
    Ok(groups)
}

fn problem(line: usize, raw: &str, problem: &str) -> Error {
    Error::Line { line, problem: problem.to_owned(), text: shortened(raw) }
}

/// Text that words are taken from.
#[derive(Debug, Clone, Copy)]
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.0.split_ascii_whitespace().next()
    }

    fn word(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        self.0 = &text[end..];
        (end > 0).then(|| &text[..end])
    }

    /// Takes these words, if they come next.
    fn skip(&mut self, words: &str) -> bool {
        let mut after = *self;
        for word in words.split(' ') {
            if after.word() != Some(word) {
                return false;
            }
        }
        *self = after;
        true
    }
}

/// One rule as it is listed.
#[derive(Debug)]
struct Row<'a> {
    target: Option<&'a str>,
    protocol: &'a str,
    fragment: Option<&'a str>,
    interfaces: Option<(&'a str, &'a str)>,
    source: &'a str,
    destination: &'a str,
    /// What matches and target print.
    rest: Rest<'a>,
    /// The row without counters, its words a blank apart.
    shown: String,
}

impl<'a> Row<'a> {
    fn read(line: &'a str, columns: Option<Columns>) -> Result<Row<'a>, String> {
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

    fn family(&self) -> Option<Family> {
        [self.source, self.destination].into_iter().find_map(|address| {
            let address = address.trim_start_matches('!');
            let ip = address.split_once('/').map_or(address, |(ip, _)| ip).parse::<IpAddr>().ok()?;
            Some(Family::of(ip))
        })
    }

    /// The rule in the words of iptables-save.
    fn rule(&self, chain: &str) -> String {
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

/// A rule in the words of iptables-save, while it is written.
struct Out(String);

impl Out {
    fn option(&mut self, negated: bool, words: &[&str]) {
        if negated {
            self.0.push_str(" !");
        }
        for word in words {
            let _ = write!(self.0, " {word}");
        }
    }

    fn quoted(&mut self, option: &str, text: &str) {
        let _ = write!(self.0, " {option} \"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    }

    fn unknown(&mut self, words: &str) {
        self.quoted(AS_LISTED, words);
    }
}

fn negation(word: &str) -> (bool, &str) {
    word.strip_prefix('!').map_or((false, word), |after| (true, after))
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

/// Ports by the names that listings without `-n` have for them (IANA's registry; those that
/// clusters use).
const PORTS: [(&str, u16); 30] = [
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("bootps", 67),
    ("bootpc", 68),
    ("http", 80),
    ("kerberos", 88),
    ("pop3", 110),
    ("sunrpc", 111),
    ("ntp", 123),
    ("imap2", 143),
    ("snmp", 161),
    ("bgp", 179),
    ("ldap", 389),
    ("https", 443),
    ("submission", 587),
    ("ldaps", 636),
    ("nfs", 2049),
    ("mysql", 3306),
    ("postgresql", 5432),
    ("mdns", 5353),
    ("amqp", 5672),
    ("redis", 6379),
    ("http-alt", 8080),
    ("webcache", 8080),
    ("https-alt", 8443),
    ("git", 9418),
    ("bacula-sd", 9103),
];

/// The port of this name.
pub(crate) fn port_named(name: &str) -> Option<u16> {
    PORTS.iter().find(|(known, _)| *known == name).map(|(_, port)| *port)
}

/// Ports, `80`, `http`, `8000:9000`, and lists of them, as numbers. `None` if a name is not known.
fn ports(text: &str) -> Option<String> {
    let port = |text: &str| -> Option<String> {
        if text.is_empty() || text.parse::<u16>().is_ok() {
            return Some(text.to_owned());
        }
        port_named(text).map(|port| port.to_string())
    };
    let range = |text: &str| -> Option<String> {
        match text.split_once(':') {
            Some((first, last)) => Some(format!("{}:{}", port(first)?, port(last)?)),
            None => port(text).filter(|port| !port.is_empty()),
        }
    };
    Some(text.split(',').map(range).collect::<Option<Vec<_>>>()?.join(","))
}

/// Writes the matches of a row, and returns the options of its target. What each prints: `print`
/// functions of the extensions of iptables (libxt_*.c, libipt_*.c).
fn extensions(mut rest: Rest<'_>, target: &str, out: &mut Out) -> String {
    let mut options = String::new();
    let mut unknown = String::new();
    while let Some(word) = rest.peek() {
        if word == "/*"
            && let Some((comment, after)) = rest.0.trim_start()[2..].split_once("*/")
        {
            flush(&mut unknown, out);
            out.option(false, &["-m", "comment"]);
            out.quoted("--comment", comment.trim());
            rest = Rest(after);
            continue;
        }
        let before = rest;
        if let Some(found) = target_options(&mut rest, target) {
            flush(&mut unknown, out);
            options.push_str(&found);
            continue;
        }
        rest = before;
        let mut known = Out(String::new());
        if one_match(&mut rest, &mut known).is_some() {
            flush(&mut unknown, out);
            out.0.push_str(&known.0);
            continue;
        }
        rest = before;
        if let Some(word) = rest.word() {
            if !unknown.is_empty() {
                unknown.push(' ');
            }
            unknown.push_str(word);
        }
    }
    flush(&mut unknown, out);
    options
}

fn flush(unknown: &mut String, out: &mut Out) {
    if !unknown.is_empty() {
        out.unknown(unknown);
        unknown.clear();
    }
}

/// The options of `target`, if they come next.
fn target_options(rest: &mut Rest<'_>, target: &str) -> Option<String> {
    let word = rest.word()?;
    Some(match (target, word) {
        ("DNAT", word) if word.starts_with("to:") => format!(" --to-destination {}", &word[3..]),
        ("SNAT", word) if word.starts_with("to:") => format!(" --to-source {}", &word[3..]),
        ("REDIRECT", "redir") => {
            rest.word().filter(|word| word.starts_with("port"))?;
            format!(" --to-ports {}", rest.word()?)
        }
        ("MASQUERADE", "masq") => {
            rest.word()?;
            format!(" --to-ports {}", rest.word()?)
        }
        ("DNAT" | "SNAT" | "REDIRECT" | "MASQUERADE", "random" | "random-fully" | "persistent") => {
            format!(" --{word}")
        }
        ("REJECT", "reject-with") => format!(" --reject-with {}", rest.word()?),
        ("MARK" | "CONNMARK", word) if word == target => mark_options(rest)?,
        ("CT", "CT") => {
            let what = rest.word()?;
            if what == "notrack" { " --notrack".to_owned() } else { format!(" --{what} {}", rest.word()?) }
        }
        // The rest is what is logged, and how.
        (
            "LOG" | "NFLOG" | "ULOG" | "TRACE" | "TCPMSS" | "CHECKSUM" | "DSCP" | "TOS" | "SET" | "CLASSIFY",
            word,
        ) if word == target || word.starts_with("nflog") || word == "add-set" => {
            rest.0 = "";
            String::new()
        }
        _ => return None,
    })
}

/// `MARK or 0x4000`, `MARK xset 0x4000/0x4000`, `CONNMARK restore`.
fn mark_options(rest: &mut Rest<'_>) -> Option<String> {
    let how = rest.word()?;
    let with_mask = |rest: &mut Rest<'_>| {
        let mut text = String::new();
        while let Some(mask) = rest.peek().filter(|word| matches!(*word, "mask" | "nfmask" | "ctmask")) {
            rest.word();
            let _ = write!(text, " --{mask} {}", rest.word().unwrap_or_default());
        }
        text
    };
    Some(match how {
        "or" | "xor" | "and" | "set" => format!(" --{how}-mark {}", rest.word()?),
        "xset" => format!(" --set-xmark {}", rest.word()?),
        "save" | "restore" => format!(" --{how}-mark{}", with_mask(rest)),
        _ => return None,
    })
}

/// One match, if one that is known comes next.
fn one_match(rest: &mut Rest<'_>, out: &mut Out) -> Option<()> {
    let mut negated = rest.skip("!");
    let word = rest.word()?;
    if let Some(after) = word.strip_prefix('!').filter(|after| !after.is_empty() && !negated) {
        negated = true;
        return named_match(after, negated, rest, out);
    }
    named_match(word, negated, rest, out)
}

fn named_match(word: &str, mut negated: bool, rest: &mut Rest<'_>, out: &mut Out) -> Option<()> {
    match word {
        "tcp" | "udp" | "udplite" | "sctp" | "dccp" => return protocol_match(word, rest, out),
        "multiport" => {
            let option = match rest.word()? {
                "dports" => "--dports",
                "sports" => "--sports",
                "ports" => "--ports",
                _ => return None,
            };
            negated ^= rest.skip("!");
            let (also, list) = negation(rest.word()?);
            out.option(false, &["-m", "multiport"]);
            out.option(negated ^ also, &[option, &ports(list)?]);
        }
        "mark" | "MARK" | "connmark" | "CONNMARK" => {
            rest.skip("match").then_some(())?;
            negated ^= rest.skip("!");
            let (also, value) = negation(rest.word()?);
            out.option(false, &["-m", &word.to_ascii_lowercase()]);
            out.option(negated ^ also, &["--mark", value]);
        }
        "ADDRTYPE" => {
            rest.skip("match").then_some(())?;
            out.option(false, &["-m", "addrtype"]);
            while let Some(which @ ("src-type" | "dst-type" | "limit-in" | "limit-out")) = rest.peek() {
                rest.word();
                if which.starts_with("limit") {
                    out.unknown(&format!("ADDRTYPE {which}"));
                    continue;
                }
                let (not, kind) = negation(rest.word()?);
                out.option(not, &[&format!("--{which}"), kind]);
            }
        }
        "ctstate" | "ctorigsrc" | "ctorigdst" | "ctreplsrc" | "ctorigsrcport" | "ctorigdstport"
        | "ctproto" | "ctdir" => {
            let value = rest.word()?;
            out.option(false, &["-m", "conntrack"]);
            out.option(negated, &[&format!("--{word}"), value]);
        }
        "state" => {
            let value = rest.word()?;
            out.option(false, &["-m", "state"]);
            out.option(negated, &["--state", value]);
        }
        "statistic" => statistic(rest, out)?,
        "recent:" => recent(negated, rest, out)?,
        "match-set" => {
            let (name, directions) = (rest.word()?, rest.word()?);
            out.option(false, &["-m", "set"]);
            out.option(negated, &["--match-set", name, directions]);
        }
        "source" | "destination" => {
            rest.skip("IP range").then_some(())?;
            negated ^= rest.skip("!");
            let (also, range) = negation(rest.word()?);
            out.option(false, &["-m", "iprange"]);
            out.option(
                negated ^ also,
                &[if word == "source" { "--src-range" } else { "--dst-range" }, range],
            );
        }
        _ => return None,
    }
    Some(())
}

/// `tcp dpt:80`, `udp spts:1:2 dpt:!53`, `tcp flags:0x17/0x02`; nothing, where the match asks for
/// nothing.
fn protocol_match(protocol: &str, rest: &mut Rest<'_>, out: &mut Out) -> Option<()> {
    out.option(false, &["-m", protocol]);
    while let Some(word) = rest.peek() {
        let Some((what, value)) = word.split_once(':') else { break };
        let (negated, value) = negation(value);
        match what {
            "dpt" | "dpts" => out.option(negated, &["--dport", &ports(value)?]),
            "spt" | "spts" => out.option(negated, &["--sport", &ports(value)?]),
            "flags" if protocol == "tcp" => {
                let (mask, set) = value.split_once('/')?;
                out.option(negated, &["--tcp-flags", &tcp_flags(mask)?, &tcp_flags(set)?]);
            }
            _ => break,
        }
        rest.word();
    }
    Some(())
}

/// `0x17` or `FIN,SYN` as names.
fn tcp_flags(text: &str) -> Option<String> {
    const NAMES: [&str; 6] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG"];
    let Some(digits) = text.strip_prefix("0x") else { return Some(text.to_owned()) };
    let bits = u8::from_str_radix(digits, 16).ok().filter(|bits| *bits < 0x40)?;
    let names: Vec<&str> =
        (0..).zip(NAMES).filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| name).collect();
    Some(if names.is_empty() { "NONE".to_owned() } else { names.join(",") })
}

/// `statistic mode random probability 0.5`, `statistic mode nth every 3 packet 1`
fn statistic(rest: &mut Rest<'_>, out: &mut Out) -> Option<()> {
    rest.skip("mode").then_some(())?;
    let mode = rest.word()?;
    let negated = rest.skip("!");
    let what = rest.word()?;
    out.option(false, &["-m", "statistic", "--mode", mode]);
    match (mode, what) {
        ("random", "probability") => out.option(negated, &["--probability", rest.word()?]),
        ("nth", "every") => {
            out.option(negated, &["--every", rest.word()?]);
            if rest.skip("packet") {
                out.option(false, &["--packet", rest.word()?]);
            }
        }
        _ => return None,
    }
    Some(())
}

/// `recent: CHECK seconds: 10800 reap name: KUBE-SEP-X side: source mask: 255.255.255.255`
fn recent(negated: bool, rest: &mut Rest<'_>, out: &mut Out) -> Option<()> {
    out.option(false, &["-m", "recent"]);
    let option = match rest.word()? {
        "SET" => "--set",
        "CHECK" => "--rcheck",
        "UPDATE" => "--update",
        "REMOVE" => "--remove",
        _ => return None,
    };
    out.option(negated, &[option]);
    while let Some(word) = rest.peek() {
        let option = match word {
            "seconds:" => "--seconds",
            "hit_count:" => "--hitcount",
            "name:" => "--name",
            "mask:" => "--mask",
            "reap" | "TTL-Match" => {
                rest.word();
                out.option(false, &[if word == "reap" { "--reap" } else { "--rttl" }]);
                continue;
            }
            "side:" => {
                rest.word();
                out.option(false, &[if rest.word()? == "dest" { "--rdest" } else { "--rsource" }]);
                continue;
            }
            _ => break,
        };
        rest.word();
        out.option(false, &[option, rest.word()?]);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Columns = Columns { numbers: false, counters: true, interfaces: true };
    const SHORT: Columns = Columns { numbers: false, counters: false, interfaces: false };

    #[test]
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

    #[test]
    fn headings() {
        for (line, expected) in [
            ("Chain INPUT (policy ACCEPT 0 packets, 0 bytes)", Some(("INPUT", Some("ACCEPT")))),
            ("Chain FORWARD (policy DROP)", Some(("FORWARD", Some("DROP")))),
            ("Chain KUBE-SERVICES (2 references)", Some(("KUBE-SERVICES", None))),
            ("Chain of events (told)", None),
            ("INPUT (policy ACCEPT)", None),
        ] {
            assert_eq!(heading(line), expected, "{line}");
        }
    }
}
