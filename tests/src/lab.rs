//! A lab of the program under test, built as a person builds one.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::site;

/// A lab that ends when this is dropped. Others of this user do not see it.
#[derive(Debug)]
pub struct OwnLab {
    folder: TempDir,
}

impl OwnLab {
    /// `portolan lab up` with these arguments.
    ///
    /// # Panics
    /// If [`site::use_binary`] was not called.
    pub fn up<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> anyhow::Result<OwnLab> {
        let lab = OwnLab { folder: TempDir::new().context("creating a folder")? };
        let up = lab.command("up", arguments)?;
        let said = String::from_utf8_lossy(&up.stderr);
        ensure!(up.status.success(), "portolan lab up: {}: {said}", up.status);
        Ok(lab)
    }

    /// A command of the lab, such as `exec`, with its arguments.
    pub fn command<A: AsRef<OsStr>>(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Output> {
        Command::new(site::binary())
            .args(["lab", name])
            .args(arguments)
            .env("XDG_RUNTIME_DIR", self.folder.path())
            .stdin(Stdio::null())
            .output()
            .context("starting portolan")
    }

    /// The file that leads clients to its API server.
    pub fn kubeconfig(&self) -> anyhow::Result<PathBuf> {
        let output = self.command::<&str>("kubeconfig", [])?;
        ensure!(output.status.success(), "portolan lab kubeconfig: {output:?}");
        Ok(String::from_utf8_lossy(&output.stdout).trim().into())
    }
}

impl Drop for OwnLab {
    fn drop(&mut self) {
        // It may have failed to come up.
        let _ = self.command::<&str>("down", []);
    }
}
