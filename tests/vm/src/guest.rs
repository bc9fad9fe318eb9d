//! The side of the guest: its first process, which makes the machine ready, runs the program, and
//! reports to the host.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::Pid;
use rustix::fs::inotify;

use crate::channel::{self, End, Report};
use crate::job::{self, Job};
use crate::modules;

/// The port of the channel: the first of the first virtio-serial device.
const PORT: &str = "/dev/vport0p1";
/// How long after its file the port may come.
const PORT_WITHIN: Duration = Duration::from_secs(30);
/// No such device (errno(3))
const ENXIO: i32 = 6;

/// File systems, and where. Those that a kernel does not have are left out.
const FILE_SYSTEMS: &[(&str, &str, &str)] = &[
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devtmpfs", "/dev", ""),
    ("devpts", "/dev/pts", "mode=0620,ptmxmode=0666"),
    ("tmpfs", "/dev/shm", "mode=1777"),
    ("cgroup2", "/sys/fs/cgroup", ""),
    ("bpf", "/sys/fs/bpf", ""),
];

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether this is the first process of a guest that was made for it.
pub(crate) fn is_guest() -> bool {
    std::process::id() == 1 && Path::new(job::PLACE).exists()
}

/// Does all that the guest is for. The machine is off at the end.
pub(crate) fn main() -> ! {
    if let Err(error) = serve() {
        // To the console. The host misses the report of the program's end, and shows this.
        eprintln!("in-vm: {error:#}");
    }
    let off = Command::new("busybox").args(["poweroff", "-f"]).env("PATH", PATH).status();
    // The end of the first process is a panic of the kernel, which ends the machine too.
    eprintln!("in-vm: switching off: {off:?}");
    std::process::exit(1)
}

fn serve() -> anyhow::Result<()> {
    mount_all();
    for (name, target) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        let link = format!("/dev/{name}");
        std::os::unix::fs::symlink(format!("/proc/self/fd{target}"), &link)
            .with_context(|| format!("creating {link}"))?;
    }
    busybox(&["ip", "link", "set", "lo", "up"])?;
    let port = open_port()?;
    let job = fs::read(job::PLACE).with_context(|| format!("reading {}", job::PLACE))?;
    let job: Job = serde_json::from_slice(&job).with_context(|| format!("reading {}", job::PLACE))?;
    let loaded = busybox(&[&["modprobe", "-a"], modules::LOADED].concat())?;
    ensure!(loaded.success(), "loading {}: {loaded}", modules::LOADED.join(", "));
    let before = taint()?;
    let status = run(&job, &port)?;
    let end = End { status, taint: taint()? & !before };
    report(&port, &Report::End(end)).context("reporting the program's end")
}

fn mount_all() {
    for (kind, place, options) in FILE_SYSTEMS {
        let mounted = fs::create_dir_all(place)
            .map_err(anyhow::Error::from)
            .and_then(|()| Ok(mount(Some(*kind), *place, Some(*kind), MsFlags::empty(), Some(*options))?));
        if let Err(error) = mounted {
            eprintln!("in-vm: mounting {place}: {error:#}");
        }
    }
}

fn busybox(arguments: &[&str]) -> anyhow::Result<ExitStatus> {
    let status = Command::new("busybox").args(arguments).env("PATH", PATH).status();
    status.with_context(|| format!("running busybox {}", arguments.join(" ")))
}

/// Opens the channel, once the kernel has found it.
fn open_port() -> anyhow::Result<Mutex<File>> {
    // Where they are part of the kernel there is no module, and this fails.
    busybox(&["modprobe", "-q", "-a", "virtio_pci", "virtio_console"])?;
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).context("watching /dev")?;
    inotify::add_watch(&watch, "/dev", inotify::WatchFlags::CREATE).context("watching /dev")?;
    let mut watch = File::from(watch);
    while !Path::new(PORT).exists() {
        // Which event it is does not matter.
        let _ = watch.read(&mut [0; 4096]).context("watching /dev")?;
    }
    let begun = Instant::now();
    loop {
        match OpenOptions::new().write(true).open(PORT) {
            // The file is there before the driver finds the port that it is for (`add_port` of
            // drivers/char/virtio_console.c), and nobody reports when it does.
            Err(error) if error.raw_os_error() == Some(ENXIO) && begun.elapsed() < PORT_WITHIN => {
                thread::sleep(Duration::from_millis(10));
            }
            opened => return opened.map(Mutex::new).with_context(|| format!("opening {PORT}")),
        }
    }
}

/// Bits of what has happened to the kernel.
fn taint() -> anyhow::Result<u64> {
    let path = "/proc/sys/kernel/tainted";
    let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    text.trim().parse().with_context(|| format!("{path}: {text:?}"))
}

fn report(port: &Mutex<File>, report: &Report) -> io::Result<()> {
    channel::write(&mut *port.lock().unwrap_or_else(PoisonError::into_inner), report)
}

/// Runs the program, and whatever it leaves behind for as long; returns its exit status.
fn run(job: &Job, port: &Mutex<File>) -> anyhow::Result<u8> {
    let (output, its_output) = io::pipe().context("a pipe")?;
    let (errors, its_errors) = io::pipe().context("a pipe")?;
    let child = Command::new(&job.program)
        .args(&job.arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8")
        .envs(job.environment.iter().cloned())
        .current_dir(&job.folder)
        .stdin(Stdio::null())
        .stdout(its_output)
        .stderr(its_errors)
        .spawn();
    let child = match child {
        Ok(child) => child,
        // As shells have it: 127 for what is not there, 126 for what cannot be run.
        Err(error) => {
            let text = format!("in-vm: starting {}: {error}\n", job.program.display());
            report(port, &Report::Errors(text.into_bytes())).context("reporting")?;
            return Ok(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 });
        }
    };
    let child = i32::try_from(child.id()).context("a process id")?;
    thread::scope(|scope| {
        let output = scope.spawn(|| pass_on(output, port, Report::Output));
        let errors = scope.spawn(|| pass_on(errors, port, Report::Errors));
        let status = reap(Pid::from_raw(child));
        // What still runs may hold the pipes open. Only this process is spared (kill(2)).
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        for passed in [output.join(), errors.join()] {
            passed.ok().context("a thread that passes output on")?.context("passing output on")?;
        }
        status
    })
}

/// Waits for the child's end, and meanwhile for that of all orphans.
fn reap(child: Pid) -> anyhow::Result<u8> {
    loop {
        match wait().context("waiting for the program")? {
            WaitStatus::Exited(pid, status) if pid == child => {
                return u8::try_from(status).context("an exit status");
            }
            WaitStatus::Signaled(pid, signal, _) if pid == child => {
                eprintln!("in-vm: {signal} ended the program");
                return u8::try_from(128 + signal as i32).context("a signal");
            }
            _ => {}
        }
    }
}

fn pass_on(mut from: impl Read, port: &Mutex<File>, kind: fn(Vec<u8>) -> Report) -> io::Result<()> {
    let mut buffer = vec![0; 32 << 10];
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        report(port, &kind(buffer[..length].to_vec()))?;
    }
}
