//! What is not known of a packet or its node, and what was assumed of it. On one way, all that ask
//! the same get the same answer, whatever words they use.

use std::collections::HashMap;
use std::rc::Rc;

use crate::ruleset::{Mark, Ranges};

/// Something that is not known. Rules that ask for the same fact ask for the same thing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Fact {
    /// The interface the packet came in through.
    InInterface,
    /// The interface through which packets to this destination leave.
    OutInterface(u128),
    /// The node's own address that a packet was redirected to.
    OwnAddress,
    /// The mark of the connection before any rule changed it.
    ConnectionMark,
    /// What this rule did to a mark.
    MarkBy(Part),
    /// Connection tracking status.
    Status,
    /// Flags of the TCP header.
    TcpFlags,
    /// For how many seconds the client has not been seen in a list (`recent`). The highest number
    /// if it never was.
    Seen(Box<str>),
    /// Whether something holds that is not evaluated, as written, for these addresses and ports.
    Holds { text: Box<str>, of: Ends },
    /// Whether a test or target of this rule decides as its text says. It may decide anew each
    /// time.
    Rule(Part),
    /// Whether a set has an element for this key, of which something is not known.
    InSet { table: u32, set: u32, key: Box<[KeyPart]> },
    /// Whether an entry that packets made is still there.
    Entry { table: u32, set: u32, key: Box<[u128]> },
}

/// Facts of every packet, by the numbers that they have: see [`number`].
const COMMON: [Fact; 5] =
    [Fact::InInterface, Fact::OwnAddress, Fact::ConnectionMark, Fact::Status, Fact::TcpFlags];

/// All facts that are the same for every packet, with their numbers.
pub(super) fn common() -> HashMap<Fact, u32> {
    COMMON.into_iter().zip(0..).collect()
}

/// The number of one of the facts that every packet has.
pub(super) fn number(fact: &Fact) -> u32 {
    (0..).zip(&COMMON).find(|(_, common)| *common == fact).map_or(u32::MAX, |(number, _)| number)
}

/// A part of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Part {
    pub(super) table: u32,
    pub(super) chain: u32,
    pub(super) rule: u32,
    pub(super) number: u32,
}

/// Source and destination of a packet where it is, addresses and ports. The address of the
/// destination is missing if it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    pub(super) source: (u128, u16),
    pub(super) destination: (Option<u128>, u16),
}

impl Ends {
    /// The part of them that `text` can ask for: many matches plainly do not look where a packet
    /// goes.
    pub(super) fn asked_by(self, text: &str) -> Ends {
        const OF_SOURCE: [&str; 5] = ["-m time ", "-m owner ", "-m mac ", "-m geoip --source", "ip saddr "];
        let of_source = OF_SOURCE.iter().any(|beginning| text.starts_with(beginning))
            || text.contains("--match-set") && !text.contains("dst");
        if of_source { Ends { destination: (None, 0), ..self } } else { self }
    }
}

/// A value in the key of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum KeyPart {
    Known(u128),
    Unknown(Unknown),
}

/// A value of which some bits are those of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Unknown {
    /// Number of the fact.
    pub(super) fact: u32,
    /// Which bits.
    pub(super) bits: u128,
    /// What these bits are combined with by exclusive or, and all others.
    pub(super) with: u128,
}

/// Values that agree in some bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Cube {
    mask: u128,
    value: u128,
}

/// From how many cubes on nothing more is concluded of a fact.
const MOST_CUBES: usize = 4096;

/// Any value at all.
const ANYTHING: [Cube; 1] = [Cube { mask: 0, value: 0 }];

/// That a fact of two values holds.
pub(super) const HOLDS: Cube = Cube { mask: 1, value: 1 };

impl Cube {
    fn meets(self, other: Cube) -> bool {
        (self.value ^ other.value) & self.mask & other.mask == 0
    }

