//! Real packets through the whole program, in nodes and pods made of network namespaces.
//!
//! Everything runs in private namespaces that end with this process: nothing is left behind however
//! it ends.

mod affinity;
mod by_name;
mod case;
mod chains;
mod counted;
mod diversion;
mod fixture;
mod integrity;
mod known_faults;
mod kube_proxy_ipvs;
mod localhost;
mod moving;
mod named;
mod probed;
mod proxy_protocol;
mod scene;
mod schedulers;
mod situations;
mod spread;
mod steady;
mod table;
mod tables;
mod timeouts;
mod traced;
mod udp_flows;
mod userspace;
mod walkthroughs;
mod weights;
mod world;

use std::collections::BTreeSet;
use std::process::ExitCode;

use libtest_mimic::Trial;
use portolan_dataplane::Variant;
use portolan_netfilter::nft::TableFamily;
use portolan_service::{Family, Protocol};
use portolan_tests::harness::{self, trial};

use crate::case::{Client, Frontend, Mode, Setting};

/// Tests mostly wait for packets that must not come, so that more of them than processors can run
/// at once.
const THREADS: usize = 6;

fn main() -> ExitCode {
    harness::run("packets", THREADS, trials())
}

fn trials() -> Vec<Trial> {
    // The long ones first.
    type Test = fn(Mode) -> anyhow::Result<()>;
    // In mode userspace, connections end with the process, and no dataplane serves without one.
    let steady: [(&str, Test); 3] = [
        ("steady: endpoints flap as fast as the dataplane commits", steady::flapping_dataplane),
        ("steady: the proxy restarts while endpoints flap", steady::restarts),
        (
            "steady: the proxy is killed at random moments while endpoints flap",
            steady::killed_at_random_moments,
        ),
    ];
    let tests: [(&str, Test); 8] = [
        ("W1: a port nobody listens on, and a forward by hand", walkthroughs::w1_port_nobody_listens_on),
        ("W2: two pods behind a NodePort", walkthroughs::w2_two_pods_behind_a_node_port),
        ("W3: a load balancer in front", walkthroughs::w3_load_balancer),
        ("W4: a process on the node opens the NodePort itself", walkthroughs::w4_node_port_in_use),
        ("W4: other programs' tables stay as they are", integrity::foreign_tables_stay),
        ("W5: from pod to Service", walkthroughs::w5_from_pod_to_service),
        ("cleanup leaves nothing behind", integrity::cleanup_leaves_nothing),
        ("check changes nothing", integrity::check_changes_nothing),
    ];
    let mut trials = vec![trial("steady: the mode changes and changes back", steady::switching)];
    trials.extend(Mode::ALL.iter().map(|mode| {
        let name = format!("{}: steady: endpoints flap again and again in the manifests", mode.name());
        trial(name, move || steady::flapping_manifests(*mode))
    }));
    trials.extend([Mode::Userspace, Mode::Portals].map(|mode| {
        let name = format!("{}: steady: the next proxy waits for the end of the one before", mode.name());
        trial(name, move || steady::successors(mode))
    }));
    let steady = steady.into_iter().map(|(name, test)| (name, test, Mode::OF_KERNEL));
    for (name, test, modes) in steady.chain(tests.into_iter().map(|(name, test)| (name, test, Mode::ALL))) {
        trials
            .extend(modes.iter().map(|mode| trial(format!("{}: {name}", mode.name()), move || test(*mode))));
    }
    // Names are answered in the same way whatever the mode.
    for mode in Mode::OF_RULES {
        for (dual, families) in [(false, "IPv4"), (true, "dual stack")] {
            let name = format!("{}: W5: from pod to Service by name, {families}", mode.name());
            let by_name = trial(name, move || by_name::w5_by_name(*mode, dual));
            trials.push(by_name.with_ignored_flag(!by_name::has_curl()));
        }
    }
    trials.extend(affinity_trials());
    trials.extend(udp_flow_trials());
    trials.extend(diversion_trials());
    trials.extend(named_trials());
    trials.extend(integrity_trials());
    trials.extend(localhost_trials());
    trials.extend(probe_trials());
    trials.extend(proxy_protocol_trials());
    trials.extend(known_fault_trials());
    trials.extend(scheduler_trials());
    trials.extend(weight_trials());
    trials.extend(userspace_trials());
    trials.extend(situation_trials());
    trials.extend(spread_trials());
    trials.extend(table_trials());
    trials.extend(traced_trials());
    trials.push(trial(
        "ipvs: kube-proxy's mode ipvs: traced as its packets go",
        kube_proxy_ipvs::traced_as_packets_go,
    ));
    trials.push(trial("ipvs: from kube-proxy's mode ipvs and back", moving::kube_proxy_and_back));
    trials.push(trial(
        "ipvs: what kube-proxy left is removed beside ours",
        moving::kube_proxy_cleaned_up_beside,
    ));
    trials.push(trial("ipvs: to mode nftables and back", moving::nftables_and_back));
    trials.push(trial("ipvs: connections are remembered as long as configured", timeouts::are_set));
    trials.push(trial("ipvs: what is counted is shown", counted::is_shown));
    let impossible = |mode: &&Mode| !mode.is_possible();
    for mode in Mode::ALL.iter().filter(impossible) {
        trials.retain(|trial| !trial.name().starts_with(mode.flag()));
    }
    trials
}

