//! Probes of pods: what is read of them, and what follows from what they say.

use std::fs;
use std::time::Duration;

use portolan_probe::{Action, HttpGet, Probe, ProbeKind, Target, Timing};
use portolan_service::ObjectName;
use portolan_source::manifests::{Manifests, Options, Probing};
use tempfile::TempDir;

use crate::fields::reported;
use crate::state::State;

/// A Pod `web` and a container with these fields, with this status.
fn pod(container: &str, status: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, labels: {{app: web}}}}\nspec:\n  containers:\n  \
         - name: main\n    ports: [{{name: http, containerPort: 8080}}]\n    {container}\nstatus: {{{status}}}\n"
    )
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, \
                       ports: [{port: 80}]}\n";
const READY: &str = "podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]";
const TCP: &str = "readinessProbe: {tcpSocket: {port: 80}}";

struct Followed {
    folder: TempDir,
    manifests: Manifests,
    state: State,
}

impl Followed {
    fn open(pod: &str, probing: Probing) -> Followed {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("web.yaml"), SERVICE).unwrap();
        fs::write(folder.path().join("pod.yaml"), pod).unwrap();
        let manifests = Manifests::open(folder.path(), Options { probing, ..Options::default() }).unwrap();
        Followed { folder, manifests, state: State::default() }
    }

    /// Reads the files. Returns what is to be probed otherwise.
    fn load(&mut self) -> Vec<Option<Target>> {
        let update = self.manifests.load();
        self.state.apply(update.changes);
        update.probes.iter().map(|(_, target)| target.as_deref().cloned()).collect()
    }

    fn write(&mut self, pod: &str) -> Vec<Option<Target>> {
        fs::write(self.folder.path().join("pod.yaml"), pod).unwrap();
        self.load()
    }

    fn set_readiness(&mut self, ready: bool) -> usize {
        let update = self.manifests.set_readiness([(&ObjectName::new("default", "web"), ready)]);
        let changes = update.changes.len();
        self.state.apply(update.changes);
        changes
    }

    /// Whether the pod gets new connections.
    fn is_ready(&self) -> bool {
        let endpoint = |line: &String| line.ends_with("10.0.0.1") || line.ends_with("10.0.0.9");
        self.state.slice_lines().iter().any(endpoint)
    }
}

#[test]
fn probes_are_read_with_defaults_of_the_api() {
    let address = |port| (std::net::Ipv4Addr::new(10, 0, 0, 1), port).into();
    let http = |to, tls, path: &str, headers: &[(&str, &str)]| {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Action::Http(HttpGet { to, tls, path: path.to_owned(), headers: headers.collect() })
    };
    let seconds = Duration::from_secs;
    let usual = Timing::default();
    let all = Timing {
        initial_delay: seconds(1),
        period: seconds(2),
        timeout: seconds(3),
        successes: 4,
        failures: 5,
    };
    for (given, kind, timing, action) in [
        (TCP, ProbeKind::Readiness, usual, Action::Tcp(address(80))),
        ("livenessProbe: {tcpSocket: {port: http}}", ProbeKind::Liveness, usual, Action::Tcp(address(8080))),
        (
            "startupProbe: {httpGet: {port: '81'}, periodSeconds: 0}",
            ProbeKind::Startup,
            usual,
            http(address(81), false, "", &[]),
        ),
        (
            "readinessProbe: {httpGet: {port: 81, path: /a, scheme: HTTPS, host: 192.0.2.1, httpHeaders: [{name: a, \
             value: b}]}, initialDelaySeconds: 1, periodSeconds: 2, timeoutSeconds: 3, successThreshold: 4, \
             failureThreshold: 5}",
            ProbeKind::Readiness,
            all,
            http("192.0.2.1:81".parse().unwrap(), true, "/a", &[("a", "b")]),
        ),
        (
            "readinessProbe: {grpc: {port: 82, service: shop}}",
            ProbeKind::Readiness,
            usual,
            Action::Grpc { to: address(82), service: "shop".to_owned() },
        ),
    ] {
        let text = pod(given, READY);
        assert_eq!(reported("a.yaml", &text), [""; 0], "{given}");
        let mut followed = Followed::open(&text, Probing::On);
        let targets = followed.load();
        let [Some(target)] = &targets[..] else { panic!("{given}: {targets:?}") };
        assert_eq!(target.containers[0].probes, [(kind, Probe { timing, action })], "{given}");
    }
}

