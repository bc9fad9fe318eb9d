//! `autopath`: the search lists of pods are finished by the server.

use portolan_names::PodMode;

use super::all_domains;
use super::kubernetes::Kubernetes;
use crate::directive::Directive;
use crate::problem::Complaints;

/// Where the search list comes from that is had.
const LIST: &str = "@kubernetes";

/// Whose questions go on, through the search list of the client's pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Autopath {
    /// The domains of the questions.
    pub domains: Vec<String>,
}

pub(crate) fn read(directive: &Directive, of_block: &[String], complaints: &mut Complaints<'_>) -> Autopath {
    directive.no_block(complaints);
    let Some((_, domains)) = directive.args.split_last().filter(|(list, _)| list.text == LIST) else {
        let message = "only the search lists of pods are had: write @kubernetes at the end";
        complaints.error(directive.place(), message);
        return Autopath { domains: Vec::new() };
    };
    let domains = if domains.is_empty() { of_block.to_vec() } else { all_domains(domains, complaints) };
    Autopath { domains }
}

/// Says so if there is nothing that a client's namespace could be known from.
pub(crate) fn needs(directive: &Directive, kubernetes: Option<&Kubernetes>, complaints: &mut Complaints<'_>) {
    match kubernetes {
        None => complaints
            .error(directive.place(), "there is no kubernetes in this server block: delete the line"),
        Some(kubernetes) if kubernetes.names.pods != PodMode::Verified => {
            complaints.notice(directive.place(), "has no effect without pods verified in kubernetes");
        }
        Some(_) => {}
    }
}
