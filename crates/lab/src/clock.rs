//! The time, as the API writes it.

use std::time::{SystemTime, UNIX_EPOCH};

use portolan_controllers::manager::Timestamp;

/// Now, to the second.
pub(crate) fn now() -> Timestamp {
    whole(SystemTime::now())
}

/// A time with so many digits of a second behind the point, at most nine:
/// `2026-05-04T09:17:31.000012Z`.
pub(crate) fn precise(time: SystemTime, digits: usize) -> String {
    let nanoseconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    let fraction = format!("{nanoseconds:09}");
    let seconds = whole(time).to_string();
    format!("{}.{}Z", seconds.trim_end_matches('Z'), &fraction[..digits.min(fraction.len())])
}

fn whole(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn writes_digits() {
        let time = UNIX_EPOCH + Duration::new(1_777_886_251, 12_345);
        assert_eq!(precise(time, 9), "2026-05-04T09:17:31.000012345Z");
        assert_eq!(precise(time, 6), "2026-05-04T09:17:31.000012Z");
    }
}
