//! Reads what `nft list ruleset` prints (nft(8)), as the listing that `nft -j` would print of it:
//! one reader serves both. Statements that are not known become conditions that are named.

mod elements;
mod expression;
mod rule;
mod set;
mod tokens;
mod verdict;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::Error;
use crate::printable::shortened;
use crate::ruleset::Ruleset;
use tokens::{Cursor, Token, tokens};

impl Ruleset {
    /// Reads the output of `nft list ruleset`, or a listing of some tables; also a file for `nft
    /// -f` that has no variables and includes. As [`Ruleset::from_nft_json`] otherwise.
    ///
    /// # Errors
    /// A text without a table, or one that ends within a table; a rule of a chain that is not
    /// there.
    pub fn from_nft_text(text: &str) -> Result<Ruleset, Error> {
        Ruleset::from_nft_listing(&listing(text)?)
    }
}

/// Whether `text` looks like what `nft list` prints: tables in braces.
pub fn is_nft_text(text: &str) -> bool {
    text.lines().any(|line| line.trim_start().starts_with("table ") && line.contains('{'))
}

/// `text` as the JSON listing of `nft -j`.
///
/// # Errors
/// A text without a table, or one that ends within a table.
pub fn listing(text: &str) -> Result<Value, Error> {
    let tokens = tokens(text);
    let mut cursor = Cursor::new(&tokens);
    let mut objects = Vec::new();
    while let Some(token) = cursor.peek() {
        // What shells print, and commands of a file: `flush ruleset`.
        if !token.is("table") {
            cursor.statement();
            continue;
        }
        cursor.next();
        let mut name = cursor.next().ok_or_else(|| problem(token, "a table without a name"))?;
        let mut family = "ip";
        if matches!(name.text.as_str(), "ip" | "ip6" | "inet" | "arp" | "bridge" | "netdev")
            && cursor.peek().is_some_and(|next| !next.is("{") && !next.is("\n"))
        {
            family = &name.text;
            name = cursor.next().ok_or_else(|| problem(token, "a table without a name"))?;
        }
        if cursor.peek().is_none_or(|next| !next.is("{")) {
            // Made here, and filled elsewhere.
            cursor.statement();
            continue;
        }
        let Some(body) = cursor.braces() else {
            return Err(Error::CutOffListing {
                table: shortened(&format!("{family} {}", name.text)),
                line: token.line,
            });
        };
        table(family, &name.text, body, &mut objects)?;
    }
    if objects.is_empty() {
        return Err(Error::NftText {
            line: 1,
            problem: "no table".into(),
            text: shortened(text.lines().next().unwrap_or("")),
        });
    }
    add_left_out(&mut objects);
    Ok(json!({"nftables": objects}))
}

/// Adds the chains that rules and elements name and that are not listed, each with a rule that is
/// not known.
fn add_left_out(objects: &mut Vec<Value>) {
    let mut listed = BTreeSet::new();
    let mut named = BTreeSet::new();
    for object in objects.iter() {
        let Some((kind, body)) = object.as_object().and_then(|object| object.iter().next()) else { continue };
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let table = (text("family"), text("table"));
        if kind == "chain" {
            listed.insert((table, text("name")));
        } else {
            targets(body, &mut |target| {
                named.insert((table.clone(), target.to_owned()));
            });
        }
    }
    for ((family, table), chain) in named.difference(&listed) {
        let missing = format!("chain {chain}, which the listing leaves out,");
        objects.push(json!({"chain": {"family": family, "table": table, "name": chain}}));
        objects.push(json!({"rule": {
            "family": family, "table": table, "chain": chain, "expr": [missing], "text": "rules that are missing",
        }}));
    }
}

/// The targets of jumps within `value`.
fn targets(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| targets(value, found)),
        Value::Object(object) => {
            for (key, value) in object {
                match value.get("target").and_then(Value::as_str) {
                    Some(target) if matches!(key.as_str(), "jump" | "goto") => found(target),
                    _ => targets(value, found),
                }
            }
        }
        _ => {}
    }
}

fn problem(token: &Token, problem: &str) -> Error {
    Error::NftText { line: token.line, problem: problem.to_owned(), text: shortened(&token.text) }
}

/// Adds the objects of a table.
fn table(family: &str, name: &str, body: &[Token], objects: &mut Vec<Value>) -> Result<(), Error> {
    objects.push(json!({"table": {"family": family, "name": name}}));
    let mut cursor = Cursor::new(body);
    let mut dormant = false;
    loop {
        cursor.skip_lines();
        let Some(token) = cursor.peek() else { return Ok(()) };
        match token.text.as_str() {
            "set" | "map" | "chain" => {
                cursor.next();
                let object = cursor.next().ok_or_else(|| problem(token, "no name behind it"))?;
                let Some(inner) = cursor.braces() else { return Err(problem(object, "no braces behind it")) };
                match token.text.as_str() {
                    "chain" => chain(family, name, object, inner, dormant, objects)?,
                    kind => objects.push(set::object(kind, family, name, &object.text, inner)),
                }
            }
            "flags" => dormant |= cursor.statement().iter().any(|flag| flag.is("dormant")),
            _ => {
                // Counters, limits, helpers, flow tables: no rules.
                cursor.statement();
            }
        }
    }
}

/// Adds a chain and its rules. A table that sleeps has no hooks.
fn chain(
    family: &str,
    table: &str,
    name: &Token,
    body: &[Token],
    dormant: bool,
    objects: &mut Vec<Value>,
) -> Result<(), Error> {
    let mut about = json!({"family": family, "table": table, "name": name.text});
    let mut rules = Vec::new();
    let mut cursor = Cursor::new(body);
    loop {
        cursor.skip_lines();
        if cursor.is_empty() {
            break;
        }
        let statement = cursor.statement();
        let words: Vec<&str> = statement.iter().map(|token| token.text.as_str()).collect();
        match words[..] {
            ["type", kind, "hook", hook, ref rest @ ..] => {
                if dormant {
                    continue;
                }
                about["type"] = kind.into();
                about["hook"] = hook.into();
                let after =
                    rest.iter().position(|word| *word == "priority").map_or(&[][..], |at| &rest[at + 1..]);
                let priority = priority(after);
                if priority.is_none() && matches!(family, "ip" | "ip6" | "inet") {
                    return Err(problem(name, "the priority of this chain is not known"));
                }
                about["prio"] = priority.unwrap_or(0).into();
            }
            ["policy", policy] => about["policy"] = policy.into(),
            ["comment" | "flags" | "devices", ..] => {}
            _ => rules.push(rule::object(family, table, &name.text, statement)),
        }
    }
    objects.push(json!({"chain": about}));
    objects.append(&mut rules);
    Ok(())
}

/// A priority by its number, by its name, or by its distance from a name (nft(8), `Standard
/// priority names`).
fn priority(words: &[&str]) -> Option<i64> {
    let named = |name: &str| {
        Some(match name {
            "raw" => -300,
            "mangle" => -150,
            "dstnat" => -100,
            "filter" => 0,
            "security" => 50,
            "srcnat" => 100,
            number => return number.parse().ok(),
        })
    };
    match words {
        [one] => named(one),
        [name, "+", more] => Some(named(name)? + more.parse::<i32>().map(i64::from).ok()?),
        [name, "-", less] => Some(named(name)? - less.parse::<i32>().map(i64::from).ok()?),
        _ => None,
    }
}
