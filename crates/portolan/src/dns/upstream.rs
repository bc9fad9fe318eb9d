//! What the Corefile's `forward`, `cache`, `hosts` and `loop` ask of other servers.

use std::path::PathBuf;
use std::time::Duration;

use portolan_corefile::{self as corefile, Refresh, Selection, ServerBlock, To};
use portolan_names::Fallthrough;
use portolan_upstream::{
    AllDown, Cache, Forward, Health, Hosts, Kept, Policy, Prefetch, Protocol, Settings, Stale, Target, Tls,
    Zone,
};

/// With `verify` and no time of its own, an old answer is given when all tries have failed.
const ALL_TRIES: Duration = Duration::from_secs(10);

/// The settings of `block`, which answers at `server` (`dns://:53`). The server that asks has found
/// the block by the longest zone already, so that there is one zone for all of it.
pub(super) fn settings(block: &ServerBlock, server: &str) -> Settings {
    let mut zone = Zone::new(".");
    server.clone_into(&mut zone.server);
    zone.hosts = block.hosts.as_ref().map(hosts);
    zone.cache = block.cache.as_ref().map(cache);
    zone.forwards = block.forward.iter().flat_map(forwards).collect();
    zone.shuffle = true;
    zone.detect_loops = block.loop_detection.then_some(Zone::LOOP_INTERVAL);
    Settings { zones: vec![zone], ..Settings::default() }
}

/// One for each domain that a network in place of a domain stands for.
fn forwards(forward: &corefile::Forward) -> impl Iterator<Item = Forward> + '_ {
    forward.from.iter().map(|from| {
        let mut settings = Forward::new(forward.to.iter().map(target));
        settings.from.clone_from(from);
        settings.except.clone_from(&forward.except);
        settings.policy = match forward.policy {
            Selection::Random => Policy::Random,
            Selection::RoundRobin => Policy::RoundRobin,
            Selection::Sequential => Policy::Sequential,
        };
        settings.force_tcp = forward.force_tcp;
        settings.tls = Tls {
            server_name: forward.tls_server_name.clone(),
            authorities: forward.tls.authority.clone().map(PathBuf::from),
            identity: forward.tls.own.clone().map(|(own, key)| (own.into(), key.into())),
        };
        settings.max_fails = forward.max_fails;
        settings.health = Health {
            interval: forward.health_check.interval,
            domain: forward.health_check.domain.clone(),
            recursion: forward.health_check.recursion,
        };
        settings.all_down = if forward.fail_fast { AllDown::Fail } else { AllDown::AskAny };
        settings.expire = forward.expire;
        settings.max_concurrent = (forward.max_concurrent > 0).then_some(forward.max_concurrent);
        settings.timeout = forward.read_timeout;
        if let Some(tries) = forward.max_connect_attempts.filter(|tries| *tries > 0) {
            settings.tries = tries;
        }
        settings.failover.clone_from(&forward.failover);
        settings
    })
}

fn target(to: &To) -> Target {
    match to {
        To::Plain(address) => Target::Server { address: *address, protocol: Protocol::Plain },
        To::Tls(address, name) => Target::Server { address: *address, protocol: Protocol::Tls(name.clone()) },
        To::File(file) => Target::ResolvConf(file.into()),
    }
}

fn cache(cache: &corefile::Cache) -> Cache {
    let kept = |kept: &corefile::Kept| Kept {
        entries: kept.capacity,
        ttl_max: kept.ttl_max,
        ttl_min: kept.ttl_min,
        not_in: kept.disabled.clone(),
    };
    let verify = |refresh| match refresh {
        Refresh::After => None,
        Refresh::Before(timeout) => Some(timeout.unwrap_or(ALL_TRIES)),
    };
    Cache {
        domains: cache.domains.clone(),
        success: kept(&cache.success),
        denial: kept(&cache.denial),
        servfail: cache.servfail,
        serve_stale: cache.stale.map(|stale| Stale { keep: stale.up_to, verify: verify(stale.refresh) }),
        prefetch: cache.prefetch.map(|prefetch| Prefetch {
            amount: u32::try_from(prefetch.amount).unwrap_or(u32::MAX),
            within: prefetch.gap,
            percentage: prefetch.percentage,
        }),
        keep_ttl: cache.keep_ttl,
        ..Cache::default()
    }
}

fn hosts(hosts: &corefile::Hosts) -> Hosts {
    Hosts {
        file: Some(hosts.file.clone().into()),
        domains: hosts.domains.clone(),
        entries: hosts.lines.clone(),
        ttl: hosts.ttl,
        reverse: hosts.reverse,
        fallthrough: match &hosts.fallthrough {
            Fallthrough::Nothing => None,
            Fallthrough::Everything => Some(Vec::new()),
            Fallthrough::Domains(domains) => Some(domains.clone()),
        },
    }
}
