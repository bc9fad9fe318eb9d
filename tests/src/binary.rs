//! The program under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use anyhow::{Context, bail, ensure};

/// The `portolan` binary of the profile and target directory that this test was built into. It is
/// built if it is missing or older than its sources: tests of one package alone leave it as it was,
/// and tests of the whole workspace have built it, with other features than cargo would choose for
/// the program alone. Started without cargo, it takes the binary that is there; `PORTOLAN_BIN`
/// names another one.
pub fn portolan() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("PORTOLAN_BIN") {
        return Ok(path.into());
    }
    // <target>/<profile>/deps/<this test>
    let own = std::env::current_exe().context("finding this test's own path")?;
    let profile = own.ancestors().nth(2).context("this test runs outside of a cargo target directory")?;
    let binary = profile.join("portolan");
    if let Some(cargo) = std::env::var_os("CARGO")
        && !is_current(&binary).unwrap_or(false)
    {
        build(Path::new(&cargo), profile)?;
    }
    if !binary.is_file() {
        bail!("{} is missing: run `cargo build -p portolan` or set PORTOLAN_BIN", binary.display());
    }
    Ok(binary)
}

/// No file that `binary` is built from is newer than it: none of the crates', and not Cargo.lock.
fn is_current(binary: &Path) -> io::Result<bool> {
    let built = fs::metadata(binary)?.modified()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut left = vec![root.join("Cargo.lock"), root.join("crates")];
    while let Some(path) = left.pop() {
        let metadata = fs::metadata(&path)?;
        if metadata.is_file() && metadata.modified()? > built {
            return Ok(false);
        }
        if metadata.is_dir() && !path.ends_with("tests") {
            left.extend(fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?);
        }
    }
    Ok(true)
}

/// Cargo builds the binaries of a package for that package's own tests only.
fn build(cargo: &Path, profile: &Path) -> anyhow::Result<()> {
    let target = profile.parent().context("a profile directory without a target directory")?;
    let name = match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => bail!("{}: not the name of a profile", profile.display()),
    };
    let built = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            "portolan",
            "--bin",
            "portolan",
            "--profile",
            name,
        ])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("starting cargo")?;
    ensure!(built.success(), "cargo build -p portolan: {built}");
    Ok(())
}
