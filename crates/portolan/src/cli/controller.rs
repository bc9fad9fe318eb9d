//! The command line of `portolan controller`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// Where the pools are, how the cluster is reached, where the Lease is.
#[derive(Debug, Clone, Args)]
pub(crate) struct ControllerArgs {
    /// Configuration file, of which loadBalancer, clientConnection and logging are read; changes of
    /// loadBalancer are taken up at once
    #[arg(long, value_name = "FILE", value_parser = portolan_config::path())]
    pub(crate) config: Option<PathBuf>,

    /// Without a configuration file: addresses for Services of type LoadBalancer, as with
    /// `portolan run`
    #[arg(long, value_name = "[NAME=]RANGE,...", conflicts_with = "config")]
    pub(crate) load_balancer_pool: Vec<String>,

    /// Without a configuration file: the kubeconfig of the cluster; without both, the cluster that
    /// this runs in
    #[arg(long, value_name = "FILE", conflicts_with = "config", value_parser = portolan_config::path())]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Do not read MetalLB's IPAddressPool objects, which are pools, too, where they are served
    #[arg(long)]
    pub(crate) ignore_metallb_pools: bool,

    /// Namespace of the Lease by which one of several controllers works at a time
    #[arg(long, value_name = "NAMESPACE", default_value = "kube-system")]
    pub(crate) lease_namespace: String,

    /// Name of the Lease
    #[arg(long, value_name = "NAME", default_value = "portolan-controller")]
    pub(crate) lease_name: String,

    /// Where /livez, /healthz and /metrics answer
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:10258")]
    pub(crate) bind_address: SocketAddr,

    /// How much is logged: 2 shows details, 4 everything
    #[arg(short, long, value_name = "LEVEL", conflicts_with = "config")]
    pub(crate) verbosity: Option<i64>,
}
