//! Tells people, as `events.k8s.io/v1` Events (spec §11.20).

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use serde_json::{Value, json};
use tracing::debug;

use crate::client::{Client, Failure};
use crate::outbox::Outbox;
use crate::{Event, Regarding};

/// An Event that repeats within this time is one of a series, as client-go has it.
const SERIES: Duration = Duration::from_mins(6);
/// At most this many series are remembered.
const SERIES_AT_MOST: usize = 128;
/// The API's limit on a note, in bytes.
const NOTE_AT_MOST: usize = 1024;
const COLLECTION: &str = "/apis/events.k8s.io/v1/namespaces";

/// Who reports.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// The name that people know, such as `kube-proxy`.
    pub controller: &'static str,
    /// The node, or what else says which of several it is.
    pub host: String,
}

/// Sends Events.
pub(crate) struct Publisher {
    client: Rc<Client>,
    reporter: Reporter,
    timeout: Duration,
    series: HashMap<Event, Series>,
}

/// An Event that was sent.
struct Series {
    name: String,
    count: u32,
    last: Instant,
}

impl Publisher {
    pub(crate) fn new(client: Rc<Client>, reporter: Reporter, timeout: Duration) -> Publisher {
        Publisher { client, reporter, timeout, series: HashMap::new() }
    }

    /// Sends what comes from `events` until nothing comes any more.
    pub(crate) async fn run(mut self, events: &Outbox) {
        while let Some((event, count)) = events.next().await {
            if let Err(failure) = self.send(event, count).await {
                debug!(reason = %failure, "an Event could not be sent");
            }
        }
    }

    /// Sends `event`, which has happened `count` times.
    async fn send(&mut self, event: Event, count: u32) -> Result<(), Failure> {
        let now = Instant::now();
        self.series.retain(|_, series| now.duration_since(series.last) < SERIES);
        let namespace = event.namespace().to_owned();
        if let Some(series) = self.series.get_mut(&event) {
            series.last = now;
            series.count = series.count.saturating_add(count);
            let patch = json!({"series": {"count": series.count, "lastObservedTime": micro_time()}});
            let target = format!("{COLLECTION}/{namespace}/events/{}", series.name);
            let body = Some(("application/strategic-merge-patch+json", patch.to_string().into_bytes()));
            match self.client.send("PATCH", &target, body, self.timeout).await {
                // The Event has expired on the server: a new one begins.
                Err(Failure::Refused { code: 404, .. }) => {}
                answer => return answer.map(drop),
            }
        }
        let name = format!("{}.{:016x}", event.subject(&self.reporter.host), unique());
        let mut json = event.to_json(&name, &self.reporter);
        if count > 1 {
            json["series"] = json!({"count": count, "lastObservedTime": micro_time()});
        }
        let body = json.to_string().into_bytes();
        let target = format!("{COLLECTION}/{namespace}/events");
        self.client.send("POST", &target, Some(("application/json", body)), self.timeout).await?;
        if self.series.len() < SERIES_AT_MOST {
            self.series.insert(event, Series { name, count, last: now });
        }
        Ok(())
    }
}

impl Event {
    fn namespace(&self) -> &str {
        match &self.regarding {
            Regarding::Node => "default",
            Regarding::Service { name, .. } => name.namespace(),
        }
    }

    /// The name of what it is about.
    fn subject<'a>(&'a self, node_name: &'a str) -> &'a str {
        match &self.regarding {
            Regarding::Node => node_name,
            Regarding::Service { name, .. } => name.name(),
        }
    }

    fn to_json(&self, name: &str, reporter: &Reporter) -> Value {
        let Reporter { controller, host } = reporter;
        let mut regarding = match &self.regarding {
            Regarding::Node => json!({"kind": "Node", "name": host}),
            Regarding::Service { name, .. } => json!({
                "apiVersion": "v1", "kind": "Service", "namespace": name.namespace(), "name": name.name(),
            }),
        };
        if let Regarding::Service { uid: Some(uid), .. } = &self.regarding {
            regarding["uid"] = uid.as_ref().into();
        }
        let end = (0..=self.note.len().min(NOTE_AT_MOST)).rev().find(|end| self.note.is_char_boundary(*end));
        json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": self.namespace()},
            "eventTime": micro_time(),
            "reportingController": controller,
            "reportingInstance": format!("{controller}-{host}"),
            "action": self.action,
            "reason": self.reason,
            "regarding": regarding,
            "note": &self.note[..end.unwrap_or(0)],
            "type": if self.warning { "Warning" } else { "Normal" },
        })
    }
}

/// Now, as the API's `MicroTime`: with six digits.
fn micro_time() -> String {
    format!("{:.6}", Timestamp::now())
}

/// A number that no other Event has: the time, as client-go takes it.
fn unique() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use portolan_service::ObjectName;

    use super::*;

    #[test]
    fn events_have_the_form_of_the_api() {
        let reporter = Reporter { controller: "kube-proxy", host: "node-1".to_owned() };
        let mut event = Event {
            regarding: Regarding::Node,
            warning: false,
            reason: "Starting",
            action: "StartKubeProxy",
            note: String::new(),
        };
        let json = event.to_json("node-1.0", &reporter);
        assert_eq!(
            json["regarding"],
            json!({"kind": "Node", "name": "node-1"}),
            "neither UID nor namespace, §11.20"
        );
        assert_eq!((json["type"].as_str(), json["note"].as_str()), (Some("Normal"), Some("")));
        assert_eq!(json["metadata"]["namespace"], "default");
        assert_eq!(json["reportingController"], "kube-proxy");
        let time = json["eventTime"].as_str().unwrap();
        assert_eq!(time.len(), "2026-01-01T00:00:00.000000Z".len(), "{time}");

        let name = ObjectName::new("shop", "cart");
        event.regarding = Regarding::Service { name, uid: Some("0-1".into()) };
        event.note = "ü".repeat(600);
        event.warning = true;
        let json = event.to_json("cart.0", &reporter);
        assert_eq!(json["note"].as_str().map(str::len), Some(1024), "cut between characters");
        assert_eq!(
            (&json["regarding"]["namespace"], &json["regarding"]["uid"]),
            (&json!("shop"), &json!("0-1"))
        );
        assert_eq!(json["type"], "Warning");
    }
}
