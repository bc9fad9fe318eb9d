//! `portolan trace` is asked of every row of the packet table what the packets of the row have
//! shown, over live rules, dumps and manifests: it must say the same.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use portolan_lab::netns::Namespace;
use portolan_service::{Family, Protocol};
use serde_json::{Value, json};

use crate::case::{Case, Client, Expected, Frontend, Mode, Setting, Source};
use crate::fixture::{self, HOST1, HOST1_SECOND, HOST2, OUTSIDE, OUTSIDE_OTHER, TARGET, underlay};
use crate::table::TABLE;
use crate::world::{World, destination, world};

/// Where the tracer takes its rules from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rules {
    Live,
    Dump,
    Manifests,
}

impl Rules {
    pub(crate) const ALL: [Rules; 3] = [Rules::Live, Rules::Dump, Rules::Manifests];
}

/// One row, one protocol, one family.
struct Asked {
    case: &'static Case,
    protocol: Protocol,
    family: Family,
    to: SocketAddr,
}

/// Asks for all rows of `setting` that hold in `mode`. Says of each that is answered wrongly what
/// was said.
pub(crate) fn agrees(mode: Mode, setting: Setting, rules: Rules) -> anyhow::Result<()> {
    let world = world(mode, setting).map_err(anyhow::Error::msg)?;
    let mut of_node: BTreeMap<&str, Vec<Asked>> = BTreeMap::new();
    for case in TABLE.iter().filter(|case| case.setting == setting && case.modes.contains(&mode)) {
        for protocol in case.protocols {
            for family in case.families {
                let to = destination(&fixture::service(case.service), case.frontend, *family);
                let asked = Asked { case, protocol: *protocol, family: *family, to };
                of_node.entry(node_of(case)).or_default().push(asked);
            }
        }
    }
    let mut wrong = Vec::new();
    for (node, all) in of_node {
        let answers = ask(&world, mode, setting, rules, node, &all)?;
        ensure!(answers.len() == all.len(), "{node}: {} answers to {} packets", answers.len(), all.len());
        for (asked, answer) in all.iter().zip(&answers) {
            if !is_right(mode, asked, node, answer) {
                let name = asked.case.name(mode, asked.protocol, asked.family);
                wrong.push(format!("{name}: on {node}: expected {:?}, traced {answer}", asked.case.expected));
            }
        }
    }
    ensure!(wrong.is_empty(), "{} rows are traced wrongly:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// The node whose rules decide: that of the address, for those that a node has; else the one the
/// client sends through.
fn node_of(case: &Case) -> &'static str {
    match (case.frontend, case.client) {
        (Frontend::NodePort | Frontend::SecondNodePort, _) => "host1",
        (Frontend::RemoteNodePort, _) | (_, Client::PodElsewhere) => "host2",
        _ => "host1",
    }
}

/// The line of `--packets` for a row.
fn line(asked: &Asked, node: &str) -> Value {
    let Asked { case, protocol, family, to } = asked;
    let (home, address): (&str, Option<IpAddr>) = match case.client {
        Client::PodHere => ("host1", Some(fixture::pod_address("client-a", *family))),
        Client::Endpoint => ("host1", Some(fixture::pod_address("a1", *family))),
        Client::PodElsewhere => ("host2", Some(fixture::pod_address("client-b", *family))),
        Client::Node => ("host1", None),
        Client::Outside => ("", Some(underlay(OUTSIDE, *family))),
        Client::OutsideOther => ("", Some(underlay(OUTSIDE_OTHER, *family))),
    };
    let mut line = json!({"to": to.to_string(), "protocol": protocol.to_string()});
    line["from"] = match address {
        Some(address) => address.to_string(),
        // To another node it goes from the address on the network between them.
        None if node != home => underlay(HOST1, *family).to_string(),
        None => "node".to_owned(),
    }
    .into();
    if address.is_some() || node != home {
        line["in_interface"] = if node == home { "cbr0" } else { "eth0" }.into();
    }
    line
}

/// Runs the program on `node` and returns its answers in order.
fn ask(
    world: &World,
    mode: Mode,
    setting: Setting,
    rules: Rules,
    node: &str,
    all: &[Asked],
) -> anyhow::Result<Vec<Value>> {
    let namespace = world.site.node(node);
    let launch = world.site.launch(node, []);
    let folder = tempfile::tempdir()?;
    let packets = folder.path().join("packets");
    let lines: Vec<String> = all.iter().map(|asked| line(asked, node).to_string()).collect();
    std::fs::write(&packets, lines.join("\n"))?;
    let mut command = Command::new(&launch.binary);
    command.arg("trace").arg("--packets").arg(&packets).args(["-o", "json"]);
    match rules {
        Rules::Live => {}
        Rules::Dump => {
            for address in addresses(node) {
                command.arg("--node-ip").arg(address.to_string());
            }
            let dumps: &[(&str, &str, &[&str])] = match mode {
                Mode::Nftables | Mode::Userspace => &[("--nft-json", "nft", &["-j", "list", "ruleset"])],
                Mode::Ipvs => &[
                    ("--nft-json", "nft", &["-j", "list", "ruleset"]),
                    ("--ipvsadm-save", "ipvsadm", &["-Sn"]),
                ],
                Mode::Iptables | Mode::Portals => &[
                    ("--iptables-save", "iptables-legacy-save", &[]),
                    ("--iptables-save", "ip6tables-legacy-save", &[]),
                ],
            };
            for (flag, program, arguments) in dumps {
                let path = folder.path().join(program);
                std::fs::write(&path, output(namespace, Command::new(program).args(*arguments))?.1)?;
                command.arg(flag).arg(path);
            }
        }
        Rules::Manifests => {
            command.arg("--manifests").arg(world.site.manifests().path());
            command.args(["--proxy-mode", mode.flag(), "--", "--hostname-override", node]);
            command.arg("--state-dir").arg(&launch.state);
            // The mode is the last of the flags that `portolan run` gets.
            command.args(mode.flags(setting).filter(|flag| !flag.starts_with("--proxy-mode")));
        }
    }
    let (status, text, said) = output(namespace, &mut command)?;
    ensure!(status == Some(0), "{command:?}: {status:?} {said}{text}");
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// All addresses of a node.
fn addresses(node: &str) -> Vec<IpAddr> {
    let (hosts, gateway): (&[u8], u8) = match node {
        "host1" => (&[HOST1, HOST1_SECOND], 1),
        _ => (&[HOST2], 2),
    };
    Family::ALL
        .into_iter()
        .flat_map(|family| {
            let hosts = hosts.iter().map(move |host| underlay(*host, family));
            hosts.chain([fixture::gateway(gateway, family)])
        })
        .collect()
}

/// What a program prints in a namespace: its exit code, and both outputs.
pub(crate) fn output(
    namespace: &Namespace,
    command: &mut Command,
) -> anyhow::Result<(Option<i32>, String, String)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = namespace.spawn(command).with_context(|| format!("{command:?}"))?.wait_with_output()?;
    if done.stdout.is_empty() && done.stderr.is_empty() && !done.status.success() {
        bail!("{command:?}: {}", done.status);
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((done.status.code(), text(&done.stdout), text(&done.stderr)))
}

/// Whether the answer is what the packets of the row have shown.
fn is_right(mode: Mode, asked: &Asked, node: &str, answer: &Value) -> bool {
    let Asked { case, family, to, .. } = asked;
    let verdict = answer["verdict"].as_str().unwrap_or_default();
    let endpoints = answer["endpoints"].as_array().map_or(&[][..], Vec::as_slice);
    let to_node = addresses(node).contains(&to.ip()) || to.ip().is_loopback();
    match case.expected {
        // The load balancer itself answers, or nobody: no rule translates.
        Expected::Answers(["lb"], _) | Expected::Untouched => verdict == "accept" && endpoints.is_empty(),
        // It ends at a socket of the proxy, which has an address of the node.
        Expected::Answers(..) if mode.has_sockets() => {
            let is_own = |traced: &Value| {
                let address = traced["ip"].as_str().and_then(|text| text.parse().ok());
                address.is_some_and(|address| addresses(node).contains(&address))
            };
            verdict == "forward" && matches!(endpoints, [socket] if is_own(socket))
        }
        // Delivered on the node: the proxy itself goes on from there.
        Expected::Answers(..)
            if matches!(mode, Mode::Nftables | Mode::Ipvs) && case.frontend == Frontend::LoopbackNodePort =>
        {
            verdict == "accept" && endpoints.is_empty()
        }
        Expected::Answers(pods, source) => {
            let wanted: Vec<(IpAddr, Option<u16>)> = pods
                .iter()
                .map(|pod| match pod.split_once(':') {
                    Some((pod, port)) => (fixture::pod_address(pod, *family), port.parse().ok()),
                    None => (fixture::pod_address(pod, *family), None),
                })
                .collect();
            let matches = |traced: &Value, (ip, port): &(IpAddr, Option<u16>)| {
                traced["ip"] == ip.to_string()
                    && port.is_none_or(|port| traced["port"] == port)
                    && (port.is_some() || traced["port"] == TARGET || traced["port"] == 9090)
            };
            let chances: f64 = endpoints.iter().filter_map(|traced| traced["probability"].as_f64()).sum();
            verdict == "forward"
                && endpoints.len() == wanted.len()
                && (chances - 1.0).abs() < 1e-6
                && wanted.iter().all(|pod| endpoints.iter().any(|traced| matches(traced, pod)))
                && endpoints.iter().all(|traced| {
                    let itself = case.client == Client::Endpoint
                        && traced["ip"] == fixture::pod_address("a1", *family).to_string();
                    let masqueraded = source == Source::Node || itself;
                    // The node has one of its own addresses either way.
                    case.client == Client::Node || traced["masquerade"] == masqueraded
                })
        }
        // A port of the node that nobody listens on is refused without a rule.
        Expected::Refused => verdict == "reject" || (verdict == "accept" && to_node),
        Expected::Dropped => verdict == "drop",
    }
}
