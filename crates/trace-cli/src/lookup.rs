//! What a DNS name stands for, and why: the questions that a pod's resolver asks for it, one after
//! the other, and what the cluster's DNS answers from the same objects that rules are made of.

mod answers;
mod client;
mod report;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use portolan_controllers::Naming;
use portolan_names::Names;
use portolan_service::{Family, ObjectName};
use serde::Serialize;

pub(crate) use answers::{Answer, Code};
pub(crate) use client::{Client, client};

use crate::names::Names as Known;

/// The Service of the cluster's DNS.
pub(crate) const DNS_SERVICE: (&str, &str) = ("kube-system", "kube-dns");

/// Who answers names, and what pods say of them.
#[derive(Debug)]
pub(crate) struct Dns {
    pub(crate) names: Names,
    /// The cluster's domain.
    pub(crate) domain: String,
    /// What pods say of names, where they say anything.
    pub(crate) naming: HashMap<ObjectName, Arc<Naming>>,
    /// Only Services with an address are known.
    pub(crate) partial: bool,
}

/// How a name is looked up.
#[derive(Debug, Serialize)]
pub(crate) struct Lookup {
    /// The name, as asked for.
    pub(crate) name: String,
    /// Who asks.
    pub(crate) client: String,
    /// Whom it asks; empty if that is not known.
    pub(crate) servers: Vec<IpAddr>,
    /// The domains it searches.
    pub(crate) search: Vec<String>,
    /// Options of its resolver.
    pub(crate) options: Vec<String>,
    /// What it asks until it has found something.
    pub(crate) questions: Vec<Answer>,
}

impl Lookup {
    /// Looks `name` up as `client` does, for addresses of `families`, as glibc asks.
    pub(crate) fn of(name: &str, client: &Client, families: &[Family], dns: &Dns, known: &Known) -> Lookup {
        let mut questions: Vec<Answer> = Vec::new();
        for full in client.conf.questions(name) {
            let asked = families.iter().map(|family| answers::ask(dns, known, &full, *family));
            questions.extend(asked);
            if questions.iter().any(|answer| !answer.addresses.is_empty()) {
                break;
            }
        }
        Lookup {
            name: name.to_owned(),
            client: client.title.clone(),
            servers: client.conf.servers.clone(),
            search: client.conf.searches.clone(),
            options: client.conf.options.clone(),
            questions,
        }
    }

    /// The addresses that were found, each once.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in self.questions.iter().flat_map(|answer| &answer.addresses) {
            if !addresses.contains(address) {
                addresses.push(*address);
            }
        }
        // An answer is shuffled.
        addresses.sort();
        addresses
    }
}
