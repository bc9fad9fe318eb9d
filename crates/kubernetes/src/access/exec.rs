//! Credentials from a program, as client-go has it: `client.authentication.k8s.io`, version `v1` or
//! `v1beta1`.
//!
//! The program is asked for credentials in the environment variable `KUBERNETES_EXEC_INFO` and
//! prints an `ExecCredential`. It has no terminal to ask anybody, and a bounded time.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use http::HeaderValue;
use jiff::Timestamp;
use kube::config::{ExecAuthCluster, ExecConfig, ExecInteractiveMode};
use serde::Deserialize;
use serde_json::json;

use super::header::bearer;
use crate::{Observation, Status};

/// The versions of the protocol.
const VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];
/// A program that takes longer is ended.
const PATIENCE: Duration = Duration::from_mins(1);
/// The most that a program may print, in bytes.
const OUTPUT: u64 = 1 << 20;
/// The most that is reported of what it says of an error, in bytes.
const COMPLAINT: usize = 1024;
/// New credentials are asked for this long before the old ones end.
const EARLY: Duration = Duration::from_mins(1);

/// A program that gives credentials.
#[derive(Debug)]
pub(super) struct Plugin {
    command: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// `KUBERNETES_EXEC_INFO`
    question: String,
    hint: String,
    patience: Duration,
}

/// What a program gave.
#[derive(Debug)]
pub(super) struct Given {
    /// The header with the token.
    pub(super) token: Option<HeaderValue>,
    /// The client certificate.
    pub(super) identity: Option<Identity>,
    /// When it must be asked again.
    pub(super) expires: Option<SystemTime>,
}

/// A client certificate and its key, as PEM.
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// Why a program gave no credentials.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// There is no such program, or it must not be run.
    #[error("{command} cannot be run: {reason}{hint}")]
    Start {
        /// The program.
        command: String,
        /// What the system says.
        reason: io::Error,
        /// What the kubeconfig says of how to get it; with a leading separator, or empty.
        hint: String,
    },
    /// It failed, or was ended.
    #[error("{command} failed ({status}){complaint}")]
    Failed {
        /// The program.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said; with a leading separator, or empty.
        complaint: String,
    },
    /// It did not end in time, and was ended.
    #[error("{command} had not ended after {patience:?}{complaint}")]
    Slow {
        /// The program.
        command: String,
        /// How long it had.
        patience: Duration,
        /// What it said; with a leading separator, or empty.
        complaint: String,
    },
    /// What it printed cannot be used.
    #[error("{command} printed no credentials that can be used: {reason}")]
    Output {
        /// The program.
        command: String,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Deserialize)]
