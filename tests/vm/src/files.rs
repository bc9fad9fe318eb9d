//! The files of the guest, as a tree that is written into an archive.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};

use crate::{cpio, tool};

/// As many symbolic links may be on the way to a file (path_resolution(7)).
const LINKS: u32 = 40;

/// Programs of more octets than this are stripped: such as cargo builds for tests are mostly lines
/// for debuggers.
const STRIPPED: u64 = 4 << 20;

#[derive(Debug)]
enum Entry {
    Folder {
        permissions: u32,
    },
    Link {
        target: PathBuf,
    },
    Copy {
        of: PathBuf,
        permissions: u32,
    },
    /// What is for debuggers stays behind.
    Stripped {
        of: PathBuf,
        permissions: u32,
    },
    Text {
        text: Vec<u8>,
    },
}

/// Files by their absolute paths in the guest. None of these leads through a symbolic link.
#[derive(Debug, Default)]
pub(crate) struct Files {
    entries: BTreeMap<PathBuf, Entry>,
}

impl Files {
    /// An empty folder; nothing if there is one.
    pub(crate) fn folder(&mut self, path: impl AsRef<Path>, permissions: u32) {
        self.entries.entry(path.as_ref().to_owned()).or_insert(Entry::Folder { permissions });
    }

    /// A file with this text.
    pub(crate) fn text(&mut self, path: impl AsRef<Path>, text: impl Into<Vec<u8>>) {
        self.entries.insert(path.as_ref().to_owned(), Entry::Text { text: text.into() });
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: impl AsRef<Path>, target: impl AsRef<Path>) {
        self.entries.insert(path.as_ref().to_owned(), Entry::Link { target: target.as_ref().to_owned() });
    }

    /// A file of this machine at another path.
    pub(crate) fn copy(&mut self, path: impl AsRef<Path>, of: &Path) -> anyhow::Result<()> {
        let permissions = permissions(&metadata(of)?);
        self.entries.insert(path.as_ref().to_owned(), Entry::Copy { of: of.to_owned(), permissions });
        Ok(())
    }

    /// Whether there is such an entry.
    pub(crate) fn has(&self, path: impl AsRef<Path>) -> bool {
        self.entries.contains_key(path.as_ref())
    }

    /// A file or an empty folder of this machine at its own path, with the links and folders on the
    /// way. Returns its path without links.
    pub(crate) fn add(&mut self, path: &Path) -> anyhow::Result<PathBuf> {
        let path = std::path::absolute(path).with_context(|| format!("{}", path.display()))?;
        let mut left = parts_reversed(&path);
        let mut place = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == ".." {
                place.pop();
                continue;
            }
            let here = place.join(part);
            let metadata = metadata(&here)?;
            if metadata.is_symlink() {
                links += 1;
                if links > LINKS {
                    bail!("{}: too many symbolic links", path.display());
                }
                let target = fs::read_link(&here).with_context(|| format!("reading {}", here.display()))?;
                if target.is_absolute() {
                    place = PathBuf::from("/");
                }
                left.extend(parts_reversed(&target));
                self.link(&here, target);
            } else if metadata.is_dir() {
                self.folder(&here, permissions(&metadata));
                place = here;
            } else {
                self.copy(&here, &here)?;
                place = here;
            }
        }
        Ok(place)
    }

    /// A file, or a folder with all that is in it except what is named in `without`.
    pub(crate) fn add_all(&mut self, path: &Path, without: &[&str]) -> anyhow::Result<()> {
        let mut left = vec![path.to_owned()];
        while let Some(path) = left.pop() {
            // A link may lead nowhere, and is none of our business then.
            let Ok(place) = self.add(&path) else { continue };
            if path.is_symlink() || !place.is_dir() {
                continue;
            }
            let entries = fs::read_dir(&place).with_context(|| format!("reading {}", place.display()))?;
            for entry in entries {
                let entry = entry.with_context(|| format!("reading {}", place.display()))?;
                if !without.iter().any(|name| entry.file_name() == *name) {
                    left.push(entry.path());
                }
            }
        }
        Ok(())
    }

    /// A program at its own path, with the libraries that it is linked to, or with the interpreter
    /// of a script.
    pub(crate) fn add_program(&mut self, path: &Path) -> anyhow::Result<PathBuf> {
        let place = self.add(path)?;
        for needed in needed(&place)? {
            self.add(&needed)?;
        }
        if let Some(entry) = self.entries.get_mut(&place)
            && let Entry::Copy { of, permissions } = entry
            && metadata(of)?.len() > STRIPPED
        {
            *entry = Entry::Stripped { of: of.clone(), permissions: *permissions };
        }
        Ok(place)
    }

    /// Writes all of it as an archive.
    pub(crate) fn write(&self, to: impl Write) -> anyhow::Result<()> {
        let mut archive = cpio::Writer::new(to);
        for (path, entry) in &self.entries {
            let name = path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes();
            if name.is_empty() {
                continue;
            }
            let written = match entry {
                Entry::Folder { permissions } => archive.folder(name, *permissions),
                Entry::Link { target } => archive.link(name, target.as_os_str().as_bytes()),
                Entry::Text { text } => archive.file(name, 0o644, text),
                Entry::Copy { of, permissions } => {
                    let content = fs::read(of).with_context(|| format!("reading {}", of.display()))?;
                    archive.file(name, *permissions, &content)
                }
                Entry::Stripped { of, permissions } => archive.file(name, *permissions, &stripped(of)?),
            };
            written.with_context(|| format!("writing {} into the guest's archive", path.display()))?;
        }
        archive.finish().context("writing the guest's archive")?;
        Ok(())
    }
}

