//! Reads what `nft -j list ruleset` writes (libnftables-json(5)).

mod element;
mod expression;
mod open;
mod statement;
mod text;
mod value;
mod verdict;

use std::collections::HashMap;
use std::fmt::Write;

use portolan_service::Family;
use serde_json::{Map, Value};

use crate::Error;
use crate::printable::{printable, shortened};
use crate::ruleset::{Base, Chain, Hook, Kind, Rule, Ruleset, Set, Table, TableFamily, Tool};
use element::kinds;
use open::{NamedSet, Open};

/// What is wrong with an object.
type Problem = String;

type Object = Map<String, Value>;

impl Ruleset {
    /// Reads the output of `nft -j list ruleset`, or of a listing of some tables. Tables of
    /// families `ip`, `ip6` and `inet` are kept. Expressions and statements that are not known are
    /// kept as such, see [`crate::ruleset::Test::Unknown`]. What packets have added to sets counts
    /// as it was at the time of the listing: clients that are not in them are not remembered.
    ///
    /// # Errors
    /// What is not JSON, or does not hang together: a rule of a chain that is not there.
    pub fn from_nft_json(text: &str) -> Result<Ruleset, Error> {
        let document: Value =
            serde_json::from_str(text).map_err(|error| Error::Json(shortened(&error.to_string())))?;
        Ruleset::from_nft_listing(&document)
    }

    /// The same, of a listing that was parsed already.
    ///
    /// # Errors
    /// A listing that does not hang together.
    pub fn from_nft_listing(document: &Value) -> Result<Ruleset, Error> {
        let objects = document.get("nftables").and_then(Value::as_array).ok_or_else(|| Error::Object {
            object: "the document".into(),
            problem: "it has no list `nftables`".into(),
        })?;
        let mut reader = Reader::default();
        // In passes: elements of maps name chains, and rules name both.
        for pass in [Reader::table, Reader::chain, Reader::set, Reader::rule] {
            for object in objects {
                let Some((kind, Value::Object(body))) =
                    object.as_object().and_then(|object| object.iter().next())
                else {
                    continue;
                };
                pass(&mut reader, kind, body).map_err(|problem| Error::Object {
                    object: named(kind, body),
                    problem: shortened(&problem),
                })?;
            }
        }
        let mut ruleset = Ruleset::of(reader.tables.into_iter().map(|open| open.table).collect());
        let bound = ruleset.tables().iter().flat_map(|table| &table.chains).any(|chain| chain.base.is_some());
        if ruleset.rule_count() > 0 && !bound {
            for family in Family::ALL {
                ruleset.leaves_out(
                    family,
                    "No chain of this listing is bound to a hook, so that no packet meets its rules: `nft list ruleset` prints \
                     all chains.",
                );
            }
        }
        Ok(ruleset)
    }
}

/// An object by kind, family, table and name, for error messages.
fn named(kind: &str, body: &Object) -> String {
    let mut name = kind.to_owned();
    for key in ["family", "table", "chain", "name"] {
        if let Some(Value::String(value)) = body.get(key) {
            name.push(' ');
            name.push_str(value);
        }
    }
    if let Some(handle) = body.get("handle").and_then(Value::as_u64) {
        let _ = write!(name, " (handle {handle})");
    }
    shortened(&name)
}

fn text<'a>(body: &'a Object, key: &str) -> Result<&'a str, Problem> {
    body.get(key).and_then(Value::as_str).ok_or_else(|| format!("it has no text `{key}`"))
}

#[derive(Default)]
struct Reader {
    tables: Vec<Open>,
    by_name: HashMap<(TableFamily, String), usize>,
}

impl Reader {
    /// The table that `body` belongs to, if it is kept.
    fn open(&mut self, body: &Object) -> Result<Option<&mut Open>, Problem> {
        let Some(family) = table_family(text(body, "family")?) else { return Ok(None) };
        let name = text(body, "table")?;
        match self.by_name.get(&(family, name.to_owned())) {
            Some(number) => Ok(Some(&mut self.tables[*number])),
            None => Err(format!("table {name} is not listed before it")),
        }
    }

    fn table(&mut self, kind: &str, body: &Object) -> Result<(), Problem> {
        if kind != "table" {
            return Ok(());
        }
        let Some(family) = table_family(text(body, "family")?) else { return Ok(()) };
        let name = text(body, "name")?;
        let number = self.tables.len();
        let known = *self.by_name.entry((family, name.to_owned())).or_insert(number);
        if known == number {
            let table = Table::new(family, &printable(name), Tool::Nftables);
            self.tables.push(Open { table, chains: HashMap::new(), sets: HashMap::new() });
        }
        Ok(())
    }

