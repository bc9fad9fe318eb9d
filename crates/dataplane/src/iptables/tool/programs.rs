//! Which programs are iptables.

use std::path::{Path, PathBuf};
use std::time::Duration;

use portolan_service::Family;

use super::choice::Reason;
use super::process;
use super::version::Version;
use crate::error::Error;
use crate::variant::Variant;

/// Where iptables is when `PATH` is that of a user
const DIRECTORIES: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];
/// How long a program may take to say its version.
const LIMIT: Duration = Duration::from_secs(30);

/// The programs of one family and variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    pub(super) restore: PathBuf,
    pub(super) save: PathBuf,
    pub(super) version: Version,
}

/// Where to look for programs, in order.
pub(super) fn directories() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .chain(DIRECTORIES.map(PathBuf::from))
        .collect()
}

impl Programs {
    /// Finds those of the variant that was chosen, or whichever there are.
    pub(super) fn find(
        family: Family,
        chosen: Option<(Variant, Reason)>,
        directories: &[PathBuf],
    ) -> Result<Programs, Error> {
        let plain = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        let suffixes: &[&str] = match chosen {
            None => &["", "-nft", "-legacy"],
            Some((Variant::Nft, _)) => &["-nft", ""],
            Some((Variant::Legacy, _)) => &["-legacy", ""],
        };
        let mut unfit = Vec::new();
        for suffix in suffixes {
            match Programs::named(&format!("{plain}{suffix}"), directories) {
                Ok(Some(programs)) => match chosen {
                    Some((variant, _)) if programs.version.variant() != variant => {
                        unfit.push(format!("{} is {}", programs.restore.display(), programs.version));
                    }
                    _ => return Ok(programs),
                },
                Ok(None) => {}
                Err(reason) => unfit.push(reason),
            }
        }
        Err(Error::Missing(complaint(plain, suffixes, chosen, directories, &unfit)))
    }

    /// Those called `name`; `None` if they are missing, an error if they do not say what they are.
    fn named(name: &str, directories: &[PathBuf]) -> Result<Option<Programs>, String> {
        let find = |name: String| {
            directories.iter().map(|directory| directory.join(&name)).find(|path| path.is_file())
        };
        let Some((restore, save)) = find(format!("{name}-restore")).zip(find(format!("{name}-save"))) else {
            return Ok(None);
        };
        // iptables-restore does not print its version before 1.6.2, iptables does.
        let mut reasons = Vec::new();
        for program in [Some(restore.clone()), find(name.to_owned())].into_iter().flatten() {
            match version(&program) {
                Ok(version) => return Ok(Some(Programs { restore, save, version })),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; "))
    }
}

fn version(program: &Path) -> Result<Version, String> {
    let path = program.display();
    let finished =
        process::run(program, &["--version"], "", LIMIT).map_err(|error| format!("{path}: {error}"))?;
    Version::parse(&finished.stdout).ok_or_else(|| {
        let said = finished.stderr.lines().next().unwrap_or("nothing");
        format!("{path} does not print its version but says: {said}")
    })
}

fn complaint(
    plain: &str,
    suffixes: &[&str],
    chosen: Option<(Variant, Reason)>,
    directories: &[PathBuf],
    unfit: &[String],
) -> String {
    let names: Vec<String> = suffixes.iter().map(|suffix| format!("{plain}{suffix}-restore")).collect();
    let places: Vec<String> = directories.iter().map(|directory| directory.display().to_string()).collect();
    let wanted = chosen.map_or_else(String::new, |(variant, reason)| {
        format!("this host uses {variant}, as {}, but ", reason.text())
    });
    let unfit = if unfit.is_empty() { String::new() } else { format!(" ({})", unfit.join("; ")) };
    format!(
        "{wanted}there is no usable {} with its {plain}-save in {}{unfit}: install the package iptables, in a container \
         into its image",
        names.join(" or "),
        places.join(", ")
    )
}
