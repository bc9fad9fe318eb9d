//! Folders that each node and the client has for itself, where programs expect one for a machine.

use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use crate::Error;

/// Where a proxy remembers its last state and allocations, unless it is started with another
/// `--state-dir`.
const STATE: &str = "/var/lib/portolan";
/// Where a proxy has its socket, unless it is started with another `--socket`.
#[cfg(feature = "cluster")]
const RUN: &str = "/run/portolan";

/// The folders of a node or the client, in the lab's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnFiles {
    /// What is `/run/portolan` there.
    pub(crate) run: PathBuf,
    /// What is `/var/lib/portolan` there.
    pub(crate) state: PathBuf,
}

/// Those of `name`, under the lab's `state`.
pub(crate) fn own_files(state: &Path, name: &str) -> OwnFiles {
    let own = state.join("own").join(name);
    OwnFiles { run: own.join("run"), state: own.join("state") }
}

impl OwnFiles {
    /// Puts them where programs look for them, in the caller's mount namespace.
    #[cfg(feature = "cluster")]
    pub(crate) fn put_in_place(&self) -> Result<(), Error> {
        self.create()?;
        for (own, place) in [(&self.run, RUN), (&self.state, STATE)] {
            fs::create_dir_all(place).map_err(Error::io(format!("creating {place}")))?;
            mount(Some(own.as_path()), place, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .map_err(|errno| Error::io(format!("mounting {} on {place}", own.display()))(errno))?;
        }
        Ok(())
    }

    /// Makes those that are not there.
    pub(crate) fn create(&self) -> Result<(), Error> {
        [&self.run, &self.state].into_iter().try_for_each(|folder| {
            fs::create_dir_all(folder).map_err(Error::io(format!("creating {}", folder.display())))
        })
    }
}

/// Makes the machine's own state folder invisible in the caller's mount namespace, which must be
/// private: no proxy of a lab reads or writes it. What is mounted there is empty.
pub(crate) fn hide_those_of_the_machine() -> Result<(), Error> {
    if !Path::new(STATE).is_dir() {
        // Nothing of the machine's is to be made in /var/lib, so a layer goes over it first.
        let layer = Path::new("/run/portolan-lab-layer");
        let (upper, work) = (layer.join("upper"), layer.join("work"));
        for folder in [&upper, &work] {
            fs::create_dir_all(folder).map_err(Error::io(format!("creating {}", folder.display())))?;
        }
        let options =
            format!("lowerdir=/var/lib,upperdir={},workdir={},userxattr", upper.display(), work.display());
        match mount(Some("overlay"), "/var/lib", Some("overlay"), MsFlags::empty(), Some(options.as_str())) {
            Ok(()) => {}
            // Kernels before 5.11 have no overlays in user namespaces: there, nothing at all shows
            // through.
            Err(Errno::EPERM | Errno::EINVAL | Errno::ENODEV) => {
                mount(Some("tmpfs"), "/var/lib", Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
                    .map_err(|errno| Error::io("mounting /var/lib")(errno))?;
            }
            Err(errno) => return Err(Error::io("mounting a layer over /var/lib")(errno)),
        }
        fs::create_dir(STATE).map_err(Error::io(format!("creating {STATE}")))?;
    }
    mount(Some("tmpfs"), STATE, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=0755"))
        .map_err(|errno| Error::io(format!("mounting {STATE}"))(errno))?;
    Ok(())
}
