//! Watches: what follows from where the client stands, as the store has it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::bookmark::Bookmark;
use crate::definition::Definition;
use crate::encoding::event_line;
use crate::failure::Failure;
use crate::object::Object;
use crate::selector::Selector;
use crate::store::{Event, Expired, Store};

/// The options of a watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// The version from which to go on; none: begin with the objects that there are.
    pub from: Option<u64>,
    /// Whether bookmarks are wanted.
    pub bookmarks: bool,
    /// Whether the watch is a streaming list: the objects that there are, a bookmark, then events.
    pub initial_events: bool,
    /// How long it lasts, if the client says so.
    pub timeout: Option<Duration>,
}

impl WatchOptions {
    /// Reads them from the parameters of a query, which `parameter` looks up, and refuses what a
    /// real server refuses. `streaming_lists` says whether `sendInitialEvents` is offered.
    pub fn read<'a>(
        parameter: impl Fn(&str) -> Option<&'a str>,
        streaming_lists: bool,
    ) -> Result<Self, Failure> {
        let truth = |name: &str| matches!(parameter(name), Some("true" | "1"));
        let forbidden = |message: &str| Err(Failure::invalid_options(message));
        if parameter("sendInitialEvents").is_some() && !streaming_lists {
            return forbidden(
                "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList \
                 feature gate is enabled",
            );
        }
        match (parameter("sendInitialEvents"), parameter("resourceVersionMatch")) {
            (Some(_), Some("NotOlderThan")) | (None, None) => {}
            (Some(_), _) => {
                return forbidden(
                    "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to \
                     NotOlderThan",
                );
            }
            (None, Some(_)) => {
                return forbidden(
                    "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless \
                     sendInitialEvents is provided",
                );
            }
        }
        let from = match parameter("resourceVersion") {
            None | Some("" | "0") => None,
            Some(text) => Some(text.parse().map_err(|_| {
                Failure::invalid_options(&format!(
                    "resourceVersion: Invalid value: {text:?}: resourceVersion must be a number"
                ))
            })?),
        };
        let timeout = match parameter("timeoutSeconds") {
            None | Some("" | "0") => None,
            Some(text) => {
                let seconds = text
                    .parse()
                    .map_err(|_| Failure::new(400, format!("timeoutSeconds: invalid value: {text:?}")))?;
                Some(Duration::from_secs(seconds))
            }
        };
        let initial_events = truth("sendInitialEvents");
        Ok(Self { from, bookmarks: truth("allowWatchBookmarks"), initial_events, timeout })
    }
}

/// What happened to an object, as a watch sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new, or has entered the selection.
    Added,
    /// It has changed.
    Modified,
    /// It is gone, or has left the selection.
    Deleted,
}

/// What a watch sends about an object.
#[derive(Debug, Clone)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The object as it is sent, at the version of the event.
    pub object: Arc<Object>,
    /// The version under which this state of it was stored: of what is deleted, an older one.
    pub stored: u64,
}

impl ChangeKind {
    /// `type` of the event.
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

impl Change {
    fn added(object: Arc<Object>) -> Self {
        Self { kind: ChangeKind::Added, stored: object.version(), object }
    }

    /// The line that reports it.
    pub fn line(&self) -> Bytes {
        event_line(self.kind.name(), &self.object)
    }
}

/// A watch that was accepted.
#[derive(Debug)]
pub struct Watch {
    definition: &'static Definition,
    selector: Selector,
    /// Everything up to this version has been sent.
    sent: u64,
    /// Events up to this version are not wanted: a client may start from a version that is yet to
    /// come.
    skip: u64,
    bookmarks: bool,
}

impl Watch {
    /// Begins a watch, and gives what is to be sent before anything else: the objects that there
    /// are. After these, a streaming list gets [`Self::end_of_initial_events`].
    ///
    /// Fails with 410 if what followed the version is no longer known, and with 504 if a streaming
    /// list asks for a version that is yet to come.
    pub fn start(
        store: &Store,
        definition: &'static Definition,
        selector: Selector,
        options: &WatchOptions,
    ) -> Result<(Self, Vec<Change>), Failure> {
        let current = store.version();
        let initial = match options.from {
            Some(from) if options.initial_events && from > current => {
                return Err(Failure::too_new(from, current));
            }
            Some(from) if !options.initial_events => {
                store.can_watch(definition, from).map_err(|Expired| Failure::too_old(from, current))?;
                Vec::new()
            }
            _ => store.select(definition, &selector).into_iter().map(Change::added).collect(),
        };
        let from = if options.initial_events { None } else { options.from };
        let watch = Self {
            definition,
            selector,
            sent: from.unwrap_or(current).min(current),
            skip: from.unwrap_or(0),
            bookmarks: options.bookmarks,
        };
        Ok((watch, initial))
    }

    /// What has happened since the last call, of at most `limit` events. It may be nothing although
    /// the store has more, because other objects are selected: call again at once while
    /// [`Self::is_behind`].
    ///
    /// Fails with 410 if the history no longer reaches back.
    pub fn changes(&mut self, store: &Store, limit: usize) -> Result<Vec<Change>, Failure> {
        let events = store.events(self.definition, self.sent, limit);
        let events = events.map_err(|Expired| Failure::too_old(self.sent, store.version()))?;
        // Whatever happened to other resources has been seen as well.
        self.sent = match events.last() {
            Some(last) if events.len() == limit => last.version,
            _ => store.version(),
        };
        Ok(events
            .iter()
            .filter(|event| event.version > self.skip)
            .filter_map(|event| self.seen(event))
            .collect())
    }

    /// Whether the store holds events that [`Self::changes`] has not given.
    pub fn is_behind(&self, store: &Store) -> bool {
        self.sent < store.version()
    }

    /// The event as this selection sees it: what leaves it is deleted, what enters it is added.
    fn seen(&self, event: &Event) -> Option<Change> {
        let selected = |object: &&Arc<Object>| self.selector.matches(object);
        let object = event.object.as_ref().filter(selected);
        let previous = event.previous.as_ref().filter(selected);
        let (kind, object, stored) = match (object, previous) {
            (Some(object), None) => (ChangeKind::Added, Arc::clone(object), event.version),
            (Some(object), Some(_)) => (ChangeKind::Modified, Arc::clone(object), event.version),
            (None, Some(previous)) => {
                (ChangeKind::Deleted, Arc::new(previous.at_version(event.version)), previous.version())
            }
            (None, None) => return None,
        };
        Some(Change { kind, object, stored })
    }

    /// The bookmark that is due now, if the client wants any. A client that is ahead of the store
    /// hears nothing.
    pub fn bookmark(&self) -> Option<Bookmark> {
        let due = self.bookmarks && self.sent >= self.skip;
        due.then_some(Bookmark { version: self.sent, ends_initial_events: false })
    }

    /// The bookmark that ends the initial events of a streaming list.
    pub fn end_of_initial_events(&self) -> Bookmark {
        Bookmark { version: self.sent, ends_initial_events: true }
    }
}
