//! What the kernel holds, in words: a line for each frontend.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use portolan_netfilter::nft::{OwnedData, OwnedElement, Verdict};
use portolan_service::Family;

use super::Nftables;
use super::encoding::{FrontendKey, take_address, take_frontend, take_port};
use super::set::SetName;
use crate::error::Error;

/// At most this many endpoints are named in a line.
const NAMED: usize = 8;

/// What was found of one frontend.
#[derive(Debug, Default)]
struct Frontend {
    name: String,
    endpoints: Vec<SocketAddr>,
    /// The endpoints on this node, where traffic from outside has a list of its own.
    local: Vec<SocketAddr>,
    rejected: bool,
    dropped: bool,
}

impl Nftables {
    /// See [`crate::Dataplane::listing`].
    pub(super) fn lines(&mut self) -> Result<Vec<String>, Error> {
        let mut frontends: BTreeMap<FrontendKey, Frontend> = BTreeMap::new();
        for family in self.families.clone() {
            if self.kernel.contents(family)?.table.is_none() {
                continue;
            }
            for set in [SetName::Services, SetName::Endpoints, SetName::EndpointsLocal, SetName::NoEndpoints]
            {
                self.kernel.elements(family, set, |element| note(family, set, element, &mut frontends))?;
            }
        }
        Ok(frontends.iter().map(|(key, frontend)| line(key, frontend)).collect())
    }
}

fn note(family: Family, set: SetName, element: &OwnedElement, to: &mut BTreeMap<FrontendKey, Frontend>) {
    let mut key = &element.key[..];
    if matches!(set, SetName::Endpoints | SetName::EndpointsLocal) {
        key = key.get(4..).unwrap_or_default();
    }
    let Some(key) = take_frontend(&mut key, family) else { return };
    let frontend = to.entry(key).or_default();
    match (set, &element.data) {
        (SetName::Endpoints, Some(OwnedData::Value(value))) => {
            frontend.endpoints.extend(endpoint(family, value));
        }
        (SetName::EndpointsLocal, Some(OwnedData::Value(value))) => {
            frontend.local.extend(endpoint(family, value));
        }
        (SetName::NoEndpoints, Some(OwnedData::Verdict(Verdict::Drop))) => frontend.dropped = true,
        (SetName::NoEndpoints, _) => frontend.rejected = true,
        _ => {}
    }
    if let Some(comment) = &element.comment {
        frontend.name.clone_from(comment);
    }
}

fn endpoint(family: Family, mut value: &[u8]) -> Option<SocketAddr> {
    let address = take_address(&mut value, family)?;
    Some(SocketAddr::new(address, take_port(&mut value)?))
}

fn line(key: &FrontendKey, frontend: &Frontend) -> String {
    let address = SocketAddr::new(key.address, key.port);
    let mut ways = Vec::new();
    if !frontend.endpoints.is_empty() {
        ways.push(one_of(&frontend.endpoints));
    }
    if !frontend.local.is_empty() {
        ways.push(format!("from outside {}", one_of(&frontend.local)));
    }
    if frontend.dropped {
        ways.push(if ways.is_empty() { "dropped" } else { "from outside dropped" }.to_owned());
    }
    if frontend.rejected {
        ways.push("rejected: no endpoints".to_owned());
    }
    format!("{}: {address}/{} -> {}", frontend.name, key.protocol, ways.join("; "))
}

/// `10.1.0.1:80 or 10.1.0.2:80, each 1/2`
fn one_of(endpoints: &[SocketAddr]) -> String {
    let mut endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    endpoints.sort_unstable();
    let count = endpoints.len();
    let named = match count {
        1 => return endpoints.remove(0),
        2..=NAMED => endpoints.join(" or "),
        _ => format!("{} or {} more", endpoints[..NAMED].join(" or "), count - NAMED),
    };
    format!("{named}, each 1/{count}")
}