    fn and(self, other: Cube) -> Option<Cube> {
        let both = Cube { mask: self.mask | other.mask, value: self.value | other.value };
        self.meets(other).then_some(both)
    }

    /// Adds what of `self` is outside of `other`.
    fn without(self, other: Cube, left: &mut Vec<Cube>) {
        if !self.meets(other) {
            left.push(self);
            return;
        }
        let mut common = self;
        let mut bits = other.mask & !self.mask;
        while bits != 0 {
            let bit = 1 << bits.ilog2();
            let mask = common.mask | bit;
            left.push(Cube { mask, value: common.value | (!other.value & bit) });
            common = Cube { mask, value: common.value | (other.value & bit) };
            bits &= !bit;
        }
    }

    /// All numbers from `low` to `high`.
    fn of_range(mut low: u128, high: u128, cubes: &mut Vec<Cube>) {
        loop {
            // The largest block that begins at `low` and does not go beyond `high`.
            let mut size = if low == 0 { 128 } else { low.trailing_zeros() };
            while block(size) > high - low {
                size -= 1;
            }
            cubes.push(Cube { mask: !block(size), value: low });
            let last = low | block(size);
            if last >= high {
                return;
            }
            low = last + 1;
        }
    }
}

/// A number of `bits` ones.
fn block(bits: u32) -> u128 {
    if bits == 0 { 0 } else { u128::MAX >> (128 - bits) }
}

/// The values of the fact behind `unknown` that put its value into `ranges`. `None` if there is too
/// much to reason about.
pub(super) fn asked(unknown: Unknown, ranges: &Ranges) -> Option<Box<[Cube]>> {
    let ranges = match ranges {
        Ranges::One(low, high) => &[(*low, *high)][..],
        Ranges::Many(ranges) => ranges,
    };
    let mut cubes = Vec::new();
    for (low, high) in ranges.iter().filter(|(low, high)| low <= high) {
        Cube::of_range(*low, *high, &mut cubes);
        if cubes.len() > MOST_CUBES {
            return None;
        }
    }
    let of_fact = cubes.into_iter().filter_map(|Cube { mask, value }| {
        let differs = (value ^ unknown.with) & mask;
        (differs & !unknown.bits == 0)
            .then_some(Cube { mask: mask & unknown.bits, value: differs & unknown.bits })
    });
    Some(of_fact.collect())
}

/// What is assumed on one way.
#[derive(Debug, Clone, Default)]
pub(super) struct Knowledge(Vec<(u32, Rc<[Cube]>)>);

impl Knowledge {
    /// Whether `fact` is among `asked`; `None` if it may be or not.
    pub(super) fn decides(&self, fact: u32, asked: &[Cube]) -> Option<bool> {
        let possible = self.of(fact);
        if !possible.iter().any(|one| asked.iter().any(|other| one.meets(*other))) {
            return Some(false);
        }
        less(possible, asked).is_some_and(|left| left.is_empty()).then_some(true)
    }

    /// From here on `fact` is among `asked`, or is not.
    pub(super) fn assume(&mut self, fact: u32, asked: &[Cube], among: bool) {
        let possible = self.of(fact);
        let left = if among {
            let both = possible.iter().flat_map(|one| asked.iter().filter_map(|other| one.and(*other)));
            let both: Vec<Cube> = both.take(MOST_CUBES + 1).collect();
            (both.len() <= MOST_CUBES).then_some(both)
        } else {
            less(possible, asked)
        };
        // Too much to keep in mind: more is held possible than is.
        let Some(left) = left else { return };
        match self.0.iter_mut().find(|(known, _)| *known == fact) {
            Some((_, known)) => *known = left.into(),
            None => self.0.push((fact, left.into())),
        }
    }

    fn of(&self, fact: u32) -> &[Cube] {
        self.0.iter().find(|(known, _)| *known == fact).map_or(&ANYTHING[..], |(_, possible)| possible)
    }
}

