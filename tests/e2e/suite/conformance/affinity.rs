//! Session affinity.

use anyhow::ensure;
use libtest_mimic::Completion;
use portolan_e2e::cluster::Cluster;
use portolan_e2e::pod::Place;
use serde_json::json;

use super::expect::{Kind, each_answers, name, name_by_udp, one_stays, succeed};
use crate::client::{WITHIN, until_success};
use crate::{Case, Outcome};

const BOTH: [&str; 2] = ["server-a", "server-b"];

pub(super) const CASES: &[Case] = &[
    ("Services should have session affinity timeout work for service with type clusterIP", |cluster| {
        ends(cluster, Kind::ClusterIp, "affinity-clusterip-timeout")
    }),
    ("Services should have session affinity timeout work for NodePort service", |cluster| {
        ends(cluster, Kind::NodePort, "affinity-nodeport-timeout")
    }),
    ("Services should have session affinity work for service with type clusterIP", |cluster| {
        stays(cluster, Kind::ClusterIp, "affinity-clusterip")
    }),
    ("Services should have session affinity work for NodePort service", |cluster| {
        stays(cluster, Kind::NodePort, "affinity-nodeport")
    }),
    ("Services should be able to switch session affinity for service with type clusterIP", |cluster| {
        switches(cluster, Kind::ClusterIp, "affinity-clusterip-transition")
    }),
    ("Services should be able to switch session affinity for NodePort service", |cluster| {
        switches(cluster, Kind::NodePort, "affinity-nodeport-transition")
    }),
    (
        "Networking Granular Checks: Services should function for client IP based session affinity: udp",
        stays_over_udp,
    ),
];

fn stays(cluster: &Cluster, kind: Kind, service: &str) -> Outcome {
    let created = kind.create(cluster, service, ("tier", "web"), &json!({"sessionAffinity": "ClientIP"}))?;
    cluster.wait_for_endpoints(service, &BOTH)?;
    let ask = name(&kind.target(cluster, &created)?);
    for place in [Place::Pod(cluster.node(0)), Place::Host(cluster.node(1))] {
        succeed(cluster, place, &[one_stays(&ask)])?;
    }
    Ok(Completion::Completed)
}

fn stays_over_udp(cluster: &Cluster) -> Outcome {
    for (kind, service) in [(Kind::ClusterIp, "affinity-udp"), (Kind::NodePort, "affinity-udp-nodeport")] {
        let created =
            kind.create(cluster, service, ("tier", "web"), &json!({"sessionAffinity": "ClientIP"}))?;
        cluster.wait_for_endpoints(service, &BOTH)?;
        let ask = name_by_udp(kind.udp(cluster, &created)?);
        succeed(cluster, Place::Pod(cluster.node(0)), &[one_stays(&ask)])?;
    }
    Ok(Completion::Completed)
}

/// On, off, and on again.
fn switches(cluster: &Cluster, kind: Kind, service: &str) -> Outcome {
    let created = kind.create(cluster, service, ("tier", "web"), &json!({"sessionAffinity": "ClientIP"}))?;
    cluster.wait_for_endpoints(service, &BOTH)?;
    let ask = name(&kind.target(cluster, &created)?);
    let client = Place::Pod(cluster.node(1));
    for affinity in ["ClientIP", "None", "ClientIP"] {
        cluster.patch_service(service, &json!({"sessionAffinity": affinity}))?;
        let script = if affinity == "None" { each_answers(&ask, &BOTH) } else { one_stays(&ask) };
        succeed(cluster, client, &[script])?;
    }
    Ok(Completion::Completed)
}

/// In seconds.
const TIMEOUT: u32 = 4;

/// Within the time a client stays; after it, sooner or later the other one answers.
fn ends(cluster: &Cluster, kind: Kind, service: &str) -> Outcome {
    let spec = json!({
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": TIMEOUT}},
    });
    let created = kind.create(cluster, service, ("tier", "web"), &spec)?;
    cluster.wait_for_endpoints(service, &BOTH)?;
    let ask = name(&kind.target(cluster, &created)?);
    // Only an answer that comes well within the time of the one before it must be the same.
    let within = format!(
        "(for i in 1 2 3 4 5 6 7 8 9 10; do before=$(date +%s); name=$({ask}) || exit 1; \
         if [ -n \"$last\" ] && [ $(($(date +%s) - since)) -lt {half} ] && [ \"$name\" != \"$last\" ]; then \
         echo \"$last, then $name\"; exit 2; fi; last=$name; since=$before; done)",
        half = TIMEOUT / 2,
    );
    let after = format!(
        "first=$({ask}); i=0; while [ $i -lt 20 ]; do sleep {}; name=$({ask}); \
         [ \"$name\" = \"$first\" ] || exit 0; i=$((i + 1)); done; echo \"always $first\"; exit 3",
        TIMEOUT + 1,
    );
    let script = format!("({}) >/dev/null && {within} || exit 1; {after}", until_success(&one_stays(&ask)));
    let output = cluster.run(Place::Pod(cluster.node(0)), &script, WITHIN + WITHIN)?;
    ensure!(output.code == 0, "{service}: {output:?}");
    Ok(Completion::Completed)
}
