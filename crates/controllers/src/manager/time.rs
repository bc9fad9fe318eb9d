//! Times as objects have them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment, in whole seconds since 1970 UTC: finer than objects have it is no time of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(i64);

/// Not a time of RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time as in RFC 3339, such as 2026-01-31T12:00:00Z")]
pub struct NotATime(String);

impl Timestamp {
    /// The moment so many seconds after the beginning of 1970.
    pub fn from_unix(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since the beginning of 1970.
    pub fn unix(self) -> i64 {
        self.0
    }

    /// So many seconds later.
    #[must_use]
    pub fn plus(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

/// Days since 1970-01-01 of a day in the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, so that the leap day is the last.
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// As RFC 3339 writes it, in UTC.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date(self.0.div_euclid(86_400));
        let second = self.0.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Reads RFC 3339. Fractions of a second are left out.
impl FromStr for Timestamp {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        read(text.as_bytes()).ok_or_else(|| NotATime(text.chars().take(40).collect()))
    }
}

fn read(text: &[u8]) -> Option<Timestamp> {
    let number = |from: usize, to: usize, least: i64, most: i64| {
        let digits = text.get(from..to)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let value = digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
        (least..=most).contains(&value).then_some(value)
    };
    let signs = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if !signs.iter().all(|(at, sign)| text.get(*at) == Some(sign)) || !matches!(text.get(10)?, b'T' | b't') {
        return None;
    }
    let day = days(number(0, 4, 0, 9_999)?, number(5, 7, 1, 12)?, number(8, 10, 1, 31)?);
    let second = number(11, 13, 0, 23)? * 3_600 + number(14, 16, 0, 59)? * 60 + number(17, 19, 0, 60)?;
    let mut rest = 19;
    if text.get(rest) == Some(&b'.') {
        rest += 1 + text[rest + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    }
    let east = match text.get(rest)? {
        b'Z' | b'z' if text.len() == rest + 1 => 0,
        sign @ (b'+' | b'-') if text.len() == rest + 6 && text[rest + 3] == b':' => {
            let offset = number(rest + 1, rest + 3, 0, 23)? * 3_600 + number(rest + 4, rest + 6, 0, 59)? * 60;
            if *sign == b'+' { offset } else { -offset }
        }
        _ => return None,
    };
    Some(Timestamp(day * 86_400 + second - east))
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Nothing that anybody may write is more than refused.
        #[test]
        fn reads_anything(text in "[-0-9TZ:.+é]{0,30}") {
            if let Ok(time) = text.parse::<Timestamp>() {
                prop_assert_eq!(time.to_string().parse(), Ok(time));
            }
        }
    }

    #[test]
    fn reads_and_writes() {
        // text, seconds since 1970, written again
        let table = [
            ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
            ("1969-12-31T23:59:59Z", -1, "1969-12-31T23:59:59Z"),
            ("2000-02-29T12:00:00Z", 951_825_600, "2000-02-29T12:00:00Z"),
            ("2026-11-30T01:02:03.456789Z", 1_796_000_523, "2026-11-30T01:02:03Z"),
            ("2026-11-30T02:02:03+01:00", 1_796_000_523, "2026-11-30T01:02:03Z"),
            ("2026-11-29t20:32:03-04:30", 1_796_000_523, "2026-11-30T01:02:03Z"),
        ];
        for (text, seconds, written) in table {
            let time: Timestamp = text.parse().expect(text);
            assert_eq!((time.unix(), time.to_string().as_str()), (seconds, written), "{text}");
        }
        for days_since in (-800_000..800_000).step_by(13) {
            let (year, month, day) = date(days_since);
            assert_eq!(days(year, month, day), days_since);
        }
    }

    #[test]
    fn refuses() {
        for text in [
            "",
            "2026",
            "2026-11-30",
            "2026-11-30T01:02:03",
            "2026-11-30 01:02:03Z",
            "2026-13-30T01:02:03Z",
            "2026-11-30T01:02:03Zx",
            "2026-11-30T01:02:03.5",
            "2026-11-30T01:02:03+0100",
            "-026-11-30T01:02:03Z",
            "2026-11-30T01:02:03+01:0é",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }
}
