//! Points in time as Kubernetes writes them: RFC 3339, UTC, as many digits of a second as it takes.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

/// Days from 0000-03-01 to 1970-01-01.
const FROM_MARCH_OF_YEAR_0: u64 = 719_468;

/// What stands for a time that never was, year 1, as other Kubernetes components write it.
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

/// `at` in UTC with nanoseconds, without trailing zeros (RFC 3339 §5.6). Times before 1970 become
/// 1970.
pub fn rfc3339(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let mut text = format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    );
    if since.subsec_nanos() > 0 {
        let _ = write!(text, ".{:09}", since.subsec_nanos());
        text.truncate(text.trim_end_matches('0').len());
    }
    text.push('Z');
    text
}

/// The whole seconds since 1970 of what [`rfc3339`] wrote.
pub fn parse_seconds(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(str::parse::<u64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut time = time.split('.').next()?.split(':').map(str::parse::<u64>);
    let (hour, minute, second) = (time.next()?.ok()?, time.next()?.ok()?, time.next()?.ok()?);
    let in_range = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !in_range || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some((days - FROM_MARCH_OF_YEAR_0) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Seconds since 1970, as Prometheus wants its timestamps.
pub(crate) fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

/// Year, month and day of the day `days` after 1970-01-01 in the Gregorian calendar. Years are
/// counted from March, so that the leap day comes last and the lengths of the months before it
/// follow one line.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let days = days + FROM_MARCH_OF_YEAR_0;
    let (cycle, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, carried) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + carried, month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_as_the_calendar_says() {
        // `date -u -d @SECONDS` gave the expectations.
        for (seconds, nanos, expected) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_399, 0, "2000-02-28T23:59:59Z"),
            (951_782_400, 0, "2000-02-29T00:00:00Z"),
            (951_868_800, 0, "2000-03-01T00:00:00Z"),
            (1_709_164_800, 500_000_000, "2024-02-29T00:00:00.5Z"),
            (1_735_689_599, 999_999_999, "2024-12-31T23:59:59.999999999Z"),
            (1_735_689_600, 1_000, "2025-01-01T00:00:00.000001Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos)), expected);
            assert_eq!(parse_seconds(expected), Some(seconds), "{expected}");
        }
    }

    #[test]
    fn what_is_no_time_is_not_read() {
        for text in [
            "",
            "Z",
            "T",
            "2024-02-29",
            "2024-13-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "1969-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_seconds(text), None, "{text}");
        }
    }
}
