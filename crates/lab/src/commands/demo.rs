//! `portolan lab demo`: two replicas behind a NodePort Service, asked from everywhere.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;

use super::Program;
use super::report::{self, Style};
use super::up::STATE;
use crate::cluster::{Cluster, Options, ProxyMode};
use crate::probe::{self, Outcome, Request};
use crate::sandbox::{self, Entered};

const MANIFEST: &str = include_str!("demo/hello-app.yaml");
/// As the manifest has them.
const CLUSTER_IP: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 104, 81, 240)), 80);
const NODE_PORT: u16 = 30_811;
/// The addresses of the two pods.
const PODS: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(172, 16, 166, 130)),
    IpAddr::V4(std::net::Ipv4Addr::new(172, 16, 192, 89)),
];
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
    let file = std::path::Path::new("/run/hello-app.yaml");
    fs::write(file, MANIFEST).with_context(|| format!("writing {}", file.display()))?;
    heading(style, "Two nodes, two pods and a client outside, made of network namespaces");
    let cluster = Cluster::start(Options {
        files: vec![file.to_owned()],
        nodes: 2,
        pod_addresses: PODS.to_vec(),
        state: STATE.into(),
        program: std::env::current_exe().context("finding this program")?,
        proxy_mode: ProxyMode::default(),
        dns: false,
    })?;
    print!("{}", report::places(&cluster.status()));

    heading(style, "One Service in front of the pods: default/hello-app-service");
    println!("  ClusterIP  {CLUSTER_IP}");
    println!("  NodePort   {NODE_PORT} on every node");
    let ready = begun.elapsed();

    let all_answered = ask_from_everywhere(style, &cluster)? & ask_often(style, &cluster)?;

    heading(style, "What the kernel of host1 holds for it");
    for line in cluster.lab().node("host1")?.run(program.listing)?.context("reading host1's rules")? {
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

fn heading(style: Style, text: &str) {
    println!("\n{}", style.strong(text));
}

/// Sends a request from each place, and shows who answered; whether all were answered.
fn ask_from_everywhere(style: Style, cluster: &Cluster) -> anyhow::Result<bool> {
    heading(style, "A request from each place");
    let mut all_answered = true;
    let mut requests = vec![];
    for node in &cluster.status().nodes {
        requests.push(("client".to_owned(), SocketAddr::new(node.addresses[0], NODE_PORT)));
    }
    requests.extend(cluster.status().nodes.iter().map(|node| (node.name.clone(), CLUSTER_IP)));
    requests.extend(cluster.status().pods.iter().map(|pod| (pod.name.clone(), CLUSTER_IP)));
    for (from, to) in requests {
        let measured = cluster.lab().namespace(&from)?.run(|| probe::http(&Request::to(to)))?;
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
fn ask_often(style: Style, cluster: &Cluster) -> anyhow::Result<bool> {
    let mut all_answered = true;
    heading(style, &format!("{REQUESTS} requests to each node's NodePort: each pod has an even chance"));
    for node in &cluster.status().nodes {
        let to = SocketAddr::new(node.addresses[0], NODE_PORT);
        let outcomes = cluster
            .lab()
            .client()
            .run(|| (0..REQUESTS).map(|_| probe::http(&Request::to(to)).outcome).collect::<Vec<_>>())?;
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for outcome in outcomes {
            let who = outcome.answer().map_or_else(|| outcome.to_string(), |answer| answer.pod.clone());
            all_answered &= outcome.answer().is_some();
            *counts.entry(who).or_default() += 1;
        }
        all_answered &= counts.len() == PODS.len();
        for (number, (who, count)) in counts.iter().enumerate() {
            let place = if number == 0 { to.to_string() } else { String::new() };
            println!("  {place:<19}  {who:<11}  {} {count}", style.good(&"█".repeat(*count)));
        }
    }
    Ok(all_answered)
}
