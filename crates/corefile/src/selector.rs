//! Label selectors as text: `environment in (production, qa),tier!=frontend,!old`.

use portolan_names::{LabelValue, Requirement};

/// The requirements that `text` has. The error is for people.
pub(crate) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut requirements = Vec::new();
    for part in parts(text)? {
        requirements.push(requirement(part.trim())?);
    }
    Ok(requirements)
}

/// What is between commas that are in no parentheses.
fn parts(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut begin, mut within) = (Vec::new(), 0, false);
    for (place, letter) in text.char_indices() {
        match letter {
            '(' if !within => within = true,
            ')' if within => within = false,
            '(' | ')' => return Err(format!("{text:?}: a parenthesis has no match")),
            ',' if !within => {
                parts.push(&text[begin..place]);
                begin = place + 1;
            }
            _ => {}
        }
    }
    if within {
        return Err(format!("{text:?}: a parenthesis has no match"));
    }
    parts.push(&text[begin..]);
    Ok(parts)
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let wrong = || {
        format!(
            "{text:?} is no requirement: write KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY notin (A,B), KEY or !KEY"
        )
    };
    let (key, value) = if let Some(key) = text.strip_prefix('!') {
        (key.trim(), LabelValue::Absent)
    } else if let Some((key, value)) = text.split_once("!=") {
        (key.trim(), LabelValue::NotIn(vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = text.split_once('=') {
        let value = value.strip_prefix('=').unwrap_or(value);
        (key.trim(), LabelValue::In(vec![value.trim().to_owned()]))
    } else if let Some((before, list)) = text.split_once('(') {
        let list = list.strip_suffix(')').ok_or_else(wrong)?;
        let values = list.split(',').map(|value| value.trim().to_owned()).collect();
        let (key, operator) = before.trim().rsplit_once(char::is_whitespace).ok_or_else(wrong)?;
        match operator {
            "in" => (key.trim(), LabelValue::In(values)),
            "notin" => (key.trim(), LabelValue::NotIn(values)),
            _ => return Err(wrong()),
        }
    } else {
        (text, LabelValue::Present)
    };
    if !is_key(key) {
        return Err(wrong());
    }
    let values = match &value {
        LabelValue::In(values) | LabelValue::NotIn(values) => &values[..],
        LabelValue::Present | LabelValue::Absent => &[],
    };
    if let Some(value) = values.iter().find(|value| !value.is_empty() && !is_name(value)) {
        return Err(format!(
            "{value:?} is no value of a label: it has at most 63 letters, digits, -, _ and ."
        ));
    }
    Ok(Requirement { key: key.to_owned(), value })
}

/// A label's key: a name, perhaps after a domain and a slash.
fn is_key(text: &str) -> bool {
    let (prefix, name) = text.rsplit_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let is_domain = |text: &str| {
        let allowed = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.');
        !text.is_empty() && text.len() <= 253 && text.bytes().all(allowed)
    };
    is_name(name) && prefix.is_none_or(is_domain)
}

fn is_name(text: &str) -> bool {
    let ends = |octet: Option<u8>| octet.is_some_and(|octet| octet.is_ascii_alphanumeric());
    let allowed = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.');
    let octets = text.as_bytes();
    text.len() <= 63
        && ends(octets.first().copied())
        && ends(octets.last().copied())
        && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_read() {
        let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        for (text, expected) in [
            ("a=b", vec![("a", LabelValue::In(values(&["b"])))]),
            ("a == b", vec![("a", LabelValue::In(values(&["b"])))]),
            ("a=", vec![("a", LabelValue::In(values(&[""])))]),
            ("a!=b", vec![("a", LabelValue::NotIn(values(&["b"])))]),
            ("a,!b", vec![("a", LabelValue::Present), ("b", LabelValue::Absent)]),
            (
                "example.org/team in (red, blue),tier notin (x)",
                vec![
                    ("example.org/team", LabelValue::In(values(&["red", "blue"]))),
                    ("tier", LabelValue::NotIn(values(&["x"]))),
                ],
            ),
        ] {
            let expected: Vec<Requirement> =
                expected.into_iter().map(|(key, value)| Requirement { key: key.to_owned(), value }).collect();
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for text in ["", "a,", "=b", "a in b", "a in (b", "a)(", "a b", "a in ((b))", "-a=b", "a=b c", "a>1"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
