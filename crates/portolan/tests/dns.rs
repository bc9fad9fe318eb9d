//! `portolan dns` as a process, asked over real sockets on loopback.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portolan_names::wire::{Answers, Name, kind, rcode};
use tempfile::TempDir;

/// Nothing here takes this long unless it is broken.
const LIMIT: Duration = Duration::from_mins(1);
/// Between two looks at something that sends no event.
const LOOK: Duration = Duration::from_millis(20);

const MANIFESTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: red}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.80, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, ports: [{name: sql, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: sql, port: 5432}]
endpoints:
- {addresses: [10.1.0.5], conditions: {ready: true}, targetRef: {kind: Pod, name: db-0, namespace: shop}}
---
apiVersion: v1
kind: Service
metadata: {name: away, namespace: shop}
spec: {type: ExternalName, externalName: outside.example}
---
apiVersion: v1
kind: Pod
metadata: {name: db-0, namespace: shop}
spec: {containers: [{name: c, image: i}]}
status: {phase: Running, podIP: 10.1.0.5, podIPs: [{ip: 10.1.0.5}]}
";

/// What kubeadm installs, on loopback.
const KUBEADM: &str = ".:PORT {
    bind 127.0.0.1
    errors
    health 127.0.0.1:HEALTH {
        lameduck 2s
    }
    ready 127.0.0.1:READY
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    prometheus 127.0.0.1:METRICS
    forward . 127.0.0.1:UPSTREAM {
        max_concurrent 1000
    }
    cache 30 {
        disable success cluster.local
        disable denial cluster.local
    }
    loop
    reload 2s 0s
    loadbalance
}
";

/// A server that runs, with its folder and its ports.
struct Site {
    folder: TempDir,
    ports: Ports,
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

#[derive(Clone, Copy)]
struct Ports {
    dns: u16,
    health: u16,
    ready: u16,
    metrics: u16,
    upstream: u16,
}

impl Ports {
    /// That nobody listens on.
    fn free() -> Ports {
        let sockets = [(); 4].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
        let [dns, health, ready, metrics] = sockets.map(|socket| socket.local_addr().expect("bound").port());
        Ports { dns, health, ready, metrics, upstream: upstream() }
    }

    fn put_into(&self, text: &str) -> String {
        [
            ("PORT", self.dns),
            ("HEALTH", self.health),
            ("READY", self.ready),
            ("METRICS", self.metrics),
            ("UPSTREAM", self.upstream),
        ]
        .iter()
        .fold(text.to_owned(), |text, (name, port)| text.replace(name, &port.to_string()))
    }
}

/// A server that knows outside.example, and nothing else. It lives as long as the test.
fn upstream() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = socket.local_addr().expect("bound").port();
    thread::spawn(move || {
        let mut octets = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut octets) {
            let mut message = octets[..length].to_vec();
            let Ok((name, end)) = Name::read(&message, 12) else { continue };
            let asked = u16::from_be_bytes([message[end], message[end + 1]]);
            // Without the additional section.
            message.truncate(end + 4);
            message[10..12].fill(0);
            (message[2], message[3]) = (0x81, 0x80);
            let mut known = name.clone();
            known.make_lowercase();
            if known.to_string() != "outside.example." {
                message[3] |= 3;
            } else if asked == kind::A {
                message[7] = 1;
                message.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x14\0\x04\xc0\0\x02\x63");
            }
            let _ = socket.send_to(&message, from);
        }
    });
    port
}

impl Site {
    /// Starts the server with this Corefile, and waits until it is ready.
    fn start(corefile: &str) -> Site {
        let mut site = Site::launch(corefile, |_| {});
        site.until_ready();
        site
    }

