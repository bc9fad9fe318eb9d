//! Requests to the API server.

use std::ffi::OsStr;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures_util::{AsyncBufReadExt, TryStreamExt, pin_mut};
use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::WatchEvent;
use kube::{Client, Config};
use serde_json::Value;
use tokio::runtime::Runtime;

/// No single request may take longer; watches are renewed after it.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);

/// A client for callers that wait, each bounded in time.
pub struct Api {
    runtime: Runtime,
    client: Client,
}

impl Api {
    /// The API server that `kubeconfig`, as in the variable `KUBECONFIG`, leads to in its current
    /// context. Several files are separated by colons.
    pub fn connect(kubeconfig: &OsStr) -> anyhow::Result<Api> {
        let whole = std::env::split_paths(kubeconfig).filter(|path| !path.as_os_str().is_empty()).try_fold(
            Kubeconfig::default(),
            |whole, path| {
                let one = Kubeconfig::read_from(&path);
                whole.merge(one.with_context(|| path.display().to_string())?).context("merging kubeconfigs")
            },
        )?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let client = runtime.block_on(async {
            let config = Config::from_custom_kubeconfig(whole, &KubeConfigOptions::default()).await?;
            anyhow::Ok(Client::try_from(config)?)
        });
        Ok(Api { runtime, client: client.with_context(|| kubeconfig.display().to_string())? })
    }

    /// The object or list at `path`.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.value("GET", path, "", None)
    }

    /// The text at `path`, such as a log.
    pub fn text(&self, path: &str) -> anyhow::Result<String> {
        self.request("GET", path, "", None)
    }

    /// Creates an object in the collection at `path`, and returns it as the server has it.
    pub fn create(&self, path: &str, object: &Value) -> anyhow::Result<Value> {
        self.value("POST", path, "application/json", Some(object))
    }

    /// Merges `changes` into the object at `path` (RFC 7396).
    pub fn patch(&self, path: &str, changes: &Value) -> anyhow::Result<Value> {
        self.value("PATCH", path, "application/merge-patch+json", Some(changes))
    }

    /// Deletes the object at `path` and what it owns; whatever grace it has runs in the background.
    pub fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.value("DELETE", &format!("{path}?propagationPolicy=Background"), "", None).map(drop)
    }

    /// Follows the object `name` in the collection at `path` until `met` returns something, which
    /// it is asked for the object as it is and as it changes; `None` means that it does not exist.
    /// `what` is waited for, for people.
    pub fn wait<T>(
        &self,
        path: &str,
        name: &str,
        what: &str,
        within: Duration,
        mut met: impl FnMut(Option<&Value>) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        self.wait_for_any(path, &format!("fieldSelector=metadata.name%3D{name}"), what, within, |objects| {
            met(objects.first())
        })
    }

    /// As [`Api::wait`], for all objects that `selector` selects, a query such as
    /// `labelSelector=a%3Db`.
    pub fn wait_for_any<T>(
        &self,
        path: &str,
        selector: &str,
        what: &str,
        within: Duration,
        mut met: impl FnMut(&[Value]) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let mut last = Vec::new();
        let waiting = async {
            loop {
                let list = self.request_now("GET", &format!("{path}?{selector}"), "", None).await?;
                let mut list: Value = serde_json::from_str(&list).context("a list")?;
                let version = list["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
                last = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
                if let Some(found) = met(&last)? {
                    return Ok(found);
                }
                // Whatever changes after the list ends this; a list then shows what there is now.
                self.change_after(path, selector, &version).await?;
            }
        };
        match self.runtime.block_on(async { tokio::time::timeout(within, waiting).await }) {
            Ok(result) => result,
            Err(_) => bail!("{what}: not within {within:?}; last seen at {path}: {}", shown(&last)),
        }
    }

    /// Reads the text at `path`, such as a log that is followed, until it has a line as `met` says.
    pub fn wait_for_line(
        &self,
        path: &str,
        what: &str,
        within: Duration,
        mut met: impl FnMut(&str) -> bool,
    ) -> anyhow::Result<()> {
        let mut last = String::new();
        let reading = async {
            let request = Request::get(path).body(Vec::new())?;
            let text = self.client.request_stream(request).await.with_context(|| format!("GET {path}"))?;
            let lines = text.lines();
            pin_mut!(lines);
            while let Some(line) = lines.try_next().await? {
                if met(&line) {
                    return Ok(true);
                }
                last = line;
            }
            anyhow::Ok(false)
        };
        match self.runtime.block_on(async { tokio::time::timeout(within, reading).await }) {
            Ok(found) => {
                anyhow::ensure!(found?, "{what}: {path} has ended; its last line: {last}");
                Ok(())
            }
            Err(_) => bail!("{what}: not within {within:?}; the last line at {path}: {last}"),
        }
    }

    /// Waits for the first change after `version`, or until it is time to look again.
    async fn change_after(&self, path: &str, selector: &str, version: &str) -> anyhow::Result<()> {
        let seconds = REQUEST_WITHIN.as_secs();
        let path = format!("{path}?{selector}&watch=1&resourceVersion={version}&timeoutSeconds={seconds}");
        let request = Request::get(&path).body(Vec::new())?;
        let events = self.client.request_events::<Value>(request).await;
        let events = events.with_context(|| format!("GET {path}"))?;
        pin_mut!(events);
        // An error or the end of the stream: the list that follows says more.
        while let Ok(Some(event)) = events.try_next().await {
            if !matches!(event, WatchEvent::Bookmark(_)) {
                break;
            }
        }
        Ok(())
    }

    fn value(&self, method: &str, path: &str, kind: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let text = self.request(method, path, kind, body)?;
        serde_json::from_str(&text).with_context(|| format!("{method} {path}: not JSON: {text}"))
    }

    fn request(&self, method: &str, path: &str, kind: &str, body: Option<&Value>) -> anyhow::Result<String> {
        self.runtime.block_on(async {
            tokio::time::timeout(REQUEST_WITHIN, self.request_now(method, path, kind, body))
                .await
                .map_err(|_| anyhow!("{method} {path}: no answer within {REQUEST_WITHIN:?}"))?
        })
    }

    async fn request_now(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<String> {
        let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let mut request = Request::builder().method(method).uri(path);
        if !kind.is_empty() {
            request = request.header("Content-Type", kind);
        }
        let answer = self.client.request_text(request.body(body)?).await;
        answer.with_context(|| format!("{method} {path}"))
    }
}

/// The end of a wait in a few lines: what the objects' status is.
fn shown(objects: &[Value]) -> String {
    if objects.is_empty() {
        return "nothing".to_owned();
    }
    let line = |object: &Value| {
        let rest = if object["status"].is_null() { &object["endpoints"] } else { &object["status"] };
        format!("{}: {rest}", object["metadata"]["name"].as_str().unwrap_or_default())
    };
    objects.iter().map(line).collect::<Vec<_>>().join("; ")
}

/// Whether `error` is the API server's answer with this HTTP status.
pub fn is_status(error: &anyhow::Error, code: u16) -> bool {
    matches!(error.downcast_ref::<kube::Error>(), Some(kube::Error::Api(status)) if status.code == code)
}
