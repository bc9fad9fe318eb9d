//! Rows as tables for people: columns aligned, a header above, lines of at most `WIDTH`
//! characters.

use std::time::Duration;

use portolan_observe::rows::{
    AddressRow, ChangeRow, CountsRow, EndpointRow, FrontendRow, NameRow, PodRow, ProbeRow, ServiceRow,
    TrafficRow,
};

/// What a terminal shows of a line. Only words that are longer, such as names of full length, reach
/// beyond.
const WIDTH: usize = 80;
/// Between two columns.
const GAP: usize = 2;

/// Services: a line for each address that clients connect to, and below it what does not hold for
/// all clients. Below the last one is what the kernel has counted, `wide` all of it.
pub(super) fn services(rows: &[ServiceRow], wide: bool) -> String {
    let mut lines = Vec::new();
    let mut before = String::new();
    for row in rows {
        let name = title(&row.namespace, &row.name, &row.port);
        // Ports and families of one name follow one another.
        let mut shown = if name == before { String::new() } else { name.clone() };
        before = name;
        if row.frontends.is_empty() {
            let cells = [shown, "-".to_owned(), endpoints_of(row), "-".to_owned()];
            lines.push(Line { cells, notes: Vec::new() });
            continue;
        }
        for frontend in &row.frontends {
            let (to, notes) = destinations(row, frontend);
            let address = format!("{}/{}", frontend.socket(), row.protocol);
            let cells = [std::mem::take(&mut shown), frontend.kind.clone(), to, address];
            lines.push(Line { cells, notes });
        }
        if let Some(last) = lines.last_mut() {
            last.notes.extend(counted_for_service(row, wide));
        }
    }
    align(["SERVICE", "TYPE", "ENDPOINTS", "ADDRESS"], &lines)
}

/// Endpoints, a line for each one of each Service port, and the Pods that are probed.
pub(super) fn endpoints(rows: &[EndpointRow], pods: &[PodRow], wide: bool) -> String {
    let parts = [(rows.is_empty(), of_services(rows, wide)), (pods.is_empty(), probed(pods))];
    let shown: Vec<String> = parts.into_iter().filter(|(empty, _)| !empty).map(|(_, text)| text).collect();
    shown.join("\n")
}

/// Pods, a line for each, and below it what its probes said.
fn probed(pods: &[PodRow]) -> String {
    let lines = pods.iter().map(|pod| {
        let ready = pod.ready.map_or("unknown", |ready| if ready { "yes" } else { "no" });
        let since = pod.since_seconds.map_or_else(|| "-".to_owned(), units);
        let cells = [title(&pod.namespace, &pod.pod, ""), ready.to_owned(), since, pod.address.to_string()];
        Line { cells, notes: pod.probes.iter().map(probe).collect() }
    });
    align(["PROBED POD", "READY", "SINCE", "ADDRESS"], &lines.collect::<Vec<_>>())
}

fn probe(probe: &ProbeRow) -> String {
    let what = format!("{} of {}", probe.kind, probe.container);
    let (Some(ago), Some(took)) = (probe.ago_seconds, probe.took_seconds) else {
        return format!("{what}: not carried out yet");
    };
    let state = if probe.passes { "passes" } else { "fails" };
    let last = format!("{what} {state}; last {} ago, in {}", units(ago), latency(took));
    match &probe.last_failure {
        None => last,
        Some(failure) if failure.over => {
            format!("{last}; failed {} ago: {}", units(failure.ago_seconds), failure.reason)
        }
        Some(failure) => format!("{last}: {}", failure.reason),
    }
}

/// What the kernel has counted is in columns of its own and, if `wide`, below.
fn of_services(rows: &[EndpointRow], wide: bool) -> String {
    let mut before = String::new();
    let mut named = rows.iter().map(|row| {
        let name = title(&row.namespace, &row.service, &row.port);
        let shown = if name == before { String::new() } else { name.clone() };
        before = name;
        let local = if row.local { "yes" } else { "no" }.to_owned();
        let endpoint = format!("{}/{}", row.socket(), row.protocol);
        (row, [shown, local, row.lists.join(","), endpoint])
    });
    if rows.iter().all(|row| row.traffic.is_none()) {
        let lines: Vec<_> = named.map(|(_, cells)| Line { cells, notes: Vec::new() }).collect();
        return align(["SERVICE", "LOCAL", "LISTS", "ENDPOINT"], &lines);
    }
    let counted = |(row, [shown, local, lists, endpoint]): (&EndpointRow, [String; 4])| {
        let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let weight = number(row.weight.map(u64::from));
        let of = |count: fn(&TrafficRow) -> u64| number(row.traffic.as_ref().map(count));
        let cells = [shown, local, lists, weight, of(|all| all.active), of(|all| all.inactive), endpoint];
        let notes =
            row.traffic.as_ref().filter(|_| wide).map(|traffic| [so_far(traffic), each_second(traffic)]);
        Line { cells, notes: notes.into_iter().flatten().collect() }
    };
    let lines: Vec<_> = named.by_ref().map(counted).collect();
    align(["SERVICE", "LOCAL", "LISTS", "WEIGHT", "ACTIVE", "INACTIVE", "ENDPOINT"], &lines)
}