    /// Starts the server with this Corefile, and with what `change` adds to the command.
    fn launch(corefile: &str, change: impl FnOnce(&mut Command)) -> Site {
        let (folder, ports) = (TempDir::new().expect("a folder"), Ports::free());
        fs::create_dir(folder.path().join("manifests")).expect("created");
        fs::write(folder.path().join("manifests/shop.yaml"), MANIFESTS).expect("written");
        fs::write(folder.path().join("Corefile"), ports.put_into(corefile)).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
        command.args(["dns", "--state-dir=", "--threads=1", "--conf"]).arg(folder.path().join("Corefile"));
        change(&mut command);
        let given: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        if !given.iter().any(|arg| arg == "--master") {
            command.arg("--manifests").arg(folder.path().join("manifests"));
        }
        if !given.iter().any(|arg| arg == "--socket") {
            command.arg("--socket=");
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("it runs");
        let (line, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
        Site { folder, ports, child, lines, seen: Vec::new() }
    }

    fn corefile(&self) -> PathBuf {
        self.folder.path().join("Corefile")
    }

    fn until_ready(&mut self) {
        let listens = "answers questions for names on";
        if !self.seen.iter().any(|line| line.contains(listens)) {
            self.wait_for(listens);
        }
        let port = self.ports.ready;
        until("it is ready", || get(port, "/ready").0 == 200);
    }

    /// Waits for a line with this text.
    fn wait_for(&mut self, text: &str) -> String {
        self.wait_for_one_of(&[text])
    }

    /// Waits for a line with one of these texts.
    fn wait_for_one_of(&mut self, texts: &[&str]) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if texts.iter().any(|text| line.contains(text)) {
                        return line;
                    }
                }
                Err(error) => panic!("{texts:?} was not written ({error}):\n{}", self.seen.join("\n")),
            }
        }
    }

    /// The answer to a question over UDP, in one line.
    fn ask(&self, name: &str, kind: u16) -> String {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        socket.set_read_timeout(Some(LIMIT)).expect("set");
        socket.send_to(&question(name, kind), (Ipv4Addr::LOCALHOST, self.ports.dns)).expect("sent");
        let mut octets = [0; 4096];
        let (length, _) = socket.recv_from(&mut octets).expect("an answer");
        shown(&octets[..length])
    }

    /// The answer to a question over TCP.
    fn ask_by_tcp(&self, name: &str, kind: u16) -> String {
        let mut stream = connect(self.ports.dns);
        let question = question(name, kind);
        let length = u16::try_from(question.len()).expect("short");
        stream.write_all(&[&length.to_be_bytes()[..], &question].concat()).expect("sent");
        let mut length = [0; 2];
        stream.read_exact(&mut length).expect("an answer");
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).expect("all of it");
        shown(&answer)
    }

    fn metric(&self, name: &str) -> Option<String> {
        let (_, text) = get(self.ports.metrics, "/metrics");
        text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().expect("a process id")), signal).expect("it runs");
    }

    fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("it ends", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        status.expect("it has ended")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        thread::sleep(LOOK);
    }
}

fn connect(port: u16) -> TcpStream {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, LIMIT).expect("connected");
    stream.set_read_timeout(Some(LIMIT)).expect("set");
    stream
}

/// Status and body of a page; status 0 if nobody listens.
fn get(port: u16, path: &str) -> (u16, String) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, LIMIT) else { return (0, String::new()) };
    stream.set_read_timeout(Some(LIMIT)).expect("set");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    (status, body)
}

fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut message = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    message.extend_from_slice(Name::parse(name).expect("a name").as_wire());
    message.extend(kind.to_be_bytes());
    message.extend(1u16.to_be_bytes());
    message
}

/// The code, then type, TTL and data of each record of the answer.
fn shown(message: &[u8]) -> String {
    let names = [(rcode::NOERROR, "NOERROR"), (rcode::SERVFAIL, "SERVFAIL"), (rcode::NXDOMAIN, "NXDOMAIN")];
    let code = u16::from(message[3] & 0xf);
    let mut text =
        names.iter().find(|(number, _)| *number == code).map_or("other", |(_, name)| name).to_owned();
    for record in Answers::parse(message).expect("readable") {
        let record = record.expect("readable");
        if record.section != 0 {
            continue;
        }
        let data = match record.kind {
            kind::A => Ipv4Addr::from(<[u8; 4]>::try_from(record.data).expect("an address")).to_string(),
            kind::PTR | kind::CNAME => Name::read(message, record.at).expect("a name").0.to_string(),
            _ => "...".to_owned(),
        };
        write!(text, " {} {} {data}", record.kind, record.ttl).expect("text");
    }
    text
}

const REVERSE: &str = "5.0.1.10.in-addr.arpa";

