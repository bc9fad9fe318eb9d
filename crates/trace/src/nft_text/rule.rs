//! Rules, statement by statement.

use serde_json::{Value, json};

use super::elements::{elements, right};
use super::expression::{self, concatenation, flags, number, value};
use super::tokens::{Cursor, Token};
use super::verdict::verdict;

/// A rule of a chain.
pub(super) fn object(family: &str, table: &str, chain: &str, tokens: &[Token]) -> Value {
    let mut statements = Vec::new();
    let mut comment = None;
    let mut cursor = Cursor::new(tokens);
    while let Some(token) = cursor.peek() {
        if token.is("comment") {
            cursor.next();
            comment = cursor.next().map(|token| token.text.clone());
            continue;
        }
        let mut ahead = cursor;
        if let Some(statement) = statement(&mut ahead) {
            statements.push(if mistranslated(table, &statement) {
                condition(MISTRANSLATED)
            } else {
                statement
            });
            cursor = ahead;
            continue;
        }
        statements.push(unknown(&mut cursor));
    }
    let mut about = json!({
        "family": family, "table": table, "chain": chain, "expr": statements, "text": shown(tokens),
    });
    if let Some(comment) = comment {
        about["comment"] = comment.into();
    }
    json!({"rule": about})
}

/// In place of a comparison of `ct status` in tables of iptables.
const MISTRANSLATED: &str = "iptables' match conntrack, of which nft may show a part";

/// Whether nft may have shown it wrongly: libxtables 1.8.9 translates `-m conntrack ! --ctstate
/// RELATED,ESTABLISHED,DNAT` to `ct status dnat`.
fn mistranslated(table: &str, statement: &Value) -> bool {
    let of_iptables = matches!(table, "filter" | "nat" | "mangle" | "raw" | "security");
    of_iptables && statement.pointer("/match/left/ct/key").is_some_and(|key| key == "status")
}

/// Words that are not understood, up to where a statement begins that is no comparison: a condition
/// of their own, or an action if they look up where the packet goes.
fn unknown(cursor: &mut Cursor<'_>) -> Value {
    let mut taken: Vec<Token> = Vec::new();
    while let Some(token) = cursor.peek() {
        let ends = token.is("comment") || !token.quoted && acts(&token.text);
        if ends && !taken.is_empty() {
            break;
        }
        taken.push(token.clone());
        let mut ahead = *cursor;
        match ahead.braces() {
            Some(inner) => {
                taken.extend_from_slice(inner);
                taken.push(Token { text: "}".into(), ..token.clone() });
                *cursor = ahead;
            }
            None => {
                cursor.next();
            }
        }
    }
    let text = words(&taken);
    if taken.iter().any(|token| token.is("vmap")) { text.into() } else { condition(&text) }
}

/// A condition that is named by its words.
fn condition(words: &str) -> Value {
    json!({"match": {"op": "in", "left": words, "right": null}})
}

/// The rule as it stands there, but for what its counter has counted and its comment.
fn shown(tokens: &[Token]) -> String {
    let mut text = String::new();
    let mut cursor = Cursor::new(tokens);
    while let Some(token) = cursor.next() {
        if token.is("comment") && cursor.peek_at(1).is_none() {
            break;
        }
        if !text.is_empty() && !token.is(",") {
            text.push(' ');
        }
        if token.quoted {
            text.push('"');
            text.push_str(&token.text);
            text.push('"');
        } else {
            text.push_str(if token.is("\n") { "" } else { &token.text });
        }
        if token.is("counter") {
            counted(&mut cursor);
        }
    }
    text.trim_end().to_owned()
}

/// `packets 3 bytes 180`, behind a counter.
fn counted(cursor: &mut Cursor<'_>) {
    for what in ["packets", "bytes"] {
        if cursor.skip(what) {
            cursor.next();
        }
    }
}

/// Whether a statement can begin so.
fn begins(word: &str) -> bool {
    expression::begins(word) || acts(word)
}

