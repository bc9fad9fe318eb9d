//! The program under test.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

/// Builds the `portolan` binary of the profile and target directory that this test was built into,
/// and returns its path. Started without cargo, it takes the binary that is there; `PORTOLAN_BIN`
/// names another one.
pub fn portolan() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("PORTOLAN_BIN") {
        return Ok(path.into());
    }
    // <target>/<profile>/deps/<this test>
    let own = std::env::current_exe().context("finding this test's own path")?;
    let profile = own.ancestors().nth(2).context("this test runs outside of a cargo target directory")?;
    let binary = profile.join("portolan");
    if let Some(cargo) = std::env::var_os("CARGO") {
        build(Path::new(&cargo), profile)?;
    }
    if !binary.is_file() {
        bail!("{} is missing: run `cargo build -p portolan` or set PORTOLAN_BIN", binary.display());
    }
    Ok(binary)
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
