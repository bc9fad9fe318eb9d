//! The server of names: the patch for kubeadm's Deployment, and a Deployment of its own.

use std::fs;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::files::{items, object, objects, text, texts};
use crate::patch::merge;

/// What of kubeadm's Deployment, as of 1.36, a patch could meet.
fn kubeadm() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "coredns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"k8s-app": "kube-dns"}},
            "template": {
                "metadata": {"labels": {"k8s-app": "kube-dns"}},
                "spec": {
                    "priorityClassName": "system-cluster-critical",
                    "serviceAccountName": "coredns",
                    "dnsPolicy": "Default",
                    "containers": [{
                        "name": "coredns",
                        "image": "registry.k8s.io/coredns/coredns:v1.14.2",
                        "imagePullPolicy": "IfNotPresent",
                        "args": ["-conf", "/etc/coredns/Corefile"],
                        "volumeMounts": [{"name": "config-volume", "mountPath": "/etc/coredns", "readOnly": true}],
                        "ports": [
                            {"containerPort": 53, "name": "dns", "protocol": "UDP"},
                            {"containerPort": 53, "name": "dns-tcp", "protocol": "TCP"},
                            {"containerPort": 9153, "name": "metrics", "protocol": "TCP"},
                            {"containerPort": 8080, "name": "liveness-probe", "protocol": "TCP"},
                            {"containerPort": 8181, "name": "readiness-probe", "protocol": "TCP"},
                        ],
                        "livenessProbe": {"httpGet": {"path": "/health", "port": "liveness-probe"}},
                        "readinessProbe": {"httpGet": {"path": "/ready", "port": "readiness-probe"}},
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
                            "readOnlyRootFilesystem": true,
                        },
                    }],
                    "volumes": [{
                        "name": "config-volume",
                        "configMap": {"name": "coredns", "items": [{"key": "Corefile", "path": "Corefile"}]},
                    }],
                },
            },
        },
    })
}

/// The patch changes image and program, adds a volume, and leaves all else.
pub(crate) fn swaps_coredns() -> anyhow::Result<()> {
    let patch = objects("deploy/dns/corednsdeployment+strategic.yaml")?.remove(0);
    let mut after = kubeadm();
    merge("", &mut after, &patch);
    let mut expected = kubeadm();
    let pod = &mut expected["spec"]["template"]["spec"];
    let image = object("deploy/base/daemonset.yaml", "DaemonSet")?;
    pod["containers"][0]["image"] = image["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    pod["containers"][0]["command"] = json!(["/usr/local/bin/coredns"]);
    let mount = json!({"name": "state", "mountPath": "/var/lib/portolan"});
    pod["containers"][0]["volumeMounts"].as_array_mut().context("mounts")?.push(mount);
    pod["volumes"].as_array_mut().context("volumes")?.push(json!({"name": "state", "emptyDir": {}}));
    ensure!(after == expected, "{after:#}");
    ensure!(
        text("deploy/Containerfile")?.contains("/usr/local/bin/coredns"),
        "the image has no such program"
    );
    Ok(())
}

/// The Deployment's ports are those of its Corefile, its account has the role, and the program
/// takes its arguments and its Corefile.
pub(crate) fn deployment_fits() -> anyhow::Result<()> {
    let file = "deploy/dns/deployment.yaml";
    let deployment = object(file, "Deployment")?;
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let corefile = object(file, "ConfigMap")?["data"]["Corefile"].as_str().context("a Corefile")?.to_owned();
    let port = |name: &str| {
        let found = items(&container["ports"]).find(|port| port["name"] == *name);
        found.and_then(|port| port["containerPort"].as_u64()).with_context(|| format!("port {name}"))
    };
    for (probe, path, number) in [("livenessProbe", "/health", 8080), ("readinessProbe", "/ready", 8181)] {
        let get = &container[probe]["httpGet"];
        let name = get["port"].as_str().context("a port by name")?;
        ensure!(get["path"] == *path && port(name)? == number, "{file}: {probe}: {get}");
    }
    ensure!(corefile.starts_with(&format!(".:{} {{", port("dns")?)), "{corefile}");
    ensure!(corefile.contains(&format!("prometheus :{}\n", port("metrics")?)), "{corefile}");
    let template = &deployment["spec"]["template"]["metadata"]["labels"];
    ensure!(*template == deployment["spec"]["selector"]["matchLabels"], "{file}: selector");
    ensure!(template["k8s-app"] == "kube-dns", "the Service kube-dns would not find it");
    let rbac = "deploy/dns/rbac.yaml";
    let account = object(rbac, "ServiceAccount")?["metadata"]["name"].clone();
    let binding = object(rbac, "ClusterRoleBinding")?;
    ensure!(account == pod["serviceAccountName"] && account == binding["subjects"][0]["name"], "account");
    ensure!(binding["roleRef"]["name"] == object(rbac, "ClusterRole")?["metadata"]["name"], "role");
    for mount in items(&container["volumeMounts"]) {
        ensure!(items(&pod["volumes"]).any(|volume| volume["name"] == mount["name"]), "{mount}");
    }
    program_takes(&texts(&container["args"]), &corefile)
}

/// The program finds no fault with the arguments and the Corefile: it comes as far as the cluster,
/// which is not there.
fn program_takes(args: &[String], corefile: &str) -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let path = folder.path().join("Corefile");
    fs::write(&path, corefile)?;
    let args = args.iter().map(|arg| match arg.split_once('=') {
        Some(("--conf", _)) => format!("--conf={}", path.display()),
        _ => arg.clone(),
    });
    let mut command = Command::new(portolan_tests::binary::portolan()?);
    command.args(args).args(["--state-dir=", "--kubeconfig=/no/such/file"]);
    let output = command.output()?;
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(log.contains("/no/such/file") && !log.contains("Corefile"), "{log}");
    Ok(())
}
