//! Rows as tables for people: columns aligned, a header above.

use std::time::Duration;

use crate::rows::{ChangeRow, EndpointRow, FrontendRow, ServiceRow};

/// Services, a line for each port and family.
pub fn services(rows: &[ServiceRow]) -> String {
    let lines = rows.iter().map(|row| {
        [
            row.namespace.clone(),
            row.name.clone(),
            or_dash(&row.port),
            row.family.clone(),
            row.protocol.clone(),
            or_dash(&row.frontends.iter().map(frontend).collect::<Vec<_>>().join(",")),
            policies(row),
            endpoints_of(row),
        ]
    });
    align(["NAMESPACE", "NAME", "PORT", "FAMILY", "PROTOCOL", "FRONTENDS", "POLICY", "ENDPOINTS"], lines)
}

/// Endpoints, a line for each one of each Service port.
pub fn endpoints(rows: &[EndpointRow]) -> String {
    let lines = rows.iter().map(|row| {
        [
            row.namespace.clone(),
            row.service.clone(),
            or_dash(&row.port),
            row.protocol.clone(),
            row.socket().to_string(),
            if row.local { "yes" } else { "no" }.to_owned(),
            row.lists.join(","),
        ]
    });
    align(["NAMESPACE", "SERVICE", "PORT", "PROTOCOL", "ENDPOINT", "LOCAL", "LISTS"], lines)
}

/// Changes, a line for each thing that changed, the last one at the bottom. `now` in seconds since 1970, to tell how long ago
/// they were.
pub fn changes(rows: &[ChangeRow], now: Duration) -> String {
    let lines = rows.iter().flat_map(|row| {
        let mut texts = row.lines.clone();
        if texts.is_empty() {
            texts.push(match row.service_count {
                0 if row.full => "everything written anew".to_owned(),
                1 => "1 Service".to_owned(),
                count => format!("{count} Services"),
            });
        }
        if let Some(error) = &row.error {
            texts.push(format!("failed: {error}"));
        }
        let row = row.clone();
        texts.into_iter().enumerate().map(move |(number, text)| {
            // Only the first line of several tells what holds for all.
            if number > 0 {
                return [const { String::new() }; 4].into_iter().chain([text]).collect::<Vec<_>>();
            }
            vec![
                ago(&row.at, now),
                row.event_to_commit_seconds.map_or_else(|| "-".to_owned(), latency),
                latency(row.commit_seconds),
                row.operations.to_string(),
                text,
            ]
        })
    });
    let lines = lines.map(|line| <[String; 5]>::try_from(line).unwrap_or_default());
    align(["AGO", "LATENCY", "COMMIT", "OPERATIONS", "CHANGE"], lines)
}

/// `10.96.0.1:80`, with what happens there where that is not forwarding for all.
fn frontend(row: &FrontendRow) -> String {
    let forwards = |to: &str| to == "cluster" || to == "local";
    let mut notes = match (forwards(&row.inside), forwards(&row.outside)) {
        (true, true) => Vec::new(),
        (false, false) if row.inside == row.outside => vec![row.inside.clone()],
        (true, false) => vec![format!("outside: {}", row.outside)],
        (false, true) => vec![format!("inside: {}", row.inside)],
        (false, false) => vec![format!("inside: {}", row.inside), format!("outside: {}", row.outside)],
    };
    if !row.allowed_sources.is_empty() {
        notes.push(format!("only from {}", row.allowed_sources.join(" ")));
    }
    if notes.is_empty() {
        row.socket().to_string()
    } else {
        format!("{} ({})", row.socket(), notes.join("; "))
    }
}

fn policies(row: &ServiceRow) -> String {
    let internal = row.internal_policy.as_deref();
    match (internal, row.external_policy.as_deref()) {
        (None, None) => "-".to_owned(),
        (Some(internal), None) => internal.to_owned(),
        (internal, Some(external)) if internal.is_none_or(|internal| internal == external) => {
            external.to_owned()
        }
        (internal, Some(external)) => {
            format!("internal {}, external {external}", internal.unwrap_or("-"))
        }
    }
}

fn endpoints_of(row: &ServiceRow) -> String {
    match row.local_endpoints {
        0 => row.endpoints.to_string(),
        local => format!("{} ({local} local)", row.endpoints),
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

/// How long ago, in the two largest units.
fn ago(at: &str, now: Duration) -> String {
    let Some(at) = crate::timestamp::parse_seconds(at) else { return at.to_owned() };
    let seconds = now.as_secs().saturating_sub(at);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

fn latency(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or_else(|_| "-".to_owned(), |took| format!("{took:.1?}"))
}

/// Each column as wide as its widest cell, two spaces between, nothing after the last.
fn align<const N: usize>(header: [&str; N], lines: impl Iterator<Item = [String; N]>) -> String {
    let lines: Vec<[String; N]> = std::iter::once(header.map(str::to_owned)).chain(lines).collect();
    let widths: [usize; N] = std::array::from_fn(|column| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
    });
    let mut text = String::new();
    for line in &lines {
        let mut written = String::new();
        for (cell, width) in line.iter().zip(widths) {
            written.push_str(cell);
            written.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        text.push_str(written.trim_end());
        text.push('\n');
    }
    text
}
