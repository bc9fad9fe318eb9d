//! kube-rs as a client of the lab: what it watches, applies, runs, reads and forwards. It speaks
//! otherwise than kubectl in many places.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::lab::OwnLab;
use anyhow::{Context, bail, ensure};
use futures_util::{AsyncBufReadExt, StreamExt, TryStreamExt, pin_mut};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, AttachParams, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::reflector::Store;
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, Config, ResourceExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Whatever is waited for comes within this on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A lab, and a client in its default namespace.
async fn connect(lab: &OwnLab) -> anyhow::Result<Client> {
    let kubeconfig = Kubeconfig::read_from(lab.kubeconfig()?)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn deployment(replicas: i32) -> serde_json::Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "nginx", "ports": [{"containerPort": 80}]}]},
            },
        },
    })
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

async fn within<T>(what: &str, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::time::timeout(PATIENCE, work)
        .await
        .with_context(|| format!("{what}: not in time"))?
        .with_context(|| what.to_owned())
}

/// The names of the pods that a reflector knows, once there are `count` that are ready, and no
/// others.
async fn reflected(
    store: &Store<Pod>,
    changes: &mut (impl futures_util::Stream<Item = Result<Pod, watcher::Error>> + Unpin),
    count: usize,
) -> anyhow::Result<BTreeSet<String>> {
    loop {
        let pods = store.state();
        if pods.len() == count && pods.iter().all(|pod| is_ready(pod)) {
            return Ok(pods.iter().map(|pod| pod.name_any()).collect());
        }
        changes.try_next().await?.context("the watch has ended")?;
    }
}

/// Lists and watches, and lists by watching: a reflector follows what a Deployment makes.
pub(crate) async fn follows(lab: &OwnLab) -> anyhow::Result<()> {
    let client = connect(lab).await?;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let deployments: Api<Deployment> = Api::default_namespaced(client);
    let selection = watcher::Config::default().labels("app=web");
    for (what, config) in [("listed", selection.clone()), ("streamed", selection.streaming_lists())] {
        let made =
            deployments.create(&PostParams::default(), &serde_json::from_value(deployment(2))?).await?;
        ensure!(made.metadata.generation == Some(1), "generation {:?}", made.metadata.generation);
        let (store, writer) = reflector::store();
        // Deletions, too, are events that the store is looked at after.
        let changes = watcher(pods.clone(), config).default_backoff().reflect(writer);
        let changes = changes.filter_map(async |event| match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod) | watcher::Event::Delete(pod)) => {
                Some(Ok(pod))
            }
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        });
        let mut changes = Box::pin(changes);
        let two = within(what, reflected(&store, &mut changes, 2)).await?;
        let scale = json!({"spec": {"replicas": 3}});
        deployments.patch_scale("web", &PatchParams::default(), &Patch::Merge(&scale)).await?;
        let three = within(what, reflected(&store, &mut changes, 3)).await?;
        ensure!(three.is_superset(&two), "{two:?}, then {three:?}");
        deployments.delete("web", &DeleteParams::background()).await?;
        within(what, reflected(&store, &mut changes, 0)).await?;
    }
    Ok(())
}

/// Server-side apply: fields have owners, others are refused, and force takes what it wants.
pub(crate) async fn applies(lab: &OwnLab) -> anyhow::Result<()> {
    let services: Api<Service> = Api::default_namespaced(connect(lab).await?);
    let wanted = |port: i32| {
        Patch::Apply(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "applied"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": port}]},
        }))
    };
    let (one, other) = (PatchParams::apply("one"), PatchParams::apply("other"));
    let first = services.patch("applied", &one, &wanted(8080)).await?;
    let again = services.patch("applied", &one, &wanted(8080)).await?;
    ensure!(first.resource_version() == again.resource_version(), "nothing has changed");
    match services.patch("applied", &other, &wanted(9090)).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            ensure!(status.message.contains("conflict with \"one\""), "{}", status.message);
        }
        unexpected => bail!("another owner's field: {unexpected:?}"),
    }
    let forced = services.patch("applied", &other.clone().force(), &wanted(9090)).await?;
    let owners: BTreeSet<_> =
        forced.managed_fields().iter().filter_map(|entry| entry.manager.clone()).collect();
    ensure!(owners.contains("other"), "{owners:?}");
    let listed = services.list(&ListParams::default().fields("metadata.name=applied")).await?;
    ensure!(listed.items.len() == 1, "{} Services", listed.items.len());
    // A dry run changes nothing.
    services.patch("applied", &one.clone().force().dry_run(), &wanted(7070)).await?;
    let kept = services.get("applied").await?;
    ensure!(kept.resource_version() == forced.resource_version(), "a dry run was stored");
    services.delete("applied", &DeleteParams::default()).await?;
    match services.get_opt("applied").await? {
        None => Ok(()),
        Some(left) => bail!("{left:?} is left"),
    }
}

