//! DNS over TLS (RFC 7858).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};

use portolan_names::wire::kind;
use portolan_upstream::{Cache, Forward, Forwarder, Metrics, Protocol, Settings, Target, Zone};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::fake::{Asked, ask, forwarder, serve};

/// A server with a certificate for `dns.example` and its address.
struct Safe {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Drop for Safe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Makes an authority, writes its certificate to `path`, and has it sign the server's.
async fn safe(path: &Path) -> Safe {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    std::fs::write(path, authority.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["dns.example".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let shared = Arc::clone(&asked);
    let task = tokio::spawn(async move {
        loop {
            let Ok((stream, from)) = listener.accept().await else { continue };
            let (acceptor, asked) = (acceptor.clone(), Arc::clone(&shared));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                serve(stream, from, asked, Arc::new(|asked: &Asked| vec![asked.address(1, 60)])).await;
            });
        }
    });
    Safe { address, asked, task }
}

fn over_tls(server: &Safe, name: Option<&str>, authorities: Option<&Path>) -> Zone {
    let protocol = Protocol::Tls(name.map(str::to_owned));
    let mut forward = Forward::new([Target::Server { address: server.address, protocol }]);
    forward.tls.authorities = authorities.map(Path::to_owned);
    let mut zone = Zone::new(".");
    zone.cache = Some(Cache::of(30));
    zone.forwards.push(forward);
    zone
}

#[tokio::test]
async fn names_of_certificates_and_who_signed_them() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, other) = (folder.path().join("ca.pem"), folder.path().join("other.pem"));
    let server = safe(&authority).await;
    let _other = safe(&other).await;
    for (case, name, authorities, good) in [
        ("its name", Some("dns.example"), &authority, true),
        ("its address", None, &authority, true),
        ("another name", Some("evil.example"), &authority, false),
        ("another authority", Some("dns.example"), &other, false),
    ] {
        let forwarder = forwarder([over_tls(&server, name, Some(authorities))]);
        let reply = ask(&forwarder, "www.example.com", kind::A).await;
        let expected = if good { "NOERROR; www.example.com. 30 A 192.0.2.1" } else { "SERVFAIL" };
        assert_eq!(reply, expected, "{case}");
    }
}

#[tokio::test]
async fn a_connection_is_used_for_many_questions() {
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.pem");
    let server = safe(&authority).await;
    let forwarder = forwarder([over_tls(&server, Some("dns.example"), Some(&authority))]);
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..20 {
        let forwarder = forwarder.clone();
        tasks.spawn(async move { ask(&forwarder, &format!("name{at}.example.com"), kind::A).await });
    }
    assert!(tasks.join_all().await.iter().all(|reply| reply.starts_with("NOERROR;")));
    let asked = server.asked.lock().unwrap();
    let ports: std::collections::HashSet<u16> = asked.iter().map(|asked| asked.from.port()).collect();
    assert_eq!((asked.len(), ports.len()), (20, 1));
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.pem");
    let server = safe(&authority).await;
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    let absent = folder.path().join("absent.pem");
    for path in [&empty, &absent] {
        let settings = Settings { zones: vec![over_tls(&server, None, Some(path))], ..Default::default() };
        let error = Forwarder::new(&settings, Metrics::default()).unwrap_err().to_string();
        assert!(error.starts_with("zone .: tls: ") && error.contains(path.to_str().unwrap()), "{error}");
    }
}
