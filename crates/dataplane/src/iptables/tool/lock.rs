//! The locks that releases before 1.6.2 leave to the caller of iptables-restore (spec §5.2).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::removal::xtables_lock::{self, XtablesLock};

/// The abstract socket that releases before 1.4.21 lock with: whoever has bound the name
const SOCKET: &[u8] = b"xtables";
const PATIENCE: Duration = Duration::from_secs(5);
/// There is no event when a name is free again.
const INTERVAL: Duration = Duration::from_millis(50);

/// Both locks; released when dropped.
#[derive(Debug)]
pub(super) struct Locks {
    _file: XtablesLock,
    _socket: UnixListener,
}

impl Locks {
    /// Waits for both. The file is the one that `XTABLES_LOCKFILE` names, as for iptables itself.
    pub(super) fn take() -> Result<Locks, Error> {
        let path = std::env::var_os("XTABLES_LOCKFILE");
        let path = path.as_deref().map_or(Path::new(xtables_lock::PATH), Path::new);
        let file = XtablesLock::take(path).map_err(|failure| Error::Unusable(failure.to_string()))?;
        Ok(Locks { _file: file, _socket: bind(SOCKET, PATIENCE)? })
    }
}

fn bind(name: &[u8], patience: Duration) -> Result<UnixListener, Error> {
    let failed = |source| Error::Netlink { doing: "locking the abstract socket xtables".to_owned(), source };
    let address = SocketAddr::from_abstract_name(name).map_err(failed)?;
    let deadline = Instant::now() + patience;
    loop {
        match UnixListener::bind_addr(&address) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => return Err(failed(error)),
            Err(_) if Instant::now() >= deadline => {
                return Err(Error::Unusable(format!(
                    "another program has held the abstract socket xtables for {} seconds: try again",
                    patience.as_secs()
                )));
            }
            Err(_) => std::thread::sleep(INTERVAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_had_by_one_at_a_time() {
        let name = format!("portolan-test-xtables-{}", std::process::id());
        let held = bind(name.as_bytes(), Duration::ZERO).expect("nobody else has it");
        let error = bind(name.as_bytes(), Duration::ZERO).expect_err("it is held");
        assert!(error.to_string().contains("another program"), "{error}");
        let next = std::thread::spawn({
            let name = name.clone();
            move || bind(name.as_bytes(), Duration::from_mins(1)).map(drop)
        });
        drop(held);
        next.join().expect("no panic").expect("it was released");
    }
}
