//! The programs that look names up, which this machine may not have.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use anyhow::{Context, ensure};
use libtest_mimic::Trial;

/// `./test` names programs here that it has installed: if one is missing then, that is a failure.
const NEEDED: &str = "PORTOLAN_TESTS_NEED";

/// Where `./test` unpacks systemd-resolved. It is not installed: that would put it in charge of the
/// machine's own names.
const RESOLVED: &str = "../target/tools/resolved";

/// A trial of a resolver, for which there must be `program`, from a package of Debian. Without it,
/// the trial is reported as ignored, and its name says why.
pub(crate) fn trial(
    resolver: &str,
    what: &str,
    program: Option<PathBuf>,
    package: &str,
    test: impl FnOnce(&str) -> anyhow::Result<()> + Send + 'static,
) -> Trial {
    let Some(program) = program else {
        let name = format!("{resolver}: {what}: SKIPPED, install {package}");
        let needed = env::var(NEEDED).is_ok_and(|names| names.split(' ').any(|name| name == resolver));
        return Trial::test(name, || Err("this resolver must not be missing".into()))
            .with_ignored_flag(!needed);
    };
    let program = program.to_string_lossy().into_owned();
    Trial::test(format!("{resolver}: {what}"), move || {
        test(&program).map_err(|error| format!("{error:#}").into())
    })
}

/// The program called `name` on the PATH.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// `lookup.c`, made with glibc, if there is a compiler for it.
pub(crate) fn glibc_lookup() -> Option<PathBuf> {
    static MADE: LazyLock<Option<PathBuf>> = LazyLock::new(|| lookup("cc", "glibc", &[]));
    MADE.clone()
}

/// `lookup.c`, made with musl, if there is a compiler for it.
pub(crate) fn musl_lookup() -> Option<PathBuf> {
    static MADE: LazyLock<Option<PathBuf>> = LazyLock::new(|| lookup("musl-gcc", "musl", &["-static"]));
    MADE.clone()
}

fn lookup(compiler: &str, library: &str, flags: &[&str]) -> Option<PathBuf> {
    let compiler = find(compiler)?;
    let made = compile(&compiler, library, flags);
    Some(made.unwrap_or_else(|error| panic!("lookup.c with {library}: {error:#}")))
}

fn compile(compiler: &Path, library: &str, flags: &[&str]) -> anyhow::Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("resolvers/lookup.c");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("lookup-{library}"));
    // Another run of these tests may be using it.
    let draft = program.with_extension(std::process::id().to_string());
    let mut command = Command::new(compiler);
    command.args(flags).args(["-Wall", "-Werror", "-O1", "-o"]).arg(&draft).arg(source);
    let output = command.output().with_context(|| format!("starting {}", compiler.display()))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&draft, &program)?;
    Ok(program)
}

/// Whether the C library of `musl-gcc` asks again over TCP where an answer is cut: from 1.2.4 on.
pub(crate) fn musl_has_tcp() -> bool {
    let Ok(folder) = fs::read_dir("/lib") else { return false };
    let is_loader = |path: &PathBuf| path.to_string_lossy().starts_with("/lib/ld-musl-");
    let Some(loader) = folder.flatten().map(|entry| entry.path()).find(is_loader) else { return false };
    // Started alone, it says what it is.
    let Ok(output) = Command::new(loader).output() else { return false };
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let version = text.lines().find_map(|line| line.strip_prefix("Version "));
    let parts: Option<Vec<u32>> =
        version.map(|text| text.split('.').map_while(|part| part.parse().ok()).collect());
    parts.is_some_and(|parts| parts >= vec![1, 2, 4])
}

/// systemd-resolved, if it and its libraries are there.
pub(crate) fn resolved() -> Option<PathBuf> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join(RESOLVED);
    [unpacked.join("lib/systemd"), unpacked.join("usr/lib/systemd"), "/usr/lib/systemd".into()]
        .map(|folder| folder.join("systemd-resolved"))
        .into_iter()
        .find(|path| {
            let mut command = Command::new(path);
            command.arg("--version").env("LD_LIBRARY_PATH", resolved_libraries());
            command.output().is_ok_and(|output| output.status.success())
        })
}

/// Where the libraries of an unpacked systemd-resolved are.
pub(crate) fn resolved_libraries() -> String {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join(RESOLVED);
    let folders = ["usr/lib", "lib"].map(|folder| unpacked.join(folder));
    let architectures = folders.iter().filter_map(|folder| folder.read_dir().ok()).flatten().flatten();
    let libraries = architectures.map(|entry| entry.path().join("systemd")).filter(|path| path.is_dir());
    libraries.map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>().join(":")
}
