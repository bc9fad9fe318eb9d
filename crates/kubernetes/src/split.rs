//! Cuts the bytes of an answer into objects as they come, without holding more than one of them.

/// Cuts a watch's answer into events: one a line.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
}

impl Lines {
    /// Takes the next bytes and hands each line that they complete to `line`, without its end.
    pub(crate) fn push<E>(
        &mut self,
        mut bytes: &[u8],
        mut line: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (head, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if self.partial.is_empty() {
                line(head)?;
            } else {
                self.partial.extend_from_slice(head);
                let whole = std::mem::take(&mut self.partial);
                line(&whole)?;
                self.partial = recycled(whole);
            }
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// Whether a line has begun that is not complete.
    pub(crate) fn within_a_line(&self) -> bool {
        !self.partial.is_empty()
    }
}

/// A buffer to use again, unless an uncommonly large object has passed through it.
fn recycled(mut buffer: Vec<u8>) -> Vec<u8> {
    const COMMON: usize = 64 * 1024;
    buffer.clear();
    buffer.shrink_to(COMMON);
    buffer
}

/// A part of a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// The text of `metadata`.
    Metadata(&'a [u8]),
    /// The text of one of `items`.
    Item(&'a [u8]),
}

/// What is wrong with the text of a list as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a list: {0}")]
pub(crate) struct NotAList(&'static str);

/// Cuts a list's answer, a JSON object with `metadata` and `items`, into its parts.
///
/// It looks only at strings and brackets; whether an item is JSON is found out by who decodes it,
/// so that one that is not takes no other with it.
#[derive(Debug)]
pub(crate) struct List {
    at: At,
    /// The value being read: how deep within brackets, and whether within a string.
    depth: usize,
    string: bool,
    escape: bool,
    /// The text of the key or value that began in earlier bytes.
    partial: Vec<u8>,
}

/// Where in a list we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    /// Before a key or the end.
    Key,
    InKey,
    Colon(Member),
    Value(Member),
    InValue(Member),
    /// Within `items`, before an item or the end.
    Item,
    InItem,
    AfterItem,
    AfterValue,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Metadata,
    Items,
    Other,
}

/// What a byte means for the value that is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It belongs to the value, which goes on.
    Within,
    /// It is the last of the value.
    Last,
    /// It follows the value.
    After,
}

impl List {
    pub(crate) fn new() -> List {
        List { at: At::Start, depth: 0, string: false, escape: false, partial: Vec::new() }
    }

    /// Whether the list has ended.
    pub(crate) fn complete(&self) -> bool {
        self.at == At::End
    }

    /// Whether an item has begun that is not complete.
    pub(crate) fn within_an_item(&self) -> bool {
        self.at == At::InItem
    }

    /// Takes the next bytes and hands each part that they complete to `part`.
    pub(crate) fn push(&mut self, bytes: &[u8], mut part: impl FnMut(Part<'_>)) -> Result<(), NotAList> {
        // Where in `bytes` the value that is being read begins, as far as it is there.
        let mut begin = 0;
        let mut i = 0;
        while i < bytes.len() {
            let byte = bytes[i];
            match self.at {
                At::InKey | At::InValue(_) | At::InItem => {
                    let step = self.step(byte);
                    if step == Step::Within {
                        i += 1;
                        continue;
                    }
                    let end = i + usize::from(step == Step::Last);
                    self.finish(&bytes[begin..end], &mut part);
                    i = end;
                    continue;
                }
                _ if byte.is_ascii_whitespace() => {}
                At::Start if byte == b'{' => self.at = At::Key,
                At::Start => return Err(NotAList("it does not begin with {")),
                At::Key | At::AfterValue if byte == b'}' => self.at = At::End,
                At::AfterValue if byte == b',' => self.at = At::Key,
                At::Key if byte == b'"' => {
                    begin = i;
                    self.begin(At::InKey, byte);
                }
                At::Key | At::AfterValue => return Err(NotAList("a key, a comma or } is missing")),
                At::Colon(member) if byte == b':' => self.at = At::Value(member),
                At::Colon(_) => return Err(NotAList("a colon is missing")),
                At::Value(Member::Items) if byte == b'[' => self.at = At::Item,
                At::Value(member) => {
                    begin = i;
                    self.begin(At::InValue(member), byte);
                }
                At::Item | At::AfterItem if byte == b']' => self.at = At::AfterValue,
                At::AfterItem if byte == b',' => self.at = At::Item,
                At::AfterItem => return Err(NotAList("a comma or ] is missing between items")),
                At::Item => {
                    begin = i;
                    self.begin(At::InItem, byte);
                }
                At::End => return Err(NotAList("something follows its end")),
            }
            i += 1;
        }
        if matches!(self.at, At::InKey | At::InValue(_) | At::InItem) {
            self.partial.extend_from_slice(&bytes[begin..]);
        }
        Ok(())
    }

    fn begin(&mut self, at: At, byte: u8) {
        self.at = at;
        self.depth = usize::from(matches!(byte, b'{' | b'['));
        self.string = byte == b'"';
        self.escape = false;
    }

    fn step(&mut self, byte: u8) -> Step {
        if self.string {
            match byte {
                _ if self.escape => self.escape = false,
                b'\\' => self.escape = true,
                b'"' => self.string = false,
                _ => {}
            }
            return if self.string || self.depth > 0 { Step::Within } else { Step::Last };
        }
        match byte {
            b'"' => self.string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' if self.depth > 0 => {
                self.depth -= 1;
                if self.depth == 0 {
                    return Step::Last;
                }
            }
            b'}' | b']' | b',' if self.depth == 0 => return Step::After,
            _ if self.depth == 0 && byte.is_ascii_whitespace() => return Step::After,
            _ => {}
        }
        Step::Within
    }

    fn finish(&mut self, tail: &[u8], part: &mut impl FnMut(Part<'_>)) {
        let mut buffer = std::mem::take(&mut self.partial);
        let text = if buffer.is_empty() {
            tail
        } else {
            buffer.extend_from_slice(tail);
            &buffer
        };
        self.at = match self.at {
            At::InKey => At::Colon(match text {
                b"\"metadata\"" => Member::Metadata,
                b"\"items\"" => Member::Items,
                _ => Member::Other,
            }),
            At::InItem => {
                part(Part::Item(text));
                At::AfterItem
            }
            At::InValue(member) => {
                if member == Member::Metadata {
                    part(Part::Metadata(text));
                }
                At::AfterValue
            }
            other => other,
        };
        self.partial = recycled(buffer);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(pieces: &[&[u8]]) -> (Result<(), NotAList>, Vec<String>, bool) {
        let (mut list, mut parts) = (List::new(), Vec::new());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for piece in pieces {
            let result = list.push(piece, |part| {
                parts.push(match part {
                    Part::Metadata(bytes) => format!("m{}", text(bytes)),
                    Part::Item(bytes) => format!("i{}", text(bytes)),
                });
            });
            if result.is_err() {
                return (result, parts, false);
            }
        }
        (Ok(()), parts, list.complete())
    }

    #[test]
    fn lists_are_cut_into_items() {
        let table: [(&str, &str, &[&str]); 9] = [
            (
                "empty",
                r#"{"kind":"List","metadata":{"resourceVersion":"7"},"items":[]}"#,
                &[r#"m{"resourceVersion":"7"}"#],
            ),
            ("null items", r#"{"items":null,"metadata":{}}"#, &["m{}"]),
            ("two", r#"{"items":[{"a":1},{"b":[2,{}]}]}"#, &[r#"i{"a":1}"#, r#"i{"b":[2,{}]}"#]),
            ("space", "{ \"items\" : [ {} , {} ] } \n", &["i{}", "i{}"]),
            ("brackets in strings", r#"{"items":[{"a":"]}\"]}"}]}"#, &[r#"i{"a":"]}\"]}"}"#]),
            ("escaped backslash", r#"{"items":[{"a":"\\"},1]}"#, &[r#"i{"a":"\\"}"#, "i1"]),
            ("not objects", r#"{"items":[true,"x",-1e5,null]}"#, &["itrue", "i\"x\"", "i-1e5", "inull"]),
            ("an item that is no JSON", r#"{"items":[{"a":nonsense},{}]}"#, &[r#"i{"a":nonsense}"#, "i{}"]),
            (
                "metadata further in is not the list's",
                r#"{"x":{"metadata":{}},"items":[{"metadata":{}}]}"#,
                &[r#"i{"metadata":{}}"#],
            ),
        ];
        for (name, text, expected) in table {
            let (result, parts, complete) = cut(&[text.as_bytes()]);
            assert_eq!((result, complete), (Ok(()), true), "{name}");
            assert_eq!(parts, expected, "{name}");
            for split in 0..=text.len() {
                let (a, b) = text.as_bytes().split_at(split);
                assert_eq!(cut(&[a, b]).1, expected, "{name}, split at {split}");
            }
        }
    }

    #[test]
    fn what_is_no_list_is_noticed() {
        for (name, text) in [
            ("array", "[]"),
            ("page for people", "<html>"),
            ("no colon", r#"{"items" []}"#),
            ("no comma", r#"{"items":[{}{}]}"#),
            ("two documents", "{}{}"),
        ] {
            assert!(cut(&[text.as_bytes()]).0.is_err(), "{name}");
        }
        for (name, text) in [("cut in an item", r#"{"items":[{"#), ("cut after items", r#"{"items":[]"#)] {
            let (result, _, complete) = cut(&[text.as_bytes()]);
            assert_eq!((result, complete), (Ok(()), false), "{name}");
        }
    }

    #[test]
    fn lines_are_put_together() {
        let text = b"one\n\ntwo\nthree";
        for split in 0..=text.len() {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for piece in [&text[..split], &text[split..]] {
                let result: Result<(), ()> = lines.push(piece, |line| {
                    found.push(line.to_vec());
                    Ok(())
                });
                assert_eq!(result, Ok(()));
            }
            assert_eq!(found, [&b"one"[..], b"", b"two"], "split at {split}");
            assert!(lines.within_a_line(), "split at {split}");
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i32>().prop_map(Into::into),
            ".{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::vec((".{0,4}", inner), 0..4)
                    .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_list_split_anywhere_has_the_items_that_serde_sees(
            items in prop::collection::vec(json(), 0..6),
            pretty: bool,
            sizes in prop::collection::vec(1..40_usize, 1..8),
        ) {
            let list = serde_json::json!({"kind": "List", "metadata": {"continue": "x"}, "items": items});
            let text = if pretty { serde_json::to_string_pretty(&list) } else { serde_json::to_string(&list) }.unwrap();
            let (mut pieces, mut rest, mut sizes) = (Vec::new(), text.as_bytes(), sizes.iter().cycle());
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                pieces.push(piece);
                rest = later;
            }
            let (result, parts, complete) = cut(&pieces);
            prop_assert_eq!((result, complete), (Ok(()), true));
            let found: Vec<serde_json::Value> = parts
                .iter()
                .filter_map(|part| part.strip_prefix('i'))
                .map(|text| serde_json::from_str(text).unwrap())
                .collect();
            prop_assert_eq!(found, items);
        }

        #[test]
        fn no_bytes_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let _ = cut(&pieces);
        }
    }
}
