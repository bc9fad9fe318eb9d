//! The service proxy of a cluster, tried out from its pods. Without `KUBECONFIG`, the clusters are
//! labs, one for each mode. With it, it is that one:
//! `KUBECONFIG=... cargo test -p portolan-e2e --test e2e`.
//!
//! Everything is in a namespace of its own, which is deleted however the cases end. CONTRIBUTING.md
//! says how to run it, and docs/conformance.md which cases are Kubernetes' own.

mod changes;
mod client;
mod conformance;
mod external;
mod internal;
mod observed;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::ensure;
use libtest_mimic::{Arguments, Completion, Trial};
use portolan_e2e::api::Api;
use portolan_e2e::cluster::Cluster;
use portolan_tests::lab::OwnLab;

/// What a case comes to: done, or why it does not apply to this cluster.
type Outcome = anyhow::Result<Completion>;

/// A case, by its name.
type Case = (&'static str, fn(&Cluster) -> Outcome);

/// The modes of the labs' proxies.
const MODES: &[&str] = &["nftables", "iptables", "userspace"];

/// A pod takes the cluster seconds, so that some cases run at once, but a small cluster should not
/// be filled.
const THREADS: usize = 4;
/// In a lab, a pod takes no time; the cases mostly wait.
const THREADS_IN_LABS: usize = 12;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let kubeconfig = std::env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty());
    let usual = if kubeconfig.is_some() { THREADS } else { THREADS_IN_LABS };
    arguments.test_threads.get_or_insert(usual);
    let done = match kubeconfig {
        _ if arguments.list => Ok(libtest_mimic::run(&arguments, trials("", None)).exit_code()),
        Some(kubeconfig) => in_cluster(&arguments, &kubeconfig),
        None => in_labs(&arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("e2e: {error:#}");
        ExitCode::FAILURE
    })
}

fn in_cluster(arguments: &Arguments, kubeconfig: &OsStr) -> anyhow::Result<ExitCode> {
    let cluster = enter(kubeconfig)?;
    eprintln!("e2e: namespace {}, {} nodes", cluster.namespace(), cluster.nodes().len());
    let conclusion = libtest_mimic::run(arguments, trials("", Some(&cluster)));
    // The trials and their shares of the cluster are gone.
    if let Some(cluster) = Arc::into_inner(cluster) {
        cluster.leave()?;
    }
    Ok(conclusion.exit_code())
}

/// The same cases in a lab for each mode, all at once.
fn in_labs(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    portolan_tests::site::use_binary()?;
    let nodes = Path::new(env!("CARGO_MANIFEST_DIR")).join("suite/nodes.yaml");
    let mut labs = Vec::new();
    let mut all = Vec::new();
    for mode in MODES {
        let lab = OwnLab::up([nodes.as_os_str(), "--proxy-mode".as_ref(), mode.as_ref()])?;
        let cluster = enter(lab.kubeconfig()?.as_os_str())?;
        all.push(trials(mode, Some(&cluster)));
        // In this order: the cluster is left before its lab ends.
        labs.push((cluster, lab));
    }
    // The long ones of all modes first.
    let longest = all.iter().map(Vec::len).max().unwrap_or_default();
    let mut modes: Vec<_> = all.into_iter().map(Vec::into_iter).collect();
    let trials = (0..longest).flat_map(|_| modes.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>());
    let conclusion = libtest_mimic::run(arguments, trials.chain([documented()]).collect());
    for (cluster, _lab) in labs {
        if let Some(cluster) = Arc::into_inner(cluster) {
            cluster.leave()?;
        }
    }
    Ok(conclusion.exit_code())
}

/// A namespace in the cluster, with the two servers that most cases ask.
fn enter(kubeconfig: &OsStr) -> anyhow::Result<Arc<Cluster>> {
    let cluster = Arc::new(Cluster::enter(Api::connect(kubeconfig)?)?);
    for (name, node) in [("server-a", 0), ("server-b", 1)] {
        cluster.start_server(name, "web", cluster.node(node), 0)?;
    }
    Ok(cluster)
}

/// The cases beside those of [`conformance`].
const OWN: &[Case] = &[
    // The long ones first.
    ("a pod that ends slowly is served to its end, spec §2", changes::terminating),
    ("an endpoint that leaves gets no more connections, and the other loses none", changes::endpoint_leaves),
    ("a Service that gets its first endpoint is served, spec §9.5", changes::first_endpoint),
    (
        "ClusterIP: every endpoint answers, from a pod and from a node, spec §3.1",
        internal::cluster_ip_answers,
    ),
    ("ClusterIP: over UDP, spec §3.1", internal::udp),
    ("ClusterIP: of both families, where the cluster has them, spec §1D", internal::dual_stack),
    ("ClusterIP: a pod reaches itself", internal::hairpin),
    ("ClusterIP: without endpoints connections are refused", internal::no_endpoints),
    ("NodePort: on every node, from a pod and from another node, spec §3.5", external::node_port_answers),
    ("externalTrafficPolicy Local: the client's address stays, and other nodes drop", external::local_policy),
    ("external IP, spec §3.2", external::external_ip),
    ("load balancer: its address is served in the cluster, spec §3.1", external::load_balancer),
    ("load balancer: source ranges, spec §3.15, §3.17", external::source_ranges),
    ("load balancer: health-check node port, spec §11.10", external::health_check_node_port),
    ("healthz and livez on every node, spec §11.4", observed::health),
    ("metrics on every node, spec §11.16", observed::metrics),
    ("metrics: headless Services are not forwarded", observed::headless),
];

/// All cases, with the mode of the cluster before their names; without a cluster they can only be
/// listed.
fn trials(mode: &str, cluster: Option<&Arc<Cluster>>) -> Vec<Trial> {
    let before = if mode.is_empty() { String::new() } else { format!("{mode}: ") };
    let trial = |(name, case): &Case| {
        let (case, cluster) = (*case, cluster.cloned());
        Trial::ignorable_test(format!("{before}{name}"), move || {
            let Some(cluster) = cluster else {
                return Ok(Completion::ignored_with("KUBECONFIG names no cluster"));
            };
            case(&cluster).map_err(|error| format!("{error:#}").into())
        })
    };
    conformance::cases().chain(OWN).map(trial).collect()
}

/// docs/conformance.md lists the cases: those with Kubernetes' names in its first table, and no
/// others.
fn is_documented() -> anyhow::Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/conformance.md");
    let page = std::fs::read_to_string(page)?;
    let section = |title: &str| {
        let (_, rest) = page.split_once(&format!("\n## {title}\n")).unwrap_or_default();
        let (section, _) = rest.split_once("\n## ").unwrap_or((rest, ""));
        section.split('`').skip(1).step_by(2).collect::<BTreeSet<_>>()
    };
    let names = |cases: &mut dyn Iterator<Item = &'static Case>| cases.map(|(name, _)| *name).collect();
    let same: BTreeSet<&str> = names(&mut conformance::cases());
    let listed = section("By the same name");
    let differ: Vec<_> = listed.symmetric_difference(&same).collect();
    ensure!(differ.is_empty(), "in the page or in the suite, and not in both: {differ:#?}");
    let all: BTreeSet<&str> = names(&mut conformance::cases().chain(OWN));
    let unknown: Vec<_> = section("By another name").difference(&all).copied().collect();
    ensure!(unknown.is_empty(), "the page has cases that there are not: {unknown:#?}");
    Ok(())
}

/// [`is_documented`] as a trial.
fn documented() -> Trial {
    Trial::test("docs/conformance.md lists the cases", || {
        is_documented().map_err(|error| format!("{error:#}").into())
    })
}
