//! Steps of a benchmark, each in a process and a network namespace of its own.
//!
//! A process of its own, because two steps in one would share its peak memory. A namespace of its
//! own, because all rules and flows end with it.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::cluster::Shape;
use crate::rules::Rules;

/// What a child process does. Answers are lines of JSON on its output.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Step {
    /// Load a cluster into the kernel; with `listing`, write what `nft list ruleset` then says
    /// there.
    Load { shape: Shape, listing: Option<PathBuf> },
    /// Load this file with `nft -f`.
    LoadText { file: PathBuf },
    /// Time single changes of a loaded cluster, in the dataplane alone.
    Apply { shape: Shape, changes: u32 },
    /// Time single changes of files that `program` follows.
    Follow { program: PathBuf, shape: Shape, changes: u32 },
    /// Time endpoints that leave while clients are remembered, and while others are forged.
    Depart { shape: Shape, clients: u32, departures: u32, flood: bool },
    /// Set up forwarding, then time a flood of new flows for each line of input.
    Flood { rules: Rules, shape: Shape, flows: u32 },
    /// Time what one Service can do to the others.
    Hostile { source_ranges: u32 },
    /// Measure the memory of the planner alone.
    Planner { shape: Shape },
    /// Measure the memory of `program`.
    Resident { program: PathBuf, shape: Shape },
    /// Let `program` follow an API server.
    Cluster { program: PathBuf, services: usize, endpoints: usize, changes: usize },
    /// Load a cluster with this variant of iptables, then time changes of it.
    Iptables { variant: String, shape: Shape, changes: u32 },
    /// Load this file with iptables-restore.
    IptablesRestore { variant: String, file: PathBuf },
    /// Load a cluster in mode ipvs, then time changes of it.
    Ipvs { shape: Shape, changes: u32 },
    /// Load this file with `ipvsadm -R`.
    IpvsRestore { file: PathBuf },
    /// Ask servers for the names of so many Services, for so long each time; and measure the memory
    /// of ours with larger clusters too.
    Names { program: PathBuf, services: u32, seconds: u64, large: Vec<Shape> },
    /// Serve the names of a cluster, in the parent's network.
    ServeNames { shape: Shape, threads: usize },
    /// Have clients reach servers through proxies.
    Relay { amount: Amount },
    /// Be such a proxy, in the parent's network.
    ServeRelay,
}

/// A running child process.
pub(crate) struct Session {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// Runs `step` to its end and returns its answer. It is killed after `limit`.
pub(crate) fn run<T: DeserializeOwned>(step: &Step, limit: Duration) -> anyhow::Result<T> {
    let mut session = Session::start(step, limit)?;
    let answer = session.answer()?;
    session.end()?;
    Ok(answer)
}

impl Session {
    pub(crate) fn start(step: &Step, limit: Duration) -> anyhow::Result<Session> {
        let own = std::env::current_exe().context("finding this program")?;
        let mut child = Command::new(own)
            .arg("step")
            .arg(limit.as_secs().to_string())
            .arg(serde_json::to_string(step)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a process to measure in")?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.context("a child process without the pipes it was given")?;
        Ok(Session { child, input, output: BufReader::new(output) })
    }

    /// Asks for one more measurement.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        self.input.write_all(b"\n").context("asking a child process")?;
        self.answer()
    }

    /// The next answer.
    pub(crate) fn answer<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        self.output.read_line(&mut line).context("reading a child process's answer")?;
        if line.is_empty() {
            bail!("a step ended without an answer: {}", self.child.wait()?);
        }
        serde_json::from_str(&line).with_context(|| format!("a child process's answer {line:?}"))
    }

    /// Lets the process end and sees that it ended well.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        let Session { mut child, input, output } = self;
        // A process that waits for questions ends at the end of its input.
        drop(input);
        let ended = child.wait().context("waiting for a child process")?;
        drop(output);
        ensure!(ended.success(), "a step failed: {ended}");
        Ok(())
    }
}

/// Writes one answer.
pub(crate) fn answer(answer: &impl Serialize) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    serde_json::to_writer(&mut output, answer)?;
    output.write_all(b"\n")?;
    output.flush().context("answering the parent process")
}
