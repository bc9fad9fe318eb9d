//! Folders that each node, pod and client has for itself, where programs expect one for a machine.

use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::PodFiles;
use crate::Error;

/// Where a proxy remembers its last state and allocations, unless it is started with another
/// `--state-dir`.
const STATE: &str = "/var/lib/portolan";
/// Where a proxy has its socket, unless it is started with another `--socket`.
const RUN: &str = "/run/portolan";

/// What a pod has for itself of `/etc`.
const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The folders of a node, a pod or the client, in the lab's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnFiles {
    /// What is `/run/portolan` there.
    pub(crate) run: PathBuf,
    /// What is `/var/lib/portolan` there.
    pub(crate) state: PathBuf,
    /// What a pod has in `/etc` for itself.
    etc: PathBuf,
}

/// Those of `name`, under the lab's `state`.
pub(crate) fn own_files(state: &Path, name: &str) -> OwnFiles {
    // A pod's name has its namespace before it; names of objects have no `+`.
    let own = state.join("own").join(name.replace('/', "+"));
    OwnFiles { run: own.join("run"), state: own.join("state"), etc: own.join("etc") }
}

impl OwnFiles {
    /// Puts them where programs look for them, in the caller's mount namespace.
    pub(crate) fn put_in_place(&self) -> Result<(), Error> {
        self.create()?;
        for (own, place) in [(&self.run, RUN), (&self.state, STATE)] {
            fs::create_dir_all(place).map_err(Error::io(format!("creating {place}")))?;
            mount(Some(own.as_path()), place, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .map_err(|errno| Error::io(format!("mounting {} on {place}", own.display()))(errno))?;
        }
        Ok(())
    }

    /// Puts the files of a pod in the place of this machine's, in the caller's mount namespace.
    pub(crate) fn put_pod_files(&self, files: &PodFiles) -> Result<(), Error> {
        fs::create_dir_all(&self.etc).map_err(Error::io(format!("creating {}", self.etc.display())))?;
        for (place, text) in [(HOSTS, &files.hosts), (RESOLV_CONF, &files.resolv_conf)] {
            // A name of its own: another command may be about to do the same.
            let own = self.etc.join(format!("{}.{}", place.replace('/', "+"), std::process::id()));
            fs::write(&own, text).map_err(Error::io(format!("writing {}", own.display())))?;
            if !Path::new(place).exists() {
                eprintln!("portolan: this machine has no {place}, which the pod's could take the place of");
                continue;
            }
            mount(Some(own.as_path()), place, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .map_err(|errno| Error::io(format!("mounting {} on {place}", own.display()))(errno))?;
            // It lives on as the mount does.
            fs::remove_file(&own).map_err(Error::io(format!("removing {}", own.display())))?;
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
pub(super) fn hide_those_of_the_machine() -> Result<(), Error> {
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
