//! What is for userspace mode alone: as kube-proxy 1.25 read it, and how clients are diverted.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::{Diversion, Mode, Userspace};
use crate::duration::GoDuration;
use crate::flags::Flags;
use crate::object::Object;
use crate::problem::{ConfigError, Place};
use crate::problems::Problems;

/// How long a UDP client may be silent by default.
const UDP_IDLE: Duration = Duration::from_millis(250);

/// Checked in its mode only.
pub(crate) fn userspace(object: &Object, mode: Mode, problems: &mut Problems<'_>) -> Userspace {
    if mode != Mode::Userspace {
        return Userspace { diversion: Diversion::default(), ports: None, udp_idle_timeout: UDP_IDLE };
    }
    let given = object.userspace.diversion.as_str();
    let diversion = Diversion::ALL.into_iter().find(|diversion| diversion.name() == given);
    if diversion.is_none() && !given.is_empty() {
        problems.error("userspace.diversion", format!("{given:?} is not one of nftables, iptables"));
    }
    let ports = ports(&object.port_range).unwrap_or_else(|message| {
        problems.error("portRange", message);
        None
    });
    let udp_idle_timeout = match object.udp_idle_timeout {
        // A file that leaves it out has 0s in kube-proxy, too.
        None => UDP_IDLE,
        Some(GoDuration(0)) if problems.file.is_some() => UDP_IDLE,
        Some(given) => given.to_std().filter(|idle| !idle.is_zero()).unwrap_or_else(|| {
            problems.error("udpIdleTimeout", format!("{given} is not more than 0s"));
            UDP_IDLE
        }),
    };
    Userspace { diversion: diversion.unwrap_or_default(), ports, udp_idle_timeout }
}

/// `FIRST-LAST`, `FIRST+MORE` or one port. Nothing, and a range that begins with 0, is no range.
fn ports(text: &str) -> Result<Option<RangeInclusive<u16>>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || format!("{text:?} is not a range of ports such as 40000-40999, 40000+999 or 40000");
    let number = |part: &str| part.trim().parse::<u16>().map_err(|_| wrong());
    let (first, last) = if let Some((first, last)) = text.split_once('-') {
        (number(first)?, number(last)?)
    } else if let Some((first, more)) = text.split_once('+') {
        let (first, more) = (number(first)?, number(more)?);
        (first, first.checked_add(more).ok_or_else(wrong)?)
    } else {
        let only = number(text)?;
        (only, only)
    };
    if first > last {
        return Err(format!("{text:?} ends before it begins; give the lower port first"));
    }
    Ok((first > 0).then_some(first..=last))
}

/// An error for each flag that is there for userspace mode alone and was given for another one.
pub(crate) fn elsewhere(flags: &Flags) -> Vec<ConfigError> {
    let given = [
        (
            "udp-timeout",
            flags.udp_timeout.is_some(),
            "; --conntrack-udp-timeout sets the timeout of connection tracking",
        ),
        ("proxy-port-range", flags.proxy_port_range.is_some(), ""),
    ];
    let given = given.into_iter().filter(|(_, given, _)| *given);
    let of_kube_proxy = given.map(|(flag, _, more)| {
        (flag, format!("was removed from kube-proxy: it is for userspace mode alone{more}"))
    });
    let own = flags.userspace_diversion.iter();
    let own = own.map(|_| ("userspace-diversion", "is for userspace mode alone".to_owned()));
    of_kube_proxy
        .chain(own)
        .map(|(flag, why)| ConfigError {
            place: Place::Flag(flag),
            message: format!("{why}; take it out, or set --proxy-mode=userspace"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_ports() {
        for (text, expected) in [
            ("", Some(None)),
            ("0", Some(None)),
            ("0-0", Some(None)),
            ("40000-40999", Some(Some(40000..=40999))),
            (" 40000 - 40999 ", Some(Some(40000..=40999))),
            ("40000+9", Some(Some(40000..=40009))),
            ("40000", Some(Some(40000..=40000))),
            ("1-65535", Some(Some(1..=65535))),
            ("2-1", None),
            ("65535+1", None),
            ("1-65536", None),
            ("-1", None),
            ("a-b", None),
            ("1-2-3", None),
        ] {
            assert_eq!(ports(text).ok(), expected, "{text:?}");
        }
    }
}