fn affinity_trials() -> Vec<Trial> {
    type Test = fn(Mode, Protocol, Family) -> anyhow::Result<()>;
    let all = Mode::SOCKETS_ONCE;
    let tests: [(&str, Test, &'static [Mode]); 7] = [
        ("a client stays, spec §3.20", affinity::client_stays, all),
        ("all frontends of a port share it, spec §3.20", affinity::frontends_share, all),
        ("ends after its timeout, spec §3.20", affinity::affinity_expires, Mode::BUT_IPVS),
        ("use renews it, spec §3.20", affinity::use_renews, all),
        ("survives SIGKILL and restart, spec §3.23", affinity::survives_restart, Mode::OF_KERNEL),
        ("ends with the process", affinity::ends_with_the_process, &[Mode::Userspace]),
        ("ends with its endpoint, spec §3.21", affinity::removed_endpoint_loses_its_clients, all),
    ];
    let variants = [(Protocol::Tcp, Family::V4), (Protocol::Udp, Family::V6)];
    let mut trials = Vec::new();
    for (name, test, modes) in tests {
        for mode in modes {
            trials.extend(variants.map(|(protocol, family)| {
                let name = format!("{}: affinity: {name}, over {protocol} {family}", mode.name());
                trial(name, move || test(*mode, protocol, family))
            }));
        }
    }
    trials
}

fn udp_flow_trials() -> Vec<Trial> {
    type Test = fn(Mode, Family) -> anyhow::Result<()>;
    let all = Mode::ALL;
    let tests: [(&str, Test, &'static [Mode]); 6] = [
        ("move when their endpoint goes, spec §8.2", udp_flows::endpoint_removed, all),
        ("stay with a terminating endpoint, spec §8.2", udp_flows::endpoint_terminating, all),
        ("are refused when the Service is scaled to zero, spec §8.5, §13.1", udp_flows::scaled_to_zero, all),
        ("end with their Service, spec §8.5, §13.1", udp_flows::service_deleted, all),
        ("that went nowhere find a Service created later, spec §8.4", udp_flows::service_created_late, all),
        ("are not flushed by a restart, spec §8.7", udp_flows::restart_flushes_nothing, Mode::OF_KERNEL),
    ];
    let mut trials = Vec::new();
    for (name, test, modes) in tests {
        for mode in modes {
            trials.extend(Family::ALL.map(|family| {
                let name = format!("{}: UDP flows over {family} {name}", mode.name());
                trial(name, move || test(*mode, family))
            }));
        }
    }
    trials
}

fn named_trials() -> Vec<Trial> {
    type Test = fn(Mode) -> anyhow::Result<()>;
    let tests: [(&str, Test); 4] = [
        ("names are answered on the node", named::answered_on_the_node),
        ("a bad Corefile for names costs no rule", named::a_bad_corefile_costs_no_rule),
        ("names on the node leave what others have", named::what_others_have_stays),
        ("no question for a name is lost", named::no_question_is_lost),
    ];
    let of_modes = |(name, test): (&'static str, Test)| {
        Mode::OF_RULES.iter().map(move |mode| trial(format!("{}: {name}", mode.name()), move || test(*mode)))
    };
    tests.into_iter().flat_map(of_modes).collect()
}

fn diversion_trials() -> Vec<Trial> {
    type Test = fn(Mode, Family) -> anyhow::Result<()>;
    let tests: [(&str, Test); 3] = [
        ("without connection tracking", diversion::without_connection_tracking),
        ("connections stay", diversion::connections_stay),
        ("no question is lost", diversion::no_question_is_lost),
    ];
    let mut trials = Vec::new();
    for (name, test) in tests {
        for mode in Mode::OF_RULES {
            trials.extend(Family::ALL.map(|family| {
                let name = format!("{}: answered on the node over {family}: {name}", mode.name());
                trial(name, move || test(*mode, family))
            }));
        }
    }
    trials
}

fn integrity_trials() -> Vec<Trial> {
    let of_tables = integrity::DAMAGES.iter().flat_map(|(name, damage)| {
        [TableFamily::Ip, TableFamily::Ip6].map(|family| {
            trial(format!("nftables: repair within a second after: {name} of {family}"), move || {
                integrity::mended(*damage, family)
            })
        })
    });
    let of_chains = |mode: Mode, damages: &'static [(&'static str, chains::ChainDamage)]| {
        damages.iter().flat_map(move |(name, damage)| {
            Family::ALL.map(|family| {
                let name = format!("{}: repair within seconds after: {name}, {family}", mode.name());
                trial(name, move || integrity::chains_mended(mode, damage, family))
            })
        })
    };
    let of_chains =
        of_chains(Mode::Iptables, chains::DAMAGES).chain(of_chains(Mode::Portals, chains::PORTAL_DAMAGES));
    of_tables.chain(of_chains).collect()
}

