//! A node with the program as the DaemonSet runs it, and an API server beside it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use caps::{CapSet, Capability};
use portolan_apiserver::{Authentication, Credentials, Double, Options, Request, Resource};
use portolan_lab::topology::{ClientSpec, Lab, NodeSpec, Spec};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::files::{below, items, object, text, texts};
use crate::monitoring;

/// Nothing here takes longer on a machine that is not stuck.
const WITHIN: Duration = Duration::from_mins(1);

struct Node {
    lab: Lab,
    server: Double,
    proxy: Child,
    folder: TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}

impl Node {
    /// Starts the DaemonSet's container, with the capabilities it adds and no others, and waits
    /// until its rules are in force.
    fn start(streaming_lists: bool) -> anyhow::Result<Node> {
        let lab = Lab::build(&Spec {
            nodes: vec![NodeSpec {
                name: "node-1".to_owned(),
                addresses: vec!["192.0.2.1/24".parse()?],
                pod_networks: Vec::new(),
            }],
            pods: Vec::new(),
            client: ClientSpec {
                addresses: vec!["192.0.2.99/24".parse()?],
                local: Vec::new(),
                gateway: Some("node-1".to_owned()),
            },
            ..Spec::default()
        })?;
        let options =
            Options { streaming_lists, authentication: Authentication::Anonymous, ..Options::default() };
        let server = lab.node("node-1")?.run(|| Double::start(options))??;
        for object in objects() {
            server.apply(object)?;
        }
        let folder = TempDir::new()?;
        let kubeconfig = folder.path().join("kubeconfig");
        server.kubeconfig(&kubeconfig, &Credentials::ClientCertificate)?;
        let config = folder.path().join("config.conf");
        let given = text("deploy/base/config.conf")?;
        let written =
            given.replace("/var/lib/portolan-config/kubeconfig.conf", &kubeconfig.to_string_lossy());
        ensure!(written != given, "deploy/base/config.conf has another path of the kubeconfig");
        fs::write(&config, written)?;

        let set = object("deploy/base/daemonset.yaml", "DaemonSet")?;
        let container = &set["spec"]["template"]["spec"]["containers"][0];
        let mut command = Command::new(portolan_tests::binary::portolan()?);
        for arg in texts(&container["args"]) {
            match arg.split_once('=') {
                Some(("--config", _)) => command.arg(format!("--config={}", config.display())),
                _ => command.arg(arg.replace("$(NODE_NAME)", "node-1")),
            };
        }
        let (mut ready, is_ready) = std::io::pipe()?;
        command
            .arg(format!("--state-dir={}", folder.path().join("state").display()))
            .arg(format!("--socket={}", folder.path().join("socket").display()))
            // Standard input is the one descriptor that can be handed over without unsafe code.
            .args(["--ready-fd", "0"])
            .stdin(is_ready)
            .stdout(Stdio::null())
            .stderr(Stdio::from(fs::File::create(folder.path().join("log"))?));
        let keep = capabilities(container)?;
        let proxy = lab.node("node-1")?.run(|| with_capabilities(&keep, &mut command))??;
        drop(command); // our copy of the pipe's other end
        let node = Node { lab, server, proxy, folder };
        let (done, is_done) = mpsc::channel();
        thread::spawn(move || done.send(ready.read(&mut [0]).is_ok_and(|read| read == 1)));
        let in_force = is_done.recv_timeout(WITHIN).unwrap_or(false);
        let log = fs::read_to_string(node.folder.path().join("log")).unwrap_or_default();
        ensure!(in_force, "the proxy's rules are not in force; its log:\n{log}");
        Ok(node)
    }

    /// Status and body of what is served on this node.
    fn get(&self, address: &str, path: &str) -> anyhow::Result<(String, String)> {
        let answer = self.lab.node("node-1")?.run(|| {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(WITHIN))?;
            stream.write_all(
                format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").as_bytes(),
            )?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            anyhow::Ok(answer)
        })?;
        let answer = answer.with_context(|| format!("http://{address}{path}"))?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
        Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
    }
}

/// A cluster with one of everything that is followed.
fn objects() -> [Value; 4] {
    [
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "node-1"},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
        }),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": ["10.96.0.0/16"]},
        }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": "default", "name": "web"},
            "spec": {"clusterIP": "10.96.0.80", "clusterIPs": ["10.96.0.80"], "ports": [{"name": "http", "port": 80}]},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"namespace": "default", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": ["10.244.0.9"]}],
        }),
    ]
}

/// The capabilities that a container has: those that it adds, all others being dropped.
fn capabilities(container: &Value) -> anyhow::Result<Vec<Capability>> {
    let capabilities = &container["securityContext"]["capabilities"];
    ensure!(capabilities["drop"] == json!(["ALL"]), "the container keeps more than it adds");
    let parse = |name: &String| format!("CAP_{name}").parse().map_err(|_| anyhow!("{name} is no capability"));
    texts(&capabilities["add"]).iter().map(parse).collect()
}

