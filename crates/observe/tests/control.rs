//! The control socket, asked as `portolan get` asks.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime};

use portolan_config::Mode;
use portolan_observe::control::{Answered, AskProxy, Error, Query, Table, ask};
use portolan_observe::rows::ServiceRow;
use portolan_observe::servers::{self, ControlSocket, Options, Server, ServerFailure, Servers};
use portolan_observe::{BuildInfo, Telemetry, Transaction};
use portolan_service::Family;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);

fn row(namespace: &str) -> ServiceRow {
    ServiceRow {
        namespace: namespace.to_owned(),
        name: "web".to_owned(),
        port: "http".to_owned(),
        family: "IPv4".to_owned(),
        protocol: "tcp".to_owned(),
        frontends: Vec::new(),
        internal_policy: Some("Cluster".to_owned()),
        external_policy: None,
        endpoints: 2,
        local_endpoints: 1,
        affinity_seconds: None,
        node_port: None,
        traffic: None,
        destinations: Vec::new(),
    }
}

/// Answers about Services, and says of endpoints that it cannot.
fn proxy() -> AskProxy {
    Arc::new(|query| match query.table {
        Table::Services => Answered::Services(vec![row(query.namespace.as_deref().unwrap_or("all"))]),
        _ => Answered::Unavailable("nothing has been planned yet".to_owned()),
    })
}

struct Running {
    telemetry: Arc<Telemetry>,
    path: PathBuf,
    failures: mpsc::Receiver<ServerFailure>,
    _servers: Servers,
}

fn start(path: &Path) -> Running {
    let build = BuildInfo::new("1.2.3");
    let telemetry = Arc::new(Telemetry::new(
        Mode::Nftables,
        Mode::Nftables,
        &Family::ALL,
        Duration::from_secs(30),
        &build,
    ));
    let (failed, failures) = mpsc::channel();
    let options = Options {
        healthz: None,
        metrics: None,
        control: Some(ControlSocket { paths: vec![path.to_owned()], ask: proxy() }),
        hard_fail: false,
        mode: "nftables".to_owned(),
        component: "portolan".to_owned(),
        configz: serde_json::Value::Null,
        flags: Vec::new(),
        build,
        profiling: false,
        set_verbosity: Arc::new(|_| Ok(())),
        on_failure: Arc::new(move |failure| drop(failed.send(failure))),
    };
    let servers = servers::start(options, telemetry.clone()).unwrap();
    Running { telemetry, path: path.to_owned(), failures, _servers: servers }
}

/// A running proxy whose socket answers.
fn running(folder: &TempDir) -> Running {
    let running = start(&folder.path().join("run/portolan.sock"));
    until_it_answers(&running.path);
    running
}

fn until_it_answers(path: &Path) {
    let end = Instant::now() + LIMIT;
    while let Err(error) = ask(path, &query(Table::Status)) {
        assert!(Instant::now() < end, "{error}");
        std::thread::yield_now();
    }
}

fn query(table: Table) -> Query {
    Query::of(table)
}

#[test]
fn each_table_is_answered() {
    let folder = TempDir::new().unwrap();
    let running = running(&folder);
    let services = ask(&running.path, &query(Table::Services)).unwrap();
    let rows: Vec<ServiceRow> = serde_json::from_value(services["services"].clone()).unwrap();
    assert_eq!(rows, [row("all")]);
    let of_shop = Query { namespace: Some("shop".to_owned()), ..query(Table::Services) };
    assert_eq!(ask(&running.path, &of_shop).unwrap()["services"][0]["namespace"], "shop");

    assert_eq!(ask(&running.path, &query(Table::Changes)).unwrap(), serde_json::json!({"changes": []}));
    running.telemetry.changes.push(Transaction {
        at: SystemTime::now(),
        services: vec!["shop/web".to_owned()],
        lines: vec!["shop/web: gone".to_owned()],
        full: false,
        event_to_commit: Some(Duration::from_millis(2)),
        commit: Duration::from_millis(1),
        operations: 4,
        error: None,
    });
    let changes = ask(&running.path, &query(Table::Changes)).unwrap();
    assert_eq!(changes["changes"][0]["lines"][0], "shop/web: gone");

    let status = ask(&running.path, &query(Table::Status)).unwrap();
    assert_eq!(status["status"]["mode"], "nftables");
    assert_eq!(status["status"]["healthz"]["code"], 503);
    running.telemetry.health.in_force();
    let status = ask(&running.path, &query(Table::Status)).unwrap();
    assert_eq!(status["status"]["healthz"]["code"], 200);
}

