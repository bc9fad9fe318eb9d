//! What an answer of the API server would lead to, without an API server: for fuzzing.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use portolan_service::{Change, NamesChange};

use crate::collector::Collector;
use crate::decode::{self, WatchEvent};
use crate::record::Recorder;
use crate::resource::Resource;
use crate::split::{Lines, List, Part};
use crate::{Followed, Problem, Status, Update};

/// What an answer leads to.
#[derive(Debug, Default, PartialEq)]
pub struct DryRun {
    /// The changes in it.
    pub changes: Vec<Change>,
    /// Those of what only names come from.
    pub names: Vec<NamesChange>,
    /// What of it could not be decoded.
    pub problems: Vec<Problem>,
}

/// Reads an answer that comes in `pieces`, about the objects of `kind`: a watch's, or else a
/// list's. Returns nothing for a kind that is not followed.
pub fn dry_run<'a>(kind: &str, watch: bool, pieces: impl IntoIterator<Item = &'a [u8]>) -> DryRun {
    let Some(resource) = Resource::of_kind(kind) else { return DryRun::default() };
    let followed = Followed { node: true, names: true, pods: true };
    let status = Arc::new(Status::new(String::new(), followed));
    let mut collector = Collector::new(status, Recorder::open(None), followed, SystemTime::UNIX_EPOCH);
    let now = Instant::now();
    for required in [Resource::Services, Resource::EndpointSlices] {
        collector.begin_list(required, false);
        collector.finish_list(required, now);
    }
    collector.take();
    let (mut lines, mut list) = (Lines::default(), List::new());
    for piece in pieces {
        if watch {
            let read = lines.push(piece, |line| {
                match decode::event(resource, line) {
                    Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                        collector.put(resource, &object, now);
                    }
                    Ok(WatchEvent::Deleted(object)) => collector.remove(resource, &object, now),
                    Ok(WatchEvent::Bookmark { .. }) => {}
                    Ok(WatchEvent::Error { .. }) => return Err(()),
                    Err(undecodable) => collector.undecodable(resource, undecodable, now),
                }
                Ok(())
            });
            if read.is_err() {
                break;
            }
        } else {
            let read = list.push(piece, |part| {
                let Part::Item(text) = part else { return };
                match decode::object(resource, text) {
                    Ok(object) => {
                        // What the snapshot keeps of an object is read as the object.
                        assert_eq!(decode::object(resource, &object.to_json()).as_ref(), Ok(&object));
                        collector.put(resource, &object, now);
                    }
                    Err(undecodable) => collector.undecodable(resource, undecodable, now),
                }
            });
            if read.is_err() {
                break;
            }
        }
    }
    let update = collector.take();
    update
        .map(|Update { changes, names, problems, .. }| DryRun { changes, names, problems })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_lead_to_changes() {
        let slice = r#"{"metadata":{"namespace":"a","name":"b","labels":{"kubernetes.io/service-name":"s"}},"addressType":"IPv4"}"#;
        let list = format!(r#"{{"items":[{slice},7]}}"#);
        let run = dry_run("EndpointSlice", false, [list.as_bytes()]);
        assert_eq!((run.changes.len(), run.names.len(), run.problems.len()), (1, 0, 1));
        let watch = format!("{{\"type\":\"ADDED\",\"object\":{slice}}}\nrubbish\n");
        let (left, right) = watch.as_bytes().split_at(40);
        let whole = dry_run("EndpointSlice", true, [watch.as_bytes()]);
        assert_eq!(whole.changes, run.changes);
        assert_eq!(dry_run("EndpointSlice", true, [left, right]), whole);
        assert_eq!(dry_run("Secret", true, [watch.as_bytes()]), DryRun::default());
        let pod =
            r#"{"items":[{"metadata":{"namespace":"a","name":"b"},"status":{"podIPs":[{"ip":"::1"}]}}]}"#;
        assert_eq!(dry_run("Pod", false, [pod.as_bytes()]).names.len(), 1);
    }
}
