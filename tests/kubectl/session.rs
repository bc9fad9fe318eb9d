//! A session and what it is typed against.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::cluster::Cluster;
use crate::matching::matches;
use crate::shell::Shell;

/// What a session is typed against.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Against {
    /// An API server, which `KUBECONFIG` leads to, with a stand-in for the rest of the cluster.
    Server,
    /// Labs that the session builds itself.
    Lab,
}

/// A session that is to be typed.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) file: PathBuf,
    pub(crate) against: Against,
    /// The folder that has the kubectl.
    pub(crate) kubectl: PathBuf,
}

/// A command of a session and the lines that it prints.
struct Step {
    line: usize,
    command: String,
    printed: Vec<String>,
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (position, line) in text.lines().enumerate() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { line: position + 1, command: command.to_owned(), printed: Vec::new() });
        } else if let Some(step) = steps.last_mut()
            && !line.starts_with('#')
            && !line.trim().is_empty()
        {
            step.printed.push(line.to_owned());
        }
    }
    steps
}

impl Session {
    /// Types it into a shell. The first command that prints something else ends it.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let home = tempfile::tempdir()?;
        let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubectl/files");
        for file in fs::read_dir(files)?.flatten() {
            fs::copy(file.path(), home.path().join(file.file_name()))?;
        }
        let portolan = portolan_tests::site::binary();
        symlink(portolan, home.path().join("portolan"))?;
        let mut path = OsString::from(&self.kubectl);
        for folder in [home.path().as_os_str(), &std::env::var_os("PATH").unwrap_or_default()] {
            path.push(":");
            path.push(folder);
        }
        match self.against {
            Against::Server => {
                let cluster = Cluster::start();
                let kubeconfig = home.path().join("kubeconfig");
                cluster.kubeconfig(&kubeconfig)?;
                let shell = Shell::start(home.path(), &path, ("KUBECONFIG", kubeconfig.as_os_str()))?;
                let done = self.type_into(shell);
                cluster.stop();
                done
            }
            Against::Lab => {
                let _ended = Labs { portolan, folder: home.path() };
                let folder = ("XDG_RUNTIME_DIR", home.path().as_os_str());
                self.type_into(Shell::start(home.path(), &path, folder)?)
            }
        }
    }

    fn type_into(&self, mut shell: Shell) -> anyhow::Result<()> {
        let text = fs::read_to_string(&self.file).with_context(|| self.file.display().to_string())?;
        for step in steps(&text) {
            let place = format!("{}:{}: $ {}", self.file.display(), step.line, step.command);
            let text = shell.enter(&step.command).with_context(|| place.clone())?;
            let printed: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
            let fits = printed.len() == step.printed.len()
                && step.printed.iter().zip(&printed).all(|(pattern, line)| matches(pattern, line));
            if !fits {
                bail!("{place}\nexpected:\n{}\nprinted:\n{text}", step.printed.join("\n"));
            }
        }
        Ok(())
    }
}

/// The lab of a session, wherever that ended.
struct Labs<'a> {
    portolan: &'a Path,
    folder: &'a Path,
}

impl Drop for Labs<'_> {
    fn drop(&mut self) {
        // The session has ended it, if it came that far.
        let _ = Command::new(self.portolan)
            .args(["lab", "down"])
            .env("XDG_RUNTIME_DIR", self.folder)
            .stdin(Stdio::null())
            .output();
    }
}
