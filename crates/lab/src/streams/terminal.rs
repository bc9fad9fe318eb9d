//! Pseudo-terminals (pty(7)), and processes that lead a session.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::pty::{Winsize, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::unistd::setsid;
use portolan_apiserver::Size;

/// A new terminal: our end, which never blocks, and the other one.
pub(super) fn open() -> io::Result<(OwnedFd, File)> {
    let ours = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname_r(&ours)?;
    let theirs = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(name)?;
    Ok((ours.into(), theirs))
}

/// Makes a terminal as large as the client's. Its foreground processes get SIGWINCH.
pub(super) fn resize(terminal: &OwnedFd, size: Size) {
    let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
    // It fails for what is no terminal only.
    // SAFETY: TIOCSWINSZ reads one winsize (ioctl_tty(2)), which is there until the call is over,
    // as is the open descriptor.
    let _ = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
}

/// Has the command lead a session of its own, with its input as the terminal of the session if it
/// is one. Its group has the number of its process.
pub(super) fn lead_session(command: &mut Command, has_terminal: bool) {
    let lead = move || {
        setsid()?;
        if has_terminal {
            // SAFETY: TIOCSCTTY takes a number (ioctl_tty(2)); input is open by now.
            Errno::result(unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) })?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only what is safe in a signal handler may be called. These are
    // two system calls; they allocate nothing.
    unsafe { command.pre_exec(lead) };
}
