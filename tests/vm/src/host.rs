//! The side of the host: starts the machine, passes on what the program writes, and judges.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};

use crate::channel::{self, End, Report};
use crate::cli::Cli;
use crate::console::Console;
use crate::files::Files;
use crate::job::{self, Job};
use crate::machine::{self, Machine, Settings};
use crate::{FAILURE, image, kernel, tool};

/// The exit status after the time limit, as timeout(1) has it.
const LIMIT: u8 = 124;

/// Bits of /proc/sys/kernel/tainted that a test must not set: bad page, died, warning.
const COMPLAINTS: u64 = 1 << 5 | 1 << 7 | 1 << 9;

/// What the end of the channel meant.
enum Ended {
    Program(End),
    /// The channel was closed first.
    Guest,
    Limit,
}

/// Runs the program in a machine to its end.
pub(crate) fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let in_vm = env::current_exe().context("finding this program's own path")?;
    // <target>/<profile>/in-vm
    let target = in_vm.ancestors().nth(2).context("this program is outside of a cargo target directory")?;
    if cli.program == "cargo" {
        return cargo(cli, &in_vm);
    }
    let kernel = kernel::obtain(&cli.kernel, &target.join("vm"))?;
    if cli.download {
        return Ok(ExitCode::SUCCESS);
    }
    let archive = archive(cli, &kernel, &in_vm, target)?;
    let machine = machine::start(&Settings {
        kernel: &kernel.image,
        files: &archive,
        memory: cli.memory,
        cpus: cli.cpus,
        emulate: cli.emulate,
    })?;
    watch(machine, cli)
}

/// Runs cargo on this machine, and what it would run in a machine each, with the options that this
/// process was given.
fn cargo(cli: &Cli, in_vm: &Path) -> anyhow::Result<ExitCode> {
    // What comes before `cargo` and its arguments.
    let options = env::args_os().len().saturating_sub(1 + cli.arguments.len());
    let options = env::args_os().take(options).skip(1);
    let runner: Vec<String> = std::iter::once(in_vm.as_os_str().to_owned())
        .chain(options)
        .map(|word| word.into_string().map_err(|word| anyhow!("not UTF-8: {}", word.display())))
        .collect::<anyhow::Result<_>>()?;
    // A list of strings is written in JSON as it is in TOML.
    let runner = serde_json::to_string(&runner).context("writing the runner's words")?;
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .arg("--config")
        .arg(format!("target.'cfg(all())'.runner={runner}"))
        .args(&cli.arguments)
        .status()
        .context("starting cargo")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILURE)))
}

/// The guest's files. They are in a file without a name, which ends with those who have it open.
fn archive(cli: &Cli, kernel: &kernel::Kernel, in_vm: &Path, target: &Path) -> anyhow::Result<File> {
    let mut files = image::base(kernel, in_vm)?;
    for path in &cli.add {
        let found = if path.exists() { Some(path.clone()) } else { tool::find(path) };
        let found = found.with_context(|| format!("{}: no such file or program", path.display()))?;
        if found.is_dir() { files.add_all(&found, &[])? } else { drop(files.add_program(&found)?) }
    }
    let folder = env::current_dir().context("finding the current folder")?;
    let folder = files.add(&folder)?;
    let program = if Path::new(&cli.program).is_file() {
        let program = std::path::absolute(&cli.program).context("the program's path")?;
        if files.add_program(&program)?.starts_with(target) {
            add_repository(&mut files, &program)?;
        }
        program.into_os_string()
    } else {
        if let Some(found) = tool::find(&cli.program).filter(|found| !files.has(found)) {
            files.add_program(&found)?;
        }
        cli.program.clone()
    };
    let job = Job {
        program,
        arguments: cli.arguments.clone(),
        environment: environment(&cli.environment)?,
        folder,
    };
    files.text(job::PLACE, serde_json::to_vec(&job).context("writing the job")?);
    let file = tempfile::tempfile().context("creating a file for the guest's files")?;
    files.write(BufWriter::with_capacity(1 << 20, &file))?;
    Ok(file)
}

