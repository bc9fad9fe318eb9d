//! Where the kernel sends clients of frontends, for who takes that as a starting point.

use std::collections::HashMap;
use std::net::SocketAddr;

use portolan_netfilter::nft::{OwnedData, OwnedElement};
use portolan_service::Family;

use super::Nftables;
use super::encoding::{FrontendKey, take_address, take_frontend, take_port};
use super::set::SetName;
use crate::error::Error;

/// The first endpoint of each frontend in the kernel.
#[derive(Debug, Default)]
pub(crate) struct HeldEndpoints {
    /// For everybody, but for those who have another one here
    pub(crate) everybody: HashMap<FrontendKey, SocketAddr>,
    /// For clients from outside
    pub(crate) outside: HashMap<FrontendKey, SocketAddr>,
}

impl Nftables {
    /// The first endpoint of each frontend in the kernel. Reads everything.
    pub(crate) fn held_endpoints(&mut self) -> Result<HeldEndpoints, Error> {
        let mut held = HeldEndpoints::default();
        for family in self.families.clone() {
            if self.kernel.contents(family)?.table.is_none() {
                continue;
            }
            let sets =
                [(SetName::Endpoints, &mut held.everybody), (SetName::EndpointsLocal, &mut held.outside)];
            for (set, to) in sets {
                self.kernel.elements(family, set, |element| to.extend(first(family, element)))?;
            }
        }
        Ok(held)
    }
}

fn first(family: Family, element: &OwnedElement) -> Option<(FrontendKey, SocketAddr)> {
    let (number, mut key) = element.key.split_first_chunk::<4>()?;
    let Some(OwnedData::Value(value)) = &element.data else { return None };
    if u32::from_ne_bytes(*number) != 0 {
        return None;
    }
    let mut value = &value[..];
    let address = take_address(&mut value, family)?;
    Some((take_frontend(&mut key, family)?, SocketAddr::new(address, take_port(&mut value)?)))
}
