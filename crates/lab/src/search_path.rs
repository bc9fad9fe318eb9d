//! Where programs of the machine are.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// Folders of administrators' tools, which not every user has in PATH.
const OF_ADMINISTRATORS: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// The caller's PATH, and after it the folders of administrators' tools.
pub(crate) fn search_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    path.push(":");
    path.push(OF_ADMINISTRATORS);
    path
}

/// Where a program is, if it is there.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&search_path()).map(|folder| folder.join(program)).find(|path| path.is_file())
}
