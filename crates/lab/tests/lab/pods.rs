//! Pods that live: real processes in namespaces of their own.

use std::net::SocketAddr;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use portolan_lab::netns::Namespace;
use portolan_lab::pod::{self, Namespaces, Place, Pod, Report};
use portolan_lab::probe::{self, Outcome, Request};
use portolan_lab::topology::{Lab, NodeSpec, PodSpec, Spec};
use serde_json::{Value, json};

/// The argument that makes this binary the server of a pod.
pub(crate) const ROLE: &str = "--be-a-server";

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn server() -> ExitCode {
    pod::serve(&std::env::args().nth(2).unwrap_or_default())
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("a_pod_is_a_machine_of_its_own", a_machine_of_its_own),
        Trial::test("an_image_has_its_server", images),
        Trial::test("killing_a_server_ends_only_its_container", killed_server),
        Trial::test("probes_are_carried_out", probes),
        Trial::test("a_pod_ends_in_good_time", ending),
        Trial::test("a_pod_ends_soon_though_it_has_hardly_begun", early_end),
        Trial::test("a_container_can_be_entered", entering),
        Trial::test("a_program_that_is_not_there_is_said", missing_program),
    ]
}

/// A lab with one pod's network, and what is at its place.
pub(crate) fn lab() -> Result<(Lab, Place), Failed> {
    let address = std::net::IpAddr::from([10, 244, 1, 2]);
    let spec = Spec {
        nodes: vec![NodeSpec {
            name: "host1".to_owned(),
            addresses: vec!["192.168.50.1/24".parse()?],
            pod_networks: vec!["10.244.1.0/24".parse()?],
        }],
        pods: vec![PodSpec {
            name: "web-0".to_owned(),
            node: "host1".to_owned(),
            addresses: vec![address],
            ports: vec![],
            host_network: false,
        }],
        ..Spec::default()
    };
    let lab = Lab::build(&spec)?;
    let place = Place {
        network: lab.pod("web-0")?,
        node: lab.node("host1")?,
        addresses: vec![address],
        host_addresses: vec!["192.168.50.1".parse()?],
        host_name: "web-0".to_owned(),
        files: vec![],
        dns: vec![],
        environment: vec![],
        server: vec![std::env::current_exe()?.into(), ROLE.into()],
    };
    Ok((lab, place))
}

pub(crate) fn object(container: &Value, more: &Value) -> Value {
    let mut object = json!({
        "metadata": { "name": "web-0", "namespace": "default", "uid": "u" },
        "spec": { "nodeName": "host1", "containers": [{ "name": "web", "image": "nginx" }] },
    });
    for (key, value) in container.as_object().into_iter().flatten() {
        object["spec"]["containers"][0][key] = value.clone();
    }
    for (key, value) in more.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    object
}

/// A server that is asked to end before it has begun is not waited for until its time is over.
fn early_end() -> Result<(), Failed> {
    let (_lab, place) = lab()?;
    for _ in 0..5 {
        let mut living = Living::start(&place, &object(&json!({}), &json!({})))?;
        living.await_event("Started container")?;
        living.pod.delete(None);
        // In less than the 30 s that it has.
        living.await_report("ended", |report| *report == Report::Ended)?;
    }
    Ok(())
}

/// A pod and what it reports.
pub(crate) struct Living {
    pub(crate) pod: Pod,
    reports: Receiver<Report>,
    seen: Vec<Report>,
}

impl Living {
    pub(crate) fn start(place: &Place, object: &Value) -> Result<Living, Failed> {
        let (sender, reports) = channel();
        let pod = Pod::start(place.clone(), object, move |report| {
            // A test that has seen enough does not listen.
            let _ = sender.send(report);
        })?;
        Ok(Living { pod, reports, seen: vec![] })
    }

    /// Waits for a report.
    fn await_report(&mut self, what: &str, test: impl Fn(&Report) -> bool) -> Result<Report, Failed> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.reports.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(report) => {
                    let found = test(&report);
                    self.seen.push(report.clone());
                    if found {
                        return Ok(report);
                    }
                }
                Err(_) => return Err(format!("no report: {what}; there were {:#?}", self.seen).into()),
            }
        }
    }

    /// Waits for a status. Gives that of the container.
    pub(crate) fn await_status(
        &mut self,
        what: &str,
        test: impl Fn(&Value) -> bool,
    ) -> Result<Value, Failed> {
        let report =
            self.await_report(what, |report| matches!(report, Report::Status(status) if test(status)))?;
        let Report::Status(status) = report else { unreachable!() };
        Ok(status["containerStatuses"][0].clone())
    }

    pub(crate) fn await_ready(&mut self) -> Result<Value, Failed> {
        self.await_status("ready", |status| status["containerStatuses"][0]["ready"] == true)
    }

    fn await_event(&mut self, part: &str) -> Result<(), Failed> {
        self.await_report(
            part,
            |report| matches!(report, Report::Event { message, .. } if message.contains(part)),
        )?;
        Ok(())
    }

    /// What a command writes that runs in the pod.
    fn run(&self, words: &[&str]) -> Result<String, Failed> {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdout(Stdio::piped());
        let output = self.pod.spawn(None, &mut command)?.wait_with_output()?;
        Ok(String::from_utf8(output.stdout)?)
    }
}

