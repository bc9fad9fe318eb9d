//! The header `Authorization`.

use http::HeaderValue;

/// The header with `token`, whatever white space is around it. The error says what is wrong with
/// the token.
pub(super) fn bearer(token: &str) -> Result<HeaderValue, String> {
    let token = token.trim();
    if token.is_empty() {
        return Err("the token is empty".to_owned());
    }
    // Where it is, and not what it is: tokens are secret.
    if let Some(at) = token.bytes().position(|byte| !(b'!'..=b'~').contains(&byte)) {
        return Err(format!("the token has a character that no token has, at byte {}", at + 1));
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "the token cannot be used".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// The header with a user name and a password (RFC 7617).
pub(super) fn basic(name: &str, password: &str) -> Result<HeaderValue, String> {
    if name.contains(':') {
        return Err("a user name has no colon".to_owned());
    }
    let word = data_encoding::BASE64.encode(format!("{name}:{password}").as_bytes());
    let mut value =
        HeaderValue::try_from(format!("Basic {word}")).map_err(|_| "it is too long".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_around_a_token_is_none_of_it() {
        let table = [
            ("as it is", "abc.def-1_2", Ok("Bearer abc.def-1_2")),
            ("a line, as editors write it", "abc\n", Ok("Bearer abc")),
            ("a line, as Windows writes it", "abc\r\n", Ok("Bearer abc")),
            ("spaces", "  abc\t", Ok("Bearer abc")),
            ("nothing", "", Err("the token is empty")),
            ("an empty line", "\n", Err("the token is empty")),
            ("two words", "abc def", Err("the token has a character that no token has, at byte 4")),
        ];
        for (name, token, expected) in table {
            let header = bearer(token);
            let header = header.as_ref().map(|value| value.to_str().unwrap());
            assert_eq!(header.map_err(String::as_str), expected, "{name}");
        }
    }

    #[test]
    fn names_and_passwords() {
        assert_eq!(
            basic("Aladdin", "open sesame").unwrap(),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            "RFC 7617 §2"
        );
        assert!(basic("a:b", "c").is_err());
    }
}
