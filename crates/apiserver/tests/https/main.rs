//! The server over real HTTPS, in both versions of HTTP.

mod client;
mod hostile;

use std::time::Duration;

use portolan_apiserver::{
    Authentication, Corruption, Credential, Credentials, Double, Options, Resource, Starting, scale,
};
use serde_json::{Value, json};

use client::{Answer, PATIENCE, VERSIONS, Version, get, send};

const SERVICES: &str = "/api/v1/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

fn start() -> Double {
    start_with(Options::default())
}

fn start_with(options: Options) -> Double {
    Double::start(options).expect("a server on a free port")
}

fn service(name: &str, ip: &str, labels: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service",
        "metadata": { "namespace": "shop", "name": name, "labels": labels }, "spec": { "clusterIP": ip } })
}

fn apply(server: &Double, name: &str, ip: &str) -> u64 {
    server.apply(service(name, ip, &json!({}))).expect("a Service")
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("a list");
    items.iter().map(|item| item["metadata"]["name"].as_str().expect("a name")).collect()
}

/// Waits for a watch to be open, so that what follows reaches it as events.
fn opened(server: &Double, count: usize) {
    assert!(
        server.wait_for(|state| state.watchers(Resource::Services) == count, PATIENCE),
        "{count} watches"
    );
}

#[tokio::test]
async fn lists() {
    let server = start();
    let last = ["a", "b", "c", "d", "e"].map(|name| apply(&server, name, "10.96.0.1"))[4];
    for version in VERSIONS {
        let list = get(&server, version, SERVICES).await.json().await;
        assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ServiceList"), &json!("v1")));
        assert_eq!(list["metadata"], json!({ "resourceVersion": last.to_string() }));
        assert_eq!(names(&list), ["a", "b", "c", "d", "e"]);
        assert_eq!(list["items"][0].get("kind"), None, "items of a list have no kind");

        let first = get(&server, version, &format!("{SERVICES}?limit=2")).await.json().await;
        assert_eq!(names(&first), ["a", "b"]);
        assert_eq!(first["metadata"]["remainingItemCount"], 3);
        let whole =
            get(&server, version, &format!("{SERVICES}?limit=2&resourceVersion=0")).await.json().await;
        assert_eq!(names(&whole).len(), 5, "the watch cache does not page");

        let token = first["metadata"]["continue"].as_str().expect("a token");
        let next = format!("{SERVICES}?limit=2&continue={token}");
        assert_eq!(names(&get(&server, version, &next).await.json().await), ["c", "d"]);
        let expired = get(&server, version, &format!("{SERVICES}?continue=999-2")).await;
        assert_eq!(expired.code, 410);
        assert_eq!(expired.json().await["reason"], "Expired");

        let ahead = get(&server, version, &format!("{SERVICES}?resourceVersion={}", last + 9)).await;
        assert_eq!((ahead.code, ahead.retry_after.as_deref()), (504, Some("1")));
        let selected = "?labelSelector=%21x&fieldSelector=metadata.name%3Dc,spec.clusterIP%21%3DNone";
        assert_eq!(names(&get(&server, version, &format!("{SERVICES}{selected}")).await.json().await), ["c"]);
        let one = get(&server, version, "/api/v1/namespaces/shop/services/b").await.json().await;
        assert_eq!((&one["kind"], &one["metadata"]["name"]), (&json!("Service"), &json!("b")));
        assert_eq!(get(&server, version, "/api/v1/namespaces/shop/services/z").await.code, 404);
        assert_eq!(get(&server, version, "/apis/apps/v2/deployments").await.code, 404);
    }
}