#[test]
fn kubeadms_corefile_as_it_stands() {
    let site = Site::start(KUBEADM);
    for (name, kind, expected) in [
        ("web.shop.svc.cluster.local", kind::A, "NOERROR 1 30 10.96.0.80"),
        ("WEB.shop.svc.Cluster.local", kind::A, "NOERROR 1 30 10.96.0.80"),
        ("db.shop.svc.cluster.local", kind::A, "NOERROR 1 30 10.1.0.5"),
        ("web.shop.svc.cluster.local", kind::AAAA, "NOERROR"),
        ("gone.shop.svc.cluster.local", kind::A, "NXDOMAIN"),
        ("10-9-9-9.shop.pod.cluster.local", kind::A, "NOERROR 1 30 10.9.9.9"),
        (REVERSE, kind::PTR, "NOERROR 12 30 10-1-0-5.db.shop.svc.cluster.local."),
        ("80.0.96.10.in-addr.arpa", kind::PTR, "NOERROR 12 30 web.shop.svc.cluster.local."),
        ("81.0.96.10.in-addr.arpa", kind::PTR, "NXDOMAIN"),
        ("outside.example", kind::A, "NOERROR 1 20 192.0.2.99"),
        ("nowhere.example", kind::A, "NXDOMAIN"),
        ("away.shop.svc.cluster.local", kind::A, "NOERROR 5 20 outside.example. 1 20 192.0.2.99"),
    ] {
        // A second may have passed since the first of these questions that the cache answers.
        let aged = expected.replace(" 20 ", " 19 ");
        for answer in [site.ask(name, kind), site.ask_by_tcp(name, kind)] {
            assert!(answer == expected || answer == aged, "{name}: {answer}, not {expected}");
        }
    }
    assert_eq!(get(site.ports.health, "/health"), (200, "OK".to_owned()));
    assert_eq!(get(site.ports.ready, "/ready"), (200, "OK".to_owned()));
    assert_eq!(get(site.ports.ready, "/health").0, 404);
    let server = format!("server=\"dns://127.0.0.1:{}\",zone=\".\",view=\"\"", site.ports.dns);
    for (metric, expected) in [
        (
            format!("coredns_dns_requests_total{{{server},proto=\"tcp\",family=\"1\",type=\"AAAA\"}}"),
            Some("1"),
        ),
        (
            format!("coredns_dns_responses_total{{{server},rcode=\"NXDOMAIN\",plugin=\"kubernetes\"}}"),
            Some("4"),
        ),
        ("coredns_reload_failed_total".to_owned(), Some("0")),
        ("coredns_panics_total".to_owned(), Some("0")),
        ("no_such_metric".to_owned(), None),
    ] {
        assert_eq!(site.metric(&metric).as_deref(), expected, "{metric}");
    }
}

/// What `portolan get names` prints, and whether it ends well.
fn get_names(args: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
    let output = command.args(["get", "names"]).args(args).output().expect("it runs");
    let text = |octets| String::from_utf8(octets).expect("text");
    (output.status.success(), text(output.stdout) + &text(output.stderr))
}

#[test]
fn names_that_are_served_are_listed() {
    let folder = TempDir::new().expect("a folder");
    let socket = folder.path().join("run/dns.sock");
    let mut site = Site::launch(KUBEADM, |command| {
        command.arg("--socket").arg(&socket);
    });
    site.until_ready();
    let get = |args: &[&str]| get_names(&[args, &["--socket", socket.to_str().expect("text")]].concat());
    until("the socket answers", || get(&[]).0);
    let expected = "\
NAME                         TYPE   ANSWER
away.shop.svc.cluster.local  CNAME  outside.example
db.shop.svc.cluster.local    A      10.1.0.5
web.shop.svc.cluster.local   A      10.96.0.80
";
    assert_eq!(get(&[]), (true, expected.to_owned()));
    assert_eq!(get(&["-n", "other"]), (true, "no names of Services in namespace other\n".to_owned()));
    let (found, text) = get(&["10-1-0-5.db.shop", "-o", "json"]);
    let row: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(found && row["names"][0]["answers"] == serde_json::json!(["10.1.0.5"]), "{text}");
    let ready = fs::read_to_string(site.folder.path().join("manifests/shop.yaml")).unwrap();
    let waiting = ready.replace("{ready: true}", "{ready: false}");
    fs::write(site.folder.path().join("manifests/shop.yaml"), waiting).unwrap();
    let waits = "\
NAME                       TYPE  ANSWER
db.shop.svc.cluster.local  -     NXDOMAIN
  no endpoint is ready: db-0 (10.1.0.5)
";
    until("the endpoint is not ready", || get(&["db.shop.svc.cluster.local"]) == (true, waits.to_owned()));
    let (found, text) = get(&["nowhere"]);
    assert!(!found && text.contains("nowhere: no such name is served"), "{text}");
    let mut services = Command::new(env!("CARGO_BIN_EXE_portolan"));
    let output = services.args(["get", "services", "--socket"]).arg(&socket).output().expect("it runs");
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success() && text.contains("ask for names"), "{text}");
}

