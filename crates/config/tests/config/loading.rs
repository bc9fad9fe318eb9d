//! Loads configurations, and looks at what came of them.

use std::path::Path;

use clap::Parser;
use portolan_config::{Config, Flags, Loaded, to_json};
use serde_json::Value;

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

/// Paths and values.
pub(crate) type Expected<'e> = &'e [(&'e str, Value)];

/// The values at these paths.
pub(crate) fn values(config: &Config, paths: &[&str]) -> Vec<Value> {
    let object = to_json(config);
    let value = |path: &&str| {
        let pointer = format!("/{}", path.replace('.', "/"));
        object.pointer(&pointer).unwrap_or_else(|| panic!("{path} is missing")).clone()
    };
    paths.iter().map(value).collect()
}

/// The values that differ between two objects, as `path: value`.
pub(crate) fn differences(base: &Value, other: &Value, path: &str, found: &mut Vec<String>) {
    match (base, other) {
        (Value::Object(base), Value::Object(other)) => {
            for (key, value) in other {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                differences(base.get(key).unwrap_or(&Value::Null), value, &path, found);
            }
        }
        _ if base == other => {}
        _ => found.push(format!("{path}: {other}")),
    }
}
