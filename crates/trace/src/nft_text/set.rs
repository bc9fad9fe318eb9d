//! Named sets and maps.

use serde_json::{Value, json};

use super::elements::{elements, seconds};
use super::expression;
use super::tokens::{Cursor, Token};

/// A named set or map.
pub(super) fn object(kind: &str, family: &str, table: &str, name: &str, body: &[Token]) -> Value {
    let mut about = json!({"family": family, "table": table, "name": name});
    let mut cursor = Cursor::new(body);
    loop {
        cursor.skip_lines();
        if cursor.is_empty() {
            break;
        }
        let statement = cursor.statement();
        let mut words = Cursor::new(statement);
        let what = words.next().map_or("", |token| token.text.as_str());
        match what {
            "type" | "typeof" => {
                let colon = statement.iter().position(|token| token.is(":")).unwrap_or(statement.len());
                let key = statement.get(1..colon).unwrap_or(&[]);
                let data = statement.get(colon + 1..).unwrap_or(&[]);
                about["type"] = kinds(what, key);
                if !data.is_empty() {
                    about["map"] = if data[0].is("verdict") { "verdict".into() } else { kinds(what, data) };
                }
            }
            "flags" => {
                let flags: Vec<&str> = statement[1..]
                    .iter()
                    .map(|token| token.text.as_str())
                    .filter(|flag| *flag != ",")
                    .collect();
                about["flags"] = flags.into();
            }
            "timeout" => {
                if let Some(seconds) = statement.get(1).and_then(|token| seconds(&token.text)) {
                    about["timeout"] = seconds.into();
                }
            }
            "elements" => {
                words.skip("=");
                if let Some(inner) = words.braces() {
                    about["elem"] = elements(inner).into();
                }
            }
            _ => {}
        }
    }
    json!({kind: about})
}

/// The names of types, or the expressions whose types they are.
fn kinds(what: &str, tokens: &[Token]) -> Value {
    if what == "typeof" {
        let mut cursor = Cursor::new(tokens);
        return json!({"typeof": expression::concatenation(&mut cursor).unwrap_or(Value::Null)});
    }
    let names: Vec<&str> =
        tokens.iter().filter(|token| !token.is(".")).map(|token| token.text.as_str()).collect();
    names.into()
}
