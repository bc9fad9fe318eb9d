//! Header fields of HTTP/2 (RFC 7541), as far as a probe needs them: it sends literals, and looks
//! for two names in what it gets. It allows servers no dynamic table.

/// Codes of printable characters by their length in bits, in the order of their codes, which is all
/// there is to know of them (Appendix B). What has longer codes is in no header of gRPC.
const CODES: [(u32, &[u8]); 9] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
    (14, b"^}"),
];

/// A literal that is in no table, with its name (§6.2.2). Up to 126 bytes each.
pub(super) fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        block.push(u8::try_from(text.len()).unwrap_or(0x7f).min(0x7e));
        block.extend(text.bytes().take(0x7e));
    }
}

/// The values of the fields called `names`, as far as `block` can be read.
pub(super) fn find<const N: usize>(mut block: &[u8], names: [&str; N]) -> [Option<String>; N] {
    let mut found = [const { None }; N];
    while let Some(field) = field(&mut block) {
        if let Field::Literal(name, value) = field
            && let Some(index) = names.iter().position(|wanted| *wanted == name)
        {
            found[index] = Some(value);
        }
    }
    found
}

enum Field {
    Literal(String, String),
    /// Its name is in a table, and none of those that a probe looks for.
    Other,
}

fn field(block: &mut &[u8]) -> Option<Field> {
    let first = *block.first()?;
    // An indexed field, a literal to be indexed, the size of the table, other literals (§6).
    let (bits, is_literal) = match first {
        0x80.. => (7, false),
        0x40.. => (6, true),
        0x20.. => (5, false),
        _ => (4, true),
    };
    let index = integer(block, bits)?;
    if !is_literal {
        return Some(Field::Other);
    }
    let name = if index == 0 { Some(text(block)?) } else { None };
    let value = text(block)?;
    Some(name.map_or(Field::Other, |name| Field::Literal(name, value)))
}

/// §5.1
fn integer(block: &mut &[u8], bits: u32) -> Option<usize> {
    let most = (1_usize << bits) - 1;
    let mut number = usize::from(take(block)?) & most;
    if number < most {
        return Some(number);
    }
    // What needs more than three bytes is longer than any frame that is read.
    for shift in [0, 7, 14] {
        let byte = usize::from(take(block)?);
        number += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// §5.2
fn text(block: &mut &[u8]) -> Option<String> {
    let is_coded = block.first()? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (bytes, rest) = block.split_at_checked(length)?;
    *block = rest;
    Some(if is_coded { decode(bytes) } else { String::from_utf8_lossy(bytes).into_owned() })
}

fn take(block: &mut &[u8]) -> Option<u8> {
    let (first, rest) = block.split_first()?;
    *block = rest;
    Some(*first)
}

/// Decodes as far as the codes are known.
fn decode(bytes: &[u8]) -> String {
    let mut text = String::new();
    let (mut code, mut length) = (0_u32, 0_u32);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1)) {
        (code, length) = (code << 1 | u32::from(bit), length + 1);
        if length > 14 {
            break;
        }
        if let Some(character) = character(code, length) {
            text.push(character);
            (code, length) = (0, 0);
        }
    }
    text
}

/// Codes of one length follow one another, and continue those that are shorter.
fn character(code: u32, length: u32) -> Option<char> {
    let (mut first, mut before) = (0, 0);
    for (bits, characters) in CODES {
        first <<= bits - before;
        if bits == length {
            let index = usize::try_from(code.checked_sub(first)?).ok()?;
            return characters.get(index).map(|byte| char::from(*byte));
        }
        first += u32::try_from(characters.len()).unwrap_or(u32::MAX);
        before = bits;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let hex: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pairs = hex.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    #[test]
    fn coded_texts_are_read() {
        // RFC 7541, Appendix C.4 and C.6.
        for (coded, expected) in [
            ("f1e3 c2e5 f23a 6ba0 ab90 f4ff", "www.example.com"),
            ("a8eb 1064 9cbf", "no-cache"),
            ("25a8 49e9 5bb8 e8b4 bf", "custom-value"),
            ("6402", "302"),
            ("aec3 771a 4b", "private"),
            ("d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3", "https://www.example.com"),
        ] {
            assert_eq!(decode(&bytes(coded)), expected);
        }
    }

    #[test]
    fn fields_are_found_whatever_form_they_have() {
        let mut block = bytes("20 88 5f 8b 1d75d0620d263d4c4d6564");
        literal(&mut block, "grpc-message", "no such thing");
        // Coded, and to be indexed.
        block.extend(bytes("40 88 9acac8b21234da8f 01 35"));
        let found = find(&block, ["grpc-status", "grpc-message"]);
        assert_eq!(found, [Some("5".to_owned()), Some("no such thing".to_owned())]);
    }

    #[test]
    fn anything_can_come() {
        for length in 0..64_u8 {
            for seed in 0..=255_u8 {
                let block: Vec<u8> =
                    (0..length).map(|i| i.wrapping_mul(seed).wrapping_add(seed ^ 0xa5)).collect();
                let _ = find(&block, ["grpc-status"]);
            }
        }
        assert_eq!(integer(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0x01][..], 7), None);
    }
}