fn localhost_trials() -> Vec<Trial> {
    type Test = fn(Protocol, Family) -> anyhow::Result<()>;
    let tests: [(&str, Test); 5] = [
        ("all clients share affinity", localhost::affinity),
        ("endpoints change while clients are there", localhost::endpoints_change),
        ("a program of the host has the port", localhost::port_taken),
        ("the process is killed, or ended, and starts again", localhost::restart),
        ("clients are counted, and the port moves", localhost::counted_and_moved),
    ];
    let mut trials = Vec::new();
    for (name, test) in tests {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            trials.extend(Family::ALL.map(|family| {
                let name = format!("nftables: NodePort on loopback over {protocol} {family}: {name}");
                trial(name, move || test(protocol, family))
            }));
        }
    }
    trials
}

fn proxy_protocol_trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (mode, family, version) in [
        (Mode::Userspace, Family::V4, "v1"),
        (Mode::Userspace, Family::V4, "v2"),
        (Mode::Userspace, Family::V6, "v1"),
        (Mode::Userspace, Family::V6, "v2"),
        (Mode::Portals, Family::V4, "v2"),
        (Mode::Portals, Family::V6, "v1"),
    ] {
        let name = format!("{}: PROXY protocol {version} over {family} names the client", mode.name());
        trials.push(trial(name, move || proxy_protocol::clients_are_named(mode, family, version)));
    }
    for family in Family::ALL {
        trials.push(trial(format!("userspace: PROXY protocol over {family} comes and goes"), move || {
            proxy_protocol::changes_live(family)
        }));
    }
    for (mode, family) in Mode::SOCKETS_ONCE.iter().zip([Family::V4, Family::V6, Family::V4]) {
        let name = format!("{}: PROXY protocol that cannot be is reported, {family}", mode.name());
        trials.push(trial(name, move || proxy_protocol::without(*mode, family)));
    }
    trials
}