    fn chain(&mut self, kind: &str, body: &Object) -> Result<(), Problem> {
        if kind != "chain" {
            return Ok(());
        }
        let Some(open) = self.open(body)? else { return Ok(()) };
        let name = text(body, "name")?;
        let number = u32::try_from(open.table.chains.len()).map_err(|_| "too many chains")?;
        if open.chains.insert(name.to_owned(), number).is_some() {
            return Err("it is listed twice".into());
        }
        open.table.chains.push(Chain::new(&printable(name), base(body)?));
        Ok(())
    }

    fn set(&mut self, kind: &str, body: &Object) -> Result<(), Problem> {
        if !matches!(kind, "set" | "map") {
            return Ok(());
        }
        let Some(open) = self.open(body)? else { return Ok(()) };
        let name = text(body, "name")?;
        let learns = body.get("flags").is_some_and(|flags| {
            let forgets = |flag: &Value| flag == "timeout" || flag == "dynamic";
            forgets(flags) || flags.as_array().is_some_and(|flags| flags.iter().any(forgets))
        });
        let mut set = Set::new(&printable(name), learns);
        set.timeout = body.get("timeout").and_then(Value::as_u64);
        let key = body.get("type").and_then(kinds);
        let data = match body.get("map") {
            Some(data) => kinds(data).map(Some),
            None => Some(None),
        };
        let verdicts = body.get("map").is_some_and(|map| map == "verdict");
        let mut whole = key.is_some() && (data.is_some() || verdicts);
        if let (Some(key), true) = (key, whole) {
            let data = data.flatten();
            let none = Vec::new();
            for element in body.get("elem").and_then(Value::as_array).unwrap_or(&none) {
                whole &= element::insert(&mut set, element, &key, data.as_deref(), &open.chains)?;
            }
        }
        let number = u32::try_from(open.table.sets.len()).map_err(|_| "too many sets")?;
        open.table.sets.push(set);
        open.sets.insert(name.to_owned(), NamedSet { number, whole });
        Ok(())
    }

    fn rule(&mut self, kind: &str, body: &Object) -> Result<(), Problem> {
        if kind != "rule" {
            return Ok(());
        }
        let Some(open) = self.open(body)? else { return Ok(()) };
        let chain = text(body, "chain")?;
        let chain = *open.chains.get(chain).ok_or_else(|| format!("chain {chain} is not listed"))?;
        let none = Vec::new();
        let statements = body.get("expr").and_then(Value::as_array).unwrap_or(&none);
        let comment = body.get("comment").and_then(Value::as_str).map(|comment| printable(comment).into());
        let mut parts = Vec::with_capacity(statements.len() + 1);
        for statement in statements {
            statement::parts(statement, open, &mut parts)?;
        }
        let text = match body.get("text").and_then(Value::as_str) {
            Some(text) => printable(text).into(),
            None => text::rule(statements).into(),
        };
        let rule = Rule { text, comment, parts: parts.into() };
        open.table.chains[chain as usize].rules.push(rule);
        Ok(())
    }
}

/// Families of packets that are followed.
fn table_family(name: &str) -> Option<TableFamily> {
    match name {
        "ip" => Some(TableFamily::Only(Family::V4)),
        "ip6" => Some(TableFamily::Only(Family::V6)),
        "inet" => Some(TableFamily::Inet),
        _ => None,
    }
}

fn base(body: &Object) -> Result<Option<Base>, Problem> {
    let hook = match body.get("hook").and_then(Value::as_str) {
        Some("prerouting") => Hook::Prerouting,
        Some("input") => Hook::Input,
        Some("forward") => Hook::Forward,
        Some("output") => Hook::Output,
        Some("postrouting") => Hook::Postrouting,
        _ => return Ok(None),
    };
    let priority = body.get("prio").and_then(Value::as_i64).and_then(|priority| i32::try_from(priority).ok());
    Ok(Some(Base {
        hook,
        kind: if text(body, "type")? == "nat" { Kind::Nat } else { Kind::Filter },
        priority: priority.ok_or("it has no number `prio`")?,
        drops: body.get("policy").is_some_and(|policy| policy == "drop"),
    }))
}
