//! Signals that end the program, and panics, which end it too. The rules stay in force in any case
//! (spec §11.22).

use std::io::Read;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;
use std::{fs, io, panic, process, thread};

use anyhow::Context;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use tracing::{error, info};

use crate::event::Event;
use crate::mailbox::Sender;

/// What ends the program. SIGHUP too: there is no configuration to read again, as a changed file is
/// noticed.
const ENDING: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];
/// A turn that is under way when a signal comes may take this long.
const PATIENCE: Duration = Duration::from_secs(3);

/// How the program ends.
pub(crate) struct Ending {
    /// How long whoever is asked to end may take.
    pub(crate) patience: Box<dyn Fn() -> Duration + Send>,
    /// What is to be known by then, for the log.
    pub(crate) last_words: &'static str,
}

impl Ending {
    /// Of a proxy: its rules stay, and the connections that it has itself go on for at most
    /// `draining`.
    pub(crate) fn of_proxy(draining: Duration) -> Ending {
        let patience = PATIENCE + draining;
        Ending { patience: Box::new(move || patience), last_words: "; the rules stay in force" }
    }
}

/// Where the handler writes the numbers of signals.
static NOTICES: AtomicI32 = AtomicI32::new(-1);

extern "C" fn notice(signal: i32) {
    let number = signal.to_ne_bytes();
    // SAFETY: write(2) is async-signal-safe, the descriptor is never closed, and the bytes are
    // here. If the pipe is full, there is one that says to end already.
    unsafe { libc::write(NOTICES.load(Ordering::Relaxed), number.as_ptr().cast(), number.len()) };
}

/// Ends the program in an orderly way when a signal asks for it: the turn that is under way is
/// finished. Signals that whoever started the program ignores (nohup(1)) stay ignored.
pub(crate) fn end_on_signals(events: &Sender<Event>, ending: Ending) -> anyhow::Result<()> {
    let (mut notices, handler) = io::pipe().context("a pipe for signals")?;
    nonblocking(&handler).context("a pipe for signals")?;
    NOTICES.store(handler.into_raw_fd(), Ordering::Relaxed);
    let events = events.clone();
    let wait = move || {
        let mut number = [0; 4];
        if notices.read_exact(&mut number).is_err() {
            return;
        }
        let signal = Signal::try_from(i32::from_ne_bytes(number)).map_or("a signal", Signal::as_str);
        info!("{signal}: ending{}", ending.last_words);
        let _ = events.send(Event::End);
        thread::sleep((ending.patience)());
        process::exit(0);
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).context("starting the signals thread")?;
    let ignored = ignored();
    let action = SigAction::new(SigHandler::Handler(notice), SaFlags::SA_RESTART, SigSet::empty());
    for signal in ENDING.into_iter().filter(|signal| ignored & (1 << (*signal as u32 - 1)) == 0) {
        // SAFETY: the handler does nothing but what is allowed in one.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("handling {signal}"))?;
    }
    Ok(())
}

fn nonblocking(pipe: &io::PipeWriter) -> io::Result<()> {
    // SAFETY: plain integer commands on a descriptor that `pipe` keeps open.
    let done = unsafe {
        let flags = libc::fcntl(pipe.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK)
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The signals that are ignored, a bit for each (proc_pid_status(5)).
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// From now on a panic in any thread ends the process, with code 1, instead of that thread alone:
/// what it did would never be done again, and nobody would know. The supervisor starts the program
/// again.
///
/// Threads whose names are `guarded` catch their panics. `last_words` are for the log, if there are
/// any.
pub(crate) fn end_on_panic(guarded: fn(&str) -> bool, last_words: &'static str) {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        report(panic);
        let thread = thread::current();
        let name = thread.name().unwrap_or("without a name");
        if guarded(name) {
            error!("the thread {name} has panicked, which is a fault of the program: {panic}; going on");
            return;
        }
        error!(
            "the thread {name} has panicked, which is a fault of the program: {panic}; ending, to be started again"
        );
        if !last_words.is_empty() {
            error!("{last_words}");
        }
        process::exit(1);
    }));
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    const CHILD: &str = "PORTOLAN_TEST_OF_PANICS";

    #[test]
    fn a_panic_in_any_thread_ends_the_process() {
        if std::env::var_os(CHILD).is_some() {
            end_on_panic(|_| false, "the rules stay in force");
            let ended = thread::Builder::new().name("follower".to_owned()).spawn(|| panic!("a bug")).unwrap();
            // Not reached the end of: the process ends.
            let _ = ended.join();
            thread::sleep(Duration::from_mins(1));
            return;
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "signals::tests::a_panic_in_any_thread_ends_the_process", "--nocapture"]);
        command.env(CHILD, "1").stdout(Stdio::null());
        let began = std::time::Instant::now();
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(began.elapsed() < Duration::from_secs(50), "at once");
        assert!(String::from_utf8_lossy(&output.stderr).contains("a bug"));
    }
}
