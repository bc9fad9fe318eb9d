//! The effective configuration: flags and configuration file put together, with all that is wrong
//! said at once.

use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
pub(crate) use portolan_config::Loaded;
use portolan_config::watch::ConfigFile;
use portolan_config::{Config, ConfigError, Flags, Level, Note};
use tracing::{error, info, warn};

/// The configuration that `flags` ask for, and the file that it is in, already watched.
pub(crate) fn load(flags: &Flags) -> anyhow::Result<(Loaded, Option<ConfigFile>)> {
    let file = flags.file().map(ConfigFile::open).transpose().context("--config")?;
    let text = file.as_ref().map(|file| (file.path(), file.text()));
    match portolan_config::load(flags, text) {
        Ok(loaded) => Ok((loaded, file)),
        Err(errors) => bail!(unusable(&errors)),
    }
}

/// All that is wrong, for people.
pub(crate) fn unusable(errors: &[ConfigError]) -> String {
    let lines: Vec<String> = errors.iter().map(|error| format!("\n  {error}")).collect();
    format!("the configuration cannot be used:{}", lines.concat())
}

/// Logs what an operator should know of the configuration.
pub(crate) fn log<'a>(notes: impl IntoIterator<Item = &'a Note>) {
    for note in notes {
        match note.level {
            Level::Warning => warn!("{note}"),
            Level::Info => info!("{note}"),
        }
    }
}

/// Writes the configuration as kube-proxy's `--write-config-to` does (spec §10.5).
pub(crate) fn write(config: &Config, path: &Path) -> anyhow::Result<()> {
    fs::write(path, portolan_config::write(config))
        .with_context(|| format!("--write-config-to {}", path.display()))?;
    info!("wrote the configuration to {}", path.display());
    Ok(())
}

/// Waits until the file says something else that can be used. That is an error: the process ends,
/// for its supervisor to start it again (spec §10.3). What cannot be used is logged, and the
/// process goes on with what it has.
pub(crate) fn until_changed(flags: &Flags, in_use: &Config, file: &mut ConfigFile) -> anyhow::Result<()> {
    let path = file.path().to_owned();
    loop {
        match portolan_config::load(flags, Some((&path, file.wait()?))) {
            Ok(loaded) if loaded.config == *in_use => {}
            Ok(_) => {
                let path = path.display();
                return Err(anyhow!(
                    "the configuration file {path} has changed; ending, to be started again with it"
                ));
            }
            Err(errors) => error!("{}; going on with the previous one", unusable(&errors)),
        }
    }
}

/// The configuration that these flags alone make.
#[cfg(test)]
pub(crate) fn of_flags(flags: &[&str]) -> Config {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }
    let line = <Line as clap::Parser>::parse_from(["test"].iter().chain(flags));
    portolan_config::load(&line.flags, None).unwrap().config
}
