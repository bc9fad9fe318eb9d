//! `bind`: on which addresses the server listens.

use std::net::IpAddr;

use crate::directive::Directive;
use crate::problem::{Complaints, Place};
use crate::token::Token;

/// Addresses to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Where it is written.
    pub place: Place,
    /// At least one.
    pub hosts: Vec<Host>,
    /// `except`: those that are left out.
    pub except: Vec<Host>,
}

/// An address, or all of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// The name of an interface: all its addresses.
    Interface(String),
}

pub(crate) fn read(directive: &Directive, complaints: &mut Complaints<'_>) -> Bind {
    let hosts = |args: &[Token], complaints: &mut Complaints<'_>| {
        let hosts = args.iter().filter_map(|arg| host(arg, complaints));
        hosts.collect::<Vec<_>>()
    };
    if directive.args.is_empty() {
        complaints.error(directive.place(), "takes addresses or names of interfaces: add some");
    }
    let mut found = Bind {
        place: directive.place().clone(),
        hosts: hosts(&directive.args, complaints),
        except: Vec::new(),
    };
    for line in &directive.lines {
        match line.option() {
            "except" => {
                line.some("addresses or names of interfaces", complaints);
                found.except = hosts(&line.args, complaints);
            }
            _ => line.unknown(&["except"], complaints),
        }
    }
    found
}

fn host(arg: &Token, complaints: &mut Complaints<'_>) -> Option<Host> {
    let text = &arg.text;
    if let Ok(address) = text.parse() {
        return Some(Host::Address(address));
    }
    // Names of interfaces have at most 15 octets (IFNAMSIZ).
    let is_name = (1..=15).contains(&text.len()) && !text.contains(['/', ':', '%']);
    if !is_name {
        complaints.error(&arg.place, format!("{text:?} is neither an address nor the name of an interface"));
    }
    is_name.then(|| Host::Interface(text.clone()))
}
