//! The control socket itself, and who may use it.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::Path;

use tokio::net::{UnixListener, UnixStream};
use tracing::warn;

use crate::servers::listener::Accept;

/// Accepts root and the user that this process runs as.
pub(super) struct Guarded {
    listener: UnixListener,
    own: u32,
}

impl Accept for Guarded {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            match stream.peer_cred() {
                Ok(peer) if may_ask(peer.uid(), self.own) => return Ok(stream),
                Ok(peer) => warn!("control socket: user {} may not ask", peer.uid()),
                // It has gone away.
                Err(_) => {}
            }
        }
    }
}

/// Only root and our own user: what a cluster serves is nobody else's business.
fn may_ask(peer: u32, own: u32) -> bool {
    peer == 0 || peer == own
}

/// Listens on `path`, in the place of a socket that an earlier process left. Needs the runtime's
/// context.
pub(super) fn listen(path: &Path) -> io::Result<Guarded> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    }
    remove_stale(path)?;
    let listener = UnixListener::bind(path)?;
    // Whoever connects before this is asked for its user like everybody else.
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(Guarded { listener, own: rustix::process::geteuid().as_raw() })
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is something that is no socket; move it away",
            ));
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process serves it: is a second proxy running on this node?",
        )),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_our_own_user_may_ask() {
        for (peer, own, expected) in [
            (0, 0, true),
            (0, 1000, true),
            (1000, 1000, true),
            (1000, 0, false),
            (1001, 1000, false),
            (65534, 0, false),
        ] {
            assert_eq!(may_ask(peer, own), expected, "peer {peer}, own {own}");
        }
    }
}
