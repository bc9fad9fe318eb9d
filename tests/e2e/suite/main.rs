//! The service proxy of a real cluster, tried out from its pods:
//! `KUBECONFIG=... cargo test -p portolan-e2e --test e2e`.
//!
//! Everything is in a namespace of its own, which is deleted however the cases end. CONTRIBUTING.md
//! says how to run it.

mod changes;
mod client;
mod external;
mod internal;
mod observed;

use std::ffi::OsStr;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Completion, Trial};
use portolan_e2e::api::Api;
use portolan_e2e::cluster::Cluster;

/// What a case comes to: done, or why it does not apply to this cluster.
type Outcome = anyhow::Result<Completion>;

/// A pod takes the cluster seconds, so that some cases run at once, but a small cluster should not
/// be filled.
const THREADS: usize = 4;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let Some(kubeconfig) = std::env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty()) else {
        eprintln!(
            "e2e: skipped, as KUBECONFIG is not set: it is to name a cluster, where a namespace will be created"
        );
        return libtest_mimic::run(&arguments, Vec::new()).exit_code();
    };
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    match run(&arguments, &kubeconfig) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, kubeconfig: &OsStr) -> anyhow::Result<ExitCode> {
    let cluster = Arc::new(Cluster::enter(Api::connect(kubeconfig)?)?);
    eprintln!("e2e: namespace {}, {} nodes", cluster.namespace(), cluster.nodes().len());
    for (name, node) in [("server-a", 0), ("server-b", 1)] {
        cluster.start_server(name, "web", cluster.node(node), 0)?;
    }
    let conclusion = libtest_mimic::run(arguments, trials(Some(&cluster)));
    // The trials and their shares of the cluster are gone.
    if let Some(cluster) = Arc::into_inner(cluster) {
        cluster.leave()?;
    }
    Ok(conclusion.exit_code())
}

/// All cases; without a cluster they can only be listed.
fn trials(cluster: Option<&Arc<Cluster>>) -> Vec<Trial> {
    type Case = fn(&Cluster) -> Outcome;
    let cases: &[(&str, Case)] = &[
        // The long ones first.
        ("a pod that ends slowly is served to its end, spec §2", changes::terminating),
        (
            "an endpoint that leaves gets no more connections, and the other loses none",
            changes::endpoint_leaves,
        ),
        ("a Service that gets its first endpoint is served, spec §9.5", changes::first_endpoint),
        (
            "ClusterIP: every endpoint answers, from a pod and from a node, spec §3.1",
            internal::cluster_ip_answers,
        ),
        ("ClusterIP: over UDP, spec §3.1", internal::udp),
        ("ClusterIP: of both families, where the cluster has them, spec §1D", internal::dual_stack),
        ("ClusterIP: a pod reaches itself", internal::hairpin),
        ("ClusterIP: a client stays with its endpoint, spec §3.20", internal::affinity),
        ("ClusterIP: without endpoints connections are refused", internal::no_endpoints),
        ("NodePort: on every node, from a pod and from another node, spec §3.5", external::node_port_answers),
        (
            "externalTrafficPolicy Local: the client's address stays, and other nodes drop",
            external::local_policy,
        ),
        ("external IP, spec §3.2", external::external_ip),
        ("load balancer: its address is served in the cluster, spec §3.1", external::load_balancer),
        ("load balancer: source ranges, spec §3.15, §3.17", external::source_ranges),
        ("load balancer: health-check node port, spec §11.10", external::health_check_node_port),
        ("healthz and livez on every node, spec §11.4", observed::health),
        ("metrics on every node, spec §11.16", observed::metrics),
        ("metrics: headless Services are not forwarded", observed::headless),
    ];
    let trial = |(name, case): &(&str, Case)| {
        let (case, cluster) = (*case, cluster.cloned());
        Trial::ignorable_test(*name, move || {
            let Some(cluster) = cluster else {
                return Ok(Completion::ignored_with("KUBECONFIG names no cluster"));
            };
            case(&cluster).map_err(|error| format!("{error:#}").into())
        })
    };
    cases.iter().map(trial).collect()
}
