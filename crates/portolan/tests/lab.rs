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
    spec: {containers: [{name: web, image: app, ports: [{name: http, containerPort: 8080}]}]}
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
spec: {containers: [{name: alone, image: app, ports: [{containerPort: 80}]}]}
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

/// But for those of the cluster's DNS.
fn pods(status: &Value) -> Vec<&Value> {
    let of_dns = |pod: &Value| pod["name"].as_str().unwrap().starts_with("kube-system/");
    status["pods"].as_array().unwrap().iter().filter(|pod| !of_dns(pod)).collect()
}

/// Pods by name, and those of Deployments by the name of theirs, sorted.
fn pod_names(status: &Value) -> Vec<String> {
    let short = |pod: &&Value| {
        let name = pod["name"].as_str().unwrap();
        let words: Vec<&str> = name.split('-').collect();
        let made_up = |word: &&&str| word.len() >= 5;
        let kept = words.len() - words.iter().rev().take_while(made_up).count().min(words.len() - 1);
        words[..kept].join("-")
    };
    let mut names: Vec<String> = pods(status).iter().map(short).collect();
    names.sort();
    names
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
    assert_eq!(pod_names(&user.status()), ["shop/alone", "web"]);

    for (situation, target, command, code, output) in [
        (
            "the client's address",
            "client",
            "cat /proc/self/net/fib_trie | grep -o 192.168.50.100 | head -n 1",
            0,
            "192.168.50.100\n",
        ),
        ("a pod is not a node", "web", "grep -c cbr0 /proc/self/net/dev", 1, "0\n"),
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
    user.wait_for("three replicas", |status| pod_names(status) == ["shop/alone", "web", "web", "web"]);
    // What is wrong changes nothing; what comes after it counts.
    user.write(&MANIFEST.replace("replicas: 1", "replicas: many"));
    user.write(
        &MANIFEST
            .replace("replicas: 1", "replicas: 2")
            .replace("containerPort: 8080}", "containerPort: 8081}"),
    );
    user.wait_for("two replicas, and another port", |status| {
        pod_names(status) == ["shop/alone", "web", "web"]
            && pods(status).iter().filter(|pod| pod["ports"] == serde_json::json!([8081])).count() == 2
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
        ("kind: Pod\n", "web.yaml:1: Pod ?: metadata.name: is missing; give one"),
        ("kind: [\n", "web.yaml:2: "),
        (
            "kind: Node\nmetadata: {name: n}\nspec: {podCIDR: x}\n",
            "Node n: spec.podCIDRs: \"x\" is not a network such as 10.244.1.0/24",
        ),
    ] {
        user.write(manifest);
        let up = user.lab(&["up", "web.yaml"]);
        assert!(!up.status.success() && text(&up).contains(message), "{manifest}: {}", text(&up));
        assert!(!Path::new(&user.folder.path().join("portolan-lab/default")).exists(), "{manifest}");
    }
}

/// Everything that a lab can hold, and some that it cannot.
const WORKLOADS: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db, image: app, ports: [{containerPort: 5432, hostPort: 5432}]}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {containers: [{name: agent, image: app, ports: [{name: http, containerPort: 9000}]}]}
---
apiVersion: v1
kind: ReplicationController
metadata: {name: old}
spec:
  selector: {app: old}
  template:
    metadata: {labels: {app: old}}
    spec: {containers: [{name: old, image: app, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: agent}
spec: {type: NodePort, clusterIP: 10.96.7.8, selector: {app: agent}, ports: [{name: web, port: 80, targetPort: http, nodePort: 30778}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: j}
";

#[test]
fn a_lab_shows_its_services_and_what_is_wrong_where() {
    let user = User::new();
    user.write(WORKLOADS);
    let up = user.lab(&["up", "web.yaml", "--proxy-mode", "iptables"]);
    let shown = text(&up);
    assert!(up.status.success(), "{shown}");
    assert_eq!(pod_names(&user.status()), ["agent", "agent", "db-0", "db-1", "old"]);
    for expected in [
        "svc/agent                 10.96.7.8  port 80 (web, on nodes 30778)",
        ": CronJob j: kind: is passed over: the lab makes no pods of a CronJob",
    ] {
        assert!(shown.contains(expected), "{expected} is missing in:\n{shown}");
    }
    // A port of the node that leads to a pod, without any Service.
    let asked = user.lab(&["exec", "client", "--", "curl", "-sS", "http://192.168.50.1:5432"]);
    assert!(text(&asked).contains("hello from db-"), "{}", text(&asked));
    let rules = user.lab(&["exec", "host1", "--", "iptables-save", "-t", "nat"]);
    assert!(text(&rules).contains("default/agent:web"), "{}", text(&rules));

    // A file that is broken while the lab runs: what was in force stays, and the status says which
    // line it is.
    user.write(&WORKLOADS.replace("kind: Service", "kind: ["));
    user.wait_for("the broken line", |status| {
        status["problems"].as_array().unwrap().iter().any(|problem| {
            problem["line"].as_u64() >= Some(30)
                && problem["is_warning"] == false
                && problem["file"].as_str().unwrap().ends_with("/web.yaml")
        }) && status["services"][0]["name"] == "agent"
    });
    let status = text(&user.lab(&["status"]));
    assert!(status.contains("\nproblem: web.yaml:3"), "{status}");
    user.write(&WORKLOADS.replace("nodePort:", "nodeport:"));
    user.wait_for("a field that nobody has", |status| {
        status["problems"].as_array().unwrap().iter().any(|problem| {
            problem["message"].as_str().unwrap().contains("unknown field \"spec.ports[0].nodeport\"")
        })
    });
}

#[test]
fn a_node_of_a_lab_is_like_a_machine_of_its_own() {
    let user = User::new();
    user.write(MANIFEST);
    let up = user.lab(&["up", "web.yaml"]);
    assert!(up.status.success(), "{}", text(&up));
    // As it is typed: no flags. The proxy of each node has its socket where that node's programs
    // look for it.
    for node in ["host1", "host2"] {
        let services = user.lab(&["exec", node, "--", "portolan", "get", "services"]);
        assert!(services.status.success() && text(&services).contains("10.96.7.7"), "{}", text(&services));
    }
    for (from, to) in [("web", "svc/web"), ("client", "host1:30777"), ("host2", "svc/web")] {
        let trace = user.lab(&["trace", from, to]);
        assert!(trace.status.success() && text(&trace).contains("10.244."), "{from} {to}: {}", text(&trace));
    }
    for (arguments, part) in [
        (&["host1", "host2:30777"][..], "`portolan lab trace --node host2 host1 host2:30777`"),
        (&["--node", "host2", "alone", "host2:30777"], "is forwarded to 10.244."),
        (&["--node", "host2", "host1", "host2:30777"], "is forwarded to 10.244."),
        (&["alone", "svc/web"], "Not in the rules: whether anything listens at 10.244."),
        (&["alone", "svc/web"], "`portolan lab capture web-"),
        (&["nobody", "svc/web"], "there is no pod or node \"nobody\" in the lab"),
    ] {
        let trace = user.lab(&[&["trace"], arguments].concat());
        assert!(text(&trace).contains(part), "{arguments:?}: {}", text(&trace));
    }
    let alone = user.lab(&["exec", "alone", "--", "hostname"]);
    assert!(alone.status.success(), "{}", text(&alone));
    for (situation, command, output) in [
        ("the host name", "hostname || cat /proc/sys/kernel/hostname", "host1\n"),
        ("names are asked of nobody else", "grep -c '^nameserver 127.0.0.1$' /etc/resolv.conf", "1\n"),
        ("its proxy's state and no other", "ls /var/lib/portolan | grep -vc snapshot", "0\n"),
        (
            "a state of its own",
            "touch /var/lib/portolan/x && ls /var/lib/portolan/x",
            "/var/lib/portolan/x\n",
        ),
        ("giving up groups", "setpriv --groups 1 true 2>&1 || true", ""),
    ] {
        let done = user.lab(&["exec", "host1", "--", "sh", "-c", command]);
        assert_eq!(text(&done), output, "{situation}");
    }
    let other = user.lab(&["exec", "host2", "--", "sh", "-c", "ls /var/lib/portolan | grep -c x"]);
    assert_eq!(text(&other), "0\n", "host1's state is not host2's");
    assert!(!Path::new("/var/lib/portolan/x").exists(), "the machine's own state is left alone");
}

/// A Service that wants an address, and a pod that says whom it sees.
const BALANCED: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: app, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
";

/// One node answers ARP for the address that the controller has given, and the client is beside the
/// nodes.
#[test]
fn a_load_balancer_is_reached_from_outside() {
    let user = User::new();
    user.write(BALANCED);
    let up = user.lab(&["up", "web.yaml", "--no-dns", "--load-balancer-pool", "192.168.50.224/28"]);
    assert!(up.status.success(), "{}", text(&up));
    assert!(!text(&up).contains("allocates no"), "{}", text(&up));
    let ask = |situation: &str, wanted: &dyn Fn(&str) -> bool| {
        let begun = Instant::now();
        loop {
            let curl = ["exec", "client", "--", "curl", "-sS", "-m", "2", "http://192.168.50.224/"];
            let answer = text(&user.lab(&curl));
            if wanted(&answer) {
                return;
            }
            let addresses = text(&user.lab(&["exec", "host1", "--", "portolan", "get", "addresses"]));
            assert!(begun.elapsed() < Duration::from_secs(40), "{situation}: {answer}\n{addresses}");
        }
    };
    let client = "you are 192.168.50.100";
    ask("any node brings it to the pod", &|answer| answer.contains("hello from web-"));
    let neighbour = user.lab(&["exec", "client", "--", "ip", "neigh", "show", "192.168.50.224"]);
    assert!(text(&neighbour).contains("lladdr"), "{}", text(&neighbour));
    let addresses = text(&user.lab(&["exec", "host1", "--", "portolan", "get", "addresses"]));
    assert!(addresses.contains("192.168.50.224") && addresses.contains("default/web"), "{addresses}");

    let local = format!("{BALANCED}  externalTrafficPolicy: Local\n");
    user.write(&local);
    ask("the node that has the pod keeps the client's address", &|answer| answer.contains(client));
    let others = format!("{local}  loadBalancerSourceRanges: [203.0.113.0/24]\n");
    user.write(&others);
    ask("the client is not one of those who may", &|answer| answer.contains("timed out"));
    user.write(&BALANCED.replace("LoadBalancer", "ClusterIP"));
    ask("nobody answers for it", &|answer| answer.contains("curl:"));
    user.wait_for("the address is given back", |status| {
        let services = status["services"].as_array().unwrap();
        let web = services.iter().find(|service| service["name"].as_str().unwrap().ends_with("web"));
        web.is_some_and(|web| web["external_ips"].as_array().is_none_or(Vec::is_empty))
    });
}

/// Pods that look names up, and are called, in their own way.
const NAMED: &str = "
kind: Pod
apiVersion: v1
metadata: {name: plain, namespace: shop}
spec: {containers: [{name: a, image: app}], hostAliases: [{ip: 1.2.3.4, hostnames: [db, db.example]}]}
---
kind: Pod
apiVersion: v1
metadata: {name: own}
spec:
  hostname: h
  subdomain: web
  setHostnameAsFQDN: true
  dnsPolicy: None
  dnsConfig: {nameservers: [192.0.2.53], searches: [x.y], options: [{name: ndots, value: '2'}]}
  containers: [{name: a, image: app}]
---
kind: Pod
apiVersion: v1
metadata: {name: on-host}
spec: {nodeName: host1, hostNetwork: true, dnsPolicy: ClusterFirstWithHostNet, containers: [{name: a, image: app}]}
---
kind: StatefulSet
apiVersion: apps/v1
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template: {metadata: {labels: {app: db}}, spec: {containers: [{name: db, image: app, ports: [{containerPort: 5432}]}]}}
---
kind: Service
apiVersion: v1
metadata: {name: kube-dns, namespace: kube-system}
spec: {clusterIP: 10.96.0.99, selector: {app: none}, ports: [{name: dns, port: 53, protocol: UDP}]}
---
kind: Service
apiVersion: v1
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 5432}]}
";

#[test]
fn pods_have_the_names_and_the_resolver_that_kubelet_gives_them() {
    let user = User::new();
    user.write(NAMED);
    let up = user.lab(&["up", "web.yaml"]);
    assert!(up.status.success(), "{}", text(&up));
    let of_cluster = |namespace: &str| {
        format!(
            "search {namespace}.svc.cluster.local svc.cluster.local cluster.local\n\
             nameserver 10.96.0.99\noptions ndots:5\n"
        )
    };
    let of_node = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
    for (target, name, conf) in [
        ("shop/plain", "plain", of_cluster("shop")),
        (
            "own",
            "h.web.default.svc.cluster.local",
            "search x.y\nnameserver 192.0.2.53\noptions ndots:2\n".to_owned(),
        ),
        ("on-host", "host1", of_cluster("default")),
        ("db-0", "db-0", of_cluster("default")),
        ("host1", "host1", of_node.to_owned()),
        ("client", "client", of_node.to_owned()),
    ] {
        let done = user.lab(&["exec", target, "--", "sh", "-c", "hostname; cat /etc/resolv.conf"]);
        assert_eq!(text(&done), format!("{name}\n{conf}"), "{target}");
    }
    for (target, line) in [
        ("shop/plain", "1.2.3.4\tdb\tdb.example"),
        ("db-0", "\tdb-0.db.default.svc.cluster.local\tdb-0"),
        ("on-host", "# Kubernetes-managed hosts file (host network)."),
    ] {
        let hosts = text(&user.lab(&["exec", target, "--", "cat", "/etc/hosts"]));
        assert!(hosts.lines().any(|of| of.ends_with(line)), "{target}: {hosts}");
    }
}

/// How long glibc's resolver waits for an answer that does not come (resolv.conf(5), timeout).
const RESOLVER_WAITS: Duration = Duration::from_secs(5);

/// In both modes, by each resolver of this machine.
#[test]
fn pods_find_services_by_name() {
    for mode in ["nftables", "iptables"] {
        let user = User::new();
        let dual = "clusterIPs: [10.96.7.7, \"fd00:10:96::77\"]\n  ipFamilyPolicy: RequireDualStack";
        user.write(&(MANIFEST.replace("clusterIP: 10.96.7.7", dual) + "---\n" + SEARCHING));
        let up = user.lab(&["up", "web.yaml", "--proxy-mode", mode]);
        let shown = text(&up);
        assert!(up.status.success(), "{shown}");
        assert!(shown.contains("svc/kube-system/kube-dns  10.96.0.10"), "{shown}");
        for (pod, program, arguments, code, parts) in [
            ("web", "curl", &["-sS", "http://web"][..], 0, &["hello from web-"][..]),
            ("shop/alone", "curl", &["-sS", "http://web.default"], 0, &["hello from web-"]),
            ("shop/alone", "curl", &["-sS", "http://web"], 6, &["Could not resolve host: web"]),
            ("searching", "curl", &["-sS", "http://web"], 0, &["hello from web-"]),
            ("web", "getent", &["ahosts", "web"], 0, &["10.96.7.7", "fd00:10:96::77"]),
            ("web", "busybox", &["nslookup", "web.default.svc.cluster.local"], 0, &["10.96.7.7"]),
            ("web", "dig", &["+search", "+short", "web"], 0, &["10.96.7.7"]),
            // There is nothing outside, and nobody waits for it.
            ("web", "curl", &["-sS", "http://www.example.com"], 6, &["Could not resolve host"]),
            ("web", "getent", &["ahosts", "gone"], 2, &[""]),
            ("web", "dig", &["www.example.com"], 0, &["status: NXDOMAIN"]),
            ("web", "busybox", &["nslookup", "www.example.com"], 1, &["NXDOMAIN"]),
            ("host1", "getent", &["ahosts", "web"], 2, &[""]),
            ("client", "getent", &["ahosts", "web"], 2, &[""]),
        ] {
            if Command::new(program).arg("--help").output().is_err() {
                eprintln!("{program} is not installed: SKIPPED");
                continue;
            }
            let begun = Instant::now();
            let found = user.lab(&[&["exec", pod, "--", program], arguments].concat());
            let all = text(&found);
            assert_eq!(found.status.code(), Some(code), "{mode}, {pod}: {program} {arguments:?}: {all}");
            assert!(
                parts.iter().all(|part| all.contains(part)),
                "{mode}, {pod}: {program} {arguments:?}: {all}"
            );
            assert!(begun.elapsed() < RESOLVER_WAITS, "{mode}, {pod}: {program} {arguments:?} waits");
        }
        let trace = text(&user.lab(&["trace", "web", "web", "--", "--lookup"]));
        for part in
            [" asks svc/kube-system/kube-dns at 10.96.0.10 for web.", "-> 10.96.0.10:53/udp is forwarded"]
        {
            assert!(trace.contains(part), "{mode}: {part} is missing in:\n{trace}");
        }
        // A name comes with its Service.
        user.write(
            &(MANIFEST.replace("{name: web}\nspec:\n  type", "{name: other}\nspec:\n  type")
                + "---\n"
                + SEARCHING),
        );
        let begun = Instant::now();
        while !user.lab(&["exec", "web", "--", "getent", "hosts", "other"]).status.success() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{mode}: the new name is not there");
        }
    }
}