fn metadata(path: &Path) -> anyhow::Result<fs::Metadata> {
    fs::symlink_metadata(path).with_context(|| format!("looking at {}", path.display()))
}

fn permissions(metadata: &fs::Metadata) -> u32 {
    metadata.permissions().mode() & 0o7777
}

/// The names on the way of a path, the first one last.
fn parts_reversed(path: &Path) -> Vec<OsString> {
    let parts =
        path.components().rev().filter(|part| !matches!(part, Component::RootDir | Component::CurDir));
    parts.map(|part| part.as_os_str().to_owned()).collect()
}

/// A program without what is for debuggers. Backtraces still have the names of functions.
fn stripped(program: &Path) -> anyhow::Result<Vec<u8>> {
    // A file without a name is never left behind.
    let mut file = tempfile::tempfile().context("creating a file for a stripped program")?;
    let mut strip = tool::command("strip", "binutils")?;
    tool::run(strip.arg("--strip-debug").arg("-o").arg(tool::handed(&file)?).arg(program))?;
    let mut content = Vec::new();
    file.rewind().context("reading a stripped program")?;
    file.read_to_end(&mut content).context("reading a stripped program")?;
    Ok(content)
}

/// What a program cannot start without.
fn needed(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let content = fs::read(program).with_context(|| format!("reading {}", program.display()))?;
    if content.starts_with(b"\x7fELF") {
        return libraries(program);
    }
    let Some(line) = content.strip_prefix(b"#!") else { return Ok(Vec::new()) };
    let line = String::from_utf8_lossy(line.split(|octet| *octet == b'\n').next().unwrap_or_default());
    let mut words = line.split_whitespace();
    let interpreter = words.next().unwrap_or_default();
    // `#!/usr/bin/env NAME` finds NAME in PATH.
    let found = if interpreter.ends_with("/env") {
        let name = words.find(|word| !word.starts_with('-')).unwrap_or_default();
        tool::find(name).with_context(|| format!("{}: no interpreter {name}", program.display()))?
    } else {
        PathBuf::from(interpreter)
    };
    let mut needed = libraries(&found)?;
    needed.push(found);
    Ok(needed)
}

/// The libraries that an ELF program is linked to, and its loader. None for a static one.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    // It fails for a static program.
    let output = tool::command("ldd", "libc-bin")?.arg(program).output().context("starting ldd")?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    if let Some(missing) = listed.lines().find(|line| line.contains("not found")) {
        bail!("{}: {}", program.display(), missing.trim());
    }
    Ok(listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}
