//! `portolan trace --watch`: real packets, as nftables' own trace events show them.
//!
//! A table of our own has a chain before all other rules, which marks the packets that pass a
//! filter, and one after all others, where their way through the rules has ended. The table goes
//! with the process.

mod filter;
mod flight;
mod report;
mod rule_texts;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, anyhow, bail};
use portolan_netfilter::nft::{BaseChain, Batch, Chain, ChainType, Hook, TableRef};
use portolan_netfilter::socket::{CommitError, Socket};

use self::filter::{Filter, filters};
use self::flight::Flights;
use self::report::{Reporter, Seen};
use self::rule_texts::Texts;
use crate::args::{TraceArgs, TraceOutput};
use crate::known::Known;
use crate::question::Question;
use crate::{live, this_host};

/// How the names of our tables begin; the number of the process follows.
const TABLE: &str = "portolan-trace-";
/// Before all that other programs have: `raw` is at -300 (linux/netfilter_ipv4.h).
const FIRST: i32 = -350;
/// After all that they have: only connection tracking's own end is there.
const LAST: i32 = i32::MAX - 1;
/// How long one wait lasts at most, so that the kernel's milliseconds suffice for any.
const WAIT: Duration = Duration::from_hours(1);

/// Our table, in the families that are watched. Gone when dropped, and with the process.
struct Marking {
    socket: Socket,
    name: String,
    filters: Vec<Filter>,
}

impl Marking {
    fn begin(filters: Vec<Filter>) -> anyhow::Result<Marking> {
        let mut marking = Marking {
            socket: Socket::open().context("opening netfilter")?,
            name: format!("{TABLE}{}", std::process::id()),
            filters,
        };
        match marking.commit(true) {
            // EINVAL and EOPNOTSUPP are how kernels refuse a flag.
            Err(CommitError::Refused { errors })
                if errors.iter().any(|it| matches!(it.errno, libc::EINVAL | libc::EOPNOTSUPP)) =>
            {
                marking.commit(false).map_err(|error| not_marked(&error))?;
                eprintln!(
                    "portolan: this kernel is older than 5.12: if this command is killed, table {} stays, and `nft delete table` removes it",
                    marking.name
                );
            }
            result => result.map_err(|error| not_marked(&error))?,
        }
        Ok(marking)
    }

    fn commit(&mut self, owned: bool) -> Result<(), CommitError> {
        let mut batch = Batch::new();
        let comment = "packets that portolan trace --watch follows";
        for filter in &self.filters {
            let table = TableRef { family: filter.family, name: &self.name };
            if owned {
                batch.add_owned_table(table, comment);
            } else {
                batch.add_table(table, comment);
            }
            for (name, hook, priority) in [
                ("prerouting", Hook::Prerouting, FIRST),
                ("output", Hook::Output, FIRST),
                ("input", Hook::Input, LAST),
                ("postrouting", Hook::Postrouting, LAST),
            ] {
                let base = BaseChain { kind: ChainType::Filter, hook, priority };
                batch.add_chain(table, &Chain { name: name.to_owned(), kind: Some(base), comment: None });
            }
            batch.add_tracing_rule(table, "prerouting", &filter.tests);
            if !filter.incoming {
                batch.add_tracing_rule(table, "output", &filter.tests);
            }
        }
        self.socket.commit(&batch)
    }
}

impl Drop for Marking {
    fn drop(&mut self) {
        let mut batch = Batch::new();
        for filter in &self.filters {
            batch.delete_table(TableRef { family: filter.family, name: &self.name });
        }
        // Never made, or already gone.
        let _ = self.socket.commit(&batch);
    }
}

fn not_marked(error: &CommitError) -> anyhow::Error {
    match error {
        CommitError::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            anyhow!("watching packets: not allowed: run as root")
        }
        error => anyhow!("watching packets: {error}"),
    }
}

/// Follows packets until as many as asked were reported, the time is up, or nobody reads any more.
pub(crate) fn watch(args: &TraceArgs, known: &mut Known, question: &Question) -> anyhow::Result<ExitCode> {
    if matches!(args.output, TraceOutput::Dot | TraceOutput::Svg) {
        bail!("--watch prints one packet after the other: ask for -o text or -o json");
    }
    if live::legacy_in_use() {
        eprintln!(
            "portolan: iptables-legacy has rules here, of which the kernel reports no events: what they do to packets is not shown"
        );
    }
    let filters = filters(args.from.as_ref(), args.to.as_ref(), question, &known.names)?;
    let mut asking = Socket::open().context("opening netfilter")?;
    let mut texts = Texts::read(&mut asking)?;
    let mut hearing = Socket::open().context("opening netfilter")?;
    hearing.join_trace().context("listening to trace events")?;
    let marking = Marking::begin(filters)?;
    // Our own change of the rules concerns no text.
    let with_ours = asking.generation().context("asking for the generation of the rule set")?;
    if with_ours == texts.generation.wrapping_add(1) {
        texts.generation = with_ours;
    }
    eprintln!("portolan: watching; Ctrl-C ends it");

    let end = args.watch_for.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut flights = Flights::new(marking.name.clone());
    while left > 0 {
        let now = Instant::now();
        if end.is_some_and(|end| now >= end) {
            let last = flights.all();
            report(args, known, &mut texts, &mut asking, &last, &mut left)?;
            break;
        }
        let until_end = end.map(|end| end.saturating_duration_since(now));
        let wait = [flights.patience(now), until_end].into_iter().flatten().fold(WAIT, Duration::min);
        let heard =
            hearing.trace_events(wait, |event| flights.hear(event, Instant::now(), SystemTime::now()));
        match heard {
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                eprintln!("portolan: more packets than can be shown: some events were lost; watch for less");
            }
            result => drop(result.context("listening to trace events")?),
        }
        let ended = flights.ended(Instant::now());
        if !report(args, known, &mut texts, &mut asking, &ended, &mut left)? {
            break;
        }
    }
    drop(marking);
    Ok(ExitCode::SUCCESS)
}

/// Prints at most `left` packets. Returns whether anybody reads.
fn report(
    args: &TraceArgs,
    known: &mut Known,
    texts: &mut Texts,
    socket: &mut Socket,
    flights: &[flight::Flight],
    left: &mut u64,
) -> anyhow::Result<bool> {
    if flights.is_empty() {
        return Ok(true);
    }
    if socket.generation().context("asking for the generation of the rule set")? != texts.generation {
        *texts = Texts::read(socket)?;
        known.node = this_host::node().context("asking the kernel for addresses and routes")?;
    }
    let interfaces = this_host::interfaces().context("asking the kernel for interfaces")?;
    let reporter = Reporter { texts, names: &known.names, node: &known.node, interfaces: &interfaces };
    for flight in flights {
        if *left == 0 {
            break;
        }
        *left -= 1;
        let seen = reporter.report(flight);
        if !print(&seen, args)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns whether anybody reads: `| head` ends the watch.
fn print(seen: &Seen, args: &TraceArgs) -> anyhow::Result<bool> {
    let text = match args.output {
        TraceOutput::Json => serde_json::to_string(seen).context("writing JSON")? + "\n",
        _ => seen.text(args.verbose),
    };
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true).context("standard output"),
    }
}