struct Credential {
    status: Option<CredentialStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CredentialStatus {
    expiration_timestamp: Option<String>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

impl Plugin {
    /// The program of a kubeconfig. The error is a field of `exec` and what is wrong with it.
    pub(super) fn new(
        exec: ExecConfig,
        cluster: Option<&ExecAuthCluster>,
    ) -> Result<Plugin, (&'static str, String)> {
        let ExecConfig { api_version, command, args, env, install_hint, interactive_mode, .. } = exec;
        let version = api_version.unwrap_or_default();
        if !VERSIONS.contains(&version.as_str()) {
            return Err((
                "apiVersion",
                format!("{version:?} is neither {} nor {}", VERSIONS[0], VERSIONS[1]),
            ));
        }
        if interactive_mode == Some(ExecInteractiveMode::Always) {
            return Err(("interactiveMode", "Always needs a terminal, and there is none".to_owned()));
        }
        let command =
            command.filter(|command| !command.is_empty()).ok_or(("command", "is missing".to_owned()))?;
        let arguments = args.unwrap_or_default();
        let mut environment = Vec::new();
        for mut variable in env.unwrap_or_default() {
            let name = variable.remove("name").unwrap_or_default();
            let value = variable.remove("value").unwrap_or_default();
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(("env", format!("{name:?} cannot be the name of a variable, or have its value")));
            }
            environment.push((name, value));
        }
        if command.contains('\0') || arguments.iter().any(|argument| argument.contains('\0')) {
            return Err(("command", "it or its arguments have a NUL character".to_owned()));
        }
        let mut spec = json!({ "interactive": false });
        if let Some(cluster) = cluster {
            spec["cluster"] =
                serde_json::to_value(cluster).map_err(|error| ("cluster", error.to_string()))?;
        }
        let question = json!({ "apiVersion": version, "kind": "ExecCredential", "spec": spec }).to_string();
        let hint = install_hint.map_or_else(String::new, |hint| format!("; {}", hint.trim()));
        Ok(Plugin { command, arguments, environment, question, hint, patience: PATIENCE })
    }

    /// Runs it and returns what it gives. Blocks until it has ended.
    pub(super) fn run(&self, status: &Status) -> Result<Given, PluginError> {
        let result = self.output().and_then(|output| self.read(&output));
        let (code, outcome) = match &result {
            Ok(_) => (0, "no_error"),
            Err(PluginError::Start { .. }) => (1, "plugin_not_found_error"),
            Err(PluginError::Failed { status, .. }) => (status.code().unwrap_or(1), "plugin_execution_error"),
            Err(PluginError::Slow { .. }) => (1, "plugin_execution_error"),
            Err(PluginError::Output { .. }) => (1, "client_internal_error"),
        };
        status.observe(&Observation::Plugin { code, outcome });
        result
    }

    fn output(&self) -> Result<Vec<u8>, PluginError> {
        let begun = Instant::now();
        let mut child = Command::new(&self.command)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("KUBERNETES_EXEC_INFO", &self.question)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|reason| self.not_started(reason))?;
        let output = reader(child.stdout.take()).map_err(|reason| self.not_started(reason))?;
        let complaint = reader(child.stderr.take()).map_err(|reason| self.not_started(reason))?;
        let left = || self.patience.saturating_sub(begun.elapsed());
        let printed = output.recv_timeout(left());
        let ended = printed.is_ok().then(|| end(&mut child, left())).flatten();
        let said = |patience| {
            let said: Vec<u8> = complaint.recv_timeout(patience).unwrap_or_default();
            let said = String::from_utf8_lossy(&said[..said.len().min(COMPLAINT)]).trim().to_owned();
            if said.is_empty() { said } else { format!(": {said}") }
        };
        let command = self.command.clone();
        match (printed, ended) {
            (Ok(output), Some(status)) if status.success() => Ok(output),
            (Ok(_), Some(status)) => {
                Err(PluginError::Failed { command, status, complaint: said(Duration::from_millis(100)) })
            }
            _ => {
                // It may have ended by itself meanwhile.
                let _ = child.kill();
                let _ = child.wait();
                let complaint = said(Duration::from_millis(100));
                Err(PluginError::Slow { command, patience: self.patience, complaint })
            }
        }
    }

    fn not_started(&self, reason: io::Error) -> PluginError {
        PluginError::Start { command: self.command.clone(), reason, hint: self.hint.clone() }
    }

