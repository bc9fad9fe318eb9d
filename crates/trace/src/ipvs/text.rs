//! Virtual servers as `ipvsadm -Ln` shows them.

use std::fmt;

use portolan_service::Family;

use super::{FALLBACK, HASH_PORT, Serves, VirtualServer};

impl fmt::Display for VirtualServer {
    /// `TCP 10.96.0.1:80 rr persistent 10800`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.serves, self.scheduler)?;
        let flags = [(FALLBACK, "fallback"), (HASH_PORT, "port")]
            .into_iter()
            .filter(|(bit, _)| self.flags & bit != 0);
        let flags: Vec<String> = flags.map(|(_, name)| format!("{}-{name}", self.scheduler)).collect();
        if !flags.is_empty() {
            write!(f, " ({})", flags.join(","))?;
        }
        if let Some(seconds) = self.persistence {
            write!(f, " persistent {seconds}")?;
            if let Some(mask) = &self.mask {
                write!(f, " mask {mask}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Serves {
    /// `TCP 10.96.0.1:80`, `FWM 1`; marks as signed numbers
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Serves::Address(protocol, address) => {
                write!(f, "{} {address}", protocol.to_string().to_uppercase())
            }
            Serves::Mark(Family::V4, mark) => write!(f, "FWM {}", mark.cast_signed()),
            Serves::Mark(Family::V6, mark) => write!(f, "FWM {} IPv6", mark.cast_signed()),
        }
    }
}