/// What tests that cargo built look for: the files of the repository, and the program under test,
/// if it has been built.
fn add_repository(files: &mut Files, test: &Path) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().with_context(|| format!("looking at {}", root.display()))?;
    files.add_all(&root, &[".git", "target"])?;
    // <profile>/deps/<test>
    let portolan = test.parent().and_then(Path::parent).map(|profile| profile.join("portolan"));
    if let Some(portolan) = portolan.filter(|path| path.is_file()) {
        files.add_program(&portolan)?;
    }
    Ok(())
}

fn environment(given: &[String]) -> anyhow::Result<Vec<(OsString, OsString)>> {
    let passed = env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        name.starts_with("PORTOLAN_") || name.starts_with("RUST_") || name == "CARGO_MANIFEST_DIR"
    });
    let mut all: Vec<_> = passed.collect();
    for variable in given {
        let (name, value) = variable.split_once('=').unwrap_or_default();
        ensure!(!name.is_empty(), "--env {variable}: it must be NAME=VALUE");
        all.push((name.into(), value.into()));
    }
    Ok(all)
}

/// Passes on what the guest reports, and judges its end.
fn watch(machine: Machine, cli: &Cli) -> anyhow::Result<ExitCode> {
    let Machine { mut process, channel, console } = machine;
    let verbose = cli.verbose;
    let console = thread::spawn(move || {
        Console::read(console, |line| {
            if verbose {
                eprintln!("kernel: {line}");
            }
        })
    });
    let mut complaints = process.stderr.take().context("qemu's standard error")?;
    let complaints = thread::spawn(move || {
        let mut text = String::new();
        complaints.read_to_string(&mut text).map(|_| text)
    });
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(pass_on(channel)));
    let ended = match receiver.recv_timeout(Duration::from_secs(cli.limit)) {
        Ok(ended) => ended.context("passing on what the program writes")?,
        Err(RecvTimeoutError::Timeout) => Ended::Limit,
        Err(RecvTimeoutError::Disconnected) => bail!("the thread that reads the channel has ended"),
    };
    if matches!(ended, Ended::Limit) {
        process.kill().context("ending qemu")?;
    }
    // After the program's end, the guest switches itself off, and so does one that died.
    process.wait().context("waiting for qemu")?;
    let console = console.join().ok().context("reading the console")?;
    if !verbose {
        console.alarms().iter().for_each(|line| eprintln!("kernel: {line}"));
    }
    let show_last = || {
        if !verbose {
            console.last(40).for_each(|line| eprintln!("kernel: {line}"));
        }
    };
    match ended {
        Ended::Program(End { taint, .. }) if taint & COMPLAINTS != 0 => {
            show_last();
            bail!("the kernel complained: tainted by {taint:#x}")
        }
        Ended::Program(End { status, .. }) => Ok(ExitCode::from(status)),
        Ended::Limit => {
            show_last();
            eprintln!("in-vm: ended after the limit of {} s", cli.limit);
            Ok(ExitCode::from(LIMIT))
        }
        Ended::Guest => {
            show_last();
            if let Ok(Ok(text)) = complaints.join() {
                text.lines().for_each(|line| eprintln!("qemu: {line}"));
            }
            eprintln!("in-vm: the guest died before the program ended");
            Ok(ExitCode::from(FAILURE))
        }
    }
}

/// Passes on what the program writes, until it ends.
fn pass_on(mut channel: UnixStream) -> io::Result<Ended> {
    loop {
        match channel::read(&mut channel) {
            Ok(Some(Report::Output(text))) => flushed(io::stdout(), &text)?,
            Ok(Some(Report::Errors(text))) => flushed(io::stderr(), &text)?,
            Ok(Some(Report::End(end))) => return Ok(Ended::Program(end)),
            // In the middle of a report or not, the guest is gone.
            Ok(None) | Err(_) => return Ok(Ended::Guest),
        }
    }
}

fn flushed(mut to: impl Write, text: &[u8]) -> io::Result<()> {
    to.write_all(text)?;
    to.flush()
}