/// Whether a statement that is no comparison can begin so.
fn acts(word: &str) -> bool {
    matches!(
        word,
        "counter"
            | "accept"
            | "drop"
            | "return"
            | "continue"
            | "jump"
            | "goto"
            | "reject"
            | "log"
            | "limit"
            | "quota"
            | "masquerade"
            | "snat"
            | "dnat"
            | "redirect"
            | "notrack"
            | "update"
            | "xt"
            | "tproxy"
            | "queue"
            | "synproxy"
            | "dup"
            | "fwd"
            | "flow"
    )
}

/// The next statement; `None` if it is not known.
fn statement(cursor: &mut Cursor<'_>) -> Option<Value> {
    if let Some(verdict) = verdict(cursor) {
        return Some(verdict);
    }
    let word = cursor.peek().filter(|token| !token.quoted)?.text.as_str();
    match word {
        "counter" => {
            cursor.next();
            if cursor.skip("name") {
                cursor.next();
            }
            counted(cursor);
            Some(json!({"counter": null}))
        }
        "log" | "notrack" | "dup" | "flow" => {
            cursor.next();
            let _ = cursor.skip("add") || cursor.skip("offload");
            rest(cursor);
            Some(json!({word: null}))
        }
        // They send packets elsewhere.
        "tproxy" | "queue" | "synproxy" | "fwd" => {
            cursor.next();
            let _ = cursor.skip("ip") || cursor.skip("ip6");
            let words = rest(cursor);
            Some(format!("{word} {words}").trim_end().into())
        }
        "limit" | "quota" => {
            cursor.next();
            Some(json!({word: rest(cursor)}))
        }
        "reject" => {
            cursor.next();
            let with = cursor.skip("with").then(|| {
                let what = cursor.next().map(|token| token.text.clone()).unwrap_or_default();
                cursor.skip("type");
                let kind = cursor.next();
                json!({"type": what, "expr": kind.map(|token| token.text.clone())})
            });
            Some(json!({"reject": with}))
        }
        "masquerade" => {
            cursor.next();
            if cursor.skip("to") {
                cursor.next();
            }
            Some(json!({"masquerade": {"flags": nat_flags(cursor)}}))
        }
        "snat" | "dnat" | "redirect" => {
            cursor.next();
            Some(json!({word: translation(cursor)?}))
        }
        "update" | "add" | "delete" => {
            let what = cursor.next()?;
            let set = cursor.next().filter(|token| token.text.starts_with('@'))?;
            let inner = words(cursor.braces()?);
            // With a limit, it is a test.
            let tests = ["limit ", "quota ", "ct count"].iter().any(|test| inner.contains(test));
            let text = format!("{} {} {{ {inner} }}", what.text, set.text);
            Some(if tests { condition(&text) } else { text.into() })
        }
        "xt" => {
            cursor.next();
            let (kind, name) = (cursor.next()?, cursor.next()?);
            Some(json!({"xt": {"type": kind.text, "name": name.text}}))
        }
        _ => comparison(cursor),
    }
}

/// All words up to the next statement, joined.
fn rest(cursor: &mut Cursor<'_>) -> String {
    let mut taken = Vec::new();
    let mut before = "";
    while let Some(token) = cursor.peek() {
        // `log flags ip options`, `queue flags bypass to 1`
        let option = before == "flags";
        if token.is("comment") || !token.quoted && begins(&token.text) && !option {
            break;
        }
        taken.push(token.clone());
        before = &token.text;
        cursor.next();
    }
    words(&taken)
}

fn words(tokens: &[Token]) -> String {
    let words: Vec<&str> =
        tokens.iter().map(|token| token.text.as_str()).filter(|word| *word != "\n").collect();
    words.join(" ")
}

