//! What plans ask for, and what leads from one state to another.

mod change;
mod golden;
mod wanted;

use portolan_netfilter::ipvs::Timeouts;

use super::settings::IpvsSettings;
use crate::tests::plans::settings;

fn with_scheduler(scheduler: &str) -> IpvsSettings {
    IpvsSettings {
        rules: settings(),
        bit: 0x4000,
        scheduler: scheduler.to_owned(),
        timeouts: Timeouts::default(),
    }
}
