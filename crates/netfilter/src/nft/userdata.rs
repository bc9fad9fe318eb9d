//! User data: what the kernel stores with an object without looking at it, in the form in which nft
//! writes and reads it: one byte of type, one of length, the value (`struct nftnl_udata`). Numbers
//! are in host byte order.

/// The longest comment that is stored, bytes; what is longer is cut at a character. Quotation marks
/// are stored as apostrophes and control characters as spaces, since nft could not read its own
/// listing otherwise.
pub const COMMENT_MAX: usize = 127;
/// `NFT_USERDATA_MAXLEN`, bytes
const USERDATA_MAX: usize = 256;

/// `NFTNL_UDATA_SET_COMMENT`; comments of all other objects have type 0.
pub(super) const SET_COMMENT: u8 = 7;

/// A comment as user data of a table, chain, rule or element; on the stack.
pub(super) struct Comment {
    bytes: [u8; COMMENT_MAX + 3],
    len: usize,
}

impl Comment {
    pub(super) fn new(text: &str) -> Comment {
        Comment::with_type(0, text, COMMENT_MAX)
    }

    fn with_type(kind: u8, text: &str, max: usize) -> Comment {
        let text = cut(text, max.min(COMMENT_MAX));
        let mut bytes = [0; COMMENT_MAX + 3];
        bytes[0] = kind;
        // At most COMMENT_MAX and the NUL: fits.
        bytes[1] = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
        for (to, from) in bytes[2..].iter_mut().zip(text.bytes()) {
            *to = match from {
                b'"' => b'\'',
                control if control.is_ascii_control() => b' ',
                other => other,
            };
        }
        Comment { bytes, len: text.len() + 3 }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Appends the comment of a set to its other user data, as much of it as fits.
pub(super) fn put_set_comment(to: &mut Vec<u8>, text: &str) {
    let room = USERDATA_MAX.saturating_sub(to.len() + 3);
    if room > 0 {
        to.extend_from_slice(Comment::with_type(SET_COMMENT, text, room).as_bytes());
    }
}

/// The comment that is kept of `text`: up to [`COMMENT_MAX`] bytes, nothing after a NUL.
fn cut(text: &str, max: usize) -> &str {
    let text = text.split('\0').next().unwrap_or("");
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Appends an entry.
pub(super) fn put(to: &mut Vec<u8>, kind: u8, value: &[u8]) {
    nest(to, kind, |to| to.extend_from_slice(value));
}

/// Appends an entry that contains what `fill` appends. More than 255 bytes cannot be written; the
/// callers' fields are far from it.
pub(super) fn nest(to: &mut Vec<u8>, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    to.extend_from_slice(&[kind, 0]);
    let start = to.len();
    fill(to);
    let length = to.len() - start;
    to[start - 1] = u8::try_from(length).unwrap_or(u8::MAX);
}

/// The comment among user data whose comments have type `kind`.
pub(super) fn comment(mut bytes: &[u8], kind: u8) -> Option<String> {
    while let [entry, length, rest @ ..] = bytes {
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        if *entry == kind {
            let text = value.split(|byte| *byte == 0).next()?;
            return std::str::from_utf8(text).ok().map(str::to_owned);
        }
        bytes = rest;
    }
    None
}