    fn read(&self, output: &[u8]) -> Result<Given, PluginError> {
        let wrong = |reason: String| PluginError::Output { command: self.command.clone(), reason };
        // JSON as a rule; client-go reads YAML, too.
        let text = std::str::from_utf8(output).map_err(|error| wrong(error.to_string()))?;
        let trees = portolan_yaml::parse(text, 1).map_err(|error| wrong(error.message))?;
        let value = trees.first().map(portolan_yaml::Tree::to_json).unwrap_or_default();
        let credential: Credential =
            serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
        let status = credential.status.ok_or_else(|| wrong("it has no status".to_owned()))?;
        let expires = status.expiration_timestamp.as_deref().map(str::parse::<Timestamp>).transpose();
        let expires = expires.map_err(|error| wrong(format!("expirationTimestamp: {error}")))?;
        let expires = expires.map(|at| {
            let at = SystemTime::from(at);
            at.checked_sub(EARLY).unwrap_or(at)
        });
        let token = status.token.filter(|token| !token.is_empty()).as_deref().map(bearer).transpose();
        let token = token.map_err(|reason| wrong(format!("token: {reason}")))?;
        let full = |data: Option<String>| data.filter(|text| !text.is_empty());
        let identity = match (full(status.client_certificate_data), full(status.client_key_data)) {
            (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
            (None, None) => None,
            _ => return Err(wrong("a certificate and its key belong together".to_owned())),
        };
        if token.is_none() && identity.is_none() {
            return Err(wrong("there is neither a token nor a certificate".to_owned()));
        }
        Ok(Given { token, identity, expires })
    }
}

/// Reads what comes from `pipe` in a thread of its own, so that what nobody closes can be given up.
fn reader(pipe: Option<impl Read + Send + 'static>) -> io::Result<Receiver<Vec<u8>>> {
    let (sender, receiver) = channel();
    if let Some(pipe) = pipe {
        thread::Builder::new().name("credentials".to_owned()).spawn(move || {
            let mut output = Vec::new();
            // What was read so far is all there is.
            let _ = pipe.take(OUTPUT).read_to_end(&mut output);
            let _ = sender.send(output);
        })?;
    }
    Ok(receiver)
}

/// Waits until `child` has ended, which it does once it has closed its output. `None` if it does
/// not within `patience`.
fn end(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if begun.elapsed() < patience => thread::sleep(Duration::from_millis(5)),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(script: &str) -> Plugin {
        let exec = ExecConfig {
            api_version: Some(VERSIONS[0].to_owned()),
            command: Some("/bin/sh".to_owned()),
            args: Some(vec!["-c".to_owned(), script.to_owned()]),
            ..ExecConfig::default()
        };
        let mut plugin = Plugin::new(exec, None).unwrap();
        plugin.patience = Duration::from_secs(5);
        plugin
    }

    fn run(plugin: &Plugin) -> Result<Given, String> {
        plugin.run(&Status::new(String::new(), crate::Followed::default())).map_err(|error| error.to_string())
    }

    #[test]
    fn what_programs_print() {
        // Name, script, and the header, no header, or a part of the error.
        type Row = (&'static str, &'static str, Result<Option<&'static str>, &'static str>);
        let table: &[Row] = &[
            ("a token", r#"echo '{"status":{"token":"x"}}'"#, Ok(Some("Bearer x"))),
            ("YAML", "printf 'kind: ExecCredential\nstatus:\n  token: y\n'", Ok(Some("Bearer y"))),
            (
                "a certificate",
                r#"echo '{"status":{"clientCertificateData":"c","clientKeyData":"k"}}'"#,
                Ok(None),
            ),
            ("half a certificate", r#"echo '{"status":{"clientKeyData":"k"}}'"#, Err("belong together")),
            ("two words", r#"echo '{"status":{"token":"a b"}}'"#, Err("at byte 2")),
            ("nothing in it", r#"echo '{"status":{}}'"#, Err("neither a token")),
            ("no status", "echo '{}'", Err("no status")),
            ("nothing", "true", Err("printed no credentials")),
            ("other text", "echo hello", Err("printed no credentials")),
            (
                "a time that is none",
                r#"echo '{"status":{"token":"x","expirationTimestamp":"soon"}}'"#,
                Err("expirationTimestamp"),
            ),
            ("a failure", "echo log in first >&2; exit 3", Err("exit status: 3): log in first")),
        ];
        for (name, script, expected) in table {
            match (run(&plugin(script)), expected) {
                (Ok(given), Ok(wanted)) => {
                    assert_eq!(given.token.as_ref().map(|token| token.to_str().unwrap()), *wanted, "{name}");
                    assert_eq!(given.identity.is_some(), wanted.is_none(), "{name}");
                }
                (Err(reason), Err(part)) => assert!(reason.contains(part), "{name}: {reason}"),
                (result, _) => panic!("{name}: {result:?}"),
            }
        }
    }

    #[test]
    fn it_is_asked_again_before_its_credentials_end() {
        let script = r#"echo '{"status":{"token":"x","expirationTimestamp":"2040-01-01T00:01:00Z"}}'"#;
        let at: Timestamp = "2040-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(run(&plugin(script)).unwrap().expires, Some(SystemTime::from(at)));
    }

    #[test]
    fn it_knows_what_is_asked() {
        let script = r#"test -n "$KUBERNETES_EXEC_INFO" && echo "$KUBERNETES_EXEC_INFO" | grep -q '"interactive":false' \
            && echo '{"status":{"token":"x"}}'"#;
        assert!(run(&plugin(script)).is_ok());
    }

    #[test]
    fn one_that_does_not_end_is_ended() {
        let mut slow = plugin("echo waiting >&2; exec sleep 600");
        slow.patience = Duration::from_millis(200);
        let begun = Instant::now();
        let reason = run(&slow).unwrap_err();
        assert!(reason.contains("200ms: waiting"), "{reason}");
        assert!(begun.elapsed() < Duration::from_mins(1), "not waited for");
    }

    type Spoil = fn(&mut ExecConfig);

    #[test]
    fn fields_that_cannot_be_used_are_named() {
        let good = || ExecConfig {
            api_version: Some(VERSIONS[1].to_owned()),
            command: Some("x".to_owned()),
            ..ExecConfig::default()
        };
        let table: [(&str, Spoil); 4] = [
            ("apiVersion", |exec| {
                exec.api_version = Some("client.authentication.k8s.io/v1alpha1".to_owned());
            }),
            ("command", |exec| exec.command = None),
            ("interactiveMode", |exec| exec.interactive_mode = Some(ExecInteractiveMode::Always)),
            ("env", |exec| exec.env = Some(vec![[("value".to_owned(), "v".to_owned())].into()])),
        ];
        assert!(Plugin::new(good(), None).is_ok());
        for (field, spoil) in table {
            let mut exec = good();
            spoil(&mut exec);
            assert_eq!(Plugin::new(exec, None).unwrap_err().0, field);
        }
    }
}
