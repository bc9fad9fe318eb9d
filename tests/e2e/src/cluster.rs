//! A namespace of our own in a cluster, and its nodes.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::api::{Api, is_status};
use crate::node::{Node, is_ready, nodes};
use crate::objects;
use crate::pod::{Output, Place};

/// The image of servers and clients: kubernetes' own for tests, or one that has the same commands.
const IMAGE: &str = "registry.k8s.io/e2e-test-images/agnhost:2.53";
/// Pulling an image and starting a pod may take this long.
const POD_WITHIN: Duration = Duration::from_mins(3);
/// The controllers of a cluster bring a change of pods into its EndpointSlices within this.
const CONTROLLERS_WITHIN: Duration = Duration::from_mins(1);
/// All objects of a namespace are gone this long after it was deleted.
const DELETED_WITHIN: Duration = Duration::from_mins(3);

/// A cluster under test, with a namespace that ends with this value.
pub struct Cluster {
    api: Api,
    namespace: String,
    image: String,
    nodes: Vec<Node>,
    clients: AtomicUsize,
    deleted: bool,
}

impl Cluster {
    /// Creates the namespace. `PORTOLAN_E2E_IMAGE` replaces the image of servers and clients.
    pub fn enter(api: Api) -> anyhow::Result<Cluster> {
        let nodes = nodes(&api.get("/api/v1/nodes")?);
        ensure!(!nodes.is_empty(), "the cluster has no node that is ready, runs Linux and has an InternalIP");
        let namespace = api.create(
            "/api/v1/namespaces",
            &json!({
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {
                    "generateName": "portolan-e2e-",
                    "labels": {
                        "app.kubernetes.io/created-by": "portolan-e2e",
                        // Clients on the nodes' own network need it.
                        "pod-security.kubernetes.io/enforce": "privileged",
                    },
                },
            }),
        )?;
        let namespace =
            namespace["metadata"]["name"].as_str().context("a namespace without a name")?.to_owned();
        let image = std::env::var("PORTOLAN_E2E_IMAGE").unwrap_or_else(|_| IMAGE.to_owned());
        Ok(Cluster { api, namespace, image, nodes, clients: AtomicUsize::new(0), deleted: false })
    }

    /// The name of our namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Requests beyond those that are methods here.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The nodes that pods can run on; at least one.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node for the `i`th of things that should be apart where the cluster is large enough.
    pub fn node(&self, i: usize) -> &Node {
        &self.nodes[i % self.nodes.len()]
    }

    /// Where our objects of this kind are, such as `pods`.
    pub fn path(&self, resource: &str) -> String {
        let group = match resource {
            "endpointslices" => "apis/discovery.k8s.io/v1",
            _ => "api/v1",
        };
        format!("/{group}/namespaces/{}/{resource}", self.namespace)
    }

    /// Starts a server pod and waits until it is ready.
    pub fn start_server(&self, name: &str, tier: &str, node: &Node, linger: u32) -> anyhow::Result<()> {
        self.api.create(&self.path("pods"), &objects::server(name, tier, &node.name, &self.image, linger))?;
        self.wait_for_ready(name)
    }

    /// The object of a server pod, to be changed and given to [`Cluster::start`].
    pub fn server(&self, name: &str, tier: &str, node: &Node) -> Value {
        objects::server(name, tier, &node.name, &self.image, 0)
    }

    /// Creates a pod and waits until it is ready.
    pub fn start(&self, pod: &Value) -> anyhow::Result<()> {
        self.api.create(&self.path("pods"), pod)?;
        self.wait_for_ready(pod["metadata"]["name"].as_str().unwrap_or_default())
    }

    /// Has a pod end.
    pub fn delete_pod(&self, name: &str) -> anyhow::Result<()> {
        self.api.delete(&format!("{}/{name}", self.path("pods")))
    }

    /// The first address of a pod that has one.
    pub fn pod_ip(&self, name: &str) -> anyhow::Result<IpAddr> {
        let pod = self.api.get(&format!("{}/{name}", self.path("pods")))?;
        let ip = pod["status"]["podIP"].as_str().with_context(|| format!("pod {name} has no address"))?;
        Ok(ip.parse()?)
    }

    /// Merges `spec` into that of a Service, and returns it.
    pub fn patch_service(&self, name: &str, spec: &Value) -> anyhow::Result<Value> {
        self.api.patch(&format!("{}/{name}", self.path("services")), &json!({"spec": spec}))
    }

    /// Deletes a Service.
    pub fn delete_service(&self, name: &str) -> anyhow::Result<()> {
        self.api.delete(&format!("{}/{name}", self.path("services")))
    }

    /// Creates a Service (see [`objects::service`]) and returns it with what the cluster has
    /// allocated.
    pub fn create_service(&self, name: &str, key: &str, value: &str, spec: &Value) -> anyhow::Result<Value> {
        self.api.create(&self.path("services"), &objects::service(name, key, value, spec))
    }

    /// Waits until the EndpointSlices of a Service have exactly these pods with `ready: true`.
    pub fn wait_for_endpoints(&self, service: &str, pods: &[&str]) -> anyhow::Result<()> {
        let mut expected = pods.to_vec();
        expected.sort_unstable();
        self.wait_for_slices(service, &format!("endpoints {expected:?}"), |endpoints| {
            let ready = endpoints.iter().filter(|endpoint| endpoint["conditions"]["ready"] != json!(false));
            let mut ready: Vec<&str> =
                ready.filter_map(|endpoint| endpoint["targetRef"]["name"].as_str()).collect();
            ready.sort_unstable();
            ready.dedup(); // one for each family
            ready == expected
        })
    }

