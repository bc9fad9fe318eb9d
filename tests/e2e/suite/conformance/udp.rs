//! Clients that keep their port of UDP: what connection tracking remembers of them must go with the
//! endpoint that it leads to.

use std::time::Duration;

use anyhow::{anyhow, ensure};
use libtest_mimic::Completion;
use portolan_e2e::cluster::Cluster;
use portolan_e2e::pod::Place;
use serde_json::json;

use super::expect::Kind;
use crate::{Case, Outcome};

pub(super) const CASES: &[Case] = &[
    (
        "Conntrack should be able to preserve UDP traffic when server pod cycles for a ClusterIP service",
        |cluster| server_cycles(cluster, Kind::ClusterIp, "udp-clusterip"),
    ),
    (
        "Conntrack should be able to preserve UDP traffic when server pod cycles for a NodePort service",
        |cluster| server_cycles(cluster, Kind::NodePort, "udp-nodeport"),
    ),
    (
        "Conntrack should be able to preserve UDP traffic when initial unready endpoints get ready",
        unready_get_ready,
    ),
];

/// A script that asks from one port again and again, prints each new answer, and ends when `last`
/// has answered.
fn asking((address, port): (std::net::IpAddr, u16), last: &str) -> String {
    format!(
        "exec timeout 150 bash -c 'exec 3<>/dev/udp/{address}/{port}; while [ \"$name\" != {last} ]; do \
         printf hostname >&3 2>/dev/null; now=$(timeout 1 dd bs=2048 count=1 <&3 2>/dev/null) || sleep 0.1; \
         if [ \"$now\" != \"$name\" ]; then name=$now; echo \"now $name\"; fi; done'"
    )
}

/// So long a client takes part at most.
const CLIENT_WITHIN: Duration = Duration::from_mins(3);

/// A client that keeps its port while `change` is made, and until `last` has answered.
fn while_asking(
    cluster: &Cluster,
    client: &str,
    target: (std::net::IpAddr, u16),
    last: &str,
    change: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let script = &asking(target, last);
    std::thread::scope(|scope| {
        let place = Place::Pod(cluster.node(1));
        let asking = scope.spawn(move || cluster.run_as(client, place, script, CLIENT_WITHIN));
        let changed = change();
        let output = asking.join().map_err(|_| anyhow!("the client's thread panicked"))??;
        changed?;
        ensure!(output.code == 0, "{last} has not answered: {output:?}");
        Ok(())
    })
}

fn server_cycles(cluster: &Cluster, kind: Kind, service: &str) -> Outcome {
    let (first, second) = (format!("{service}-1"), format!("{service}-2"));
    let client = format!("{service}-client");
    let created = kind.create(cluster, service, ("tier", service), &json!({}))?;
    cluster.start_server(&first, service, cluster.node(0), 0)?;
    while_asking(cluster, &client, kind.udp(cluster, &created)?, &second, || {
        cluster.wait_for_output(&client, &first)?;
        // The next one is there before the one before it goes, and the client never pauses.
        cluster.start_server(&second, service, cluster.node(0), 0)?;
        cluster.delete_pod(&first)
    })?;
    Ok(Completion::Completed)
}

fn unready_get_ready(cluster: &Cluster) -> Outcome {
    let service = "udp-unready";
    let client = "udp-unready-client";
    let created = Kind::NodePort.create(cluster, service, ("tier", service), &json!({}))?;
    while_asking(cluster, client, Kind::NodePort.udp(cluster, &created)?, service, || {
        // It has asked before anybody was there: its first answer is the empty one.
        cluster.api().wait(&cluster.path("pods"), client, "the client runs", CLIENT_WITHIN, |pod| {
            Ok(pod.filter(|pod| pod["status"]["phase"] == "Running").map(drop))
        })?;
        cluster.start_server(service, service, cluster.node(0), 0)
    })?;
    Ok(Completion::Completed)
}
