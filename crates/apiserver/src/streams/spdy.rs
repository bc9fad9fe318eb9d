//! Frames of SPDY/3.1, as far as port forwarding uses them: streams, data, pings.

use super::inflate::Inflater;

/// Larger frames end the connection, in bytes.
const FRAME_LIMIT: usize = 1 << 20;

/// Larger headers of a stream end the connection, in bytes when inflated.
const HEADERS_LIMIT: usize = 1 << 16;

/// What ends a stream or a direction of one.
const FIN: u8 = 1;

/// A frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A stream begins.
    Open {
        id: u32,
        headers: Vec<(String, String)>,
        last: bool,
    },
    Data {
        id: u32,
        bytes: Vec<u8>,
        last: bool,
    },
    Reset {
        id: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
}

/// What is not SPDY, or too much of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl From<super::inflate::Broken> for Broken {
    fn from(_: super::inflate::Broken) -> Self {
        Self
    }
}

/// Reads frames out of pieces of a stream of bytes.
pub(super) struct Parser {
    unread: Vec<u8>,
    inflater: Inflater,
    /// Whether the head of the compressed stream has been read.
    begun: bool,
}

impl Parser {
    pub(super) fn new() -> Self {
        Self { unread: Vec::new(), inflater: Inflater::new(&dictionary()), begun: false }
    }

    pub(super) fn push(&mut self, piece: &[u8]) {
        self.unread.extend_from_slice(piece);
    }

    /// The next frame, if all of it has come.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, Broken> {
        loop {
            let Some(&[a, b, c, d, flags, ref length @ ..]) = self.unread.first_chunk::<8>() else {
                return Ok(None);
            };
            let length = length.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
            if length > FRAME_LIMIT {
                return Err(Broken);
            }
            if self.unread.len() < 8 + length {
                return Ok(None);
            }
            let frame: Vec<u8> = self.unread.drain(..8 + length).skip(8).collect();
            let last = flags & FIN != 0;
            if a & 0x80 == 0 {
                return Ok(Some(Frame::Data { id: u32::from_be_bytes([a, b, c, d]), bytes: frame, last }));
            }
            if (a & 0x7f, b) != (0, 3) {
                return Err(Broken);
            }
            if let Some(frame) = self.control(u16::from_be_bytes([c, d]), &frame, last)? {
                return Ok(Some(frame));
            }
        }
    }

    fn control(&mut self, kind: u16, frame: &[u8], last: bool) -> Result<Option<Frame>, Broken> {
        let id = || frame.first_chunk::<4>().map(|id| u32::from_be_bytes(*id) & 0x7fff_ffff).ok_or(Broken);
        Ok(match kind {
            1 => {
                let headers = self.headers(frame.get(10..).ok_or(Broken)?)?;
                Some(Frame::Open { id: id()?, headers, last })
            }
            3 => Some(Frame::Reset { id: id()? }),
            6 => {
                Some(Frame::Ping { id: frame.first_chunk().map(|id| u32::from_be_bytes(*id)).ok_or(Broken)? })
            }
            7 => Some(Frame::GoAway),
            // Answers and further headers share the compressed stream.
            2 | 8 => {
                self.headers(frame.get(4..).ok_or(Broken)?)?;
                None
            }
            _ => None,
        })
    }

    fn headers(&mut self, mut compressed: &[u8]) -> Result<Vec<(String, String)>, Broken> {
        if !self.begun {
            // RFC 1950: method, flags, and the checksum of the dictionary if there is one.
            let (head, rest) = compressed.split_first_chunk::<2>().ok_or(Broken)?;
            compressed = if head[1] & 0x20 == 0 { rest } else { rest.get(4..).ok_or(Broken)? };
            self.begun = true;
        }
        let block = self.inflater.inflate(compressed, HEADERS_LIMIT)?;
        let mut rest = &block[..];
        let number = |rest: &mut &[u8]| {
            let (number, after) = rest.split_first_chunk::<4>().ok_or(Broken)?;
            *rest = after;
            usize::try_from(u32::from_be_bytes(*number)).map_err(|_| Broken)
        };
        let count = number(&mut rest)?;
        let text = |rest: &mut &[u8]| {
            let length = number(rest)?;
            let (text, after) = rest.split_at_checked(length).ok_or(Broken)?;
            *rest = after;
            Ok::<_, Broken>(String::from_utf8_lossy(text).into_owned())
        };
        let mut headers = Vec::new();
        for _ in 0..count {
            let name = text(&mut rest)?;
            headers.push((name.to_lowercase(), text(&mut rest)?));
        }
        Ok(headers)
    }
}