#[tokio::test]
async fn watches_from_a_version() {
    for version in VERSIONS {
        let server = start();
        let first = apply(&server, "web", "10.96.0.1");
        apply(&server, "db", "10.96.0.2");
        let mut watch = get(&server, version, &format!("{SERVICES}?watch=1&resourceVersion={first}")).await;
        assert_eq!(watch.code, 200);
        assert_eq!(watch.short().await, format!("ADDED db@{}", first + 1));
        apply(&server, "web", "10.96.0.3");
        assert_eq!(watch.short().await, format!("MODIFIED web@{}", first + 2));
        assert!(server.delete(Resource::Services, "shop", "web"));
        assert_eq!(watch.short().await, format!("DELETED web@{}", first + 3));
        server.end_watches(None);
        assert_eq!(watch.line().await, Ok(None));

        let mut synthetic = get(&server, version, &format!("{SERVICES}?watch=true&timeoutSeconds=1")).await;
        assert_eq!(synthetic.short().await, format!("ADDED db@{}", first + 1));
        assert_eq!(synthetic.line().await, Ok(None), "ends by itself");
        opened(&server, 0);
    }
}

/// What enters a selection is added, what leaves it is deleted, whatever happened to the object
/// itself.
#[tokio::test]
async fn watches_a_selection() {
    let server = start();
    let other = json!({ "service.kubernetes.io/service-proxy-name": "other" });
    server.apply(service("web", "10.96.0.1", &other)).expect("a Service");
    let path = format!(
        "{SERVICES}?watch=1&labelSelector=%21service.kubernetes.io%2Fservice-proxy-name&fieldSelector=spec.clusterIP%21%3DNone"
    );
    let mut watch = get(&server, Version::Http2, &path).await;
    let steps: [(&str, Value, Option<&str>); 6] = [
        ("10.96.0.1", json!({}), Some("ADDED")),
        ("10.96.0.2", json!({}), Some("MODIFIED")),
        ("10.96.0.2", other.clone(), Some("DELETED")),
        ("None", other.clone(), None),
        ("None", json!({}), None),
        ("10.96.0.3", json!({}), Some("ADDED")),
    ];
    for (ip, labels, event) in steps {
        let version = server.apply(service("web", ip, &labels)).expect("a Service");
        if let Some(event) = event {
            assert_eq!(watch.short().await, format!("{event} web@{version}"), "{ip} {labels}");
        }
    }
}

#[tokio::test]
async fn bookmarks() {
    let server = start_with(Options { bookmark_interval: Duration::from_millis(20), ..Options::default() });
    let version = apply(&server, "web", "10.96.0.1");
    for http in VERSIONS {
        let path = format!("{SERVICES}?watch=1&resourceVersion={version}");
        let mut with = get(&server, http, &format!("{path}&allowWatchBookmarks=true")).await;
        let mut without = get(&server, http, &format!("{path}&timeoutSeconds=1")).await;
        let bookmark = with.event().await;
        assert_eq!((&bookmark["type"], &bookmark["object"]["kind"]), (&json!("BOOKMARK"), &json!("Service")));
        assert_eq!(bookmark["object"]["metadata"], json!({ "resourceVersion": version.to_string() }));
        assert_eq!(without.line().await, Ok(None), "none without asking");
    }
    // What happens to other resources moves bookmarks as well.
    let later = server.apply(scale::node(1)).expect("a Node");
    let mut watch = get(
        &server,
        Version::Http1,
        &format!("{SERVICES}?watch=1&allowWatchBookmarks=1&resourceVersion={version}"),
    )
    .await;
    assert_eq!(watch.short().await, format!("BOOKMARK @{later}"));
}

#[tokio::test]
async fn streaming_lists() {
    let server = start();
    let (first, second) = (apply(&server, "a", "10.96.0.1"), apply(&server, "b", "10.96.0.2"));
    let path = format!(
        "{SERVICES}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    for version in VERSIONS {
        let mut watch = get(&server, version, &path).await;
        assert_eq!(watch.short().await, format!("ADDED a@{first}"));
        assert_eq!(watch.short().await, format!("ADDED b@{second}"));
        let end = watch.event().await;
        assert_eq!(end["type"], "BOOKMARK");
        assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
        let ahead = get(&server, version, &format!("{path}&resourceVersion=99999")).await;
        assert_eq!(ahead.code, 504);
        let incomplete = get(&server, version, &format!("{SERVICES}?watch=1&sendInitialEvents=true")).await;
        assert_eq!(incomplete.code, 422);
    }
    server.offer_streaming_lists(false);
    let refused = get(&server, Version::Http1, &path).await;
    assert_eq!(refused.code, 422);
    let message = refused.json().await["message"].to_string();
    assert!(message.contains("sendInitialEvents is forbidden"), "{message}");
}

