//! What the guest is to run.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the guest finds its job.
pub(crate) const PLACE: &str = "/in-vm/job.json";

/// A program, as the guest starts it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// A path, or a name to be found in PATH.
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// The folder it starts in.
    pub(crate) folder: PathBuf,
}