fn known_fault_trials() -> Vec<Trial> {
    type Test = fn(Family) -> anyhow::Result<()>;
    let tests: [(&str, Test, Family); 5] = [
        ("a port is used again after a roll-out", known_faults::port_reused_after_a_roll_out, Family::V4),
        ("an endpoint comes back while it drains", known_faults::back_while_it_drains, Family::V6),
        ("weights of 0 after a restart", known_faults::weights_after_a_restart, Family::V4),
        ("host ports at addresses of Services", known_faults::host_ports_at_a_vip, Family::V6),
        ("cleanup leaves virtual servers of others", known_faults::cleanup_leaves_others, Family::V4),
    ];
    let trials = tests.into_iter().map(|(name, test, family)| {
        trial(format!("ipvs: known faults: {name}, {family}"), move || test(family))
    });
    trials.collect()
}

fn scheduler_trials() -> Vec<Trial> {
    let live = |family| {
        trial(format!("ipvs: schedulers change live, {family}"), move || schedulers::change_live(family))
    };
    let mut trials = Vec::from(Family::ALL.map(live));
    trials.push(trial(
        "ipvs: schedulers: least connections rush to a new endpoint",
        schedulers::rush_to_the_new_one,
    ));
    trials.push(trial(
        "ipvs: schedulers: one that the kernel lacks, with weights",
        schedulers::missing_with_weights,
    ));
    trials
}

fn probe_trials() -> Vec<Trial> {
    let mut trials = vec![trial("nftables: probes: switched off", probed::switched_off)];
    for (mode, family) in [(Mode::Nftables, Family::V4), (Mode::Iptables, Family::V6)] {
        let name = format!("{}: probes: servers that go bad and come back, {family}", mode.name());
        trials.push(trial(name, move || probed::good_and_bad(mode, family)));
    }
    trials
}

fn weight_trials() -> Vec<Trial> {
    type Test = fn(Mode, Family) -> anyhow::Result<()>;
    let tests: [(&str, Test); 2] = [("shares", weights::shares), ("rest", weights::rest)];
    let mut trials = Vec::new();
    for (name, test) in tests {
        for (mode, family) in Mode::SOCKETS_ONCE.iter().zip(Family::ALL.into_iter().cycle()) {
            let name = format!("{}: weights of endpoints: {name}, {family}", mode.name());
            trials.push(trial(name, move || test(*mode, family)));
        }
    }
    trials
}

fn userspace_trials() -> Vec<Trial> {
    type Test = fn(Family) -> anyhow::Result<()>;
    let tests: [(&str, Test, &[Family]); 6] = [
        ("the process is killed while clients are there", userspace::killed, &Family::ALL),
        ("the process ends while connections go on", userspace::ends_gently, &[Family::V4]),
        ("connections that do not end are cut", userspace::ends_though_connections_stay, &[Family::V6]),
        ("settings change while clients are there", userspace::settings_change, &Family::ALL),
        ("endpoints change and nothing is written", userspace::nothing_is_written, &Family::ALL),
        ("SCTP is refused", userspace::sctp_is_refused, &Family::ALL),
    ];
    let mut trials = Vec::new();
    for (name, test, families) in tests {
        trials.extend(families.iter().map(|family| {
            let family = *family;
            trial(format!("userspace: {name}, {family}"), move || test(family))
        }));
    }
    trials
}

