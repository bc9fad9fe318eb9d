//! The modes that there are. A new mode is a folder and a line here.

use crate::mode::ModeDescriptor;
use crate::{iptables, ipvs, nftables, userspace};

/// All modes.
pub const MODES: &[&ModeDescriptor] = &[&nftables::MODE, &iptables::MODE, &ipvs::MODE, &userspace::MODE];

/// The mode of this name.
pub fn named(name: &str) -> Option<&'static ModeDescriptor> {
    MODES.iter().copied().find(|mode| mode.name == name)
}
