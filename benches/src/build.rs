//! What a newcomer compiles before the first glimpse, against the whole program as it is shipped.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::report::{Figure, Line, Required};

/// The first command of README.md builds what `cargo build --release` does.
const FIRST: &[&str] = &["build", "--release"];
/// What is shipped, which is also what the first command built when it was slow.
const SHIPPED: &[&str] = &["build", "--profile", "dist", "--package", "portolan"];

/// Builds both from nothing. Processor time is compared, because it depends little on what else the
/// machine does.
pub(crate) fn bench() -> anyhow::Result<Vec<Line>> {
    let first = measure(FIRST)?;
    let shipped = measure(SHIPPED)?;
    let line =
        Line::new("build", "README's first command", "processor time of the compiler", Figure::time(first))
            .against("the shipped program", Figure::time(shipped))
            .required(Required::TimesBetter(2.0));
    Ok(vec![line])
}

/// The processor time of cargo and all that it starts.
fn measure(arguments: &[&str]) -> anyhow::Result<Duration> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = tempfile::tempdir().context("creating a temporary folder")?;
    let before = of_children()?;
    let status = Command::new(cargo)
        .args(arguments)
        .args(["--quiet", "--locked", "--target-dir"])
        .arg(target.path())
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stdin(Stdio::null())
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "cargo {}: {status}", arguments.join(" "));
    Ok(of_children()?.saturating_sub(before))
}

/// The processor time of this process's children that have ended, and of theirs.
fn of_children() -> anyhow::Result<Duration> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills the structure that the pointer leads to, which lives until the call
    // returns.
    let result = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
    ensure!(result == 0, "getrusage: {}", std::io::Error::last_os_error());
    // SAFETY: zeroes are a valid value, and the call has succeeded.
    let usage = unsafe { usage.assume_init() };
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(time.tv_usec.unsigned_abs())
    };
    Ok(time(usage.ru_utime) + time(usage.ru_stime))
}
