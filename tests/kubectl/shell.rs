//! A shell that a session is typed into: what one command sets, the next one has.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, bail};

/// A session that takes longer has failed, in seconds. It is far more than one takes on a busy
/// machine.
const PATIENCE: &str = "240";
/// What no command prints: the shell does when a command has ended.
const END: u8 = 1;

/// A running shell. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    /// A shell in `home` with this `PATH`, one more variable and no others.
    pub(crate) fn start(home: &Path, path: &OsStr, variable: (&str, &OsStr)) -> anyhow::Result<Shell> {
        let mut child = Command::new("timeout")
            .args([PATIENCE, "sh"])
            .current_dir(home)
            .env_clear()
            .env("PATH", path)
            .env("HOME", home)
            .env(variable.0, variable.1)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting a shell")?;
        let input = child.stdin.take().context("the shell's input")?;
        let output = BufReader::new(child.stdout.take().context("the shell's output")?);
        Ok(Shell { child, input, output })
    }

    /// Runs a command and returns what it printed, errors too.
    pub(crate) fn enter(&mut self, command: &str) -> anyhow::Result<String> {
        writeln!(self.input, "{{ {command}\n}} </dev/null 2>&1; printf '\\{END:03o}'")?;
        let mut printed = Vec::new();
        self.output.read_until(END, &mut printed)?;
        let ended = printed.pop_if(|last| *last == END).is_some();
        let printed = String::from_utf8_lossy(&printed).into_owned();
        if !ended {
            bail!("the session's {PATIENCE} s are over, or its shell has ended; printed:\n{printed}");
        }
        Ok(printed)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // `timeout` ends what it started, and then itself; it may have ended by itself.
        let _ = Command::new("kill").arg(self.child.id().to_string()).output();
        let _ = self.child.wait();
    }
}