#[tokio::test]
async fn forgets() {
    let server = start();
    let version = apply(&server, "web", "10.96.0.1");
    let path = format!("{SERVICES}?watch=1&resourceVersion={version}");
    let mut open = get(&server, Version::Http1, &path).await;
    opened(&server, 1);
    server.forget();
    let mut late = get(&server, Version::Http1, &path).await;
    let event = late.event().await;
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(late.line().await, Ok(None));
    server.gone_as_status(true);
    assert_eq!(get(&server, Version::Http1, &path).await.code, 410);
    let later = apply(&server, "db", "10.96.0.2");
    assert_eq!(open.short().await, format!("ADDED db@{later}"), "an open watch goes on");
}

#[tokio::test]
async fn starts_as_a_real_server_does() {
    for (starting, code) in [(Starting::Forbidden, 403), (Starting::Initializing, 429)] {
        let server = start();
        let before = apply(&server, "a", "10.96.0.1");
        server.down();
        server.boot(starting);
        for version in VERSIONS {
            assert_eq!(get(&server, version, SERVICES).await.code, code);
            assert_eq!(get(&server, version, "/readyz").await.code, 500);
        }
        server.ready();
        for version in VERSIONS {
            assert_eq!(get(&server, version, "/readyz").await.code, 200);
            assert_eq!(names(&get(&server, version, SERVICES).await.json().await), ["a"]);
            let path = format!("{SERVICES}?watch=1&resourceVersion={before}");
            let event = get(&server, version, &path).await.event().await;
            assert_eq!(event["object"]["code"], 410, "{event}");
        }
    }
}

#[tokio::test]
async fn restores_an_older_backup() {
    let server = start_with(Options { bookmark_interval: Duration::from_millis(10), ..Options::default() });
    for last in 1..=20 {
        apply(&server, "web", &format!("10.96.0.{last}"));
    }
    let before = server.look(portolan_apiserver::State::version);
    server.restore(50);
    let list = get(&server, Version::Http1, SERVICES).await.json().await;
    assert_eq!(list["metadata"]["resourceVersion"], "51");
    assert_eq!(list["items"][0]["metadata"]["resourceVersion"], "51");
    // Watched from a version that is yet to come: nothing is sent until then.
    let path = format!("{SERVICES}?watch=1&resourceVersion={before}");
    let mut ahead =
        get(&server, Version::Http1, &format!("{path}&allowWatchBookmarks=1&timeoutSeconds=1")).await;
    assert_eq!(ahead.line().await, Ok(None), "not even a bookmark");
    let mut watch = get(&server, Version::Http1, &path).await;
    opened(&server, 1);
    while server.look(portolan_apiserver::State::version) < before {
        let host = server.look(portolan_apiserver::State::version);
        apply(&server, "db", &format!("10.96.1.{host}"));
    }
    let reached = apply(&server, "db", "10.96.2.1");
    assert_eq!(watch.short().await, format!("MODIFIED db@{reached}"));
}

#[tokio::test]
async fn connections_fail() {
    for version in VERSIONS {
        let server = start();
        apply(&server, "web", "10.96.0.1");
        let mut watch = get(&server, version, &format!("{SERVICES}?watch=1")).await;
        watch.event().await;
        server.cut();
        assert!(watch.line().await.is_err(), "{version:?}: broken off, not ended");
        opened(&server, 0);
        server.down();
        assert!(send(&server, version, ("GET", SERVICES), None, "").await.is_err());
        server.up();
        assert_eq!(get(&server, version, SERVICES).await.code, 200);

        server.load(scale::cluster(100, 0).objects()).expect("a cluster");
        server.break_next_list(Resource::Services, 60);
        let mut list = get(&server, version, SERVICES).await;
        assert!(list.line().await.is_err(), "{version:?}: broken off in the middle");
        assert_eq!(
            get(&server, version, SERVICES).await.json().await["items"].as_array().map(Vec::len),
            Some(101)
        );
    }
}

