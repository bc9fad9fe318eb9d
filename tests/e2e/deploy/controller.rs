//! The Deployment that allocates load-balancer addresses, and the program as it runs there.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use portolan_apiserver::{Credentials, Double, Options, Request, Resource};
use portolan_lab::topology::{ClientSpec, Lab, NodeSpec, Spec};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::files::{items, object, objects, parse, text, texts};
use crate::monitoring;

const DEPLOYMENT: &str = "deploy/controller/deployment.yaml";
const RBAC: &str = "deploy/controller/rbac.yaml";
/// Nothing here takes longer on a machine that is not stuck.
const WITHIN: Duration = Duration::from_mins(1);

/// The program with the arguments of the Deployment, and an API server, on a node.
struct Running {
    lab: Lab,
    server: Double,
    program: Child,
    folder: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

impl Running {
    fn start() -> anyhow::Result<Running> {
        let lab = Lab::build(&Spec {
            nodes: vec![NodeSpec {
                name: "node-1".to_owned(),
                addresses: vec!["192.0.2.1/24".parse()?],
                pod_networks: Vec::new(),
            }],
            client: ClientSpec { addresses: vec!["192.0.2.99/24".parse()?], ..ClientSpec::default() },
            ..Spec::default()
        })?;
        let server = lab.node("node-1")?.run(|| Double::start(Options::default()))??;
        for name in ["web", "shop"] {
            server.apply(json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": name},
                "spec": {"type": "LoadBalancer", "ipFamilies": ["IPv4"], "ports": [{"port": 80}]},
            }))?;
        }
        let folder = TempDir::new()?;
        let kubeconfig = folder.path().join("kubeconfig");
        server.kubeconfig(&kubeconfig, &Credentials::None)?;
        let mut config = configuration()?;
        config["clientConnection"] = json!({ "kubeconfig": kubeconfig });
        fs::write(folder.path().join("config.conf"), config.to_string())?;
        let mut command = Command::new(portolan_tests::binary::portolan()?);
        for arg in texts(&container()?["args"]) {
            match arg.split_once('=') {
                Some(("--config", _)) => {
                    command.arg(format!("--config={}", folder.path().join("config.conf").display()))
                }
                _ => command.arg(arg),
            };
        }
        let log = fs::File::create(folder.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let program = lab.node("node-1")?.run(|| command.spawn())??;
        Ok(Running { lab, server, program, folder })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn wait(&self, what: &str, holds: impl Fn(&portolan_apiserver::State) -> bool) -> anyhow::Result<()> {
        ensure!(
            self.server.wait_for(holds, WITHIN),
            "{what}: not within {WITHIN:?}; its log:\n{}",
            self.log()
        );
        Ok(())
    }

    /// Status and body of one of its pages.
    fn get(&self, path: &str) -> anyhow::Result<(String, String)> {
        let port = container()?["ports"][0]["containerPort"].as_u64().context("a port")?;
        let address = ("127.0.0.1", u16::try_from(port)?);
        let mut stream = self.lab.node("node-1")?.run(|| TcpStream::connect(address))??;
        stream.set_read_timeout(Some(WITHIN))?;
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
        Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
    }
}

fn container() -> anyhow::Result<Value> {
    Ok(object(DEPLOYMENT, "Deployment")?["spec"]["template"]["spec"]["containers"][0].clone())
}

/// The configuration that the ConfigMap has.
fn configuration() -> anyhow::Result<Value> {
    let map = object(DEPLOYMENT, "ConfigMap")?;
    let content = map["data"]["config.conf"].as_str().context("config.conf")?;
    Ok(parse(DEPLOYMENT, content)?.remove(0))
}

fn has_address(state: &portolan_apiserver::State, name: &str) -> bool {
    let service = state.object(Resource::Services, "default", name).unwrap_or_default();
    service["status"]["loadBalancer"]["ingress"][0]["ip"].is_string()
}

/// A request as a role has it: verb, API group, resource.
type Right = (String, String, String);

fn right(request: &Request) -> Option<Right> {
    const METALLB: &str = "/apis/metallb.io/v1beta1/ipaddresspools";
    let (group, plural) = match request.resource {
        Some(resource) => (resource.group(), resource.plural()),
        None if request.path == METALLB => ("metallb.io", "ipaddresspools"),
        None => return None,
    };
    let verb = match request.method.as_str() {
        "GET" if request.is_watch() => "watch",
        "GET" if request.path.ends_with(&format!("/{plural}")) => "list",
        "GET" => "get",
        "POST" => "create",
        "PATCH" => "patch",
        "PUT" => "update",
        _ => "delete",
    };
    let part = if request.path.ends_with("/status") { "/status" } else { "" };
    Some((verb.to_owned(), group.to_owned(), format!("{plural}{part}")))
}

fn granted() -> anyhow::Result<BTreeSet<Right>> {
    let mut granted = BTreeSet::new();
    for role in objects(RBAC)?.iter().filter(|object| object["rules"].is_array()) {
        for rule in items(&role["rules"]) {
            for (group, resource) in texts(&rule["apiGroups"])
                .iter()
                .flat_map(|group| texts(&rule["resources"]).into_iter().map(move |it| (group.clone(), it)))
            {
                granted.extend(
                    texts(&rule["verbs"]).into_iter().map(|verb| (verb, group.clone(), resource.clone())),
                );
            }
        }
    }
    Ok(granted)
}

/// Its role has what it asks for, its probes are answered, its metrics are documented, and it gives
/// the Lease back when it ends.
pub(crate) fn runs_as_deployed() -> anyhow::Result<()> {
    let mut running = Running::start()?;
    running.wait("addresses", |state| has_address(state, "web") && has_address(state, "shop"))?;
    running.wait("Events", |state| state.count(Resource::Events) >= 2)?;
    // Its next write is refused, so that it reads the Service.
    running.server.answer_next(1, Some(Resource::Services), 409, None);
    running.server.apply(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": "late"},
        "spec": {"type": "LoadBalancer", "ipFamilies": ["IPv4"], "ports": [{"port": 80}]},
    }))?;
    running.wait("another address", |state| has_address(state, "late"))?;
    for probe in ["livenessProbe", "readinessProbe"] {
        let probe = &container()?[probe]["httpGet"];
        ensure!(probe["port"] == container()?["ports"][0]["name"], "{DEPLOYMENT}: {probe}");
        let path = probe["path"].as_str().context("a probe without a path")?;
        let (status, body) = running.get(path)?;
        ensure!(status.contains("200"), "{path}: {status}: {body}");
    }
    let (_, metrics) = running.get("/metrics")?;
    let documented = monitoring::documented()?;
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let served: Vec<&str> = types.filter_map(|line| line.split(' ').next()).collect();
    ensure!(served.len() >= 5, "only {served:?} are served");
    let missing: Vec<_> = served.iter().filter(|name| !documented.contains_key(**name)).collect();
    ensure!(missing.is_empty(), "served, and not in docs/metrics.md: {missing:?}");

    let id = nix::unistd::Pid::from_raw(i32::try_from(running.program.id())?);
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM)?;
    let begun = Instant::now();
    let ended = running.program.wait()?;
    ensure!(ended.success() && begun.elapsed() < WITHIN, "{ended} after {:?}", begun.elapsed());
    let lease = |state: &portolan_apiserver::State| {
        state.object(Resource::Leases, "kube-system", "portolan-controller").unwrap_or_default()
    };
    ensure!(running.server.look(lease)["spec"]["holderIdentity"] == "", "the Lease is not given back");

    let requests = |state: &portolan_apiserver::State| -> BTreeSet<Right> {
        state.requests().iter().filter_map(right).collect()
    };
    let mut asked = running.server.look(requests);
    // An Event that repeats is patched, and there is nothing to watch where MetalLB's objects are
    // not served.
    for (verb, group, resource) in
        [("patch", "events.k8s.io", "events"), ("watch", "metallb.io", "ipaddresspools")]
    {
        asked.insert((verb.to_owned(), group.to_owned(), resource.to_owned()));
    }
    let granted = granted()?;
    ensure!(
        asked == granted,
        "asked for, and not granted: {:?}; granted, and not asked for: {:?}",
        asked.difference(&granted).collect::<Vec<_>>(),
        granted.difference(&asked).collect::<Vec<_>>()
    );
    Ok(())
}

