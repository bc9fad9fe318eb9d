//! Answers to `portolan get`: from the plans that the proxy's loop has, and from names.

mod names;

use std::sync::mpsc;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use portolan_names::Names;
use portolan_observe::control::{Answered, AskProxy, Query, Table};
use portolan_observe::rows::{endpoint_rows, service_rows};
use portolan_service::ServicePlan;

use crate::event::Event;
use crate::mailbox::Sender;

/// The proxy's loop answers within this time or is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Has the proxy's loop asked for what is in force. The node answers for the names of `served`.
pub(crate) fn of_proxy(events: Sender<Event>, served: Vec<Arc<RwLock<Names>>>) -> AskProxy {
    Arc::new(move |query| {
        if query.table == Table::Names {
            return names::page(&served, &query);
        }
        let (answer, answered) = mpsc::channel();
        if events.send(Event::Asked(answer)).is_err() {
            return Answered::Unavailable("the proxy is ending".to_owned());
        }
        match answered.recv_timeout(ANSWER_WITHIN) {
            Ok(plans) => rows(&query, plans),
            Err(_) => Answered::Unavailable(format!("the proxy was busy for {ANSWER_WITHIN:?}; ask again")),
        }
    })
}

/// Answers for names alone: those that `served` returns.
pub(crate) fn of_names(served: impl Fn() -> Vec<Arc<RwLock<Names>>> + Send + Sync + 'static) -> AskProxy {
    Arc::new(move |query| match query.table {
        Table::Names => names::page(&served(), &query),
        _ => Answered::Unavailable(
            "this process answers for names and forwards nothing: ask for names, or ask `portolan run`"
                .to_owned(),
        ),
    })
}

fn rows(query: &Query, mut plans: Vec<Arc<ServicePlan>>) -> Answered {
    if let Some(namespace) = &query.namespace {
        plans.retain(|plan| plan.name.namespace() == namespace);
    }
    plans.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    match query.table {
        Table::Services => Answered::Services(plans.iter().flat_map(|plan| service_rows(plan)).collect()),
        Table::Endpoints => Answered::Endpoints(plans.iter().flat_map(|plan| endpoint_rows(plan)).collect()),
        Table::Changes | Table::Status | Table::Names => {
            Answered::Unavailable("not for the proxy's loop to answer".to_owned())
        }
    }
}
