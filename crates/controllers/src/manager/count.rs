//! Numbers that may be percentages: `IntOrString`.

use serde::Deserialize;

/// Numbers of the API have 32 bits. No other one goes further than here, so that sums of a few
/// never overflow.
pub(crate) fn bounded(number: i64) -> i64 {
    number.clamp(0, i32::MAX.into())
}

/// A number, or a part of another one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Count {
    /// So many.
    Number(i64),
    /// A percentage, such as `25%`.
    Text(String),
}

impl Count {
    /// How many that is of `total`, rounded up. Anything unreadable is 0.
    pub(crate) fn rounded_up(&self, total: i64) -> i64 {
        self.of(total, 99)
    }

    /// The same, rounded down.
    pub(crate) fn rounded_down(&self, total: i64) -> i64 {
        self.of(total, 0)
    }

    fn of(&self, total: i64, rest: i64) -> i64 {
        match self {
            Self::Number(number) => bounded(*number),
            Self::Text(text) => {
                let percent = text.strip_suffix('%').and_then(|percent| percent.parse::<i64>().ok());
                let percent = percent.unwrap_or_default().max(0);
                bounded(percent.saturating_mul(total).saturating_add(rest) / 100)
            }
        }
    }
}
