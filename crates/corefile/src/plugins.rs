//! The plugins that are had, each as CoreDNS 1.14 reads it.

pub(crate) mod acl;
pub(crate) mod autopath;
pub(crate) mod bind;
pub(crate) mod cache;
pub(crate) mod errors;
pub(crate) mod forward;
pub(crate) mod health;
pub(crate) mod hosts;
pub(crate) mod kubernetes;
pub(crate) mod loadbalance;
pub(crate) mod log;
pub(crate) mod loop_detection;
pub(crate) mod prometheus;
pub(crate) mod ready;
pub(crate) mod reload;
pub(crate) mod template;

use crate::domain::domains;
use crate::problem::Complaints;
use crate::token::Token;

/// The domains that `args` name, or those of the server block if there are none.
fn domains_or<'a>(
    args: impl IntoIterator<Item = &'a Token>,
    of_block: &[String],
    complaints: &mut Complaints<'_>,
) -> Vec<String> {
    let mut args = args.into_iter().peekable();
    if args.peek().is_none() {
        return of_block.to_vec();
    }
    all_domains(args, complaints)
}

/// The domains that `args` name.
fn all_domains<'a>(
    args: impl IntoIterator<Item = &'a Token>,
    complaints: &mut Complaints<'_>,
) -> Vec<String> {
    let mut found = Vec::new();
    for arg in args {
        match domains(&arg.text) {
            Ok(domains) => found.extend(domains),
            Err(message) => complaints.error(&arg.place, message),
        }
    }
    found
}
