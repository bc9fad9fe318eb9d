//! One probe of a container, carried out.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::{Duration, Instant};

use portolan_probe::{Action, HttpGet, check_blocking};
use serde_json::Value;

use super::process::Running;
use super::spec::{Container, Probe};
use crate::netns::Namespace;

/// No more of a command's output is looked at, in bytes.
const MOST: usize = 10 << 10;

/// Carries out a probe as kubelet does: from the node, but for commands. Gives the words of
/// kubelet for what is wrong.
pub(super) fn check(
    probe: &Probe,
    container: &Container,
    address: Option<IpAddr>,
    node: &Namespace,
    running: &Running,
) -> Result<(), String> {
    let timeout = probe.timing().timeout;
    if let Some(exec) = &probe.exec {
        return run(&exec.command, running, Instant::now() + timeout, timeout);
    }
    let Some(action) = action(probe, container, address)? else { return Ok(()) };
    node.run(|| check_blocking(&action, timeout)).map_err(|error| error.to_string())?
}

/// What a probe asks over the network.
fn action(probe: &Probe, container: &Container, address: Option<IpAddr>) -> Result<Option<Action>, String> {
    let target = |host: &str, port: &Value| {
        let host = if host.is_empty() { address } else { host.parse().ok() };
        let host = host.ok_or("the host is no address")?;
        let port = container.port(port).ok_or_else(|| format!("there is no port {port}"))?;
        Ok::<SocketAddr, String>(SocketAddr::new(host, port))
    };
    Ok(if let Some(http) = &probe.http_get {
        let headers = http.http_headers.iter().map(|header| (header.name.clone(), header.value.clone()));
        Some(Action::Http(HttpGet {
            to: target(&http.host, &http.port)?,
            tls: http.scheme == "HTTPS",
            path: http.path.clone(),
            headers: headers.collect(),
        }))
    } else if let Some(tcp) = &probe.tcp_socket {
        Some(Action::Tcp(target(&tcp.host, &tcp.port)?))
    } else if let Some(grpc) = &probe.grpc {
        Some(Action::Grpc { to: target("", &grpc.port)?, service: grpc.service.clone() })
    } else {
        None
    })
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
    left.ok_or_else(|| io::ErrorKind::TimedOut.into())
}

fn run(command: &[String], running: &Running, deadline: Instant, timeout: Duration) -> Result<(), String> {
    let Some((program, arguments)) = command.split_first() else { return Err("no command".to_owned()) };
    let (mut output, writer) = io::pipe().map_err(|error| error.to_string())?;
    let mut command = running.command(program);
    let clone = writer.try_clone().map_err(|error| error.to_string())?;
    command.args(arguments).stdin(Stdio::null()).stdout(writer).stderr(clone);
    let started = running.spawn(&mut command);
    drop(command);
    let mut child = started.map_err(|error| format!("{program}: {error}"))?;
    let text = read_until(&mut output, deadline);
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(_)) => return Err(String::from_utf8_lossy(&text).into_owned()),
            Ok(None) if left(deadline).is_ok() => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                // Whatever became of it, it does not go on.
                let _ = child.kill();
                let _ = child.wait();
                let name = program.rsplit('/').next().unwrap_or_default();
                return Err(format!("command {name:?} timed out after {}s", timeout.as_secs()));
            }
        }
    }
}

/// What is written until the end, the deadline, or the most that is looked at.
fn read_until(output: &mut io::PipeReader, deadline: Instant) -> Vec<u8> {
    use std::os::fd::AsFd;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    let mut text = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(left) = left(deadline) {
        let mut set = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        let within = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        if !poll(&mut set, within).is_ok_and(|ready| ready > 0) {
            continue;
        }
        match output.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(length) if text.len() < MOST => text.extend_from_slice(&piece[..length]),
            Ok(_) => {}
        }
    }
    text
}
