//! Gives up what a service proxy has no use for.

use std::collections::HashSet;
use std::io;

use anyhow::{Context, anyhow};
use caps::{CapSet, Capability};
use portolan_config::Config;
use portolan_dataplane::{ModeDescriptor, iptables};
use portolan_netfilter::socket::Socket;
use tracing::debug;

/// Writing rules and connection tracking; health-check ports below 1024; reading manifests that
/// others own, and asking whether somebody has them open for writing.
const NEEDED: [Capability; 4] = [
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_LEASE,
];

fn needed(mode: &ModeDescriptor, config: &Config) -> HashSet<Capability> {
    let forwarding = if config.accept_forwarded { iptables::CAPABILITIES } else { &[] };
    let announcing: &[_] = if config.announcement.layer2 { &[Capability::CAP_NET_RAW] } else { &[] };
    NEEDED.iter().chain((mode.capabilities)(config)).chain(forwarding).chain(announcing).copied().collect()
}

/// Keeps only the capabilities that `run` needs in this mode and configuration, of those that the
/// process has, in this thread and those it starts later. What cannot be given up is logged:
/// running with more than needed is no reason not to run.
pub(crate) fn drop_unneeded(mode: &ModeDescriptor, config: &Config) {
    let needed = needed(mode, config);
    // The bounding set first: changing it needs a capability that goes next.
    if let Ok(bounding) = caps::read(None, CapSet::Bounding) {
        for capability in bounding.difference(&needed) {
            if let Err(error) = caps::drop(None, CapSet::Bounding, *capability) {
                debug!("capability {capability} stays in the bounding set: {error}");
            }
        }
    }
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        let dropped = caps::read(None, set)
            .and_then(|held| caps::set(None, set, &held.intersection(&needed).copied().collect()));
        if let Err(error) = dropped {
            debug!("capabilities stay in the {set:?} set: {error}");
        }
    }
}

/// Runs `start` with only the capabilities that `run` needs, as [`drop_unneeded`] has them. The
/// threads that it starts have no others either.
pub(crate) fn without_unneeded<T: Send>(
    mode: &ModeDescriptor,
    config: &Config,
    start: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let started =
            std::thread::Builder::new().name("starting".to_owned()).spawn_scoped(scope, move || {
                drop_unneeded(mode, config);
                start()
            });
        let ended = started.context("starting a thread")?.join();
        // A panic ends the process.
        ended.unwrap_or_else(|_| Err(anyhow!("a thread that starts others has ended")))
    })
}

/// Why rules cannot be written, for people; `None` if they can, as far as privileges go.
pub(crate) fn missing() -> Option<&'static str> {
    let held = caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_ADMIN).unwrap_or(true);
    // In a user namespace, it may be held over other networks than this one.
    let asked = || Socket::open().and_then(|mut socket| socket.generation());
    let denied = held && asked().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    (!held || denied).then_some(
        "no privilege to write rules (CAP_NET_ADMIN): run it as root, as in `sudo portolan run`; in a pod, add NET_ADMIN \
         to securityContext.capabilities; to try it out without root, use `portolan lab`",
    )
}

#[cfg(test)]
mod tests {
    use portolan_config::Diversion;
    use portolan_dataplane::MODES;

    use super::*;

    #[test]
    fn nothing_but_the_needed_is_left() {
        for mode in MODES {
            // Capabilities belong to a thread: the other tests keep theirs.
            std::thread::spawn(move || {
                let before = [CapSet::Permitted, CapSet::Bounding].map(|set| caps::read(None, set).unwrap());
                let may_bound = before[0].contains(&Capability::CAP_SETPCAP);
                let config = Config::default();
                drop_unneeded(mode, &config);
                let [permitted, bounding] = before.map(|set| &set & &needed(mode, &config));
                for set in [CapSet::Permitted, CapSet::Effective] {
                    assert_eq!(caps::read(None, set).unwrap(), permitted, "{} {set:?}", mode.name);
                }
                if may_bound {
                    assert_eq!(caps::read(None, CapSet::Bounding).unwrap(), bounding, "{}", mode.name);
                }
            })
            .join()
            .unwrap();
        }
    }

    #[test]
    fn raw_sockets_are_for_iptables_and_announcements() {
        let raw = |mode, config: &Config| needed(mode, config).contains(&Capability::CAP_NET_RAW);
        let usual = Config::default();
        let accepting = Config { accept_forwarded: true, ..Config::default() };
        let mut announcing = Config::default();
        announcing.announcement.layer2 = true;
        let mut diverting = Config::default();
        diverting.userspace.diversion = Diversion::Iptables;
        for mode in MODES {
            assert_eq!(raw(mode, &usual), mode.name == "iptables", "{}", mode.name);
            assert!(raw(mode, &accepting), "{}", mode.name);
            assert!(raw(mode, &announcing), "{}", mode.name);
            let diverts = ["iptables", "userspace"].contains(&mode.name);
            assert_eq!(raw(mode, &diverting), diverts, "{}", mode.name);
        }
    }
}
