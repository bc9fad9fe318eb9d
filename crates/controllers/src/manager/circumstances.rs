//! What is neither an object nor a rule: the time, and chance.

use super::time::Timestamp;

/// The time and chance that a controller is given.
pub struct Circumstances<'a> {
    /// The present.
    pub now: Timestamp,
    /// A random number at each call.
    pub random: &'a mut dyn FnMut() -> u64,
}

/// What names are made of that Kubernetes makes up: no vowels, so that no words come out, and
/// nothing that looks like something else.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The longest beginning of a name that is completed at random (`maxGeneratedNameLength` of the
/// API server).
const LONGEST_BEGINNING: usize = 58;

impl Circumstances<'_> {
    /// `base` and five characters: a name as the API server makes it of `generateName`.
    pub(crate) fn name(&mut self, base: &str) -> String {
        let end = (0..=LONGEST_BEGINNING.min(base.len())).rev().find(|end| base.is_char_boundary(*end));
        let mut name = base[..end.unwrap_or_default()].to_owned();
        let mut random = (self.random)();
        for _ in 0..5 {
            let place = usize::try_from(random % 27).unwrap_or_default();
            name.push(char::from(ALPHABET[place]));
            random /= 27;
        }
        name
    }
}
