//! `portolan lab` as a person uses it.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  clusterIP: 10.96.7.7
  selector: {app: web}
  ports: [{port: 80, targetPort: http, nodePort: 30777}]
---
apiVersion: v1
kind: Pod
metadata: {name: alone, namespace: shop}
spec: {containers: [{name: alone, ports: [{containerPort: 80}]}]}
";

/// A user with a lab of their own, which ends when this is dropped.
struct User {
    folder: tempfile::TempDir,
}

impl User {
    fn new() -> User {
        User { folder: tempfile::tempdir().unwrap() }
    }

    fn lab(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_portolan"))
            .arg("lab")
            .args(arguments)
            .env("XDG_RUNTIME_DIR", self.folder.path())
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    fn status(&self) -> Value {
        let output = self.lab(&["status", "-o", "json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn write(&self, text: &str) {
        let draft = self.folder.path().join("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, self.folder.path().join("web.yaml")).unwrap();
    }

    /// Asks until the status is as it must be.
    fn wait_for(&self, situation: &str, wanted: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        while !wanted(&self.status()) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{situation}: {:#}", self.status());
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.lab(&["down"]);
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn pod_names(status: &Value) -> Vec<&str> {
    status["pods"].as_array().unwrap().iter().map(|pod| pod["name"].as_str().unwrap()).collect()
}

#[test]
fn the_demo_shows_a_service_that_answers() {
    let output = User::new().lab(&["demo"]);
    let shown = text(&output);
    assert!(output.status.success(), "{shown}");
    for expected in [
        "hello-app-1  172.16.166.130",
        "hello-app-2  172.16.192.89",
        "10.104.81.240:80",
        "Everything answered.",
    ] {
        assert!(shown.contains(expected), "{expected} is missing in:\n{shown}");
    }
}

#[test]
fn a_lab_follows_its_manifests_until_it_is_taken_down() {
    let user = User::new();
    user.write(MANIFEST);
    let up = user.lab(&["up", "web.yaml"]);
    assert!(up.status.success(), "{}", text(&up));
    let twice = user.lab(&["up", "web.yaml"]);
    assert!(!twice.status.success() && text(&twice).contains("is running; end it with"), "{}", text(&twice));
    assert_eq!(pod_names(&user.status()), ["shop/alone", "web-1"]);

    for (situation, target, command, code, output) in [
        (
            "the client's address",
            "client",
            "cat /proc/self/net/fib_trie | grep -o 192.168.50.100 | head -n 1",
            0,
            "192.168.50.100\n",
        ),
        ("a pod is not a node", "web-1", "grep -c cbr0 /proc/self/net/dev", 1, "0\n"),
        ("a node has a bridge", "host1", "grep -c cbr0 /proc/self/net/dev", 0, "1\n"),
        ("root, in there", "shop/alone", "id -u", 0, "0\n"),
        ("exit codes come through", "host2", "exit 7", 7, ""),
        ("signals do, too", "host2", "kill -9 $$", 137, ""),
    ] {
        let done = user.lab(&["exec", target, "--", "sh", "-c", command]);
        assert_eq!((done.status.code(), text(&done).as_str()), (Some(code), output), "{situation}");
    }
    let unknown = user.lab(&["exec", "nobody", "--", "true"]);
    assert!(
        text(&unknown)
            .contains("there is no pod or node \"nobody\" in the lab; there is client, host1, host2")
    );

    user.write(&MANIFEST.replace("replicas: 1", "replicas: 3"));
    user.wait_for("three replicas", |status| pod_names(status) == ["shop/alone", "web-1", "web-2", "web-3"]);
    // What is wrong changes nothing; what comes after it counts.
    user.write(&MANIFEST.replace("replicas: 1", "replicas: many"));
    user.write(
        &MANIFEST.replace("replicas: 1", "replicas: 2").replace("containerPort: 80}", "containerPort: 81}"),
    );
    user.wait_for("two replicas, and another port", |status| {
        pod_names(status) == ["shop/alone", "web-1", "web-2"]
            && status["pods"][0]["ports"] == serde_json::json!([81])
    });
    assert!(user.status()["nodes"].as_array().unwrap().iter().all(|node| node["proxy"] == "running"));

    let down = user.lab(&["down"]);
    assert!(down.status.success(), "{}", text(&down));
    assert!(!Path::new(&user.folder.path().join("portolan-lab/default")).exists());
    let gone = user.lab(&["status"]);
    assert!(
        !gone.status.success() && text(&gone).contains("no lab \"default\" is running"),
        "{}",
        text(&gone)
    );
}

#[test]
fn a_lab_that_cannot_be_built_says_why_and_leaves_nothing() {
    let user = User::new();
    for (manifest, message) in [
        ("kind: Pod\n", "web.yaml: Pod ?: metadata.name: is missing; give one"),
        ("kind: [\n", "line 2"),
        (
            "kind: Pod\nmetadata: {name: a}\nspec: {nodeName: n}\nstatus: {podIP: 10.9.0.5}\n---\n\
             kind: Pod\nmetadata: {name: b}\nspec: {nodeName: n}\nstatus: {podIP: 10.9.0.5}\n",
            "pod b: address 10.9.0.5 is taken by a; give one of them another",
        ),
    ] {
        user.write(manifest);
        let up = user.lab(&["up", "web.yaml"]);
        assert!(!up.status.success() && text(&up).contains(message), "{manifest}: {}", text(&up));
        assert!(!Path::new(&user.folder.path().join("portolan-lab/default")).exists(), "{manifest}");
    }
}
