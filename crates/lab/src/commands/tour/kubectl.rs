//! What tours ask kubectl for, on machines without one: done through the API in this process. What
//! it prints is in brief, and in words of its own.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, anyhow, bail, ensure};
use portolan_apiserver::{Objects, Resource};
use serde_json::{Value, json};

use super::words;
use crate::applied::Applied;
use crate::cluster::Cluster;
use crate::object::{is_ready, items, place, text};

/// What came of a line.
#[derive(Debug)]
pub(super) enum Stood {
    /// It is done, and this is said.
    Done(String),
    /// This is to be run in a pod.
    InPod { namespace: String, pod: String, command: Vec<String> },
}

/// Does what a line of kubectl's asks for. Files are looked for in `folder`.
pub(super) fn stand_in(objects: &Objects, folder: &Path, line: &str) -> anyhow::Result<Stood> {
    let words = words::unquoted(line);
    let call = Call::of(&words)?;
    let said = match call.verb {
        "apply" => apply(objects, &folder.join(call.option("-f")?))?,
        "create" => {
            let name = call.argument(1)?;
            let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
            objects.create(object).map_err(|failure| anyhow!("{failure}"))?;
            format!("namespace/{name} created")
        }
        "get" => get(objects, &call)?,
        "scale" => {
            let (resource, name) = call.target()?;
            let replicas: u32 = call.option("--replicas")?.parse().context("--replicas")?;
            patch(objects, resource, &call, name, json!({ "spec": { "replicas": replicas } }))?;
            format!("{name} scaled")
        }
        "cordon" => {
            let name = call.argument(0)?;
            patch(objects, Resource::Nodes, &call, name, json!({ "spec": { "unschedulable": true } }))?;
            format!("node/{name} cordoned")
        }
        "patch" => {
            let (resource, name) = (resource(call.argument(0)?)?, call.argument(1)?);
            let change = serde_json::from_str(call.option("-p")?).context("-p")?;
            patch(objects, resource, &call, name, change)?;
            format!("{name} patched")
        }
        "exec" => {
            return Ok(Stood::InPod {
                namespace: call.namespace().to_owned(),
                pod: call.argument(0)?.to_owned(),
                command: call.rest.iter().map(|word| (*word).to_owned()).collect(),
            });
        }
        verb => bail!("kubectl {verb}: a tour cannot do this without kubectl; install that"),
    };
    Ok(Stood::Done(said))
}

/// The command that runs in a pod.
pub(super) fn in_pod(
    cluster: &Cluster,
    (namespace, pod, command): (&str, &str, &[String]),
    prepare: impl FnOnce(&mut Command),
) -> anyhow::Result<std::process::Child> {
    let live = cluster.pod(namespace, pod).with_context(|| format!("pods {pod:?} not found"))?;
    let (program, arguments) = command.split_first().context("kubectl exec: there is no command")?;
    let mut command = live.pod.command(None, program)?;
    command.args(arguments);
    prepare(&mut command);
    Ok(live.pod.spawn(None, &mut command)?)
}

/// A line of kubectl's, in parts.
struct Call<'a> {
    verb: &'a str,
    arguments: Vec<&'a str>,
    options: Vec<(&'a str, &'a str)>,
    /// After `--`.
    rest: Vec<&'a str>,
}

/// Options whose value is the next word.
const WITH_VALUE: [&str; 5] = ["-f", "-n", "-o", "-p", "-l"];

impl<'a> Call<'a> {
    fn of(words: &'a [String]) -> anyhow::Result<Call<'a>> {
        let mut words = words.iter().map(String::as_str);
        ensure!(words.next() == Some("kubectl"), "not a line of kubectl's");
        let (mut arguments, mut options, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(word) = words.next() {
            if word == "--" {
                rest.extend(words.by_ref());
            } else if WITH_VALUE.contains(&word) {
                options.push((word, words.next().with_context(|| format!("{word} has no value"))?));
            } else if word.starts_with('-') {
                options.push(word.split_once('=').unwrap_or((word, "")));
            } else {
                arguments.push(word);
            }
        }
        ensure!(!arguments.is_empty(), "kubectl without a command");
        Ok(Call { verb: arguments.remove(0), arguments, options, rest })
    }

    fn find(&self, option: &str) -> Option<&'a str> {
        self.options.iter().find(|(name, _)| *name == option).map(|(_, value)| *value)
    }

    fn option(&self, option: &str) -> anyhow::Result<&'a str> {
        self.find(option).with_context(|| format!("kubectl {}: {option} is missing", self.verb))
    }

    fn argument(&self, number: usize) -> anyhow::Result<&'a str> {
        let found = self.arguments.get(number).copied();
        found.with_context(|| format!("kubectl {}: too few arguments", self.verb))
    }

    fn namespace(&self) -> &'a str {
        self.find("-n").unwrap_or("default")
    }

    /// `deployment/NAME`
    fn target(&self) -> anyhow::Result<(Resource, &'a str)> {
        let target = self.argument(0)?;
        let (kind, name) = target.split_once('/').with_context(|| format!("{target} is not KIND/NAME"))?;
        Ok((resource(kind)?, name))
    }
}

