//! A kubeconfig, checked field by field before the client library sees it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use kube::config::{AuthInfo, AuthProviderConfig, Cluster, ExecAuthCluster, Kubeconfig};
use secrecy::ExposeSecret as _;

use super::credentials::{Credentials, TokenFile};
use super::exec::Plugin;
use super::{header, server};
use crate::Error;

/// The most that is read of a kubeconfig, in bytes: certificates of many clusters fit.
const LENGTH: u64 = 16 << 20;
/// The most groups and further attributes to act as: each is a header of each request.
const IMPERSONATED: usize = 256;
/// Where a proxy's URL would be looked for in the environment, this stands for "none".
const NO_PROXY: &str = "http://none.invalid";

/// Reads the kubeconfig at `path` and checks the cluster and the user of its current context.
/// `master` is a URL to use instead of the cluster's. Credentials are taken out of what is returned
/// first.
pub(super) fn checked(path: &Path, master: Option<String>) -> Result<(Kubeconfig, Credentials), Error> {
    let text = read(path).map_err(|reason| Error::Read { path: path.to_owned(), reason })?;
    let mut kubeconfig = Kubeconfig::from_yaml(&text)
        .map_err(|reason| Error::Kubeconfig { path: path.to_owned(), reason: Box::new(reason) })?;
    let mut credentials = Credentials::None;
    let context = kubeconfig.current_context.clone();
    let context = kubeconfig.contexts.iter().find(|named| Some(&named.name) == context.as_ref());
    // Where there is none, the library says so.
    if let Some(context) = context.and_then(|named| named.context.clone()) {
        let folder = path.parent().unwrap_or(Path::new(""));
        let named = kubeconfig.clusters.iter_mut().find(|named| named.name == context.cluster);
        let cluster = named.and_then(|named| named.cluster.as_mut());
        let user = context.user.unwrap_or_default();
        let named = kubeconfig.auth_infos.iter_mut().find(|named| named.name == user);
        let mut nobody = AuthInfo::default();
        let auth = named.and_then(|named| named.auth_info.as_mut()).unwrap_or(&mut nobody);
        let at = |field: Wrong| Error::Field {
            from: format!("kubeconfig {}", path.display()),
            field: match field.of {
                Of::Cluster => format!("cluster {:?}: {}", context.cluster, field.name),
                Of::User => format!("user {user:?}: {}", field.name),
            },
            reason: field.reason,
        };
        if let Some(cluster) = cluster {
            check_cluster(cluster, auth, master, folder).map_err(at)?;
            check_user(auth, folder).map_err(at)?;
            credentials = take_credentials(auth, cluster).map_err(at)?;
        }
    }
    Ok((kubeconfig, credentials))
}

/// Checks what the library made of the kubeconfig.
pub(super) fn check_result(path: &Path, library: &kube::Config) -> Result<(), Error> {
    if library.root_cert.as_ref().is_some_and(Vec::is_empty) {
        return Err(Error::Field {
            from: format!("kubeconfig {}", path.display()),
            field: "certificate-authority".to_owned(),
            reason: "there is no certificate in it".to_owned(),
        });
    }
    Ok(())
}

/// A field that cannot be used.
struct Wrong {
    of: Of,
    name: &'static str,
    reason: String,
}

enum Of {
    Cluster,
    User,
}

fn cluster(name: &'static str, reason: impl Into<String>) -> Wrong {
    Wrong { of: Of::Cluster, name, reason: reason.into() }
}

fn user(name: &'static str, reason: impl Into<String>) -> Wrong {
    Wrong { of: Of::User, name, reason: reason.into() }
}

/// The text of a file: UTF-8, or UTF-16 with a byte order mark, as some editors write it.
fn read(path: &Path) -> io::Result<String> {
    let invalid = |text: &'static str| io::Error::new(io::ErrorKind::InvalidData, text);
    let mut bytes = Vec::new();
    if File::open(path)?.take(LENGTH + 1).read_to_end(&mut bytes)? as u64 > LENGTH {
        return Err(invalid("it is too large to be a kubeconfig"));
    }
    let unit = match bytes.as_slice() {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        [0xef, 0xbb, 0xbf, rest @ ..] => {
            return String::from_utf8(rest.to_vec()).map_err(|_| invalid("it is not UTF-8"));
        }
        _ => return String::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8")),
    };
    let (units, odd) = bytes[2..].as_chunks::<2>();
    if !odd.is_empty() {
        return Err(invalid("it is not UTF-16: half a character is at its end"));
    }
    let units: Vec<u16> = units.iter().map(|pair| unit(*pair)).collect();
    String::from_utf16(&units).map_err(|_| invalid("it is not UTF-16"))
}

fn check_cluster(
    of: &mut Cluster,
    auth: &AuthInfo,
    master: Option<String>,
    folder: &Path,
) -> Result<(), Wrong> {
    clean(&mut of.certificate_authority);
    clean(&mut of.certificate_authority_data);
    clean(&mut of.tls_server_name);
    absolute(folder, &mut of.certificate_authority);
    unwrapped(&mut of.certificate_authority_data);
    of.server = Some(if let Some(master) = master {
        master
    } else {
        let text = of.server.as_deref().unwrap_or_default();
        // As client-go takes a host without a scheme.
        let tls = of.certificate_authority.is_some()
            || of.certificate_authority_data.is_some()
            || of.insecure_skip_tls_verify == Some(true)
            || auth.client_certificate.is_some()
            || auth.client_certificate_data.is_some();
        let url = server::url(text, if tls { "https" } else { "http" });
        url.map_err(|reason| cluster("server", format!("{text:?}: {reason}; write it as https://HOST:PORT")))?
            .to_string()
    });
    if let Some(name) = of.tls_server_name.as_deref().filter(|name| !server::is_server_name(name)) {
        return Err(cluster("tls-server-name", format!("{name:?} is neither a DNS name nor an address")));
    }
    if let Some(url) = of.proxy_url.take().filter(|url| !url.trim().is_empty()) {
        return Err(cluster(
            "proxy-url",
            format!("{url:?}: the API server cannot be followed through a proxy; remove it"),
        ));
    }
    of.proxy_url = Some(NO_PROXY.to_owned());
    Ok(())
}

