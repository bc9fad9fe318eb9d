//! Verdicts, of rules and in maps.

use serde_json::{Value, json};

use super::tokens::Cursor;

/// A verdict, if one comes next.
pub(super) fn verdict(cursor: &mut Cursor<'_>) -> Option<Value> {
    let mut ahead = *cursor;
    let word = ahead.next().filter(|token| !token.quoted)?.text.as_str();
    let found = match word {
        "accept" | "drop" | "return" | "continue" => json!({word: null}),
        "jump" | "goto" => {
            let target = ahead.next().filter(|target| !target.is("{"))?;
            json!({word: {"target": target.text}})
        }
        _ => return None,
    };
    *cursor = ahead;
    Some(found)
}