/// Commands in a pod, its log, and its port.
pub(crate) async fn enters(lab: &OwnLab) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::default_namespaced(connect(lab).await?);
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "entered"},
        "spec": {"containers": [{"name": "web", "image": "nginx", "ports": [{"containerPort": 80}]}]},
    });
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    within("running", async {
        await_condition(pods.clone(), "entered", conditions::is_pod_running()).await?;
        Ok(())
    })
    .await?;
    within("a command", runs(&pods)).await?;
    within("its log", logs(&pods)).await?;
    within("its port", forwards(&pods)).await?;
    pods.delete("entered", &DeleteParams::default().grace_period(0)).await?;
    Ok(())
}

async fn runs(pods: &Api<Pod>) -> anyhow::Result<()> {
    let command = ["sh", "-c", "read line; echo \"got $line\"; echo wrong >&2; exit 3"];
    let mut process = pods.exec("entered", command, &AttachParams::default().stdin(true)).await?;
    let status = process.take_status().context("no status")?;
    let mut stdin = process.stdin().context("no stdin")?;
    let (mut stdout, mut stderr) =
        (process.stdout().context("no stdout")?, process.stderr().context("no stderr")?);
    stdin.write_all(b"typed\n").await?;
    let (mut printed, mut complained) = (String::new(), String::new());
    stdout.read_to_string(&mut printed).await?;
    stderr.read_to_string(&mut complained).await?;
    ensure!(
        (printed.as_str(), complained.as_str()) == ("got typed\n", "wrong\n"),
        "{printed:?} {complained:?}"
    );
    let status = status.await.context("the command has no status")?;
    ensure!(status.reason.as_deref() == Some("NonZeroExitCode"), "{status:?}");
    let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
    ensure!(causes.iter().any(|cause| cause.message.as_deref() == Some("3")), "{causes:?}");
    Ok(())
}

async fn logs(pods: &Api<Pod>) -> anyhow::Result<()> {
    let lines =
        pods.log_stream("entered", &LogParams { follow: true, ..LogParams::default() }).await?.lines();
    pin_mut!(lines);
    let first = lines.try_next().await?.context("nothing was written")?;
    ensure!(first.contains("answers on port 80"), "{first}");
    let whole = pods.logs("entered", &LogParams { tail_lines: Some(1), ..LogParams::default() }).await?;
    ensure!(whole.lines().count() == 1, "{whole}");
    Ok(())
}

async fn forwards(pods: &Api<Pod>) -> anyhow::Result<()> {
    let mut forwarder = pods.portforward("entered", &[80]).await?;
    let mut port = forwarder.take_stream(80).context("no stream")?;
    port.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    port.read_to_string(&mut answer).await?;
    ensure!(answer.contains("Welcome to nginx!"), "{answer}");
    // The server has closed when the pod had: there is nothing left to close here.
    forwarder.abort();
    // Nobody listens there, and that is said.
    let mut forwarder = pods.portforward("entered", &[81]).await?;
    let said = forwarder.take_error(81).context("no channel for errors")?.await;
    ensure!(said.is_some_and(|said| said.contains("refused")), "a port that is closed");
    Ok(())
}
