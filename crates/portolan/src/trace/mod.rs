//! `portolan trace`: says where a packet goes, and why, from the rules themselves.

mod args;
mod comments;
mod computed;
mod kernel_tables;
mod names;
mod packets_file;
mod question;
mod rules;
mod this_host;
mod watch;

use std::io::{IsTerminal, Write};
use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::Context;
use ipnet::IpNet;
use portolan_observe::control::{self, Query, Table};
use portolan_trace::explain::{Style, explain};
use portolan_trace::{Node, Record, evaluate};
use serde_json::Value;

pub(crate) use self::args::TraceArgs;
use self::args::{Place, SourceArgs, TraceOutput};
use self::computed::Computed;
use self::names::Names;
use self::packets_file::Asked;
use self::question::Question;
use self::rules::{Inputs, Rules};
use crate::describe::counted;

/// The exit status when a packet of `--packets` is not as expected.
const UNMET: u8 = 1;

/// Everything that questions are answered from.
struct Known {
    rules: Rules,
    names: Names,
    node: Node,
}

/// Answers, and prints the answer.
pub(crate) fn trace(args: &TraceArgs) -> anyhow::Result<ExitCode> {
    let mut input = Inputs::default();
    let source = &args.source;
    let packets = match &args.packets {
        None => None,
        Some(path) => {
            let dumps = source.iptables_save.iter().chain(&source.nft_json);
            if path.as_os_str() == "-" && dumps.clone().any(|dump| dump.as_os_str() == "-") {
                anyhow::bail!(
                    "standard input (`-`) can be read only once: give --packets or the dump as a file"
                );
            }
            Some(input.read(path)?)
        }
    };
    let mut known = match known(source)? {
        Ok(known) => known,
        Err(code) => return Ok(code),
    };
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
    };
    if args.watch {
        return watch::watch(args, &mut known, &question);
    }
    match packets {
        Some(packets) => many(args, &packets, &known, &question),
        None => one(args, &known, &question),
    }
}

fn one(args: &TraceArgs, known: &Known, question: &Question) -> anyhow::Result<ExitCode> {
    let packet = question.packet(&known.names, &known.node)?;
    let answer = evaluate(&known.rules.ruleset, &known.node, &packet, Record::Steps);
    let explanation = explain(&known.rules.ruleset, &known.node, &packet, &answer, &known.names.services);
    let mut text = match args.output {
        TraceOutput::Text => {
            let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            explanation.text(Style { colour, verbose: args.verbose, width: width() })
        }
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

/// The terminal's width, if the shell tells it; otherwise lines are as long as they come.
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

/// Gathers rules, names and the node; or the exit code of a process inside that has done the rest.
fn known(source: &SourceArgs) -> anyhow::Result<Result<Known, ExitCode>> {
    let dumps = !source.iptables_save.is_empty() || !source.nft_json.is_empty();
    let given: Vec<(IpNet, String)> =
        source.node_ip.iter().map(|address| (IpNet::from(*address), String::new())).collect();
    let given = (!given.is_empty()).then(|| Node { addresses: given, ..Node::default() });
    let here = || this_host::node().context("asking the kernel for addresses and routes");
    let planned = match &source.manifests {
        None => None,
        Some(folder) => {
            let host = here()?;
            let node = given.as_ref().unwrap_or(&host);
            let addresses = |node: &Node| node.addresses.iter().map(|(address, _)| address.addr()).collect();
            let mut planned =
                computed::plan(folder, source.proxy_mode, &source.run_flags, Some(addresses(node)))?;
            // Planned for another machine: its Node object knows its addresses.
            let elsewhere = given.is_none()
                && !planned.node_addresses.is_empty()
                && !planned.node_addresses.iter().any(|address| host.is_local(*address));
            if elsewhere {
                planned = computed::plan(folder, source.proxy_mode, &source.run_flags, None)?;
            }
            Some((planned, elsewhere, host))
        }
    };
    let node = match (&planned, given) {
        (_, Some(given)) => given,
        (Some((planned, elsewhere, host)), None) if source.proxy_mode.is_some() => {
            if *elsewhere {
                of_addresses(&planned.node_addresses)
            } else {
                // Whether this machine forwards today says nothing of rules that it does not have.
                Node { host: None, ..host.clone() }
            }
        }
        (Some((planned, ..)), None) if dumps => of_addresses(&planned.node_addresses),
        (None, None) if dumps => Node::default(),
        _ => here()?,
    };
    let rules = match (source.proxy_mode, &planned) {
        (Some(mode), Some((planned, ..))) => match planned.rules(mode)? {
            Computed::Rules(rules) => *rules,
            Computed::Ended(code) => return Ok(Err(code)),
        },
        _ if dumps => rules::from_dumps(&source.iptables_save, &source.nft_json)?,
        _ => rules::live()?,
    };
    let mut names = match planned {
        Some((planned, ..)) => {
            for problem in &planned.problems {
                eprintln!("portolan: {problem}");
            }
            planned.names
        }
        None if dumps => Names { origin: "the comments of the rules", ..Names::default() },
        None => from_proxy(source),
    };
    names.told_by_rules.clone_from(&rules.services);
    names.without_proxy = !rules.ruleset.has_proxy();
    Ok(Ok(Known { rules, names, node }))
}

fn of_addresses(addresses: &[IpAddr]) -> Node {
    Node {
        addresses: addresses.iter().map(|address| (IpNet::from(*address), String::new())).collect(),
        ..Node::default()
    }
}

/// What the running proxy knows; nothing if none runs here: rules may be another's.
fn from_proxy(source: &SourceArgs) -> Names {
    let ask = |table: Table| -> Option<Value> {
        let mut answer = control::ask(&source.socket, &Query { table, namespace: None }).ok()?;
        answer.get_mut(table.name()).map(Value::take)
    };
    let rows = || {
        let services = serde_json::from_value(ask(Table::Services)?).ok()?;
        let endpoints = serde_json::from_value(ask(Table::Endpoints)?).ok()?;
        Some(names::from_rows(services, endpoints))
    };
    rows().unwrap_or_else(|| Names { origin: "the comments of the rules", ..Names::default() })
}
