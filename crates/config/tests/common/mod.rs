//! What the tests share. Each takes what it needs.
#![allow(dead_code)]

use std::path::Path;

use clap::Parser;
use portolan_config::{Flags, Loaded};

#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    flags: Flags,
}

/// Flags from words separated by white space.
pub(crate) fn flags(words: &str) -> Flags {
    let words = ["kube-proxy"].into_iter().chain(words.split_whitespace());
    Program::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).flags
}

/// A configuration file of these lines, after two that say what it is.
pub(crate) fn file(lines: &str) -> String {
    format!("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n{lines}")
}

/// Loads flags, and these lines as a configuration file `c`.
pub(crate) fn load(words: &str, lines: Option<&str>) -> Result<Loaded, Vec<String>> {
    let text = lines.map(file);
    let file = text.as_deref().map(|text| (Path::new("c"), text));
    portolan_config::load(&flags(words), file)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// What is noted of an accepted configuration.
pub(crate) fn notes(loaded: &Loaded) -> Vec<String> {
    loaded.notes.iter().map(ToString::to_string).collect()
}
