//! The servers, asked over real sockets on loopback.

mod http;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use http::{Reply, ask, ask_until, exchange};
use portolan_config::Mode;
use portolan_observe::servers::{
    self, Addresses, Listen, Options, Responder, Responders, Server, ServerFailure, Servers,
};
use portolan_observe::{BuildInfo, Eligibility, Telemetry};
use portolan_service::{Family, ObjectName};
use serde_json::{Value, json};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Nothing here takes this long unless it is broken.
const LIMIT: Duration = Duration::from_secs(20);

fn telemetry() -> Arc<Telemetry> {
    let build = BuildInfo::new("1.2.3");
    Arc::new(Telemetry::new(Mode::Nftables, Mode::Nftables, &Family::ALL, Duration::from_secs(30), &build))
}

fn options() -> Options {
    Options {
        healthz: Some(SocketAddr::new(LOOPBACK, 0)),
        metrics: Some(SocketAddr::new(LOOPBACK, 0)),
        control: None,
        hard_fail: false,
        mode: "nftables".to_owned(),
        component: "kube-proxy".to_owned(),
        configz: json!({"kind": "KubeProxyConfiguration", "apiVersion": "kubeproxy.config.k8s.io/v1alpha1"}),
        flags: vec![("v".to_owned(), "2".to_owned()), ("config".to_owned(), "/etc/kp.yaml".to_owned())],
        build: BuildInfo::new("1.2.3"),
        profiling: false,
        set_verbosity: Arc::new(|_| Ok(())),
        on_failure: Arc::new(|failure| panic!("{failure}")),
    }
}

struct Running {
    telemetry: Arc<Telemetry>,
    servers: Servers,
}

impl Running {
    fn with(options: Options) -> Running {
        let telemetry = telemetry();
        Running { servers: servers::start(options, telemetry.clone()).unwrap(), telemetry }
    }

    fn healthz(&self, path: &str) -> Reply {
        ask(self.servers.healthz_address().unwrap(), "GET", path).unwrap()
    }

    fn metrics(&self, method: &str, path: &str) -> Reply {
        ask(self.servers.metrics_address().unwrap(), method, path).unwrap()
    }
}

#[test]
fn healthz_and_livez_answer_by_status_and_are_counted() {
    // spec §11.1, §11.4, §11.7
    let running = Running::with(options());
    assert_eq!(running.healthz("/healthz").status, 503);
    assert_eq!(running.healthz("/livez").status, 200);
    running.telemetry.health.in_force();
    let reply = running.healthz("/healthz");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(reply.json()["healthy"], true);
    running.telemetry.health.set_node(Eligibility::Leaving);
    let reply = running.healthz("/healthz");
    assert_eq!(
        (reply.status, &reply.json()["nodeEligible"], &reply.json()["healthy"]),
        (503, &json!(false), &json!(true))
    );
    assert_eq!(running.healthz("/livez").status, 200);
    let post = ask(running.servers.healthz_address().unwrap(), "POST", "/livez").unwrap();
    assert_eq!(post.status, 200, "any method");
    assert_eq!(running.healthz("/").status, 404);
    assert_eq!(running.healthz("/metrics").status, 404);

    let scrape = running.metrics("GET", "/metrics");
    for line in [
        "kubeproxy_proxy_healthz_total{code=\"200\"} 1\n",
        "kubeproxy_proxy_healthz_total{code=\"503\"} 2\n",
        "kubeproxy_proxy_livez_total{code=\"200\"} 3\n",
        "kubeproxy_proxy_livez_total{code=\"503\"} 0\n",
    ] {
        assert!(scrape.body.contains(line), "{line} is not in:\n{}", scrape.body);
    }
}

