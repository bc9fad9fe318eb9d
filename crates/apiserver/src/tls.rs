//! Certificates, made at start.

use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// A certificate authority and what it signed.
#[derive(Debug)]
pub(crate) struct Identities {
    pub(crate) ca_pem: String,
    pub(crate) client_certificate_pem: String,
    pub(crate) client_key_pem: String,
    pub(crate) server: Arc<ServerConfig>,
}

/// Certificates could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// Used.
    #[error("cannot use the certificates: {0}")]
    Tls(#[from] tokio_rustls::rustls::Error),
    /// Kept.
    #[error("cannot keep the certificate authority in {0}: {1}")]
    File(PathBuf, io::Error),
    /// Used to check clients.
    #[error("cannot check client certificates: {0}")]
    Verifier(#[from] tokio_rustls::rustls::server::VerifierBuilderError),
}

const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// The one that a folder keeps, or a new one, which the folder keeps from now on.
    fn find(folder: Option<&Path>) -> Result<Self, TlsError> {
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "kubernetes");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let Some(folder) = folder else {
            let key = KeyPair::generate()?;
            let pem = ca.self_signed(&key)?.pem();
            return Ok(Self { issuer: Issuer::new(ca, key), pem });
        };
        let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
        if certificate.exists() && key.exists() {
            let read = |path: PathBuf| fs::read_to_string(&path).map_err(|error| TlsError::File(path, error));
            let key = KeyPair::from_pem(&read(key)?)?;
            return Ok(Self { issuer: Issuer::new(ca, key), pem: read(certificate)? });
        }
        fs::create_dir_all(folder).map_err(|error| TlsError::File(folder.to_owned(), error))?;
        let new = KeyPair::generate()?;
        let pem = ca.self_signed(&new)?.pem();
        // The certificate comes last: with it, the pair is whole.
        for (path, text, mode) in [(key, new.serialize_pem(), 0o600), (certificate, pem.clone(), 0o644)] {
            let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&path);
            let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
            written.map_err(|error| TlsError::File(path, error))?;
        }
        Ok(Self { issuer: Issuer::new(ca, new), pem })
    }
}

impl Identities {
    pub(crate) fn make(
        folder: Option<&Path>,
        address: IpAddr,
        names: &[String],
        http2: bool,
    ) -> Result<Self, TlsError> {
        let Authority { issuer, pem: ca_pem } = Authority::find(folder)?;
        let ca_der = CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|error| {
            TlsError::File(PathBuf::from(CERTIFICATE), io::Error::other(error.to_string()))
        })?;

        let server_key = KeyPair::generate()?;
        let own =
            ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned);
        let mut server =
            CertificateParams::new(own.into_iter().chain(names.iter().cloned()).collect::<Vec<_>>())?;
        let addresses = [address, [127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()];
        server.subject_alt_names.extend(addresses.map(SanType::IpAddress));
        server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server_certificate = server.signed_by(&server_key, &issuer)?;

        let client_key = KeyPair::generate()?;
        let mut client = CertificateParams::default();
        client.distinguished_name.push(DnType::CommonName, "kubernetes-admin");
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let client_certificate = client.signed_by(&client_key, &issuer)?;

        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(ca_der)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
        let key = PrivateKeyDer::Pkcs8(server_key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![server_certificate.der().clone()], key)?;
        if http2 && cfg!(feature = "http2") {
            config.alpn_protocols.push(b"h2".to_vec());
        }
        config.alpn_protocols.push(b"http/1.1".to_vec());
        Ok(Self {
            ca_pem,
            client_certificate_pem: client_certificate.pem(),
            client_key_pem: client_key.serialize_pem(),
            server: Arc::new(config),
        })
    }
}