#[test]
fn what_is_wrong_with_probes() {
    for (given, expected) in [
        (
            "readinessProbe: {exec: {command: [cat]}}",
            "a.yaml:8: Pod default/web: spec.containers[0].readinessProbe.exec: commands run where the container \
             does, which is not known here: this probe is not carried out, and counts for nothing",
        ),
        (
            "readinessProbe: {httpGet: {port: 1, host: web.example}}",
            "a.yaml:8: Pod default/web: spec.containers[0].readinessProbe.httpGet.host: \"web.example\" is not an IP \
             address: this probe is not carried out, and counts for nothing",
        ),
        (
            "readinessProbe: {tcpSocket: {port: web}}",
            "a.yaml:8: Pod default/web: spec.containers[0].readinessProbe.tcpSocket.port: the container has no port \
             called \"web\"",
        ),
        (
            "readinessProbe: {periodSeconds: 1}",
            "a.yaml:8: Pod default/web: spec.containers[0].readinessProbe: give exactly one of httpGet, tcpSocket, \
             grpc and exec",
        ),
        (
            "livenessProbe: {tcpSocket: {port: 80}, successThreshold: 2}",
            "a.yaml:8: Pod default/web: spec.containers[0].livenessProbe.successThreshold: 2 is not 1, which it is \
             for all probes but that of readiness",
        ),
        (
            "readinessProbe: {tcpSocket: {port: 80}, timeoutSeconds: -1}",
            "a.yaml:8: Pod default/web: spec.containers[0].readinessProbe.timeoutSeconds: -1 is not in 0-2147483647",
        ),
        (
            "readinessProbe: {httpGet: {port: 80, scheme: FTP}}",
            "a.yaml:8: Pod default/web: spec.containers[0].readinessProbe.httpGet.scheme: FTP is not one of HTTP, \
             HTTPS",
        ),
    ] {
        assert_eq!(reported("a.yaml", &pod(given, READY)), [expected], "{given}");
    }
}

#[test]
fn who_says_whether_a_pod_is_ready() {
    const UNREADY: &str = "podIP: 10.0.0.1, conditions: [{type: Ready, status: 'False'}]";
    const SILENT: &str = "podIP: 10.0.0.1";
    const EXEC: &str = "readinessProbe: {exec: {command: [cat]}}";
    for (situation, probing, container, status, before, after) in [
        ("before its probes have said anything, its condition", Probing::On, TCP, READY, true, [true, false]),
        ("which is that of kubelet if there is none", Probing::On, TCP, SILENT, false, [true, false]),
        ("then its probes, whatever its condition", Probing::On, TCP, UNREADY, false, [true, false]),
        ("nobody probes what has no probes", Probing::On, "image: a", READY, true, [true, true]),
        ("nor what cannot be probed", Probing::On, EXEC, READY, true, [true, true]),
        ("switched off, its condition", Probing::Off, TCP, READY, true, [true, true]),
        ("switched off, its condition", Probing::Off, TCP, SILENT, false, [false, false]),
        ("where nobody asks, its probes pass", Probing::Assumed, TCP, SILENT, true, [true, true]),
    ] {
        let mut followed = Followed::open(&pod(container, status), probing);
        let probed = !followed.load().is_empty();
        assert_eq!(probed, probing == Probing::On && container == TCP, "{situation}");
        assert_eq!(followed.is_ready(), before, "{situation}");
        for (verdict, after) in [true, false].into_iter().zip(after) {
            followed.set_readiness(verdict);
            assert_eq!(followed.is_ready(), after, "{situation}: {verdict}");
        }
    }
}

#[test]
fn what_probes_have_said_holds_until_there_is_another_server() {
    let mut followed = Followed::open(&pod(TCP, "podIP: 10.0.0.1"), Probing::On);
    assert_eq!(followed.load().len(), 1);
    assert_eq!((followed.set_readiness(true), followed.is_ready()), (1, true));
    assert_eq!(followed.set_readiness(true), 0, "that is no news");
    // Another file with the same probes, other probes, another server, no probes, no pod.
    assert!(followed.write(&pod(&format!("{TCP}\n    image: a"), "podIP: 10.0.0.1")).is_empty());
    assert_eq!(followed.write(&pod("readinessProbe: {tcpSocket: {port: 81}}", "podIP: 10.0.0.1")).len(), 1);
    assert!(followed.is_ready());
    assert_eq!(followed.write(&pod(TCP, "podIP: 10.0.0.9")).len(), 1);
    assert!(!followed.is_ready());
    followed.set_readiness(true);
    assert_eq!(followed.write(&pod("image: a", "podIP: 10.0.0.9")), [None]);
    assert!(!followed.is_ready());
    followed.write(&pod(TCP, "podIP: 10.0.0.9, phase: Running"));
    fs::remove_file(followed.folder.path().join("pod.yaml")).unwrap();
    assert_eq!(followed.load(), [None]);
    assert_eq!(followed.set_readiness(true), 0, "it is gone");
}

#[test]
fn a_pod_that_moves_to_another_file_keeps_what_its_probes_have_said() {
    let mut followed = Followed::open(&pod(TCP, "podIP: 10.0.0.1"), Probing::On);
    followed.load();
    followed.set_readiness(true);
    let path = |name: &str| followed.folder.path().join(name);
    for (from, to) in [("pod.yaml", "z.yaml"), ("z.yaml", "a.yaml")] {
        fs::rename(path(from), path(to)).unwrap();
    }
    assert!(followed.load().iter().all(Option::is_some), "it is probed still");
    assert!(followed.is_ready());
    fs::rename(followed.folder.path().join("a.yaml"), followed.folder.path().join("z.yaml")).unwrap();
    assert!(followed.load().iter().all(Option::is_some), "it is probed still");
    assert!(followed.is_ready());
    assert_eq!(followed.set_readiness(false), 1);
}

#[test]
fn whoever_waits_for_files_can_be_woken_up() {
    let mut followed = Followed::open(&pod(TCP, READY), Probing::On);
    followed.load();
    followed.manifests.waker().wake();
    assert!(followed.manifests.wait(None).unwrap().is_none());
}
