//! Files given on the command line, and standard input.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, bail};

/// Reads files, and standard input for `-`.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// Standard input was read already.
    taken: bool,
}

impl Inputs {
    /// The text in the file `path`. What is not UTF-8 is replaced.
    pub(crate) fn read(&mut self, path: &Path) -> anyhow::Result<String> {
        if path != Path::new("-") {
            let bytes = fs::read(path).with_context(|| path.display().to_string())?;
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        if self.taken {
            bail!("standard input (`-`) can be read only once: save one of the dumps to a file");
        }
        self.taken = true;
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).context("standard input")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