/// A pod that searches four domains.
const SEARCHING: &str = "
kind: Pod
apiVersion: v1
metadata: {name: searching, namespace: default}
spec: {dnsConfig: {searches: [corp.example]}, containers: [{name: a, image: app}]}
";

#[test]
fn packets_of_a_lab_are_shown() {
    if Command::new("tcpdump").arg("--version").output().is_err() {
        eprintln!("tcpdump is not installed: SKIPPED");
        return;
    }
    let user = User::new();
    user.write(MANIFEST);
    let up = user.lab(&["up", "web.yaml"]);
    assert!(up.status.success(), "{}", text(&up));
    // Connections that go on until the capture has seen one packet: nothing has to be waited for.
    let mut knocking = Command::new(env!("CARGO_BIN_EXE_portolan"))
        .args(["lab", "exec", "client", "--", "bash", "-c"])
        .arg("while :; do (exec 3<>/dev/tcp/192.168.50.1/30777); sleep 0.1; done")
        .env("XDG_RUNTIME_DIR", user.folder.path())
        .spawn()
        .unwrap();
    let captured = user.lab(&["capture", "host1", "--", "-c", "1", "arp or ip or ip6"]);
    knocking.kill().unwrap();
    knocking.wait().unwrap();
    let shown = text(&captured);
    assert!(captured.status.success() && shown.contains("1 packet captured"), "{shown}");
}

