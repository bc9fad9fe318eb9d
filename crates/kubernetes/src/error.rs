//! Why the API server cannot be followed at all.

use std::io;
use std::path::PathBuf;

use kube::config::{InClusterError, KubeconfigError};

/// The configuration is unusable. An API server that does not answer is no error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kubeconfig cannot be read or does not hold together.
    #[error("kubeconfig {path}: {reason}; correct the file, or name another with --kubeconfig", path = path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: Box<KubeconfigError>,
    },
    /// No configuration was given, and this is not a pod with a service account.
    #[error(
        "no kubeconfig is given and this is no pod with a service account: {0}; give --kubeconfig or --master"
    )]
    InCluster(#[source] Box<InClusterError>),
    /// The URL of the API server cannot be used.
    #[error("--master {url:?} is not a URL: {reason}; write it as https://HOST:PORT")]
    Master {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: http::uri::InvalidUri,
    },
    /// The credentials cannot be used.
    #[error("credentials of {from}: {reason}; correct the user's entry there or the file that it names")]
    Credentials {
        /// Where they come from.
        from: String,
        /// What is wrong with them.
        reason: Box<kube::Error>,
    },
    /// The API server is to be reached through an HTTP proxy.
    #[error(
        "the kubeconfig has proxy-url {url:?}: the API server cannot be followed through a proxy; remove it"
    )]
    Proxy {
        /// The proxy's URL.
        url: String,
    },
    /// The system gives no thread or runtime.
    #[error(
        "cannot start the thread that follows the API server: {0}; raise the limits on processes and open files"
    )]
    Thread(#[source] io::Error),
}
