//! Domain names as messages have them.

use std::fmt;

use super::records::Malformed;

/// The longest name, octets, with the root's empty label (RFC 1035 §2.3.4).
pub const NAME_MAX: usize = 255;
/// The longest label, octets.
pub const LABEL_MAX: usize = 63;
/// As many labels as a name can have.
const LABELS_MAX: usize = 127;

/// A domain name, uncompressed: each label after its length, then the root's 0. It lives on the
/// stack. Comparison with `==` takes case into account.
#[derive(Clone)]
pub struct Name {
    octets: [u8; NAME_MAX + 1],
    length: u8,
    starts: [u8; LABELS_MAX + 1],
    labels: u8,
}

impl Name {
    /// The root.
    pub fn root() -> Name {
        Name { octets: [0; NAME_MAX + 1], length: 1, starts: [0; LABELS_MAX + 1], labels: 0 }
    }

    /// The name that `text` spells: labels with dots between them, and perhaps one at the end.
    /// `None` if a label is empty or anything is too long.
    pub fn parse(text: &str) -> Option<Name> {
        let mut name = Name::root();
        name.push_text(text.strip_suffix('.').unwrap_or(text)).then_some(name)
    }

    /// Reads the name at `at` of `message`, and returns it with the place after it. Pointers lead
    /// strictly backwards (RFC 1035 §4.1.4).
    pub fn read(message: &[u8], at: usize) -> Result<(Name, usize), Malformed> {
        let mut name = Name::root();
        let (mut place, mut end, mut before) = (at, None, at);
        loop {
            let length = *message.get(place).ok_or(Malformed)?;
            match length {
                0 => break,
                1..=63 => {
                    let stop = place + 1 + usize::from(length);
                    let label = message.get(place + 1..stop).ok_or(Malformed)?;
                    if !name.push(label) {
                        return Err(Malformed);
                    }
                    place = stop;
                }
                0xc0.. => {
                    let low = *message.get(place + 1).ok_or(Malformed)?;
                    let target = usize::from(length & 0x3f) << 8 | usize::from(low);
                    end = end.or(Some(place + 2));
                    if target >= before {
                        return Err(Malformed);
                    }
                    (place, before) = (target, target);
                }
                _ => return Err(Malformed),
            }
        }
        Ok((name, end.unwrap_or(place + 1)))
    }

    /// Appends a label. Returns false, and leaves the name as it was, if the label is empty or
    /// anything would be too long.
    pub fn push(&mut self, label: &[u8]) -> bool {
        let end = usize::from(self.length) - 1;
        let after = end + 1 + label.len();
        if label.is_empty() || label.len() > LABEL_MAX || after >= NAME_MAX {
            return false;
        }
        let (Ok(start), Ok(length), Ok(size)) =
            (u8::try_from(end), u8::try_from(after + 1), u8::try_from(label.len()))
        else {
            return false;
        };
        self.octets[end] = size;
        self.octets[end + 1..after].copy_from_slice(label);
        self.octets[after] = 0;
        self.starts[usize::from(self.labels)] = start;
        self.labels += 1;
        self.length = length;
        true
    }

    /// Appends labels with dots between them; false if one of them cannot be.
    pub fn push_text(&mut self, text: &str) -> bool {
        text.split('.').all(|label| self.push(label.as_bytes()))
    }

    /// Appends labels in the form that messages have; what ends them may be missing.
    pub fn push_wire(&mut self, mut wire: &[u8]) -> bool {
        while let Some((&length, rest)) = wire.split_first() {
            if length == 0 {
                break;
            }
            let Some((label, after)) = rest.split_at_checked(usize::from(length)) else { return false };
            if !self.push(label) {
                return false;
            }
            wire = after;
        }
        true
    }

    /// How many labels it has, the root's not counted.
    pub fn labels(&self) -> usize {
        usize::from(self.labels)
    }

    /// Label `at`, the leftmost is 0. Empty if there is none.
    pub fn label(&self, at: usize) -> &[u8] {
        if at >= self.labels() {
            return &[];
        }
        let start = usize::from(self.starts[at]);
        &self.octets[start + 1..=start + usize::from(self.octets[start])]
    }