/// What the kernel has counted for a Service port; if `wide`, all of it, and for its endpoints too.
fn counted_for_service(row: &ServiceRow, wide: bool) -> Vec<String> {
    let Some(traffic) = &row.traffic else { return Vec::new() };
    let connections = |traffic: &TrafficRow| {
        let TrafficRow { active, inactive, total, .. } = traffic;
        format!("{active} active, {inactive} inactive, {} so far", total.connections)
    };
    let mut notes = vec![format!("connections: {}", connections(traffic))];
    if wide {
        notes.extend([so_far(traffic), each_second(traffic)]);
        for to in &row.destinations {
            let (weight, traffic) = (to.weight, &to.traffic);
            notes.push(format!("to {}, weight {weight}: {}", to.socket(), connections(traffic)));
            notes.extend([so_far(traffic), each_second(traffic)]);
        }
    }
    notes
}

fn so_far(traffic: &TrafficRow) -> String {
    format!("so far: {}", counts(&traffic.total))
}

fn each_second(traffic: &TrafficRow) -> String {
    format!("each second: {}", counts(&traffic.per_second))
}

fn counts(of: &CountsRow) -> String {
    let CountsRow { connections, packets_in, packets_out, bytes_in, bytes_out } = of;
    format!(
        "connections {connections}; in: packets {packets_in}, bytes {bytes_in}; out: packets {packets_out}, bytes \
         {bytes_out}"
    )
}

/// Load-balancer addresses, a line for each interface that they are announced on.
pub(super) fn addresses(rows: &[AddressRow]) -> String {
    let mut before = "";
    let lines = rows.iter().map(|row| {
        let shown = if row.address == before { "" } else { &row.address };
        before = &row.address;
        let mut notes = vec![row.reason.clone()];
        notes.extend(row.routing_table.map(|table| format!("in routing table {table}")));
        notes.extend(row.duplicates.iter().map(|hardware| format!("also announced by {hardware}")));
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let cells = [shown.to_owned(), or_none(&row.node), or_none(&row.interface), row.services.join(",")];
        Line { cells, notes }
    });
    align(["ADDRESS", "NODE", "INTERFACE", "SERVICE"], &lines.collect::<Vec<_>>())
}

/// Transactions, the last one at the bottom, and below each what it changed. `now` in seconds since
/// 1970, to say how long ago they were.
pub(super) fn changes(rows: &[ChangeRow], now: Duration) -> String {
    let lines = rows.iter().map(|row| {
        let mut notes = row.lines.clone();
        if notes.is_empty() {
            notes.push(match row.service_count {
                0 if row.full => "everything written anew".to_owned(),
                1 => "1 Service".to_owned(),
                count => format!("{count} Services"),
            });
        }
        if let Some(error) = &row.error {
            notes.push(format!("failed: {error}"));
        }
        let cells = [
            ago(&row.at, now),
            row.event_to_commit_seconds.map_or_else(|| "-".to_owned(), latency),
            latency(row.commit_seconds),
            row.operations.to_string(),
        ];
        Line { cells, notes }
    });
    align(["AGO", "LATENCY", "COMMIT", "OPERATIONS"], &lines.collect::<Vec<_>>())
}

/// `shop/web:http`, as everywhere; ports may have no name.
fn title(namespace: &str, name: &str, port: &str) -> String {
    let separator = if port.is_empty() { "" } else { ":" };
    format!("{namespace}/{name}{separator}{port}")
}

/// Where connections to an address go, and what holds for some of them alone.
fn destinations(row: &ServiceRow, frontend: &FrontendRow) -> (String, Vec<String>) {
    let (inside, outside) = (destination(row, &frontend.inside), destination(row, &frontend.outside));
    let mut notes = Vec::new();
    // The clients that such an address is there for come first.
    let to = if frontend.kind == "ClusterIP" {
        if inside != outside {
            notes.push(format!("from outside: {outside}"));
        }
        inside
    } else {
        if inside != outside {
            notes.push(format!("from this node and its pods: {inside}"));
        }
        outside
    };
    if !frontend.allowed_sources.is_empty() {
        notes.push(format!("only from {}", frontend.allowed_sources.join(", ")));
    }
    (to, notes)
}

/// A list of endpoints as its length; other verdicts as they are.
fn destination(row: &ServiceRow, verdict: &str) -> String {
    match verdict {
        "cluster" => endpoints_of(row),
        "local" => format!("{} local", row.local_endpoints),
        other => other.to_owned(),
    }
}

fn endpoints_of(row: &ServiceRow) -> String {
    match row.local_endpoints {
        0 => row.endpoints.to_string(),
        local => format!("{} ({local} local)", row.endpoints),
    }
}

/// How long ago, in the two largest units.
pub(super) fn ago(at: &str, now: Duration) -> String {
    let Some(at) = portolan_observe::timestamp::parse_seconds(at) else { return at.to_owned() };
    in_units(now.as_secs().saturating_sub(at))
}

