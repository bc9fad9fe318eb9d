//! `in-vm` itself, with guests that end in different ways. Without qemu, or without the kernel,
//! a test is ignored.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use libtest_mimic::{Arguments, Failed, Trial};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

const IN_VM: &str = env!("CARGO_BIN_EXE_in-vm");

/// A guest has two processors, and so may the machine have.
const THREADS: usize = 2;

/// `./test` names programs here that it has installed: if one is missing then, that is a failure.
const NEEDED: &str = "PORTOLAN_TESTS_NEED";

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let mut trials = Vec::new();
    for kernel in ["6.1", "6.12"] {
        let name = format!("Linux {kernel}: a program's output and status");
        trials.push(trial(&name, kernel, move || output_and_status(kernel)));
    }
    trials.push(trial("the limit ends a guest", "6.12", limit));
    trials.push(trial("a panic of the kernel is reported", "6.12", panic));
    trials.push(trial("a warning of the kernel fails the run", "6.12", warning));
    trials.push(trial("the guest ends with in-vm", "6.12", killed));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A trial that needs qemu and a kernel. Where one of them is missing, it is reported as ignored,
/// and its name says why.
fn trial(name: &str, kernel: &str, test: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    if !has("qemu-system-x86_64") {
        let needed = env::var(NEEDED).is_ok_and(|names| names.split(' ').any(|name| name == "qemu"));
        return Trial::test(format!("{name}: SKIPPED, install qemu-system-x86"), || {
            Err("qemu must not be missing".into())
        })
        .with_ignored_flag(!needed);
    }
    let downloaded = Command::new(IN_VM).args(["--kernel", kernel, "--download"]).output();
    match downloaded {
        Ok(output) if output.status.success() => Trial::test(name, test),
        downloaded => {
            let name = format!("{name}: SKIPPED, Linux {kernel} cannot be had");
            Trial::test(name, move || Err(format!("{downloaded:?}").into())).with_ignored_flag(true)
        }
    }
}

fn has(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A run of `script`, as root in a guest.
fn in_vm(options: &[&str], script: &str) -> Command {
    let mut command = Command::new(IN_VM);
    command.args(options).args(["sh", "-c", script]).stdin(Stdio::null());
    command
}

/// What is wrong with a run, unless it ended with `status` and said `words` on standard error.
fn check(output: &Output, status: i32, words: &[&str]) -> Result<(), Failed> {
    let said = String::from_utf8_lossy(&output.stderr);
    if let Some(word) = words.iter().find(|word| !said.contains(**word)) {
        return Err(format!("{word:?} is missing in: {said}").into());
    }
    if output.status.code() != Some(status) {
        return Err(format!("{}, not {status}: {said}", output.status).into());
    }
    Ok(())
}

fn output_and_status(kernel: &str) -> Result<(), Failed> {
    let script = "uname -r; id -u; echo $PORTOLAN_WORD $TWO; modprobe ip_vs && head -n 1 /proc/net/ip_vs; \
                  pwd; echo aside >&2; exit 7";
    let output =
        in_vm(&["--kernel", kernel, "--env", "TWO=2"], script).env("PORTOLAN_WORD", "a word").output()?;
    check(&output, 7, &["aside"])?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = printed.lines().collect();
    let folder = env::current_dir()?;
    let as_expected = matches!(
        lines[..],
        [version, "0", "a word 2", ip_vs, at]
            if version.starts_with(&format!("{kernel}."))
                && ip_vs.starts_with("IP Virtual Server")
                && Path::new(at) == folder
    );
    if as_expected { Ok(()) } else { Err(format!("the program printed {lines:?}").into()) }
}

fn limit() -> Result<(), Failed> {
    let started = Instant::now();
    let output = in_vm(&["--limit", "4"], "sleep 1000").output()?;
    check(&output, 124, &["ended after the limit of 4 s"])?;
    if started.elapsed() > Duration::from_mins(1) {
        return Err(format!("it took {:?}", started.elapsed()).into());
    }
    Ok(())
}

fn panic() -> Result<(), Failed> {
    let output = in_vm(&[], "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger").output()?;
    check(&output, 125, &["Kernel panic - not syncing: sysrq triggered crash", "the guest died"])
}

fn warning() -> Result<(), Failed> {
    // As if there had been one: 512 is the bit of warnings.
    let output = in_vm(&[], "echo 512 >/proc/sys/kernel/tainted").output()?;
    check(&output, 125, &["the kernel complained"])
}

fn killed() -> Result<(), Failed> {
    let mut child = in_vm(&[], "echo started; sleep 1000").stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no standard output")?).read_line(&mut line)?;
    let qemu = children(child.id())?;
    let qemu: Vec<_> =
        qemu.into_iter().map(|pid| pidfd_open(pid, PidfdFlags::empty())).collect::<Result<_, _>>()?;
    child.kill()?;
    child.wait()?;
    if line != "started\n" || qemu.is_empty() {
        return Err(format!("it printed {line:?} and had {} processes", qemu.len()).into());
    }
    for process in qemu {
        // Readable once it has ended (pidfd_open(2)).
        let mut end = [PollFd::new(&process, PollFlags::IN)];
        if poll(&mut end, Some(&Timespec { tv_sec: 15, tv_nsec: 0 }))? == 0 {
            return Err("a process of it is still there".into());
        }
    }
    Ok(())
}

/// The children of a process's threads.
fn children(process: u32) -> Result<Vec<Pid>, Failed> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let children = fs::read_to_string(task?.path().join("children"))?;
        let pids = children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
        found.extend(pids);
    }
    Ok(found)
}