/// What of `possible` is not among `asked`; `None` if that is too much to reason about.
fn less(possible: &[Cube], asked: &[Cube]) -> Option<Vec<Cube>> {
    let mut left = possible.to_vec();
    for cube in asked {
        let mut next = Vec::with_capacity(left.len());
        for one in left {
            one.without(*cube, &mut next);
        }
        left = next;
        if left.len() > MOST_CUBES {
            return None;
        }
    }
    Some(left)
}

/// A mark of which some bits may be those of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Bits {
    /// Number of the fact; means nothing where no bit is unknown.
    fact: u32,
    unknown: u32,
    with: u32,
}

impl Bits {
    pub(super) fn known(value: u32) -> Bits {
        Bits { fact: 0, unknown: 0, with: value }
    }

    /// All of `fact`.
    pub(super) fn of(fact: u32) -> Bits {
        Bits { fact, unknown: u32::MAX, with: 0 }
    }

    pub(super) fn changed(self, Mark { keep, flip }: Mark) -> Bits {
        Bits { unknown: self.unknown & keep, with: (self.with & keep) ^ flip, ..self }
    }

    /// The bits `keep` of `self`, and `copy` of `other`, by exclusive or. `None` if they depend on
    /// two facts.
    pub(super) fn mixed(self, keep: u32, other: Bits, copy: u32) -> Option<Bits> {
        let (mine, theirs) = (self.unknown & keep, other.unknown & copy);
        let with = (self.with & keep) ^ (other.with & copy);
        match (mine, theirs) {
            (mine, 0) => Some(Bits { fact: self.fact, unknown: mine, with }),
            (0, theirs) => Some(Bits { fact: other.fact, unknown: theirs, with }),
            _ if self.fact == other.fact => Some(Bits { fact: self.fact, unknown: mine ^ theirs, with }),
            _ => None,
        }
    }

    /// The value within `mask`, or what is not known of it.
    pub(super) fn within(self, mask: u128) -> Result<u128, Unknown> {
        let (bits, with) = (u128::from(self.unknown) & mask, u128::from(self.with) & mask);
        if bits == 0 { Ok(with) } else { Err(Unknown { fact: self.fact, bits, with }) }
    }
}

/// A text that is not evaluated, without its negation, and whether it had one: `-m x ! --y z` holds
/// where `-m x --y z` does not. Where there are several options, each may be negated by itself, so
/// they are left as they are.
pub(super) fn positive(text: &str) -> (String, bool) {
    let negations = text.matches(" ! --").count();
    let options = text.matches(" --").count();
    if negations == 1 && options == 1 {
        return (text.replacen(" ! --", " --", 1), true);
    }
    if negations == 0 && text.matches(" != ").count() == 1 && !text.contains(" --") {
        return (text.replacen(" != ", " ", 1), true);
    }
    (text.to_owned(), false)
}