/// One pod, whose successor has its name.
const DATABASE: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db, image: app, ports: [{containerPort: 5432}]}]}
";

/// What people type, against a lab: real kubectl, as `./test` installs it.
/// Values that are somewhere else.
const VARIABLES: &str = "
apiVersion: v1
kind: Pod
metadata: {name: variables}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: busybox
    args: [sh, -c, 'echo $A $B of c: $C_A']
    envFrom: [{prefix: C_, configMapRef: {name: c}}]
    env:
    - {name: A, valueFrom: {configMapKeyRef: {name: c, key: A}}}
    - {name: B, valueFrom: {secretKeyRef: {name: s, key: B}}}
    - {name: D, valueFrom: {secretKeyRef: {name: none, key: B, optional: true}}}
";

/// Whoever comes too late leaves the lab of the one who was quicker as it is.
#[test]
fn two_who_build_the_same_lab_at_once_do_not_lose_it() {
    let user = User::new();
    let built = std::thread::scope(|scope| {
        let up = || scope.spawn(|| user.lab(&["up", "--no-dns", "--nodes", "1"]));
        [up(), up()].map(|thread| thread.join().unwrap())
    });
    let succeeded = built.iter().filter(|up| up.status.success()).count();
    let shown = || built.iter().map(text).collect::<Vec<_>>().join("\n");
    assert_eq!(succeeded, 1, "{}", shown());
    assert!(shown().contains("is running"), "{}", shown());
    let status = user.lab(&["status"]);
    assert!(status.status.success(), "{}", text(&status));
    assert!(user.lab(&["down"]).status.success());
}