#[test]
fn pages_of_the_metrics_server() {
    // spec §11.13-11.15
    let running = Running::with(options());
    running.telemetry.health.set_manifest_problems(4);
    running.telemetry.health.set_plan_problems(3);
    let text = "text/plain; charset=utf-8";
    for (path, status, kind, part) in [
        ("/metrics", 200, "text/plain; version=0.0.4; charset=utf-8", "\nportolan_problems 7\n"),
        // Nobody has asked for the health yet.
        (
            "/metrics/slis",
            200,
            "text/plain; version=0.0.4; charset=utf-8",
            "kubernetes_healthcheck{name=\"proxy\",type=\"livez\"} 1\n",
        ),
        ("/healthz", 200, text, "ok"),
        ("/proxyMode", 200, text, "nftables"),
        ("/configz", 200, "application/json", r#"{"kubeproxy.config.k8s.io":{"#),
        ("/version", 200, "application/json", r#""gitVersion":"v1.2.3""#),
        ("/flagz", 200, text, "\nconfig=/etc/kp.yaml\nv=2\n"),
        ("/statusz", 200, text, "\nBinary version: 1.2.3\n"),
        ("/", 404, text, ""),
        ("/nothing", 404, text, ""),
        ("/debug/flags", 404, text, ""),
        ("/debug/flags/v", 404, text, ""),
        ("/debug/pprof/", 404, text, ""),
    ] {
        let reply = running.metrics("GET", path);
        assert_eq!(reply.status, status, "{path}");
        assert_eq!(reply.header("content-type"), Some(kind), "{path}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(reply.body.contains(part), "{path}: {}", reply.body);
    }
}

#[test]
fn structured_flagz_and_statusz() {
    // spec §11.15
    let running = Running::with(options());
    let address = running.servers.metrics_address().unwrap();
    let with_accept = |path: &str, accept: &str| {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: node\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
        exchange(address, &request).unwrap()
    };
    let flags =
        with_accept("/flagz", "application/json;as=Flagz;v=v1beta1;g=config.k8s.io, text/plain").json();
    assert_eq!(flags["apiVersion"], "config.k8s.io/v1beta1");
    assert_eq!(flags["flags"], json!({"config": "/etc/kp.yaml", "v": "2"}));
    let status = with_accept("/statusz", "application/json; as=Statusz; v=v1alpha1; g=config.k8s.io").json();
    assert_eq!((&status["kind"], &status["binaryVersion"]), (&json!("Statusz"), &json!("1.2.3")));
    for other in ["application/json", "application/json;as=Statusz;v=v1beta1;g=config.k8s.io", "*/*"] {
        assert!(with_accept("/flagz", other).body.contains("\nv=2\n"), "{other}");
    }
}

#[test]
fn indicators_can_be_reset() {
    // spec §11.13
    let running = Running::with(options());
    running.healthz("/healthz");
    let line = "kubernetes_healthchecks_total{name=\"proxy\",status=\"error\",type=\"healthz\"} 1\n";
    let body = running.metrics("GET", "/metrics/slis").body;
    assert!(body.contains(line), "{body}");
    assert_eq!(running.metrics("DELETE", "/metrics/slis").status, 200);
    assert_eq!(running.metrics("GET", "/metrics/slis").body, "");
}

#[test]
fn verbosity_is_set_where_profiling_is_enabled() {
    let verbosity = Arc::new(AtomicU32::new(0));
    let set = verbosity.clone();
    let running = Running::with(Options {
        profiling: true,
        set_verbosity: Arc::new(move |to| {
            if to > 9 {
                return Err("not above 9".to_owned());
            }
            set.store(to, Ordering::Relaxed);
            Ok(())
        }),
        ..options()
    });
    let address = running.servers.metrics_address().unwrap();
    for (body, status, expected) in [
        ("4", 200, 4),
        ("6\n", 200, 6),
        ("10", 400, 6),
        ("-1", 400, 6),
        ("many", 400, 6),
        ("", 400, 6),
        ("00000000000000000001", 400, 6),
    ] {
        let length = body.len();
        let request = format!(
            "PUT /debug/flags/v HTTP/1.1\r\nHost: node\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        assert_eq!(exchange(address, &request).unwrap().status, status, "{body:?}");
        assert_eq!(verbosity.load(Ordering::Relaxed), expected, "{body:?}");
    }
    assert_eq!(running.metrics("GET", "/debug/flags/v").status, 405);
    assert!(running.metrics("GET", "/debug/flags").body.contains("v=2"));
    assert!(running.metrics("GET", "/debug/pprof/heap").body.contains("perf(1)"));
}

#[test]
fn an_address_that_is_taken_is_reported_and_taken_later_unless_that_is_fatal() {
    // spec §9.14
    for hard_fail in [false, true] {
        let holder = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let address = holder.local_addr().unwrap();
        let (failed, failures) = mpsc::channel::<ServerFailure>();
        let running = Running::with(Options {
            healthz: Some(address),
            hard_fail,
            on_failure: Arc::new(move |failure| failed.send(failure).unwrap()),
            ..options()
        });
        let failure = failures.recv_timeout(LIMIT).unwrap();
        assert_eq!((&failure.server, failure.fatal), (&Server::Healthz, hard_fail));
        assert_eq!(failure.error.kind(), io::ErrorKind::AddrInUse);
        assert!(
            failure.to_string().starts_with(&format!("healthzBindAddress {address}: cannot listen: ")),
            "{failure}"
        );
        assert_eq!(running.servers.healthz_address(), None);
        assert_eq!(running.metrics("GET", "/healthz").status, 200, "the other server answers");
        if !hard_fail {
            drop(holder);
            assert_eq!(ask_until(address, |reply| reply.status == 503).status, 503);
        }
    }
}

fn responders(port: u16, service: &str, count: usize) -> Responders {
    let responder = Responder { service: ObjectName::new("shop", service), local_endpoints: count };
    HashMap::from([((Family::V4, port), responder)])
}

fn free_port() -> u16 {
    TcpListener::bind((LOOPBACK, 0)).unwrap().local_addr().unwrap().port()
}

#[test]
fn health_check_node_ports_answer_with_count_and_health() {
    // spec §11.8-11.12
    let running = Running::with(options());
    let address = SocketAddr::new(LOOPBACK, free_port());
    let set = |responders| running.servers.set_responders(responders, on_loopback());
    set(responders(address.port(), "web", 2));
    let reply = ask_until(address, |reply| reply.status == 503);
    assert_eq!(
        reply.body,
        "{\n\t\"service\": {\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"web\"\n\t},\n\t\"localEndpoints\": 2,\n\t\
         \"serviceProxyHealthy\": false\n}"
    );
    running.telemetry.health.in_force();
    // A node that leaves answers on, §11.12.
    running.telemetry.health.set_node(Eligibility::Leaving);
    let reply = ask_until(address, |reply| reply.status == 200);
    assert_eq!(reply.header("x-load-balancing-endpoint-weight"), Some("2"));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    set(responders(address.port(), "web", 0));
    let reply = ask_until(address, |reply| reply.status == 503);
    assert_eq!(
        (&reply.json()["localEndpoints"], &reply.json()["serviceProxyHealthy"]),
        (&json!(0), &json!(true))
    );
    set(responders(address.port(), "other", 1));
    ask_until(address, |reply| reply.body.contains("other"));
    set(Responders::new());
    let end = std::time::Instant::now() + LIMIT;
    while ask(address, "GET", "/").is_ok() {
        assert!(std::time::Instant::now() < end, "still answers");
        std::thread::yield_now();
    }
}

#[test]
fn a_health_check_node_port_that_is_taken_is_reported_once() {
    // spec §11.9, §11.20
    let holder = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let port = holder.local_addr().unwrap().port();
    let (failed, failures) = mpsc::channel::<ServerFailure>();
    let running = Running::with(Options {
        on_failure: Arc::new(move |failure| failed.send(failure).unwrap()),
        ..options()
    });
    running.servers.set_responders(responders(port, "web", 1), on_loopback());
    let failure = failures.recv_timeout(LIMIT).unwrap();
    let note = failure.service_event_note("n1").unwrap();
    let expected = format!("node n1 failed to start healthcheck \"shop/web\" on port {port}: ");
    assert!(note.starts_with(&expected), "{note}");
    assert!(!failure.fatal);
    // Tried again with the next change, and reported no second time.
    running.servers.set_responders(responders(port, "web", 2), on_loopback());
    let other = free_port();
    let mut both = responders(port, "web", 2);
    both.extend(responders(other, "else", 1));
    running.servers.set_responders(both, on_loopback());
    ask_until(SocketAddr::new(LOOPBACK, other), |reply| reply.status == 503);
    assert!(failures.try_recv().is_err());
    drop(holder);
    let reply = ask_until(SocketAddr::new(LOOPBACK, port), |_| true);
    assert_eq!(reply.json()["localEndpoints"], 2);
}

fn on_loopback() -> Addresses {
    Addresses { v4: Listen::On(vec![LOOPBACK]), ..Addresses::default() }
}

#[test]
fn responders_listen_only_where_they_are_asked_to() {
    // spec §11.8
    let running = Running::with(options());
    let port = free_port();
    let asked =
        |address: [u8; 4]| std::net::TcpStream::connect(SocketAddr::new(address.into(), port)).is_ok();
    let set = |v4| {
        // Answers once what was set before is done.
        let marker = free_port();
        let mut all = responders(port, "web", 1);
        all.extend(HashMap::from([(
            (Family::V6, marker),
            Responder { service: ObjectName::new("shop", "marker"), local_endpoints: 1 },
        )]));
        let v6 = Listen::On(vec![Ipv6Addr::LOCALHOST.into()]);
        running.servers.set_responders(all, Addresses { v4, v6 });
        ask_until(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), marker), |_| true);
    };
    for (name, v4, [first, second]) in [
        ("nowhere", Listen::On(Vec::new()), [false, false]),
        ("on one address", Listen::On(vec![LOOPBACK]), [true, false]),
        ("on all", Listen::Any, [true, true]),
        ("nowhere again", Listen::default(), [false, false]),
    ] {
        set(v4);
        assert_eq!([asked([127, 0, 0, 1]), asked([127, 0, 0, 2])], [first, second], "{name}");
    }
}

#[test]
fn a_client_that_says_nothing_and_many_of_them_hold_nobody_up_for_long() {
    let running = Running::with(options());
    let address = running.servers.healthz_address().unwrap();
    // More than are served at one time, each with half a request.
    let silent: Vec<std::net::TcpStream> = (0..80)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            io::Write::write_all(&mut stream, b"GET /livez HTT").unwrap();
            stream
        })
        .collect();
    assert_eq!(running.healthz("/livez").status, 200);
    drop(silent);
}

