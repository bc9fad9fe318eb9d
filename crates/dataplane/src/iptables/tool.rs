//! The programs of iptables: which they are, what they hold, and what is written with them.

mod choice;
mod counters;
mod fingerprint;
mod lock;
mod process;
mod programs;
mod rejection;
#[cfg(test)]
mod tests;
mod version;

use std::path::{Path, PathBuf};
use std::time::Duration;

use portolan_service::Family;

use self::choice::Reason;
pub(super) use self::counters::ensure_counters;
pub(super) use self::fingerprint::Fingerprint;
use self::fingerprint::Reader;
use self::lock::Locks;
use self::process::Finished;
use self::programs::Programs;
pub(super) use self::rejection::RestoreError;
use crate::error::Error;
use crate::variant::Variant;

/// For how long a program may run (spec §5.4).
const LIMIT: Duration = Duration::from_mins(5);

/// iptables of one family.
#[derive(Debug)]
pub(super) struct Tool {
    family: Family,
    programs: Programs,
    reader: Reader,
}

impl Tool {
    /// Finds the programs of the variant that the host already uses (spec §5.1): the one in which
    /// kubelet, then an earlier service proxy, has left its chains; then the one with more rules;
    /// on an empty host whatever `iptables` is.
    ///
    /// They are looked for in `PATH`, then where distributions have them. Works in the calling
    /// thread's network namespace, as do all other calls. [`Error::Missing`] names the missing
    /// program, package or part of the kernel.
    pub(super) fn find(family: Family) -> Result<Tool, Error> {
        Tool::find_in(family, &programs::directories())
    }

    /// Finds the programs of this variant.
    pub(super) fn of(family: Family, variant: Variant) -> Result<Tool, Error> {
        let programs = Programs::find(family, Some((variant, Reason::Rules)), &programs::directories())?;
        let reader = Reader::open(variant, family)?;
        Ok(Tool { family, programs, reader })
    }

    fn find_in(family: Family, directories: &[PathBuf]) -> Result<Tool, Error> {
        let chosen = choice::choose()?;
        let programs = Programs::find(family, chosen, directories)?;
        let reason = chosen.map_or("it is what the host's iptables is", |(_, reason)| Reason::text(reason));
        let restore = programs.restore.display();
        tracing::info!(%family, version = %programs.version, %restore, reason, "found iptables");
        let reader = Reader::open(programs.version.variant(), family)?;
        Ok(Tool { family, programs, reader })
    }

    /// For which of the kernel's interfaces it is.
    pub(super) fn variant(&self) -> Variant {
        self.programs.version.variant()
    }

    /// MASQUERADE takes `--random-fully` (iptables 1.6.2 and later; spec §5.12).
    pub(super) fn random_fully(&self) -> bool {
        self.programs.version.random_fully()
    }

    /// What iptables-save prints, without counters; what is not UTF-8 in it is replaced. Comments,
    /// in lines that begin with `#`, are in it. All tables at once: iptables-nft-save reads all of
    /// them whichever is asked for.
    ///
    /// Fails if one of `tables` is not what iptables can read.
    pub(super) fn save(&self, tables: &[&str]) -> Result<String, Error> {
        let Finished { status, stdout, stderr } = self.run(&self.programs.save, &[], "")?;
        let unusable = |reason: &str| {
            Error::Unusable(format!("{}, {}: saving tables: {reason}", self.variant(), self.family))
        };
        if !status.success() {
            return Err(match rejection::read(self.variant(), self.family, "", &stderr) {
                RestoreError::Failed(error) => error,
                RestoreError::Rejected { message, .. } => unusable(&message),
            });
        }
        // It says so in a comment, and succeeds.
        let is_incompatible = |table: &&&str| {
            let begin = format!("# Table `{table}'");
            stdout.lines().any(|line| line.starts_with(&begin) && line.contains("is incompatible"))
        };
        match tables.iter().find(is_incompatible) {
            Some(table) => Err(unusable(&format!("table {table}: {}", rejection::INCOMPATIBLE))),
            None => Ok(stdout),
        }
    }

    /// Runs iptables-restore with `input`, as kube-proxy does (spec §5.3): chains that it does not
    /// name stay, and counters are as it says. Each table is one transaction, of which nothing is
    /// in force if one line of it is refused; the tables before it in the input are.
    ///
    /// Waits 5 seconds for the lock, which keeps other programs from writing at the same time (spec
    /// §5.2); takes at most 5 minutes.
    pub(super) fn restore(&self, input: &str) -> Result<(), RestoreError> {
        let mut arguments = vec!["--noflush", "--counters"];
        let locks = if self.programs.version.restore_locks() {
            arguments.extend(["-w", "5"]);
            None
        } else {
            Some(Locks::take()?)
        };
        let finished = self.run(&self.programs.restore, &arguments, input);
        drop(locks);
        let finished = finished?;
        if finished.status.success() {
            return Ok(());
        }
        Err(rejection::read(self.variant(), self.family, input, &finished.stderr))
    }

    /// The state of the tables, for comparison with itself at another time; costs one small
    /// request.
    pub(super) fn fingerprint(&mut self) -> Result<Fingerprint, Error> {
        self.reader.read()
    }

    fn run(&self, program: &Path, arguments: &[&str], input: &str) -> Result<Finished, Error> {
        process::run(program, arguments, input, LIMIT).map_err(|error| {
            Error::Unusable(format!(
                "{}, {}: running {}: {error}",
                self.variant(),
                self.family,
                program.display()
            ))
        })
    }
}
