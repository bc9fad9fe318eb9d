//! Inflating (RFC 1951) what comes in pieces that end at a byte: the headers of SPDY, which share
//! one stream and begin with a dictionary.

/// How far back a copy can reach.
const WINDOW: usize = 1 << 15;

/// Inflates one piece after another.
#[derive(Debug)]
pub(super) struct Inflater {
    window: Vec<u8>,
}

/// Not what a compressor writes, or more than is allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

struct Bits<'a> {
    bytes: &'a [u8],
    held: u32,
    count: u32,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Result<u32, Broken> {
        while self.count < count {
            let (first, rest) = self.bytes.split_first().ok_or(Broken)?;
            self.held |= u32::from(*first) << self.count;
            self.count += 8;
            self.bytes = rest;
        }
        let value = self.held & ((1 << count) - 1);
        self.held >>= count;
        self.count -= count;
        Ok(value)
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.count < 3
    }
}

/// A prefix code, by the number of codes of each length and the symbols in order.
struct Code {
    counts: [u16; 16],
    symbols: Vec<u16>,
}

impl Code {
    fn new(lengths: &[u8]) -> Self {
        let mut counts = [0; 16];
        for length in lengths {
            counts[usize::from(*length)] += 1;
        }
        counts[0] = 0;
        let mut symbols: Vec<u16> =
            (0..).take(lengths.len()).filter(|at| lengths[usize::from(*at)] != 0).collect();
        symbols.sort_by_key(|at| lengths[usize::from(*at)]);
        Self { counts, symbols }
    }

    fn read(&self, bits: &mut Bits) -> Result<u16, Broken> {
        let (mut code, mut first, mut index) = (0_u32, 0_u32, 0_u32);
        for count in &self.counts[1..] {
            let count = u32::from(*count);
            code |= bits.take(1)?;
            if code < first + count {
                let at = usize::try_from(index + code - first).map_err(|_| Broken)?;
                return self.symbols.get(at).copied().ok_or(Broken);
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        Err(Broken)
    }
}

const LENGTH_BASE: [u16; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
    227, 258,
];
const LENGTH_BITS: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_BASE: [u16; 30] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073,
    4097, 6145, 8193, 12289, 16385, 24577,
];
const DISTANCE_BITS: [u8; 30] =
    [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];

impl Inflater {
    /// Begins with a dictionary, after the head of the stream (RFC 1950).
    pub(super) fn new(dictionary: &[u8]) -> Self {
        Self { window: dictionary.to_vec() }
    }

    /// Inflates a piece to `limit` bytes at most.
    pub(super) fn inflate(&mut self, piece: &[u8], limit: usize) -> Result<Vec<u8>, Broken> {
        let start = self.window.len();
        let mut bits = Bits { bytes: piece, held: 0, count: 0 };
        while !bits.is_empty() {
            let _last = bits.take(1)?;
            match bits.take(2)? {
                0 => self.stored(&mut bits, start + limit)?,
                1 => {
                    let mut lengths = [8_u8; 288];
                    lengths[144..256].fill(9);
                    lengths[256..280].fill(7);
                    self.coded(&mut bits, &Code::new(&lengths), &Code::new(&[5; 30]), start + limit)?;
                }
                2 => {
                    let (literals, distances) = codes(&mut bits)?;
                    self.coded(&mut bits, &literals, &distances, start + limit)?;
                }
                _ => return Err(Broken),
            }
        }
        let out = self.window[start..].to_vec();
        let excess = self.window.len().saturating_sub(WINDOW);
        self.window.drain(..excess);
        Ok(out)
    }

    fn stored(&mut self, bits: &mut Bits, most: usize) -> Result<(), Broken> {
        bits.take(bits.count % 8)?;
        let (length, check) = (bits.take(16)?, bits.take(16)?);
        if length != !check & 0xffff {
            return Err(Broken);
        }
        for _ in 0..length {
            let byte = bits.take(8)?;
            self.push(u8::try_from(byte).map_err(|_| Broken)?, most)?;
        }
        Ok(())
    }

    fn push(&mut self, byte: u8, most: usize) -> Result<(), Broken> {
        if self.window.len() >= most {
            return Err(Broken);
        }
        self.window.push(byte);
        Ok(())
    }

