//! Kernels of Debian's: downloaded and unpacked, never installed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::tool;

/// A kernel that has been unpacked.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Its whole version, such as `6.12.117+deb12-cloud-amd64`.
    pub(crate) version: String,
    /// The file to boot.
    pub(crate) image: PathBuf,
    /// The folder with `kernel/` and `modules.dep`. Modules are not compressed.
    pub(crate) modules: PathBuf,
}

/// The kernel of a series, such as `6.12`, from below `cache`. What is not there is downloaded.
pub(crate) fn obtain(series: &str, cache: &Path) -> anyhow::Result<Kernel> {
    fs::create_dir_all(cache).with_context(|| format!("creating {}", cache.display()))?;
    let folder = cache.join(format!("linux-{series}"));
    // Two runs at the same time download it once.
    let lock = File::create(cache.join(format!("linux-{series}.lock"))).context("creating a lock file")?;
    lock.lock().context("waiting for another download of the kernel")?;
    if !folder.is_dir() {
        eprintln!("in-vm: downloading and unpacking Linux {series}");
        let package = package(series)?;
        let draft = cache.join(format!("linux-{series}.draft"));
        let _ = fs::remove_dir_all(&draft);
        fs::create_dir_all(&draft).with_context(|| format!("creating {}", draft.display()))?;
        unpack(&package, &draft)?;
        fs::rename(&draft, &folder).with_context(|| format!("renaming {}", draft.display()))?;
    }
    unpacked(&folder)
}

/// The package with the newest kernel of a series, by the packages that always lead there.
fn package(series: &str) -> anyhow::Result<String> {
    for leading in [format!("linux-image-{series}-cloud-amd64"), "linux-image-cloud-amd64".to_owned()] {
        let mut command = tool::command("apt-cache", "apt")?;
        // Unknown packages are an error; the next one may be known.
        let Ok(shown) = tool::run(command.args(["show", "--no-all-versions", &leading])) else { continue };
        let depends = shown.lines().find_map(|line| line.strip_prefix("Depends:")).unwrap_or_default();
        let image = depends.split([' ', ',']).find_map(|word| word.strip_prefix("linux-image-"));
        if let Some(version) = image.filter(|version| version.starts_with(&format!("{series}."))) {
            return Ok(format!("linux-image-{version}"));
        }
    }
    anyhow::bail!(
        "no package of Linux {series} in the archives that apt knows: run `apt-get update`, or choose another \
         kernel with --kernel"
    )
}

/// Downloads a package and unpacks it and its modules into `folder`.
fn unpack(package: &str, folder: &Path) -> anyhow::Result<()> {
    let mut download = tool::command("apt-get", "apt")?;
    tool::run(download.args(["download", "--quiet", package]).current_dir(folder))
        .with_context(|| format!("downloading {package}; if it is gone, run `apt-get update`"))?;
    let archives = files(folder, "deb")?;
    let [archive] = &archives[..] else { anyhow::bail!("{package}: {} files", archives.len()) };
    tool::run(tool::command("dpkg-deb", "dpkg")?.arg("--extract").arg(archive).arg(folder))?;
    fs::remove_file(archive).with_context(|| format!("removing {}", archive.display()))?;

    let Kernel { version, modules, .. } = unpacked(folder)?;
    let compressed = files(&modules, "xz")?;
    // As many as fit a command line.
    for part in compressed.chunks(1000) {
        tool::run(tool::command("xz", "xz-utils")?.arg("--decompress").args(part))?;
    }
    let base = modules.ancestors().nth(3).context("a folder lib/modules/VERSION")?;
    tool::run(tool::command("depmod", "kmod")?.arg("--basedir").arg(base).arg(&version))?;
    Ok(())
}

/// What is where in an unpacked package.
fn unpacked(folder: &Path) -> anyhow::Result<Kernel> {
    let all = [folder.join("usr/lib/modules"), folder.join("lib/modules")];
    let all = all.iter().find(|path| path.is_dir());
    let all = all.with_context(|| format!("{}: no modules; remove it and try again", folder.display()))?;
    let versions = children(all)?;
    let modules = versions.first().with_context(|| format!("{}: no kernel", all.display()))?.clone();
    let version = modules.file_name().context("a version")?.to_string_lossy().into_owned();
    let image = folder.join("boot").join(format!("vmlinuz-{version}"));
    ensure!(image.is_file(), "{} is missing; remove {} and try again", image.display(), folder.display());
    Ok(Kernel { version, image, modules })
}

fn children(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    paths.with_context(|| format!("reading {}", folder.display()))
}

/// The files below `folder` with an extension.
fn files(folder: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in children(&folder)? {
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    Ok(found)
}
