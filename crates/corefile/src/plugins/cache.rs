//! `cache`: answers of other servers, kept.

use std::time::Duration;

use super::{all_domains, domains_or};
use crate::directive::{Directive, Line};
use crate::problem::Complaints;

/// What is kept, and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// The domains whose answers are kept.
    pub domains: Vec<String>,
    /// Answers with records.
    pub success: Kept,
    /// Answers that say no: NXDOMAIN and NODATA.
    pub denial: Kept,
    /// Answers that are asked for often are asked for again before they are too old.
    pub prefetch: Option<Prefetch>,
    /// Answers that are too old are given if there are no newer ones.
    pub stale: Option<Stale>,
    /// How long SERVFAIL is kept; zero: not at all. At most 5 minutes (RFC 2308 §7).
    pub servfail: Duration,
    /// `keepttl`: TTLs do not count down.
    pub keep_ttl: bool,
}

/// Answers of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// How many at most.
    pub capacity: usize,
    /// How long at most, seconds.
    pub ttl_max: u32,
    /// How long at least, seconds.
    pub ttl_min: u32,
    /// `disable`: the domains whose answers of this kind are not kept.
    pub disabled: Vec<String>,
}

/// When answers are asked for again before they are too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefetch {
    /// After this many questions...
    pub amount: usize,
    /// ...without a gap as long as this...
    pub gap: Duration,
    /// ...if this part of the time is left, percent.
    pub percentage: u8,
}

/// When answers that are too old are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stale {
    /// Until they are this much too old.
    pub up_to: Duration,
    /// When newer ones are asked for.
    pub refresh: Refresh,
}

/// When a newer answer is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// `immediate`: after the old one was given.
    After,
    /// `verify`: before; the old one is given if there is no newer one within this time, or else
    /// when there will be none.
    Before(Option<Duration>),
}

/// How many answers of a kind are kept, unless the Corefile says.
const CAPACITY: usize = 9984;
/// How many may be: a message takes up to 64 kB.
const CAPACITY_MAX: usize = 10_000_000;
const OPTIONS: [&str; 8] =
    ["success", "denial", "prefetch", "serve_stale", "serve_stale_policy", "servfail", "disable", "keepttl"];

pub(crate) fn read(directive: &Directive, of_block: &[String], complaints: &mut Complaints<'_>) -> Cache {
    let kept = |ttl_max| Kept { capacity: CAPACITY, ttl_max, ttl_min: 5, disabled: Vec::new() };
    let mut found = Cache {
        domains: Vec::new(),
        success: kept(3600),
        denial: kept(1800),
        prefetch: None,
        stale: None,
        servfail: Duration::from_secs(5),
        keep_ttl: false,
    };
    let mut domains = &directive.args[..];
    if let Some((first, rest)) = directive.args.split_first()
        && let Ok(ttl) = first.text.parse::<i64>()
    {
        match u32::try_from(ttl) {
            Ok(ttl) if ttl > 0 => (found.success.ttl_max, found.denial.ttl_max) = (ttl, ttl),
            _ => complaints.error(&first.place, format!("{ttl} is no TTL: give 1 second or more")),
        }
        domains = rest;
    }
    found.domains = domains_or(domains, of_block, complaints);
    for line in &directive.lines {
        match line.option() {
            "success" => limits(line, &mut found.success, complaints),
            "denial" => limits(line, &mut found.denial, complaints),
            "prefetch" => found.prefetch = prefetch(line, complaints),
            "serve_stale" => found.stale = stale(line, complaints),
            "serve_stale_policy" => {
                line.error(complaints, "old answers have no order of their own: delete the line");
            }
            "servfail" => servfail(line, &mut found.servfail, complaints),
            "disable" => disable(line, &mut found, complaints),
            "keepttl" => {
                line.nothing(complaints);
                found.keep_ttl = true;
            }
            _ => line.unknown(&OPTIONS, complaints),
        }
    }
    found
}

