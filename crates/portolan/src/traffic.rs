//! What the kernel has counted for Services, for whoever asks: read from the kernel at that moment,
//! on the thread that answers, and not by the proxy's loop.

use std::collections::HashMap;

use portolan_dataplane::{DestinationTraffic, NamedPort, OpenTraffic, PortTraffic, Traffic};
use portolan_netfilter::ipvs::{Counters, Counts};
use portolan_observe::BalancedPort;
use portolan_observe::rows::{
    CountsRow, DestinationRow, EndpointRow, ServiceRow, TrafficRow, endpoint_rows, service_rows,
};
use portolan_service::{Family, PortPlan, ServicePlan};
use tracing::{debug, warn};

/// Rows of plans, with what was counted in a mode that has the kernel count.
pub(crate) struct Rows {
    counted: Option<Box<dyn Traffic>>,
}

impl Rows {
    /// What cannot be read is logged, and rows are without it.
    pub(crate) fn new(open: Option<OpenTraffic>) -> Rows {
        let opened = open.map(|open| open().map_err(|error| not_read(&error)));
        Rows { counted: opened.and_then(Result::ok) }
    }

    /// The rows of `plan`, one for each port and family.
    pub(crate) fn services(&mut self, plan: &ServicePlan) -> Vec<ServiceRow> {
        let mut rows = service_rows(plan);
        for (row, counted) in rows.iter_mut().zip(self.counted(plan)) {
            let mut sum = traffic(&counted.counters);
            for destination in &counted.destinations {
                sum.active += destination.active;
                sum.inactive += destination.inactive;
            }
            row.traffic = Some(sum);
            row.destinations = counted.destinations.iter().map(destination_row).collect();
        }
        rows
    }

    /// The rows of the endpoints of `plan`.
    pub(crate) fn endpoints(&mut self, plan: &ServicePlan) -> Vec<EndpointRow> {
        let mut rows = endpoint_rows(plan);
        let counted = self.counted(plan);
        for row in &mut rows {
            let of_row = |(port, _): &(&PortPlan, &PortTraffic)| {
                *port.name == *row.port
                    && port.protocol.to_string() == row.protocol
                    && port.family == Family::of(row.address)
            };
            let Some((_, counted)) = plan.ports.iter().zip(&counted).find(of_row) else { continue };
            let place = row.socket();
            let found = counted.destinations.iter().find(|destination| destination.address == place);
            row.weight = found.map(|found| found.weight);
            row.traffic = found.map(|found| destination_row(found).traffic);
        }
        rows
    }

    /// For each port of `plan`, if that can be read.
    fn counted(&mut self, plan: &ServicePlan) -> Vec<PortTraffic> {
        let read = self.counted.as_mut().map(|counted| counted.of_plan(plan));
        match read {
            Some(Ok(ports)) => ports,
            Some(Err(error)) => {
                not_read(&error);
                self.counted = None;
                Vec::new()
            }
            None => Vec::new(),
        }
    }
}

fn not_read(error: &portolan_dataplane::Error) {
    warn!("what the kernel has counted cannot be read, so that `portolan get` does not show it: {error}");
}

fn destination_row(of: &DestinationTraffic) -> DestinationRow {
    DestinationRow {
        address: of.address.ip(),
        target_port: of.address.port(),
        weight: of.weight,
        traffic: TrafficRow { active: of.active, inactive: of.inactive, ..traffic(&of.counters) },
    }
}

fn traffic(counters: &Counters) -> TrafficRow {
    TrafficRow { active: 0, inactive: 0, total: counts(&counters.total), per_second: counts(&counters.rate) }
}

fn counts(of: &Counts) -> CountsRow {
    let Counts { connections, packets_in, packets_out, bytes_in, bytes_out } = *of;
    CountsRow { connections, packets_in, packets_out, bytes_in, bytes_out }
}

/// All Service ports, for the metrics. `None` if nothing can be read.
pub(crate) fn balanced(open: OpenTraffic) -> Option<Vec<BalancedPort>> {
    let mut ports: HashMap<NamedPort, Counts> = HashMap::new();
    let add = &mut |port: &NamedPort, counters: Counters| match ports.get_mut(port) {
        Some(sum) => *sum += counters.total,
        None => drop(ports.insert(port.clone(), counters.total)),
    };
    open()
        .and_then(|mut counted| counted.of_ports(add))
        .inspect_err(|error| debug!("what the kernel has counted cannot be read: {error}"))
        .ok()?;
    let row = |(NamedPort { name, protocol, family }, counts): (NamedPort, Counts)| BalancedPort {
        service_port: name,
        protocol,
        family,
        connections: counts.connections,
        packets: [counts.packets_in, counts.packets_out],
        bytes: [counts.bytes_in, counts.bytes_out],
    };
    Some(ports.into_iter().map(row).collect())
}
