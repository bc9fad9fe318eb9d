//! What a rule asks and does, statement by statement.

use serde_json::Value;

use super::open::Open;
use super::value::ValueKind;
use super::verdict::goal;
use super::{element, expression, text};
use crate::iptables;
use crate::ruleset::{Action, Goal, Mark, Operand, Part, Ranges, Set, SourceAddress, Test, Translation};

/// Adds the parts of `statement` to those of its rule.
pub(super) fn parts(statement: &Value, open: &mut Open, parts: &mut Vec<Part>) -> Result<(), String> {
    // nft 1.0.6 writes some statements as text; adding to a set is one of them.
    if let Some(plain) = statement.as_str() {
        let learns = ["update @", "add @", "delete @"].iter().any(|learning| plain.starts_with(learning));
        let action = if learns { Action::Note } else { Action::Unknown(text::statement(statement).into()) };
        parts.push(Part::Action(action));
        return Ok(());
    }
    let Some((kind, body)) = statement.as_object().and_then(|object| object.iter().next()) else {
        return Err("a statement that is no object".into());
    };
    if let Some(goal) = goal(statement, &open.chains)? {
        parts.push(Part::Action(Action::Goal(goal)));
        return Ok(());
    }
    let unknown_test = || Part::Test(Test::Unknown(text::statement(statement).into()));
    let action = match kind.as_str() {
        "match" => {
            let mut implied = Vec::new();
            let test = comparison(body, open, &mut implied)?;
            parts.extend(implied.into_iter().map(Part::Test));
            parts.push(test.map_or_else(unknown_test, Part::Test));
            return Ok(());
        }
        "limit" | "quota" | "ct count" | "connlimit" => {
            parts.push(unknown_test());
            return Ok(());
        }
        "xt" => {
            open.table.opaque = true;
            if body.get("name").is_some_and(|name| name == "comment") {
                return Ok(());
            }
            if body.get("type").is_some_and(|of| of == "match") {
                parts.push(unknown_test());
                return Ok(());
            }
            body.get("name").and_then(Value::as_str).and_then(iptables::unsupported_target)
        }
        // With a limit of its own, adding to a set is a test.
        "set" | "map" if body.get("stmt").is_some() => {
            parts.push(unknown_test());
            return Ok(());
        }
        "set" => {
            lifetime(body, open);
            Some(Action::Note)
        }
        "counter" | "log" | "map" | "flow" | "last" | "dup" | "ct helper" | "ct timeout"
        | "ct expectation" | "secmark" | "meter" => Some(Action::Note),
        "reject" => Some(Action::Goal(Goal::Reject)),
        "notrack" => Some(Action::Untrack),
        "vmap" => {
            let mut implied = Vec::new();
            let action = verdict_map(body, open, &mut implied)?;
            parts.extend(implied.into_iter().map(Part::Test));
            action
        }
        "mangle" => Some(mark_by_map(body, open, parts)?.unwrap_or_else(|| mangle(body))),
        "dnat" => {
            let mut implied = Vec::new();
            let translation = destination(body, open, &mut implied)?;
            parts.extend(implied.into_iter().map(Part::Test));
            translation.map(Action::Destination)
        }
        "redirect" => match body.get("port") {
            None => Some(Action::Destination(Translation::ToNode { ports: None })),
            Some(port) => {
                ports(port).map(|ports| Action::Destination(Translation::ToNode { ports: Some(ports) }))
            }
        },
        "masquerade" => Some(Action::Source(SourceAddress::OfInterface)),
        "snat" => Some(Action::Source(SourceAddress::Named(
            body.get("addr").and_then(address).and_then(|(first, last)| (first == last).then_some(first)),
        ))),
        _ => None,
    };
    parts.push(Part::Action(action.unwrap_or_else(|| Action::Unknown(text::statement(statement).into()))));
    Ok(())
}

/// A rule that adds to a set may say for how long: that of a set that has no time of its own.
fn lifetime(body: &Value, open: &mut Open) {
    let name = body.get("set").and_then(Value::as_str).and_then(|name| name.strip_prefix('@'));
    let set = name.and_then(|name| open.sets.get(name)).map(|set| set.number as usize);
    let seconds = body.pointer("/elem/elem/timeout").and_then(Value::as_u64);
    if let (Some(set), Some(seconds)) = (set, seconds) {
        open.table.sets[set].timeout.get_or_insert(seconds);
    }
}

