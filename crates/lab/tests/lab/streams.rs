//! What the API server asks about pods that live: logs, commands with and without a terminal,
//! ports.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use bytes::Bytes;
use libtest_mimic::{Failed, Trial};
use portolan_apiserver::{
    Credentials, Forward, LogOptions, NodeSide as _, Options, PodRef, Process, Resource, Run, Server, Size,
};
use portolan_lab::live::{Live, LivePods};
use portolan_lab::streams::Streams;
use portolan_lab::topology::Lab;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::pods::{self, Living, PATIENCE};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("a_command_has_its_container_s_environment", environment),
        Trial::test("a_command_is_typed_to_and_printed_from", pipes),
        Trial::test("a_command_that_cannot_be_run_is_said", refusals),
        Trial::test("a_command_has_a_terminal", terminal),
        Trial::test("a_command_ends_with_its_client", disconnect),
        Trial::test("who_attaches_gets_what_comes", attach),
        Trial::test("a_log_is_cut_as_asked_for", log_options),
        Trial::test("a_log_is_followed_to_its_end", follow),
        Trial::test("a_log_of_the_run_before", previous),
        Trial::test("a_port_is_forwarded", forward),
        // Without it, there is nothing to test.
        Trial::test("kubectl_reaches_a_pod", kubectl).with_ignored_flag(!KUBECTL.exists()),
    ]
}

/// As `./test` installs it.
static KUBECTL: LazyLock<PathBuf> = LazyLock::new(|| {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/kubectl-1.37.1/bin/kubectl")
});

/// A pod that lives, and who answers for it.
struct Scene {
    /// Dropped before the pod: it waits for the commands in it, without which the pod does not end.
    runtime: Runtime,
    streams: Streams,
    pods: LivePods,
    folder: TempDir,
    lab: Lab,
}

impl Scene {
    /// A pod that runs a script, in which `$FIFO` is a named pipe. Waits until the script has
    /// written all of `printed`.
    fn script(script: &str, printed: &str) -> Result<Scene, Failed> {
        let more = json!({ "restartPolicy": "Never" });
        Scene::start(
            |fifo| command(script, fifo),
            &more,
            |living, _| {
                let log = living.pod.log(None, false)?.ok_or("no log")?;
                while !String::from_utf8(log.read(0, PATIENCE).0)?.contains(printed) {
                    if log.read(log.end(), PATIENCE).0.is_empty() {
                        return Err(format!("the log ends before {printed:?}").into());
                    }
                }
                Ok(())
            },
        )
    }