#[test]
fn a_socket_is_not_needed() {
    let mut site = Site::launch(KUBEADM, |command| {
        command.args(["--socket", "/proc/no/such/place"]);
    });
    // Whichever is written first.
    let texts = ["`portolan get names` will not find this process: give --socket", "answers questions for"];
    for _ in 0..2 {
        site.wait_for_one_of(&texts);
    }
    assert!(texts.iter().all(|text| site.seen.iter().any(|line| line.contains(text))), "{:?}", site.seen);
    assert_eq!(site.ask("web.shop.svc.cluster.local", kind::A), "NOERROR 1 30 10.96.0.80");
    let (found, text) = get_names(&["--socket", "/proc/no/such/place"]);
    assert!(!found && text.contains("nobody answers: is `portolan dns`"), "{text}");
}

#[test]
fn options_change_answers() {
    let with = |options: &str| KUBEADM.replace("pods insecure", options).replace("    reload 2s 0s\n", "");
    for (options, name, expected) in [
        ("pods verified", "10-1-0-5.shop.pod.cluster.local", "NOERROR 1 30 10.1.0.5"),
        ("pods verified", "10-9-9-9.shop.pod.cluster.local", "NXDOMAIN"),
        ("pods disabled", "10-1-0-5.shop.pod.cluster.local", "NXDOMAIN"),
        ("endpoint_pod_names", "db-0.db.shop.svc.cluster.local", "NOERROR 1 30 10.1.0.5"),
        ("noendpoints", "db.shop.svc.cluster.local", "NXDOMAIN"),
        ("namespaces other", "web.shop.svc.cluster.local", "NXDOMAIN"),
        ("namespace_labels team=red", "web.shop.svc.cluster.local", "NOERROR 1 30 10.96.0.80"),
        ("namespace_labels team=blue", "web.shop.svc.cluster.local", "NXDOMAIN"),
        ("ignore empty_service", "web.shop.svc.cluster.local", "NXDOMAIN"),
    ] {
        assert_eq!(Site::start(&with(options)).ask(name, kind::A), expected, "{options}: {name}");
    }
}

#[test]
fn server_blocks_hosts_and_logs() {
    let corefile = KUBEADM.replace(
        "    loop\n",
        "    hosts {\n        192.0.2.7 fixed.example web.shop.svc.cluster.local\n        fallthrough\n    }\n    log\n",
    ) + "stub.example:PORT {\n    bind 127.0.0.1\n    hosts /dev/null {\n        192.0.2.8 a.stub.example\n    }\n}\n";
    let mut site = Site::start(&corefile);
    for (name, expected) in [
        ("fixed.example", "NOERROR 1 30 192.0.2.7"),
        ("web.shop.svc.cluster.local", "NOERROR 1 30 192.0.2.7"),
        ("db.shop.svc.cluster.local", "NOERROR 1 30 10.1.0.5"),
        ("a.stub.example", "NOERROR 1 3600 192.0.2.8"),
        ("b.stub.example", "SERVFAIL"),
    ] {
        assert_eq!(site.ask(name, kind::A), expected, "{name}");
    }
    let line = site.wait_for("A IN db.shop.svc.cluster.local. udp");
    assert!(line.contains("127.0.0.1:") && line.contains("NOERROR qr,aa,rd"), "{line}");
}