    /// Where label `at` begins, counted from the name's first octet. Of a label that is not there:
    /// where the root's is.
    pub fn start(&self, at: usize) -> usize {
        if at >= self.labels() { usize::from(self.length) - 1 } else { usize::from(self.starts[at]) }
    }

    /// The octets from label `at` to the root.
    pub fn suffix(&self, at: usize) -> &[u8] {
        &self.octets[self.start(at)..usize::from(self.length)]
    }

    /// The octets of the labels from `from` to the one before `to`.
    pub fn between(&self, from: usize, to: usize) -> &[u8] {
        &self.octets[self.start(from)..self.start(to)]
    }

    /// All octets.
    pub fn as_wire(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }

    /// Spells it in lower case.
    pub fn make_lowercase(&mut self) {
        // Lengths are below 64, and so no letters.
        self.octets[..usize::from(self.length)].make_ascii_lowercase();
    }

    /// Whether it is `other` or below it. Both are in lower case.
    pub fn is_within(&self, other: &Name) -> bool {
        self.labels() >= other.labels() && self.suffix(self.labels() - other.labels()) == other.as_wire()
    }

    /// Whether it is `other`, if case is ignored.
    pub fn is_same(&self, other: &Name) -> bool {
        self.as_wire().eq_ignore_ascii_case(other.as_wire())
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.as_wire() == other.as_wire()
    }
}

impl Eq for Name {}

impl fmt::Display for Name {
    /// With a dot at the end, as in a zone file (RFC 1035 §5.1).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.labels == 0 {
            return f.write_str(".");
        }
        for at in 0..self.labels() {
            for &octet in self.label(at) {
                match octet {
                    b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => {
                        write!(f, "\\{}", char::from(octet))?;
                    }
                    b'!'..=b'~' => write!(f, "{}", char::from(octet))?,
                    _ => write!(f, "\\{octet:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_text() {
        for (name, text, expected) in [
            ("two labels", "web.shop", Some("web.shop.")),
            ("a dot at the end", "web.shop.", Some("web.shop.")),
            ("an empty label", "web..shop", None),
            ("nothing", "", None),
            ("a dot at the front", ".web", None),
        ] {
            assert_eq!(Name::parse(text).map(|name| name.to_string()).as_deref(), expected, "{name}");
        }
        let long = "a".repeat(63);
        assert!(Name::parse(&long).is_some());
        assert!(Name::parse(&format!("{long}a")).is_none(), "a label of 64");
        let most = format!("{long}.{long}.{long}.{}", "a".repeat(61));
        assert_eq!(Name::parse(&most).unwrap().as_wire().len(), NAME_MAX);
        assert!(Name::parse(&format!("{most}a")).is_none(), "a name of 256");
    }

    #[test]
    fn names_from_messages() {
        // 0: com. 5: a.com. 9: points to itself. 11: forwards. 13: reserved bits. 14: cut off.
        let message = b"\x03com\x00\x01a\xc0\x00\xc0\x09\xc0\x0d\x40\x05";
        let read = |at| Name::read(message, at).map(|(name, next)| (name.to_string(), next));
        assert_eq!(read(0), Ok(("com.".to_owned(), 5)));
        assert_eq!(read(5), Ok(("a.com.".to_owned(), 9)));
        for (name, at) in
            [("to itself", 9), ("forwards", 11), ("reserved bits", 13), ("cut off", 14), ("outside", 99)]
        {
            assert_eq!(read(at), Err(Malformed), "{name}");
        }
    }

    #[test]
    fn parts_of_names() {
        let name = Name::parse("a.bc.d").unwrap();
        assert_eq!((name.labels(), name.label(1), name.label(3)), (3, &b"bc"[..], &b""[..]));
        assert_eq!((name.suffix(1), name.suffix(3)), (&b"\x02bc\x01d\x00"[..], &b"\x00"[..]));
        assert_eq!(name.between(0, 2), b"\x01a\x02bc");
        assert!(name.is_within(&Name::parse("bc.d").unwrap()) && name.is_within(&Name::root()));
        assert!(!name.is_within(&Name::parse("c.d").unwrap()));
    }
}
