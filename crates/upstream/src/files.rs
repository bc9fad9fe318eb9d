//! Files that servers and fixed addresses are in, followed as they change.

use std::io::{self, PipeReader, PipeWriter};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use portolan_watch::Paths;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tracing::{error, info, warn};

use crate::group::Group;
use crate::hosts::Hosts;
use crate::maker::Maker;
use crate::metrics::ZoneMetrics;
use crate::resolv_conf::{self, RESOLVED};
use crate::settings::{Error, Target};

/// Files that are followed.
#[derive(Debug)]
pub(crate) struct Followed {
    /// The thread ends when this is closed.
    _stopper: PipeWriter,
}

/// What is said when files cannot be followed any more.
const NOT_FOLLOWED: &str = "files of name servers and hosts are not followed any more: restart to read them";

/// What a zone takes from files.
#[derive(Debug)]
pub(crate) struct Files {
    groups: Vec<(Arc<Group>, Maker)>,
    hosts: Option<Arc<Hosts>>,
    own: Vec<SocketAddr>,
    metrics: ZoneMetrics,
}

impl Files {
    pub(crate) fn new(
        groups: Vec<(Arc<Group>, Maker)>,
        hosts: Option<Arc<Hosts>>,
        own: Vec<SocketAddr>,
        metrics: ZoneMetrics,
    ) -> Files {
        Files { groups, hosts, own, metrics }
    }

    /// Reads all of them, and follows them until what it returns is dropped. `None` if there are
    /// none.
    pub(crate) fn open(self) -> Result<Option<Followed>, Error> {
        let paths = self.paths();
        if paths.is_empty() {
            self.load();
            return Ok(None);
        }
        // Watched before they are read: no change is missed.
        let mut paths = Paths::open(paths)?;
        self.load();
        let (stop, stopper) = io::pipe().map_err(portolan_watch::Error::System)?;
        let follow = move || {
            while let Ok(true) = wait(&paths, &stop) {
                match paths.changed() {
                    Ok(true) => self.load(),
                    Ok(false) => {}
                    Err(error) => return error!(%error, "{NOT_FOLLOWED}"),
                }
            }
        };
        let thread = thread::Builder::new().name("dns-files".to_owned());
        thread.spawn(follow).map_err(portolan_watch::Error::System)?;
        Ok(Some(Followed { _stopper: stopper }))
    }

    /// The files, and what is read in place of them.
    fn paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for (group, _) in &self.groups {
            for target in &group.settings().to {
                if let Target::ResolvConf(path) = target {
                    paths.push(path.clone());
                    paths.push(PathBuf::from(RESOLVED));
                }
            }
        }
        paths.extend(self.hosts.iter().filter_map(|hosts| hosts.file().map(Path::to_owned)));
        paths
    }

    /// Takes what the files say now. Of one that cannot be read the last is kept.
    fn load(&self) {
        for (group, maker) in &self.groups {
            self.load_servers(group, maker);
        }
        if let Some(hosts) = &self.hosts {
            let text = match hosts.file().map(|path| (path, resolv_conf::read(path))) {
                None => String::new(),
                Some((_, Ok(text))) => text,
                Some((path, Err(error))) => {
                    return warn!(path = %path.display(), %error, "hosts: the file cannot be read; names in it are as before");
                }
            };
            let count = hosts.load(&text);
            self.metrics.hosts.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    fn load_servers(&self, group: &Group, maker: &Maker) {
        let mut servers = Vec::new();
        for target in &group.settings().to {
            match target {
                Target::Server { address, .. } => servers.push(*address),
                Target::ResolvConf(path) => {
                    match resolv_conf::servers(path, Path::new(RESOLVED), &self.own) {
                        Ok(found) => {
                            if found.is_empty() {
                                warn!(
                                    path = %path.display(),
                                    "forward: the file names no server but this one; give it one, or give forward addresses"
                                );
                            }
                            servers.extend(found);
                        }
                        Err(error) => {
                            // While a file is replaced it may be absent.
                            return warn!(path = %path.display(), %error, "forward: the file cannot be read; servers are as before");
                        }
                    }
                }
            }
        }
        let known = group.servers();
        let servers: Vec<_> = servers.into_iter().map(|server| maker.server(server, &known)).collect();
        let same =
            servers.len() == known.len() && servers.iter().zip(known.iter()).all(|(a, b)| Arc::ptr_eq(a, b));
        if !same {
            let list: Vec<String> = servers.iter().map(|server| server.address().to_string()).collect();
            info!(servers = list.join(", "), "names outside are asked of these servers");
            group.set_servers(servers);
        }
    }
}

/// Waits until there is something to look at. Returns false when nobody needs it any more.
fn wait(paths: &Paths, stop: &PipeReader) -> io::Result<bool> {
    let mut ready = [PollFd::new(paths, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
    match poll(&mut ready, None) {
        Ok(_) => Ok(ready[1].revents().is_empty()),
        Err(Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