    fn start(
        container: impl FnOnce(&Path) -> Value,
        more: &Value,
        wait: impl FnOnce(&mut Living, &Path) -> Result<(), Failed>,
    ) -> Result<Scene, Failed> {
        let (lab, place) = pods::lab()?;
        let folder = tempfile::tempdir()?;
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU)?;
        let mut living = Living::start(&place, &pods::object(&container(&fifo), more))?;
        living.await_status("begun", |status| {
            let state = &status["containerStatuses"][0]["state"];
            state["running"].is_object() || state["terminated"].is_object()
        })?;
        wait(&mut living, &fifo)?;
        let live = Live { uid: "u".to_owned(), pod: living.pod, network: place.network };
        let pods = LivePods::default();
        pods.insert("default", "web-0", Arc::new(live));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Scene { streams: Streams::new(pods.clone()), pods, runtime, folder, lab })
    }

    fn fifo(&self) -> PathBuf {
        self.folder.path().join("fifo")
    }

    /// Does it within the time that a test has.
    fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, Failed> {
        self.runtime.block_on(async { timeout(PATIENCE, work).await }).map_err(|_| "it takes too long".into())
    }

    /// Does what may block within the time that a test has.
    fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failed> {
        // Not a thread of the runtime's, which waits for its own.
        let (sender, done) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || sender.send(work()).ok());
        Ok(self.within(done)??)
    }

    fn run(&self, command: &[&str], tty: bool) -> Result<Process, Failed> {
        let run = Run { stdin: true, stdout: true, stderr: !tty, tty, command: words(command) };
        Ok(self.within(self.streams.run(pod("u"), run))??)
    }

    /// Runs a command to its end, with nothing to read.
    fn outcome(&self, command: &[&str], tty: bool) -> Result<(String, String, i32), Failed> {
        let mut process = self.run(command, tty)?;
        process.stdin = mpsc::channel(1).0;
        self.within(outcome(process))?
    }

    fn log(&self, options: LogOptions) -> Result<mpsc::Receiver<std::io::Result<Bytes>>, Failed> {
        Ok(self.within(self.streams.log(pod("u"), options))??)
    }

    /// A log to its end.
    fn whole_log(&self, options: LogOptions) -> Result<String, Failed> {
        let mut pieces = self.log(options)?;
        self.within(async {
            let mut text = Vec::new();
            while let Some(piece) = pieces.recv().await {
                text.extend_from_slice(&piece?);
            }
            Ok(String::from_utf8(text)?)
        })?
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn command(script: &str, fifo: &Path) -> Value {
    json!({ "command": ["sh", "-c", script], "env": [{ "name": "FIFO", "value": fifo }] })
}

fn pod(uid: &str) -> PodRef {
    let metadata = json!({ "name": "web-0", "namespace": "default", "uid": uid });
    PodRef {
        pod: json!({ "metadata": metadata, "status": { "phase": "Running" } }),
        container: "web".to_owned(),
    }
}

/// Writes into a named pipe, once somebody reads it.
fn release(fifo: &Path, text: &'static str) -> Result<(), Failed> {
    let (sender, written) = channel();
    let fifo = fifo.to_owned();
    std::thread::spawn(move || sender.send(fs::write(fifo, text)));
    Ok(written.recv_timeout(PATIENCE)??)
}

/// What a process prints and writes as errors, and its exit code.
async fn outcome(process: Process) -> Result<(String, String, i32), Failed> {
    let Process { stdin: _stdin, mut stdout, mut stderr, resize: _resize, exit } = process;
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    tokio::join!(
        async {
            while let Some(piece) = stdout.recv().await {
                output.extend_from_slice(&piece);
            }
        },
        async {
            while let Some(piece) = stderr.recv().await {
                errors.extend_from_slice(&piece);
            }
        }
    );
    Ok((String::from_utf8(output)?, String::from_utf8(errors)?, exit.await??))
}

/// Reads output until there is this in it.
async fn until(output: &mut mpsc::Receiver<Bytes>, wanted: &str) -> Result<String, Failed> {
    let mut text = String::new();
    while !text.contains(wanted) {
        let piece = output.recv().await.ok_or_else(|| format!("{wanted:?} is not in {text:?}"))?;
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    Ok(text)
}

fn environment() -> Result<(), Failed> {
    let scene = Scene::script("env; echo all; exec sleep 1000", "all\n")?;
    let own = scene.whole_log(LogOptions::default())?;
    // What a shell adds by itself.
    let is_given =
        |line: &&str| !["PWD=", "SHLVL=", "OLDPWD=", "_=", "all"].iter().any(|own| line.starts_with(own));
    let lines = |text: &str| text.lines().filter(is_given).map(ToOwned::to_owned).collect::<BTreeSet<_>>();
    let (found, errors, code) = scene.outcome(&["env"], false)?;
    assert_eq!((lines(&found), &*errors, code), (lines(&own), "", 0));
    assert!(found.contains("HOSTNAME=web-0\n") && found.contains("HOME=/root\n"), "{found}");
    assert!(found.lines().any(|line| line.starts_with("PATH=") && line.contains("/usr/sbin")), "{found}");
    let (found, _, _) = scene.outcome(&["env"], true)?;
    assert!(found.contains("TERM=xterm\r\n"), "{found}");
    Ok(())
}

fn pipes() -> Result<(), Failed> {
    let scene = Scene::script("echo here; exec sleep 1000", "here")?;
    let script = "cat; echo wrong >&2; hostname; exit 3";
    let mut process = scene.run(&["sh", "-c", script], false)?;
    let typed = vec![b'x'; 300_000];
    let (output, errors, code) = scene.within(async {
        let stdin = std::mem::replace(&mut process.stdin, mpsc::channel(1).0);
        let (sent, outcome) = tokio::join!(
            async move {
                for piece in typed.chunks(10_000) {
                    stdin.send(Bytes::copy_from_slice(piece)).await?;
                }
                stdin.send(Bytes::from_static(b"\n")).await
            },
            outcome(process)
        );
        sent?;
        outcome
    })??;
    assert_eq!(output.lines().next().map(str::len), Some(300_000));
    assert_eq!((output.lines().nth(1), &*errors, code), (Some("web-0"), "wrong\n", 3));
    // As a shell counts.
    assert_eq!(scene.outcome(&["sh", "-c", "kill -TERM $$"], false)?, (String::new(), String::new(), 143));
    // Whoever stays in the background is not waited for.
    let script = "sleep 1000 & echo done";
    assert_eq!(scene.outcome(&["sh", "-c", script], false)?, ("done\n".to_owned(), String::new(), 0));
    Ok(())
}

fn refusals() -> Result<(), Failed> {
    let scene = Scene::script("echo here; read line < $FIFO", "here")?;
    let refused = |uid: &str, command: &[&str]| {
        let run = Run { stdout: true, command: words(command), ..Run::default() };
        scene.within(scene.streams.run(pod(uid), run)).map(|started| started.err().unwrap_or_default())
    };
    let message = refused("u", &["no-such-program"])?;
    assert!(message.ends_with("exec: \"no-such-program\": executable file not found in $PATH"), "{message}");
    let message = refused("another", &["true"])?;
    assert!(message.contains("another one has its name"), "{message}");
    let mut container = pod("u");
    "db".clone_into(&mut container.container);
    let run = Run { stdout: true, command: words(&["true"]), ..Run::default() };
    let message = scene.within(scene.streams.run(container, run))?.expect_err("there is none");
    assert!(message.starts_with("container not found (\"db\")"), "{message}");
    release(&scene.fifo(), "\n")?;
    // Up to the end of the container.
    scene.whole_log(LogOptions { follow: true, ..LogOptions::default() })?;
    for command in [&["true"][..], &[]] {
        let message = refused("u", command)?;
        assert!(!message.is_empty(), "nothing runs there");
    }
    Ok(())
}

fn terminal() -> Result<(), Failed> {
    let scene = Scene::script("echo here; exec sleep 1000", "here")?;
    let mut process = scene.run(&["sh", "-c", "tty; read line; stty size; echo \"<$line>\" >&2"], true)?;
    scene.within(async {
        let text = until(&mut process.stdout, "\r\n").await?;
        assert!(text.starts_with("/dev/pts/"), "{text}");
        process.resize.send(Size { width: 101, height: 42 }).await?;
        // Sizes and what is typed come by different ways.
        while process.resize.capacity() < process.resize.max_capacity() {
            tokio::task::yield_now().await;
        }
        process.stdin.send(Bytes::from_static(b"typed\n")).await?;
        let (text, errors, code) = outcome(process).await?;
        assert_eq!((&*text, &*errors, code), ("typed\r\n42 101\r\n<typed>\r\n", "", 0));
        Ok::<_, Failed>(())
    })??;
    // Ctrl-C; and the end of input.
    let process = scene.run(&["sleep", "1000"], true)?;
    scene.within(async {
        process.stdin.send(Bytes::from_static(&[3])).await?;
        assert_eq!(outcome(process).await?, ("^C".to_owned(), String::new(), 130));
        Ok::<_, Failed>(())
    })??;
    let (text, _, code) = scene.outcome(&["cat"], true)?;
    assert_eq!((&*text, code), ("", 0));
    // All that is printed last comes.
    let (text, _, code) = scene.outcome(&["seq", "20000"], true)?;
    assert_eq!((text.lines().last(), code), (Some("20000"), 0));
    Ok(())
}

fn disconnect() -> Result<(), Failed> {
    let scene = Scene::script("echo here; exec sleep 1000", "here")?;
    for tty in [false, true] {
        // The pipe ends when nobody has it open any more.
        let script = "exec 3>$FIFO; sleep 1000 & echo begun >&3; sleep 1000";
        let process = scene.run(&["sh", "-c", script], tty)?;
        let fifo = scene.fifo();
        let mut reader = scene.aside(|| fs::File::open(fifo))??;
        let mut begun = [0; 6];
        reader.read_exact(&mut begun)?;
        assert_eq!(&begun, b"begun\n");
        drop(process);
        let mut rest = Vec::new();
        assert_eq!(scene.aside(move || reader.read_to_end(&mut rest))??, 0, "tty {tty}");
    }
    Ok(())
}

fn attach() -> Result<(), Failed> {
    let scene = Scene::script("echo before; read line < $FIFO; echo after; exit 7", "before")?;
    let mut process = scene.run(&[], false)?;
    process.stdin = mpsc::channel(1).0;
    release(&scene.fifo(), "\n")?;
    // The exit code is in the status of the pod.
    assert_eq!(scene.within(outcome(process))??, ("after\n".to_owned(), String::new(), 0));
    Ok(())
}

fn log_options() -> Result<(), Failed> {
    let scene = Scene::script("echo one; echo two; printf three; exec sleep 1000", "three")?;
    let all = LogOptions::default;
    for (options, expected) in [
        (all(), "one\ntwo\nthree"),
        (LogOptions { tail: Some(1), ..all() }, "three"),
        (LogOptions { tail: Some(2), limit: Some(6), ..all() }, "two\nth"),
        (LogOptions { tail: Some(0), ..all() }, ""),
        (LogOptions { since: Some(3_600), ..all() }, "one\ntwo\nthree"),
        (LogOptions { since: Some(0), ..all() }, ""),
    ] {
        assert_eq!(scene.whole_log(options.clone())?, expected, "{options:?}");
    }
    let text = scene.whole_log(LogOptions { timestamps: true, tail: Some(2), ..all() })?;
    let lines: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    assert_eq!(lines.iter().map(|(_, line)| *line).collect::<Vec<_>>(), ["two", "three"]);
    let today = Command::new("date").args(["-u", "+%Y-%m-%dT"]).output()?;
    let today = String::from_utf8(today.stdout)?;
    for (time, _) in lines {
        // Midnight aside.
        assert!(time.starts_with(today.trim()) && time.ends_with('Z') && time.len() == 30, "{time}");
    }
    let message = scene.log(LogOptions { previous: true, ..all() }).expect_err("it ran once");
    let expected = "previous terminated container \"web\" in pod \"web-0\" not found";
    assert!(message.message().is_some_and(|message| message.contains(expected)), "{message:?}");
    Ok(())
}

fn follow() -> Result<(), Failed> {
    let scene = Scene::script("echo one; printf two; read line < $FIFO; echo; echo three", "two")?;
    let mut pieces = scene.log(LogOptions { follow: true, tail: Some(1), ..LogOptions::default() })?;
    let first = scene.within(pieces.recv())?.ok_or("nothing")??;
    assert_eq!(&first[..], b"two");
    release(&scene.fifo(), "\n")?;
    let rest = scene.within(async {
        let mut rest = Vec::new();
        while let Some(piece) = pieces.recv().await {
            rest.extend_from_slice(&piece?);
        }
        Ok::<_, Failed>(String::from_utf8(rest)?)
    })??;
    assert_eq!(rest, "\nthree\n");
    Ok(())
}

fn previous() -> Result<(), Failed> {
    let script = "read line < $FIFO; echo this was $line; [ $line = one ] || exec sleep 1000";
    let scene = Scene::start(
        |fifo| command(script, fifo),
        &json!({}),
        |living, fifo| {
            release(fifo, "one\n")?;
            living.await_status("started again", |status| {
                let container = &status["containerStatuses"][0];
                container["restartCount"] == 1 && container["state"]["running"].is_object()
            })?;
            release(fifo, "two\n")
        },
    )?;
    let options = LogOptions { previous: true, follow: true, ..LogOptions::default() };
    assert_eq!(scene.whole_log(options)?, "this was one\n");
    let mut pieces = scene.log(LogOptions { follow: true, ..LogOptions::default() })?;
    assert_eq!(&scene.within(pieces.recv())?.ok_or("nothing")??[..], b"this was two\n");
    // What is left of it when it has ended.
    drop(scene.pods.remove("default", "web-0"));
    let mut rest = scene.within(scene.streams.log(pod("u"), LogOptions::default()))??;
    assert_eq!(&scene.within(rest.recv())?.ok_or("nothing")??[..], b"this was two\n");
    let message = scene.within(scene.streams.log(pod("another"), LogOptions::default()))?.expect_err("none");
    assert!(message.contains("does not run"), "{message}");
    Ok(())
}

fn forward() -> Result<(), Failed> {
    let scene = Scene::start(|_| json!({ "image": "nginx" }), &json!({}), |_, _| Ok(()))?;
    // Between the start of its process and its first answer it may refuse.
    let deadline = Instant::now() + PATIENCE;
    let connect = |port| scene.within(scene.streams.connect(pod("u"), Forward { port }));
    // Between the start of its process and its first answer it may refuse.
    let mut stream = loop {
        match connect(80)? {
            Ok(stream) => break stream,
            Err(message) if message.contains("refused") && Instant::now() < deadline => {
                std::thread::yield_now();
            }
            Err(message) => return Err(message.into()),
        }
    };
    let text = scene.within(async {
        stream.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, Failed>(text)
    })??;
    assert!(text.contains("Welcome to nginx!"), "{text}");
    let message = connect(81)?.err().ok_or("nobody listens there")?;
    assert_eq!(
        message,
        "error forwarding port 81 to pod web-0, uid u: failed to connect to localhost:81 inside namespace \
         \"web-0\", IPv4: dial tcp4 127.0.0.1:81: connect: connection refused IPv6 dial tcp6 [::1]:81: connect: \
         connection refused"
    );
    Ok(())
}

/// All the way: kubectl, the server, and the pod.
fn kubectl() -> Result<(), Failed> {
    let script = "echo one; echo two; read line < $FIFO; echo three";
    let scene = Scene::script(script, "two")?;
    let answers = Arc::new(Streams::new(scene.pods.clone()));
    let options = Options { node_side: Some(answers), ..Options::cluster() };
    // The loopback of the tests' own network is down.
    let node = scene.lab.node("host1")?;
    let server = node.run(|| Server::start(options))??;
    let objects = server.objects();
    objects.create(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "host1" } }))?;
    let container = json!({ "name": "web", "image": "busybox" });
    let pod = objects.create(json!({ "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "web-0", "namespace": "default" },
        "spec": { "nodeName": "host1", "containers": [container] } }))?;
    let status = json!({ "status": { "phase": "Running", "containerStatuses": [{ "name": "web",
        "image": "busybox", "imageID": "", "ready": true, "restartCount": 0, "state": { "running": {} } }] } });
    objects.patch_status(Resource::Pods, "default", "web-0", status)?;
    // The one that is in the server.
    let live = scene.pods.remove("default", "web-0").and_then(Arc::into_inner).ok_or("it lives")?;
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    scene.pods.insert("default", "web-0", Arc::new(Live { uid, ..live }));
    let kubeconfig = scene.folder.path().join("kubeconfig");
    server.kubeconfig(&kubeconfig, &Credentials::ClientCertificate)?;
    let shell = |words: &str, kubectl: &str| {
        let script = format!("{words} 2>&1").replace("kubectl", kubectl);
        let mut command = Command::new("timeout");
        command.args(["60", "sh", "-c", &script]).env("KUBECONFIG", &kubeconfig);
        command.env("HOME", scene.folder.path()).env("FIFO", scene.fifo());
        let output = node.run(|| command.output())??;
        Ok::<_, Failed>((String::from_utf8(output.stdout)?.replace('\r', ""), output.status.code()))
    };
    let missing = "error: failed to exec in container: unable to start container \
                   process: exec: \"no-such-program\": executable file not found in $PATH\n";
    for (words, expected, code) in [
        ("kubectl logs web-0 --tail=1", "two\n", 0),
        (
            "echo typed | kubectl exec -i web-0 -- sh -c 'cat; hostname; exit 3'",
            "typed\nweb-0\ncommand terminated with exit code 3\n",
            3,
        ),
        ("kubectl exec web-0 -- no-such-program", missing, 1),
        // The size comes from the terminal of this side. At the end of its input, `script` types
        // ^@.
        (
            "script -qc 'stty rows 33 cols 77; \
             kubectl exec -it web-0 -- sh -c \"until stty size | grep 33; do :; done\"' /dev/null | tr -d ^@",
            "33 77\n",
            0,
        ),
        ("kubectl logs -f web-0 & echo > $FIFO; wait $!", "one\ntwo\nthree\n", 0),
    ] {
        let found = shell(words, &KUBECTL.to_string_lossy())?;
        assert_eq!((&*found.0, found.1), (expected, Some(code)), "{words}");
    }
    Ok(())
}
