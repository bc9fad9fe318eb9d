//! `kubernetes`: names of the cluster.

use portolan_names::{NamespaceFilter, PodMode, Settings};

use super::domains_or;
use super::hosts::fallthrough;
use crate::directive::{Directive, Line};
use crate::problem::{Complaints, Place};
use crate::selector;

/// What names the cluster has, and where the objects come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Kubernetes {
    /// Where it is written.
    pub place: Place,
    /// The names.
    pub names: Settings,
    /// Where the objects come from, if the Corefile says.
    pub api: ApiServer,
}

/// How the API server is reached. The program's own flags come before it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApiServer {
    /// `endpoint`: its URL.
    pub endpoint: Option<(Place, String)>,
    /// `tls`: files with certificate, key and the authority's certificate.
    pub tls: Option<(Place, [String; 3])>,
    /// `kubeconfig`
    pub kubeconfig: Option<Kubeconfig>,
}

/// A kubeconfig.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// Where it is written.
    pub place: Place,
    /// The file.
    pub file: String,
    /// The context in it, if it is not the file's current one.
    pub context: Option<String>,
}

/// The domains of reverse names.
const REVERSE: [&str; 2] = ["in-addr.arpa", "ip6.arpa"];
const OPTIONS: [&str; 14] = [
    "endpoint",
    "tls",
    "kubeconfig",
    "namespaces",
    "namespace_labels",
    "pods",
    "endpoint_pod_names",
    "ttl",
    "noendpoints",
    "fallthrough",
    "ignore",
    "zonal",
    "startup_timeout",
    "apiserver_qps",
];

pub(crate) fn read(
    directive: &Directive,
    of_block: &[String],
    complaints: &mut Complaints<'_>,
) -> Kubernetes {
    let zones = domains_or(&directive.args, of_block, complaints);
    let is_reverse = |zone: &String| {
        REVERSE.iter().any(|reverse| zone == reverse || zone.ends_with(&format!(".{reverse}")))
    };
    if zones.iter().all(is_reverse) {
        let message = "has no domain for Services: write kubernetes cluster.local and perhaps others";
        complaints.error(directive.place(), message);
    }
    let mut found = Kubernetes {
        place: directive.place().clone(),
        names: Settings { zones, ..Settings::default() },
        api: ApiServer::default(),
    };
    for line in &directive.lines {
        if !names(line, &mut found.names, complaints) && !api(line, &mut found.api, complaints) {
            others(line, complaints);
        }
    }
    let has = |option: &str| directive.lines.iter().find(|line| line.option() == option);
    if let (Some(_), Some(line)) = (has("namespaces"), has("namespace_labels")) {
        line.error(complaints, "namespaces and namespace_labels exclude each other: delete one");
    }
    if let (Some(_), Some(line)) = (has("noendpoints"), has("zonal")) {
        line.error(complaints, "needs names of endpoints: delete noendpoints, or this line");
    }
    found
}

/// Options that change answers. Returns whether it is one.
fn names(line: &Line, names: &mut Settings, complaints: &mut Complaints<'_>) -> bool {
    match line.option() {
        "endpoint_pod_names" => {
            line.nothing(complaints);
            names.endpoint_pod_names = true;
        }
        "noendpoints" => {
            line.nothing(complaints);
            names.endpoints = false;
        }
        "zonal" => {
            line.nothing(complaints);
            names.zonal = true;
        }
        "pods" => match line.one("disabled, insecure or verified", complaints) {
            Some("disabled") => names.pods = PodMode::Disabled,
            Some("insecure") => names.pods = PodMode::Insecure,
            Some("verified") => names.pods = PodMode::Verified,
            Some(other) => {
                line.error(complaints, format!("{other:?}: write disabled, insecure or verified"));
            }
            None => {}
        },
        "namespaces" => {
            line.some("names of namespaces", complaints);
            let more = line.texts().map(str::to_owned);
            match &mut names.namespaces {
                NamespaceFilter::Listed(listed) => listed.extend(more),
                other => *other = NamespaceFilter::Listed(more.collect()),
            }
        }
        "namespace_labels" => {
            line.some("a label selector", complaints);
            match selector::parse(&line.texts().collect::<Vec<_>>().join(" ")) {
                Ok(requirements) => names.namespaces = NamespaceFilter::Labelled(requirements),
                Err(message) => line.error(complaints, message),
            }
        }
        "fallthrough" => names.fallthrough = fallthrough(line, complaints),
        "ttl" => {
            names.ttl = line.one_number(0..=portolan_names::TTL_MAX, complaints).unwrap_or(names.ttl);
        }
        "ignore" => match line.one("empty_service", complaints) {
            Some("empty_service") => names.ignore_empty_service = true,
            Some(other) => line.error(complaints, format!("{other:?}: write empty_service")),
            None => {}
        },
        _ => return false,
    }
    true
}

/// Options for the API server. Returns whether it is one.
fn api(line: &Line, api: &mut ApiServer, complaints: &mut Complaints<'_>) -> bool {
    let place = || line.name.place.clone();
    let texts: Vec<String> = line.texts().map(str::to_owned).collect();
    match line.option() {
        "endpoint" => {
            line.some("the URL of the API server", complaints);
            if texts.len() > 1 {
                line.notice(complaints, "the first URL alone is used: delete the others");
            }
            api.endpoint = texts.into_iter().next().map(|url| (place(), url));
        }
        "tls" => match <[String; 3]>::try_from(texts) {
            Ok(files) => api.tls = Some((place(), files)),
            Err(_) => {
                line.error(complaints, "takes three files: certificate, key, the authority's certificate");
            }
        },
        "kubeconfig" => match &*texts {
            [file] => {
                api.kubeconfig = Some(Kubeconfig { place: place(), file: file.clone(), context: None });
            }
            [file, context] => {
                let context = Some(context.clone());
                api.kubeconfig = Some(Kubeconfig { place: place(), file: file.clone(), context });
            }
            _ => line.error(complaints, "takes a file, and perhaps the name of a context"),
        },
        _ => return false,
    }
    true
}

/// Options without effect here, and those that are not had.
fn others(line: &Line, complaints: &mut Complaints<'_>) {
    match line.option() {
        "startup_timeout" => {
            line.one_duration(complaints);
            line.notice(complaints, "has no effect: questions are answered with SERVFAIL from the start until the cluster is known");
        }
        "apiserver_qps" | "apiserver_burst" | "apiserver_max_inflight" => {
            line.one_number(0.0..=f64::MAX, complaints);
            line.notice(
                complaints,
                "has no effect: the API server is asked for a list of each resource, and then followed",
            );
        }
        "upstream" => {
            line.notice(complaints, "has no effect, as in CoreDNS since 1.7: names outside the cluster go the way of other questions: delete the line");
        }
        "resyncperiod" => {
            line.notice(
                complaints,
                "has no effect, as in CoreDNS since 1.7: the API server is followed: delete the line",
            );
        }
        "labels" => line.error(
            complaints,
            "objects chosen by labels are not had: write namespaces or namespace_labels, or delete the line",
        ),
        "multicluster" => line.error(complaints, "Services of several clusters are not had: delete the line"),
        "transfer" => line.error(complaints, "zones are not transferred: delete the line"),
        _ => line.unknown(&OPTIONS, complaints),
    }
}