#[test]
fn the_search_lists_of_pods_are_finished() {
    // This host is a pod.
    let corefile = KUBEADM.replace("pods insecure", "pods verified").replace("loop", "autopath @kubernetes");
    let site = Site::launch(&corefile, |_| {});
    let client =
        MANIFESTS.replace("10.1.0.5}]}", "127.0.0.1}]}").replace("podIP: 10.1.0.5", "podIP: 127.0.0.1");
    fs::write(site.folder.path().join("manifests/shop.yaml"), client).unwrap();
    let mut site = site;
    site.until_ready();
    let searched = "outside.example.shop.svc.cluster.local";
    until("the pod is known", || site.ask(searched, kind::A).starts_with("NOERROR"));
    let found = site.ask_by_tcp(searched, kind::A);
    assert!(found.contains(" outside.example. 1 ") && found.ends_with("192.0.2.99"), "{found}");
    for (name, expected) in [
        ("web.shop.shop.svc.cluster.local", "NOERROR 5 30 web.shop.svc.cluster.local. 1 30 10.96.0.80"),
        ("nowhere.example.shop.svc.cluster.local", "NXDOMAIN"),
        ("outside.example.other.svc.cluster.local", "NXDOMAIN"),
    ] {
        assert_eq!(site.ask(name, kind::A), expected, "{name}");
    }
}

#[test]
fn a_changed_corefile_is_used_and_one_that_is_wrong_is_not() {
    let mut site = Site::start(KUBEADM);
    let web = "web.shop.svc.cluster.local";
    let text = fs::read_to_string(site.corefile()).unwrap();
    fs::write(site.corefile(), text.replace("ttl 30", "ttl 29")).unwrap();
    site.wait_for("the Corefile has changed, and is in use");
    assert_eq!(site.ask(web, kind::A), "NOERROR 1 29 10.96.0.80");
    fs::write(site.corefile(), text.replace("loop", "rewrite stop")).unwrap();
    site.wait_for("cannot be used; going on as before");
    site.wait_for(": rewrite: this plugin");
    assert_eq!(site.ask(web, kind::A), "NOERROR 1 29 10.96.0.80");
    assert_eq!(site.metric("coredns_reload_failed_total").as_deref(), Some("1"));
    // Another port, and the same one beside it.
    let more = Ports::free().dns;
    let both = format!(
        "{text}\na.example:{more} {{\nbind 127.0.0.1\nhosts /dev/null {{\n192.0.2.1 a.example\n}}\n}}\n"
    );
    fs::write(site.corefile(), both).unwrap();
    site.wait_for("the Corefile has changed, and is in use");
    assert_eq!(site.ask(web, kind::A), "NOERROR 1 30 10.96.0.80");
    site.ports.dns = more;
    assert_eq!(site.ask("a.example", kind::A), "NOERROR 1 3600 192.0.2.1");
}

#[test]
fn changes_of_manifests_are_answers_at_once() {
    let site = Site::start(KUBEADM);
    let more = "{apiVersion: v1, kind: Service, metadata: {name: new, namespace: shop}, spec: {clusterIP: 10.96.0.99, \
                ports: [{port: 80}]}}";
    assert_eq!(site.ask("new.shop.svc.cluster.local", kind::A), "NXDOMAIN");
    fs::write(site.folder.path().join("manifests/new.yaml"), more).unwrap();
    until("it has a name", || site.ask("new.shop.svc.cluster.local", kind::A) == "NOERROR 1 30 10.96.0.99");
}

#[test]
fn the_end_is_announced_before_it_comes() {
    let mut site = Site::start(KUBEADM);
    site.signal(Signal::SIGTERM);
    site.wait_for("answering for another 2s");
    until("it is not ready", || get(site.ports.ready, "/ready") == (503, "Shutting down".to_owned()));
    assert_eq!(get(site.ports.health, "/health").0, 200, "it lives");
    assert_eq!(site.ask("web.shop.svc.cluster.local", kind::A), "NOERROR 1 30 10.96.0.80");
    assert_eq!(site.ended().code(), Some(0));
}

/// A response code for a domain, which aliases to there get too, from the server block that has it.
#[test]
fn templates_of_response_codes() {
    let corefile = KUBEADM
        .replace("    forward . 127.0.0.1:UPSTREAM {\n        max_concurrent 1000\n    }\n", "")
        + "example:PORT {\nbind 127.0.0.1\ntemplate IN AAAA {\nrcode NOERROR\n}\n\
           template ANY ANY outside.example {\nrcode NXDOMAIN\n}\ntemplate ANY ANY {\nrcode REFUSED\n}\n}\n";
    let site = Site::start(&corefile);
    for (name, kind, expected) in [
        ("outside.example", kind::A, "NXDOMAIN"),
        ("outside.example", kind::AAAA, "NOERROR"),
        ("Other.example", kind::A, "other"),
        ("away.shop.svc.cluster.local", kind::A, "NXDOMAIN 5 30 outside.example."),
        ("web.shop.svc.cluster.local", kind::A, "NOERROR 1 30 10.96.0.80"),
        // Nobody is asked.
        ("elsewhere", kind::A, "SERVFAIL"),
    ] {
        for answer in [site.ask(name, kind), site.ask_by_tcp(name, kind)] {
            assert_eq!(answer, expected, "{name} {kind}");
        }
    }
}

