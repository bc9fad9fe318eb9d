//! A packet to a DNS name: the lookup, and then the packet to each address that it finds.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use portolan_service::{Family, FrontendKind, Protocol};
use portolan_trace::explain::Explanation;
use serde::Serialize;

use crate::args::{TraceArgs, TraceOutput};
use crate::known::Known;
use crate::lookup::{Answer, Code, Dns, Lookup, client};
use crate::meant::{likely, meant};
use crate::names::Names;
use crate::place::Place;
use crate::question::Question;
use crate::{explained, print, style};

/// The port that a DNS server is asked on.
const DNS_PORT: u16 = 53;
/// So many addresses of a name are followed for people.
const FOLLOWED: usize = 16;

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Found<'a> {
    lookup: &'a Lookup,
    /// The way of its questions.
    lookup_packet: Option<Explanation>,
    /// The way to each address.
    packets: Vec<Explanation>,
}

/// Looks `name` up as whoever sends the packet does, and follows the packet.
pub(crate) fn trace(
    args: &TraceArgs,
    known: &Known,
    dns: &Dns,
    question: &Question,
    (name, port): (&str, Option<&str>),
) -> anyhow::Result<ExitCode> {
    if matches!(args.output, TraceOutput::Dot | TraceOutput::Svg) {
        bail!("--to {name}: a picture shows the way to one address: give it, or ask for -o text or -o json");
    }
    let port = port.map(|port| {
        port.parse().map_err(|_| anyhow!("--to {name}:{port}: DNS knows no names of ports: give a number"))
    });
    let port: Option<u16> = port.transpose()?;
    let from = meant(&question.from, &known.names).context("--from")?;
    let who = client(&from, question.from_outside, dns, &known.names, &known.node)
        .with_context(|| format!("--to {name}"))?;
    let families = match question.family()? {
        Some(family) => vec![family],
        None => Family::ALL.to_vec(),
    };
    let lookup = Lookup::of(name, &who, &families, dns, &known.names);
    let addresses = lookup.addresses();
    let lookup_packet = match (args.lookup, lookup.servers.first()) {
        (true, Some(server)) => {
            let to = Question {
                to: Place::Address(*server, Some(DNS_PORT)),
                protocol: Some(Protocol::Udp),
                ..question.clone()
            };
            Some(explained(known, &to).context("--lookup")?)
        }
        (true, None) => bail!("--lookup: the address of the cluster's DNS is not known here"),
        (false, _) => None,
    };
    let mut packets = Vec::new();
    let mut passed_over = Vec::new();
    for address in &addresses {
        if !reaches(&from, &known.names, *address) {
            passed_over.push(*address);
            continue;
        }
        let (port, protocol) = port_at(*address, port, question.protocol, &known.names)
            .with_context(|| format!("--to {name}"))?;
        let to = Question {
            to: Place::Address(*address, Some(port)),
            protocol: Some(protocol),
            ..question.clone()
        };
        packets.push(explained(known, &to)?);
    }
    match args.output {
        TraceOutput::Json => {
            let found = Found { lookup: &lookup, lookup_packet, packets };
            print(&(serde_json::to_string_pretty(&found).context("writing JSON")? + "\n"))?;
        }
        _ => print(&text(args, &lookup, lookup_packet.as_ref(), &packets, &passed_over))?,
    }
    if addresses.is_empty() {
        eprintln!("portolan: --to {name}: {}", nothing(name, &lookup, &known.names));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn text(
    args: &TraceArgs,
    lookup: &Lookup,
    lookup_packet: Option<&Explanation>,
    packets: &[Explanation],
    passed_over: &[IpAddr],
) -> String {
    let mut text = lookup.text();
    let shown = packets.iter().take(FOLLOWED);
    for explanation in lookup_packet.into_iter().chain(shown) {
        text.push('\n');
        text.push_str(explanation.text(style(args)).trim_end());
        text.push('\n');
    }
    // Writing to a text cannot fail.
    if packets.len() > FOLLOWED {
        let more = packets.len() - FOLLOWED;
        let _ = writeln!(text, "\nThe ways to {more} more addresses are in -o json.");
    }
    for address in passed_over {
        let family = Family::of(*address);
        let _ = writeln!(text, "\n{address} is not followed: whoever asks has no {family} address.");
    }
    text
}

/// Whether whoever sends has an address of the same family.
fn reaches(from: &Place, names: &Names, to: IpAddr) -> bool {
    match from {
        Place::Address(address, _) => address.is_ipv4() == to.is_ipv4(),
        Place::Pod { namespace, name, .. } => names.pod(namespace, name, Some(Family::of(to))).is_ok(),
        _ => true,
    }
}

/// The port to ask for at an address: the one given, or the only one that something there has.
fn port_at(
    address: IpAddr,
    port: Option<u16>,
    protocol: Option<Protocol>,
    names: &Names,
) -> anyhow::Result<(u16, Protocol)> {
    let mut known = ports_at(address, names);
    known.retain(|(number, of)| {
        port.is_none_or(|port| port == *number) && protocol.is_none_or(|protocol| protocol == *of)
    });
    match (&known[..], port) {
        ([only], _) => Ok(*only),
        ([first, ..], Some(port)) => Ok((port, protocol.unwrap_or(first.1))),
        ([], Some(port)) => Ok((port, protocol.unwrap_or(Protocol::Tcp))),
        ([], None) => bail!("no port is known at {address}: give one, behind the name and `:`"),
        (several, None) => {
            let listed: Vec<String> =
                several.iter().map(|(port, protocol)| format!("{port}/{protocol}")).collect();
            bail!(
                "{address} has several ports: say which, behind the name and `:`; it has {}",
                listed.join(", ")
            )
        }
    }
}

/// The ports of the Service with this ClusterIP, or else of the endpoints there.
fn ports_at(address: IpAddr, names: &Names) -> Vec<(u16, Protocol)> {
    let services = names.services.services.iter();
    let frontends = services.clone().flat_map(|service| &service.frontends);
    let own = frontends.filter(|it| it.kind == FrontendKind::ClusterIp && it.address == Some(address));
    let mut ports: Vec<(u16, Protocol)> = own.map(|it| (it.port, it.protocol)).collect();
    if ports.is_empty() {
        let endpoints = services.flat_map(|service| &service.endpoints);
        let there: Vec<SocketAddr> =
            endpoints.map(|endpoint| endpoint.address).filter(|at| at.ip() == address).collect();
        ports = there.into_iter().map(|at| (at.port(), Protocol::Tcp)).collect();
    }
    ports.sort_unstable_by_key(|(port, protocol)| (*port, protocol.to_string()));
    ports.dedup();
    ports
}

/// Why there is no packet.
fn nothing(name: &str, lookup: &Lookup, names: &Names) -> String {
    let reason = |answer: &&Answer| answer.waits;
    if let Some(why) = lookup.questions.iter().find(reason).and_then(|answer| answer.why.as_ref()) {
        return format!("the name does not exist now: {why}");
    }
    let outside = lookup.questions.iter().find(|answer| answer.code == Code::Outside);
    if let Some(outside) = outside {
        let target = outside.aliases.last().unwrap_or(&outside.name);
        let meant = likely(name, names);
        let meant =
            if meant.is_empty() { String::new() } else { format!("; is {} meant?", meant.join(" or ")) };
        return format!("no name of the cluster; what others say of {target} is not known here{meant}");
    }
    "the name leads to no address".to_owned()
}
