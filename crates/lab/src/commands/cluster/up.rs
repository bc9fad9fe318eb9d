//! `portolan lab up`

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::place::{Lock, Place};
use super::{UpArgs, control, report};
use crate::cluster::{Cluster, Options};
use crate::sandbox::{self, Entered};

/// The line with which a lab in the background reports that it is ready.
const READY: &str = "ready";

/// The line with which it reports that there is a lab of its name.
const TAKEN: &str = "taken";

/// Where a cluster keeps its files: in the sandbox's private /run.
const STATE: &str = "/run/portolan-lab";

/// Builds a lab; in the background, returns when it is ready.
pub(super) fn run(args: &UpArgs) -> anyhow::Result<ExitCode> {
    let place = Place::of(&args.lab.name)?;
    let files = args
        .files
        .iter()
        .map(|file| {
            fs::metadata(file).with_context(|| format!("reading {}", file.display()))?;
            // Not canonical: a link may lead elsewhere later.
            std::path::absolute(file).with_context(|| format!("finding {}", file.display()))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    if !args.foreground && !args.detached {
        return detach(args, &files, &place);
    }
    match place.take()? {
        Some(lock) => stay(args, files, &place, lock),
        None if args.detached => {
            println!("{TAKEN}");
            Ok(ExitCode::FAILURE)
        }
        None => bail!(is_running(&args.lab.name)),
    }
}

fn is_running(name: &str) -> String {
    format!("lab {name:?} is running; end it with `portolan lab down --name {name}`, or take another --name")
}

/// Starts this program again in the background and waits for its word.
fn detach(args: &UpArgs, files: &[PathBuf], place: &Place) -> anyhow::Result<ExitCode> {
    let log = place.open_log()?;
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command.args(["lab", "up", "--detached", "--name", &args.lab.name, "--nodes", &args.nodes.to_string()]);
    for mode in &args.proxy_mode {
        command.args(["--proxy-mode", &mode.to_string()]);
    }
    for entry in &args.nodeport_addresses {
        command.args(["--nodeport-addresses", entry]);
    }
    for pool in &args.load_balancer_pool {
        command.args(["--load-balancer-pool", pool]);
    }
    if args.no_dns {
        command.arg("--no-dns");
    }
    for network in &args.service_cluster_ip_range {
        command.args(["--service-cluster-ip-range", &network.to_string()]);
    }
    // Where the user is, which is how the lab's first words name files.
    if let Ok(folder) = std::env::current_dir() {
        command.arg("--from").arg(folder);
    }
    command.arg("--").args(files).current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().context("starting the lab in the background")?;
    let output = child.stdout.take().context("the lab's output")?;
    for line in BufReader::new(output).lines() {
        let line = line.context("reading the lab's output")?;
        if line == READY {
            let name = &args.lab.name;
            let other = if name == "default" { String::new() } else { format!(" --name {name}") };
            let program = super::called();
            println!(
                "\neval \"$({program} lab env{other})\" points kubectl there; {program} lab exec{other} client -- COMMAND looks \
                 around in there; {program} lab down{other} ends it."
            );
            return Ok(ExitCode::SUCCESS);
        }
        if line == TAKEN {
            child.wait().context("waiting for the lab")?;
            bail!(is_running(&args.lab.name));
        }
        println!("{line}");
    }
    let text = fs::read_to_string(place.log()).unwrap_or_default();
    child.wait().context("waiting for the lab")?;
    // Unless somebody has begun another one since.
    if let Some(_lock) = place.take()? {
        place.remove();
    }
    bail!("the lab did not come up\n{}", text.trim_end())
}

/// The lab itself.
fn stay(args: &UpArgs, files: Vec<PathBuf>, place: &Place, lock: Lock) -> anyhow::Result<ExitCode> {
    if args.detached {
        nix::unistd::setsid().context("leaving the terminal")?;
        // What the lab before has written in it.
        File::options().write(true).open(place.log()).and_then(|log| log.set_len(0)).context("the log")?;
    }
    // Made outside: the sandbox has another /run.
    let listener = UnixListener::bind(place.socket())
        .with_context(|| format!("creating {}", place.socket().display()))?;
    // These, too: in there, loopback is another one, and /run as well, where the place may be.
    let api =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening for clients of the API server")?;
    let mut kubeconfig = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(place.kubeconfig())
        .with_context(|| format!("creating {}", place.kubeconfig().display()))?;
    match sandbox::enter() {
        Ok(Entered::Ended(code)) => {
            // The log of a lab in the background that failed is for the one that waits, who removes
            // it.
            if !(args.detached && code == ExitCode::FAILURE) {
                place.remove();
            }
            drop(lock);
            return Ok(code);
        }
        Ok(Entered::Inside) => {}
        Err(error) => {
            place.remove();
            return Err(error.into());
        }
    }
    if args.detached {
        end_with_reader()?;
    }
    let cluster = Cluster::start(&Options {
        files,
        nodes: args.nodes.into(),
        state: STATE.into(),
        program: std::env::current_exe().context("finding this program")?,
        proxy_mode: args.usual_proxy_mode(),
        node_proxy_modes: args.node_proxy_modes(),
        nodeport_addresses: args.nodeport_addresses.clone(),
        load_balancer_pools: args.load_balancer_pool.clone(),
        dns: !args.no_dns,
        service_networks: args.service_cluster_ip_range.clone(),
        listener: api,
    })?;
    kubeconfig.write_all(cluster.kubeconfig()?.as_bytes()).context("writing the kubeconfig")?;
    let mut output = io::stdout();
    let mut text = report::status(&cluster.status(), args.from.as_deref());
    text.push_str(if args.detached { READY } else { "\nCtrl-C ends the lab." });
    // From here on, only a write that fails shows that nobody waits.
    WAITED_FOR.store(false, Ordering::Release);
    writeln!(output, "{text}").and_then(|()| output.flush()).context("reporting that the lab is ready")?;
    thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                match cluster.follow() {
                    Ok(()) => {}
                    // It is reported, and the last good state stays in force.
                    Err(error) => eprintln!("{error}"),
                }
            }
        });
        let Err(error) = control::serve(&listener, &cluster);
        eprintln!("{error:#}");
        // The follower waits for files for ever. The sandbox ends with this process.
        std::process::exit(1)
    })
}

/// Whether somebody waits for the lab to come up.
static WAITED_FOR: AtomicBool = AtomicBool::new(true);

/// Ends this process, and with it the lab, if the one that waits for it goes away before it is
/// ready.
fn end_with_reader() -> anyhow::Result<()> {
    let output = io::stdout().as_fd().try_clone_to_owned().context("the output")?;
    if io::stdout().is_terminal() {
        return Ok(());
    }
    thread::Builder::new()
        .name("reader".to_owned())
        .spawn(move || {
            // A pipe without reader is an error, which needs no asking for (poll(2)).
            let mut set = [PollFd::new(output.as_fd(), PollFlags::empty())];
            while poll(&mut set, PollTimeout::NONE) == Err(nix::errno::Errno::EINTR) {}
            if WAITED_FOR.load(Ordering::Acquire) {
                std::process::exit(1);
            }
        })
        .map(drop)
        .context("starting a thread")
}