fn situation_trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    trials.push(trial(
        "iptables: health-check port behind a firewall, spec §5.18",
        situations::health_check_port_behind_a_firewall,
    ));
    for family in Family::ALL {
        for (mode, variant) in [
            (Mode::Nftables, Variant::Nft),
            (Mode::Nftables, Variant::Legacy),
            (Mode::Iptables, Variant::Nft),
        ] {
            trials.push(trial(
                format!("{}: accept-forwarded where {variant} drops, {family}", mode.name()),
                move || situations::accept_forwarded(mode, variant, family),
            ));
        }
        for mode in Mode::ALL {
            trials.push(trial(
                format!("{}: NodePort on an address added at run time, {family}, spec §3.8", mode.name()),
                move || situations::address_at_run_time(*mode, family),
            ));
            trials.push(trial(
                format!("{}: source ranges: self access, {family}, spec §3.18", mode.name()),
                move || situations::source_ranges_self_access(*mode, family),
            ));
            trials.push(trial(
                format!("{}: health-check port, {family}, spec §11.10", mode.name()),
                move || situations::health_check_port(*mode, family),
            ));
            for (frontend, client, masqueraded) in [
                (Frontend::ClusterIp, Client::PodHere, false),
                (Frontend::ClusterIp, Client::Node, true),
                (Frontend::ClusterIp, Client::Outside, true),
                (Frontend::LoadBalancer, Client::Outside, true),
                (Frontend::NodePort, Client::Outside, true),
            ] {
                // No socket of the proxy takes SCTP.
                if mode.has_sockets() {
                    continue;
                }
                let name = format!("{}: SCTP INIT from {client} to {frontend}, {family}", mode.name());
                trials.push(trial(name, move || {
                    situations::sctp_init(*mode, frontend, client, masqueraded, family)
                }));
            }
        }
    }
    trials
}

fn spread_trials() -> Vec<Trial> {
    const WEB: &[&str] = &["a1", "a2", "b1"];
    let mut trials = Vec::new();
    for mode in Mode::SOCKETS_ONCE {
        for (service, frontend, client, endpoints, protocol, family) in [
            ("web", Frontend::ClusterIp, Client::PodHere, WEB, Protocol::Tcp, Family::V4),
            ("web", Frontend::ClusterIp, Client::PodHere, WEB, Protocol::Udp, Family::V4),
            ("web", Frontend::ClusterIp, Client::PodElsewhere, WEB, Protocol::Tcp, Family::V6),
            ("web", Frontend::ClusterIp, Client::Node, WEB, Protocol::Udp, Family::V6),
            ("web", Frontend::LoadBalancer, Client::Outside, WEB, Protocol::Tcp, Family::V6),
            ("web", Frontend::NodePort, Client::Outside, WEB, Protocol::Tcp, Family::V4),
            // An endpoint in two slices has no double share (spec §1.27).
            ("duplicates", Frontend::ClusterIp, Client::PodHere, &["a1", "b1"], Protocol::Tcp, Family::V4),
        ] {
            // A UDP client takes a descriptor of the proxy for a while, and there may be few.
            if mode.has_sockets() && protocol == Protocol::Udp && family == Family::V6 {
                continue;
            }
            let name = format!(
                "{}: even spread of {service}: {client} to {frontend} over {protocol} {family}, spec §2.14",
                mode.name()
            );
            trials.push(trial(name, move || {
                spread::even(*mode, service, frontend, client, endpoints, protocol, family)
            }));
        }
    }
    trials
}

/// One trial for each row, mode, protocol and family.
fn table_trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for case in table::TABLE {
        for mode in case.modes {
            for (protocol, family) in case.combinations(*mode) {
                trials.push(Trial::test(case.name(*mode, protocol, family), move || {
                    Ok(world::world(*mode, case.setting)?.check(case, *mode, protocol, family)?)
                }));
            }
        }
    }
    trials
}

/// The tracer against the packet table: one trial for each mode, setting and origin of the rules.
fn traced_trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for mode in Mode::ALL.iter().filter(|mode| mode.is_possible()) {
        let rows = table::TABLE.iter().filter(|case| case.modes.contains(mode));
        let settings: BTreeSet<Setting> = rows.map(|case| case.setting).collect();
        for setting in settings {
            trials.extend(traced::Rules::ALL.map(|rules| {
                let setting_name =
                    if setting == Setting::Default { String::new() } else { format!(" [{setting:?}]") };
                let name =
                    format!("{}: traced over {rules:?}{setting_name} as the packets went", mode.name());
                trial(name, move || traced::agrees(*mode, setting, rules))
            }));
        }
    }
    trials
}