    /// Waits until what a Service's EndpointSlices list together is as `met` says.
    pub fn wait_for_slices(
        &self,
        service: &str,
        what: &str,
        met: impl Fn(&[Value]) -> bool,
    ) -> anyhow::Result<()> {
        let selector = format!("labelSelector=kubernetes.io%2Fservice-name%3D{service}");
        let what = format!("Service {service}: {what}");
        self.api.wait_for_any(&self.path("endpointslices"), &selector, &what, CONTROLLERS_WITHIN, |slices| {
            let endpoints =
                slices.iter().flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
            let endpoints: Vec<Value> = endpoints.cloned().collect();
            Ok((!slices.is_empty() && met(&endpoints)).then_some(()))
        })
    }

    /// Runs `script` in a pod of its own and returns what it wrote and its exit code. It is ended
    /// after `within`.
    pub fn run(&self, place: Place<'_>, script: &str, within: Duration) -> anyhow::Result<Output> {
        let name = format!("client-{}", self.clients.fetch_add(1, Ordering::Relaxed));
        self.run_as(&name, place, script, within)
    }

    /// As [`Cluster::run`], in a pod called `name`.
    pub fn run_as(
        &self,
        name: &str,
        place: Place<'_>,
        script: &str,
        within: Duration,
    ) -> anyhow::Result<Output> {
        let (node, host) = match place {
            Place::Pod(node) => (node, false),
            Place::Host(node) => (node, true),
        };
        let seconds = (POD_WITHIN + within).as_secs();
        let pod = objects::client(name, &node.name, &self.image, host, script, seconds);
        self.api.create(&self.path("pods"), &pod)?;
        let path = self.path("pods");
        let what = format!("pod {name} on {} has run its script", node.name);
        let code = self.api.wait(&path, name, &what, POD_WITHIN + within, |pod| {
            let pod = pod.with_context(|| format!("pod {name} was deleted before it had ended"))?;
            Ok(exit_code(pod))
        })?;
        let output = self.api.text(&format!("{path}/{name}/log"))?;
        Ok(Output { code, text: output })
    }

    /// Waits until the pod called `name`, which may not have been created yet, has written a line
    /// with `part` in it.
    pub fn wait_for_output(&self, name: &str, part: &str) -> anyhow::Result<()> {
        let what = format!("pod {name} runs");
        self.api.wait(&self.path("pods"), name, &what, POD_WITHIN, |pod| {
            let phase = pod.and_then(|pod| pod["status"]["phase"].as_str());
            Ok(phase.filter(|phase| *phase != "Pending").map(drop))
        })?;
        let log = format!("{}/{name}/log?follow=true", self.path("pods"));
        let what = format!("{part:?} in the output of pod {name}");
        self.api.wait_for_line(&log, &what, POD_WITHIN, |line| line.contains(part))
    }

    /// Waits until the pod called `name` is ready or has ended; it may not have been created yet.
    pub fn wait_for_ready(&self, name: &str) -> anyhow::Result<()> {
        let what = format!("pod {name} is ready");
        self.api.wait(&self.path("pods"), name, &what, POD_WITHIN, |pod| {
            Ok(pod.filter(|pod| is_ready(pod) || exit_code(pod).is_some()).map(drop))
        })
    }

    /// Deletes the namespace and waits until it is gone.
    pub fn leave(mut self) -> anyhow::Result<()> {
        self.delete()?;
        let namespaces = "/api/v1/namespaces";
        let what = format!("namespace {} is gone", self.namespace);
        self.api.wait(namespaces, &self.namespace, &what, DELETED_WITHIN, |namespace| {
            Ok(namespace.is_none().then_some(()))
        })
    }

    fn delete(&mut self) -> anyhow::Result<()> {
        self.deleted = true;
        match self.api.delete(&format!("/api/v1/namespaces/{}", self.namespace)) {
            Err(error) if is_status(&error, 404) => Ok(()),
            done => done,
        }
    }
}

impl Drop for Cluster {
    /// However it ends, the namespace goes.
    fn drop(&mut self) {
        if !self.deleted
            && let Err(error) = self.delete()
        {
            eprintln!("namespace {} is left over: {error:#}", self.namespace);
        }
    }
}

/// The exit code of a pod that has ended; -1 if it was ended from outside.
fn exit_code(pod: &Value) -> Option<i64> {
    let status = &pod["status"];
    if !matches!(status["phase"].as_str(), Some("Succeeded" | "Failed")) {
        return None;
    }
    Some(status["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64().unwrap_or(-1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        for (status, expected) in [
            (json!({"phase": "Running"}), None),
            (json!({"phase": "Pending"}), None),
            (
                json!({"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": {"exitCode": 0}}}]}),
                Some(0),
            ),
            (
                json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 28}}}]}),
                Some(28),
            ),
            (json!({"phase": "Failed", "reason": "DeadlineExceeded"}), Some(-1)),
        ] {
            assert_eq!(exit_code(&json!({"status": status})), expected, "{status}");
        }
    }
}
