//! Which names are names.

use crate::refusal::Errors;

/// Notes what is wrong with the name at a path that must be a DNS label, and none of `others`.
pub(super) fn unique_label(at: String, name: &str, others: &[&str], errors: &mut Errors) {
    if let Some(wrong) = label(name) {
        errors.invalid(at, name, wrong);
    } else if others.contains(&name) {
        errors.duplicate(at, name);
    }
}

/// What is wrong with a DNS label (RFC 1123).
pub(super) fn label(name: &str) -> Option<&'static str> {
    if name.len() > 63 {
        return Some("must be no more than 63 bytes");
    }
    (!is_label(name)).then_some(
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
         end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
    )
}

/// What is wrong with a DNS label (RFC 1035), which does not begin with a digit.
pub(super) fn label_1035(name: &str) -> Option<&'static str> {
    if name.len() > 63 {
        return Some("must be no more than 63 bytes");
    }
    (!is_label(name) || name.starts_with(|c: char| c.is_ascii_digit())).then_some(
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
         character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation \
         is '[a-z]([-a-z0-9]*[a-z0-9])?')",
    )
}

/// What is wrong with a DNS name (RFC 1123).
pub(super) fn subdomain(name: &str) -> Option<&'static str> {
    if name.len() > 253 {
        return Some("must be no more than 253 bytes");
    }
    (!name.split('.').all(is_label)).then_some(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
         and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
    )
}

/// What is wrong with a step of a path, where a name may have almost any character.
pub(super) fn path_step(name: &str) -> Option<&'static str> {
    match name {
        "." => Some("may not be '.'"),
        ".." => Some("may not be '..'"),
        _ if name.contains('/') => Some("may not contain '/'"),
        _ if name.contains('%') => Some("may not contain '%'"),
        _ => None,
    }
}

/// What is wrong with the name of a port (RFC 6335).
pub(super) fn port_name(name: &str) -> Option<&'static str> {
    let edges = name.starts_with('-') || name.ends_with('-');
    match name {
        _ if name.len() > 15 => Some("must be no more than 15 bytes"),
        _ if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') => {
            Some("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
        }
        _ if !name.bytes().any(|b| b.is_ascii_lowercase()) => Some("must contain at least one letter (a-z)"),
        _ if name.contains("--") => Some("must not contain consecutive hyphens"),
        _ if edges => Some("must not begin or end with a hyphen"),
        _ => None,
    }
}

/// What is wrong with the key of a label or an annotation.
pub(super) fn qualified(key: &str) -> Option<String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if let Some(wrong) = prefix.and_then(subdomain) {
        return Some(format!("prefix part {wrong}"));
    }
    if name.is_empty() {
        return Some("name part must be non-empty".to_owned());
    }
    if name.len() > 63 {
        return Some("name part must be no more than 63 bytes".to_owned());
    }
    (!is_value(name)).then(|| {
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
         alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
         '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            .to_owned()
    })
}

/// What is wrong with the value of a label.
pub(super) fn label_value(value: &str) -> Option<&'static str> {
    if value.len() > 63 {
        return Some("must be no more than 63 bytes");
    }
    (!value.is_empty() && !is_value(value)).then_some(
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
         and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
         validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
    )
}

fn is_label(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let edges = name.bytes().next().is_some_and(letter) && name.bytes().next_back().is_some_and(letter);
    edges && name.len() <= 63 && name.bytes().all(|b| letter(b) || b == b'-')
}

fn is_value(value: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric();
    let edges = value.bytes().next().is_some_and(letter) && value.bytes().next_back().is_some_and(letter);
    edges && value.bytes().all(|b| letter(b) || b"-_.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_names_from_others() {
        for (name, is_label, is_1035, is_subdomain) in [
            ("web", true, true, true),
            ("1-web", true, false, true),
            ("web.shop", false, false, true),
            ("Web", false, false, false),
            ("-web", false, false, false),
            ("web-", false, false, false),
            ("", false, false, false),
            ("a..b", false, false, false),
            ("wäb", false, false, false),
        ] {
            let found = (label(name).is_none(), label_1035(name).is_none(), subdomain(name).is_none());
            assert_eq!(found, (is_label, is_1035, is_subdomain), "{name:?}");
        }
        for (key, is_key) in
            [("app", true), ("a.b/C_d", true), ("a/b/c", false), ("/a", false), ("a/", false), ("a b", false)]
        {
            assert_eq!(qualified(key).is_none(), is_key, "{key:?}");
        }
        for (name, is_port) in [
            ("http", true),
            ("80", false),
            ("a--b", false),
            ("-a", false),
            ("Http", false),
            ("0123456789abcdef", false),
        ] {
            assert_eq!(port_name(name).is_none(), is_port, "{name:?}");
        }
        assert_eq!((label_value(""), label_value("A.b_c")), (None, None));
        assert!(label_value("a b").is_some() && label_value(&"a".repeat(64)).is_some());
    }
}
