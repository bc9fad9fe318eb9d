//! Fields and values.

use serde_json::{Value, json};

use super::tokens::{Cursor, Token};

/// Headers whose fields are named by two words.
const HEADERS: [&str; 15] = [
    "ip", "ip6", "tcp", "udp", "udplite", "sctp", "dccp", "th", "icmp", "icmpv6", "esp", "ah", "comp",
    "igmp", "ether",
];

/// Keys of `meta` that may stand without this word.
const META: [&str; 16] = [
    "mark",
    "iif",
    "oif",
    "iifname",
    "oifname",
    "iifgroup",
    "oifgroup",
    "iiftype",
    "oiftype",
    "skuid",
    "skgid",
    "pkttype",
    "cpu",
    "cgroup",
    "rtclassid",
    "l4proto",
];

/// Whether an expression that is known can begin so.
pub(super) fn begins(word: &str) -> bool {
    HEADERS.contains(&word) || META.contains(&word) || matches!(word, "meta" | "ct" | "fib" | "numgen")
}

/// Fields one after the other: `ip daddr . tcp dport`.
pub(super) fn concatenation(cursor: &mut Cursor<'_>) -> Option<Value> {
    let mut parts = vec![field(cursor)?];
    while cursor.skip(".") {
        parts.push(field(cursor)?);
    }
    if parts.len() == 1 { parts.pop() } else { Some(json!({"concat": parts})) }
}

/// One field, with a mask behind it if there is one.
fn field(cursor: &mut Cursor<'_>) -> Option<Value> {
    let mut found = plain_field(cursor)?;
    while let Some(operator) = ["&", "|", "^"].into_iter().find(|operator| cursor.word() == *operator) {
        cursor.next();
        found = json!({operator: [found, flags(cursor)?]});
    }
    Some(found)
}

fn plain_field(cursor: &mut Cursor<'_>) -> Option<Value> {
    let first = cursor.next().filter(|token| !token.quoted)?;
    let word = first.text.as_str();
    let next =
        |cursor: &mut Cursor<'_>| cursor.next().filter(|token| !token.quoted).map(|token| token.text.clone());
    if HEADERS.contains(&word) {
        return Some(json!({"payload": {"protocol": word, "field": next(cursor)?}}));
    }
    if META.contains(&word) {
        return Some(json!({"meta": {"key": word}}));
    }
    Some(match word {
        "meta" => json!({"meta": {"key": next(cursor)?}}),
        "ct" => connection(cursor)?,
        "fib" => {
            let mut looked_at = vec![next(cursor)?];
            while cursor.skip(".") {
                looked_at.push(next(cursor)?);
            }
            json!({"fib": {"flags": looked_at, "result": next(cursor)?}})
        }
        "numgen" => {
            let mode = next(cursor)?;
            cursor.skip("mod").then_some(())?;
            let modulus = number(&next(cursor)?)?;
            let offset = if cursor.skip("offset") { number(&next(cursor)?)? } else { 0 };
            json!({"numgen": {"mode": mode, "mod": modulus, "offset": offset}})
        }
        _ => return None,
    })
}

/// What follows `ct`.
fn connection(cursor: &mut Cursor<'_>) -> Option<Value> {
    let key = cursor.next()?.text.as_str();
    if !matches!(key, "original" | "reply") {
        return Some(json!({"ct": {"key": key}}));
    }
    let mut what = cursor.next()?.text.clone();
    if matches!(what.as_str(), "ip" | "ip6") {
        what = format!("{what} {}", cursor.next()?.text);
    }
    Some(json!({"ct": {"key": what, "dir": key}}))
}

/// A value, or several one after the other: `10.0.0.1 . tcp . 80`.
pub(super) fn value(cursor: &mut Cursor<'_>) -> Option<Value> {
    let mut parts = vec![single(cursor)?];
    while cursor.skip(".") {
        parts.push(single(cursor)?);
    }
    if parts.len() == 1 { parts.pop() } else { Some(json!({"concat": parts})) }
}

/// One value.
pub(super) fn single(cursor: &mut Cursor<'_>) -> Option<Value> {
    let token = cursor.peek()?;
    if !token.quoted
        && matches!(
            token.text.as_str(),
            "{" | "}" | "(" | ")" | "," | ":" | "\n" | ";" | "==" | "!=" | "&" | "|"
        )
    {
        return None;
    }
    cursor.next();
    Some(word_value(token))
}

/// A mask: a number, a flag, or flags: `(syn|ack)`, `syn,ack`, `syn | ack`.
pub(super) fn flags(cursor: &mut Cursor<'_>) -> Option<Value> {
    let closes = cursor.skip("(");
    let mut list = vec![single(cursor)?];
    // Without parentheses, `|` is a calculation that goes on.
    while closes && cursor.skip("|") || cursor.skip(",") {
        list.push(single(cursor)?);
    }
    if closes {
        cursor.skip(")").then_some(())?;
    }
    if list.len() == 1 { list.pop() } else { Some(list.into()) }
}

/// A number in decimal or hexadecimal digits.
pub(super) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn word_value(token: &Token) -> Value {
    let text = token.text.as_str();
    if token.quoted {
        return text.into();
    }
    if let Some(number) = number(text) {
        return number.into();
    }
    let is_address = |text: &str| text.parse::<std::net::IpAddr>().is_ok();
    if let Some((address, length)) = text.split_once('/')
        && let (true, Ok(length)) = (is_address(address), length.parse::<u8>())
    {
        return json!({"prefix": {"addr": address, "len": length}});
    }
    if let Some((first, last)) = text.split_once('-') {
        if is_address(first) && is_address(last) {
            return json!({"range": [first, last]});
        }
        if let (Some(first), Some(last)) = (number(first), number(last)) {
            return json!({"range": [first, last]});
        }
    }
    text.into()
}
