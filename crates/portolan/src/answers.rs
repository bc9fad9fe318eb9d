//! Answers to `portolan get`: from the plans that the proxy's loop has, and from names.

mod names;

use std::sync::mpsc;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use portolan_dataplane::OpenTraffic;
use portolan_names::Names;
use portolan_observe::control::{Answered, AskProxy, Query, Table};
use portolan_probe::Prober;
use portolan_service::ServicePlan;

use crate::announcing::Addresses;
use crate::event::Event;
use crate::mailbox::Sender;
use crate::probing;
use crate::traffic::Rows;

/// The proxy's loop answers within this time or is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What else than the proxy's loop is asked.
pub(crate) struct Others {
    /// What opens what the kernel has counted, in a mode where it counts.
    pub(crate) counted: Option<OpenTraffic>,
    /// The names that the node answers for.
    pub(crate) names: Vec<Arc<RwLock<Names>>>,
    /// Who probes Pods.
    pub(crate) prober: Prober,
}

/// Has the proxy's loop asked for what is in force, and `others` for what they know.
pub(crate) fn of_proxy(events: Sender<Event>, others: Others) -> AskProxy {
    Arc::new(move |query| {
        if query.table == Table::Names {
            return names::page(&others.names, &query);
        }
        let answered = if query.table == Table::Addresses {
            asked(&events, Event::AddressesAsked).map(|addresses| address_rows(&query, addresses))
        } else {
            asked(&events, Event::Asked).map(|plans| rows(&query, plans, &others))
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

fn rows(query: &Query, mut plans: Vec<Arc<ServicePlan>>, others: &Others) -> Answered {
    if let Some(namespace) = &query.namespace {
        plans.retain(|plan| plan.name.namespace() == namespace);
    }
    if let Some(name) = &query.which.name {
        plans.retain(|plan| plan.name.name() == name);
    }
    plans.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let mut rows = Rows::new(others.counted);
    match query.table {
        Table::Services => Answered::Services(plans.iter().flat_map(|plan| rows.services(plan)).collect()),
        Table::Endpoints => {
            // Which Pods are those of one Service is not known here.
            let all = query.which.name.is_none();
            let pods = all.then(|| probing::rows(&others.prober, query.namespace.as_deref()));
            let endpoints = plans.iter().flat_map(|plan| rows.endpoints(plan)).collect();
            Answered::Endpoints(endpoints, pods.unwrap_or_default())
        }
        Table::Addresses | Table::Changes | Table::Status | Table::Names => {
            Answered::Unavailable("not for the proxy's loop to answer".to_owned())
        }
    }
}
