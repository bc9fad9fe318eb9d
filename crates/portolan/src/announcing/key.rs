//! What the nodes of a cluster recognise each other by.

use std::path::Path;

use anyhow::{Context, anyhow, bail};
use portolan_announce::Key;
use portolan_config::Config;

/// What the nodes recognise each other by. Without a cluster there may be one node alone.
pub(crate) fn key(config: &Config, in_cluster: bool) -> anyhow::Result<Option<Key>> {
    match &config.announcement.key_file {
        _ if !config.announcement.layer2 => Ok(None),
        Some(path) => read_key(path).map(Some),
        None if in_cluster => bail!(
            "announcement.layer2, which is on where there are pools, needs announcement.keyFile in a cluster \
             (--announcement-key-file): a file with {} bytes or more that is the same on all nodes, by which they \
             recognise each other; or set announcement.layer2 to false",
            Key::SHORTEST
        ),
        None => Ok(None),
    }
}

fn read_key(path: &Path) -> anyhow::Result<Key> {
    let secret = std::fs::read(path)
        .with_context(|| format!("announcement.keyFile {}: give a file that can be read", path.display()))?;
    Key::new(secret.trim_ascii()).ok_or_else(|| {
        anyhow!(
            "announcement.keyFile {}: it has less than {} bytes; write a longer secret, such as that of `openssl rand \
             -hex 32`",
            path.display(),
            Key::SHORTEST
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_needs_a_key() {
        let folder = tempfile::TempDir::new().unwrap();
        let mut config = Config::default();
        let found = |config: &Config, in_cluster| key(config, in_cluster).map(|key| key.is_some());
        assert!(!found(&config, true).unwrap());
        config.announcement.layer2 = true;
        assert!(!found(&config, false).unwrap(), "one host is alone");
        let error = found(&config, true).unwrap_err().to_string();
        assert!(error.contains("--announcement-key-file"), "{error}");
        let file = folder.path().join("key");
        config.announcement.key_file = Some(file.clone());
        for (secret, expected) in [("short", Some("less than 16 bytes")), ("0123456789abcdef\n", None)] {
            std::fs::write(&file, secret).unwrap();
            let error = found(&config, true).err().map(|error| error.to_string());
            match expected {
                None => assert_eq!(error, None),
                Some(text) => assert!(error.as_ref().is_some_and(|error| error.contains(text)), "{error:?}"),
            }
        }
    }
}
