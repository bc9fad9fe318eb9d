//! Probes of real servers, on loopback.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use portolan_probe::{
    Action, ContainerProbes, HttpGet, Probe, ProbeKind, Prober, Target, Timing, check_blocking,
};
use portolan_service::ObjectName;

/// What must come is awaited for so long.
const PATIENCE: Duration = Duration::from_secs(15);

/// A server that does `work` with each connection. It ends with the process.
fn server(work: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(work));
    at
}

/// A server that answers each first message with `answer`, and what it was asked.
fn answering(answer: Vec<u8>) -> (SocketAddr, Receiver<Vec<u8>>) {
    let (sender, asked) = channel();
    let at = server(move |mut stream| {
        let mut message = vec![0; 4096];
        let length = stream.read(&mut message).unwrap_or_default();
        message.truncate(length);
        let _ = sender.send(message);
        let _ = stream.write_all(&answer);
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    (at, asked)
}

fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn http(to: SocketAddr, tls: bool) -> Action {
    Action::Http(HttpGet { to, tls, path: "/healthz".to_owned(), headers: Vec::new() })
}

fn outcome(action: &Action) -> String {
    check_blocking(action, PATIENCE).err().unwrap_or_default()
}

#[test]
fn http_servers() {
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n", ""),
        ("HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", ""),
        ("HTTP/1.0 500 x\r\n\r\n", "HTTP probe failed with statuscode: 500"),
        ("HTTP/1.1 404 Not Found\r\n\r\n", "HTTP probe failed with statuscode: 404"),
        ("220 smtp\r\n", "Get \"http://AT/healthz\": malformed HTTP response"),
        ("", "Get \"http://AT/healthz\": EOF"),
    ] {
        let (at, asked) = answering(answer.into());
        assert_eq!(outcome(&http(at, false)), expected.replace("AT", &at.to_string()), "{answer:?}");
        let asked = String::from_utf8(asked.recv().unwrap()).unwrap();
        assert!(asked.starts_with("GET /healthz HTTP/1.1\r\n"), "{asked}");
    }
    let at = nobody();
    let refused = format!("Get \"http://{at}/healthz\": dial tcp {at}: connect: connection refused");
    assert_eq!(outcome(&http(at, false)), refused);
}

#[test]
fn tcp_servers() {
    assert_eq!(outcome(&Action::Tcp(server(drop))), "");
    let at = nobody();
    assert_eq!(outcome(&Action::Tcp(at)), format!("dial tcp {at}: connect: connection refused"));
}

#[test]
fn nobody_is_waited_for_longer_than_asked() {
    let silent = server(|stream| {
        let _ = (&stream).read_to_end(&mut Vec::new());
    });
    let grpc = Action::Grpc { to: silent, service: String::new() };
    for (action, expected) in [(http(silent, false), "deadline exceeded"), (grpc, "within 100ms")] {
        let begun = Instant::now();
        let outcome = check_blocking(&action, Duration::from_millis(100)).unwrap_err();
        assert!(outcome.contains(expected), "{outcome}");
        assert!(begun.elapsed() < PATIENCE);
    }
}

#[cfg(feature = "tls")]
#[test]
fn https_servers_whose_certificate_nobody_knows() {
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;
    use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(["elsewhere.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let at = server(move |stream| {
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
    });
    assert_eq!(outcome(&http(at, true)), "");
    let (plain, _asked) = answering(b"HTTP/1.1 200 OK\r\n\r\n".to_vec());
    let wrong = outcome(&http(plain, true));
    assert!(wrong.starts_with(&format!("Get \"https://{plain}/healthz\": ")), "{wrong}");
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream][..], payload].concat()
}

/// Headers with literal names and values.
fn headers(flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x88];
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.bytes());
        }
    }
    frame(1, flags, 1, &block)
}