fn nat_flags(cursor: &mut Cursor<'_>) -> Vec<String> {
    let mut flags = Vec::new();
    while matches!(cursor.word(), "random" | "fully-random" | "persistent" | ",") {
        flags.extend(cursor.next().map(|token| token.text.clone()).filter(|flag| flag != ","));
    }
    flags
}

/// What follows `dnat`, `snat` or `redirect`.
fn translation(cursor: &mut Cursor<'_>) -> Option<Value> {
    let mut about = json!({});
    if matches!(cursor.word(), "ip" | "ip6") {
        about["family"] = cursor.next()?.text.clone().into();
    }
    // `dnat ip addr . port to ...` of nft 0.9
    if cursor.skip("addr") {
        while cursor.word() != "to" && !cursor.is_empty() {
            cursor.next();
        }
    }
    if cursor.skip("prefix") {
        return None;
    }
    if cursor.skip("to") {
        to(cursor, &mut about)?;
    }
    let flags = nat_flags(cursor);
    if !flags.is_empty() {
        about["flags"] = flags.into();
    }
    Some(about)
}

/// `10.0.0.1`, `10.0.0.1:80`, `[fd00::1]:80`, `:80`, or what a map holds: `ip daddr map @m`, with a
/// port behind it.
fn to(cursor: &mut Cursor<'_>, about: &mut Value) -> Option<()> {
    if expression::begins(cursor.word()) {
        let key = concatenation(cursor)?;
        cursor.skip("map").then_some(())?;
        let data = match cursor.braces() {
            Some(inner) => json!({"set": elements(inner)}),
            None => cursor.next()?.text.clone().into(),
        };
        about["addr"] = json!({"map": {"key": key, "data": data}});
        if let Some(port) = cursor.word().strip_prefix(':') {
            let port = if port.is_empty() { cursor.next().and(cursor.peek())?.text.as_str() } else { port };
            about["port"] = number(port)?.into();
            cursor.next();
        }
        return Some(());
    }
    let text = cursor.next()?.text.as_str();
    let (address, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (address, after) = bracketed.split_once(']')?;
            (address, after.strip_prefix(':'))
        }
        None if text.matches(':').count() > 1 => (text, None),
        None => text.split_once(':').map_or((text, None), |(address, port)| (address, Some(port))),
    };
    if !address.is_empty() {
        let (first, last) = address.split_once('-').unwrap_or((address, address));
        let parse = |text: &str| text.parse::<std::net::IpAddr>().ok();
        let (first, last) = (parse(first)?, parse(last)?);
        about["addr"] = if first == last {
            first.to_string().into()
        } else {
            json!({"range": [first.to_string(), last.to_string()]})
        };
    }
    if let Some(port) = port {
        about["port"] = match port.split_once('-') {
            Some((first, last)) => json!({"range": [number(first)?, number(last)?]}),
            None => number(port)?.into(),
        };
    }
    Some(())
}

/// A comparison, a map of verdicts, or a field that is set.
fn comparison(cursor: &mut Cursor<'_>) -> Option<Value> {
    if let Some(special) = connections(cursor).or_else(|| option(cursor)) {
        return Some(special);
    }
    let left = concatenation(cursor)?;
    if cursor.skip("vmap") {
        let data = match cursor.braces() {
            Some(inner) => json!({"set": elements(inner)}),
            None => cursor.next()?.text.clone().into(),
        };
        return Some(json!({"vmap": {"key": left, "data": data}}));
    }
    if cursor.skip("set") {
        return Some(json!({"mangle": {"key": left, "value": assigned(cursor)?}}));
    }
    let left = draw(&left).unwrap_or(left);
    let operator = ["==", "!=", "<", ">", "<=", ">="].into_iter().find(|operator| cursor.word() == *operator);
    if operator.is_some() {
        cursor.next();
    }
    // `<` and `=` are tokens of their own.
    let operator = match operator {
        Some("<") if cursor.skip("=") => Some("<="),
        Some(">") if cursor.skip("=") => Some(">="),
        other => other,
    };
    let right = right(cursor)?;
    // `tcp flags syn / fin,syn,rst,ack`: these flags of those.
    if cursor.skip("/") {
        let mask = flags(cursor)?;
        let operator = operator.unwrap_or("==");
        return Some(json!({"match": {"op": operator, "left": {"&": [left, mask]}, "right": right}}));
    }
    let is_flags = |key: &str| left.pointer(key).and_then(Value::as_str);
    let has_flags = matches!(is_flags("/ct/key"), Some("state" | "status"))
        || is_flags("/payload/field") == Some("flags");
    let is_set = right.get("set").is_some() || right.as_str().is_some_and(|name| name.starts_with('@'));
    let operator = operator.unwrap_or(if has_flags && !is_set { "in" } else { "==" });
    Some(json!({"match": {"op": operator, "left": left, "right": right}}))
}

