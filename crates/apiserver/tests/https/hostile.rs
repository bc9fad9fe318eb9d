//! Clients that ask for too much, send what is broken, or do not read.

use std::sync::Arc;
use std::time::Duration;

use portolan_apiserver::{Options, Resource, Server, scale};
use serde_json::json;
use tokio::time::timeout;

use crate::client::{PATIENCE, Version, begin, get, many, send, send_typed};
use crate::{SERVICES, service, start, start_with};

/// Longer than any answer takes while somebody else misbehaves.
const SOON: Duration = Duration::from_secs(10);

const SERVICE: &str = "/api/v1/namespaces/shop/services/web";

#[tokio::test]
async fn refuses_what_is_broken_and_goes_on() {
    let server = start();
    server.apply(service("web", "10.96.0.1", &json!({}))).expect("a Service");
    let deep = "[".repeat(100_000);
    let long = format!(r#"{{"spec":{{"ports":[{}]}}}}"#, vec!["{\"port\":1}"; 10_000].join(","));
    let strategic = "application/strategic-merge-patch+json";
    let apply = "application/apply-patch+yaml";
    let rows: [(&str, &str, &str, &[u16]); 18] = [
        ("PATCH", "application/json-patch+json", "{", &[400]),
        ("PATCH", "application/json-patch+json", r#"[{"op":"test","path":"/none","value":1}]"#, &[422]),
        ("PATCH", "application/json-patch+json", r#"[{"op":"add","path":"","value":7}]"#, &[400]),
        ("PATCH", "application/json-patch+json", &deep, &[400]),
        ("PATCH", "application/merge-patch+json", "[]", &[400]),
        ("PATCH", "application/merge-patch+json", r#"{"metadata":{"name":"other"}}"#, &[400]),
        ("PATCH", "application/merge-patch+json", r#"{"metadata":7}"#, &[400]),
        ("PATCH", "application/merge-patch+json", r#"{"spec":null}"#, &[422]),
        ("PATCH", strategic, r#"{"spec":{"ports":[{"name":"a"}]}}"#, &[400]),
        ("PATCH", strategic, r#"{"spec":{"$patch":"explode"}}"#, &[400]),
        ("PATCH", strategic, &long, &[413]),
        ("PATCH", apply, "a: [", &[400]),
        ("PATCH", apply, "{}", &[400]),
        ("PATCH", "application/xml", "<a/>", &[415]),
        ("PUT", "application/json", "7", &[400]),
        ("PUT", "application/json", &long, &[400]),
        ("PUT", "application/vnd.kubernetes.protobuf", "k8s\0\u{a}", &[400]),
        ("DELETE", "application/json", "{", &[400]),
    ];
    for (method, kind, body, codes) in rows {
        let answer = send_typed(&server, (method, SERVICE), kind, body).await.expect("an answer");
        let code = answer.code;
        assert!(codes.contains(&code), "{method} {kind} {}: {code}", &body[..body.len().min(60)]);
        assert_eq!(answer.json().await["kind"], "Status");
    }
    let huge = format!(r#"{{"metadata":{{"name":"web"}},"data":"{}"}}"#, "x".repeat(4 << 20));
    let path = "/api/v1/namespaces/shop/configmaps";
    // A server that has read enough may close before all of it was sent.
    if let Ok(answer) = send(&server, Version::Http1, ("POST", path), None, &huge).await {
        assert_eq!(answer.code, 413);
    }
    assert_eq!(get(&server, Version::Http1, SERVICE).await.code, 200, "it goes on");
}

#[tokio::test]
async fn serves_others_while_somebody_does_not_read() {
    let server = start();
    server.load(scale::cluster(3_000, 1).objects()).expect("a cluster");
    let mut idle = Vec::new();
    for version in [Version::Http1, Version::Http2] {
        for path in [SERVICES.to_owned(), format!("{SERVICES}?watch=1")] {
            idle.push(get(&server, version, &path).await);
        }
    }
    for number in 0..200 {
        server.apply(service("web", &format!("10.96.1.{number}"), &json!({}))).expect("a Service");
    }
    let answer = timeout(SOON, get(&server, Version::Http1, SERVICE)).await.expect("in time");
    assert_eq!(answer.code, 200);
    drop(idle);
}

#[tokio::test]
async fn serves_a_thousand_watches() {
    let server = Arc::new(start());
    let path = format!("{SERVICES}?watch=1");
    let mut watches = many(&server, &path, 10, 100).await;
    let all = |state: &portolan_apiserver::State| state.watchers(Resource::Services) == 1_000;
    assert!(server.wait_for(all, PATIENCE), "all are open");
    server.apply(service("web", "10.96.0.1", &json!({}))).expect("a Service");
    for watch in &mut watches {
        assert_eq!(watch.event().await["type"], "ADDED");
    }
    drop(watches);
    let none = |state: &portolan_apiserver::State| state.watchers(Resource::Services) == 0;
    // Meanwhile this thread says that nobody reads any more.
    let closed = tokio::task::spawn_blocking(move || server.wait_for(none, PATIENCE));
    assert!(closed.await.expect("no panic"), "all are closed");
}

/// A certificate authority that a folder keeps is the same at the next start.
#[test]
fn keeps_its_authority() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = || {
        let authority = Some(folder.path().join("authority"));
        Server::start(Options { authority, ..Options::cluster() }).expect("a server")
    };
    let first = start().ca_pem().to_owned();
    let second = start();
    assert_eq!(second.ca_pem(), first);
    let kubeconfig = folder.path().join("kubeconfig");
    second.kubeconfig(&kubeconfig, &portolan_apiserver::Credentials::ClientCertificate).expect("written");
}

/// Connections on which nothing is said, half a head, or a body that never comes, and answers that
/// are half read: whoever is in earnest does not notice.
#[tokio::test]
async fn serves_others_while_many_send_nothing() {
    let server = start();
    server.apply(service("web", "10.96.0.1", &json!({}))).expect("a Service");
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(begin(&server, None).await);
        idle.push(begin(&server, Some("")).await);
        idle.push(begin(&server, Some("GET /api/v1/services HTTP/1.1\r\nHost: a\r\nX-Long: ")).await);
        let head = format!("PUT {SERVICE} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{{");
        idle.push(begin(&server, Some(&head)).await);
    }
    for version in [Version::Http1, Version::Http2] {
        let answer = timeout(SOON, get(&server, version, SERVICE)).await.expect("in time");
        assert_eq!(answer.code, 200, "{version:?}");
    }
    drop(idle);
    let gone = |state: &portolan_apiserver::State| state.connections() == 0;
    let closed = tokio::task::spawn_blocking(move || server.wait_for(gone, PATIENCE));
    assert!(closed.await.expect("no panic"), "whoever goes is forgotten");
}

/// Who is too slow is not waited for, and frees what the connection takes.
#[tokio::test]
async fn does_not_wait_for_the_slow() {
    let server = start_with(Options { patience: Duration::from_millis(100), ..Options::default() });
    let halves = [
        String::new(),
        "GET /api/v1/services HTTP/1.1\r\nHost: a\r\nX-Long: ".to_owned(),
        format!("PUT {SERVICE} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{{"),
    ];
    let mut slow = Vec::new();
    for half in &halves {
        slow.push(begin(&server, Some(half)).await);
    }
    let gone = |state: &portolan_apiserver::State| state.connections() == 0;
    let closed = tokio::task::spawn_blocking(move || server.wait_for(gone, PATIENCE));
    assert!(closed.await.expect("no panic"), "the server closes them");
    drop(slow);
}
