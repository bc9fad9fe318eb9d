//! The lock that all programs take that change tables of iptables-legacy.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use super::report::Failure;

/// Where iptables has it. A container must share the directory or the file with the host.
pub(crate) const PATH: &str = "/run/xtables.lock";

/// How long to wait for others. They hold it while they replace one table: a second, for very large
/// ones.
const PATIENCE: Duration = Duration::from_secs(10);

/// The lock; released when dropped.
#[derive(Debug)]
pub(crate) struct XtablesLock {
    _file: File,
}

impl XtablesLock {
    /// Waits for it.
    pub(crate) fn take(path: &Path) -> Result<XtablesLock, Failure> {
        XtablesLock::take_within(path, PATIENCE)
    }

    fn take_within(path: &Path, patience: Duration) -> Result<XtablesLock, Failure> {
        let doing = format!("locking {}", path.display());
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|error| Failure::Refused {
                doing: doing.clone(),
                reason: format!("{error}: in a container, mount it from the host"),
            })?;
        // Waiting for a lock cannot be given up, so a thread does it. One that comes too late finds
        // nobody who takes the file, and closes it.
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || sender.send(file.lock().map(|()| file)));
        match receiver.recv_timeout(patience) {
            Ok(Ok(file)) => Ok(XtablesLock { _file: file }),
            Ok(Err(source)) => Err(Failure::System { doing, source }),
            Err(_) => Err(Failure::Refused {
                doing,
                reason: format!(
                    "another program has held the lock for {} seconds: try again",
                    patience.as_secs()
                ),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_others_and_not_for_ever() {
        let path = std::env::temp_dir().join(format!("portolan-xtables-lock-{}", std::process::id()));
        let held = XtablesLock::take(&path).expect("nobody else has it");
        let error = XtablesLock::take_within(&path, Duration::from_millis(50)).expect_err("it is held");
        assert!(error.to_string().contains("another program"), "{error}");
        let next = std::thread::spawn({
            let path = path.clone();
            move || XtablesLock::take(&path).map(drop)
        });
        drop(held);
        next.join().expect("no panic").expect("it was released");
        std::fs::remove_file(&path).expect("it is ours");
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = XtablesLock::take(Path::new("/nonexistent/xtables.lock")).expect_err("there is none");
        assert!(error.to_string().contains("/nonexistent/xtables.lock"), "{error}");
    }
}
