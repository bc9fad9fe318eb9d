//! The key or name that was probably meant, for messages.

/// The candidate that `wanted` most likely is a slip of; `None` if all are too different.
pub fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = wanted.chars().count();
    // One slip for every three letters; longer texts than any name are no slips.
    let allowed = (length / 3).clamp(1, 4);
    if length > MAX_LENGTH {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (slips(wanted, candidate), candidate))
        .filter(|(slips, _)| *slips <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Kubernetes' names have up to 63 characters; the longest field names have about 40.
const MAX_LENGTH: usize = 64;

/// How many letters were left out, added, exchanged for others or swapped with their neighbours
/// (optimal string alignment). Upper and lower case are the same letter, once for free.
pub fn slips(one: &str, other: &str) -> usize {
    let letters = |text: &str| text.chars().map(|letter| letter.to_ascii_lowercase()).collect::<Vec<_>>();
    let (one, other) = (letters(one), letters(other));
    if one.len().abs_diff(other.len()) > MAX_LENGTH {
        return MAX_LENGTH;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let exchanged = last[j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut least = exchanged.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted() {
        for (one, other, count) in [
            ("selector", "selector", 0),
            ("Selector", "selector", 0),
            ("selectr", "selector", 1),
            ("Servcie", "Service", 1),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(slips(one, other), count, "{one} {other}");
            assert_eq!(slips(other, one), count, "{other} {one}");
        }
    }

    #[test]
    fn only_what_is_near_is_meant() {
        let fields = ["port", "ports", "targetPort", "nodePort", "protocol"];
        for (wanted, expected) in [
            ("prot", Some("port")),
            ("targetport", Some("targetPort")),
            ("tragetPort", Some("targetPort")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(wanted, fields), expected, "{wanted}");
        }
        assert_eq!(nearest(&"p".repeat(10_000), fields), None);
    }
}