#[test]
fn nonsense_is_refused() {
    let running = Running::with(options());
    let address = running.servers.healthz_address().unwrap();
    for nonsense in ["\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}", "GET\r\n\r\n", "\r\n\r\nnothing\r\n\r\n"] {
        if let Ok(reply) = exchange(address, nonsense) {
            assert_eq!(reply.status, 400, "{nonsense:?}");
        }
    }
    let long = format!("GET /livez HTTP/1.1\r\nHost: node\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    if let Ok(reply) = exchange(address, &long) {
        assert_eq!(reply.status, 431);
    }
    assert_eq!(running.healthz("/livez").status, 200, "and the next client is answered");
}

#[test]
fn dropping_the_servers_frees_their_ports_for_the_next_process() {
    for _ in 0..20 {
        let running = Running::with(options());
        let [healthz, metrics] = [running.servers.healthz_address(), running.servers.metrics_address()];
        let check = SocketAddr::new(LOOPBACK, free_port());
        running.servers.set_responders(responders(check.port(), "web", 2), on_loopback());
        ask_until(check, |_| true);
        drop(running);
        for address in [healthz.unwrap(), metrics.unwrap(), check] {
            TcpListener::bind(address).unwrap();
        }
    }
}

#[test]
fn version_has_the_fields_that_clients_read() {
    let version: Value = Running::with(options()).metrics("GET", "/version").json();
    for field in [
        "major",
        "minor",
        "gitVersion",
        "gitCommit",
        "gitTreeState",
        "buildDate",
        "goVersion",
        "compiler",
        "platform",
    ] {
        assert!(version[field].is_string(), "{field}: {version}");
    }
    assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("2")));
}
