//! Scripts for clients. What is under test is far from them, so that they ask until an answer is as
//! it should be, for a bounded number of times, and print the last answer.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use portolan_e2e::cluster::Cluster;
use portolan_e2e::pod::{Output, Place};
use serde_json::Value;

/// curl's exit code for a connection that was refused.
pub(crate) const REFUSED: i64 = 7;
/// curl's exit code for a time that ran out.
pub(crate) const TIMED_OUT: i64 = 28;
/// No script takes longer, once its pod has started.
pub(crate) const WITHIN: Duration = Duration::from_mins(2);

/// `address:port` in a URL.
pub(crate) fn host_port(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

/// The ClusterIPs of a Service.
pub(crate) fn cluster_ips(service: &Value) -> anyhow::Result<Vec<IpAddr>> {
    let ips = service["spec"]["clusterIPs"].as_array().context("a Service without clusterIPs")?;
    ips.iter().map(|ip| Ok(ip.as_str().context("a ClusterIP that is no text")?.parse()?)).collect()
}

/// The first ClusterIP of a Service.
pub(crate) fn cluster_ip(service: &Value) -> anyhow::Result<IpAddr> {
    cluster_ips(service)?.first().copied().context("a Service without ClusterIP")
}

/// The NodePort of a Service's port over TCP.
pub(crate) fn node_port(service: &Value) -> anyhow::Result<u16> {
    let port = &service["spec"]["ports"][0]["nodePort"];
    port.as_u64().and_then(|port| port.try_into().ok()).context("a Service without NodePort")
}

/// A script that runs `command` until it succeeds, up to a minute, and ends with its last exit
/// code.
pub(crate) fn until_success(command: &str) -> String {
    until(command, 0)
}

/// A script that runs `command` until it ends with `code`, up to a minute, and ends with its last
/// exit code.
pub(crate) fn until(command: &str, code: i64) -> String {
    format!(
        "end=$(($(date +%s) + 60)); while :; do answer=$({command} 2>&1); got=$?; \
         if [ $got = {code} ] || [ $(date +%s) -ge $end ]; then printf '%s\\n' \"$answer\"; break; fi; sleep 0.2; done; exit $got"
    )
}

/// The command that gets `path` from `host_port`, bounded in time.
pub(crate) fn get(host_port: &str, path: &str) -> String {
    get_within(3, host_port, path)
}

/// The same, bounded by so many seconds: more of them where no try may fail, however busy the
/// machine is.
pub(crate) fn get_within(seconds: u32, host_port: &str, path: &str) -> String {
    format!("curl --silent --show-error --fail --globoff --max-time {seconds} 'http://{host_port}{path}'")
}

/// The command that sends a word to a port of UDP, from a port of its own, and prints the answer.
pub(crate) fn datagram(address: IpAddr, port: u16, word: &str) -> String {
    format!(
        "timeout 2 bash -c 'exec 3<>/dev/udp/{address}/{port}; printf \"{word}\" >&3; \
         dd bs=2048 count=1 <&3 2>/dev/null | grep .'"
    )
}

/// The names that answer in `count` connections to `host_port`, once one has.
pub(crate) fn answering(
    cluster: &Cluster,
    place: Place<'_>,
    host_port: &str,
    count: usize,
) -> anyhow::Result<BTreeSet<String>> {
    let get = get(host_port, "/hostname");
    let script = format!(
        "({}) >/dev/null || exit 1; i=0; while [ $i -lt {count} ]; do {get} || exit 2; echo; i=$((i+1)); done",
        until_success(&get)
    );
    let output = cluster.run(place, &script, WITHIN)?;
    ensure!(output.code == 0, "{host_port} from {place:?}: {output:?}");
    let names: Vec<&str> = output.lines();
    ensure!(
        names.len() == count,
        "{host_port} from {place:?}: {count} requests, {} answers: {names:?}",
        names.len()
    );
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// Gets `path` until it succeeds, and fails if it does not.
pub(crate) fn got(
    cluster: &Cluster,
    place: Place<'_>,
    host_port: &str,
    path: &str,
) -> anyhow::Result<String> {
    let Output { code, text } = cluster.run(place, &until_success(&get(host_port, path)), WITHIN)?;
    ensure!(code == 0, "http://{host_port}{path} from {place:?}: curl exits {code}: {text}");
    Ok(text.trim().to_owned())
}

/// Connects until it ends with this exit code of curl, and fails if it does not.
pub(crate) fn ends_with(
    cluster: &Cluster,
    place: Place<'_>,
    host_port: &str,
    expected: i64,
) -> anyhow::Result<()> {
    let Output { code, text } = cluster.run(place, &until(&get(host_port, "/hostname"), expected), WITHIN)?;
    ensure!(code == expected, "{host_port} from {place:?}: curl exits {code}, not {expected}: {text}");
    Ok(())
}

/// These names as a set.
pub(crate) fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
