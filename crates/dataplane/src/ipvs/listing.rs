//! What the kernel holds, in words: a line for each frontend.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use portolan_netfilter::ipvs::{Scheduling, ServerKey};
use portolan_service::Family;

use super::Ipvs;
use super::traffic::server_at;
use crate::error::Error;
use crate::nftables::{FrontendKey, HeldFrontend};
use crate::variant::table_family;

/// At most this many endpoints are named in a line.
const NAMED: usize = 8;

impl Ipvs {
    /// See [`crate::Dataplane::listing`].
    pub(super) fn lines(&mut self) -> Result<Vec<String>, Error> {
        let frontends: BTreeMap<FrontendKey, HeldFrontend> =
            self.rules.held_frontends()?.into_iter().collect();
        let servers = self.kernel.servers()?;
        let servers: HashMap<ServerKey, Scheduling> =
            servers.into_iter().map(|server| (server.key, server.scheduling)).collect();
        let mut lines = Vec::with_capacity(frontends.len());
        for (key, frontend) in &frontends {
            let mut ways = Vec::new();
            if frontend.steered {
                ways.push(self.way(&server_at(key), &servers)?);
            }
            if let Some(mark) = frontend.mark {
                let family = table_family(Family::of(key.address));
                ways.push(format!("from outside {}", self.way(&ServerKey::Mark(family, mark), &servers)?));
            }
            if let Some(refused) = frontend.refused {
                ways.push(if ways.is_empty() {
                    refused.to_owned()
                } else {
                    format!("from outside {refused}")
                });
            }
            let address = SocketAddr::new(key.address, key.port);
            lines.push(format!("{}: {address}/{} -> {}", frontend.name, key.protocol, ways.join("; ")));
        }
        Ok(lines)
    }

    /// `10.1.0.1:80 or 10.1.0.2:80, by rr`
    fn way(&mut self, server: &ServerKey, servers: &HashMap<ServerKey, Scheduling>) -> Result<String, Error> {
        let Some(scheduling) = servers.get(server) else { return Ok("a virtual server that is gone".into()) };
        let mut places: Vec<String> = self
            .kernel
            .destinations(server)?
            .iter()
            .map(|held| {
                let place = SocketAddr::new(held.destination.address, held.destination.port);
                match held.destination.weight {
                    0 => format!("{place} (no new clients)"),
                    1 => place.to_string(),
                    weight => format!("{place} (weight {weight})"),
                }
            })
            .collect();
        places.sort_unstable();
        let more = places.len().saturating_sub(NAMED);
        places.truncate(NAMED);
        if more > 0 {
            places.push(format!("{more} more"));
        }
        let affinity = match scheduling.persistence {
            Some(seconds) => format!(", clients stay for {seconds} s"),
            None => String::new(),
        };
        Ok(format!("{}, by {}{affinity}", places.join(" or "), scheduling.scheduler))
    }
}
