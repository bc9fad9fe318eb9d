//! The Corefile: read with all that it imports, and followed as it changes.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use portolan_corefile::{Corefile, Imported, Surroundings, kubeadm, parse};
use portolan_watch::Paths;
use tracing::{info, warn};

/// Longer files are no Corefiles.
const SIZE_MAX: u64 = 4 << 20;

/// Where the Corefile is.
pub(super) struct Source {
    /// `None`: that of kubeadm.
    file: Option<PathBuf>,
    /// The flag that names it.
    flag: &'static str,
    domain: String,
    port: u16,
}

/// A Corefile as it was read.
pub(super) struct Loaded {
    outcome: Option<anyhow::Result<Corefile>>,
    texts: Vec<(PathBuf, String)>,
    watch: Option<Paths>,
}

impl Source {
    /// That in `file`, which `flag` names, or kubeadm's for `domain`. Server blocks without a port
    /// have this one.
    pub(super) fn new((flag, file): (&'static str, Option<&Path>), domain: &str, port: u16) -> Source {
        Source { file: file.map(Path::to_owned), flag, domain: domain.to_owned(), port }
    }

    /// Reads it, and begins to follow it.
    pub(super) fn load(&self) -> anyhow::Result<Loaded> {
        let Some(file) = &self.file else {
            let text = kubeadm(&self.domain, self.port);
            let corefile = parse("kubeadm's Corefile", &text, self.port, &portolan_corefile::NoSurroundings);
            let outcome = corefile.map_err(|errors| anyhow!("{errors}"));
            return Ok(Loaded { outcome: Some(outcome), texts: Vec::new(), watch: None });
        };
        // Watched before it is read, so that no change is missed.
        let mut watch = watch([file.clone()])?;
        loop {
            let reader = Reader::default();
            let outcome = reader.read(file).context(self.flag).and_then(|text| {
                let name = file.display().to_string();
                parse(&name, &text, self.port, &reader)
                    .map_err(|errors| anyhow!("the Corefile cannot be used:\n{errors}"))
            });
            let Reader { texts, folders } = reader;
            let texts = texts.into_inner();
            let imported = texts.iter().map(|(path, _)| path.clone()).chain(folders.into_inner());
            let mut paths: Vec<PathBuf> = imported.chain([file.clone()]).collect();
            paths.sort();
            paths.dedup();
            if watch.0 == paths {
                return Ok(Loaded { outcome: Some(outcome), texts, watch: Some(watch.1) });
            }
            watch = self::watch(paths)?;
        }
    }
}

fn watch(paths: impl Into<Vec<PathBuf>>) -> anyhow::Result<(Vec<PathBuf>, Paths)> {
    let paths = paths.into();
    let watch = Paths::open(&paths).context("following the Corefile")?;
    Ok((paths, watch))
}

/// Reads the Corefile again whenever it changes, and hands what came of it to `change`, for as long
/// as that returns that it is to be followed.
pub(super) fn follow(
    source: &Source,
    mut loaded: Loaded,
    mut change: impl FnMut(anyhow::Result<Corefile>) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    loop {
        loaded.wait().context("following the Corefile")?;
        let mut now = source.load()?;
        if now.says_the_same_as(&loaded) {
            continue;
        }
        let corefile = now.take();
        loaded = now;
        if let Ok(corefile) = &corefile {
            log_notices(corefile);
        }
        if !change(corefile)? {
            info!("the Corefile has no reload any more: changes of it wait for a restart");
            return Ok(());
        }
    }
}

/// What of it has no effect.
pub(super) fn log_notices(corefile: &Corefile) {
    for notice in &corefile.notices {
        warn!("{notice}");
    }
}

impl Loaded {
    /// The Corefile, or why it cannot be used. It is there once.
    pub(super) fn take(&mut self) -> anyhow::Result<Corefile> {
        self.outcome.take().unwrap_or_else(|| Err(anyhow!("the Corefile was taken already")))
    }

    /// Whether nothing in it has changed.
    pub(super) fn says_the_same_as(&self, other: &Loaded) -> bool {
        self.texts == other.texts
    }