#[test]
fn kubectl_works_against_a_lab() {
    let kubectl = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/kubectl-1.37.1/bin");
    if !kubectl.join("kubectl").exists() {
        eprintln!("kubectl is not installed: SKIPPED");
        return;
    }
    let user = User::new();
    std::fs::write(user.folder.path().join("db.yaml"), DATABASE).unwrap();
    std::fs::write(user.folder.path().join("variables.yaml"), VARIABLES).unwrap();
    let up = user.lab(&["up"]);
    assert!(up.status.success(), "{}", text(&up));
    let env = text(&user.lab(&["env"]));
    let path = format!("{}:{}", kubectl.display(), std::env::var("PATH").unwrap_or_default());
    let type_in = |command: &str| {
        let whole = Command::new("timeout")
            .args(["60", "sh", "-c", &format!("{env}{command}")])
            .env("PATH", &path)
            .env("HOME", user.folder.path())
            .current_dir(user.folder.path())
            .output()
            .unwrap();
        text(&whole)
    };
    for (command, parts) in [
        ("kubectl get nodes", &["host1   Ready", "host2   Ready"][..]),
        ("kubectl create deployment web --image=nginx --replicas=2 --port=80", &["web created"]),
        ("kubectl expose deployment web --type=NodePort", &["web exposed"]),
        ("kubectl rollout status deployment/web --timeout=20s", &["successfully rolled out"]),
        ("kubectl run net-test --image=jonlangemak/net_tools", &["pod/net-test created"]),
        ("kubectl wait pod/net-test --for=condition=Ready --timeout=20s", &["condition met"]),
        ("kubectl exec net-test -- hostname", &["net-test"]),
        ("kubectl logs deployment/web", &["answers on port 80"]),
        ("kubectl scale --replicas=3 deployment/web", &["scaled"]),
        ("kubectl wait deployment/web --for=jsonpath='{.status.readyReplicas}'=3 --timeout=20s", &["met"]),
        ("kubectl get endpointslices -l kubernetes.io/service-name=web", &["80", "10.244."]),
        ("kubectl describe pod net-test", &["Successfully assigned default/net-test", "Started container"]),
        // Another pod of the same name begins while what is left of the one before is cleared away.
        ("kubectl apply -f db.yaml", &["statefulset.apps/db created"]),
        ("kubectl rollout status statefulset/db --timeout=20s", &["roll out complete"]),
        ("kubectl delete pod db-0 --force --grace-period=0", &["force deleted"]),
        ("kubectl wait pod/db-0 --for=create --timeout=20s", &["met"]),
        ("kubectl wait pod/db-0 --for=condition=Ready --timeout=20s", &["met"]),
        (
            "kubectl exec net-test -- curl -sS $(kubectl get pod db-0 -o jsonpath='{.status.podIP}'):5432",
            &["hello from db-0"],
        ),
        ("kubectl create configmap c --from-literal=A=1", &["created"]),
        ("kubectl create secret generic s --from-literal=B=2", &["created"]),
        ("kubectl apply -f variables.yaml", &["pod/variables created"]),
        ("kubectl wait pod/variables --for=jsonpath='{.status.phase}'=Succeeded --timeout=20s", &["met"]),
        ("kubectl logs variables", &["1 2 of c: 1"]),
        ("kubectl create job sum --image=busybox -- sh -c 'echo $((6 * 7))'", &["job.batch/sum created"]),
        ("kubectl wait job/sum --for=condition=Complete --timeout=20s", &["condition met"]),
        ("kubectl logs job/sum; kubectl get job sum", &["42", "Complete   1/1"]),
        ("kubectl delete deployment web --wait --timeout=20s", &["deleted"]),
        ("kubectl wait pod -l app=web --for=delete --timeout=20s; kubectl get pods", &["net-test"]),
    ] {
        let printed = type_in(command);
        assert!(parts.iter().all(|part| printed.contains(part)), "{command}: {printed}");
    }
    for (arguments, part) in [
        (&["proxy", "restart", "host1", "--proxy-mode", "iptables"][..], "in force again"),
        (&["exec", "host1", "--", "iptables-save", "-t", "nat"], "KUBE-SERVICES"),
        (&["node", "cordon", "host2"], "takes no new pods"),
        (&["node", "stop", "host2"], "is switched off"),
    ] {
        let done = user.lab(arguments);
        assert!(done.status.success() && text(&done).contains(part), "{arguments:?}: {}", text(&done));
    }
    let nodes = type_in("kubectl get nodes");
    assert!(nodes.contains("Ready,SchedulingDisabled"), "{nodes}");
    let status: Value = serde_json::from_slice(&user.lab(&["status", "-o", "json"]).stdout).unwrap();
    assert_eq!(status["nodes"][0]["proxy_mode"], "iptables");
    assert_eq!(status["nodes"][1]["proxy"], "stopped");
}