/// What one part of the files says of another.
pub(crate) fn deployment_fits() -> anyhow::Result<()> {
    let deployment = object(DEPLOYMENT, "Deployment")?;
    let template = &deployment["spec"]["template"];
    let pod = &template["spec"];
    ensure!(
        template["metadata"]["labels"] == deployment["spec"]["selector"]["matchLabels"],
        "{DEPLOYMENT}: selector"
    );
    let account = object(RBAC, "ServiceAccount")?["metadata"]["name"].clone();
    ensure!(account == pod["serviceAccountName"], "{DEPLOYMENT}: another account");
    for (binding, role) in [("ClusterRoleBinding", "ClusterRole"), ("RoleBinding", "Role")] {
        let binding = object(RBAC, binding)?;
        ensure!(binding["subjects"][0]["name"] == account, "{RBAC}: another account");
        ensure!(
            binding["roleRef"]["name"] == object(RBAC, role)?["metadata"]["name"],
            "{RBAC}: another role"
        );
    }
    let role = object(RBAC, "Role")?;
    let namespace = role["metadata"]["namespace"].as_str().context("a namespace")?;
    let args = texts(&pod["containers"][0]["args"]);
    ensure!(args.contains(&format!("--lease-namespace={namespace}")), "{DEPLOYMENT}: the role is elsewhere");
    let name = role["rules"][0]["resourceNames"][0].as_str().context("a Lease")?;
    ensure!(
        text("crates/portolan/src/cli/controller.rs")?.contains(&format!("default_value = \"{name}\"")),
        "{RBAC}: {name} is not what the Lease is called"
    );
    let map = object(DEPLOYMENT, "ConfigMap")?["metadata"]["name"].clone();
    ensure!(pod["volumes"][0]["configMap"]["name"] == map, "{DEPLOYMENT}: another ConfigMap");
    let mount = pod["containers"][0]["volumeMounts"][0]["mountPath"].as_str().context("a mount")?;
    ensure!(args.contains(&format!("--config={mount}/config.conf")), "{DEPLOYMENT}: no file there");
    Ok(())
}
