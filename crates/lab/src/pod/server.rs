//! The command that a container runs, and the built-in server as a process of its own.

use std::net::IpAddr;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Place;
use super::image::Runs;
use super::process::Prepared;
use super::spec::{Container, Object};
use crate::responder::{Identity, Page, Responder};
use crate::sandbox::mount_proc;
use crate::search_path::search_path;

/// What the built-in server is to do, as it crosses to its process.
#[derive(Debug, Serialize, Deserialize)]
struct Task {
    identity: Identity,
    addresses: Vec<IpAddr>,
    page: Page,
    ports: Vec<u16>,
    datagrams: Vec<u16>,
    linger: u64,
}

/// Answers as the argument says, until SIGTERM or SIGINT. Call it before any thread is started.
pub fn serve(task: &str) -> ExitCode {
    match run(task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &str) -> Result<(), Box<dyn std::error::Error>> {
    let Task { identity, addresses, page, ports, datagrams, linger } = serde_json::from_str(task)?;
    // As a container's first process only.
    if std::process::id() == 1 {
        mount_proc()?;
    }
    let ending = ending();
    ending.thread_block()?;
    let _responder = Responder::start_here(&identity, page, &addresses, &ports, &datagrams)?;
    let listed = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    println!("{} answers on port {}", identity.pod, if listed.is_empty() { "none" } else { &listed });
    ending.wait()?;
    // As it was asked for: what it is to show is that it is still there.
    std::thread::sleep(Duration::from_secs(linger));
    Ok(())
}

/// The signals that end the server.
fn ending() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT].into_iter().collect()
}

/// The command of a container, with the container's environment. Of the lab's own that has `PATH`
/// only.
pub(super) fn command(
    runs: &Runs,
    container: &Container,
    object: &Object,
    place: &Place,
) -> Result<Prepared, String> {
    let is_server = matches!(runs, Runs::Server(_));
    let mut command = match runs {
        Runs::Program(words) => {
            let (program, arguments) = words.split_first().ok_or("there is no command")?;
            let mut command = Command::new(program);
            command.args(arguments);
            command
        }
        Runs::Dns => {
            let (program, arguments) = place.dns.split_first().ok_or("the lab has no DNS")?;
            let mut command = Command::new(program);
            command.args(arguments);
            command
        }
        Runs::Server(server) => {
            let loopback = place.addresses.iter().map(|address| match address {
                IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
                IpAddr::V6(_) => IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
            });
            let mut addresses: Vec<IpAddr> = place.addresses.iter().copied().chain(loopback).collect();
            addresses.sort_unstable();
            addresses.dedup();
            let task = Task {
                identity: Identity { pod: place.host_name.clone(), node: object.spec.node_name.clone() },
                addresses,
                page: server.page.clone(),
                ports: server.ports.clone(),
                datagrams: server.datagrams.clone(),
                linger: server.linger,
            };
            let (program, arguments) = place.server.split_first().ok_or("the lab has no server")?;
            let mut command = Command::new(program);
            command.args(arguments).arg(serde_json::to_string(&task).map_err(|error| error.to_string())?);
            command
        }
    };
    command.env_clear().env("PATH", search_path()).env("HOME", "/root").env("HOSTNAME", &place.host_name);
    command.envs(place.environment.iter().map(|(name, value)| (name, value)));
    for variable in &container.env {
        if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
            return Err(format!("{:?} is no name of a variable", variable.name));
        }
        let value = match field(&variable.value_from, object, place) {
            Some(value) => value,
            None => variable.value.clone(),
        };
        command.env(&variable.name, value);
    }
    if !container.working_dir.is_empty() {
        command.current_dir(&container.working_dir);
    }
    let held_back = if is_server { ending() } else { SigSet::empty() };
    Ok(Prepared { command, mounts_proc: is_server, held_back })
}

/// The value of a field of the pod that a variable stands for (`valueFrom.fieldRef`).
fn field(from: &Value, object: &Object, place: &Place) -> Option<String> {
    let path = from["fieldRef"]["fieldPath"].as_str()?;
    let metadata = &object.metadata;
    let first = |addresses: &[IpAddr]| addresses.first().map(ToString::to_string).unwrap_or_default();
    let all = |addresses: &[IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let value = match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "spec.nodeName" => object.spec.node_name.clone(),
        "spec.serviceAccountName" => object.spec.service_account_name.clone(),
        "status.podIP" => first(&place.addresses),
        "status.podIPs" => all(&place.addresses),
        "status.hostIP" => first(&place.host_addresses),
        "status.hostIPs" => all(&place.host_addresses),
        _ => {
            let entry = |kind: &str| path.strip_prefix(kind)?.strip_prefix("['")?.strip_suffix("']");
            let label = entry("metadata.labels").map(|key| metadata.labels.get(key));
            let found =
                label.or_else(|| entry("metadata.annotations").map(|key| metadata.annotations.get(key)));
            found.flatten().cloned().unwrap_or_default()
        }
    };
    Some(value)
}
