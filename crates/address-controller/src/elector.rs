//! Does what the election says about the Lease.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use portolan_kubernetes::{Api, Failure, Send};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::election::{Claim, Election, Lease, Step, Timing};
use crate::status::Status;

/// Reads, takes, renews and gives back a Lease.
pub(crate) struct Elector {
    pub(crate) api: Api,
    pub(crate) election: Rc<RefCell<Election>>,
    pub(crate) status: Arc<Status>,
    /// Notified when the Lease is ours, or somebody else's.
    pub(crate) changed: Rc<Notify>,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) identity: String,
    pub(crate) timing: Timing,
}

impl Elector {
    /// Takes part in the election for ever.
    pub(crate) async fn run(&self) {
        // The Lease as it was last seen, with labels and annotations that are not ours.
        let mut document = Value::Null;
        let (mut holder, mut failing) = (String::new(), false);
        loop {
            let step = self.election.borrow_mut().next(Instant::now());
            let done = match step {
                Step::Rest(until) => {
                    tokio::time::sleep_until(until.into()).await;
                    continue;
                }
                Step::Read => self.read().await,
                Step::Claim(claim) => self.claim(&document, &claim).await,
            };
            match done {
                Ok(seen) => {
                    document = seen;
                    self.status.heard();
                    failing = false;
                }
                Err(failure) if std::mem::replace(&mut failing, true) => {
                    tracing::debug!(reason = %failure, "the Lease cannot be read or written");
                }
                Err(failure) => warn!(
                    lease = %format_args!("{}/{}", self.namespace, self.name),
                    reason = %failure,
                    "the Lease cannot be read or written; trying again"
                ),
            }
            let now = document["spec"]["holderIdentity"].as_str().unwrap_or_default();
            if now != holder {
                now.clone_into(&mut holder);
                info!(holder, "who has the Lease");
            }
            self.changed.notify_one();
        }
    }

    /// Reads it; null, if there is none.
    async fn read(&self) -> Result<Value, Failure> {
        let read = match self.api.get(&self.path(), self.patience()).await {
            Err(failure) if failure.code() == Some(404) => Ok(Value::Null),
            read => read,
        };
        let mut election = self.election.borrow_mut();
        match &read {
            Ok(document) => election.has_read(lease_of(document), Instant::now()),
            Err(_) => election.failed(Instant::now()),
        }
        read
    }

    async fn claim(&self, document: &Value, claim: &Claim) -> Result<Value, Failure> {
        let now = timestamp();
        let spec = json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.timing.lease.as_secs().max(1),
            "acquireTime": claim.acquired.as_ref().unwrap_or(&now),
            "renewTime": now,
            "leaseTransitions": claim.transitions,
        });
        let sent = Instant::now();
        let done = self.write(document, claim.version.as_deref(), spec).await;
        let mut election = self.election.borrow_mut();
        match &done {
            Ok(document) => {
                if let Some(lease) = lease_of(document) {
                    election.accepted(lease, sent);
                }
            }
            // It is another one by now, or there is one, or none.
            Err(failure) if matches!(failure.code(), Some(404 | 409)) => {
                election.conflict(Instant::now());
                return Ok(document.clone());
            }
            Err(_) => election.failed(Instant::now()),
        }
        done
    }

    /// Writes `spec` in place of the one that the Lease has in this version.
    async fn write(&self, document: &Value, version: Option<&str>, spec: Value) -> Result<Value, Failure> {
        let mut lease = if document.is_object() { document.clone() } else { json!({}) };
        lease["apiVersion"] = "coordination.k8s.io/v1".into();
        lease["kind"] = "Lease".into();
        lease["spec"] = spec;
        if let Some(version) = version {
            lease["metadata"]["resourceVersion"] = version.into();
            return self.api.send(&self.path(), Send::Replace(&lease), self.patience()).await;
        }
        lease["metadata"] = json!({ "namespace": self.namespace, "name": self.name });
        self.api.send(&self.collection(), Send::Create(&lease), self.patience()).await
    }

    /// Gives the Lease back, if it is ours, so that another need not wait. Nothing that needs it
    /// may be under way.
    pub(crate) async fn release(&self) {
        let Ok(document) = self.api.get(&self.path(), self.patience()).await else { return };
        let Some(lease) = lease_of(&document).filter(|lease| lease.holder == self.identity) else { return };
        let mut spec = document["spec"].clone();
        // As client-go has it.
        spec["holderIdentity"] = "".into();
        spec["leaseDurationSeconds"] = 1.into();
        spec["renewTime"] = timestamp().into();
        match self.write(&document, Some(&lease.version), spec).await {
            Ok(_) => info!("the Lease is given back"),
            Err(failure) => {
                warn!(reason = %failure, "the Lease cannot be given back; others wait until it ends");
            }
        }
    }

    /// How long a request may take, so that there is time for another one.
    fn patience(&self) -> Duration {
        self.timing.renew_within / 2
    }

    fn collection(&self) -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.namespace)
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collection(), self.name)
    }
}

/// What a Lease says; `None`, if this is none.
fn lease_of(document: &Value) -> Option<Lease> {
    let version = document["metadata"]["resourceVersion"].as_str()?.to_owned();
    let spec = &document["spec"];
    Some(Lease {
        version,
        holder: spec["holderIdentity"].as_str().unwrap_or_default().to_owned(),
        duration: Duration::from_secs(spec["leaseDurationSeconds"].as_u64().unwrap_or_default()),
        acquired: spec["acquireTime"].as_str().map(str::to_owned),
        transitions: spec["leaseTransitions"].as_u64().unwrap_or_default(),
    })
}

/// Now, as the API's `MicroTime`: with six digits.
fn timestamp() -> String {
    format!("{:.6}", Timestamp::now())
}
