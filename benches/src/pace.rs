//! Which processor a process has, and how it comes before what else the machine does.

use anyhow::Context;

/// A real-time priority.
pub(crate) const URGENT: libc::c_int = 10;

/// Keeps the calling thread, and all that it starts, to one processor.
pub(crate) fn keep_to(processor: usize) -> anyhow::Result<()> {
    hurry(URGENT);
    set_affinity(&[processor]).context("keeping to one processor")
}

/// How a process comes before what else the machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// At a real-time priority, which the kernel takes away for up to 50 ms of each second if it
    /// has the processor all the time, and others want it.
    RealTime,
    /// As any process, with the largest share of the processor. So do processes run in a cluster.
    Share,
}

impl Pace {
    /// Has the calling thread, and all that it starts, run like this, if that is allowed.
    pub(crate) fn take(self) {
        match self {
            Pace::RealTime => hurry(URGENT),
            // SAFETY: as `hurry`; setpriority touches no memory.
            Pace::Share => unsafe {
                let how: libc::sched_param = std::mem::zeroed();
                libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const how);
                libc::setpriority(libc::PRIO_PROCESS, 0, -20);
            },
        }
    }
}

/// Whether the calling thread has a real-time priority.
pub(crate) fn is_real_time() -> bool {
    // SAFETY: touches no memory.
    unsafe { libc::sched_getscheduler(0) == libc::SCHED_FIFO }
}

/// Gives the calling thread, and all that it starts, a real-time priority, if that is allowed: then
/// what else the machine does is not measured.
pub(crate) fn hurry(priority: libc::c_int) {
    // SAFETY: all zeroes are a valid `sched_param`, and the kernel reads it.
    unsafe {
        let mut how: libc::sched_param = std::mem::zeroed();
        how.sched_priority = priority;
        libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const how);
    }
}

/// Keeps the calling thread, and all that it starts, to these processors.
pub(crate) fn set_affinity(processors: &[usize]) -> std::io::Result<()> {
    // SAFETY: all zeroes are a valid `cpu_set_t`, CPU_SET writes within it, the kernel reads it.
    let done = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for processor in processors {
            libc::CPU_SET(*processor, &mut set);
        }
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
