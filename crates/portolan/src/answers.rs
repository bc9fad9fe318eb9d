//! Answers to `portolan get`, from the plans that the proxy's loop has.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use portolan_observe::control::{Answered, AskProxy, Query, Table};
use portolan_observe::rows::{endpoint_rows, service_rows};
use portolan_service::ServicePlan;

use crate::event::Event;
use crate::mailbox::Sender;

/// The proxy's loop answers within this time or is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Has the proxy's loop asked for what is in force.
pub(crate) fn of_proxy(events: Sender<Event>) -> AskProxy {
    Arc::new(move |query| {
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

fn rows(query: &Query, mut plans: Vec<Arc<ServicePlan>>) -> Answered {
    if let Some(namespace) = &query.namespace {
        plans.retain(|plan| plan.name.namespace() == namespace);
    }
    plans.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    match query.table {
        Table::Services => Answered::Services(plans.iter().flat_map(|plan| service_rows(plan)).collect()),
        Table::Endpoints => Answered::Endpoints(plans.iter().flat_map(|plan| endpoint_rows(plan)).collect()),
        Table::Changes | Table::Status => {
            Answered::Unavailable("not for the proxy's loop to answer".to_owned())
        }
    }
}