/// Whether something that is not evaluated may decide differently each time the same packet asks,
/// because it counts packets or draws.
pub(super) fn is_fickle(text: &str) -> bool {
    const MATCHES: [&str; 9] =
        ["limit", "hashlimit", "quota", "quota2", "statistic", "recent", "rateest", "connlimit", "fuzzy"];
    let mut words = text.split(' ').filter(|word| *word != "!");
    match words.next() {
        Some("-m") => words.next().is_some_and(|name| MATCHES.contains(&name)),
        Some("ct") => words.next() == Some("count"),
        Some("limit" | "quota" | "connlimit" | "add" | "update" | "delete" | "xt") => true,
        _ => text.contains("numgen") || text.contains("limit "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Unknown = Unknown { fact: 0, bits: u128::MAX, with: 0 };

    fn of(unknown: Unknown, low: u128, high: u128) -> Box<[Cube]> {
        asked(unknown, &Ranges::One(low, high)).expect("few cubes")
    }

    #[test]
    fn ranges_become_cubes() {
        for (low, high) in [(0, 0), (0, u128::MAX), (1, u128::MAX), (3, 17), (u128::MAX, u128::MAX)] {
            let cubes = of(ALL, low, high);
            for value in [0, 1, 2, 3, 4, 16, 17, 18, 1 << 100, u128::MAX] {
                let within = cubes.iter().filter(|cube| (value ^ cube.value) & cube.mask == 0).count();
                assert_eq!(within, usize::from((low..=high).contains(&value)), "{value} in {low}-{high}");
            }
        }
    }

    #[test]
    fn what_is_assumed_decides_what_is_asked_later() {
        let mark = |mask: u128, value: u128| of(Unknown { bits: mask, ..ALL }, value, value);
        // What is assumed first, whether it holds, what is asked then, and the answer.
        let cases = [
            ("the same again", of(ALL, 5, 5), true, of(ALL, 5, 5), Some(true)),
            ("the same again, failed", of(ALL, 5, 5), false, of(ALL, 5, 5), Some(false)),
            ("another value", of(ALL, 5, 5), true, of(ALL, 6, 6), Some(false)),
            ("another value, after a failure", of(ALL, 5, 5), false, of(ALL, 6, 6), None),
            ("a range around it", of(ALL, 5, 5), true, of(ALL, 4, 9), Some(true)),
            ("a value of a range", of(ALL, 4, 9), true, of(ALL, 5, 5), None),
            ("a value of a range, failed", of(ALL, 4, 9), false, of(ALL, 5, 5), Some(false)),
            ("one bit says nothing of another", mark(2, 2), true, mark(4, 4), None),
            ("a bit of two", mark(6, 6), true, mark(4, 4), Some(true)),
            ("either bit is set: the other", mark(6, 0), false, mark(2, 2), None),
            ("not zero within a bit", mark(4, 0), false, mark(4, 4), Some(true)),
        ];
        for (name, first, holds, then, expected) in cases {
            let mut knowledge = Knowledge::default();
            knowledge.assume(0, &first, holds);
            assert_eq!(knowledge.decides(0, &then), expected, "{name}");
            assert_eq!(knowledge.decides(1, &then), None, "{name}: another fact");
        }
    }

    #[test]
    fn marks_keep_what_is_known_of_them() {
        let unknown = Bits::of(7);
        assert_eq!(unknown.changed(Mark { keep: 0, flip: 0x40 }).within(u128::MAX), Ok(0x40), "set");
        let set = unknown.changed(Mark { keep: !0x40, flip: 0x40 });
        assert_eq!(set.within(0x40), Ok(0x40), "one bit set");
        assert_eq!(set.within(0x80), Err(Unknown { fact: 7, bits: 0x80, with: 0 }), "others as they were");
        let restored = Bits::known(1).mixed(!0x80, unknown, 0x80).expect("one fact");
        assert_eq!(restored.within(0x7f), Ok(1));
        assert_eq!(restored.within(0x80), Err(Unknown { fact: 7, bits: 0x80, with: 0 }));
        assert_eq!(unknown.mixed(!0, Bits::of(8), 1), None, "two facts");
    }

    #[test]
    fn negated_texts_are_of_the_same_fact() {
        let cases = [
            ("-m set --match-set a src", "-m set --match-set a src", false),
            ("-m set ! --match-set a src", "-m set --match-set a src", true),
            ("-m x ! --a 1 --b 2", "-m x ! --a 1 --b 2", false),
            ("fib saddr type != local", "fib saddr type local", true),
        ];
        for (text, expected, negated) in cases {
            assert_eq!(positive(text), (expected.to_owned(), negated), "{text}");
        }
        for (text, expected) in [
            ("-m limit --limit 3/min", true),
            ("-m recent --update --hitcount 4", true),
            ("-m set --match-set a src", false),
            ("limit rate 3", true),
            ("fib saddr type local", false),
            ("ct count over 20", true),
            ("ct helper ftp", false),
        ] {
            assert_eq!(is_fickle(text), expected, "{text}");
        }
    }
}
