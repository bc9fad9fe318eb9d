//! Reading a file only when it is complete.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Larger files are refused: a mistake, not manifests.
const MAX_SIZE: u64 = 256 << 20;

/// Chooses the signal for a broken lease (linux/fcntl.h via asm-generic/fcntl.h).
const F_SETSIG: libc::c_int = 10;

/// What reading a file gave.
#[derive(Debug)]
pub(super) enum Reading {
    /// All of its text.
    Text(String),
    /// Someone is writing it, or has just closed it.
    BeingWritten,
    /// There is no such file.
    Gone,
    /// It cannot be read, and why.
    Failed(String),
}

/// Reads the file at `path`, unless it is being written.
pub(super) fn read(path: &Path) -> Reading {
    match try_read(path) {
        Ok(read) => read,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Reading::Gone
        }
        Err(error) => Reading::Failed(format!("cannot be read: {error}")),
    }
}

fn try_read(path: &Path) -> io::Result<Reading> {
    // Opening a pipe must not wait for its writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let before = file.metadata()?;
    if !before.is_file() {
        return Ok(Reading::Failed("is not a regular file".to_owned()));
    }
    if before.len() > MAX_SIZE {
        return Ok(Reading::Failed(format!("has {} bytes, more than {MAX_SIZE}; split it", before.len())));
    }
    if is_being_written(&file) {
        return Ok(Reading::BeingWritten);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(before.len()).unwrap_or_default());
    (&file).take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    // A writer may have come while we read; what it left is complete only after its own end.
    let after = file.metadata()?;
    let stamp = |metadata: &std::fs::Metadata| {
        (metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec())
    };
    if is_being_written(&file) || stamp(&before) != stamp(&after) {
        return Ok(Reading::BeingWritten);
    }
    Ok(match String::from_utf8(bytes) {
        Ok(text) => Reading::Text(text),
        Err(error) => {
            let valid = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
            let line = valid.matches('\n').count();
            Reading::Failed(format!("is not UTF-8 text (line {})", line + 1))
        }
    })
}

/// Whether any process has the file open for writing: then, and only then, a read lease is refused
/// with EAGAIN (fcntl(2)). Where leases do not work (another's file, some file systems), the answer
/// is no.
fn is_being_written(file: &File) -> bool {
    let fd = file.as_raw_fd();
    // SAFETY: plain integer commands on a descriptor that `file` keeps open. The signal for a
    // broken lease is made SIGURG before there is a lease; it is ignored unless asked for. The
    // lease is given back at once.
    unsafe {
        libc::fcntl(fd, F_SETSIG, libc::SIGURG);
        if libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) == 0 {
            libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK);
            return false;
        }
    }
    io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN)
}
