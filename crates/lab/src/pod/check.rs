//! One probe of a container, carried out.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::process::Running;
use super::spec::{Container, HttpGet, Probe};
use crate::netns::Namespace;

/// No more of an answer or of a command's output is looked at, in bytes.
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
    let deadline = Instant::now() + probe.timeout();
    let target = |host: &str, port: &serde_json::Value| {
        let host = if host.is_empty() { address } else { host.parse().ok() };
        let host = host.ok_or("the host is no address")?;
        let port = container.port(port).ok_or_else(|| format!("there is no port {port}"))?;
        Ok::<SocketAddr, String>(SocketAddr::new(host, port))
    };
    if let Some(exec) = &probe.exec {
        return run(&exec.command, running, deadline, probe.timeout());
    }
    if let Some(http) = &probe.http_get {
        let to = target(&http.host, &http.port)?;
        return node.run(|| get(http, to, deadline)).map_err(|error| error.to_string())?;
    }
    if let Some(tcp) = &probe.tcp_socket {
        let to = target(&tcp.host, &tcp.port)?;
        let connected = node.run(|| connect(to, deadline)).map_err(|error| error.to_string())?;
        return connected.map(drop).map_err(|error| dial(to, &error));
    }
    Ok(())
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
    left.ok_or_else(|| io::ErrorKind::TimedOut.into())
}

fn connect(to: SocketAddr, deadline: Instant) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&to, left(deadline)?)
}

/// As Go puts it.
fn dial(to: SocketAddr, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused",
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "i/o timeout",
        io::ErrorKind::HostUnreachable => "connect: no route to host",
        _ => return format!("dial tcp {to}: {error}"),
    };
    format!("dial tcp {to}: {why}")
}

fn get(http: &HttpGet, to: SocketAddr, deadline: Instant) -> Result<(), String> {
    let is_tls = http.scheme == "HTTPS";
    let scheme = if is_tls { "https" } else { "http" };
    let path = if http.path.starts_with('/') { http.path.clone() } else { format!("/{}", http.path) };
    let url = format!("{scheme}://{to}{path}");
    let failed = |error: &io::Error| match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => format!(
            "Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        ),
        io::ErrorKind::UnexpectedEof => format!("Get \"{url}\": EOF"),
        _ => format!("Get \"{url}\": {}", dial(to, error)),
    };
    let mut stream = connect(to, deadline).map_err(|error| failed(&error))?;
    if is_tls {
        // Nothing here speaks TLS. That somebody listens is all that is known.
        return Ok(());
    }
    let mut lines = vec![
        format!("GET {path} HTTP/1.1"),
        "User-Agent: kube-probe/1.36".to_owned(),
        "Accept: */*".to_owned(),
        "Connection: close".to_owned(),
    ];
    if !http.http_headers.iter().any(|header| header.name.eq_ignore_ascii_case("host")) {
        lines.push(format!("Host: {to}"));
    }
    let plain = |text: &str| text.replace(['\r', '\n'], " ");
    let headers = http.http_headers.iter();
    lines.extend(headers.map(|header| format!("{}: {}", plain(&header.name), plain(&header.value))));
    let head = lines.join("\r\n") + "\r\n\r\n";
    let status = ask(&mut stream, head.as_bytes(), deadline).map_err(|error| failed(&error))?;
    if (200..400).contains(&status) {
        Ok(())
    } else {
        Err(format!("HTTP probe failed with statuscode: {status}"))
    }
}

/// The status of the answer.
fn ask(stream: &mut TcpStream, head: &[u8], deadline: Instant) -> io::Result<u16> {
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(head)?;
    let mut answer = Vec::new();
    let mut piece = [0; 512];
    while answer.len() < MOST && !answer.contains(&b'\n') {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => answer.extend_from_slice(&piece[..length]),
        }
    }
    let line = String::from_utf8_lossy(&answer);
    let status = line.split(' ').nth(1).and_then(|status| status.get(..3)?.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "malformed HTTP response"))
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
