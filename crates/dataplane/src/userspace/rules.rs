//! What brings clients to the sockets: our nftables tables, or chains of iptables.

use portolan_service::ServicePlan;

use super::divert::guarded;
use super::preview::Held;
use super::settings::UserspaceSettings;
use crate::dataplane::Dataplane;
use crate::error::Error;
use crate::iptables::Iptables;
use crate::nftables::Nftables;

#[derive(Debug)]
pub(super) enum Rules {
    Nftables(Box<Nftables>),
    Iptables(Box<Iptables>),
}

impl Rules {
    /// Changes nothing in the kernel yet.
    pub(super) fn new(settings: &UserspaceSettings) -> Result<Rules, Error> {
        Ok(match &settings.iptables {
            None => Rules::Nftables(Box::new(Nftables::new(settings.rules.clone())?)),
            Some(options) => Rules::Iptables(Box::new(Iptables::new(&settings.rules, options)?)),
        })
    }

    /// `diverted` as the dataplane is to have it.
    pub(super) fn plan(&self, diverted: ServicePlan) -> ServicePlan {
        match self {
            Rules::Nftables(_) => guarded(diverted),
            // Its chains have rules that guard sockets.
            Rules::Iptables(_) => diverted,
        }
    }

    /// Where the kernel sends clients now. Reads everything.
    pub(super) fn held(&mut self) -> Result<Held, Error> {
        Ok(match self {
            Rules::Nftables(rules) => rules.held_endpoints()?.into(),
            Rules::Iptables(rules) => rules.held_portals()?.into(),
        })
    }

    pub(super) fn dataplane(&mut self) -> &mut dyn Dataplane {
        match self {
            Rules::Nftables(rules) => &mut **rules,
            Rules::Iptables(rules) => &mut **rules,
        }
    }

    pub(super) fn as_dataplane(&self) -> &dyn Dataplane {
        match self {
            Rules::Nftables(rules) => &**rules,
            Rules::Iptables(rules) => &**rules,
        }
    }
}
