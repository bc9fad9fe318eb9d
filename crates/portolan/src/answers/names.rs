//! Answers about names, a page at a time. Whoever answers questions for names waits for none of it:
//! the lock is held for as long as it takes to look at a few Services.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use portolan_names::wire::kind;
use portolan_names::{Listed, Names};
use portolan_observe::control::{Answered, Place, Query};
use portolan_observe::rows::NameRow;
use portolan_service::ObjectName;

/// A page has so many Services at most,
const SERVICES: usize = 500;
/// and ends after so many rows.
const ROWS: usize = 2000;
/// So many Services are looked at while the lock is held.
const AT_A_TIME: usize = 500;

/// The page of the names in `served` that `query` asks for.
pub(super) fn page(served: &[Arc<RwLock<Names>>], query: &Query) -> Answered {
    let unavailable = |why: &str| Answered::Unavailable(why.to_owned());
    let Some(first) = served.first() else {
        return unavailable(
            "it answers no questions for names: `portolan dns` does, or `portolan run` if its flags say so",
        );
    };
    if !served.iter().all(|names| read(names).is_synced()) {
        return unavailable(
            "the names are not known yet, and questions are answered with SERVFAIL; ask again",
        );
    }
    let wanted = match &query.which.name {
        Some(text) => Wanted::parse(text, &read(first).domains()),
        None => Wanted::default(),
    };
    let after = query.which.after.as_ref();
    let found = services(served, query, &wanted);
    let full = found.len() == SERVICES;
    let (mut rows, mut last) = (Vec::new(), None);
    for name in found {
        let mut of_service = rows_of(served, &name, query.which.all, &wanted);
        let before = after.filter(|place| place.service == name.as_str()).map_or(0, |place| place.rows);
        let room = ROWS - rows.len();
        let left = of_service.len().saturating_sub(before);
        rows.extend(of_service.drain(..).skip(before).take(room));
        if left >= room {
            let rows_before = if left == room { 0 } else { before + room };
            let next = Place { service: name.as_str().to_owned(), rows: rows_before };
            return Answered::Names(rows, Some(next));
        }
        last = Some(name);
    }
    let next = last.filter(|_| full).map(|name| Place { service: name.as_str().to_owned(), rows: 0 });
    Answered::Names(rows, next)
}

fn read(names: &RwLock<Names>) -> RwLockReadGuard<'_, Names> {
    names.read().unwrap_or_else(PoisonError::into_inner)
}

/// The next Services that are asked for, in order.
fn services(served: &[Arc<RwLock<Names>>], query: &Query, wanted: &Wanted) -> BTreeSet<ObjectName> {
    let mut first = BTreeSet::new();
    let is_after = |name: &ObjectName| match &query.which.after {
        None => true,
        Some(place) if place.rows > 0 => name.as_str() >= &*place.service,
        Some(place) => name.as_str() > &*place.service,
    };
    for names in served {
        let mut from = Some(0);
        while let Some(at) = from {
            from = read(names).services_at(at, AT_A_TIME, |name| {
                let of_namespace = query.namespace.as_ref().is_none_or(|wanted| wanted == name.namespace());
                if of_namespace && is_after(name) && wanted.is_of(name) {
                    let one_too_many =
                        first.len() == SERVICES && first.last().is_some_and(|last| last <= name);
                    if !one_too_many {
                        first.insert(name.clone());
                    }
                    if first.len() > SERVICES {
                        first.pop_last();
                    }
                }
            });
        }
    }
    first
}

/// The rows of one Service. Names that several server blocks have are there once.
fn rows_of(served: &[Arc<RwLock<Names>>], name: &ObjectName, all: bool, wanted: &Wanted) -> Vec<NameRow> {
    let (mut rows, mut seen) = (Vec::new(), HashSet::new());
    for names in served {
        // The lock is let go before anything is written.
        let (service, domains) = {
            let names = read(names);
            (names.served(name), names.domains())
        };
        // What the settings leave out is no news, unless it is asked for.
        let shown = service.filter(|service| service.is_shown() || wanted.service.is_some());
        let Some(service) = shown else { continue };
        for domain in &domains {
            let listed = service.records(domain, all || wanted.front.is_some());
            for row in listed.into_iter().filter(|row| wanted.takes(&row.name)) {
                if served.len() == 1 || seen.insert((row.name.clone(), row.kind)) {
                    rows.push(shown_row(name, row));
                }
            }
        }
    }
    rows
}

fn shown_row(service: &ObjectName, row: Listed) -> NameRow {
    let no_name = row.absent.as_ref().is_some_and(portolan_names::Absent::is_no_name);
    NameRow {
        name: row.name,
        namespace: service.namespace().to_owned(),
        service: service.name().to_owned(),
        rcode: if no_name { "NXDOMAIN" } else { "NOERROR" }.to_owned(),
        kind: if row.absent.is_some() { String::new() } else { kind::name(row.kind).into_owned() },
        ttl: row.ttl,
        answers: row.data,
        reason: row.absent.map(|absent| absent.to_string()),
    }
}

/// Which names are asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    service: Option<String>,
    namespace: Option<String>,
    /// What is before the Service's name; then only this name.
    front: Option<String>,
}

impl Wanted {
    /// `SERVICE`, `SERVICE.NAMESPACE` or `FRONT.SERVICE.NAMESPACE`, with or without the rest of a
    /// name in one of `domains`.
    fn parse(text: &str, domains: &[String]) -> Wanted {
        let text = text.trim_end_matches('.').to_ascii_lowercase();
        let without = |end: &str| text.strip_suffix(end)?.strip_suffix('.');
        let inside = domains.iter().find_map(|domain| without(&domain.to_ascii_lowercase()));
        let text = inside.unwrap_or(&text);
        let mut labels = text.strip_suffix(".svc").unwrap_or(text).rsplitn(3, '.');
        let parts = [labels.next(), labels.next(), labels.next()].map(|part| part.map(str::to_owned));
        match parts {
            [service, None, _] => Wanted { service, ..Wanted::default() },
            [namespace, service, front] => Wanted { service, namespace, front },
        }
    }

    fn is_of(&self, service: &ObjectName) -> bool {
        let is = |wanted: &Option<String>, part: &str| wanted.as_ref().is_none_or(|wanted| wanted == part);
        is(&self.service, service.name()) && is(&self.namespace, service.namespace())
    }

    fn takes(&self, name: &str) -> bool {
        let Some(front) = &self.front else { return true };
        let (Some(service), Some(namespace)) = (&self.service, &self.namespace) else { return true };
        let rest = name.to_ascii_lowercase();
        let rest = rest.strip_prefix(&**front).and_then(|rest| rest.strip_prefix('.'));
        rest.is_some_and(|rest| rest.starts_with(&format!("{service}.{namespace}.svc.")))
    }
}

#[cfg(test)]
mod tests;