fn get(node: &Namespace, to: &str, path: &str) -> Result<String, Failed> {
    use std::io::{Read, Write};
    let to: SocketAddr = to.parse()?;
    let request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n");
    // Between the start of its process and its first answer a server may refuse.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let asked = node.run(|| {
            let mut stream = std::net::TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok::<String, std::io::Error>(answer)
        })?;
        match asked {
            Ok(answer) => {
                let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
                return Ok(body.unwrap_or_default());
            }
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => std::thread::yield_now(),
        }
    }
}

fn a_machine_of_its_own() -> Result<(), Failed> {
    let (_lab, mut place) = lab()?;
    let folder = tempfile::tempdir()?;
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "10.244.1.2 web-0 of-the-pod\n")?;
    place.files.push((hosts, "/etc/hosts".into()));
    let command = json!({ "command": ["sh", "-c", "hostname; echo $WHO; echo $$; cat /etc/hosts; sleep 1000"],
        "env": [{ "name": "WHO", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }] });
    let mut living = Living::start(&place, &object(&command, &json!({})))?;
    living.await_ready()?;
    let log = living.pod.log(None, false)?.ok_or("no log")?;
    let (mut text, mut end) = (String::new(), 0);
    while !text.contains("of-the-pod") {
        let (bytes, after, is_complete) = log.read(end, PATIENCE);
        if bytes.is_empty() || is_complete {
            return Err(format!("the log ends with {text:?}").into());
        }
        text.push_str(&String::from_utf8_lossy(&bytes));
        end = after;
    }
    assert_eq!(text, "web-0\nweb-0\n1\n10.244.1.2 web-0 of-the-pod\n");
    assert_eq!(living.run(&["hostname"])?, "web-0\n");
    assert_eq!(living.run(&["cat", "/etc/hosts"])?, "10.244.1.2 web-0 of-the-pod\n");
    assert!(living.run(&["cat", "/proc/net/fib_trie"])?.contains("10.244.1.2"), "its network");
    // The host name of everybody else is as it was.
    assert_ne!(std::fs::read_to_string("/proc/sys/kernel/hostname")?, "web-0\n");
    Ok(())
}

fn images() -> Result<(), Failed> {
    let (_lab, place) = lab()?;
    for (container, port, path, expected) in [
        (json!({ "image": "jonlangemak/web1_9090" }), 9090, "/", "This is Web Server 1 running on 9090!"),
        (json!({ "image": "agnhost", "args": ["netexec"] }), 8080, "/hostname", "web-0"),
    ] {
        let mut living = Living::start(&place, &object(&container, &json!({})))?;
        living.await_ready()?;
        assert_eq!(get(&place.node, &format!("10.244.1.2:{port}"), path)?, expected);
    }
    let unknown = json!({ "image": "registry:5000/mine", "ports": [{ "containerPort": 8080 }] });
    let mut living = Living::start(&place, &object(&unknown, &json!({})))?;
    living.await_event("in place of registry:5000/mine a server of its own answers on port 8080")?;
    living.await_ready()?;
    get(&place.node, "10.244.1.2:8080", "/healthz")?;
    let asked = place.node.run(|| probe::http(&Request::to(([10, 244, 1, 2], 8080).into())))?;
    let Outcome::Answered(answer) = asked.outcome else { return Err(asked.outcome.to_string().into()) };
    assert_eq!((answer.pod.as_str(), answer.node.as_str()), ("web-0", "host1"));
    Ok(())
}

fn killed_server() -> Result<(), Failed> {
    let (_lab, place) = lab()?;
    let mut living = Living::start(&place, &object(&json!({}), &json!({})))?;
    living.await_ready()?;
    assert!(get(&place.node, "10.244.1.2:80", "/")?.contains("Welcome to nginx!"));
    // Its own signals reach number 1 only if it cares; this one it does.
    living.run(&["sh", "-c", "kill -TERM 1"])?;
    let container = living.await_status("started again", |status| {
        status["containerStatuses"][0]["restartCount"] == 1 && status["containerStatuses"][0]["ready"] == true
    })?;
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 0);
    assert!(get(&place.node, "10.244.1.2:80", "/")?.contains("Welcome to nginx!"));
    Ok(())
}

