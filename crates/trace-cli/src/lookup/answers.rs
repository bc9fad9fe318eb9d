//! One question, its answer, and the reason for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portolan_names::wire::{Answers, Name, class, kind, rcode};
use portolan_names::{Outcome, Reply, Transport};
use portolan_service::Family;
use serde::Serialize;

use super::Dns;
use crate::names::Names as Known;

/// So many endpoints are named as the reason why there is no answer.
const NAMED: usize = 5;

/// What kind of answer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Code {
    /// There are addresses.
    #[serde(rename = "NOERROR")]
    Found,
    /// The name exists, but not with an address of this family.
    #[serde(rename = "NODATA")]
    NoData,
    /// The name does not exist.
    #[serde(rename = "NXDOMAIN")]
    NoName,
    /// Nothing can be said.
    #[serde(rename = "SERVFAIL")]
    Failed,
    /// Others are asked: it is no name of the cluster, or leads to one that is not.
    #[serde(rename = "outside")]
    Outside,
}

/// A question and its answer.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    /// The name that was asked for.
    pub(crate) name: String,
    /// `A` or `AAAA`
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) code: Code,
    pub(crate) addresses: Vec<IpAddr>,
    /// The names that it leads to, one after the other.
    pub(crate) aliases: Vec<String>,
    pub(crate) why: Option<String>,
    /// It would exist if endpoints were ready.
    #[serde(skip)]
    pub(crate) waits: bool,
}

/// Asks for the addresses of `name` in `family`.
pub(super) fn ask(dns: &Dns, known: &Known, name: &str, family: Family) -> Answer {
    let (number, kind) = match family {
        Family::V4 => (kind::A, "A"),
        Family::V6 => (kind::AAAA, "AAAA"),
    };
    let mut answer = Answer {
        name: name.to_owned(),
        kind,
        code: Code::NoName,
        addresses: Vec::new(),
        aliases: Vec::new(),
        why: None,
        waits: false,
    };
    let Some(mut parsed) = Name::parse(name) else {
        answer.why = Some("it is too long, or no name; resolvers pass it over".to_owned());
        return answer;
    };
    parsed.make_lowercase();
    let message = question(&parsed, number);
    let mut reply = Reply::new();
    match dns.names.answer(&message, Transport::Tcp, 0, &mut reply) {
        Outcome::Reply => answer.read(reply.message()),
        Outcome::Silent => answer.code = Code::Failed,
        Outcome::Forward(_) => {
            answer.code = Code::Outside;
            answer.why = Some(format!("not below {}: the cluster's DNS asks others", dns.domain));
        }
        Outcome::Outside(outside) => {
            answer.code = Code::Outside;
            let target = outside.name().to_string();
            answer.why =
                Some("an ExternalName Service: the cluster's DNS asks others for that name".to_owned());
            answer.aliases.push(target.trim_end_matches('.').to_owned());
        }
    }
    answer.waits = answer.code == Code::NoName && dns.names.unready(&parsed).is_some();
    answer.why = answer.why.take().or_else(|| why(dns, known, &parsed, family, &answer));
    answer
}

fn question(name: &Name, kind: u16) -> Vec<u8> {
    // Number 0, recursion desired, one question.
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(name.as_wire());
    message.extend(kind.to_be_bytes());
    message.extend(class::IN.to_be_bytes());
    message
}

impl Answer {
    /// Takes what a reply says.
    fn read(&mut self, message: &[u8]) {
        self.code = Code::Failed;
        let Ok(records) = Answers::parse(message) else { return };
        let code = records.rcode();
        for record in records.flatten() {
            if record.answers(kind::A) {
                let octets: Option<[u8; 4]> = record.data.try_into().ok();
                self.addresses.extend(octets.map(|octets| IpAddr::from(Ipv4Addr::from(octets))));
            } else if record.answers(kind::AAAA) {
                let octets: Option<[u8; 16]> = record.data.try_into().ok();
                self.addresses.extend(octets.map(|octets| IpAddr::from(Ipv6Addr::from(octets))));
            } else if record.answers(kind::CNAME)
                && let Ok((target, _)) = Name::read(message, record.at)
            {
                self.aliases.push(target.to_string().trim_end_matches('.').to_owned());
            }
        }
        self.addresses.sort();
        self.code = match code {
            rcode::NOERROR if self.addresses.is_empty() => Code::NoData,
            rcode::NOERROR => Code::Found,
            rcode::NXDOMAIN => Code::NoName,
            _ => Code::Failed,
        };
    }
}

