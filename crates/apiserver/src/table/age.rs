//! How long ago something was, in as few letters as people need.

use crate::clock::seconds;

/// The age of what happened at a time of RFC 3339.
pub(super) fn age(time: &str, now: i64) -> String {
    if time.is_empty() { "<unknown>".to_owned() } else { since(time, now) }
}

/// How long it was from one time to another.
pub(super) fn since(time: &str, end: i64) -> String {
    seconds(time).map_or_else(|| "<invalid>".to_owned(), |start| duration(end - start))
}

/// A duration in seconds, as Kubernetes writes it for people.
fn duration(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |large: i64, unit: char, small: i64, small_unit: char| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{small_unit}") }
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        () if hours < 3 => format!("{minutes}m"),
        () if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two(days, 'd', hours % 24, 'h'),
        () if days < 2 * 365 => format!("{days}d"),
        () if days < 8 * 365 => two(days / 365, 'y', days % 365, 'd'),
        () => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_durations() {
        const HOUR: i64 = 3_600;
        const DAY: i64 = 24 * HOUR;
        for (seconds, written) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (330, "5m30s"),
            (600, "10m"),
            (90 * 60, "90m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 1_200, "3h20m"),
            (30 * HOUR, "30h"),
            (3 * DAY, "3d"),
            (3 * DAY + 4 * HOUR, "3d4h"),
            (100 * DAY, "100d"),
            ((3 * 365 + 20) * DAY, "3y20d"),
            (9 * 365 * DAY, "9y"),
        ] {
            assert_eq!(duration(seconds), written, "{seconds}");
        }
        assert_eq!((age("", 0), age("then", 0)), ("<unknown>".to_owned(), "<invalid>".to_owned()));
        assert_eq!(age("1970-01-01T00:00:00Z", 5), "5s");
    }
}