#[tokio::test]
async fn stalls() {
    for version in VERSIONS {
        let server = start();
        let mut muted = get(&server, version, &format!("{SERVICES}?watch=1&timeoutSeconds=1")).await;
        opened(&server, 1);
        server.mute_watches(Some(Resource::Services));
        let mut watch = get(&server, version, &format!("{SERVICES}?watch=1")).await;
        opened(&server, 2);
        apply(&server, "web", "10.96.0.1");
        assert_eq!(watch.event().await["type"], "ADDED");

        server.stall(Some(Resource::Services));
        let version_held_back = apply(&server, "db", "10.96.0.2");
        let silence = tokio::time::timeout(Duration::from_millis(1500), async {
            tokio::select! {
                line = watch.line() => line,
                line = muted.line() => line,
                list = get(&server, version, SERVICES) => Ok(Some(list.code.to_string())),
            }
        });
        assert!(silence.await.is_err(), "{version:?}: nothing is sent, not even an end");
        assert_eq!(get(&server, version, SLICES).await.code, 200, "other resources answer");
        server.resume(Some(Resource::Services));
        assert_eq!(watch.short().await, format!("ADDED db@{version_held_back}"));
    }
}

#[tokio::test]
async fn answers_with_failures() {
    let server = start();
    server.answer_next(2, Some(Resource::Services), 429, Some(3));
    server.answer_next(1, None, 500, None);
    assert_eq!(get(&server, Version::Http1, SLICES).await.code, 500);
    for version in VERSIONS {
        let busy = get(&server, version, SERVICES).await;
        assert_eq!((busy.code, busy.retry_after.as_deref()), (429, Some("3")));
        let status = busy.json().await;
        assert_eq!((&status["kind"], &status["reason"]), (&json!("Status"), &json!("TooManyRequests")));
        assert_eq!(status["details"]["retryAfterSeconds"], 3);
    }
    assert_eq!(get(&server, Version::Http1, SERVICES).await.code, 200);
    server.answer_always(Resource::ServiceCidrs, Some(404));
    let cidrs = "/apis/networking.k8s.io/v1/servicecidrs";
    assert_eq!(get(&server, Version::Http1, cidrs).await.code, 404);
    assert_eq!(get(&server, Version::Http1, cidrs).await.code, 404);
    server.answer_always(Resource::ServiceCidrs, None);
    assert_eq!(get(&server, Version::Http1, cidrs).await.code, 200);
}

#[tokio::test]
async fn authenticates() {
    let tokens =
        |tokens: &[&str]| Authentication::Tokens(tokens.iter().map(|&token| token.to_owned()).collect());
    let server = start_with(Options { authentication: tokens(&["one"]), ..Options::default() });
    let code = async |token| {
        send(&server, Version::Http1, ("GET", SERVICES), token, "").await.map(|answer| answer.code)
    };
    assert_eq!(code(None).await, Ok(401));
    assert_eq!(code(Some("one")).await, Ok(200));
    server.authenticate(tokens(&["two"]));
    assert_eq!(code(Some("one")).await, Ok(401));
    assert_eq!(code(Some("two")).await, Ok(200));
    server.authenticate(Authentication::ClientCertificate);
    assert_eq!(code(Some("two")).await, Ok(401));
    let seen = server.look(|state| {
        let requests = state.requests().iter();
        requests.map(|request| (request.credential.clone(), request.code)).collect::<Vec<_>>()
    });
    assert_eq!(seen[0], (Credential::None, Some(401)));
    assert_eq!(seen[3], (Credential::Token("two".to_owned()), Some(200)));
}

