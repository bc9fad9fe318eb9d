//! `portolan trace`: says where a packet goes, and why, from the rules themselves.

mod args;
mod comments;
mod computed;
mod iptables_nft;
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
use portolan_service::Family;
use portolan_trace::explain::{Style, explain};
use portolan_trace::{Node, Record, evaluate};
use serde_json::Value;

pub(crate) use self::args::TraceArgs;
use self::args::{Place, SourceArgs, TraceOutput};
use self::computed::Computed;
use self::names::Names;
use self::packets_file::Asked;
use self::question::{OfRules, Question};
use self::rules::{Inputs, Rules};
use crate::describe::counted;

/// The exit status when a packet of `--packets` is not as expected.
const UNMET: u8 = 1;

/// A network, or an address with its network, and its interface.
type At = (IpNet, String);

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
    let packets = args.packets.as_ref().map(|path| input.read(path)).transpose()?;
    let mut known = match known(source, &mut input)? {
        Ok(known) => known,
        Err(code) => return Ok(code),
    };
    if let Some(interface) = &args.out_interface {
        leave_through(&mut known.node, interface);
    }
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

/// Whatever leaves `node` leaves through `interface`.
fn leave_through(node: &mut Node, interface: &str) {
    for (address, _) in &mut node.addresses {
        *address = IpNet::from(address.addr());
    }
    let everything = [IpNet::V4(ipnet::Ipv4Net::default()), IpNet::V6(ipnet::Ipv6Net::default())];
    node.routes = everything.map(|network| (network, interface.to_owned())).into();
}

/// Gathers rules, names and the node; or the exit code of a process inside that has done the rest.
fn known(source: &SourceArgs, input: &mut Inputs) -> anyhow::Result<Result<Known, ExitCode>> {
    let dumps = source.has_dumps();
    let (given, routes) = given(source, input)?;
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
    let mut node = match (&planned, given) {
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
    if !routes.is_empty() {
        node.routes = routes;
    }
    let rules = match (source.proxy_mode, &planned) {
        (Some(mode), Some((planned, ..))) => match planned.rules(mode)? {
            Computed::Rules(rules) => *rules,
            Computed::Ended(code) => return Ok(Err(code)),
        },
        _ if dumps => rules::from_dumps(source, input)?,
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

/// Addresses and routes of the node that flags give.
fn given(source: &SourceArgs, input: &mut Inputs) -> anyhow::Result<(Vec<At>, Vec<At>)> {
    let others = source.has_dumps() || source.proxy_mode.is_some();
    for (flag, files) in [
        ("--ip-addr", &source.ip_addr),
        ("--ip-route", &source.ip_route),
        ("--ipset-save", &source.ipset_save),
    ] {
        if !files.is_empty() && !others {
            anyhow::bail!("{flag} is for rules that are not this node's: give them, too, or leave it out");
        }
    }
    let mut addresses = Vec::new();
    for path in &source.ip_addr {
        let text = input.read(path)?;
        addresses.extend(Node::addresses_from(&text).with_context(|| path.display().to_string())?);
    }
    let known = |address: &IpAddr, all: &[At]| all.iter().any(|(own, _)| own.addr() == *address);
    for address in &source.node_ip {
        if !known(address, &addresses) {
            addresses.push((IpNet::from(*address), String::new()));
        }
    }
    let mut routes = Vec::new();
    for path in &source.ip_route {
        let text = input.read(path)?;
        routes.extend(Node::routes_from(&text).with_context(|| path.display().to_string())?);
    }
    Ok((addresses, routes))
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