/// `ct count over 20`, which only the kernel knows; `ct helper set "ftp"` and the like, which
/// change nothing here.
fn connections(cursor: &mut Cursor<'_>) -> Option<Value> {
    let (first, second) = (cursor.peek()?, cursor.peek_at(1)?);
    if !first.is("ct") {
        return None;
    }
    match second.text.as_str() {
        "count" => {
            cursor.next();
            let mut text = "ct".to_owned();
            for _ in 0..3 {
                let Some(token) = cursor.peek() else { break };
                if text != "ct" && begins(&token.text) {
                    break;
                }
                text = format!("{text} {}", token.text);
                cursor.next();
                if token.text.parse::<u64>().is_ok() {
                    break;
                }
            }
            Some(condition(&text))
        }
        "helper" | "timeout" | "expectation" if cursor.peek_at(2).is_some_and(|token| token.is("set")) => {
            for _ in 0..4 {
                cursor.next();
            }
            Some(json!({"ct helper": null}))
        }
        _ => None,
    }
}

/// `tcp option maxseg size set rt mtu`, which changes nothing here; without `set`, a condition.
fn option(cursor: &mut Cursor<'_>) -> Option<Value> {
    let (first, second) = (cursor.peek()?, cursor.peek_at(1)?);
    if !first.is("tcp") || !second.is("option") {
        return None;
    }
    let mut taken = Vec::new();
    while let Some(token) = cursor.peek().filter(|token| !acts(&token.text) && !token.is("comment")) {
        taken.push(token.clone());
        cursor.next();
    }
    let sets = taken.iter().any(|token| token.is("set"));
    Some(if sets { json!({"mangle": {"key": {"tcp option": null}}}) } else { condition(&words(&taken)) })
}

/// `meta random & 2147483647`, by which the translation of iptables' match `statistic` draws, as a
/// number below 2^31.
fn draw(left: &Value) -> Option<Value> {
    let [of, mask] = left.get("&")?.as_array()?.as_slice() else { return None };
    let random =
        of.pointer("/meta/key").is_some_and(|key| key == "random") && mask.as_u64() == Some(0x7fff_ffff);
    random.then(|| json!({"numgen": {"mode": "random", "mod": 1_u64 << 31, "offset": 0}}))
}

/// What a field is set to: a value, or a mark that is changed: `meta mark | 0x4000`, and `mark or
/// 0x4000` as iptables writes it.
fn assigned(cursor: &mut Cursor<'_>) -> Option<Value> {
    if !expression::begins(cursor.word()) {
        return value(cursor);
    }
    let mut left = concatenation(cursor)?;
    while let Some((_, operator)) =
        [("or", "|"), ("and", "&"), ("xor", "^")].into_iter().find(|(word, _)| cursor.word() == *word)
    {
        cursor.next();
        left = json!({operator: [left, value(cursor)?]});
    }
    if cursor.skip("map") {
        let _ = cursor.braces().map(<[Token]>::len).or_else(|| cursor.next().map(|_| 0))?;
        return Some(json!({"unknown": "a map"}));
    }
    Some(left)
}
