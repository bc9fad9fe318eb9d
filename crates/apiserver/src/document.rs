//! Bodies of requests as JSON values: JSON, YAML or protobuf.

mod json;
mod protobuf;

use portolan_store::Failure;
use serde_json::Value;

/// What a body holds.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Document {
    pub(crate) value: Value,
    /// Paths of fields that are there twice, as `spec.replicas`.
    pub(crate) repeated: Vec<String>,
}

/// Reads a body by its `Content-Type`. What has none is read as JSON.
pub(crate) fn read(content_type: &str, body: &[u8]) -> Result<Document, Failure> {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    match media {
        "application/vnd.kubernetes.protobuf" => match protobuf::decode(body) {
            Ok(value) => Ok(Document { value, repeated: Vec::new() }),
            Err(message) => Err(Failure::new(400, format!("unable to decode protobuf: {message}"))),
        },
        "application/yaml" | "application/apply-patch+yaml" => yaml(body),
        // Patches are JSON under other names.
        "" | "*/*" | "application/json" => json(body),
        _ if media.ends_with("+json") => json(body),
        _ => Err(Failure::new(
            415,
            format!(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json, application/yaml, application/vnd.kubernetes.protobuf (got {media:?})"
            ),
        )),
    }
}

fn json(body: &[u8]) -> Result<Document, Failure> {
    let (value, repeated) =
        json::parse(body).map_err(|error| Failure::new(400, format!("couldn't decode the body: {error}")))?;
    Ok(Document { value, repeated })
}

fn yaml(body: &[u8]) -> Result<Document, Failure> {
    let refused = |message: String| Failure::new(400, format!("error decoding YAML: {message}"));
    // JSON is YAML, and read as such much faster.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
        && let Ok(document) = json(body)
    {
        return Ok(document);
    }
    let text = std::str::from_utf8(body).map_err(|error| refused(error.to_string()))?;
    let (documents, repeated) = portolan_yaml::parse_repeating(text, 1)
        .map_err(|error| refused(format!("line {}: {}", error.line, error.message)))?;
    let [document] = &documents[..] else {
        return Err(refused(format!("{} documents where one is expected", documents.len())));
    };
    let repeated = repeated.into_iter().map(|repeated| repeated.path).collect();
    Ok(Document { value: document.to_json(), repeated })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_by_content_type() {
        let expected = json!({ "a": { "b": 1 } });
        for (content_type, body) in [
            ("", r#"{"a":{"b":1}}"#),
            ("application/json; charset=utf-8", r#"{"a":{"b":1}}"#),
            ("application/merge-patch+json", r#"{"a":{"b":1}}"#),
            ("application/yaml", "a:\n  b: 1\n"),
            ("application/apply-patch+yaml", r#" {"a":{"b":1}}"#),
        ] {
            assert_eq!(read(content_type, body.as_bytes()).expect(body).value, expected, "{content_type}");
        }
        assert_eq!(read("text/plain", b"{}").expect_err("refused").code, 415);
        for (content_type, body) in [
            ("application/json", "{"),
            ("application/yaml", "a: [b"),
            ("application/yaml", "a: 1\n---\na: 2\n"),
            ("application/vnd.kubernetes.protobuf", "{}"),
        ] {
            assert_eq!(read(content_type, body.as_bytes()).expect_err("refused").code, 400, "{body}");
        }
    }
}
