//! DNS over TLS (RFC 7858): who is trusted, and how a connection becomes a safe one.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::settings::Tls;

/// Makes connections safe: for one server.
#[derive(Clone)]
pub(crate) struct Connector {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What connections to all servers of a `forward` have in common.
#[derive(Clone)]
pub(crate) struct Trust(Arc<ClientConfig>);

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trust")
    }
}

impl Trust {
    /// Reads the files of `settings`. What fails is said for people.
    pub(crate) fn new(settings: &Tls) -> Result<Trust, String> {
        let mut roots = RootCertStore::empty();
        match &settings.authorities {
            Some(path) => {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
                }
            }
            None => {
                let _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            return Err(
                "the system trusts nobody: install ca-certificates, or give a file of authorities".to_owned()
            );
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let mut config = match &settings.identity {
            None => builder.with_no_client_auth(),
            Some((certificate_path, key_path)) => {
                let key = PrivateKeyDer::from_pem_file(key_path)
                    .map_err(|error| format!("{}: {error}: give a private key in PEM", key_path.display()))?;
                builder
                    .with_client_auth_cert(certificates(certificate_path)?, key)
                    .map_err(|error| format!("{}: {error}", certificate_path.display()))?
            }
        };
        // The name that IANA lists for DNS over TLS.
        config.alpn_protocols = vec![b"dot".to_vec()];
        Ok(Trust(Arc::new(config)))
    }

    /// For the server at `address`, whose certificate must have `name`, or that address.
    pub(crate) fn connector(&self, address: IpAddr, name: Option<&str>) -> Result<Connector, String> {
        let name = match name {
            Some(name) => ServerName::try_from(name.to_owned()).map_err(|_| {
                format!("{name:?} is no name that a certificate can have: give a domain name")
            })?,
            None => ServerName::from(address),
        };
        Ok(Connector { connector: TlsConnector::from(Arc::clone(&self.0)), name })
    }
}

/// The certificates in the file at `path`.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bad = |problem: String| format!("{}: {problem}: give certificates in PEM", path.display());
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))?;
    let certificates: Vec<_> =
        certificates.collect::<Result<_, _>>().map_err(|error| bad(error.to_string()))?;
    if certificates.is_empty() { Err(bad("no certificate in it".to_owned())) } else { Ok(certificates) }
}

impl Connector {
    /// Makes `stream` safe.
    pub(crate) async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}
