//! Credentials and configurations.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use portolan_apiserver::{Authentication, Credential, Credentials};
use portolan_kubernetes::{Followed, Options, start_with};

use crate::fixture::{Cluster, PATIENCE, hurried, service};

#[test]
fn credentials_are_those_of_the_kubeconfig() {
    let exec = |script: &str| Credentials::Exec {
        command: "/bin/sh".to_owned(),
        args: vec!["-c".to_owned(), script.to_owned()],
    };
    let print = r#"echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"x"}}'"#;
    let tokens = || Authentication::Tokens(vec!["x".to_owned()]);
    let table = [
        ("token", Credentials::Token("x".to_owned()), tokens()),
        ("client certificate", Credentials::ClientCertificate, Authentication::ClientCertificate),
        ("program", exec(print), tokens()),
    ];
    for (situation, credentials, authentication) in table {
        let mut cluster = Cluster::small();
        cluster.server.authenticate(authentication);
        cluster.follow_as(&credentials, hurried());
        cluster.agree(situation);
    }
}

#[test]
fn a_program_that_gives_no_credentials_yet_is_asked_again() {
    let mut cluster = Cluster::small();
    cluster.server.authenticate(Authentication::Tokens(vec!["x".to_owned()]));
    let flag = cluster.folder.path().join("may-log-in");
    let print = r#"echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"x"}}'"#;
    let script = format!("test -e {} && {print}", flag.display());
    let credentials =
        Credentials::Exec { command: "/bin/sh".to_owned(), args: vec!["-c".to_owned(), script] };
    let proxy = cluster.follow_as(&credentials, hurried());
    let until = Instant::now() + PATIENCE;
    while !proxy.resource("services").watch_errors.contains_key("credentials") {
        assert!(Instant::now() < until, "attempts are made");
        std::thread::yield_now();
    }
    std::fs::write(&flag, "").unwrap();
    cluster.agree("logged in");
}

#[test]
fn a_token_that_is_replaced_is_read_again() {
    let mut cluster = Cluster::small();
    let file = cluster.folder.path().join("token");
    // As editors and `echo` write it.
    std::fs::write(&file, "old\n").unwrap();
    cluster.server.authenticate(Authentication::Tokens(vec!["old".to_owned()]));
    cluster.follow_as(&Credentials::TokenFile(file.clone()), hurried());
    cluster.agree("old token");
    cluster.watched("old token");
    cluster.server.authenticate(Authentication::Tokens(vec!["new".to_owned()]));
    cluster.server.down();
    cluster.server.up();
    let refused = |state: &portolan_apiserver::State| state.requests().iter().any(|r| r.code == Some(401));
    assert!(cluster.server.wait_for(refused, PATIENCE), "the old token is refused");
    std::fs::write(&file, "new").unwrap();
    cluster.server.apply(service("b", "10.96.0.2")).unwrap();
    cluster.agree("new token");
    let token = Credential::Token("new".to_owned());
    assert!(cluster.server.look(|state| state.requests().iter().any(|r| r.credential == token)));
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn unusable_configurations_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let cluster = |user: &str| {
        format!(
            "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
             clusters: [{{name: c, cluster: {{server: 'https://192.0.2.1:6443'}}}}], users: [{{name: u, user: {user}}}]}}"
        )
    };
    // In YAML as in JSON the last of two values of a key may win, or be an error: the server is
    // named once.
    let on = |field: &str| {
        let server = if field.starts_with("server") { "" } else { ", server: 'https://192.0.2.1:6443'" };
        format!(
            "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
             clusters: [{{name: c, cluster: {{{field}{server}}}}}]}}"
        )
    };
    let empty = folder.path().join("no-token").display().to_string();
    std::fs::write(&empty, "\n").unwrap();
    let table = [
        ("missing file", Some(folder.path().join("none")), None, "none"),
        ("not YAML", Some(write("bad", "{")), None, "bad"),
        ("no context", Some(write("empty", "{apiVersion: v1, kind: Config}")), None, "context"),
        (
            "missing token file",
            Some(write("token", &cluster("{tokenFile: /nonexistent}"))),
            None,
            "/nonexistent",
        ),
        (
            "no such program",
            Some(write(
                "exec",
                &cluster(
                    "{exec: {apiVersion: client.authentication.k8s.io/v1, command: /nonexistent, interactiveMode: Never}}",
                ),
            )),
            None,
            "/nonexistent cannot be run",
        ),
        ("no URL", None, Some("not a url".to_owned()), "https://HOST:PORT"),
        ("a port of the URL", None, Some("https://192.0.2.1:0".to_owned()), "not in 1-65535"),
        (
            "a token of two words",
            Some(write("words", &cluster("{token: 'two words'}"))),
            None,
            r#"user "u": token: the token has a character"#,
        ),
        (
            "an empty token file",
            Some(write("empty-token", &cluster(&format!("{{tokenFile: {empty}}}")))),
            None,
            "empty",
        ),
        (
            "a provider that is gone",
            Some(write("gcp", &cluster("{auth-provider: {name: gcp}}"))),
            None,
            r#"user "u": auth-provider: "gcp" cannot be used"#,
        ),
        (
            "a program without a version",
            Some(write("version", &cluster("{exec: {command: /bin/true}}"))),
            None,
            r#"user "u": exec: apiVersion"#,
        ),
        (
            "too many groups",
            Some(write("groups", &cluster(&format!("{{as: a, as-groups: [{}]}}", "g, ".repeat(257))))),
            None,
            r#"user "u": as-groups: there are 257"#,
        ),
        (
            "a server's name",
            Some(write("name", &on("tls-server-name: 'a b'"))),
            None,
            r#"cluster "c": tls-server-name"#,
        ),
        (
            "a proxy",
            Some(write("proxy", &on("proxy-url: 'http://192.0.2.9:3128'"))),
            None,
            r#"cluster "c": proxy-url"#,
        ),
        (
            "another scheme",
            Some(write("scheme", &on("server: 'ftp://192.0.2.1'"))),
            None,
            r#"cluster "c": server"#,
        ),
        (
            "no server",
            Some(write("server", &on("server: ''"))),
            None,
            r#"cluster "c": server: "": it is empty"#,
        ),
    ];
    for (situation, kubeconfig, master, expected) in table {
        let node_name: Arc<str> = "n1".into();
        let followed = Followed::default();
        let options =
            Options { kubeconfig, master, qps: 5.0, burst: 10, node_name, followed, snapshot: None };
        let error = start_with(options, hurried(), |_| {}).expect_err(situation).to_string();
        assert!(error.contains(expected), "{situation}: {error}");
    }
    let address: SocketAddr = ([127, 0, 0, 1], 1).into();
    let options = Options {
        kubeconfig: None,
        master: Some(address.to_string()),
        qps: 5.0,
        burst: 10,
        node_name: "n1".into(),
        followed: Followed::default(),
        snapshot: None,
    };
    start_with(options, hurried(), |_| {}).expect("an address where nothing listens is no error");
}
