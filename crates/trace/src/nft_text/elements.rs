//! Elements of sets and maps.

use serde_json::{Value, json};

use super::expression::{single, value};
use super::tokens::{Cursor, Token};
use super::verdict::verdict;

/// What is compared with: a set, a set by its name, a list of flags, or a value.
pub(super) fn right(cursor: &mut Cursor<'_>) -> Option<Value> {
    if let Some(inner) = cursor.braces() {
        return Some(json!({"set": elements(inner)}));
    }
    let first = value(cursor)?;
    if cursor.word() != "," {
        return Some(first);
    }
    let mut list = vec![first];
    while cursor.skip(",") {
        list.push(single(cursor)?);
    }
    Some(list.into())
}

/// What lies between the braces of a set or a map, by commas.
pub(super) fn elements(tokens: &[Token]) -> Vec<Value> {
    let mut depth = 0_usize;
    let mut elements = Vec::new();
    let mut one: Vec<Token> = Vec::new();
    for token in tokens {
        if token.is("{") {
            depth += 1;
        } else if token.is("}") {
            depth = depth.saturating_sub(1);
        }
        if depth == 0 && token.is(",") {
            elements.extend(element(&one));
            one.clear();
        } else if !token.is("\n") {
            one.push(token.clone());
        }
    }
    elements.extend(element(&one));
    elements
}

/// `KEY [timeout 5s] [expires 4s] [counter packets 0 bytes 0] [comment "..."] [: DATA]`
fn element(tokens: &[Token]) -> Option<Value> {
    let colon = tokens.iter().position(|token| token.is(":"));
    let (before, data) = match colon {
        Some(at) => (&tokens[..at], tokens.get(at + 1..)),
        None => (tokens, None),
    };
    let mut cursor = Cursor::new(before);
    let mut key = value(&mut cursor)?;
    let mut about = json!({});
    while let Some(token) = cursor.next() {
        let next = cursor.peek().map(|token| token.text.as_str());
        match (token.text.as_str(), next) {
            ("comment", Some(comment)) => about["comment"] = comment.into(),
            ("timeout" | "expires", Some(time)) => about[token.text.as_str()] = seconds(time).into(),
            _ => {}
        }
    }
    if about.as_object().is_some_and(|about| !about.is_empty()) {
        about["val"] = key;
        key = json!({"elem": about});
    }
    let Some(data) = data else { return Some(key) };
    let mut cursor = Cursor::new(data);
    let data = verdict(&mut cursor).or_else(|| value(&mut cursor))?;
    // What stands behind the verdict belongs to the element, too.
    Some(json!([key, data]))
}

/// `1d2h3m4s` in seconds; what is shorter than a second is left out.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let mut all: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit_end =
            rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        let each = match &rest[digits..unit_end] {
            "d" => 86_400,
            "h" => 3_600,
            "m" => 60,
            "s" => 1,
            "ms" => 0,
            _ => return None,
        };
        all = all.checked_add(number.checked_mul(each)?)?;
        rest = &rest[unit_end..];
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, expected) in
            [("3h", Some(10_800)), ("1d2h3m4s", Some(93_784)), ("500ms", Some(0)), ("x", None), ("5", None)]
        {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
