//! What the extensions of iptables print in a row: matches, and the options of targets.

use std::fmt::Write;

use super::words::{Out, Rest, negation};
use crate::port_names::port_named;

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
pub(super) fn extensions(mut rest: Rest<'_>, target: &str, out: &mut Out) -> String {
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
