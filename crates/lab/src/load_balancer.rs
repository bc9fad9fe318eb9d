//! What gives a cluster's Services load-balancer addresses: the controller that allocates them, as
//! a process on the control plane, and the key by which the proxies share their announcement.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Error;
use crate::netns::Namespace;

/// The controller. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct LoadBalancer {
    controller: Child,
    /// The file of the key.
    pub(crate) key: PathBuf,
}

/// Where the controller finds the cluster, and where its log and the key are to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Files<'a> {
    pub(crate) kubeconfig: &'a Path,
    /// A folder.
    pub(crate) state: &'a Path,
}

impl LoadBalancer {
    /// Starts `program` as the controller, if there are any pools, which it takes as
    /// `--load-balancer-pool`. The key is nobody else's.
    pub(crate) fn start(
        program: &Path,
        pools: &[String],
        files: Files<'_>,
        key: &str,
        namespace: &Namespace,
    ) -> Result<Option<LoadBalancer>, Error> {
        if pools.is_empty() {
            return Ok(None);
        }
        let Files { kubeconfig, state } = files;
        let (key_file, log) = (state.join("announcement-key"), state.join("controller.log"));
        fs::write(&key_file, key).map_err(Error::io(format!("writing {}", key_file.display())))?;
        let log = File::create(&log).map_err(Error::io(format!("creating {}", log.display())))?;
        let mut command = Command::new(program);
        command.arg("controller").arg("--kubeconfig").arg(kubeconfig);
        for pool in pools {
            command.args(["--load-balancer-pool", pool]);
        }
        command.args(["--bind-address", "127.0.0.1:10258"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let controller = namespace.spawn(&mut command)?;
        Ok(Some(LoadBalancer { controller, key: key_file }))
    }
}

impl Drop for LoadBalancer {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.controller.kill();
        let _ = self.controller.wait();
    }
}