/// Reads `CAPACITY [TTL] [MINTTL]`.
fn limits(line: &Line, kept: &mut Kept, complaints: &mut Complaints<'_>) {
    let args = line.some("a capacity, and perhaps the longest and the shortest TTL", complaints);
    if args.len() > 3 {
        line.error(complaints, "takes three numbers at most: capacity, longest TTL, shortest TTL");
    }
    let mut args = args.iter().map(|arg| &*arg.text);
    if let Some(text) = args.next() {
        kept.capacity = line.number(text, 0..=CAPACITY_MAX, complaints).unwrap_or(CAPACITY);
    }
    if let Some(text) = args.next() {
        kept.ttl_max = line.number(text, 1..=u32::MAX, complaints).unwrap_or(kept.ttl_max);
    }
    if let Some(text) = args.next() {
        kept.ttl_min = line.number(text, 0..=u32::MAX, complaints).unwrap_or(kept.ttl_min);
    }
}

/// Reads `AMOUNT [DURATION [PERCENTAGE%]]`.
fn prefetch(line: &Line, complaints: &mut Complaints<'_>) -> Option<Prefetch> {
    let texts: Vec<&str> = line.texts().collect();
    let (amount, gap, percentage) = match *texts {
        [amount] => (amount, "1m", "10%"),
        [amount, gap] => (amount, gap, "10%"),
        [amount, gap, percentage] => (amount, gap, percentage),
        _ => {
            line.error(complaints, "takes a number of questions, and perhaps a duration and a percentage");
            return None;
        }
    };
    let amount = line.number(amount, 0..=usize::MAX, complaints);
    let gap = line.duration(gap, complaints);
    let percentage = percentage.strip_suffix('%').and_then(|number| number.parse::<u8>().ok());
    let percentage = percentage.filter(|percentage| (10..=90).contains(percentage));
    if percentage.is_none() {
        line.error(complaints, "the percentage is from 10% to 90%");
    }
    // Without questions that it counts, it is off.
    let amount = amount.filter(|amount| *amount > 0)?;
    Some(Prefetch { amount, gap: gap?, percentage: percentage? })
}

/// Reads `[DURATION] [immediate | verify [TIMEOUT]]`.
fn stale(line: &Line, complaints: &mut Complaints<'_>) -> Option<Stale> {
    let texts: Vec<&str> = line.texts().collect();
    let up_to = texts.first().map_or(Some(Duration::from_hours(1)), |text| line.duration(text, complaints));
    let mut rest = texts.get(2..).unwrap_or_default().iter();
    let refresh = match texts.get(1).map(|mode| mode.to_ascii_lowercase()).as_deref() {
        None | Some("immediate") => Refresh::After,
        Some("verify") => {
            let timeout = rest.next().and_then(|text| line.duration(text, complaints));
            Refresh::Before(timeout.filter(|timeout| !timeout.is_zero()))
        }
        Some(other) => {
            line.error(complaints, format!("{other:?} is no way to refresh: write immediate or verify"));
            Refresh::After
        }
    };
    if rest.next().is_some() {
        line.error(
            complaints,
            "the TTL of old answers is 30 s, and when failures are checked again follows from servfail: delete \
             the last values",
        );
    }
    Some(Stale { up_to: up_to?, refresh })
}

/// RFC 2308 §7.
const SERVFAIL_MAX: Duration = Duration::from_mins(5);

fn servfail(line: &Line, kept: &mut Duration, complaints: &mut Complaints<'_>) {
    match line.one_duration(complaints) {
        Some(duration) if duration > SERVFAIL_MAX => line.error(complaints, "is at most 5m (RFC 2308)"),
        Some(duration) => *kept = duration,
        None => {}
    }
}

/// Reads `success|denial [ZONES...]`.
fn disable(line: &Line, cache: &mut Cache, complaints: &mut Complaints<'_>) {
    let Some((kind, domains)) = line.args.split_first() else {
        line.error(complaints, "takes success or denial, and perhaps domains: add it");
        return;
    };
    let kept = match &*kind.text {
        "success" => &mut cache.success,
        "denial" => &mut cache.denial,
        other => {
            line.error(complaints, format!("{other:?} is no kind of answers: write success or denial"));
            return;
        }
    };
    kept.disabled = if domains.is_empty() { vec![".".to_owned()] } else { all_domains(domains, complaints) };
}