/// Whether a value is what the rule says. `None` if something in it is not known.
fn comparison(body: &Value, open: &mut Open, implied: &mut Vec<Test>) -> Result<Option<Test>, String> {
    let (Some(left), Some(right)) = (body.get("left"), body.get("right")) else {
        return Err("a match without its sides".into());
    };
    let operator = body.get("op").and_then(Value::as_str).unwrap_or("==");
    let Some(key) = expression::key(left, implied) else { return Ok(None) };
    let negate = operator == "!=";
    if let Some(named) = right.as_str().and_then(|name| name.strip_prefix('@')) {
        let known = open.sets.get(named).filter(|set| set.whole);
        let known = known.filter(|_| matches!(operator, "==" | "!=" | "in"));
        return Ok(known.map(|set| Test::Lookup { key, set: set.number, negate }));
    }
    let [operand] = *key else {
        let Some(set) = right.get("set") else {
            // A concatenation of single values.
            let set = Value::Array(vec![right.clone()]);
            return Ok(anonymous(&set, &key, None, open)?.map(|set| Test::Lookup { key, set, negate }));
        };
        return Ok(anonymous(set, &key, None, open)?.map(|set| Test::Lookup { key, set, negate }));
    };
    let kind = ValueKind::of(operand.field);
    let compare = |ranges: Ranges, negate: bool| Some(Test::Compare { operand, ranges, negate });
    if let Some(set) = right.get("set") {
        let Some(elements) = set.as_array() else { return Ok(None) };
        let element = |element: &Value| {
            let value = element.get("elem").map_or(Some(element), |elem| elem.get("val"))?;
            kind.range(value)
        };
        let ranges: Option<Vec<_>> = elements.iter().map(element).collect();
        return Ok(ranges.and_then(|ranges| compare(Ranges::any(ranges), negate)));
    }
    Ok(match operator {
        // None of these flags is set.
        "!=" if right.is_array() => kind.single(right).map(|bits| Test::Compare {
            operand: Operand { mask: operand.mask & bits, ..operand },
            ranges: Ranges::nonzero(),
            negate: true,
        }),
        "==" | "!=" => kind.range(right).and_then(|(first, last)| compare(Ranges::One(first, last), negate)),
        "in" => kind.single(right).map(|bits| Test::Compare {
            operand: Operand { mask: operand.mask & bits, ..operand },
            ranges: Ranges::nonzero(),
            negate: false,
        }),
        "<" => kind.single(right).and_then(|bound| match bound.checked_sub(1) {
            Some(last) => compare(Ranges::One(0, last), false),
            None => Some(Test::Never),
        }),
        ">" => kind.single(right).and_then(|bound| match bound.checked_add(1) {
            Some(first) => compare(Ranges::One(first, u128::MAX), false),
            None => Some(Test::Never),
        }),
        "<=" => kind.single(right).and_then(|last| compare(Ranges::One(0, last), false)),
        ">=" => kind.single(right).and_then(|first| compare(Ranges::One(first, u128::MAX), false)),
        _ => None,
    })
}

/// The number of a new set or map of `elements` that are written within a rule.
fn anonymous(
    elements: &Value,
    key: &[Operand],
    data: Option<&[ValueKind]>,
    open: &mut Open,
) -> Result<Option<u32>, String> {
    let Some(elements) = elements.as_array() else { return Ok(None) };
    let kinds: Vec<ValueKind> = key.iter().map(|operand| ValueKind::of(operand.field)).collect();
    let mut set = Set::new("", false);
    for element in elements {
        if !element::insert(&mut set, element, &kinds, data, &open.chains)? {
            return Ok(None);
        }
    }
    let number = u32::try_from(open.table.sets.len()).map_err(|_| "too many sets")?;
    open.table.sets.push(set);
    Ok(Some(number))
}

/// A named map, or one that is written within the rule.
fn map(
    data: &Value,
    key: &[Operand],
    kinds: Option<&[ValueKind]>,
    open: &mut Open,
) -> Result<Option<u32>, String> {
    if let Some(named) = data.as_str().and_then(|name| name.strip_prefix('@')) {
        return Ok(open.sets.get(named).filter(|set| set.whole).map(|set| set.number));
    }
    match data.get("set") {
        Some(elements) => anonymous(elements, key, kinds, open),
        None => Ok(None),
    }
}

fn verdict_map(body: &Value, open: &mut Open, implied: &mut Vec<Test>) -> Result<Option<Action>, String> {
    let (Some(key), Some(data)) = (body.get("key"), body.get("data")) else {
        return Err("a vmap without key or data".into());
    };
    let Some(key) = expression::key(key, implied) else { return Ok(None) };
    Ok(map(data, &key, None, open)?.map(|map| Action::Lookup { key, map }))
}