fn probes() -> Result<(), Failed> {
    let (_lab, place) = lab()?;
    let every = |probe: Value| {
        let mut probe = probe;
        probe["periodSeconds"] = json!(1);
        probe["failureThreshold"] = json!(1);
        probe
    };
    for (good, bad, words) in [
        (
            json!({ "httpGet": { "port": 80 } }),
            json!({ "httpGet": { "port": 81 } }),
            "dial tcp 10.244.1.2:81: connect: connection refused",
        ),
        (
            json!({ "tcpSocket": { "port": 80 } }),
            json!({ "tcpSocket": { "port": 81 } }),
            "dial tcp 10.244.1.2:81: connect: connection refused",
        ),
        (
            json!({ "exec": { "command": ["true"] } }),
            json!({ "exec": { "command": ["sh", "-c", "echo not me; exit 3"] } }),
            "failed: not me",
        ),
        (
            json!({ "exec": { "command": ["true"] } }),
            json!({ "exec": { "command": ["sleep", "1000"] } }),
            "\"sleep\" timed out after 1s",
        ),
    ] {
        let mut living =
            Living::start(&place, &object(&json!({ "readinessProbe": every(good) }), &json!({})))?;
        living.await_ready()?;
        drop(living);
        let mut living =
            Living::start(&place, &object(&json!({ "readinessProbe": every(bad) }), &json!({})))?;
        living.await_event(words)?;
    }
    let netexec = json!({ "image": "nginx", "command": ["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done"],
        "livenessProbe": every(json!({ "exec": { "command": ["false"] } })) });
    let mut living = Living::start(&place, &object(&netexec, &json!({})))?;
    living.await_event("Container web failed liveness probe, will be restarted")?;
    let container =
        living.await_status("started again", |status| status["containerStatuses"][0]["restartCount"] == 1)?;
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 7);
    Ok(())
}

fn ending() -> Result<(), Failed> {
    let (_lab, place) = lab()?;
    let trap = "trap 'echo bye; exit 0' TERM; echo here; while :; do sleep 0.05; done";
    let deaf = "trap '' TERM; echo here; while :; do sleep 0.05; done";
    for (script, grace, code) in [(trap, 1_000, 0), (deaf, 1, 137)] {
        let container = json!({ "command": ["sh", "-c", script] });
        let mut living =
            Living::start(&place, &object(&container, &json!({ "terminationGracePeriodSeconds": grace })))?;
        living.await_ready()?;
        let log = living.pod.log(None, false)?.ok_or("no log")?;
        log.read(0, PATIENCE);
        living.pod.delete(None);
        living.await_report("the end", |report| *report == Report::Ended)?;
        let last = living.seen.iter().rev().find_map(|report| match report {
            Report::Status(status) => {
                Some(status["containerStatuses"][0]["state"]["terminated"]["exitCode"].clone())
            }
            _ => None,
        });
        assert_eq!(last, Some(json!(code)));
        let (text, _, is_complete) = log.read(0, PATIENCE);
        assert!(is_complete);
        assert_eq!(String::from_utf8(text)?.contains("bye"), code == 0);
    }
    Ok(())
}

/// What `lab exec` does, in a thread.
fn entering() -> Result<(), Failed> {
    use nix::sched::{CloneFlags, setns, unshare};

    let (_lab, place) = lab()?;
    let command = json!({ "command": ["sh", "-c", "sleep 1000; exit"] });
    let mut living = Living::start(&place, &object(&command, &json!({})))?;
    living.await_ready()?;
    let Namespaces { mount, process, host_name, communication, network } = living.pod.namespaces(None)?;
    let script = "hostname; tr '\\0' ' ' </proc/1/cmdline; echo; cat /proc/net/fib_trie";
    let output = std::thread::scope(|scope| {
        let enter = || {
            unshare(CloneFlags::CLONE_FS)?;
            setns(&process, CloneFlags::CLONE_NEWPID)?;
            setns(&host_name, CloneFlags::CLONE_NEWUTS)?;
            setns(&communication, CloneFlags::CLONE_NEWIPC)?;
            setns(&network, CloneFlags::CLONE_NEWNET)?;
            setns(&mount, CloneFlags::CLONE_NEWNS)?;
            Command::new("sh").args(["-c", script]).output()
        };
        scope.spawn(enter).join().expect("it does not panic")
    })?;
    let text = String::from_utf8(output.stdout)?;
    assert!(text.starts_with("web-0\nsh -c sleep 1000; exit \n"), "{text}");
    assert!(text.contains("10.244.1.2"), "{text}");
    let error = living.pod.namespaces(Some("db")).expect_err("there is none");
    assert!(error.to_string().contains("there is no container \"db\""), "{error}");
    Ok(())
}

fn missing_program() -> Result<(), Failed> {
    let (_lab, place) = lab()?;
    let container = json!({ "command": ["no-such-program"] });
    let mut living = Living::start(&place, &object(&container, &json!({ "restartPolicy": "Never" })))?;
    living.await_event("Error: starting no-such-program")?;
    living.await_report("the end", |report| *report == Report::Ended)?;
    let error = living.pod.spawn(None, &mut Command::new("true")).expect_err("nothing runs");
    assert!(error.to_string().contains("there is no container \"web\""), "{error}");
    Ok(())
}
