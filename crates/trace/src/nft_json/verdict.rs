//! Verdicts, of rules and in maps.

use std::collections::HashMap;

use serde_json::Value;

use crate::ruleset::Goal;

/// A verdict; `None` for anything else.
pub(super) fn goal(statement: &Value, chains: &HashMap<String, u32>) -> Result<Option<Goal>, String> {
    let Some((kind, body)) = statement.as_object().and_then(|object| object.iter().next()) else {
        return Ok(None);
    };
    let target = || -> Result<u32, String> {
        let name =
            body.get("target").and_then(Value::as_str).ok_or_else(|| format!("{kind} without a target"))?;
        chains.get(name).copied().ok_or_else(|| format!("chain {name} is not listed"))
    };
    Ok(Some(match kind.as_str() {
        "accept" => Goal::Accept,
        "drop" => Goal::Drop,
        "return" => Goal::Return,
        "continue" => Goal::Continue,
        "jump" => Goal::Jump(target()?),
        "goto" => Goal::Goto(target()?),
        _ => return Ok(None),
    }))
}