#[tokio::test]
async fn corrupts() {
    let server = start();
    let version = apply(&server, "web", "10.96.0.1");
    let mut watch =
        get(&server, Version::Http1, &format!("{SERVICES}?watch=1&resourceVersion={version}")).await;
    let corrupt = |how| assert!(server.corrupt(Resource::Services, "shop", "web", &how));
    corrupt(Corruption::WrongType);
    let event = watch.event().await;
    assert_eq!((&event["type"], &event["object"]["spec"]), (&json!("MODIFIED"), &json!(7)));
    corrupt(Corruption::NoMetadata);
    assert_eq!(watch.event().await["object"]["metadata"], Value::Null);
    apply(&server, "web", "10.96.0.2");
    assert_eq!(watch.event().await["object"]["spec"]["clusterIP"], "10.96.0.2");
    corrupt(Corruption::Syntax);
    let line = watch.line().await.expect("not broken off").expect("a line");
    assert!(serde_json::from_str::<Value>(&line).is_err(), "{line}");
    apply(&server, "web", "10.96.0.3");
    assert_eq!(watch.event().await["object"]["spec"]["clusterIP"], "10.96.0.3");
    server.inject(Some(Resource::Services), "not JSON");
    assert_eq!(watch.line().await, Ok(Some("not JSON\n".to_owned())));
    server.fail_watches(None, 500, "etcd is away");
    assert_eq!(watch.event().await["object"]["message"], "etcd is away");
    assert_eq!(watch.line().await, Ok(None));
}

#[tokio::test]
async fn takes_events() {
    let server = start();
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    let write = async |method, path: &str, body: Value| {
        let answer: Answer =
            send(&server, Version::Http1, (method, path), None, &body.to_string()).await.expect("an answer");
        answer.code
    };
    let event = json!({ "metadata": { "name": "n1.1", "namespace": "default" }, "reason": "Starting" });
    assert_eq!(write("POST", path, event.clone()).await, 201);
    assert_eq!(write("POST", path, event).await, 409);
    let series = json!({ "series": { "count": 2 }, "reason": null });
    assert_eq!(write("PATCH", &format!("{path}/n1.1"), series).await, 200);
    assert_eq!(write("PATCH", &format!("{path}/none"), json!({})).await, 404);
    assert_eq!(write("POST", path, json!({ "metadata": {}, "kind": "Pod" })).await, 400);
    let stored = server.look(|state| state.object(Resource::Events, "default", "n1.1")).expect("stored");
    assert_eq!((&stored["kind"], &stored["series"]["count"]), (&json!("Event"), &json!(2)));
    assert_eq!(stored.get("reason"), None);
}

#[tokio::test]
async fn ends_with_everything() {
    let server = start();
    let address = server.address();
    let mut watch = get(&server, Version::Http2, &format!("{SERVICES}?watch=1")).await;
    opened(&server, 1);
    // Waits for the server's thread.
    tokio::task::spawn_blocking(move || drop(server)).await.expect("no panic");
    assert!(watch.line().await.is_err());
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[test]
fn kubeconfigs_say_who() {
    let server = start();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kubeconfig");
    let exec = Credentials::Exec { command: "/bin/token".to_owned(), args: vec!["now".to_owned()] };
    for (credentials, field) in [
        (Credentials::Token("t".to_owned()), "token"),
        (Credentials::TokenFile("/run/token".into()), "tokenFile"),
        (Credentials::ClientCertificate, "client-certificate-data"),
        (exec, "exec"),
    ] {
        server.kubeconfig(&path, &credentials).expect("written");
        let config: Value = serde_json::from_slice(&std::fs::read(&path).expect("there")).expect("JSON");
        assert_eq!(config["clusters"][0]["cluster"]["server"], server.url());
        assert!(config["users"][0]["user"].get(field).is_some(), "{field}");
    }
}