fn destination(
    body: &Value,
    open: &mut Open,
    implied: &mut Vec<Test>,
) -> Result<Option<Translation>, String> {
    let port = match body.get("port") {
        Some(port) => match ports(port) {
            Some(ports) => Some(ports),
            None => return Ok(None),
        },
        None => None,
    };
    let Some(to) = body.get("addr") else {
        return Ok(port.map(|ports| Translation::To { addresses: None, ports: Some(ports) }));
    };
    let Some(mapped) = to.get("map") else {
        return Ok(address(to).map(|addresses| Translation::To { addresses: Some(addresses), ports: port }));
    };
    let (Some(key), Some(data)) = (mapped.get("key"), mapped.get("data")) else {
        return Err("a map without key or data".into());
    };
    let Some(key) = expression::key(key, implied) else { return Ok(None) };
    let port = match port {
        Some((first, last)) if first == last => Some(first),
        Some(_) => return Ok(None),
        None => None,
    };
    for kinds in data_kinds(data) {
        if let Some(map) = map(data, &key, Some(&kinds), open)? {
            return Ok(Some(Translation::Map { key, map, port }));
        }
    }
    Ok(None)
}

/// What the data of a map that is written within a rule can be: addresses, or addresses and ports,
/// of either family.
fn data_kinds(data: &Value) -> Vec<Vec<ValueKind>> {
    use portolan_service::Family::{V4, V6};
    let with_port =
        data.get("set").and_then(|set| set.get(0)?.get(1)).is_some_and(|first| first.get("concat").is_some());
    [V4, V6]
        .map(|family| {
            let address = ValueKind::Address(family);
            if with_port { vec![address, ValueKind::Number] } else { vec![address] }
        })
        .into()
}

/// One address, or first and last of a range or network.
fn address(value: &Value) -> Option<(u128, u128)> {
    portolan_service::Family::ALL.iter().find_map(|family| ValueKind::Address(*family).range(value))
}

fn ports(value: &Value) -> Option<(u16, u16)> {
    let (first, last) = ValueKind::Number.range(value)?;
    Some((u16::try_from(first).ok()?, u16::try_from(last).ok()?))
}

/// Sets something of the packet or its connection: only marks can be asked for later.
fn mangle(body: &Value) -> Action {
    let key = |of: &str| body.get("key").and_then(|key| key.get(of)?.get("key")?.as_str());
    let whole =
        |value: &Value, of: &str| value.get(of).and_then(|of| of.get("key")).is_some_and(|key| key == "mark");
    let Some(value) = body.get("value") else { return Action::Note };
    match (key("meta"), key("ct")) {
        (Some("mark"), _) if whole(value, "ct") => {
            Action::RestoreMark { connection: u32::MAX, packet: u32::MAX }
        }
        (Some("mark"), _) => mark(value, "meta").map_or(Action::ForgetMark, Action::Mark),
        (_, Some("mark")) if whole(value, "meta") => {
            Action::SaveMark { connection: u32::MAX, packet: u32::MAX }
        }
        (_, Some("mark")) => mark(value, "ct").map_or(Action::ForgetConnectionMark, Action::ConnectionMark),
        _ => Action::Note,
    }
}

/// Setting the packet's mark to what a map holds.
fn mark_by_map(body: &Value, open: &mut Open, parts: &mut Vec<Part>) -> Result<Option<Action>, String> {
    let is_mark = body.pointer("/key/meta/key").is_some_and(|key| key == "mark");
    let Some(mapped) = body.pointer("/value/map").filter(|_| is_mark) else { return Ok(None) };
    let (Some(key), Some(data)) = (mapped.get("key"), mapped.get("data")) else {
        return Err("a map without key or data".into());
    };
    let mut tests = Vec::new();
    let Some(key) = expression::key(key, &mut tests) else { return Ok(None) };
    let Some(map) = map(data, &key, Some(&[ValueKind::Number]), open)? else { return Ok(None) };
    parts.extend(tests.into_iter().map(Part::Test));
    Ok(Some(Action::MarkBy { key, map }))
}

/// How `value` follows from the mark of the packet (`meta`) or connection (`ct`) itself.
fn mark(value: &Value, of: &str) -> Option<Mark> {
    if let Some(number) = number(value) {
        return Some(Mark { keep: 0, flip: number });
    }
    let (operation, operands) = value.as_object()?.iter().next()?;
    if operation == of {
        return (operands.get("key")? == "mark").then_some(Mark { keep: u32::MAX, flip: 0 });
    }
    let [inner, bits] = operands.as_array()?.as_slice() else { return None };
    let (Mark { keep, flip }, bits) = (mark(inner, of)?, number(bits)?);
    Some(match operation.as_str() {
        "|" => Mark { keep: keep & !bits, flip: flip | bits },
        "&" => Mark { keep: keep & bits, flip: flip & bits },
        "^" => Mark { keep, flip: flip ^ bits },
        _ => return None,
    })
}

fn number(value: &Value) -> Option<u32> {
    u32::try_from(ValueKind::Number.single(value)?).ok()
}