fn units(seconds: f64) -> String {
    in_units(Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs())
}

/// In the two largest units.
fn in_units(seconds: u64) -> String {
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

/// A row, and what is to be said below it.
struct Line<const N: usize> {
    cells: [String; N],
    notes: Vec<String>,
}

/// Names with their records, page by page.
pub(super) struct NameTable {
    columns: Columns<3>,
    /// Each address has a line; else there are a few of them, and the number of the others.
    wide: bool,
    before: String,
}

/// As many addresses are in a line.
const ADDRESSES: usize = 2;

impl NameTable {
    pub(super) fn new(wide: bool) -> NameTable {
        NameTable { columns: Columns::new(["NAME", "TYPE", "ANSWER"]), wide, before: String::new() }
    }

    /// The lines of a page.
    pub(super) fn rows(&mut self, rows: &[NameRow]) -> String {
        let mut lines = Vec::new();
        for row in rows {
            let mut shown = if row.name == self.before { String::new() } else { row.name.clone() };
            self.before.clone_from(&row.name);
            let kind = if row.kind.is_empty() { "-" } else { &row.kind };
            for answer in self.answers(row) {
                let cells = [std::mem::take(&mut shown), kind.to_owned(), answer];
                lines.push(Line { cells, notes: Vec::new() });
            }
            if let (Some(line), Some(reason)) = (lines.last_mut(), &row.reason) {
                line.notes.push(reason.clone());
            }
        }
        if lines.is_empty() { String::new() } else { self.columns.text(&lines) }
    }

    fn answers(&self, row: &NameRow) -> Vec<String> {
        match row.answers.len() {
            0 => vec![row.rcode.clone()],
            _ if self.wide => row.answers.clone(),
            count => {
                let first = row.answers[..count.min(ADDRESSES)].join(", ");
                let others = count.saturating_sub(ADDRESSES);
                vec![if others > 0 { format!("{first} and {others} more") } else { first }]
            }
        }
    }
}

fn align<const N: usize>(header: [&str; N], lines: &[Line<N>]) -> String {
    Columns::new(header).text(lines)
}

/// Each column as wide as its widest cell, but for the first: it leaves the others their place. A
/// first cell that is longer than its column has a line of its own. So has a last cell that would
/// reach beyond the width. Columns do not become narrower from one page to the next.
struct Columns<const N: usize> {
    /// Until it was written.
    header: Option<Line<N>>,
    /// Of the first column: what it has at least.
    widths: [usize; N],
}

impl<const N: usize> Columns<N> {
    fn new(header: [&str; N]) -> Columns<N> {
        let widths = header.map(length);
        Columns { header: Some(Line { cells: header.map(str::to_owned), notes: Vec::new() }), widths }
    }

    /// The text of a page, below the header if it is the first.
    fn text(&mut self, lines: &[Line<N>]) -> String {
        let least = self.header.as_ref().map_or(0, |header| length(&header.cells[0]));
        for (column, width) in self.widths.iter_mut().enumerate() {
            let cells = lines.iter().map(|line| length(&line.cells[column]));
            *width = cells.max().unwrap_or_default().max(*width);
        }
        let others: usize = self.widths[1..].iter().map(|width| width + GAP).sum();
        self.widths[0] = self.widths[0].min(WIDTH.saturating_sub(others).max(least));
        let mut text = String::new();
        for line in self.header.take().iter().chain(lines) {
            push_cells(&mut text, &line.cells, &self.widths);
            for note in &line.notes {
                push_wrapped(&mut text, &" ".repeat(GAP), note, 3 * GAP);
            }
        }
        text
    }
}

fn push_cells(text: &mut String, cells: &[String], widths: &[usize]) {
    let mut written = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let begins = length(&written);
        let last = column > 0 && column + 1 == cells.len();
        if last && begins + length(cell) > WIDTH && length(cell) + 2 * GAP <= WIDTH {
            push_line(text, &written);
            written = " ".repeat(WIDTH - length(cell));
        }
        written.push_str(cell);
        if column == 0 && length(cell) > *width {
            push_line(text, &written);
            written = " ".repeat(width + GAP);
        } else {
            written.push_str(&" ".repeat((width + GAP).saturating_sub(length(cell))));
        }
    }
    push_line(text, &written);
}

/// Writes `begin` and after it `words`, in lines of at most [`WIDTH`] characters; all but the first
/// are indented.
pub(super) fn push_wrapped(text: &mut String, begin: &str, words: &str, indent: usize) {
    let mut written = begin.to_owned();
    let mut is_empty = true;
    for word in words.split_whitespace() {
        if !is_empty && length(&written) + 1 + length(word) > WIDTH {
            push_line(text, &written);
            written = " ".repeat(indent);
            is_empty = true;
        }
        if !is_empty {
            written.push(' ');
        }
        written.push_str(word);
        is_empty = false;
    }
    push_line(text, &written);
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

/// In characters.
fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests;