#[test]
fn a_proxy_that_cannot_answer_says_why() {
    let folder = TempDir::new().unwrap();
    let running = running(&folder);
    let error = ask(&running.path, &query(Table::Endpoints)).unwrap_err().to_string();
    assert_eq!(error, "the proxy answers: nothing has been planned yet (503 Service Unavailable)");
}

#[test]
fn without_a_proxy_the_error_says_what_to_do() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("portolan.sock");
    assert!(matches!(ask(&path, &query(Table::Services)), Err(Error::NoProxy { .. })), "no socket");
    drop(UnixListener::bind(&path).unwrap());
    let error = ask(&path, &query(Table::Services)).unwrap_err();
    assert!(matches!(error, Error::NoProxy { .. }), "a socket that nobody serves: {error}");
    assert!(error.to_string().contains("is `portolan run` running on this node"), "{error}");
}

#[test]
fn a_namespace_that_cannot_be_one_is_not_asked_for() {
    for namespace in ["", "a b", "a&table=x", "Ä", "../x"] {
        let query = Query { namespace: Some(namespace.to_owned()), ..query(Table::Services) };
        let answer = ask(Path::new("/nowhere"), &query);
        assert!(matches!(answer, Err(Error::Namespace(_))), "{namespace}: {answer:?}");
    }
}

#[test]
fn the_socket_is_its_owners_alone_and_replaces_one_that_was_left() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("run")).unwrap();
    drop(UnixListener::bind(folder.path().join("run/portolan.sock")).unwrap());
    let running = running(&folder);
    let metadata = fs::metadata(&running.path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
}

#[test]
fn a_socket_in_use_and_a_file_are_left_alone() {
    let folder = TempDir::new().unwrap();
    let first = running(&folder);
    let second = start(&first.path);
    let failure = second.failures.recv_timeout(LIMIT).unwrap();
    assert_eq!(failure.server, Server::ControlSocket);
    assert!(failure.to_string().contains("is a second proxy running"), "{failure}");
    until_it_answers(&first.path);
    // Tried again, until the first has gone.
    let path = first.path.clone();
    drop(first);
    until_it_answers(&path);
    drop(second);

    let file = folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    let failure = start(&file).failures.recv_timeout(LIMIT).unwrap();
    assert!(failure.to_string().contains("no socket; move it away"), "{failure}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn another_user_is_refused_even_where_the_mode_would_let_him() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can ask as somebody else");
        return;
    }
    let folder = TempDir::new().unwrap();
    let running = running(&folder);
    let nobody = || rustix::process::Uid::from_raw(65534);
    let as_nobody = |path: PathBuf| {
        // The user of this one thread, which ends with it.
        let thread = std::thread::spawn(move || {
            rustix::thread::set_thread_res_uid(nobody(), nobody(), nobody()).unwrap();
            ask(&path, &query(Table::Services))
        });
        thread.join().unwrap()
    };
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let answer = as_nobody(running.path.clone());
    assert!(matches!(answer, Err(Error::NotAllowed { .. })), "by its mode: {answer:?}");
    fs::set_permissions(&running.path, Permissions::from_mode(0o666)).unwrap();
    let answer = as_nobody(running.path.clone());
    assert!(matches!(answer, Err(Error::HungUp { .. })), "by its user: {answer:?}");
    until_it_answers(&running.path);
}
