//! How to reach the API server, and as whom: what a kubeconfig, a URL or the pod's service account
//! say, checked before any of it is handed to the client library, which takes some values for good
//! that are not.

mod credentials;
mod exec;
mod header;
mod kubeconfig;
mod resolver;
mod server;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use data_encoding::BASE64;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::ConfigExt;
use kube::config::KubeConfigOptions;
use tower::{BoxError, ServiceBuilder};

use crate::{Error, Observation, Options, Status};

pub(crate) use credentials::Authorization;
use credentials::{Credentials, TokenFile};
pub use exec::PluginError;
use resolver::Resolver;

/// How long an unused connection is kept: long enough for the pages of a list, too short to become
/// half-open unnoticed.
const IDLE_CONNECTION: Duration = Duration::from_secs(10);
/// The most of an answer that is read at once. Answers are taken in as they come.
const READ_BUFFER: usize = 64 * 1024;
/// A peer that has said nothing for this long is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How often it is asked, and how many times, until the connection is given up.
const KEEPALIVE_AGAIN: (Duration, u32) = (Duration::from_secs(5), 3);
/// The variables that name a proxy for everything.
const PROXY_VARIABLES: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];

/// Where the API server is and where the credentials come from.
#[derive(Debug)]
pub(crate) struct Access {
    kubeconfig: Option<PathBuf>,
    master: Option<String>,
    connect_timeout: Duration,
    /// What is no error and lasts was reported.
    reported: AtomicBool,
}

/// A way to the API server.
pub(crate) struct Way {
    /// Sends requests. They carry no credentials but a client certificate.
    pub(crate) client: kube::Client,
    /// What each request says of who sends it.
    pub(crate) authorization: Authorization,
    /// When new credentials are needed.
    pub(crate) expires: Option<SystemTime>,
}

/// What the configuration says, as it is now.
pub(crate) struct Configuration {
    pub(crate) library: kube::Config,
    credentials: Credentials,
}

impl Access {
    pub(crate) fn new(options: &Options, connect_timeout: Duration) -> Access {
        Access {
            kubeconfig: options.kubeconfig.clone(),
            master: options.master.clone().filter(|url| !url.is_empty()),
            connect_timeout,
            reported: AtomicBool::new(false),
        }
    }

    /// Reads the configuration. Runs no program.
    pub(crate) async fn configuration(&self) -> Result<Configuration, Error> {
        let master = match &self.master {
            Some(text) => Some(
                server::url(text, "http")
                    .map_err(|reason| Error::Master { url: text.clone(), reason })?
                    .to_string(),
            ),
            None => None,
        };
        match (&self.kubeconfig, master) {
            (Some(path), master) => {
                let (kubeconfig, credentials) = kubeconfig::checked(path, master)?;
                let failed = |reason| Error::Kubeconfig { path: path.clone(), reason: Box::new(reason) };
                let choice = KubeConfigOptions::default();
                let library = kube::Config::from_custom_kubeconfig(kubeconfig, &choice).await;
                let mut library = library.map_err(failed)?;
                // It takes the one of the environment, too.
                library.proxy_url = None;
                kubeconfig::check_result(path, &library)?;
                self.report(&library);
                Ok(Configuration { library, credentials })
            }
            (None, Some(master)) => {
                let url = master.parse().map_err(|_| Error::Master {
                    url: master.clone(),
                    reason: "it cannot be used".to_owned(),
                })?;
                Ok(Configuration { library: kube::Config::new(url), credentials: Credentials::None })
            }
            (None, None) => {
                let mut library =
                    kube::Config::incluster().map_err(|reason| Error::InCluster(Box::new(reason)))?;
                let url = library.cluster_url.to_string();
                server::url(&url, "https").map_err(|reason| Error::Master { url, reason })?;
                let path = library.auth_info.token_file.take().map(PathBuf::from);
                let credentials = path.map(|path| TokenFile::open(path, None)).transpose();
                let credentials = credentials.map_err(|reason| Error::Field {
                    from: self.source(),
                    field: "token".to_owned(),
                    reason,
                })?;
                let credentials = credentials.map_or(Credentials::None, Credentials::File);
                Ok(Configuration { library, credentials })
            }
        }
    }

    /// Gets the credentials, which may run a program, and makes what sends requests.
    pub(crate) fn open(&self, configuration: Configuration, status: &Arc<Status>) -> Result<Way, Error> {
        let Configuration { mut library, credentials } = configuration;
        let from = self.source();
        let (authorization, expires) = match credentials {
            Credentials::None => (Authorization::None, None),
            Credentials::Fixed(value) => (Authorization::Fixed(value), None),
            Credentials::File(file) => (Authorization::File(file), None),
            Credentials::Exec(plugin) => {
                let given = plugin.run(status);
                let given = given.map_err(|reason| Error::Plugin { from: from.clone(), reason })?;
                if let Some(identity) = given.identity {
                    let auth = &mut library.auth_info;
                    auth.client_certificate_data = Some(BASE64.encode(identity.certificate.as_bytes()));
                    auth.client_key_data = Some(BASE64.encode(identity.key.as_bytes()).into());
                    status.certificate(given.expires);
                }
                (given.token.map_or(Authorization::None, Authorization::Fixed), given.expires)
            }
        };
        let failed = |reason| Error::Credentials { from: from.clone(), reason: Box::new(reason) };
        let mut connector = HttpConnector::new_with_resolver(Resolver::new(status.clone()));
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(self.connect_timeout));
        connector.set_keepalive(Some(KEEPALIVE));
        connector.set_keepalive_interval(Some(KEEPALIVE_AGAIN.0));
        connector.set_keepalive_retries(Some(KEEPALIVE_AGAIN.1));
        connector.set_tcp_user_timeout(Some(KEEPALIVE));
        let connector = library.rustls_https_connector_with_connector(connector).map_err(failed)?;
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION)
            .pool_max_idle_per_host(2)
            .http1_max_buf_size(READ_BUFFER)
            .build(connector);
        let service = ServiceBuilder::new()
            .layer(library.base_uri_layer())
            .layer(library.extra_headers_layer().map_err(failed)?)
            .map_err(BoxError::from)
            .service(client);
        status.observe(&Observation::Transport);
        Ok(Way { client: kube::Client::new(service, library.default_namespace), authorization, expires })
    }

    /// Where the configuration comes from, in words.
    fn source(&self) -> String {
        match &self.kubeconfig {
            Some(path) => format!("kubeconfig {}", path.display()),
            None => "the pod's service account".to_owned(),
        }
    }

    /// Says once what is as configured and yet worth knowing.
    fn report(&self, library: &kube::Config) {
        if self.reported.swap(true, Ordering::Relaxed) {
            return;
        }
        if library.accept_invalid_certs {
            tracing::warn!(
                "{}: insecure-skip-tls-verify is set: whoever answers is taken for the API server; \
                 set certificate-authority instead",
                self.source()
            );
        }
        for variable in PROXY_VARIABLES {
            if std::env::var_os(variable).is_some_and(|value| !value.is_empty()) {
                tracing::warn!("{variable} is not used for the API server");
            }
        }
    }
}
