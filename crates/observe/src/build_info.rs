//! What was built: version, commit, platform.

use serde::Serialize;

/// What was built, in the form in which Kubernetes components answer `/version`
/// (`k8s.io/apimachinery/pkg/version.Info`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildInfo {
    /// The first number of the version.
    pub major: String,
    /// The second number of the version.
    pub minor: String,
    /// The version with a `v` before it.
    pub git_version: String,
    /// The commit it was built from; empty if unknown.
    pub git_commit: String,
    /// `clean` or `dirty`; empty if unknown.
    pub git_tree_state: String,
    /// When it was built, RFC 3339; empty if unknown.
    pub build_date: String,
    /// The field is part of the form; there is no Go here, so it is empty.
    pub go_version: String,
    /// The compiler.
    pub compiler: String,
    /// Operating system and architecture in Kubernetes' words, such as `linux/amd64`.
    pub platform: String,
}

impl BuildInfo {
    /// What is known of this build of version `version` (such as `0.3.1`). Commit, tree state and
    /// date are taken from the variables `PORTOLAN_GIT_COMMIT`, `PORTOLAN_GIT_TREE_STATE` and
    /// `PORTOLAN_BUILD_DATE` of the build's environment.
    pub fn new(version: &str) -> BuildInfo {
        let mut numbers = version.split('.');
        let mut number = || numbers.next().unwrap_or_default().to_owned();
        let from_build = |value: Option<&str>| value.unwrap_or_default().to_owned();
        BuildInfo {
            major: number(),
            minor: number(),
            git_version: format!("v{version}"),
            git_commit: from_build(option_env!("PORTOLAN_GIT_COMMIT")),
            git_tree_state: from_build(option_env!("PORTOLAN_GIT_TREE_STATE")),
            build_date: from_build(option_env!("PORTOLAN_BUILD_DATE")),
            go_version: String::new(),
            compiler: "rustc".to_owned(),
            platform: format!("{}/{}", std::env::consts::OS, architecture()),
        }
    }
}

/// The architecture in Kubernetes' words (GOARCH) where they differ from Rust's.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}
