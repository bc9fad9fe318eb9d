//! Where running labs of a user are found: a folder for each, with a lock, a socket and a log.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

/// The folder of one lab.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
}

/// The right to use a folder. It is free when every process that inherited this has ended.
pub(super) type Lock = Flock<File>;

impl Place {
    /// The folder of the lab `name` of this user; it need not exist.
    pub(super) fn of(name: &str) -> anyhow::Result<Place> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
        let all = match runtime {
            Some(runtime) => runtime.join("portolan-lab"),
            None => PathBuf::from(format!("/tmp/portolan-lab-{}", geteuid())),
        };
        make_private(&all)?;
        Ok(Place { folder: all.join(name) })
    }

    /// Takes the folder, and clears away what a lab that crashed left in it; nothing if a lab is
    /// running there.
    pub(super) fn take(&self) -> anyhow::Result<Option<Lock>> {
        loop {
            make_private(&self.folder)?;
            let path = self.folder.join("lock");
            let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                // The lab before may have removed the folder in between.
                Ok(lock) if is_removed(&lock) => {}
                Ok(lock) => {
                    let socket = self.socket();
                    if socket.exists() {
                        fs::remove_file(&socket).with_context(|| format!("removing {}", socket.display()))?;
                    }
                    return Ok(Some(lock));
                }
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, errno)) => return Err(errno).with_context(|| format!("locking {}", path.display())),
            }
        }
    }

    /// Waits until the lab there has ended, and removes the folder.
    pub(super) fn wait_free(&self) -> anyhow::Result<()> {
        let path = self.folder.join("lock");
        // The lab removes it itself as its last deed.
        let Ok(file) = File::open(&path) else { return Ok(()) };
        match Flock::lock(file, FlockArg::LockExclusive) {
            Ok(lock) => {
                // Not the folder of a lab that has come since.
                if !is_removed(&lock) {
                    self.remove();
                }
                Ok(())
            }
            Err((_, errno)) => Err(errno).with_context(|| format!("waiting for {}", path.display())),
        }
    }

    /// Removes the folder.
    pub(super) fn remove(&self) {
        // Somebody else may be quicker; what is left is taken over by the next lab of this name.
        let _ = fs::remove_dir_all(&self.folder);
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join("control")
    }

    /// Where clients of the API server find it.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// What a lab in the background writes is added to it: it may be that of another one that runs.
    pub(super) fn open_log(&self) -> anyhow::Result<File> {
        make_private(&self.folder)?;
        let path = self.log();
        let log = File::options().create(true).append(true).open(&path);
        log.with_context(|| format!("creating {}", path.display()))
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

fn is_removed(lock: &Lock) -> bool {
    lock.metadata().is_ok_and(|found| found.nlink() == 0)
}

/// A folder that is this user's and closed to others.
fn make_private(folder: &Path) -> anyhow::Result<()> {
    let describe = || format!("creating {}", folder.display());
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(describe);
        }
        _ => {}
    }
    let found = fs::symlink_metadata(folder).with_context(describe)?;
    if !found.is_dir() {
        bail!("{} is no folder; remove it", folder.display());
    }
    let of_others = found.mode() & 0o077;
    let private = found.uid() == geteuid().as_raw() && of_others == 0;
    ensure!(
        private,
        "{} must belong to you and be closed to others (mode 0700); remove it",
        folder.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_is_there_as_long_as_its_lock_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { folder: folder.path().join("lab") };
        let lock = place.take().unwrap().expect("free");
        assert!(place.take().unwrap().is_none(), "a lab is running");
        fs::write(place.socket(), "").unwrap();
        drop(lock); // a crash
        let lock = place.take().unwrap().expect("stale");
        assert!(!place.socket().exists());
        drop(lock);
        place.wait_free().unwrap();
        assert!(!folder.path().join("lab").exists());
    }

    #[test]
    fn open_folders_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        DirBuilder::new().mode(0o777).create(&open).unwrap();
        fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert!(make_private(&open).unwrap_err().to_string().contains("closed to others"));
    }
}
