//! Kubernetes objects as an API server keeps them: by resource, under resource versions, read by
//! lists (whole or page by page) and followed by watches, with label and field selectors.
//!
//! It has no network, no clock and no threads: a server puts requests in and sends what comes out.
//!
//! ```
//! use portolan_store::{Definition, ListOptions, Selector, Store, Watch, WatchOptions};
//!
//! static PODS: Definition = Definition {
//!     group: "",
//!     version: "v1",
//!     plural: "pods",
//!     kind: "Pod",
//!     namespaced: true,
//!     selectable: &["spec.nodeName"],
//!     zero: r#"{"spec":{},"status":{}}"#,
//! };
//!
//! let mut store = Store::new(1_000);
//! let pod = serde_json::json!({ "metadata": { "namespace": "shop", "name": "web" } });
//! let version = store.apply(&PODS, pod.clone())?;
//! let page = store.list(&PODS, &Selector::default(), &ListOptions::default())?;
//! assert_eq!((page.version, page.objects.len()), (version, 1));
//!
//! let options = WatchOptions { from: Some(version), ..WatchOptions::default() };
//! let (mut watch, _) = Watch::start(&store, &PODS, Selector::default(), &options)?;
//! store.delete(&PODS, "shop", "web");
//! assert_eq!(watch.changes(&store, 10)?.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bookmark;
mod definition;
mod encoding;
mod failure;
mod list;
mod object;
mod selector;
mod store;
mod watch;

pub use bookmark::Bookmark;
pub use definition::Definition;
pub use encoding::{bookmark_line, error_line, list_metadata};
pub use failure::Failure;
pub use list::ListOptions;
pub use object::{Invalid, Object};
pub use selector::Selector;
pub use store::{Page, Store};
pub use watch::{Change, ChangeKind, Watch, WatchOptions};