/// What compressors and decompressors of headers begin with: words, each after its length, then a
/// text without any (SPDY/3, section 2.6.10.1).
fn dictionary() -> Vec<u8> {
    let words = include_str!("spdy_words.txt").trim_end_matches('\n').split('\n');
    let mut out = Vec::with_capacity(1_423);
    for word in words {
        if let Some(text) = word.strip_prefix('\t') {
            out.extend_from_slice(text.as_bytes());
        } else {
            out.extend_from_slice(&u32::try_from(word.len()).unwrap_or_default().to_be_bytes());
            out.extend_from_slice(word.as_bytes());
        }
    }
    out
}

/// Writes frames.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    begun: bool,
}

impl Encoder {
    /// Accepts a stream, without headers. Compression is for others: the block is stored.
    pub(super) fn reply(&mut self, id: u32) -> Vec<u8> {
        let mut payload = id.to_be_bytes().to_vec();
        if !self.begun {
            payload.extend_from_slice(&[0x78, 0x01]);
            self.begun = true;
        }
        payload.extend_from_slice(&[0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0]);
        // An empty block, as a flush writes it: without it, a reader in Go waits for the next
        // block, and takes the end of the frame for the end of the stream.
        payload.extend_from_slice(&[0, 0, 0, 0xff, 0xff]);
        control(2, 0, &payload)
    }
}

fn control(kind: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80, 3];
    out.extend_from_slice(&kind.to_be_bytes());
    finish(out, flags, payload)
}

fn finish(mut out: Vec<u8>, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    out.push(flags);
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(payload);
    out
}

/// Bytes of a stream.
pub(super) fn data(id: u32, bytes: &[u8], last: bool) -> Vec<u8> {
    finish(id.to_be_bytes().to_vec(), if last { FIN } else { 0 }, bytes)
}

/// The answer to a ping.
pub(super) fn ping(id: u32) -> Vec<u8> {
    control(6, 0, &id.to_be_bytes())
}

/// Refuses a stream.
pub(super) fn reset(id: u32) -> Vec<u8> {
    control(3, 0, &[id.to_be_bytes(), 3_u32.to_be_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
    }

    fn open(id: u32, compressed: &str) -> Vec<u8> {
        let head = [&id.to_be_bytes()[..], &[0; 6], &bytes(compressed)].concat();
        control(1, 0, &head)
    }

    /// Two streams as kubectl opens them, their headers compressed by zlib with the dictionary.
    #[test]
    fn reads_streams() {
        assert_eq!(dictionary().len(), 1_423);
        let first = open(
            1,
            "78f9e3c6a7c202253a703a2b294a4dcc851625aca9a0808614cb45a024cc64610024398b209198094adc8c0600000000ffff",
        );
        let second = open(3, "c2aa15540a2512d209000000ffff");
        let all = [first, second, data(3, b"GET", true), ping(5), control(4, 0, &[0; 4]), reset(3)].concat();
        let mut parser = Parser::new();
        let mut frames = Vec::new();
        // However it is cut into pieces.
        for piece in all.chunks(7) {
            parser.push(piece);
            while let Some(frame) = parser.next().expect("frames") {
                frames.push(frame);
            }
        }
        let headers = |kind: &str| {
            [("streamtype", kind), ("port", "80"), ("requestid", "0")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec()
        };
        assert_eq!(
            frames,
            [
                Frame::Open { id: 1, headers: headers("error"), last: false },
                Frame::Open { id: 3, headers: headers("data"), last: false },
                Frame::Data { id: 3, bytes: b"GET".to_vec(), last: true },
                Frame::Ping { id: 5 },
                Frame::Reset { id: 3 },
            ]
        );
    }

    #[test]
    fn refuses_what_is_broken() {
        for broken in [
            bytes("8002000100000000"),
            bytes("80030001000000ff00"),
            bytes("0000000100ffffff"),
            open(1, "78"),
            open(1, "78010005"),
            open(1, "7801000400fbffffffffff"),
            control(3, 0, b"a"),
        ] {
            let mut parser = Parser::new();
            parser.push(&broken);
            assert_ne!(parser.next().map(|frame| frame.is_some()), Ok(true), "{broken:?}");
        }
    }

    #[test]
    fn accepts_streams() {
        let mut encoder = Encoder::default();
        let reply = "8003000200000014000000017801000400fbff00000000000000ffff";
        assert_eq!(encoder.reply(1), bytes(reply));
        assert_eq!(encoder.reply(3).len(), 8 + 4 + 14, "the head comes once");
    }
}