/// Starts a process that has, and can have, no other capabilities. For the bounding set of root
/// decides what a program that it starts gets (capabilities(7)), and belongs to this thread.
fn with_capabilities(keep: &[Capability], command: &mut Command) -> anyhow::Result<Child> {
    for capability in caps::read(None, CapSet::Bounding)? {
        if !keep.contains(&capability) {
            caps::drop(None, CapSet::Bounding, capability)?;
        }
    }
    Ok(command.spawn()?)
}

/// A request as a role has it: verb, API group, resource.
type Right = (String, String, String);

fn right(request: &Request) -> Option<Right> {
    let resource = request.resource?;
    let collection = request.path.ends_with(&format!("/{}", resource.plural()));
    let verb = match request.method.as_str() {
        "GET" if request.is_watch() => "watch",
        "GET" if collection => "list",
        "GET" => "get",
        "POST" => "create",
        "PATCH" => "patch",
        "PUT" => "update",
        _ => "delete",
    };
    Some((verb.to_owned(), resource.group().to_owned(), resource.plural().to_owned()))
}

fn granted() -> anyhow::Result<BTreeSet<Right>> {
    let mut granted = BTreeSet::new();
    for rule in items(&object("deploy/base/rbac.yaml", "ClusterRole")?["rules"]) {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                granted.extend(
                    texts(&rule["verbs"]).into_iter().map(|verb| (verb, group.clone(), resource.clone())),
                );
            }
        }
    }
    Ok(granted)
}

pub(crate) fn role_is_what_is_asked() -> anyhow::Result<()> {
    let mut asked = BTreeSet::new();
    // Newer API servers stream lists, as watches; older ones are listed.
    for streaming_lists in [true, false] {
        let node = Node::start(streaming_lists)?;
        let complete = |state: &portolan_apiserver::State| {
            let followed =
                [Resource::Services, Resource::EndpointSlices, Resource::Nodes, Resource::ServiceCidrs];
            followed.iter().all(|resource| state.watchers(*resource) > 0) && state.count(Resource::Events) > 0
        };
        ensure!(node.server.wait_for(complete, WITHIN), "not everything was asked for");
        asked.extend(node.server.look(|state| state.requests().iter().filter_map(right).collect::<Vec<_>>()));
    }
    // An Event that repeats is patched: the tests of the program's events have that, this node has
    // nothing to repeat.
    asked.insert(("patch".to_owned(), "events.k8s.io".to_owned(), "events".to_owned()));
    let granted = granted()?;
    ensure!(
        asked == granted,
        "asked for, and not granted: {:?}; granted, and not asked for: {:?}",
        asked.difference(&granted).collect::<Vec<_>>(),
        granted.difference(&asked).collect::<Vec<_>>()
    );
    Ok(())
}

pub(crate) fn capabilities_suffice() -> anyhow::Result<()> {
    // That it starts at all is that the rules are in force.
    let node = Node::start(true)?;
    let set = object("deploy/base/daemonset.yaml", "DaemonSet")?;
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    let port = &container["ports"][0]["containerPort"];
    for probe in ["livenessProbe", "readinessProbe"] {
        let path = container[probe]["httpGet"]["path"].as_str().context("a probe without a path")?;
        let (status, body) = node.get(&format!("192.0.2.1:{port}"), path)?;
        ensure!(status.contains("200"), "{path}: {status}: {body}");
    }
    Ok(())
}

/// The metrics that are named in a table's first column, and those that are served.
pub(crate) fn metrics_are_documented() -> anyhow::Result<()> {
    let documented = monitoring::documented()?;
    let documented: BTreeSet<&str> = documented.keys().map(String::as_str).collect();
    let node = Node::start(true)?;
    let (_, served) = node.get("127.0.0.1:10249", "/metrics")?;
    let (_, slis) = node.get("127.0.0.1:10249", "/metrics/slis")?;
    let types = served.lines().chain(slis.lines()).filter_map(|line| line.strip_prefix("# TYPE "));
    let served: BTreeSet<&str> = types.filter_map(|line| line.split(' ').next()).collect();
    ensure!(served.len() > 30, "only {served:?} are served");
    let group = |name: &&&str| !name.starts_with("process_") && !name.starts_with("kubernetes_healthcheck");
    let missing: Vec<_> = served.difference(&documented).filter(group).collect();
    ensure!(missing.is_empty(), "served, and not in docs/metrics.md: {missing:?}");
    // What has labels is served once there is a value: of those, the program must at least have the
    // name.
    let mut source = String::new();
    for folder in ["crates/observe/src/metrics", "crates/dataplane/src", "crates/portolan/src/controller"] {
        for file in below(folder, ".rs")? {
            source.push_str(&text(&file)?);
        }
    }
    let known = |name: &&&str| {
        let prefixes = ["kubeproxy_", "portolan_", "rest_client_", "kubernetes_"];
        let rest = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix));
        rest.is_some_and(|rest| source.contains(&format!("\"{rest}\"")))
    };
    let gone: Vec<_> = documented
        .difference(&served)
        .filter(|name| !name.ends_with('*'))
        .filter(|name| !known(name))
        .collect();
    ensure!(gone.is_empty(), "in docs/metrics.md, and not to be had: {gone:?}");
    Ok(())
}
