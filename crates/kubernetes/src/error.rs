//! Why the API server cannot be followed at all.

use std::io;
use std::path::PathBuf;

use kube::config::{InClusterError, KubeconfigError};

use crate::access::PluginError;

/// The configuration is unusable. An API server that does not answer is no error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kubeconfig does not hold together.
    #[error("kubeconfig {path}: {reason}; correct the file, or name another with --kubeconfig", path = path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: Box<KubeconfigError>,
    },
    /// The kubeconfig cannot be read.
    #[error("kubeconfig {path}: {reason}; correct the file, or name another with --kubeconfig", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
    /// A field has a value that cannot be used.
    #[error("{from}: {field}: {reason}")]
    Field {
        /// Where it comes from.
        from: String,
        /// Whose field it is, and its name.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No configuration was given, and this is not a pod with a service account.
    #[error(
        "no kubeconfig is given and this is no pod with a service account: {0}; give --kubeconfig or --master"
    )]
    InCluster(#[source] Box<InClusterError>),
    /// The URL of the API server cannot be used.
    #[error("--master {url:?} is not the URL of an API server: {reason}; write it as https://HOST:PORT")]
    Master {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificates cannot be used.
    #[error("credentials of {from}: {reason}; correct the user's entry there or the file that it names")]
    Credentials {
        /// Where they come from.
        from: String,
        /// What is wrong with them.
        reason: Box<kube::Error>,
    },
    /// A program gave no credentials.
    #[error("credentials of {from}: exec: {reason}")]
    Plugin {
        /// Where the program is named.
        from: String,
        /// Why not.
        reason: PluginError,
    },
    /// The system gives no thread or runtime.
    #[error(
        "cannot start the thread that follows the API server: {0}; raise the limits on processes and open files"
    )]
    Thread(#[source] io::Error),
}
