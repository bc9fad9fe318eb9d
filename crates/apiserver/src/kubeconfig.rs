//! Client configurations that lead to the server.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::tls::Identities;

/// How the client of a kubeconfig says who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Not at all.
    None,
    /// By a token in the kubeconfig.
    Token(String),
    /// By a token in a file, which the client reads again from time to time.
    TokenFile(PathBuf),
    /// By a certificate in the kubeconfig.
    ClientCertificate,
    /// By what a program prints (an `ExecCredential`).
    Exec {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
    },
}

impl Credentials {
    fn user(&self, identities: &Identities) -> Value {
        match self {
            Self::None => json!({}),
            Self::Token(token) => json!({ "token": token }),
            Self::TokenFile(path) => json!({ "tokenFile": path }),
            Self::ClientCertificate => json!({
                "client-certificate-data": STANDARD.encode(&identities.client_certificate_pem),
                "client-key-data": STANDARD.encode(&identities.client_key_pem),
            }),
            Self::Exec { command, args } => json!({ "exec": {
                "apiVersion": "client.authentication.k8s.io/v1",
                "command": command,
                "args": args,
                "interactiveMode": "Never",
            } }),
        }
    }
}

/// Writes a kubeconfig (JSON is YAML).
pub(crate) fn write(
    path: &Path,
    url: &str,
    identities: &Identities,
    credentials: &Credentials,
) -> io::Result<()> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fixture",
        "clusters": [{ "name": "fixture", "cluster": {
            "server": url,
            "certificate-authority-data": STANDARD.encode(&identities.ca_pem),
        } }],
        "users": [{ "name": "fixture", "user": credentials.user(identities) }],
        "contexts": [{ "name": "fixture", "context": { "cluster": "fixture", "user": "fixture" } }],
    });
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, format!("{config:#}\n").as_bytes())
}
