//! The modes that there are. A new mode is a folder and a line here.

use crate::dataplane::InUse;
use crate::mode::ModeDescriptor;
use crate::{iptables, ipvs, nftables, userspace};

/// All modes.
pub const MODES: &[&ModeDescriptor] = &[&nftables::MODE, &iptables::MODE, &ipvs::MODE, &userspace::MODE];

/// What ends when a proxy that serves with this takes over from modes of ours, for people.
pub fn endings(in_use: InUse) -> Vec<String> {
    MODES.iter().filter_map(|mode| (mode.ends)(in_use)).collect()
}

/// The mode of this name.
pub fn named(name: &str) -> Option<&'static ModeDescriptor> {
    MODES.iter().copied().find(|mode| mode.name == name)
}
