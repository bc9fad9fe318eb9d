//! What is left of a sandbox whose outer process is killed.

use std::io::{self, PipeReader, Read};
use std::net::IpAddr;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use portolan_lab::sandbox::{self, Entered};
use portolan_lab::topology::{Lab, NodeSpec, PodSpec, Spec};

/// The argument that makes this binary the process to be killed.
pub(crate) const ROLE: &str = "--be-killed";

/// Kills a sandbox with a lab in it, from outside, with SIGKILL, and waits for the end of every
/// process in it: each of them holds the writing end of one pipe, and a namespace lives no longer
/// than its processes and their descriptors.
pub(crate) fn leaves_nothing_behind() -> Result<(), String> {
    let explain = |error: io::Error| error.to_string();
    let (mut held, holder) = io::pipe().map_err(explain)?;
    let own = std::env::current_exe().map_err(explain)?;
    let mut command = Command::new(own);
    let mut victim = command.arg(ROLE).stdin(Stdio::null()).stdout(holder).spawn().map_err(explain)?;
    drop(command); // with our copy of the writing end
    let mut built = [0; 1];
    let started =
        readable(&held, Duration::from_secs(20)) && held.read(&mut built).is_ok_and(|read| read == 1);
    victim.kill().map_err(explain)?;
    victim.wait().map_err(explain)?;
    if !started {
        return Err("the sandbox was not built".to_owned());
    }
    if !readable(&held, Duration::from_secs(10)) {
        return Err("processes of the sandbox are alive 10 s after SIGKILL of the outer one".to_owned());
    }
    match held.read(&mut built).map_err(explain)? {
        0 => Ok(()),
        _ => Err("the sandbox went on working".to_owned()),
    }
}

fn readable(pipe: &PipeReader, within: Duration) -> bool {
    use std::os::fd::AsFd;
    let mut set = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    let within = PollTimeout::try_from(within).expect("a few seconds");
    poll(&mut set, within).is_ok_and(|ready| ready > 0)
}

/// Builds a lab with a process in a pod, says so, and waits to be killed.
pub(crate) fn victim() -> ExitCode {
    match sandbox::enter().expect("a sandbox") {
        Entered::Ended(code) => return code,
        Entered::Inside => {}
    }
    let spec = Spec {
        nodes: vec![NodeSpec {
            name: "node".to_owned(),
            addresses: vec!["192.168.50.1/24".parse().expect("a network")],
            pod_networks: vec!["10.244.1.0/24".parse().expect("a network")],
        }],
        pods: vec![PodSpec {
            name: "pod".to_owned(),
            node: "node".to_owned(),
            addresses: vec![IpAddr::from([10, 244, 1, 2])],
            ports: vec![80],
            host_network: false,
        }],
        ..Spec::default()
    };
    let lab = Lab::build(&spec).expect("a lab");
    let pod = lab.pod("pod").expect("the pod");
    // Inherits standard output, the pipe, and would outlive us by far.
    let mut process = pod.spawn(Command::new("sleep").arg("1000")).expect("a process in the pod");
    print!("!");
    io::Write::flush(&mut io::stdout()).expect("the pipe");
    process.wait().expect("waiting");
    ExitCode::SUCCESS
}
