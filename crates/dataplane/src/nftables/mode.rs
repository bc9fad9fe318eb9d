//! What mode nftables is, and what it needs.

use portolan_config::Gate;
use portolan_service::{Family, Loopback};

use super::Nftables;
use super::table::TABLE;
use crate::dataplane::{Dataplane, InUse};
use crate::error::Error;
use crate::mode::{Atomicity, ConfiguredMode, ModeDescriptor, same};
use crate::removal::{Failure, Leftovers, Part, RemovalError, Report};
use crate::settings::Settings;

/// Mode nftables.
pub static MODE: ModeDescriptor = ModeDescriptor {
    name: "nftables",
    atomicity: |_| Atomicity::AllTables,
    capabilities: |_| &[],
    fits_nftables: |_| true,
    loopback: |config| {
        let relayed = config.enabled(Gate::KubeProxyNftablesLocalhostNodePorts);
        if relayed { Loopback::Named } else { Loopback::None }
    },
    writes_proxy_protocol: false,
    has_schedulers: false,
    load: || {},
    configure: |config, node| {
        Box::new(Configured(Settings {
            local: node.local.clone(),
            masquerade_all: config.masquerade_all,
            service_networks: node.service_networks.clone(),
        }))
    },
    warnings: Vec::new,
    counters: &[],
    traffic: None,
    shares_chain: |_, _| false,
    ends: |_| None,
    find_own,
    remove_own,
};

/// Mode nftables has no settings besides those of every mode.
#[derive(Debug, PartialEq, Eq)]
struct Configured(Settings);

impl ConfiguredMode for Configured {
    fn dataplane(&self) -> Result<Box<dyn Dataplane>, Error> {
        Ok(Box::new(Nftables::new(self.0.clone())?))
    }

    fn equals(&self, other: &dyn ConfiguredMode) -> bool {
        same(self, other)
    }
}

fn find_own(in_use: InUse) -> Result<Leftovers, RemovalError> {
    let mut report = Report::default();
    if !in_use.tables {
        match Nftables::new(Settings::default()).and_then(|mut dataplane| dataplane.tables()) {
            Ok(families) => add(&families, &mut report),
            Err(error) => report.fail(Failure::Dataplane(error)),
        }
    }
    report.finish()
}

fn remove_own(in_use: InUse) -> Result<Leftovers, RemovalError> {
    let mut report = Report::default();
    if !in_use.tables {
        let remove = || -> Result<Vec<Family>, Error> {
            let mut dataplane = Nftables::new(Settings::default())?;
            let families = dataplane.tables()?;
            dataplane.cleanup()?;
            Ok(families)
        };
        match remove() {
            Ok(families) => add(&families, &mut report),
            Err(error) => report.fail(Failure::Dataplane(error)),
        }
    }
    report.finish()
}

fn add(families: &[Family], report: &mut Report) {
    for family in families {
        report.part(Part::Table { family: *family, name: TABLE });
    }
}