const ON_EACH_NODE: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {containers: [{name: agent, image: app, ports: [{containerPort: 9000}]}]}
---
";

#[test]
fn nodes_come_and_go() {
    let user = User::new();
    user.write(&[ON_EACH_NODE, MANIFEST].concat());
    let up = user.lab(&["up", "web.yaml", "--nodes", "2", "--proxy-mode", "iptables,host2=nftables"]);
    assert!(up.status.success(), "{}", text(&up));
    let ready_on = |status: &Value, node: &str, name: &str| {
        let is_it = |pod: &&&Value| pod["name"].as_str().unwrap().starts_with(name);
        let mut found = pods(status);
        found.retain(|pod| is_it(&pod) && pod["node"] == node && pod["ready"] == true);
        !found.is_empty()
    };
    let nodes = |status: &Value| {
        let node = |node: &Value| {
            [&node["name"], &node["proxy_mode"], &node["proxy"], &node["ready"]]
                .map(ToString::to_string)
                .join(" ")
        };
        status["nodes"].as_array().unwrap().iter().map(node).collect::<Vec<_>>()
    };
    let does = |arguments: &[&str], part: &str| {
        let done = user.lab(arguments);
        assert!(text(&done).contains(part), "{arguments:?}: {}", text(&done));
        done.status.success()
    };
    assert!(does(&["node", "add"], "node host3 has come"));
    assert!(does(&["node", "add", "edge", "--proxy-mode", "nftables"], "node edge has come"));
    assert_eq!(
        nodes(&user.status()),
        [
            r#""host1" "iptables" "running" true"#,
            r#""host2" "nftables" "running" true"#,
            r#""host3" "iptables" "running" true"#,
            r#""edge" "nftables" "running" true"#,
        ]
    );
    assert!(!does(&["node", "add", "edge"], "exists already"));
    assert!(!does(&["node", "add", "../x"], "a lowercase RFC 1123 subdomain"));
    user.wait_for("each node has its pod", |status| {
        ["host1", "host2", "host3", "edge"].into_iter().all(|node| ready_on(status, node, "agent"))
    });
    for node in ["host3", "edge"] {
        assert!(does(&["exec", node, "--", "curl", "-sS", "http://10.96.7.7"], "hello from web"), "{node}");
        assert!(
            does(
                &["exec", "client", "--", "curl", "-sS", &format!("http://{}:30777", address(&user, node))],
                "hello from web"
            ),
            "{node}"
        );
    }
    // The client's way to all Services is by way of the first node.
    for node in ["host1", "host2"] {
        assert!(does(&["node", "remove", node], "is gone"));
    }
    user.wait_for("its pods are elsewhere", |status| {
        ["host3", "edge"].into_iter().any(|node| ready_on(status, node, "web"))
            && pods(status).iter().all(|pod| pod["node"] != "host1" && pod["node"] != "host2")
    });
    assert!(does(
        &["exec", "client", "--", "curl", "-sS", "--retry", "5", "--retry-connrefused", "http://10.96.7.7"],
        "hello from web"
    ));
    assert!(does(&["node", "stop", "edge"], "is switched off"));
    assert!(does(&["node", "remove", "edge"], "is gone"));
    assert!(!does(&["node", "remove", "host3"], "is the last one, and stays"));
    assert!(does(&["node", "add", "host1"], "node host1 has come"));
    assert_eq!(
        nodes(&user.status()),
        [r#""host3" "iptables" "running" true"#, r#""host1" "iptables" "running" true"#]
    );
    user.wait_for("the new one has its pod", |status| ready_on(status, "host1", "agent"));
}

/// The first address of a node.
fn address(user: &User, node: &str) -> String {
    let status = user.status();
    let mut nodes = status["nodes"].as_array().unwrap().iter();
    let found = nodes.find(|one| one["name"] == node).unwrap();
    found["addresses"][0].as_str().unwrap().to_owned()
}
