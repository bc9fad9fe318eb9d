//! Which names decide what a path is: the symbolic links on the way, and the end.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// How many links one path may lead through (Linux: 40).
const MAX_LINKS: usize = 40;

/// Whether the end of a path is a name that decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Yes.
    Counts,
    /// Only behind a link: somebody else watches the folder that the path itself ends in.
    CountsBehindLinks,
}

/// Calls `watch` with the folder and the name of each step that decides what the absolute path
/// `full` is: each link on the way, and its end. If the path does not exist, the first name that is
/// missing is the end.
///
/// Each name is looked at after `watch` has returned, so that no change falls between.
pub(crate) fn follow(full: &Path, end: End, mut watch: impl FnMut(&Path, &OsStr)) {
    let mut todo = names_reversed(full);
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = todo.pop() {
        if name == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&name);
        let is_end = todo.is_empty() && (end == End::Counts || links > 0);
        let is_folder = fs::symlink_metadata(&next).is_ok_and(|metadata| !metadata.is_symlink());
        if is_end || !is_folder {
            watch(&here, &name);
        }
        match fs::symlink_metadata(&next) {
            Err(_) => return,
            Ok(metadata) if !metadata.is_symlink() => here = next,
            Ok(_) => {
                links += 1;
                let Ok(target) = fs::read_link(&next) else { return };
                if links > MAX_LINKS {
                    return;
                }
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                todo.extend(names_reversed(&target));
            }
        }
    }
}

fn names_reversed(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut names: Vec<OsString> = names.collect();
    names.reverse();
    names
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_and_ends_decide() {
        let folder = tempfile::tempdir().unwrap();
        // The way to the folder may have links of its own.
        let root = folder.path().canonicalize().unwrap();
        let at = |path: &str| root.join(path);
        fs::create_dir_all(at("v1")).unwrap();
        fs::write(at("v1/file"), "").unwrap();
        symlink("v1", at("..data")).unwrap();
        symlink("..data/file", at("file")).unwrap();
        symlink(at("v1"), at("absolute")).unwrap();
        symlink("a", at("b")).unwrap();
        symlink("b", at("a")).unwrap();
        for (situation, path, end, expected) in [
            ("no link", "v1/file", End::CountsBehindLinks, &[][..]),
            ("no link, with its end", "v1/file", End::Counts, &["v1/file"]),
            ("a ConfigMap", "file", End::CountsBehindLinks, &["file", "..data", "v1/file"]),
            ("up and down", "v1/../v1/file", End::Counts, &["v1/file"]),
            ("an absolute link", "absolute/file", End::Counts, &["absolute", "v1/file"]),
            ("nothing there", "v2/file", End::CountsBehindLinks, &["v2"]),
            ("missing behind a link", "..data/x/y", End::CountsBehindLinks, &["..data", "v1/x"]),
        ] {
            let mut found = Vec::new();
            follow(&at(path), end, |folder, name| found.push(folder.join(name)));
            let expected: Vec<PathBuf> = expected.iter().map(|path| at(path)).collect();
            assert_eq!(found, expected, "{situation}");
        }
        let mut steps = 0;
        follow(&at("a"), End::Counts, |_, _| steps += 1);
        assert_eq!(steps, MAX_LINKS + 1, "links that lead to each other");
    }
}
