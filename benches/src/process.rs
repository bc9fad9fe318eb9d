//! What the kernel knows of processes: memory, and children that end with their parent.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// The memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Resident now (`VmRSS`).
    pub(crate) resident: u64,
    /// The most that was resident since the last [`forget_peak`] (`VmHWM`).
    pub(crate) peak: u64,
}

/// The memory of the process with this id, or `self`.
pub(crate) fn memory(process: &str) -> anyhow::Result<Memory> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    Ok(Memory { resident: field(&status, "VmRSS:")?, peak: field(&status, "VmHWM:")? })
}

/// Processor time that a process has used, in itself and in the kernel (`utime` and `stime` of
/// proc(5)).
pub(crate) fn cpu_time(process: u32) -> anyhow::Result<Duration> {
    let fields = stat(process)?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>();
    // SAFETY: takes and returns numbers.
    let a_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100);
    Ok(Duration::from_millis(ticks.with_context(|| fields)? * 1000 / a_second))
}

/// The parent of a process (`ppid` of proc(5)).
pub(crate) fn parent(process: u32) -> anyhow::Result<u32> {
    let fields = stat(process)?;
    let parent = fields.split_whitespace().nth(1).context("no parent")?;
    parent.parse().with_context(|| format!("{parent:?}"))
}

/// The memory of a process, with its part of what it shares with others (`Pss`), in bytes.
pub(crate) fn proportional(process: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{process}/smaps_rollup");
    field(&std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?, "Pss:")
}

/// What follows the name in `stat` of proc(5).
fn stat(process: u32) -> anyhow::Result<String> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    // The name, in brackets, may contain anything.
    Ok(text.rsplit_once(')').map_or("", |(_, fields)| fields).to_owned())
}

/// Starts this process's peak anew from what is resident.
pub(crate) fn forget_peak() -> anyhow::Result<()> {
    std::fs::write("/proc/self/clear_refs", "5").context("writing /proc/self/clear_refs")
}

/// Unreclaimable kernel memory of the whole machine (`SUnreclaim`), in bytes.
pub(crate) fn kernel_slab() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    field(&text, "SUnreclaim:")
}

/// Kernel memory of the whole machine that each processor has for itself (`Percpu`), in bytes.
pub(crate) fn kernel_per_processor() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    field(&text, "Percpu:")
}

/// A line such as `VmRSS:      1234 kB`.
fn field(text: &str, name: &str) -> anyhow::Result<u64> {
    for line in text.lines() {
        if let Some(value) = line.strip_prefix(name) {
            let kibibytes = value.trim().trim_end_matches("kB").trim().parse::<u64>();
            return Ok(kibibytes.with_context(|| format!("{line:?}"))? * 1024);
        }
    }
    bail!("no line {name}")
}

/// Makes `command` die with the thread that starts it, however that ends.
pub(crate) fn die_with_parent(command: &mut Command) -> &mut Command {
    // SAFETY: runs between fork and exec; prctl is async-signal-safe and touches no memory.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        })
    }
}

/// What a command that ended has used.
#[derive(Debug)]
pub(crate) struct Usage {
    pub(crate) status: std::process::ExitStatus,
    /// Bytes resident at most, its children not counted.
    pub(crate) peak: u64,
}

/// Runs `command` and waits for its end.
///
/// The kernel starts a process's peak at that of the process it was forked from: call from small
/// processes.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<Usage> {
    use std::os::unix::process::ExitStatusExt;
    let child = die_with_parent(command).spawn().with_context(|| format!("starting {command:?}"))?;
    let id = libc::pid_t::try_from(child.id()).context("a process id")?;
    let mut status = 0;
    // SAFETY: all zeroes are a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the right types; `child` is not waited for
    // anywhere else.
    if unsafe { libc::wait4(id, &raw mut status, 0, &raw mut usage) } != id {
        return Err(io::Error::last_os_error()).context("waiting for a child process");
    }
    let peak = u64::try_from(usage.ru_maxrss).context("a negative peak")? * 1024;
    Ok(Usage { status: std::process::ExitStatus::from_raw(status), peak })
}

/// Runs a program with `input` to its end and returns what it prints. It must succeed.
pub(crate) fn output_of(program: &str, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let mut pipe = child.stdin.take().context("a pipe")?;
    let (written, output) = thread::scope(|scope| {
        let writer = scope.spawn(move || pipe.write_all(input.as_bytes()));
        let output = child.wait_with_output();
        (writer.join(), output)
    });
    let output = output.with_context(|| format!("running {program}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {error}");
    written.map_err(|_| anyhow::anyhow!("writing to {program} panicked"))??;
    String::from_utf8(output.stdout).with_context(|| format!("reading what {program} says"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_bytes() {
        let text = "Name:\tx\nVmHWM:\t    1235 kB\nVmRSS:\t      16 kB\n";
        assert_eq!(field(text, "VmRSS:").unwrap(), 16 * 1024);
        assert_eq!(field(text, "VmHWM:").unwrap(), 1235 * 1024);
        assert!(field(text, "VmSwap:").is_err());
    }

    #[test]
    fn own_memory_is_seen() {
        let held = vec![1_u8; 32 << 20];
        let memory = memory("self").unwrap();
        assert!(memory.resident >= held.len() as u64, "{memory:?}");
        assert!(memory.peak >= memory.resident, "{memory:?}");
    }
}
