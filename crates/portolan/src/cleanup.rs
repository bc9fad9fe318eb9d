//! Removing rules: our own, and those that kube-proxy left.

use std::thread;
use std::time::Instant;

use anyhow::anyhow;
use portolan_config::Mode;
use portolan_dataplane::iptables::AcceptForwarded;
use portolan_dataplane::kube_proxy::{self, Removed, Search, Variant};
use portolan_dataplane::nftables::Nftables;
use portolan_dataplane::{Dataplane, Settings};
use portolan_service::{Family, PerFamily};
use tracing::{info, warn};

use crate::describe::counted;

/// Removes our rules, of all modes. `say` takes a line for each part, for people.
pub(crate) fn own(say: impl Fn(&str)) -> anyhow::Result<()> {
    let tables = own_tables()?;
    for family in &tables {
        let family = if *family == Family::V4 { "ip" } else { "ip6" };
        say(&format!("removed nftables: table {family} portolan"));
    }
    let marked = kube_proxy::mark(false).map_err(|error| anyhow!("{error}"))?;
    if marked {
        say("removed nftables: chain portolan-marker of table kube-proxy");
    }
    let accepted = AcceptForwarded::new().remove()?;
    if accepted > 0 {
        say(&format!("removed iptables: the rule of --accept-forwarded, in {}", counted(accepted, "table")));
    }
    let removed = Search { own: true, ..Search::default() }.remove().map_err(|error| anyhow!("{error}"))?;
    if tables.is_empty() && !marked && accepted == 0 && removed.is_empty() {
        say("nothing of Portolan's is left");
    }
    say_removed(&removed, say);
    Ok(())
}

/// Writes the chain that has Calico choose nftables, or removes it if it is not wanted.
pub(crate) fn mark_for_calico(wanted: bool) {
    if let Err(error) = kube_proxy::mark(wanted) {
        warn!("{error}: set nftablesMode in Calico's FelixConfiguration instead, which needs no marker");
    }
}

/// Removes the tables of mode nftables, and says of which families there were any.
fn own_tables() -> Result<Vec<Family>, portolan_dataplane::Error> {
    let mut dataplane = Nftables::new(Settings::default())?;
    let tables = dataplane.tables()?;
    dataplane.cleanup()?;
    Ok(tables)
}

/// Removes what kube-proxy left, of all modes. `say` takes a line for each part, for people.
pub(crate) fn kube_proxy(say: impl Fn(&str)) -> anyhow::Result<()> {
    let removed = kube_proxy::remove().map_err(|error| anyhow!("{error}"))?;
    if removed.is_empty() {
        say("nothing of kube-proxy's is left");
    }
    say_removed(&removed, say);
    Ok(())
}

fn say_removed(removed: &Removed, say: impl Fn(&str)) {
    for part in &removed.parts {
        say(&format!("removed {part}"));
    }
    for kept in &removed.kept {
        say(&kept.to_string());
    }
}

/// Whose rules a proxy that serves now replaces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TakeOver {
    /// How it serves.
    pub(crate) mode: Mode,
    /// Where its own chains are, in mode iptables.
    pub(crate) chains: PerFamily<Option<Variant>>,
    /// kube-proxy's rules, too: on a host without a cluster they are somebody else's.
    pub(crate) in_cluster: bool,
}

impl TakeOver {
    /// Removes what served before while ours is in force, in a thread of its own: tens of thousands of rules take their
    /// time, and changes must not wait for that.
    pub(crate) fn start(self) {
        let start = thread::Builder::new().name("take-over".to_owned()).spawn(move || self.run());
        if let Err(error) = start {
            warn!("starting a thread to remove what other proxies left: {error}");
        }
    }

    /// What of iptables, IPVS and kube-proxy's tables is to go.
    fn search(self) -> Search {
        Search { own: !self.in_cluster, beside: self.chains, ..Search::default() }
    }

    fn run(self) {
        let started = Instant::now();
        if self.mode != Mode::Nftables
            && let Err(error) = own_tables()
        {
            warn!(
                "{error}; our tables of mode nftables stay: `nft delete table ip portolan` (and ip6) removes them"
            );
        }
        let search = self.search();
        match search.find() {
            Ok(leftovers) if leftovers.is_empty() => return,
            Ok(leftovers) => info!("taking over from {}, which left: {leftovers}", self.predecessor()),
            Err(error) => warn!("{error}"),
        }
        match search.remove() {
            Ok(removed) => {
                for line in removed.lines() {
                    info!("removed what {} left: {line}", self.predecessor());
                }
                info!(
                    "the rules of {} are gone after {:.1?}; ours serve",
                    self.predecessor(),
                    started.elapsed()
                );
            }
            Err(error) => {
                warn!("{error}; ours serve beside the rest: `portolan cleanup --kube-proxy` tries again");
            }
        }
    }

    fn predecessor(self) -> &'static str {
        if self.in_cluster { "kube-proxy" } else { "our mode iptables" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_proxy_takes_over() {
        let nft = PerFamily { v4: Some(Variant::Nft), v6: Some(Variant::Nft) };
        for (name, mode, chains, in_cluster, own) in [
            ("in a cluster all of kube-proxy's", Mode::Nftables, PerFamily::default(), true, false),
            (
                "without one, what mode iptables marked as ours",
                Mode::Nftables,
                PerFamily::default(),
                false,
                true,
            ),
            ("mode iptables keeps its own chains", Mode::Iptables, nft, true, false),
            ("and so without a cluster", Mode::Iptables, nft, false, true),
        ] {
            let search = TakeOver { mode, chains, in_cluster }.search();
            assert_eq!((search.own, search.beside), (own, chains), "{name}");
        }
    }
}
