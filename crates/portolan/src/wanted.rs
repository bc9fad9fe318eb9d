//! What of a cluster is to be followed, and how it is reached.

use std::path::PathBuf;
use std::sync::Arc;

use portolan_config::Config;

use crate::cli::RunArgs;

/// What of a cluster is to be followed, and how it is reached.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "cluster"), expect(dead_code, reason = "there is no client of the API"))]
pub(crate) struct Wanted {
    /// A kubeconfig file; without it and without `master`, the configuration of the pod.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The URL of the API server, instead of the kubeconfig's.
    pub(crate) master: Option<String>,
    /// Requests a second, on average.
    pub(crate) qps: f32,
    /// Requests at once after a pause.
    pub(crate) burst: u32,
    /// What the own Node is called.
    pub(crate) node: Arc<str>,
    /// The file that keeps the last good state.
    pub(crate) snapshot: Option<PathBuf>,
    /// The own Node is followed.
    pub(crate) node_object: bool,
    /// What only names come from is followed.
    pub(crate) names: bool,
    /// Pods are followed, for their names.
    pub(crate) pods: bool,
}

impl Wanted {
    /// What the proxy of `node` needs; with names, if it answers them.
    pub(crate) fn for_rules(args: &RunArgs, config: &Config, node: &str) -> Wanted {
        let folder = &args.proxy.state_dir;
        Wanted {
            kubeconfig: config.client.kubeconfig.clone(),
            master: args.proxy.flags.master.clone(),
            qps: config.client.qps,
            burst: config.client.burst,
            node: node.into(),
            snapshot: (!folder.as_os_str().is_empty()).then(|| folder.join("cluster.snapshot")),
            node_object: true,
            names: false,
            pods: false,
        }
    }

    /// What a server of names needs, which forwards nothing, from where `kubeconfig` and `master`
    /// say.
    pub(crate) fn for_names(
        kubeconfig: Option<PathBuf>,
        master: Option<String>,
        snapshot: Option<PathBuf>,
        pods: bool,
    ) -> Wanted {
        Wanted {
            kubeconfig,
            master,
            // A list of each resource, and then nothing but watches.
            qps: 50.0,
            burst: 100,
            node: "".into(),
            snapshot,
            node_object: false,
            names: true,
            pods,
        }
    }
}
