//! The Helm chart: rendered by Helm's own engine, it makes what `deploy/base` is.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::files::{items, object, objects, parse, repository, text, texts};
use crate::program::{complaints, containers, on_a_node, succeed};

const CHART: &str = "deploy/helm/portolan";
/// The one value that has to be given, as `deploy/base` has it.
const API_SERVER: &str = "https://api.cluster.example:6443";

/// The Python that has Helm's engine: what `PORTOLAN_HELM_PYTHON` names, or what `./test` has
/// installed.
pub(crate) fn engine() -> Option<PathBuf> {
    let named = std::env::var_os("PORTOLAN_HELM_PYTHON").map(PathBuf::from);
    named.or_else(|| Some(repository("target/tools/helm/bin/python")).filter(|path| path.exists()))
}

/// The objects that the chart makes, by kind and name, or why it makes none.
fn render(values: &Value) -> anyhow::Result<Result<BTreeMap<String, Value>, String>> {
    let python = engine().context("Helm's engine is not installed; ./test does it")?;
    let mut child = Command::new(python)
        .arg(repository("tests/e2e/deploy/render_chart.py"))
        .arg(repository(CHART))
        .arg("kube-system")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting Python")?;
    // The values fit into the pipe.
    child.stdin.take().context("standard input")?.write_all(values.to_string().as_bytes())?;
    let done = child.wait_with_output()?;
    if !done.status.success() {
        return Ok(Err(String::from_utf8_lossy(&done.stderr).into_owned()));
    }
    let rendered: BTreeMap<String, String> = serde_json::from_slice(&done.stdout)?;
    let mut made = BTreeMap::new();
    for (file, content) in rendered.iter().filter(|(file, _)| !file.ends_with("/NOTES.txt")) {
        for object in parse(file, content)? {
            let name = format!("{} {}", word(&object["kind"]), word(&object["metadata"]["name"]));
            ensure!(made.insert(name.clone(), object).is_none(), "{file}: a second {name}");
        }
    }
    Ok(Ok(made))
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The objects that the chart makes with these values besides the address of the API server.
fn made(values: Value) -> anyhow::Result<BTreeMap<String, Value>> {
    let mut all = json!({"apiServer": API_SERVER});
    merge(&mut all, values);
    match render(&all)? {
        Ok(made) => Ok(made),
        Err(why) => bail!("{all}: {why}"),
    }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// One file of the chart's ConfigMap.
fn file(made: &BTreeMap<String, Value>, name: &str) -> anyhow::Result<String> {
    let content = made.get("ConfigMap portolan").and_then(|map| map["data"][name].as_str());
    Ok(content.with_context(|| format!("the ConfigMap has no {name}"))?.to_owned())
}

pub(crate) fn makes_the_base() -> anyhow::Result<()> {
    let made = made(json!({}))?;
    let expected = ["ClusterRole", "ClusterRoleBinding", "ConfigMap", "DaemonSet", "ServiceAccount"]
        .map(|kind| format!("{kind} portolan"));
    ensure!(made.keys().eq(expected.iter()), "it makes {:?}", made.keys());
    for (kind, fields) in [
        ("ClusterRole", &["rules"][..]),
        ("ClusterRoleBinding", &["roleRef", "subjects"]),
        ("ServiceAccount", &["apiVersion"]),
    ] {
        let base = object("deploy/base/rbac.yaml", kind)?;
        let of_chart = &made[&format!("{kind} portolan")];
        for field in fields {
            ensure!(of_chart[field] == base[field], "{kind}: {field}: {:#}", of_chart[field]);
        }
    }
    for name in ["config.conf", "kubeconfig.conf"] {
        let of_chart = parse(name, &file(&made, name)?)?;
        ensure!(of_chart == objects(&format!("deploy/base/{name}"))?, "{name}: {of_chart:#?}");
    }
    let base = object("deploy/base/daemonset.yaml", "DaemonSet")?;
    let mut of_chart = made["DaemonSet portolan"].clone();
    // Kustomize adds the selector and the label; which policy pulls the image is Kubernetes' own
    // default.
    let label = json!({"app.kubernetes.io/name": "portolan"});
    ensure!(of_chart["spec"]["selector"]["matchLabels"] == label, "another selector");
    ensure!(of_chart["spec"]["template"]["metadata"]["labels"] == label, "other labels of pods");
    let pod = &mut of_chart["spec"]["template"]["spec"];
    for containers in ["initContainers", "containers"] {
        for container in pod[containers].as_array_mut().into_iter().flatten() {
            let policy = container.as_object_mut().and_then(|container| container.remove("imagePullPolicy"));
            ensure!(policy == Some(json!("IfNotPresent")), "{policy:?}");
        }
    }
    ensure!(*pod == base["spec"]["template"]["spec"], "the pod is another one: {pod:#}");
    ensure!(of_chart["spec"]["updateStrategy"] == base["spec"]["updateStrategy"], "another way to roll out");
    let version = env!("CARGO_PKG_VERSION");
    let chart = objects(&format!("{CHART}/Chart.yaml"))?.remove(0);
    ensure!(
        chart["version"] == *version && chart["appVersion"] == *version,
        "Chart.yaml is of another version than {version}"
    );
    Ok(())
}

pub(crate) fn refuses_bad_values() -> anyhow::Result<()> {
    for (situation, values, message) in [
        ("without an API server", json!({"apiServer": ""}), "give the API server's own address"),
        ("an API server without a scheme", json!({"apiServer": "192.0.2.1:6443"}), "apiServer"),
        ("a value that there is not", json!({"replicas": 3}), "replicas"),
        ("a misspelt one", json!({"image": {"repositry": "x"}}), "repositry"),
        ("a mode that there is not", json!({"config": {"mode": "ebpf"}}), "mode"),
        ("a scheduler that there is not", json!({"config": {"ipvs": {"scheduler": "fast"}}}), "scheduler"),
        (
            "a time without a unit",
            json!({"config": {"conntrack": {"tcpCloseWaitTimeout": "60"}}}),
            "tcpCloseWaitTimeout",
        ),
        (
            "an address without a port",
            json!({"config": {"healthzBindAddress": "0.0.0.0"}}),
            "healthzBindAddress",
        ),
        (
            "addresses announced without a key",
            json!({"config": {"announcement": {"layer2": true}}}),
            "announcement.keySecret",
        ),
        (
            "pools, whose addresses are announced, without a key",
            json!({"config": {"loadBalancer": {"pools": [{"name": "lan", "addresses": ["192.0.2.240/28"]}]}}}),
            "announcement.keySecret",
        ),
        (
            "metrics that Prometheus cannot reach",
            json!({"serviceMonitor": {"enabled": true}}),
            "Prometheus does not reach 127.0.0.1:10249",
        ),
    ] {
        let mut all = json!({"apiServer": API_SERVER});
        merge(&mut all, values);
        match render(&all)? {
            Ok(_) => bail!("{situation}: it is rendered"),
            Err(why) => ensure!(why.contains(message), "{situation}: {message:?} is not in: {why}"),
        }
    }
    Ok(())
}

pub(crate) fn program_accepts_it() -> anyhow::Result<()> {
    let program = portolan_tests::binary::portolan()?;
    let scratch = TempDir::new()?;
    let (config, written) = (scratch.path().join("config.conf"), scratch.path().join("written"));
    for (situation, values, image) in [
        ("as it is", json!({}), "ghcr.io/portolan/portolan:0.1.0"),
        (
            "mode iptables, with flags",
            json!({"config": {"mode": "iptables"}, "extraArgs": ["--masquerade-all=true"]}),
            "ghcr.io/portolan/portolan:0.1.0-iptables",
        ),
        (
            "mode ipvs, with its fields",
            json!({"config": {"mode": "ipvs", "ipvs": {"scheduler": "lc", "tcpTimeout": "2h"}}}),
            "ghcr.io/portolan/portolan:0.1.0",
        ),
        (
            "mode userspace, with its usual rules",
            json!({"config": {"mode": "userspace"}}),
            "ghcr.io/portolan/portolan:0.1.0",
        ),
        (
            "mode userspace, with rules of iptables",
            json!({"config": {"mode": "userspace", "userspace": {"diversion": "iptables"}}}),
            "ghcr.io/portolan/portolan:0.1.0-iptables",
        ),
        (
            "addresses announced",
            json!({
                "config": {"announcement": {"layer2": true, "interfaces": ["eth*"]}},
                "announcement": {"keySecret": "portolan-key"},
            }),
            "ghcr.io/portolan/portolan:0.1.0",
        ),
        (
            "names on the node",
            json!({"nodeDns": {"enabled": true, "configMap": "coredns", "followPods": true}}),
            "ghcr.io/portolan/portolan:0.1.0",
        ),
        (
            "everything set",
            json!({
                "config": {
                    "clusterCIDR": "10.244.0.0/16,fd00:10:244::/56",
                    "healthzBindAddress": "[::]:10257",
                    "clientConnection": {"qps": 50},
                    // Numbers that Go prints with an exponent, unless it is kept from it.
                    "conntrack": {"maxPerCore": 1_048_576, "min": 16_777_216},
                },
                "image": {"repository": "registry.example/portolan", "tag": "edge", "pullPolicy": "Always"},
                "imagePullSecrets": [{"name": "registry"}],
                "podAnnotations": {"a": "b"},
                "podLabels": {"c": "d"},
                "affinity": {"nodeAffinity": {}},
                "serviceAccount": {"annotations": {"e": "f"}},
            }),
            "registry.example/portolan:edge",
        ),
    ] {
        let made = made(values).context(situation)?;
        fs::write(&config, file(&made, "config.conf")?)?;
        let set = &made["DaemonSet portolan"];
        for container in containers(set) {
            ensure!(container["image"] == *image, "{situation}: {}", container["image"]);
            let log = succeed(&program, &on_a_node(&texts(&container["args"]), &config, &written))?;
            // That a flag is overridden by the file is what the log has to say of it.
            let complaints: Vec<&str> =
                complaints(&log).into_iter().filter(|line| !line.contains("has no effect")).collect();
            ensure!(complaints.is_empty(), "{situation}: {log}");
        }
        let container = &set["spec"]["template"]["spec"]["containers"][0];
        let raw = items(&container["securityContext"]["capabilities"]["add"]).any(|one| one == "NET_RAW");
        let needs_raw = ["iptables", "announced"].iter().any(|what| situation.contains(what));
        ensure!(raw == needs_raw, "{situation}: NET_RAW is {raw}");
        let health =
            parse("config.conf", &file(&made, "config.conf")?)?.remove(0)["healthzBindAddress"].clone();
        let port = &container["ports"][0]["containerPort"];
        ensure!(word(&health).ends_with(&format!(":{port}")), "{situation}: {health}, and port {port}");
    }
    Ok(())
}

pub(crate) fn makes_the_controller() -> anyhow::Result<()> {
    let pools = json!([{"name": "lan", "addresses": ["192.0.2.240/28"]}]);
    let all = made(json!({
        "config": {"loadBalancer": {"pools": pools}}, "announcement": {"keySecret": "portolan-key"},
    }))?;
    for (file, kind, field) in [
        ("rbac.yaml", "ClusterRole", "rules"),
        ("rbac.yaml", "ClusterRoleBinding", "subjects"),
        ("rbac.yaml", "Role", "rules"),
        ("rbac.yaml", "RoleBinding", "roleRef"),
        ("deployment.yaml", "Deployment", "spec"),
    ] {
        let mut expected = object(&format!("deploy/controller/{file}"), kind)?[field].clone();
        let mut of_chart = all[&format!("{kind} portolan-controller")][field].clone();
        if kind == "Deployment" {
            // It reads the proxies' configuration; which policy pulls the image is Kubernetes' own
            // default.
            let (expected, of_chart) = (&mut expected["template"]["spec"], &mut of_chart["template"]["spec"]);
            let container = &mut of_chart["containers"][0];
            let policy = container.as_object_mut().and_then(|container| container.remove("imagePullPolicy"));
            ensure!(policy == Some(json!("IfNotPresent")), "{policy:?}");
            for pod in [expected, of_chart] {
                pod["volumes"] = Value::Null;
                pod["containers"][0]["volumeMounts"] = Value::Null;
                pod["containers"][0]["args"][1] = Value::Null;
            }
        }
        ensure!(of_chart == expected, "{kind}: {field}: {of_chart:#}");
    }
    let pod = &all["Deployment portolan-controller"]["spec"]["template"]["spec"];
    let args = texts(&pod["containers"][0]["args"]);
    ensure!(args[1] == "--config=/var/lib/portolan-config/config.conf", "{args:?}");
    ensure!(pod["volumes"][0]["configMap"]["name"] == "portolan", "another ConfigMap");
    // Where there are pools, addresses are announced.
    let proxy = &all["DaemonSet portolan"]["spec"]["template"]["spec"]["containers"][0];
    let raw = items(&proxy["securityContext"]["capabilities"]["add"]).any(|one| one == "NET_RAW");
    ensure!(raw, "the proxies cannot announce");
    let of_metallb = made(json!({"controller": {"enabled": true}}))?;
    ensure!(of_metallb.contains_key("Deployment portolan-controller"), "it is not there for MetalLB's pools");
    Ok(())
}

pub(crate) fn monitoring_fits() -> anyhow::Result<()> {
    let made = made(json!({
        "config": {"metricsBindAddress": "0.0.0.0:10250"},
        "serviceMonitor": {"enabled": true, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": true, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": true},
    }))?;
    let get = |name: &str| made.get(name).with_context(|| format!("no {name}"));
    let (service, monitor) = (get("Service portolan-metrics")?, get("ServiceMonitor portolan")?);
    let pods = &made["DaemonSet portolan"]["spec"]["template"]["metadata"]["labels"];
    for (what, selector, labels) in [
        ("the Service selects the pods", &service["spec"]["selector"], pods),
        (
            "the monitor selects the Service",
            &monitor["spec"]["selector"]["matchLabels"],
            &service["metadata"]["labels"],
        ),
    ] {
        let wanted: &Map<String, Value> = selector.as_object().context(what)?;
        ensure!(
            !wanted.is_empty() && wanted.iter().all(|(key, value)| labels[key] == *value),
            "not so: {what}"
        );
    }
    let port = &service["spec"]["ports"][0];
    ensure!(port["port"] == json!(10250), "the Service has port {port}");
    ensure!(monitor["spec"]["endpoints"][0]["port"] == port["name"], "the monitor asks another port");
    ensure!(monitor["spec"]["namespaceSelector"]["matchNames"] == json!(["kube-system"]), "elsewhere");
    ensure!(monitor["metadata"]["labels"]["release"] == "prometheus", "the operator does not find it");
    let alerts = objects(&format!("{CHART}/files/alerts.yaml"))?.remove(0);
    let rule = get("PrometheusRule portolan")?;
    ensure!(rule["spec"] == alerts, "the rules are others: {:#}", rule["spec"]);
    let dashboard = get("ConfigMap portolan-dashboard")?;
    ensure!(
        dashboard["metadata"]["labels"]["grafana_dashboard"] == "1",
        "Grafana's sidecar does not find it"
    );
    let shown: Value = serde_json::from_str(word(&dashboard["data"]["portolan.json"]))?;
    let given: Value = serde_json::from_str(&text(&format!("{CHART}/files/dashboard.json"))?)?;
    ensure!(shown == given, "the dashboard is another one");
    Ok(())
}

/// Without Helm: every default has its place in the schema, of its type, and the schema has no
/// value that is nowhere.
pub(crate) fn schema_has_the_values() -> anyhow::Result<()> {
    let schema: Value = serde_json::from_str(&text(&format!("{CHART}/values.schema.json"))?)?;
    let values = objects(&format!("{CHART}/values.yaml"))?.remove(0);
    fits("", &values, &schema)?;
    let known: Vec<&String> = schema["properties"].as_object().context("properties")?.keys().collect();
    for name in known.iter().filter(|name| **name != "global") {
        ensure!(values.get(name.as_str()).is_some(), "the schema has {name}, and values.yaml has not");
    }
    let mut templates = String::new();
    for file in fs::read_dir(repository(CHART).join("templates"))? {
        templates.push_str(&fs::read_to_string(file?.path())?);
    }
    for name in values.as_object().context("values")?.keys() {
        ensure!(templates.contains(&format!(".Values.{name}")), "no template has the value {name}");
    }
    Ok(())
}

fn fits(path: &str, value: &Value, schema: &Value) -> anyhow::Result<()> {
    let kind = match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        _ => "string",
    };
    let allowed: Vec<&Value> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().collect(),
        kind => vec![kind],
    };
    ensure!(
        allowed.iter().any(|allowed| **allowed == *kind) || items(&schema["enum"]).any(|one| one == value),
        "values.yaml: {path}: {value} is not what the schema wants: {}",
        schema["type"]
    );
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => bail!("values.yaml: the schema has no {path}"),
            (Value::Null, Value::Object(_)) => fits(&path, value, &schema["additionalProperties"])?,
            (Value::Null, _) => {}
            (schema, _) => fits(&path, value, schema)?,
        }
    }
    Ok(())
}
