//! Endpoints that come and go.

use std::time::Duration;

use anyhow::ensure;
use libtest_mimic::Completion;
use portolan_e2e::cluster::Cluster;
use portolan_e2e::pod::Place;
use serde_json::json;

use crate::Outcome;
use crate::client::{REFUSED, WITHIN, cluster_ip, ends_with, get_within, got, host_port, until_success};

pub(crate) fn first_endpoint(cluster: &Cluster) -> Outcome {
    let service = cluster.create_service("first-endpoint", "tier", "late", &json!({}))?;
    let target = host_port(cluster_ip(&service)?, 80);
    let client = Place::Pod(cluster.node(1));
    ends_with(cluster, client, &target, REFUSED)?;
    cluster.start_server("late", "late", cluster.node(0), 0)?;
    let name = got(cluster, client, &target, "/hostname")?;
    ensure!(name == "late", "{name} answered");
    Ok(Completion::Completed)
}

/// What the client of [`endpoint_leaves`] says once both have answered.
const SEEN: &str = "both have answered";

/// One client connects all the time while one of two endpoints is taken out of the Service. No
/// connection may fail, and in the end all go to the other.
pub(crate) fn endpoint_leaves(cluster: &Cluster) -> Outcome {
    for (name, node) in [("stays", 0), ("leaves", 1)] {
        cluster.start_server(name, "leaving", cluster.node(node), 0)?;
    }
    let service = cluster.create_service("endpoint-leaves", "tier", "leaving", &json!({}))?;
    cluster.wait_for_endpoints("endpoint-leaves", &["leaves", "stays"])?;
    let target = host_port(cluster_ip(&service)?, 80);
    let get = get_within(15, &target, "/hostname");
    // Once it has seen both, until thirty answers in a row came from the one that stays, which by
    // chance alone they do once in 2^30 times: the end of the wait is the other one's having left.
    let script = format!(
        "({}) >/dev/null || exit 1; echo {SEEN}; row=0; total=0; end=$(($(date +%s) + 90)); \
         while [ $row -lt 30 ] && [ $(date +%s) -lt $end ]; do \
         name=$({get}) || {{ echo \"failed after $total: $name\"; exit 2; }}; total=$((total + 1)); \
         if [ \"$name\" = stays ]; then row=$((row + 1)); else row=0; fi; done; \
         echo $total answers; [ $row = 30 ]",
        until_success(&format!("{get} | grep leaves"))
    );
    let script = script.as_str();
    let path = format!("{}/leaves", cluster.path("pods"));
    let output = std::thread::scope(|scope| {
        let place = Place::Pod(cluster.node(0));
        let client = scope.spawn(move || cluster.run_as("connecting", place, script, WITHIN + WITHIN));
        // The pod itself goes on serving: whoever still connects to it is answered.
        let left = cluster
            .wait_for_output("connecting", SEEN)
            .and_then(|()| {
                cluster.api().patch(&path, &json!({"metadata": {"labels": {"tier": null}}})).map(drop)
            })
            .and_then(|()| cluster.wait_for_endpoints("endpoint-leaves", &["stays"]));
        let output = client.join();
        left.map(|()| output)
    })?;
    let output = output.map_err(|_| anyhow::anyhow!("the client's thread panicked"))??;
    ensure!(output.code == 0, "connections to {target} while an endpoint left: {output:?}");
    Ok(Completion::Completed)
}

/// A Service whose only pod is being deleted: it serves as long as it is ready, and so does the
/// Service (spec §2: serving and terminating endpoints, if there are no others).
pub(crate) fn terminating(cluster: &Cluster) -> Outcome {
    const LINGER: u32 = 60;
    cluster.start_server("slow-end", "slow-end", cluster.node(0), LINGER)?;
    let service = cluster.create_service("terminating", "tier", "slow-end", &json!({}))?;
    cluster.wait_for_endpoints("terminating", &["slow-end"])?;
    let target = host_port(cluster_ip(&service)?, 80);
    let client = Place::Pod(cluster.node(1));
    got(cluster, client, &target, "/hostname")?;
    cluster.api().delete(&format!("{}/slow-end", cluster.path("pods")))?;
    cluster.wait_for_slices("terminating", "its endpoint is terminating", |endpoints| {
        endpoints.iter().any(|endpoint| {
            endpoint["conditions"]["terminating"] == json!(true)
                && endpoint["conditions"]["serving"] == json!(true)
        })
    })?;
    // One request a second, none of which may fail, for less than the pod has left.
    let seconds = 15;
    let get = get_within(15, &target, "/hostname");
    let script = format!("for i in $(seq {seconds}); do {get} || exit 1; echo; sleep 1; done");
    let output = cluster.run(client, &script, Duration::from_mins(1))?;
    ensure!(output.code == 0, "a Service whose only pod is ending: {output:?}");
    Ok(Completion::Completed)
}
