//! The program itself, running on a folder of manifests or in a cluster.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail, ensure};
use portolan_service::Protocol;
use tempfile::TempDir;

use crate::cluster::{Member, NODE, POD_NETWORK, Shape, members};
use crate::process;

/// `portolan run` with a cluster in force. Killed when dropped.
pub(crate) struct Program {
    child: Child,
    folder: TempDir,
}

/// Finds the program, built like this one; builds it where cargo started this one.
pub(crate) fn find() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("PORTOLAN_BIN") {
        return Ok(path.into());
    }
    let own = std::env::current_exe().context("finding this program")?;
    let profile = own.parent().context("this program has no folder")?;
    if let Some(cargo) = std::env::var_os("CARGO") {
        let target = profile.parent().context("a profile without a target directory")?;
        let name = match profile.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let built = Command::new(cargo)
            .args([
                "build",
                "--quiet",
                "--locked",
                "--package",
                "portolan",
                "--profile",
                name,
                "--target-dir",
            ])
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .context("starting cargo")?;
        ensure!(built.success(), "cargo build --package portolan: {built}");
    }
    let program = profile.join("portolan");
    ensure!(
        program.is_file(),
        "{} is missing: build package portolan, or set PORTOLAN_BIN",
        program.display()
    );
    Ok(program)
}

impl Program {
    /// Writes the manifests of a cluster, one file a Service, starts `program` on them in the
    /// network namespace of the calling thread, and waits until all Services are in force.
    pub(crate) fn start(program: &Path, shape: Shape) -> anyhow::Result<Program> {
        let folder = tempfile::tempdir().context("creating a temporary folder")?;
        let manifests = folder.path().join("manifests");
        fs::create_dir(&manifests).context("creating the folder of manifests")?;
        for member in members(shape, Protocol::Tcp) {
            fs::write(manifests.join(member.file_name()), member.manifest()).context("writing a manifest")?;
        }
        Program::launch(program, folder, NODE, POD_NETWORK, |command| {
            command.arg("--manifests").arg(&manifests);
        })
    }

    /// Starts `program` on `node` with its state in `folder` and the flags that `add` adds, and
    /// waits until all Services are in force.
    pub(crate) fn launch(
        program: &Path,
        folder: TempDir,
        node: &str,
        pods: &str,
        add: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Program> {
        let log = File::create(folder.path().join("log")).context("creating the log")?;
        let mut command = Command::new(program);
        // Its output is not used otherwise, so it can be the descriptor that reports readiness.
        command.args(["run", "--ready-fd", "1", "--hostname-override", node, "--cluster-cidr", pods]);
        command.arg("--state-dir").arg(folder.path().join("state"));
        command.arg("--socket").arg(folder.path().join("socket"));
        add(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let child = process::die_with_parent(&mut command)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let mut program = Program { child, folder };
        let mut ready = [0];
        let stdout =
            program.child.stdout.as_mut().context("a child process without the pipe it was given")?;
        if stdout.read(&mut ready).context("waiting for the program")? == 0 {
            bail!("the program ended before it was ready; it said:\n{}", program.log());
        }
        Ok(program)
    }

    /// Replaces the manifest of one Service. `renamed` is called right before the new file takes
    /// the place of the old one.
    pub(crate) fn replace<T>(&self, member: &Member, renamed: impl FnOnce() -> T) -> anyhow::Result<T> {
        let draft = self.folder.path().join("draft");
        fs::write(&draft, member.manifest()).context("writing a manifest")?;
        let file = self.folder.path().join("manifests").join(member.file_name());
        let called = renamed();
        fs::rename(&draft, &file).with_context(|| format!("replacing {}", file.display()))?;
        Ok(called)
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// It has not ended.
    pub(crate) fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait().context("looking after the program")?.is_none())
    }

    pub(crate) fn memory(&self) -> anyhow::Result<process::Memory> {
        process::memory(&self.child.id().to_string())
    }

    /// What it has logged, the end of it.
    pub(crate) fn log(&self) -> String {
        let log =
            fs::read_to_string(self.folder.path().join("log")).unwrap_or_else(|error| error.to_string());
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
