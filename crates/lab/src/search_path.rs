//! Where programs of the machine are.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// Folders of administrators' tools, which not every user has in PATH.
const OF_ADMINISTRATORS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The caller's PATH, and after it those folders of administrators' tools that it has not.
pub(crate) fn search_path() -> OsString {
    let own = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let mut folders: Vec<_> = env::split_paths(&own).collect();
    for folder in OF_ADMINISTRATORS {
        if !folders.iter().any(|known| known.as_os_str() == folder) {
            folders.push(folder.into());
        }
    }
    // No folder has a colon in its name: they were separated by it.
    env::join_paths(folders).unwrap_or(own)
}

/// Where a program is, if it is there.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&search_path()).map(|folder| folder.join(program)).find(|path| path.is_file())
}
