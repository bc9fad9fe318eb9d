//! Removing rules: our own, and those that kube-proxy left.

use std::thread;
use std::time::Instant;

use anyhow::anyhow;
use portolan_announce::Routes;
use portolan_config::Config;
use portolan_dataplane::iptables::AcceptForwarded;
use portolan_dataplane::kube_proxy::{self, Search};
use portolan_dataplane::{Diversion, InUse, Leftovers, MODES, ModeDescriptor, Part, RemovalError};
use tracing::{info, warn};

use crate::describe::counted;
use crate::node_lock::{self, Taken};

/// Removes our rules, of all modes. `say` takes a line for each part, for people.
pub(crate) fn own(say: impl Fn(&str)) -> anyhow::Result<()> {
    let mut nothing = true;
    let mut failures = Vec::new();
    for mode in MODES {
        match (mode.remove_own)(InUse::default()) {
            Ok(removed) => {
                nothing &= removed.is_empty();
                say_removed(&removed, &say);
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    match kube_proxy::mark(false) {
        Ok(false) => {}
        Ok(true) => {
            nothing = false;
            say("removed nftables: chain portolan-marker of table kube-proxy");
        }
        Err(error) => failures.push(error.to_string()),
    }
    // A proxy that runs answers at the addresses that its routes lead to.
    if matches!(node_lock::take()?, Taken::Ours(_)) {
        let mut removed = false;
        let routes = local_routes(|line| {
            removed = true;
            say(line);
        });
        failures.extend(routes.err().map(|error| error.to_string()));
        match Routes::clean_up() {
            Ok(routes) if routes.is_empty() => {}
            Ok(routes) => {
                removed = true;
                let addresses: Vec<String> = routes.iter().map(ToString::to_string).collect();
                say(&format!("removed routes to load-balancer addresses: {}", addresses.join(", ")));
            }
            Err(error) => failures.push(format!("routes to load-balancer addresses: {error}")),
        }
        nothing &= !removed;
    }
    match AcceptForwarded::new().remove() {
        Ok(0) => {}
        Ok(accepted) => {
            nothing = false;
            let tables = counted(accepted, "table");
            say(&format!("removed iptables: the rule of --accept-forwarded, in {tables}"));
        }
        Err(error) => failures.push(error.to_string()),
    }
    if !failures.is_empty() {
        return Err(anyhow!(failures.join("; ")));
    }
    if nothing {
        say("nothing of Portolan's is left");
    }
    Ok(())
}

/// Removes the local routes by which names were answered on this node. `say` takes a line, for
/// people, if there are any.
pub(crate) fn local_routes(mut say: impl FnMut(&str)) -> Result<(), portolan_dataplane::Error> {
    let left = Diversion::clean_up()?;
    if !left.is_empty() {
        let addresses: Vec<String> = left.iter().map(ToString::to_string).collect();
        say(&format!("removed local routes of the cluster's DNS: {}", addresses.join(", ")));
    }
    Ok(())
}

/// Writes the chain that has Calico choose nftables, or removes it if it is not wanted.
pub(crate) fn mark_for_calico(mode: &ModeDescriptor, config: &Config, asked: bool) {
    let wanted = asked && (mode.fits_nftables)(config);
    if let Err(error) = kube_proxy::mark(wanted) {
        warn!("{error}: set nftablesMode in Calico's FelixConfiguration instead, which needs no marker");
    }
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

fn say_removed(removed: &Leftovers, say: impl Fn(&str)) {
    for part in &removed.parts {
        say(&format!("removed {part}"));
    }
    for kept in &removed.kept {
        say(&kept.to_string());
    }
}

/// What a proxy that serves now replaces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TakeOver {
    /// How it serves, which stays.
    pub(crate) in_use: InUse,
    /// kube-proxy's rules go, too: on a host without a cluster they are somebody else's.
    pub(crate) in_cluster: bool,
}

impl TakeOver {
    /// Removes what served before while ours is in force, in a thread of its own: tens of thousands
    /// of rules take their time, and changes must not wait for that.
    pub(crate) fn start(self) {
        let start = thread::Builder::new().name("take-over".to_owned()).spawn(move || self.run());
        if let Err(error) = start {
            warn!("starting a thread to remove what other proxies left: {error}");
        }
    }

    fn run(self) {
        for mode in MODES {
            // Mode userspace has the rules of another mode.
            let from = format!("an earlier portolan with rules of {}", mode.name);
            replace(
                &from,
                "portolan cleanup",
                || (mode.find_own)(self.in_use),
                || (mode.remove_own)(self.in_use),
            );
        }
        if self.in_cluster {
            let search = Search { beside: self.in_use, ..Search::default() };
            let find = || search.find().inspect(warn_of_connections);
            replace("kube-proxy", "portolan cleanup --kube-proxy", find, || search.remove());
        }
    }
}

/// What ends with modes of ours was reported before rules of this one were written.
fn warn_of_connections(left_by_kube_proxy: &Leftovers) {
    if left_by_kube_proxy.parts.iter().any(|part| matches!(part, Part::VirtualServers(_))) {
        warn!("connections through virtual servers of kube-proxy end with these: only IPVS can forward them");
    }
}

/// Removes what an earlier proxy, `from`, left. `command` is what tries again if that fails.
fn replace(
    from: &str,
    command: &str,
    find: impl FnOnce() -> Result<Leftovers, RemovalError>,
    remove: impl FnOnce() -> Result<Leftovers, RemovalError>,
) {
    let started = Instant::now();
    match find() {
        Ok(leftovers) if leftovers.is_empty() => return,
        Ok(leftovers) => info!("taking over from {from}, which left: {leftovers}"),
        Err(error) => warn!("{error}"),
    }
    match remove() {
        Ok(removed) => {
            for line in removed.lines() {
                info!("removed what {from} left: {line}");
            }
            info!("what {from} left is gone after {:.1?}; our rules serve", started.elapsed());
        }
        Err(error) => warn!("{error}; our rules serve beside the rest: `{command}` tries again"),
    }
}