/// Why the answer is as it is, as far as objects say it.
fn why(dns: &Dns, known: &Known, name: &Name, family: Family, answer: &Answer) -> Option<String> {
    let labels: Vec<String> =
        (0..name.labels()).map(|at| String::from_utf8_lossy(name.label(at)).into_owned()).collect();
    let zone: Vec<&str> = dns.domain.split('.').collect();
    let inside = labels.strip_suffix_of(&zone)?;
    match answer.code {
        Code::Found => match inside {
            [.., service, namespace, svc] if svc == "svc" => Some(match inside.len() {
                3 => of_service(known, namespace, service, &answer.addresses),
                _ => format!("of svc/{namespace}/{service}{}", pods(known, &answer.addresses)),
            }),
            _ => None,
        },
        Code::NoData => match inside {
            [service, namespace, svc] if svc == "svc" => {
                Some(format!("svc/{namespace}/{service} has no {family} address"))
            }
            _ => Some(format!("the name exists, but has no {family} address")),
        },
        Code::NoName => absent(dns, known, name, inside),
        Code::Failed | Code::Outside => None,
    }
}

/// A list of labels without those of a zone at its end.
trait StripSuffix {
    fn strip_suffix_of(&self, zone: &[&str]) -> Option<&[String]>;
}

impl StripSuffix for Vec<String> {
    fn strip_suffix_of(&self, zone: &[&str]) -> Option<&[String]> {
        let at = self.len().checked_sub(zone.len())?;
        let (inside, suffix) = self.split_at(at);
        suffix.iter().zip(zone).all(|(label, of_zone)| label.eq_ignore_ascii_case(of_zone)).then_some(inside)
    }
}

fn of_service(known: &Known, namespace: &str, service: &str, addresses: &[IpAddr]) -> String {
    let ips = known.cluster_ips(namespace, service);
    if addresses.iter().all(|address| ips.contains(address)) {
        format!("ClusterIP of svc/{namespace}/{service}")
    } else {
        format!("svc/{namespace}/{service}{}", pods(known, addresses))
    }
}

/// The pods at these addresses, if any are known.
fn pods(known: &Known, addresses: &[IpAddr]) -> String {
    let at = |address: &IpAddr| {
        let mut pods = known.pods.iter();
        pods.find(|(_, of)| of.v4 == Some(*address) || of.v6 == Some(*address)).map(|(name, _)| name.as_str())
    };
    let mut named: Vec<String> = addresses.iter().filter_map(at).map(|pod| format!("pod/{pod}")).collect();
    let more = named.len().saturating_sub(NAMED);
    named.truncate(NAMED);
    match (named.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => format!(": {}", named.join(", ")),
        (false, more) => format!(": {} and {more} more", named.join(", ")),
    }
}

/// Why a name does not exist.
fn absent(dns: &Dns, known: &Known, name: &Name, inside: &[String]) -> Option<String> {
    if let Some(unready) = dns.names.unready(name) {
        let service = unready.service;
        let mut waiting: Vec<String> = unready
            .endpoints
            .iter()
            .map(|endpoint| match endpoint.names.pod() {
                Some(pod) => format!("pod/{}/{pod} ({})", service.namespace(), endpoint.address),
                None => endpoint.address.to_string(),
            })
            .collect();
        waiting.sort();
        let more = waiting.len().saturating_sub(NAMED);
        waiting.truncate(NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        return Some(if waiting.is_empty() {
            format!("svc/{service} is headless (clusterIP: None) and has no endpoint")
        } else {
            format!("no endpoint of svc/{service} is ready: {}{more}", waiting.join(", "))
        });
    }
    let no_service = |namespace: &str, service: &str| {
        format!("no Service {namespace}/{service}{}", if dns.partial { " with an address" } else { "" })
    };
    match inside {
        [namespace, svc] if svc == "svc" => Some(format!("no namespace {namespace}")),
        [service, namespace, svc] if svc == "svc" => Some(no_service(namespace, service)),
        [endpoint, service, namespace, svc] if svc == "svc" => Some(if known.has(namespace, service) {
            format!("svc/{namespace}/{service} has no endpoint {endpoint}")
        } else {
            no_service(namespace, service)
        }),
        _ => None,
    }
}
