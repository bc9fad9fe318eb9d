//! `portolan run` as a process: what it needs to start, how it ends, and what it does beside
//! another one. In user, network and process namespaces of their own, made by unshare(1).

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Nothing here takes this long unless it is broken.
const LIMIT: Duration = Duration::from_mins(1);
/// Between two looks at something that sends no event.
const LOOK: Duration = Duration::from_millis(20);

const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {clusterIP: \
                       10.96.0.80, ports: [{name: http, port: 80}]}}\n";

const NODE_PORT: &str = "{apiVersion: v1, kind: Service, metadata: {name: node, namespace: shop}, spec: {type: NodePort, \
                         clusterIP: 10.96.0.81, ports: [{port: 80, nodePort: 30080}]}}\n";

fn manifests() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("web.yaml"), SERVICE).expect("written");
    folder
}

/// `portolan run` of these manifests, which leaves nothing on this host.
fn run(manifests: &Path) -> Vec<String> {
    let program = env!("CARGO_BIN_EXE_portolan");
    let flags = ["run", "--hostname-override=n", "--state-dir=", "--socket=", "--proxy-mode=nftables"];
    let mut words: Vec<String> = [program].iter().chain(&flags).map(ToString::to_string).collect();
    words.extend(["--manifests".to_owned(), manifests.display().to_string()]);
    words
}

/// A command in namespaces of its own, of these kinds.
fn unshared(kinds: &[&str], words: &[String]) -> Command {
    // Whoever runs the tests in the background may have them ignore some of these signals.
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP,INT,QUIT,TERM", "unshare", "--user", "--map-root-user"]);
    command.args(kinds).arg("--").args(words);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A process that ends with the test, and what it writes to standard error.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    fn start(mut command: Command) -> Running {
        let mut child = command.spawn().expect("unshare(1) runs");
        let (line, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
        Running { child, lines, seen: Vec::new() }
    }

    /// Waits for a line with this text.
    fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("{text:?} was not written ({error}):\n{}", self.seen.join("\n")),
            }
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"))
    }

    /// Waits for its end.
    fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("it ends", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        status.expect("it has ended")
    }
}

impl Drop for Running {
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

/// The children of a process, with their names and states.
fn children(parent: Pid) -> Vec<(Pid, String)> {
    let list = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let children = list.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw);
    children.map(|pid| (pid, fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default())).collect()
}

/// Process 1 of the namespace that this unshare(1) has made.
fn process_one(unshare: Pid) -> Pid {
    let mut found = None;
    until("process 1 is there", || {
        found = children(unshare).first().map(|(pid, _)| *pid);
        found.is_some()
    });
    found.expect("it is there")
}

const CONTAINER: [&str; 4] = ["--net", "--pid", "--fork", "--kill-child"];

#[test]
fn process_one_of_a_container_ends_when_it_is_asked_to() {
    let folder = manifests();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        let mut running = Running::start(unshared(&CONTAINER, &run(folder.path())));
        running.wait_for("everything is in force, 1 Service");
        let began = Instant::now();
        kill(process_one(running.pid()), signal).expect("it runs");
        running.wait_for(&format!("{signal}: ending; the rules stay in force"));
        assert_eq!(running.ended().code(), Some(0), "{signal}");
        assert!(began.elapsed() < Duration::from_secs(20), "{signal}: long before it would be killed");
    }
}

#[test]
fn process_one_of_a_container_waits_for_what_others_leave() {
    let folder = manifests();
    let portolan = run(folder.path()).join(" ");
    // The first `sleep` becomes a child of process 1 when the shell between them ends.
    let script = format!("sh -c 'sleep 1 &'; exec {portolan}");
    let words = ["sh".to_owned(), "-c".to_owned(), script];
    let mut running = Running::start(unshared(&CONTAINER, &words));
    running.wait_for("everything is in force, 1 Service");
    let one = process_one(running.pid());
    until("the orphan is gone, and no zombie", || {
        let children = children(one);
        children.len() == 1 && children[0].1.contains("(portolan)")
    });
    let [(proxy, _)] = children(one).try_into().expect("the proxy alone");
    // The container ends with it, however it ends.
    kill(proxy, Signal::SIGKILL).expect("it runs");
    assert_eq!(running.ended().code(), Some(128 + 9));
}

