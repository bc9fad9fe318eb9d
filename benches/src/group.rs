//! Servers that are measured: processes that are started on processors of their own, with all that
//! they start themselves.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::pace::{self, Pace};
use crate::process;

/// A process and what it has started. Killed when dropped.
pub(crate) struct Group {
    child: Child,
}

impl Group {
    /// Starts a process on these processors. It ends with the calling thread.
    pub(crate) fn start(mut command: Command, processors: &[usize], pace: Pace) -> anyhow::Result<Group> {
        let processors = processors.to_vec();
        // SAFETY: runs between fork and exec; what is called is system calls alone.
        unsafe {
            command.pre_exec(move || {
                pace::set_affinity(&processors)?;
                pace.take();
                Ok(())
            })
        };
        let child = process::die_with_parent(command.process_group(0)).spawn();
        let child = child.with_context(|| format!("starting {}", command.get_program().display()))?;
        Ok(Group { child })
    }

    /// Fails if it has ended.
    pub(crate) fn assert_alive(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait().context("looking after a server")? {
            bail!("a server ended: {status}");
        }
        Ok(())
    }

    /// The pipe to its input, if it was given one.
    pub(crate) fn input(&mut self) -> anyhow::Result<&mut ChildStdin> {
        self.child.stdin.as_mut().context("a server without the pipe it was given")
    }

    /// Processor time of all its processes that are there.
    pub(crate) fn processor(&self) -> anyhow::Result<Duration> {
        let mut sum = Duration::ZERO;
        for id in self.processes()? {
            // One that has ended meanwhile has used what is not known.
            sum += process::cpu_time(id).unwrap_or_default();
        }
        Ok(sum)
    }

    /// Resident memory of all its processes.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for id in self.processes()? {
            sum += process::memory(&id.to_string())?.resident;
        }
        Ok(sum)
    }

    /// The numbers of its processes.
    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").context("reading /proc")?.flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // One that has ended meanwhile.
            let Ok(text) = std::fs::read_to_string(format!("/proc/{id}/stat")) else { continue };
            let group = text.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(2)?.parse().ok());
            if group == Some(self.child.id()) {
                found.push(id);
            }
        }
        Ok(found)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Ok(group) = libc::pid_t::try_from(self.child.id()) {
            // SAFETY: sends a signal to the processes of the group that this server was started in.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
        // It was killed.
        let _ = self.child.wait();
        // Others of the group have its ports until they have ended too.
        let end = Instant::now() + Duration::from_secs(5);
        while self.processes().is_ok_and(|left| !left.is_empty()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Where a program is: on the path, or where Debian has servers.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}