#[test]
fn grpc_servers() {
    let begin =
        [frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]), frame(4, 1, 0, &[]), frame(6, 0, 0, &[7; 8])].concat();
    let status = |status: &[u8]| {
        let message = [&[0, 0, 0, 0, u8::try_from(status.len()).unwrap()][..], status].concat();
        let end = headers(5, &[("grpc-status", "0")]);
        [begin.clone(), headers(4, &[]), frame(0, 0, 1, &message), end].concat()
    };
    let error =
        |code, text| [begin.clone(), headers(5, &[("grpc-status", code), ("grpc-message", text)])].concat();
    for (answer, expected) in [
        (status(&[8, 1]), ""),
        ([frame(7, 0, 0, b"\0\0\0\x01\0\0\0\0bye"), status(&[8, 1])].concat(), ""),
        (error("5", "a\u{1b}[2J\nb"), "rpc error: code = 5 desc = a[2Jb"),
        (status(&[8, 2]), "service unhealthy (responded with \"NOT_SERVING\")"),
        (status(&[8, 3]), "service unhealthy (responded with \"SERVICE_UNKNOWN\")"),
        (status(&[]), "service unhealthy (responded with \"UNKNOWN\")"),
        (error("5", "unknown service"), "rpc error: code = 5 desc = unknown service"),
        (error("12", ""), "this server does not implement the grpc health protocol (grpc.health.v1.Health)"),
        (frame(3, 0, 1, &[0, 0, 0, 7]), "the server at AT: it ended the call with HTTP/2 error 7"),
        (
            frame(7, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11]),
            "the server at AT: it ended the connection with HTTP/2 error 11",
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            "the server at AT: it does not speak HTTP/2: no gRPC?",
        ),
        (Vec::new(), "the server at AT closed the connection: no gRPC?"),
        (frame(6, 1, 0, &[0; 8]).repeat(200), "the server at AT: it sent too much that is no answer"),
    ] {
        let (at, asked) = answering(answer);
        let action = Action::Grpc { to: at, service: "shop".to_owned() };
        assert_eq!(outcome(&action), expected.replace("AT", &at.to_string()));
        let asked = asked.recv().unwrap();
        assert!(asked.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
        assert!(asked.ends_with(b"\0\0\0\0\x06\x0a\x04shop"), "the message is last");
    }
}

#[test]
fn a_prober_reports_what_changes() {
    let name = ObjectName::new("shop", "web-1");
    let (answers, asked) = channel::<&'static str>();
    // The readiness probe is answered as `answers` says, one after another.
    let at = server(move |mut stream| {
        let Ok(answer) = asked.recv() else { return };
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(answer.as_bytes());
    });
    let (good, bad) = ("HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 503 x\r\n\r\n");
    let second = Duration::from_secs(1);
    let timing =
        Timing { period: Duration::from_millis(10), timeout: PATIENCE, failures: 2, ..Timing::default() };
    let probe = Probe { timing, action: http(at, false) };
    let containers =
        vec![ContainerProbes { name: "web".into(), probes: vec![(ProbeKind::Readiness, probe)] }];
    let prober = Prober::default();
    let (sender, woken) = channel();
    prober.start(move || sender.send(()).unwrap_or_default()).unwrap();
    prober.set(&name, Some(Arc::new(Target { address: at.ip(), containers })), true);
    answers.send(good).unwrap();
    prober.wait_for_first(PATIENCE);
    let next = || {
        let begun = Instant::now();
        loop {
            if let Some(verdict) = prober.take_verdicts().pop() {
                return (verdict.ready, verdict.reason.unwrap_or_default());
            }
            assert!(begun.elapsed() < PATIENCE, "no verdict");
            let _ = woken.recv_timeout(second);
        }
    };
    assert_eq!(next(), (true, String::new()));
    answers.send(bad).unwrap();
    answers.send(bad).unwrap();
    let reason = "readiness probe of container web: HTTP probe failed with statuscode: 503";
    assert_eq!(next(), (false, reason.to_owned()));
    answers.send(good).unwrap();
    assert_eq!(next(), (true, String::new()));
    assert_eq!(prober.counters().outcomes[ProbeKind::Readiness as usize].failed, 2);
    assert_eq!(prober.reports()[0].pod, name);
    prober.set(&name, None, false);
    assert!(prober.reports().is_empty());
}
