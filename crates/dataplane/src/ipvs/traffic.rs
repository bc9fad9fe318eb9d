//! What IPVS has counted for Services, read when somebody asks.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use portolan_netfilter::ipvs::{Counters, Ipvs, ServerKey, VirtualServer};
use portolan_service::{Family, Frontend, PortPlan, ServicePlan};

use super::kernel::netlink;
use super::wanted::marked_frontends;
use crate::error::Error;
use crate::nftables::{FrontendKey, HeldFrontend, Nftables, by_rules};
use crate::settings::Settings;
use crate::traffic::{DestinationTraffic, NamedPort, PortTraffic, Traffic};
use crate::variant::table_family;

/// Reads it, by sockets of its own.
#[derive(Debug)]
struct IpvsTraffic {
    ipvs: Ipvs,
    rules: Nftables,
    /// The marks of frontends, once they were needed
    marks: Option<HashMap<FrontendKey, u32>>,
}

/// See [`crate::ModeDescriptor::traffic`].
pub(super) fn open() -> Result<Box<dyn Traffic>, Error> {
    let ipvs = Ipvs::open().map_err(netlink("opening a socket for IPVS"))?;
    Ok(Box::new(IpvsTraffic { ipvs, rules: Nftables::new(Settings::default())?, marks: None }))
}

impl IpvsTraffic {
    fn of_port(&mut self, port: &PortPlan) -> Result<PortTraffic, Error> {
        let mut counters = Counters::default();
        let mut destinations: BTreeMap<SocketAddr, DestinationTraffic> = BTreeMap::new();
        for server in self.servers(port)? {
            let counted = self.ipvs.counters(&server).map_err(netlink("reading counters of IPVS"))?;
            let Some(counted) = counted else { continue };
            counters += counted;
            let held = self.ipvs.destinations(&server);
            for held in held.map_err(netlink("listing the destinations of a virtual server"))? {
                let address = SocketAddr::new(held.destination.address, held.destination.port);
                let sum = destinations.entry(address).or_insert(DestinationTraffic {
                    address,
                    weight: 0,
                    active: 0,
                    inactive: 0,
                    counters: Counters::default(),
                });
                sum.weight = sum.weight.max(held.destination.weight);
                sum.active += u64::from(held.active);
                sum.inactive += u64::from(held.inactive);
                sum.counters += held.counters;
            }
        }
        Ok(PortTraffic { counters, destinations: destinations.into_values().collect() })
    }

    /// The virtual servers of a port, whether they are there or not.
    fn servers(&mut self, port: &PortPlan) -> Result<Vec<ServerKey>, Error> {
        let key = |frontend: &Frontend| FrontendKey {
            address: frontend.address,
            protocol: port.protocol,
            port: frontend.port,
        };
        let mut servers: Vec<ServerKey> = by_rules(port).map(|frontend| server_at(&key(frontend))).collect();
        let mut marked = marked_frontends(port).peekable();
        if marked.peek().is_some() {
            let marks = match &mut self.marks {
                Some(marks) => marks,
                unread => unread.insert(self.rules.held_marks()?),
            };
            let mark = marked.find_map(|frontend| marks.get(&key(frontend)));
            servers.extend(mark.map(|mark| ServerKey::Mark(table_family(port.family), *mark)));
        }
        Ok(servers)
    }
}

impl Traffic for IpvsTraffic {
    fn of_plan(&mut self, plan: &ServicePlan) -> Result<Vec<PortTraffic>, Error> {
        plan.ports.iter().map(|port| self.of_port(port)).collect()
    }

    /// Two dumps: of frontends, and of virtual servers.
    fn of_ports(&mut self, each: &mut dyn FnMut(&NamedPort, Counters)) -> Result<(), Error> {
        let mut ports = HashMap::new();
        for (key, HeldFrontend { name, steered, mark, .. }) in self.rules.held_frontends()? {
            let family = Family::of(key.address);
            let port = NamedPort { name, protocol: key.protocol, family };
            if let Some(mark) = mark {
                ports.insert(ServerKey::Mark(table_family(family), mark), port.clone());
            }
            if steered {
                ports.insert(server_at(&key), port);
            }
        }
        let of_server = |server, counters| {
            if let Some(port) = ports.get(&server) {
                each(port, counters);
            }
        };
        self.ipvs.each_counters(of_server).map_err(netlink("reading counters of IPVS"))
    }
}

/// The virtual server of a frontend.
pub(super) fn server_at(key: &FrontendKey) -> ServerKey {
    let FrontendKey { address, protocol, port } = *key;
    ServerKey::Address(VirtualServer { protocol: protocol.number(), address, port })
}