/// Names outside that nobody answers for, many more at once than are waited for.
#[test]
fn a_silent_upstream_holds_up_no_name_of_the_cluster() {
    const OUTSIDE: u32 = 3000;
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let site = Site::start(&KUBEADM.replace("UPSTREAM", &port.to_string()).replace("    loop\n", ""));
    let others = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    others.set_read_timeout(Some(LIMIT)).expect("set");
    for number in 0..OUTSIDE {
        let question = question(&format!("{number}.example"), kind::A);
        others.send_to(&question, (Ipv4Addr::LOCALHOST, site.ports.dns)).expect("sent");
        if number % 30 == 0 {
            let begun = Instant::now();
            assert_eq!(site.ask("web.shop.svc.cluster.local", kind::A), "NOERROR 1 30 10.96.0.80");
            assert!(begun.elapsed() < Duration::from_secs(1), "{:?} after {number}", begun.elapsed());
        }
    }
    let mut answer = [0; 512];
    let (length, _) = others.recv_from(&mut answer).expect("nobody waits for ever");
    assert!(["SERVFAIL", "other"].contains(&&*shown(&answer[..length])), "{}", shown(&answer[..length]));
    assert_eq!(site.metric("coredns_panics_total").as_deref(), Some("0"));
}

#[test]
fn a_loop_is_reported_and_names_of_the_cluster_are_answered() {
    const REPORT: &str = "loop: what this server is asked comes back";
    let mut site = Site::start(&KUBEADM.replace("UPSTREAM", "PORT"));
    if !site.seen.iter().any(|line| line.contains(REPORT)) {
        site.wait_for(REPORT);
    }
    assert_eq!(site.ask("web.shop.svc.cluster.local", kind::A), "NOERROR 1 30 10.96.0.80");
    assert_eq!(site.ask("outside.example", kind::A), "SERVFAIL");
    assert_eq!(site.ask(REVERSE, kind::PTR), "NOERROR 12 30 10-1-0-5.db.shop.svc.cluster.local.");
}

#[test]
fn nothing_is_known_before_the_cluster_is() {
    // Nobody listens there.
    let mut site = Site::launch(KUBEADM, |command| {
        command.args(["--master", "http://127.0.0.1:1"]);
    });
    site.wait_for("answers questions for names on");
    assert_eq!(site.ask("web.shop.svc.cluster.local", kind::A), "SERVFAIL");
    assert_eq!(site.ask(REVERSE, kind::PTR), "SERVFAIL");
    assert_eq!(site.ask("outside.example", kind::A), "NOERROR 1 20 192.0.2.99", "others are");
    assert_eq!(get(site.ports.ready, "/ready"), (503, "kubernetes".to_owned()));
    assert_eq!(get(site.ports.health, "/health").0, 200);
}

#[test]
fn a_corefile_that_cannot_be_used_is_refused_with_all_that_is_wrong() {
    let corefile = KUBEADM.replace("    loop\n", "    rewrite stop\n    dnssec\n");
    let mut site = Site::launch(&corefile, |_| {});
    site.wait_for("the Corefile cannot be used");
    site.wait_for(":21: rewrite: this plugin, which changes questions and answers, is not had");
    site.wait_for(":22: dnssec: this plugin");
    assert_eq!(site.ended().code(), Some(1));
}

#[test]
fn the_program_called_coredns_takes_its_flags() {
    let folder = TempDir::new().unwrap();
    let program = folder.path().join("coredns");
    std::os::unix::fs::symlink(Path::new(env!("CARGO_BIN_EXE_portolan")), &program).unwrap();
    let output = Command::new(program).args(["-conf", "/no/such/Corefile", "-dns.port=0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("--conf: /no/such/Corefile: cannot be read"), "{stderr}");
}
