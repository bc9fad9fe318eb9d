//! `--ready-fd`: a descriptor that whoever started the program passed to it, to learn when all
//! Services are in force.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, bail};

/// The descriptor, until it has been written to.
#[derive(Debug)]
pub(crate) struct ReadyFd {
    number: RawFd,
    pipe: File,
}

impl ReadyFd {
    /// Takes the descriptor `number`. Call it before anything else opens one, which could get the
    /// same number.
    pub(crate) fn take(number: RawFd) -> anyhow::Result<ReadyFd> {
        if number == libc::STDERR_FILENO {
            bail!("--ready-fd 2: that is standard error, where the log goes; pass another descriptor");
        }
        let failed = || format!("--ready-fd {number}");
        // SAFETY: these requests only read what the kernel knows of a number, which may be no
        // descriptor.
        let (flags, mode) =
            unsafe { (libc::fcntl(number, libc::F_GETFD), libc::fcntl(number, libc::F_GETFL)) };
        if flags < 0 || mode < 0 {
            bail!(
                "--ready-fd {number}: no such descriptor is open; whoever starts the program opens it, as in a shell \
                 `portolan run --ready-fd 3 3>FILE`"
            );
        }
        if mode & libc::O_ACCMODE == libc::O_RDONLY || mode & libc::O_PATH != 0 {
            bail!("--ready-fd {number}: the descriptor is not open for writing");
        }
        // Beyond the standard ones, and not for the programs that are started.
        // SAFETY: makes a descriptor that nobody else has.
        let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, libc::STDERR_FILENO + 1) };
        if copy < 0 {
            return Err(io::Error::last_os_error()).with_context(failed);
        }
        // SAFETY: the descriptor that was just made.
        let copy = unsafe { OwnedFd::from_raw_fd(copy) };
        if number > libc::STDERR_FILENO {
            // SAFETY: it was passed for this alone, is open, and is not used any more by its
            // number.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        } else {
            // Whatever is opened next must not become standard input or output.
            let nothing = File::options().read(true).write(true).open("/dev/null").with_context(failed)?;
            // SAFETY: replaces a standard descriptor, which nobody else owns.
            if unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&nothing), number) } < 0 {
                return Err(io::Error::last_os_error()).with_context(failed);
            }
        }
        Ok(ReadyFd { number, pipe: File::from(copy) })
    }

    /// Writes a newline, and closes it.
    pub(crate) fn announce(mut self) -> anyhow::Result<()> {
        self.pipe.write_all(b"\n").with_context(|| format!("--ready-fd {}", self.number))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::IntoRawFd;

    use super::*;

    #[test]
    fn it_says_once_that_it_is_ready() {
        let (mut reader, writer) = io::pipe().unwrap();
        let ready = ReadyFd::take(OwnedFd::from(writer).into_raw_fd()).unwrap();
        ready.announce().unwrap();
        let mut text = String::new();
        // Ends, since nobody else holds the other end.
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "\n");
    }

    #[test]
    fn what_cannot_be_written_to_is_refused() {
        let (reader, _writer) = io::pipe().unwrap();
        for (number, expected) in [
            (2, "where the log goes"),
            (-1, "no such descriptor is open"),
            (1_000_000, "no such descriptor is open"),
            (OwnedFd::from(reader).into_raw_fd(), "not open for writing"),
        ] {
            let error = ReadyFd::take(number).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("--ready-fd {number}: ")) && error.contains(expected),
                "{error}"
            );
        }
    }
}
