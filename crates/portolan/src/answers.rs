//! Answers to `portolan get`: from the plans that the proxy's loop has, and from names.

mod names;

use std::sync::mpsc;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use portolan_dataplane::OpenTraffic;
use portolan_names::Names;
use portolan_observe::control::{Answered, AskProxy, Query, Table};
use portolan_service::ServicePlan;

use crate::announcing::Addresses;
use crate::event::Event;
use crate::mailbox::Sender;
use crate::traffic::Rows;

/// The proxy's loop answers within this time or is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Has the proxy's loop asked for what is in force, and the kernel by `counted` for what it has
/// counted. The node answers for the names of `served`.
pub(crate) fn of_proxy(
    events: Sender<Event>,
    counted: Option<OpenTraffic>,
    served: Vec<Arc<RwLock<Names>>>,
) -> AskProxy {
    Arc::new(move |query| {
        if query.table == Table::Names {
            return names::page(&served, &query);
        }
        let answered = if query.table == Table::Addresses {
            asked(&events, Event::AddressesAsked).map(|addresses| address_rows(&query, addresses))
        } else {
            asked(&events, Event::Asked).map(|plans| rows(&query, plans, counted))
        };
        answered.unwrap_or_else(Answered::Unavailable)
    })
}

/// What the proxy's loop answers to a question. The error is for people.
fn asked<A>(events: &Sender<Event>, question: fn(mpsc::Sender<A>) -> Event) -> Result<A, String> {
    let (answer, answered) = mpsc::channel();
    events.send(question(answer)).map_err(|_| "the proxy is ending".to_owned())?;
    let busy = |_| format!("the proxy was busy for {ANSWER_WITHIN:?}; ask again");
    answered.recv_timeout(ANSWER_WITHIN).map_err(busy)
}

/// With a namespace, the addresses of Services in it.
fn address_rows(query: &Query, mut addresses: Addresses) -> Answered {
    if let Some(namespace) = &query.namespace {
        addresses.services.retain(|_, users| users.iter().any(|(name, _)| name.namespace() == namespace));
    }
    Answered::Addresses(addresses.rows())
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

fn rows(query: &Query, mut plans: Vec<Arc<ServicePlan>>, counted: Option<OpenTraffic>) -> Answered {
    if let Some(namespace) = &query.namespace {
        plans.retain(|plan| plan.name.namespace() == namespace);
    }
    if let Some(name) = &query.which.name {
        plans.retain(|plan| plan.name.name() == name);
    }
    plans.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let mut rows = Rows::new(counted);
    match query.table {
        Table::Services => Answered::Services(plans.iter().flat_map(|plan| rows.services(plan)).collect()),
        Table::Endpoints => Answered::Endpoints(plans.iter().flat_map(|plan| rows.endpoints(plan)).collect()),
        Table::Addresses | Table::Changes | Table::Status | Table::Names => {
            Answered::Unavailable("not for the proxy's loop to answer".to_owned())
        }
    }
}
