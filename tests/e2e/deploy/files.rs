//! The files themselves.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

/// A path from the root of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

pub(crate) fn text(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(repository(path)).with_context(|| path.to_owned())
}

/// The objects of a file.
pub(crate) fn objects(path: &str) -> anyhow::Result<Vec<Value>> {
    parse(path, &text(path)?)
}

/// The objects of a text.
pub(crate) fn parse(name: &str, text: &str) -> anyhow::Result<Vec<Value>> {
    let trees = portolan_yaml::parse(text, 1)
        .map_err(|error| anyhow::anyhow!("{name}:{}: {}", error.line, error.message))?;
    Ok(trees.iter().map(portolan_yaml::Tree::to_json).filter(|object| !object.is_null()).collect())
}

/// The one object of this kind in a file.
pub(crate) fn object(path: &str, kind: &str) -> anyhow::Result<Value> {
    let mut found: Vec<Value> = objects(path)?.into_iter().filter(|object| object["kind"] == *kind).collect();
    ensure!(found.len() == 1, "{path} has {} objects of kind {kind}", found.len());
    Ok(found.remove(0))
}

/// The items of a list in an object.
pub(crate) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// The texts of a list in an object.
pub(crate) fn texts(list: &Value) -> Vec<String> {
    items(list).filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Every file below `folder` whose name ends so, from the root of the repository.
pub(crate) fn below(folder: &str, ending: &str) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(repository(folder))? {
        let entry = entry?;
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            found.extend(below(&path, ending)?);
        } else if path.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

pub(crate) fn manifests_are_objects() -> anyhow::Result<()> {
    let mut files: Vec<String> =
        below("deploy", ".yaml")?.into_iter().chain(below("deploy", ".conf")?).collect();
    // A chart has templates and values.
    files.retain(|file| !file.starts_with("deploy/helm/"));
    ensure!(files.len() >= 8, "only {files:?}");
    for file in files {
        let objects = objects(&file)?;
        ensure!(!objects.is_empty(), "{file} is empty");
        for object in objects {
            let complete = object["kind"].is_string() && object["apiVersion"].is_string();
            ensure!(
                complete || file.ends_with("+strategic.yaml"),
                "{file}: an object without kind and apiVersion"
            );
        }
    }
    Ok(())
}

/// What one part of the DaemonSet says of another, and of the configuration.
pub(crate) fn daemon_set_fits() -> anyhow::Result<()> {
    let file = "deploy/base/daemonset.yaml";
    let pod = &object(file, "DaemonSet")?["spec"]["template"]["spec"];
    ensure!(pod["hostNetwork"] == json!(true), "{file}: the network is the node's");
    let container = &pod["containers"][0];
    let port = &container["ports"][0];
    let health = object("deploy/base/config.conf", "KubeProxyConfiguration")?["healthzBindAddress"].clone();
    let health =
        health.as_str().and_then(|address| address.rsplit_once(':')).context("healthzBindAddress")?;
    ensure!(
        port["containerPort"].as_u64() == health.1.parse().ok(),
        "{file}: {port}, and the configuration has {health:?}"
    );
    for probe in ["livenessProbe", "readinessProbe"] {
        ensure!(container[probe]["httpGet"]["port"] == port["name"], "{file}: {probe} asks another port");
    }
    let kustomization = object("deploy/base/kustomization.yaml", "Kustomization")?;
    let generated = &kustomization["configMapGenerator"][0];
    let volumes: Vec<&Value> = items(&pod["volumes"]).collect();
    let of_configuration =
        volumes.iter().find(|volume| volume["name"] == "config").context("no volume config")?;
    ensure!(of_configuration["configMap"]["name"] == generated["name"], "{file}: another ConfigMap");
    for container in items(&pod["initContainers"]).chain(items(&pod["containers"])) {
        let name = &container["name"];
        for mount in items(&container["volumeMounts"]) {
            ensure!(volumes.iter().any(|volume| volume["name"] == mount["name"]), "{file}: {name}: {mount}");
        }
        // Where the configuration is mounted, the named file is.
        let args = texts(&container["args"]);
        let path = args.iter().find_map(|arg| arg.strip_prefix("--config=")).context("no --config")?;
        let mount = items(&container["volumeMounts"])
            .filter_map(|mount| path.strip_prefix(mount["mountPath"].as_str()?))
            .find_map(|rest| rest.strip_prefix('/'))
            .with_context(|| format!("{file}: {name}: nothing is mounted at {path}"))?;
        ensure!(
            texts(&generated["files"]).iter().any(|file| file == mount),
            "{file}: {name}: no file {mount}"
        );
    }
    let account = object("deploy/base/rbac.yaml", "ServiceAccount")?;
    ensure!(account["metadata"]["name"] == pod["serviceAccountName"], "{file}: another ServiceAccount");
    let binding = object("deploy/base/rbac.yaml", "ClusterRoleBinding")?;
    ensure!(
        binding["subjects"][0]["name"] == account["metadata"]["name"],
        "the binding is for another account"
    );
    let role = object("deploy/base/rbac.yaml", "ClusterRole")?;
    ensure!(binding["roleRef"]["name"] == role["metadata"]["name"], "the binding is to another role");
    ensure!(binding["subjects"][0]["namespace"] == kustomization["namespace"], "the account is elsewhere");
    Ok(())
}