#[test]
fn a_signal_that_was_ignored_stays_so() {
    let folder = manifests();
    let mut words = vec!["nohup".to_owned()];
    words.extend(run(folder.path()));
    let mut running = Running::start(unshared(&["--net"], &words));
    running.wait_for("everything is in force, 1 Service");
    // Without a process namespace, unshare(1) and nohup(1) become the program.
    kill(running.pid(), Signal::SIGHUP).expect("it runs");
    kill(running.pid(), Signal::SIGTERM).expect("it runs");
    let line = running.wait_for(": ending;");
    assert!(line.contains("SIGTERM"), "{line}");
    assert_eq!(running.ended().code(), Some(0));
}

/// Runs a command beside `other`, in its namespaces.
fn beside(other: Pid, words: &[String]) -> Command {
    let mut command = Command::new("nsenter");
    command
        .args(["--preserve-credentials", "--user", "--net", "--target", &other.to_string(), "--"])
        .args(words);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

#[test]
fn a_second_proxy_waits_for_the_end_of_the_first() {
    let folder = manifests();
    let mut first = Running::start(unshared(&["--net"], &run(folder.path())));
    first.wait_for("everything is in force, 1 Service");
    let mut second = Running::start(beside(first.pid(), &run(folder.path())));
    let line = second.wait_for("another portolan");
    assert!(line.contains(&format!("process {}", first.pid())), "{line}");
    first.wait_for("was started on this node and waits for this one to end");
    // The first goes on alone.
    fs::write(folder.path().join("more.yaml"), SERVICE.replace("web", "more").replace(".80,", ".81,"))
        .expect("written");
    first.wait_for("shop/more:http");
    kill(first.pid(), Signal::SIGKILL).expect("it runs");
    first.ended();
    second.wait_for("the other portolan has ended: taking over");
    second.wait_for("everything is in force, 2 Services");
    kill(second.pid(), Signal::SIGTERM).expect("it runs");
    assert_eq!(second.ended().code(), Some(0));
}

/// What `portolan get` answers of the proxy with this socket.
fn get(socket: &Path, words: &[&str]) -> (String, String) {
    let program = env!("CARGO_BIN_EXE_portolan");
    let output = Command::new(program).arg("get").args(words).arg("--socket").arg(socket).output();
    let output = output.expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn what_is_wrong_in_manifests_is_counted_and_changes_nothing() {
    let (folder, state) = (manifests(), TempDir::new().expect("a folder"));
    let socket = state.path().join("socket");
    let mut words = run(folder.path());
    words.retain(|word| !["--state-dir=", "--socket="].contains(&word.as_str()));
    words.push(format!("--state-dir={}", state.path().display()));
    words.push(format!("--socket={}", socket.display()));
    fs::write(folder.path().join("node.yaml"), NODE_PORT).expect("written");
    for (start, broken) in [("the first", false), ("another", true)] {
        let mut running = Running::start(unshared(&["--net"], &words));
        running.wait_for("everything is in force, 2 Services");
        running.wait_for("no NodePort is served: this node has no address");
        let (status, _) = get(&socket, &["status"]);
        assert_eq!(status.contains("\nProblems  "), broken, "{start} start: {status}");
        if !broken {
            fs::write(folder.path().join("web.yaml"), format!("{SERVICE}---\nfoo: [\n")).expect("written");
            running.wait_for("web.yaml:");
        }
        // The log is written before the number.
        let expected = "Problems  1, named in the log and by `portolan check`\n";
        until("it is counted", || get(&socket, &["status"]).0.contains(expected));
        let (json, _) = get(&socket, &["status", "-o", "json"]);
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let healthz = &json["status"]["healthz"];
        assert_eq!((&healthz["code"], &healthz["body"]["problems"]), (&200.into(), &1.into()), "{json}");
        let (services, _) = get(&socket, &["services"]);
        assert!(services.contains("10.96.0.80:80/tcp"), "{start} start: {services}");
        let none = (String::new(), "no Services are in force in namespace nosuch\n".to_owned());
        assert_eq!(get(&socket, &["services", "-n", "nosuch"]), none);
        kill(running.pid(), Signal::SIGTERM).expect("it runs");
        assert_eq!(running.ended().code(), Some(0));
    }
}

#[test]
fn who_waits_can_be_ended() {
    let folder = manifests();
    let mut first = Running::start(unshared(&["--net"], &run(folder.path())));
    first.wait_for("everything is in force, 1 Service");
    let mut second = Running::start(beside(first.pid(), &run(folder.path())));
    second.wait_for("another portolan");
    kill(second.pid(), Signal::SIGTERM).expect("it runs");
    assert_eq!(second.ended().code(), Some(0));
    first.wait_for("does not wait any more");
}

/// Runs to its end, and returns exit code and what was written.
fn output(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn all_that_is_missing_is_said_at_once() {
    // A user namespace without a network of its own: nobody there may write rules.
    let words = |flags: &[&str]| -> Vec<String> {
        let program = [env!("CARGO_BIN_EXE_portolan"), "run", "--hostname-override=n"];
        program.iter().chain(flags).map(ToString::to_string).collect()
    };
    let folder = manifests();
    let folder = folder.path().display().to_string();
    // Flags, what is said.
    for (flags, expected) in [
        (vec![], vec!["CAP_NET_ADMIN", "sudo portolan run", "give --kubeconfig FILE"]),
        (vec!["--manifests", folder.as_str()], vec!["CAP_NET_ADMIN"]),
    ] {
        let mut command = unshared(&[], &words(&flags));
        command.env_remove("KUBERNETES_SERVICE_HOST");
        let (code, said) = output(&mut command);
        assert_eq!(code, Some(1), "{said}");
        assert!(expected.iter().all(|text| said.contains(text)), "{said}");
        assert!(said.matches("CAP_NET_ADMIN").count() == 1 && !said.contains("nf_conntrack"), "once: {said}");
    }
    let mut command = unshared(&["--net"], &words(&["--manifests", &folder, "--kubeconfig", "/k"]));
    let (code, said) = output(&mut command);
    assert!(code == Some(1) && said.contains("--manifests and --kubeconfig exclude each other"), "{said}");
}

#[test]
fn a_descriptor_that_cannot_be_used_is_refused_first() {
    let folder = manifests();
    let mut words = run(folder.path());
    words.extend(["--ready-fd".to_owned(), "9".to_owned()]);
    let (code, said) = output(&mut unshared(&["--net"], &words));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--ready-fd 9: no such descriptor is open") && said.lines().count() == 1, "{said}");
}

#[test]
fn a_descriptor_is_closed_when_all_is_in_force() {
    let folder = manifests();
    // As process 1, which is a parent that must not keep it open.
    for kinds in [&["--net"][..], &CONTAINER] {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let mut words = run(folder.path());
        words.extend(["--ready-fd".to_owned(), "1".to_owned()]);
        let mut command = unshared(kinds, &words);
        command.stdout(writer);
        let mut running = Running::start(command);
        running.wait_for("everything is in force, 1 Service");
        let mut byte = [0];
        reader.read_exact(&mut byte).expect("a newline");
        assert_eq!(byte, *b"\n");
        if kinds.len() == 1 {
            // Without a process namespace unshare(1) has become the program, and nobody else has
            // the descriptor.
            assert_eq!(reader.read(&mut byte).expect("the end"), 0);
        }
    }
}

#[test]
fn the_log_names_each_service_port_as_it_is_first_programmed() {
    let folder = manifests();
    let mut words = run(folder.path());
    words.extend(["-v".to_owned(), "2".to_owned()]);
    let mut running = Running::start(unshared(&["--net"], &words));
    running.wait_for("Adding new service port shop/web:http at 10.96.0.80:80/TCP");
    let file: PathBuf = folder.path().join("more.yaml");
    fs::write(file, SERVICE.replace("web", "more").replace(".80,", ".81,")).expect("written");
    running.wait_for("Adding new service port shop/more:http at 10.96.0.81:80/TCP");
    // Not those that were there.
    assert_eq!(
        running.seen.iter().filter(|line| line.contains("Adding new service port shop/web")).count(),
        1
    );
}