fn resource(name: &str) -> anyhow::Result<Resource> {
    Ok(match name {
        "pod" | "pods" => Resource::Pods,
        "service" | "services" | "svc" => Resource::Services,
        "node" | "nodes" => Resource::Nodes,
        "deployment" | "deployments" => Resource::Deployments,
        _ => bail!("{name}: a tour knows nothing of these without kubectl; install that"),
    })
}

fn apply(objects: &Objects, file: &Path) -> anyhow::Result<String> {
    let mut applied = Applied::read(vec![file.to_owned()])?;
    applied.apply(objects);
    if let Some(refused) = applied.findings().iter().find(|finding| !finding.is_warning) {
        bail!("{}", refused.message);
    }
    let said = |object: &Value| {
        let group = text(&object["apiVersion"]).split_once('/').map_or("", |(group, _)| group);
        let dot = if group.is_empty() { "" } else { "." };
        format!("{}{dot}{group}/{} created", text(&object["kind"]).to_lowercase(), place(object).1)
    };
    Ok(applied.objects().map(said).collect::<Vec<_>>().join("\n"))
}

fn patch(
    objects: &Objects,
    kind: Resource,
    call: &Call<'_>,
    name: &str,
    change: Value,
) -> anyhow::Result<()> {
    let namespace = if kind.namespaced() { call.namespace() } else { "" };
    let patched = match call.find("--subresource") {
        Some("status") => objects.patch_status(kind, namespace, name, change),
        _ => objects.patch(kind, namespace, name, change),
    };
    patched.map(drop).map_err(|failure| anyhow!("{failure}"))
}

fn get(objects: &Objects, call: &Call<'_>) -> anyhow::Result<String> {
    let kind = resource(call.argument(0)?)?;
    let labels = call.find("-l").or(call.find("--selector")).unwrap_or("");
    let namespace = (kind.namespaced() && call.find("-A").is_none()).then(|| call.namespace());
    let found = objects.select(kind, namespace, labels, "").map_err(|failure| anyhow!("{failure}"))?;
    let name = call.arguments.get(1);
    let found = found.iter().filter(|object| name.is_none_or(|name| place(object).1 == *name));
    Ok(found.map(|object| row(kind, object)).collect::<Vec<_>>().join("\n"))
}

/// What is to be known of an object.
fn row(kind: Resource, object: &Value) -> String {
    let (spec, status) = (&object["spec"], &object["status"]);
    let mut words = vec![place(object).1.to_owned()];
    match kind {
        Resource::Pods => {
            let ready = items(&status["containerStatuses"]).filter(|one| one["ready"] == true).count();
            words.push(format!("{ready}/{}", items(&spec["containers"]).count()));
            words.extend(
                [&status["phase"], &status["podIP"], &spec["nodeName"]].map(|one| text(one).to_owned()),
            );
        }
        Resource::Services => {
            words.extend([&spec["type"], &spec["clusterIP"]].map(|one| text(one).to_owned()));
            let mut balanced = items(&status["loadBalancer"]["ingress"]);
            let nobody = if spec["type"] == "LoadBalancer" { "<pending>" } else { "<none>" };
            words.push(balanced.next().map_or(nobody, |one| text(&one["ip"])).to_owned());
            let port = |port: &Value| {
                let on_nodes = port["nodePort"].as_u64().map(|number| format!(":{number}"));
                format!("{}{}/{}", port["port"], on_nodes.unwrap_or_default(), text(&port["protocol"]))
            };
            words.push(items(&spec["ports"]).map(port).collect::<Vec<_>>().join(","));
        }
        Resource::Nodes => {
            let closed = if spec["unschedulable"] == true { ",SchedulingDisabled" } else { "" };
            words.push(format!("{}{closed}", if is_ready(object) { "Ready" } else { "NotReady" }));
            let internal = items(&status["addresses"]).find(|one| one["type"] == "InternalIP");
            words.push(internal.map_or("", |one| text(&one["address"])).to_owned());
        }
        _ => words.push(format!("{}/{}", status["readyReplicas"].as_u64().unwrap_or(0), spec["replicas"])),
    }
    words.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_apart() {
        let words =
            words::unquoted("kubectl -n a patch service web --subresource=status -p '{\"b\": \"c d\"}'");
        let call = Call::of(&words).unwrap();
        assert_eq!((call.verb, call.namespace()), ("patch", "a"));
        assert_eq!(call.arguments, ["service", "web"]);
        assert_eq!((call.find("-p"), call.find("--subresource")), (Some("{\"b\": \"c d\"}"), Some("status")));
        let words = words::unquoted("kubectl exec net-test -- sh -c 'curl -s http://web; echo'");
        let call = Call::of(&words).unwrap();
        assert_eq!(
            (call.arguments, call.rest),
            (vec!["net-test"], vec!["sh", "-c", "curl -s http://web; echo"])
        );
        assert!(Call::of(&[]).is_err());
    }
}