    fn coded(
        &mut self,
        bits: &mut Bits,
        literals: &Code,
        distances: &Code,
        most: usize,
    ) -> Result<(), Broken> {
        loop {
            let symbol = literals.read(bits)?;
            if let Ok(literal) = u8::try_from(symbol) {
                self.push(literal, most)?;
                continue;
            }
            if symbol == 256 {
                return Ok(());
            }
            let length = extended(bits, symbol - 257, &LENGTH_BASE, &LENGTH_BITS)?;
            let symbol = distances.read(bits)?;
            let distance = extended(bits, symbol, &DISTANCE_BASE, &DISTANCE_BITS)?;
            let from = self.window.len().checked_sub(distance).ok_or(Broken)?;
            for at in from..from + length {
                self.push(self.window[at], most)?;
            }
        }
    }
}

fn extended(bits: &mut Bits, symbol: u16, bases: &[u16], extra: &[u8]) -> Result<usize, Broken> {
    let at = usize::from(symbol);
    let (base, extra) = (*bases.get(at).ok_or(Broken)?, *extra.get(at).ok_or(Broken)?);
    let more = usize::try_from(bits.take(u32::from(extra))?).map_err(|_| Broken)?;
    Ok(usize::from(base) + more)
}

/// The codes that a block brings with it.
fn codes(bits: &mut Bits) -> Result<(Code, Code), Broken> {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let take = |bits: &mut Bits, count| {
        bits.take(count).and_then(|value| usize::try_from(value).map_err(|_| Broken))
    };
    let (literals, distances, count) = (take(bits, 5)? + 257, take(bits, 5)? + 1, take(bits, 4)? + 4);
    let mut lengths = [0_u8; 19];
    for at in &ORDER[..count] {
        lengths[*at] = u8::try_from(bits.take(3)?).map_err(|_| Broken)?;
    }
    let code = Code::new(&lengths);
    let mut all: Vec<u8> = Vec::with_capacity(literals + distances);
    while all.len() < literals + distances {
        let (value, times) = match code.read(bits)? {
            16 => (*all.last().ok_or(Broken)?, 3 + take(bits, 2)?),
            17 => (0, 3 + take(bits, 3)?),
            18 => (0, 11 + take(bits, 7)?),
            length => (u8::try_from(length).map_err(|_| Broken)?, 1),
        };
        all.extend(std::iter::repeat_n(value, times));
    }
    if all.len() > literals + distances {
        return Err(Broken);
    }
    Ok((Code::new(&all[..literals]), Code::new(&all[literals..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
    }

    /// Pieces as zlib writes them, each with `Z_SYNC_FLUSH`.
    #[test]
    fn inflates_pieces() {
        let mut inflater = Inflater::new(b"");
        for (piece, text) in [
            ("ca48cdc9c957c8402201000000ffff", "hello hello hello "),
            ("829089e9899979982200000000ffff", "hello again hello hello again"),
        ] {
            assert_eq!(inflater.inflate(&bytes(piece), 100).as_deref(), Ok(text.as_bytes()), "{piece}");
        }
        // A block with codes of its own.
        let piece = "4a4a2d4954a8c00212730a321215d2137373131520ec94d49c1254d2b5a03833273f4fd702ca4f021986ac1853236eab60\
                     8619c24c83d80d13363284184f9c5b9149b809967834a37ac8d81862199aa819d4446cc680d503000000ffff";
        let text = Inflater::new(b"").inflate(&bytes(piece), 1000).expect("zlib wrote it");
        assert!(text.starts_with(b"beta xxxxxxxxxxxxxxxxxxxxalpha gamma alpha delta"), "{text:?}");
        assert_eq!(text.len(), 334);
        let stored = [&[0, 5, 0, 0xfa, 0xff][..], b"again"].concat();
        assert_eq!(inflater.inflate(&stored, 100).as_deref(), Ok(&b"again"[..]));
    }

    #[test]
    fn refuses_what_is_broken_or_too_long() {
        for piece in ["06", "ca", "07", "0005000000", "fffffffffffffffffffffffffffffffffffffffffff0"] {
            assert_eq!(Inflater::new(b"").inflate(&bytes(piece), 1000), Err(Broken), "{piece}");
        }
        assert_eq!(Inflater::new(b"").inflate(&bytes("ca48cdc9c957c8402201000000ffff"), 10), Err(Broken));
    }
}
