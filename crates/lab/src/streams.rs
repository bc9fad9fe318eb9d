//! What the API server asks about pods where they run: their logs, commands in them, and their
//! ports.
//!
//! What may block is done beside the server's thread; what is read and written goes through its
//! runtime. Whatever is begun for a client ends when the client goes away.

mod attach;
mod commands;
mod forward;
mod logs;
mod terminal;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use portolan_apiserver::{Duplex, Forward, Later, LogOptions, NodeSide, PodRef, Process, Run};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::live::{Live, LivePods};
use crate::pod::Log;

/// Answers for the pods that live.
#[derive(Debug)]
pub struct Streams {
    pods: LivePods,
}

impl Streams {
    /// Answers for these.
    pub fn new(pods: LivePods) -> Streams {
        Streams { pods }
    }
}

/// All of the errors have the words of kubelet, or of container runtimes.
impl NodeSide for Streams {
    fn log(&self, asked: PodRef, options: LogOptions) -> Later<mpsc::Receiver<io::Result<Bytes>>> {
        let pods = self.pods.clone();
        Box::pin(async move {
            let previous = options.previous;
            let log = aside(move || find_log(&pods, &asked, previous)).await?;
            Ok(logs::send(log, options))
        })
    }

    /// Whoever attaches gets what the container writes from now on. What is typed is lost: a
    /// container of the lab has no input.
    fn run(&self, asked: PodRef, run: Run) -> Later<Process> {
        let pods = self.pods.clone();
        Box::pin(aside(move || {
            let live = find(&pods, &asked)?;
            if !run.command.is_empty() {
                return commands::start(&live.pod, &asked.container, &run);
            }
            let log = live.pod.log(Some(&asked.container), false).ok().flatten();
            let log = log.filter(|log| !log.is_complete());
            Ok(attach::attach(&log.ok_or_else(|| commands::not_found(&asked.container))?, &run))
        }))
    }

    fn connect(&self, asked: PodRef, forward: Forward) -> Later<Box<dyn Duplex>> {
        let pods = self.pods.clone();
        Box::pin(async move {
            let (name, uid) = (metadata(&asked.pod, "name"), metadata(&asked.pod, "uid"));
            let whom = format!("error forwarding port {} to pod {name}, uid {uid}", forward.port);
            let sockets = aside(move || {
                let live = find(&pods, &asked)?;
                forward::sockets(&live.network).map_err(|error| error.to_string())
            });
            let stream = match sockets.await {
                Ok(sockets) => forward::connect(sockets, forward.port, &name).await,
                Err(message) => Err(message),
            };
            stream.map_err(|message| format!("{whom}: {message}"))
        })
    }
}

/// Does what may block, and what drops a pod, beside the server's thread.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    // It fails at the end of the server only.
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}

fn metadata(pod: &Value, field: &str) -> String {
    pod["metadata"][field].as_str().unwrap_or_default().to_owned()
}

/// The pod that is meant: not another one that has its name by now.
fn find(pods: &LivePods, asked: &PodRef) -> Result<Arc<Live>, String> {
    let name = metadata(&asked.pod, "name");
    match pods.get(&metadata(&asked.pod, "namespace"), &name) {
        Some(live) if live.uid == metadata(&asked.pod, "uid") => Ok(live),
        Some(_) => Err(format!("pod {name:?} has ended, and another one has its name: ask again")),
        None => {
            Err(format!("pod {name:?} does not run on its node; \"kubectl describe pod {name}\" may say why"))
        }
    }
}

fn find_log(pods: &LivePods, asked: &PodRef, previous: bool) -> Result<Log, String> {
    let (name, container) = (metadata(&asked.pod, "name"), &asked.container);
    let logs = match find(pods, asked) {
        Ok(live) => Some(live.pod.logs()),
        Err(message) => {
            let ended = pods.ended(&metadata(&asked.pod, "uid"));
            if ended.is_none() && waits_for(&asked.pod, container).is_none() {
                return Err(message);
            }
            ended
        }
    };
    let begun = logs.and_then(|logs| logs.of(Some(container), previous).ok());
    match begun {
        Some(Some(log)) => Ok(log),
        _ if previous => {
            Err(format!("previous terminated container {container:?} in pod {name:?} not found"))
        }
        _ => {
            let reason = waits_for(&asked.pod, container).unwrap_or("ContainerCreating");
            Err(format!("container {container:?} in pod {name:?} is waiting to start: {reason}"))
        }
    }
}

/// What a container waits for that has not begun, by the status of its pod.
fn waits_for<'a>(pod: &'a Value, container: &str) -> Option<&'a str> {
    let statuses = ["initContainerStatuses", "containerStatuses"]
        .iter()
        .filter_map(|list| pod["status"][*list].as_array())
        .flatten();
    let status = statuses.into_iter().find(|status| status["name"] == container);
    match status {
        Some(status) => status["state"]["waiting"]["reason"].as_str(),
        None if matches!(pod["status"]["phase"].as_str(), None | Some("Pending")) => {
            Some("ContainerCreating")
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn says_what_a_container_waits_for() {
        let waiting = |reason: &str| {
            json!({ "containerStatuses": [{ "name": "web", "state": { "waiting":
            { "reason": reason } } }], "phase": "Pending" })
        };
        for (status, expected) in [
            (json!({}), Some("ContainerCreating")),
            (json!({ "phase": "Pending" }), Some("ContainerCreating")),
            (json!({ "phase": "Succeeded" }), None),
            (waiting("CreateContainerError"), Some("CreateContainerError")),
            (json!({ "containerStatuses": [{ "name": "web", "state": { "running": {} } }] }), None),
        ] {
            assert_eq!(waits_for(&json!({ "status": status }), "web"), expected, "{status}");
        }
    }

    #[test]
    fn pods_that_do_not_live() {
        let pods = LivePods::default();
        let asked = |phase: &str| PodRef {
            pod: json!({ "metadata": { "name": "web-0", "namespace": "default", "uid": "u" },
                "status": { "phase": phase } }),
            container: "web".to_owned(),
        };
        let message =
            |phase: &str, previous| find_log(&pods, &asked(phase), previous).expect_err("nothing lives");
        assert_eq!(
            message("Pending", false),
            "container \"web\" in pod \"web-0\" is waiting to start: ContainerCreating"
        );
        assert_eq!(
            message("Pending", true),
            "previous terminated container \"web\" in pod \"web-0\" not found"
        );
        assert!(message("Running", false).starts_with("pod \"web-0\" does not run on its node"));
    }
}
