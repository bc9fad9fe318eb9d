//! `portolan lab demo`: two replicas behind a NodePort Service, asked from everywhere.

mod scene;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;

use self::scene::{CLIENT, CLUSTER_IP, HOSTS, NODE_PORT, POD_PORT, Scene};
use super::Program;
use super::style::Style;
use crate::probe::{self, Outcome, Request};
use crate::sandbox::{self, Entered};

/// Where the lab keeps its files: in the sandbox's private /run.
const STATE: &str = "/run/portolan-lab";
/// Enough that both pods answer, but for one time in 10^11.
const REQUESTS: usize = 40;

/// Builds the lab, shows it at work, and ends it. Succeeds only if every request was answered, and
/// by both pods.
pub(super) fn run(program: Program) -> anyhow::Result<ExitCode> {
    let style = Style::of_output();
    let begun = Instant::now();
    match sandbox::enter()? {
        Entered::Inside => {}
        Entered::Ended(code) => return Ok(code),
    }
    heading(style, "Two nodes, two pods and a client outside, made of network namespaces");
    let own = std::env::current_exe().context("finding this program")?;
    let scene = Scene::build(own, Path::new(STATE))?;
    show_places(style);

    heading(style, "One Service in front of the pods: default/hello-app-service");
    println!("  ClusterIP  {CLUSTER_IP}");
    println!("  NodePort   {NODE_PORT} on every node");
    let ready = begun.elapsed();

    let all_answered = ask_from_everywhere(style, &scene)? & ask_often(style, &scene)?;

    heading(style, "What the kernel of host1 holds for it");
    for line in scene.lab.node(HOSTS[0].node)?.run(program.listing)?.context("reading host1's rules")? {
        println!("  {line}");
    }
    let seconds = |time: std::time::Duration| format!("{:.1} s", time.as_secs_f64());
    println!(
        "\n{} Built in {}, done in {}; nothing of it stays.",
        if all_answered { style.good("Everything answered.") } else { style.bad("Not everything answered.") },
        seconds(ready),
        seconds(begun.elapsed())
    );
    println!("Next, with your own manifests: {} lab up FILE...", super::called());
    std::io::stdout().flush().context("writing")?;
    Ok(if all_answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The client, and the nodes with their pods.
fn show_places(style: Style) {
    let width = HOSTS.iter().map(|host| host.pod.len() + 2).max().unwrap_or_default();
    let line = |indented: &str, rest: &str| {
        // Padded before it is coloured: escapes have no width.
        println!("  {}  {rest}", style.strong(&format!("{indented:<width$}")));
    };
    line("client", &CLIENT.to_string());
    for host in &HOSTS {
        let network = style.faint(&format!("pods {}", host.pod_network));
        line(host.node, &format!("{}  {network}", host.address));
        let port = style.faint(&format!("port {POD_PORT}"));
        line(&format!("  {}", host.pod), &format!("{}  {port}", host.pod_address));
    }
}

fn node_port(host: &scene::Host) -> SocketAddr {
    SocketAddr::new(host.address.into(), NODE_PORT)
}

fn heading(style: Style, text: &str) {
    println!("\n{}", style.strong(text));
}

/// Sends a request from each place, and shows who answered; whether all were answered.
fn ask_from_everywhere(style: Style, scene: &Scene) -> anyhow::Result<bool> {
    heading(style, "A request from each place");
    let mut all_answered = true;
    let mut requests = vec![];
    requests.extend(HOSTS.iter().map(|host| ("client", node_port(host))));
    requests.extend(HOSTS.iter().map(|host| (host.node, CLUSTER_IP)));
    requests.extend(HOSTS.iter().map(|host| (host.pod, CLUSTER_IP)));
    for (from, to) in requests {
        let measured = scene.lab.namespace(from)?.run(|| probe::http(&Request::to(to)))?;
        let answer = match &measured.outcome {
            Outcome::Answered(answer) => {
                style.good(&format!("{} on {}, which saw {}", answer.pod, answer.node, answer.client.ip()))
            }
            other => {
                all_answered = false;
                style.bad(&other.to_string())
            }
        };
        let url = format!("http://{to}/");
        let took = style.faint(&format!("{:.1} ms", measured.took.as_secs_f64() * 1e3));
        println!("  {from:<11}  {url:<28}  {answer}  {took}");
    }
    Ok(all_answered)
}

/// Sends requests to each node's NodePort, and shows how many each pod answered; whether all were
/// answered, and by both pods.
fn ask_often(style: Style, scene: &Scene) -> anyhow::Result<bool> {
    let mut all_answered = true;
    heading(style, &format!("{REQUESTS} requests to each node's NodePort: each pod has an even chance"));
    for host in &HOSTS {
        let to = node_port(host);
        let outcomes = scene
            .lab
            .client()
            .run(|| (0..REQUESTS).map(|_| probe::http(&Request::to(to)).outcome).collect::<Vec<_>>())?;
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for outcome in outcomes {
            let who = outcome.answer().map_or_else(|| outcome.to_string(), |answer| answer.pod.clone());
            all_answered &= outcome.answer().is_some();
            *counts.entry(who).or_default() += 1;
        }
        all_answered &= counts.len() == HOSTS.len();
        for (number, (who, count)) in counts.iter().enumerate() {
            let place = if number == 0 { to.to_string() } else { String::new() };
            println!("  {place:<19}  {who:<11}  {} {count}", style.good(&"█".repeat(*count)));
        }
    }
    Ok(all_answered)
}