    /// Waits until it may have changed.
    pub(super) fn wait(&mut self) -> anyhow::Result<()> {
        match &mut self.watch {
            Some(watch) => Ok(watch.wait()?),
            None => Err(anyhow!("there is no file to follow")),
        }
    }
}

/// Reads files, and remembers which.
#[derive(Default)]
struct Reader {
    texts: RefCell<Vec<(PathBuf, String)>>,
    folders: RefCell<Vec<PathBuf>>,
}

impl Reader {
    fn read(&self, path: &Path) -> anyhow::Result<String> {
        let text = read(path).map_err(|error| anyhow!("{}: cannot be read: {error}", path.display()))?;
        self.texts.borrow_mut().push((path.to_owned(), text.clone()));
        Ok(text)
    }

    /// The files that `pattern` means, in order. A `*` in the file's name stands for anything.
    fn matches(&self, pattern: &Path) -> Result<Vec<PathBuf>, String> {
        let name = pattern.file_name().unwrap_or_default().to_string_lossy();
        let folder = pattern.parent().unwrap_or(Path::new("/"));
        if folder.to_string_lossy().contains(['*', '?', '[']) || name.contains(['?', '[']) {
            return Err("one * in the name of a file can stand for anything, and nothing else".to_owned());
        }
        let Some((before, after)) = name.split_once('*') else { return Ok(vec![pattern.to_owned()]) };
        self.folders.borrow_mut().push(folder.to_owned());
        let fits = |name: &str| {
            !name.starts_with('.')
                && name.len() >= before.len() + after.len()
                && name.starts_with(before)
                && name.ends_with(after)
        };
        let mut found = Vec::new();
        // A folder that is not there has no files.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(fits) {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }
}

impl Surroundings for Reader {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn import(&self, pattern: &str, from: &str) -> Result<Vec<Imported>, String> {
        let folder = Path::new(from).parent().unwrap_or(Path::new(""));
        let paths = self.matches(&folder.join(pattern))?;
        let read = |path: PathBuf| match self.read(&path) {
            Ok(text) => Ok(Imported { name: path.display().to_string(), text }),
            Err(error) => Err(format!("no snippet has this name, and no file: {error}")),
        };
        paths.into_iter().map(read).collect()
    }
}

fn read(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = fs::File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::other("it is a folder"));
    }
    file.take(SIZE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(file: &Path) -> Source {
        Source { file: Some(file.to_owned()), flag: "--conf", domain: "cluster.local".to_owned(), port: 53 }
    }

    #[test]
    fn files_are_imported_and_followed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("Corefile");
        fs::create_dir(folder.path().join("custom")).unwrap();
        fs::write(&file, ".:53 {\nimport custom/*.override\nimport more\n}\n").unwrap();
        fs::write(folder.path().join("more"), "errors\n").unwrap();
        for (name, text) in [("b.override", "cache 7\n"), ("a.override", "log\n"), ("c.server", "none\n")] {
            fs::write(folder.path().join("custom").join(name), text).unwrap();
        }
        let mut loaded = source(&file).load().unwrap();
        let corefile = loaded.take().unwrap();
        let block = &corefile.blocks[0];
        assert!(block.errors && block.log.len() == 1 && block.cache.is_some());
        assert!(source(&file).load().unwrap().says_the_same_as(&loaded));
        fs::write(folder.path().join("custom/d.override"), "nonsense\n").unwrap();
        loaded.wait().unwrap();
        let mut now = source(&file).load().unwrap();
        assert!(!now.says_the_same_as(&loaded));
        let error = format!("{:#}", now.take().unwrap_err());
        assert!(error.contains("custom/d.override:1: nonsense"), "{error}");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("Corefile");
        let error = |loaded: &mut Loaded| format!("{:#}", loaded.take().unwrap_err());
        let absent = error(&mut source(&file).load().unwrap());
        assert!(absent.contains("Corefile: cannot be read"), "{absent}");
        for (text, expected) in [
            (". {\nimport gone\n}", "Corefile:2: import: gone: no snippet has this name"),
            (". {\nimport */x\n}", "one * in the name of a file"),
        ] {
            fs::write(&file, text).unwrap();
            let error = error(&mut source(&file).load().unwrap());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
