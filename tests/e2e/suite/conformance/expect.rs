//! What clients see, in scripts that wait for it.

use std::net::IpAddr;

use anyhow::{Context, ensure};
use portolan_e2e::cluster::Cluster;
use portolan_e2e::pod::{Output, Place};
use serde_json::{Value, json};

use crate::client::{WITHIN, cluster_ip, datagram, get, host_port, node_port};

/// Where a Service is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    ClusterIp,
    NodePort,
}

impl Kind {
    /// Creates a Service of this type; see [`Cluster::create_service`].
    pub(super) fn create(
        self,
        cluster: &Cluster,
        name: &str,
        selected: (&str, &str),
        spec: &Value,
    ) -> anyhow::Result<Value> {
        let mut whole = json!({"type": if self == Kind::ClusterIp { "ClusterIP" } else { "NodePort" }});
        for (field, value) in spec.as_object().into_iter().flatten() {
            whole[field] = value.clone();
        }
        cluster.create_service(name, selected.0, selected.1, &whole)
    }

    /// The address and port where the Service's port over TCP is asked.
    pub(super) fn target(self, cluster: &Cluster, service: &Value) -> anyhow::Result<String> {
        Ok(match self {
            Kind::ClusterIp => host_port(cluster_ip(service)?, 80),
            Kind::NodePort => host_port(cluster.node(0).addresses[0], node_port(service)?),
        })
    }

    /// The same for its port over UDP, the second one.
    pub(super) fn udp(self, cluster: &Cluster, service: &Value) -> anyhow::Result<(IpAddr, u16)> {
        Ok(match self {
            Kind::ClusterIp => (cluster_ip(service)?, 80),
            Kind::NodePort => {
                let port = service["spec"]["ports"][1]["nodePort"].as_u64().context("no NodePort of UDP")?;
                (cluster.node(0).addresses[0], port.try_into()?)
            }
        })
    }
}

/// The command that asks `host_port` for the name of the server.
pub(super) fn name(host_port: &str) -> String {
    get(host_port, "/hostname")
}

/// The command that asks for it over UDP.
pub(super) fn name_by_udp((address, port): (IpAddr, u16)) -> String {
    datagram(address, port, "hostname")
}

/// A script that runs `ask` until each of `names` has been answered, and nothing else.
pub(super) fn each_answers(ask: &str, names: &[&str]) -> String {
    let others = names.join("|");
    let count = names.len();
    // Others may answer until what was changed is in force; then not any more.
    format!(
        "end=$(($(date +%s) + 60)); seen=' '; row=0; \
         while [ $row -lt 15 ] || [ $(echo $seen | wc -w) -lt {count} ]; do \
         [ $(date +%s) -lt $end ] || {{ echo \"answered:$seen; last: $name\"; exit 1; }}; \
         name=$({ask} 2>&1); \
         case \"$name\" in {others}) row=$((row + 1)); case \"$seen\" in *\" $name \"*) ;; *) seen=\"$seen$name \";; esac;; \
         *) row=0; seen=' ';; esac; done; exit 0"
    )
}

/// A script that runs `ask` until the same one has answered twenty times in a row.
pub(super) fn one_stays(ask: &str) -> String {
    format!(
        "end=$(($(date +%s) + 60)); last=; row=0; while [ $row -lt 20 ]; do \
         [ $(date +%s) -lt $end ] || {{ echo \"nobody stays; last: $name\"; exit 1; }}; \
         name=$({ask} 2>&1) || name=; \
         if [ -n \"$name\" ] && [ \"$name\" = \"$last\" ]; then row=$((row + 1)); else row=1; fi; last=$name; done; exit 0"
    )
}

/// A script that runs `ask` until it fails.
pub(super) fn nobody_answers(ask: &str) -> String {
    format!(
        "end=$(($(date +%s) + 60)); while name=$({ask} 2>&1); do \
         [ $(date +%s) -lt $end ] || {{ echo \"it still answers: $name\"; exit 1; }}; done; exit 0"
    )
}

/// A script that runs `look` until it prints `wanted`, and nothing else.
pub(super) fn shows(look: &str, wanted: &str) -> String {
    format!(
        "end=$(($(date +%s) + 60)); while :; do found=$({look}); [ \"$found\" = \"{wanted}\" ] && exit 0; \
         [ $(date +%s) -lt $end ] || {{ echo \"not {wanted}: $found\"; exit 1; }}; sleep 0.2; done"
    )
}

/// Runs the scripts one after the other in a client, each in a shell of its own; each must succeed.
pub(super) fn succeed(cluster: &Cluster, place: Place<'_>, scripts: &[String]) -> anyhow::Result<()> {
    let all: Vec<String> = scripts
        .iter()
        .enumerate()
        .map(|(number, script)| format!("({script}) || {{ echo failed: number {number}; exit 1; }}"))
        .collect();
    let Output { code, text } = cluster.run(place, &all.join("\n"), WITHIN)?;
    ensure!(code == 0, "{place:?}: exit code {code}: {text}\nof the scripts {scripts:#?}");
    Ok(())
}