fn check_user(of: &mut AuthInfo, folder: &Path) -> Result<(), Wrong> {
    for path in [&mut of.client_certificate, &mut of.client_key, &mut of.token_file] {
        clean(path);
        absolute(folder, path);
    }
    clean(&mut of.client_certificate_data);
    unwrapped(&mut of.client_certificate_data);
    let mut key = of.client_key_data.take().map(|key| key.expose_secret().to_owned());
    clean(&mut key);
    unwrapped(&mut key);
    of.client_key_data = key.map(Into::into);
    if let Some(exec) = &mut of.exec
        && exec.command.as_ref().is_some_and(|command| command.contains('/'))
    {
        absolute(folder, &mut exec.command);
    }
    for (name, value) in [("as", &mut of.impersonate), ("as-uid", &mut of.impersonate_uid)] {
        clean(value);
        check_header(name, value.as_deref())?;
    }
    let groups = of.impersonate_groups.as_deref().unwrap_or_default();
    let extra = of.impersonate_user_extra.iter().flatten();
    let count = groups.len() + extra.clone().map(|(_, values)| values.len()).sum::<usize>();
    if count > IMPERSONATED {
        let name = if groups.len() > IMPERSONATED { "as-groups" } else { "as-user-extra" };
        return Err(user(name, format!("there are {count}, and at most {IMPERSONATED} can be used")));
    }
    groups.iter().try_for_each(|group| check_header("as-groups", Some(group)))?;
    for (key, values) in extra {
        if key.is_empty() || key.len() > 1024 {
            return Err(user("as-user-extra", format!("a key of {} bytes cannot be used", key.len())));
        }
        values.iter().try_for_each(|value| check_header("as-user-extra", Some(value)))?;
    }
    Ok(())
}

/// Each of these values becomes a header of each request.
fn check_header(name: &'static str, value: Option<&str>) -> Result<(), Wrong> {
    match value {
        Some(value) if value.len() > 4096 || http::HeaderValue::from_str(value).is_err() => {
            Err(user(name, "it is too long, or has a character that cannot be in a header"))
        }
        _ => Ok(()),
    }
}

/// Takes out of `auth` who sends requests. A client certificate stays.
fn take_credentials(auth: &mut AuthInfo, of: &Cluster) -> Result<Credentials, Wrong> {
    let token = auth.token.take().filter(|token| !token.expose_secret().trim().is_empty());
    let token = token.map(|token| header::bearer(token.expose_secret())).transpose();
    let token = token.map_err(|reason| user("token", reason))?;
    if let Some(file) = auth.token_file.take() {
        let file = TokenFile::open(file.into(), token).map_err(|reason| user("tokenFile", reason))?;
        return Ok(Credentials::File(file));
    }
    if let Some(token) = token {
        return Ok(Credentials::Fixed(token));
    }
    if let (Some(name), Some(password)) = (auth.username.take(), auth.password.take()) {
        let header = header::basic(&name, password.expose_secret());
        let header = header.map_err(|reason| user("username", reason))?;
        return Ok(Credentials::Fixed(header));
    }
    if let Some(AuthProviderConfig { name, config, .. }) = auth.auth_provider.take() {
        return match (name.as_str(), config.get("id-token")) {
            ("oidc", Some(token)) => header::bearer(token)
                .map(Credentials::Fixed)
                .map_err(|reason| user("auth-provider: id-token", reason)),
            _ => Err(user(
                "auth-provider",
                format!("{name:?} cannot be used; give exec, tokenFile or a client certificate"),
            )),
        };
    }
    let Some(mut exec) = auth.exec.take() else { return Ok(Credentials::None) };
    let asked = std::mem::take(&mut exec.provide_cluster_info);
    let info = asked.then(|| {
        let info = ExecAuthCluster::try_from(of);
        info.map(|info| ExecAuthCluster { proxy_url: None, ..info })
    });
    let info = info.transpose().map_err(|error| cluster("certificate-authority", error.to_string()))?;
    let plugin = Plugin::new(exec, info.as_ref());
    let plugin = plugin.map_err(|(field, reason)| user("exec", format!("{field}: {reason}")))?;
    Ok(Credentials::Exec(Box::new(plugin)))
}

/// An empty value is none, as in client-go.
fn clean(value: &mut Option<String>) {
    if value.as_ref().is_some_and(|text| text.trim().is_empty()) {
        *value = None;
    }
}

/// Data may be wrapped over several lines.
fn unwrapped(data: &mut Option<String>) {
    if let Some(text) = data {
        text.retain(|c| !c.is_ascii_whitespace());
    }
}

/// Paths are relative to the file that has them.
fn absolute(folder: &Path, path: &mut Option<String>) {
    if let Some(text) = path
        && !Path::new(text.as_str()).is_absolute()
        && let Ok(whole) = PathBuf::from(folder).join(text.as_str()).into_os_string().into_string()
    {
        *text = whole;
    }
}
