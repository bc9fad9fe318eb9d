//! What `run` needs of the host, looked at before anything is set: all that is missing is said at
//! once.

use std::fs::File;
use std::path::Path;

use anyhow::{anyhow, bail};
use portolan_config::Config;

use crate::cli::RunArgs;
use crate::{announcing, privileges};

/// Where a pod finds how to reach the API server: its address is in this variable, its credentials
/// are in this file.
const IN_CLUSTER: (&str, &str) =
    ("KUBERNETES_SERVICE_HOST", "/var/run/secrets/kubernetes.io/serviceaccount/token");

/// Looks whether rules can be written, and whether there is something to have objects from.
pub(crate) fn check(args: &RunArgs, config: &Config) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    missing.extend(privileges::missing().map(|reason| anyhow!(reason)));
    missing.extend(source(args, config, Path::new(IN_CLUSTER.1)).err());
    missing.extend(announcing::key(config, args.manifests().is_none()).err());
    match missing.as_slice() {
        [] => Ok(()),
        [one] => bail!("{one:#}"),
        all => {
            let lines: Vec<String> = all.iter().map(|reason| format!("\n  {reason:#}")).collect();
            bail!("cannot run:{}", lines.concat())
        }
    }
}

fn source(args: &RunArgs, config: &Config, token: &Path) -> anyhow::Result<()> {
    if let Some(folder) = args.manifests() {
        return match std::fs::read_dir(folder) {
            Ok(_) => Ok(()),
            Err(error) => {
                Err(anyhow!("--manifests {}: {error}; give a folder that can be read", folder.display()))
            }
        };
    }
    if !cfg!(feature = "cluster") {
        // Following a cluster is refused as such.
        return Ok(());
    }
    if let Some(path) = &config.client.kubeconfig {
        let opened = File::open(path);
        let failed = |error| {
            anyhow!(
                "kubeconfig {}: {error}; correct the file, or name another with --kubeconfig",
                path.display()
            )
        };
        return opened.map(drop).map_err(failed);
    }
    let master = args.proxy.flags.master.as_ref().is_some_and(|url| !url.is_empty());
    if !master && (std::env::var_os(IN_CLUSTER.0).is_none() || !token.exists()) {
        bail!(
            "no kubeconfig is given and this is no pod with a service account: give --kubeconfig FILE, or --manifests DIR \
             to forward for a folder of manifests"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn something_to_have_objects_from() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("kubeconfig");
        std::fs::write(&file, "").unwrap();
        let (folder, file) = (folder.path().to_str().unwrap(), file.to_str().unwrap());
        // Flags, what is missing.
        for (flags, expected) in [
            (vec!["--manifests", folder], None),
            (vec!["--manifests", file], Some("give a folder")),
            (vec!["--manifests", "/nonexistent"], Some("--manifests /nonexistent: No such file")),
            (vec!["--kubeconfig", file], None),
            (vec!["--kubeconfig", "/nonexistent"], Some("kubeconfig /nonexistent: No such file")),
            (vec!["--master", "https://192.0.2.1:6443"], None),
            (vec![], Some("give --kubeconfig FILE, or --manifests DIR")),
            (vec!["--kubeconfig=", "--manifests="], Some("give --kubeconfig FILE, or --manifests DIR")),
        ] {
            let cli = Cli::parse_from(["portolan", "run"].iter().chain(&flags));
            let Command::Run(args) = cli.command else { unreachable!() };
            let config = portolan_config::load(&args.proxy.flags, None).unwrap().config;
            let found =
                source(&args, &config, Path::new("/nonexistent/token")).err().map(|error| error.to_string());
            match expected {
                None => assert_eq!(found, None, "{flags:?}"),
                Some(text) => {
                    assert!(found.as_ref().is_some_and(|found| found.contains(text)), "{flags:?}: {found:?}");
                }
            }
        }
    }
}
