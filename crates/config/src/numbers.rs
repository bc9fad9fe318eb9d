//! Numbers and durations within their bounds.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::duration::GoDuration;
use crate::problems::Problems;

/// A default in seconds, or a duration that is not negative.
pub(crate) fn not_negative(
    field: &str,
    given: Option<GoDuration>,
    default: u64,
    problems: &mut Problems<'_>,
) -> Duration {
    let Some(duration) = given else { return Duration::from_secs(default) };
    duration.to_std().unwrap_or_else(|| {
        problems.error(field, format!("{duration} is less than 0s"));
        Duration::from_secs(default)
    })
}

/// `default`, or a number in `range`.
pub(crate) fn in_range(
    field: &str,
    given: Option<i32>,
    range: RangeInclusive<i32>,
    default: i32,
    problems: &mut Problems<'_>,
) -> i32 {
    let value = given.unwrap_or(default);
    if range.contains(&value) {
        return value;
    }
    let bounds = match (*range.start(), *range.end()) {
        (start, i32::MAX) => format!("less than {start}"),
        (start, end) => format!("not in {start} to {end}"),
    };
    problems.error(field, format!("{value} is {bounds}"));
    default
}

/// The number of a bit of packet marks: 14, or one of 0-31 (spec §4.1).
pub(crate) fn bit(field: &str, given: Option<i32>, problems: &mut Problems<'_>) -> u8 {
    valid_bit(given).unwrap_or_else(|| {
        problems.error(field, format!("{} is not in 0-31", given.unwrap_or_default()));
        14
    })
}

/// [`bit`], if it can be used.
pub(crate) fn valid_bit(given: Option<i32>) -> Option<u8> {
    u8::try_from(given.unwrap_or(14)).ok().filter(|bit| *bit <= 31)
}
