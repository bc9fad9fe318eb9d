//! The indexes of an indexed Job, as its status writes them: `0-2,4`.

use std::collections::BTreeSet;

use crate::manager::pod::Pod;

/// The label and the annotation of a pod that say which one it is.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// The API server takes no Job with more (`maxParallelismForIndexedJob` and its kin): a text that
/// names more is not read.
const MOST: i64 = 100_000;

/// Which one a pod is.
pub(super) fn index_of(pod: &Pod) -> Option<i64> {
    let text = pod.metadata.annotations.get(INDEX).or_else(|| pod.labels().get(INDEX))?;
    text.parse().ok().filter(|index| *index >= 0)
}

/// Reads what [`write`] wrote. What cannot be read is left out.
pub(super) fn read(text: &str) -> BTreeSet<i64> {
    let mut indexes = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i64>(), last.parse::<i64>()) {
            indexes.extend(first.max(0)..=last.min(MOST));
        }
    }
    indexes
}

/// Indexes that follow each other are written as one: from three on with a dash, as the real
/// controller does, two with a comma.
pub(super) fn write(indexes: &BTreeSet<i64>) -> String {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => runs.push((*index, *index)),
        }
    }
    let texts = runs.iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    });
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_written_as_they_are_read() {
        for (text, indexes) in [
            ("", vec![]),
            ("0", vec![0]),
            ("0,1", vec![0, 1]),
            ("0-2", vec![0, 1, 2]),
            ("1,3-5,7,8", vec![1, 3, 4, 5, 7, 8]),
        ] {
            let indexes: BTreeSet<i64> = indexes.into_iter().collect();
            assert_eq!((write(&indexes), read(text)), (text.to_owned(), indexes));
        }
        assert!(read("x,-,5-1,99999999999999999999").is_empty());
        assert!(read("0-9223372036854775807").len() <= 100_001);
    }
}
