//! `portolan trace`: says where a packet goes, and why, from the rules themselves.
//!
//! `portolan_trace` has the model of rules, the readers of dumps and the evaluator, and does no
//! I/O. This crate gathers what they need: from files, the kernel, the running proxy, and the
//! program that it is a part of ([`Program`]). Then it prints the answer.

mod args;
mod by_name;
mod comments;
mod dumps;
mod input;
mod iptables_nft;
mod kernel_tables;
mod known;
mod live;
mod lookup;
mod meant;
mod names;
mod packets_file;
mod place;
mod printed;
mod program;
mod question;
mod rules;
mod this_host;
mod virtual_servers;
mod watch;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use ipnet::IpNet;
use portolan_service::Family;
use portolan_trace::explain::{Explanation, Next, Style, explain};
use portolan_trace::{Node, Record, evaluate};

pub use self::args::TraceArgs;
use self::args::TraceOutput;
use self::input::Inputs;
use self::known::{Gathered, Known, gather};
use self::packets_file::Asked;
use self::place::Place;
pub use self::program::{ComputeRules, ComputedRules, Plan, PlanRequest, PlannedServer, Program, RuleMode};
use self::question::{OfRules, Question};

/// The exit status when a packet of `--packets` is not as expected.
const UNMET: u8 = 1;

/// Answers, and prints the answer. The process must have one thread only.
pub fn trace(args: &TraceArgs, program: Program) -> anyhow::Result<ExitCode> {
    let mut input = Inputs::default();
    let source = &args.source;
    let packets = args.packets.as_ref().map(|path| input.read(path)).transpose()?;
    let mut known = match gather(source, &mut input, program)? {
        Gathered::Known(known) => *known,
        Gathered::Ended(code) => return Ok(code),
    };
    if let Some(interface) = &args.out_interface {
        leave_through(&mut known.node, interface);
    }
    known.names.services.next = next(args);
    for warning in &known.rules.warnings {
        eprintln!("portolan: {warning}");
    }
    let question = Question {
        from: args.from.clone().unwrap_or(Place::Outside),
        to: args.to.clone().unwrap_or(Place::Outside),
        protocol: args.protocol.map(Into::into),
        family: args.family.map(Into::into),
        in_interface: args.in_interface.clone(),
        state: args.state.into(),
        rules: if source.has_dumps() { OfRules::of(&known.rules.ruleset) } else { OfRules::default() },
        // The lab's only machine outside of the cluster.
        from_outside: args.in_lab.get(1).is_some_and(|from| from == "client"),
    };
    if args.watch {
        return watch::watch(args, &mut known, &question);
    }
    match (packets, &known.dns, &question.to) {
        (Some(packets), _, _) => many(args, &packets, &known, &question),
        (None, Some(dns), Place::Bare { name, port }) => {
            by_name::trace(args, &known, dns, &question, (name, port.as_deref()))
        }
        (None, _, _) => one(args, &known, &question),
    }
}

/// What whoever asks can do next.
fn next(args: &TraceArgs) -> Next {
    let source = &args.source;
    match &args.in_lab[..] {
        [lab, from, to] => Next::InLab {
            flag: if lab.is_empty() { String::new() } else { format!("--name {lab} ") },
            from: from.clone(),
            to: to.clone(),
        },
        _ if source.manifests.is_some() && source.proxy_mode.is_none() && !source.has_dumps() => {
            Next::ComputeRules
        }
        _ => Next::Nothing,
    }
}

fn one(args: &TraceArgs, known: &Known, question: &Question) -> anyhow::Result<ExitCode> {
    if args.lookup {
        anyhow::bail!(
            "--lookup: there is nothing to look up: give --to a DNS name such as web.shop, and names with --manifests, \
             or where a proxy runs"
        );
    }
    let explanation = explained(known, question)?;
    let mut text = match args.output {
        TraceOutput::Text => explanation.text(style(args)),
        TraceOutput::Json => serde_json::to_string_pretty(&explanation).context("writing JSON")?,
        TraceOutput::Dot => explanation.dot(),
        TraceOutput::Svg => explanation.svg(),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Where the packet of `question` goes, and why.
fn explained(known: &Known, question: &Question) -> anyhow::Result<Explanation> {
    let packet = question.packet(&known.names, &known.node)?;
    if let Some(taken) = question.address_taken(&known.names, &packet) {
        eprintln!("portolan: {taken}");
    }
    let answer = evaluate(&known.rules.ruleset, &known.node, &packet, Record::Steps);
    Ok(explain(&known.rules.ruleset, &known.node, &packet, &answer, &known.names.services))
}

fn style(args: &TraceArgs) -> Style {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    Style { colour, verbose: args.verbose, width: width() }
}

/// The terminal's width, if the shell exports it; otherwise 0: lines are as long as they come.
fn width() -> usize {
    std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(0)
}

/// A reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("standard output"),
        _ => Ok(()),
    }
}

fn many(args: &TraceArgs, packets: &str, known: &Known, template: &Question) -> anyhow::Result<ExitCode> {
    if matches!(args.output, TraceOutput::Dot | TraceOutput::Svg) {
        anyhow::bail!(
            "--packets prints one result a line: ask for -o text or -o json, or for one packet with --from and --to"
        );
    }
    let asked = Asked { ruleset: &known.rules.ruleset, node: &known.node, names: &known.names, template };
    for family in Family::ALL {
        for what in known.rules.ruleset.left_out(family) {
            eprintln!("portolan: {family}: {what}");
        }
    }
    let tally = packets_file::answer(packets, &asked, args.output, std::io::stdout().lock())?;
    if tally.unmet + tally.malformed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "portolan: {}: {} not as expected; {} without a packet",
        counted(tally.packets, "packet"),
        tally.unmet,
        counted(tally.malformed, "line")
    );
    Ok(ExitCode::from(UNMET))
}

/// A number of things: `1 packet`, `2 packets`.
fn counted(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// Whatever leaves `node` leaves through `interface`.
fn leave_through(node: &mut Node, interface: &str) {
    for (address, _) in &mut node.addresses {
        *address = IpNet::from(address.addr());
    }
    let everything = [IpNet::V4(ipnet::Ipv4Net::default()), IpNet::V6(ipnet::Ipv6Net::default())];
    node.routes = everything.map(|network| (network, interface.to_owned())).into();
}
