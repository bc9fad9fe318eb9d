//! `portolan lab trace`

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, ExitCode};

use anyhow::bail;

use super::names::{self, pod, pod_or_workload};
use super::{TraceArgs, USUAL_NAME, control, enter};
use crate::cluster::Status;

/// Runs `portolan trace` on the node whose rules the packet meets first, or that `args` name, and
/// returns its exit code.
pub(super) fn run(args: &TraceArgs) -> anyhow::Result<ExitCode> {
    let TraceArgs { lab, node, from, to, flags } = args;
    let status = control::status(&lab.name)?;
    let question = Question::of(&status, node.as_deref(), from, to, wants_v6(flags, to))?;
    let manifests = control::snapshot(&lab.name)?;
    let inside = enter::enter(&lab.name, &question.node)?;
    let mut trace = Command::new("portolan");
    trace.args(["trace", "--from", &question.from, "--to", &question.to]);
    let named = if lab.name == USUAL_NAME { "" } else { &lab.name };
    trace.args(["--in-lab", named, from, to]);
    trace.arg("--manifests").arg(manifests).args(flags);
    inside.run(&mut trace)
}

fn wants_v6(flags: &[OsString], to: &str) -> bool {
    let address = to.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_v6 = address.is_ok_and(|address| address.is_ipv6())
        || to.parse::<SocketAddr>().is_ok_and(|to| to.is_ipv6());
    is_v6 || flags.iter().any(|flag| flag == "ipv6" || flag == "--family=ipv6")
}

/// What `portolan trace` is asked, and where.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    node: String,
    from: String,
    to: String,
}

impl Question {
    /// In the words of the lab: names of pods, nodes and the client. Whatever else it may be,
    /// `portolan trace` knows. `at` is the node whose rules are asked, if not the first.
    fn of(status: &Status, at: Option<&str>, from: &str, to: &str, v6: bool) -> anyhow::Result<Question> {
        let is_node = |name: &str| status.nodes.iter().any(|node| node.name == name);
        let to_place = to_place(status, to, v6)?;
        let pod = if is_node(from) || from == "client" { None } else { pod_or_workload(status, from)? };
        let from = pod.map_or(from, |pod| &pod.name);
        let first = if is_node(from) {
            from.to_owned()
        } else if from == "client" {
            // It sends what is for no node by way of the first one.
            let aimed_at = status.nodes.iter().find(|node| {
                node.name == split(to).0
                    || node.addresses.iter().any(|own| address_of(&to_place) == Some(*own))
            });
            let Some(node) = aimed_at.or(status.nodes.first()) else { bail!("the lab has no node") };
            node.name.clone()
        } else if let Some(pod) = pod {
            pod.node.clone()
        } else {
            bail!("there is no pod or node {from:?} in the lab; there is {}", names::all(status).join(", "));
        };
        let node = match at {
            Some(at) if is_node(at) => at.to_owned(),
            Some(at) => {
                let nodes: Vec<&str> = status.nodes.iter().map(|node| node.name.as_str()).collect();
                bail!("--node {at}: the lab has no such node; it has {}", nodes.join(", "));
            }
            None => first,
        };
        let sends_itself = from == node;
        let from = if sends_itself { "node".to_owned() } else { place(status, from, None, v6)? };
        Ok(Question { node, from, to: to_place })
    }
}

/// A name and the port behind it.
fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)))
}

fn address_of(place: &str) -> Option<IpAddr> {
    let socket = place.parse::<SocketAddr>().map(|socket| socket.ip());
    socket.or_else(|_| place.parse()).ok()
}

fn to_place(status: &Status, to: &str, v6: bool) -> anyhow::Result<String> {
    let (name, port) = split(to);
    let is_known = names::all(status).contains(&name) || pod(status, name)?.is_some();
    if is_known { place(status, name, port, v6) } else { Ok(to.to_owned()) }
}

/// The place of a pod, a node or the client, in the words of `portolan trace`.
fn place(status: &Status, name: &str, port: Option<&str>, v6: bool) -> anyhow::Result<String> {
    let suffix = port.map_or(String::new(), |port| format!(":{port}"));
    let node = status.nodes.iter().find(|node| node.name == name);
    if node.is_none()
        && name != "client"
        && let Some(pod) = pod(status, name)?
    {
        let namespace = if pod.name.contains('/') { "" } else { "default/" };
        return Ok(format!("pod/{namespace}{}{suffix}", pod.name));
    }
    let addresses = node.map_or(&status.client, |node| &node.addresses);
    let Some(address) = addresses.iter().find(|address| address.is_ipv6() == v6) else {
        bail!("{name} has no {} address", if v6 { "IPv6" } else { "IPv4" });
    };
    Ok(match (address, port) {
        (IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
        (address, _) => format!("{address}{suffix}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{NodeStatus, PodStatus};

    fn status() -> Status {
        let node = |name: &str, last: u8| NodeStatus {
            name: name.to_owned(),
            addresses: vec![[192, 168, 50, last].into(), [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)].into()],
            pod_networks: vec![],
            proxy: "running".to_owned(),
            proxy_mode: "nftables".to_owned(),
            ready: true,
        };
        let pod = |name: &str, node: &str| PodStatus {
            ready: true,
            name: name.to_owned(),
            node: node.to_owned(),
            addresses: vec![],
            ports: vec![],
            state: "Running".to_owned(),
            host_network: false,
        };
        Status {
            nodes: vec![node("host1", 1), node("host2", 2)],
            pods: vec![
                pod("front-1", "host2"),
                pod("shop/cart-1", "host1"),
                pod("a/db-1", "host1"),
                pod("b/db-1", "host2"),
            ],
            services: vec![],
            problems: vec![],
            client: vec![[192, 168, 50, 100].into()],
            state: "/run/x".into(),
            api: "https://127.0.0.1:1".to_owned(),
        }
    }

    #[test]
    fn the_words_of_the_lab_become_places() {
        for (from, to, node, from_place, to_place) in [
            ("front-1", "svc/front", "host2", "pod/default/front-1", "svc/front"),
            ("shop/cart-1", "svc/shop/web:http", "host1", "pod/shop/cart-1", "svc/shop/web:http"),
            ("cart-1", "front-1:80", "host1", "pod/shop/cart-1", "pod/default/front-1:80"),
            ("pod/shop/cart-1", "default/front-1:80", "host1", "pod/shop/cart-1", "pod/default/front-1:80"),
            ("front-1", "shop/cart-1:80", "host2", "pod/default/front-1", "pod/shop/cart-1:80"),
            ("front-1", "cart-1:80", "host2", "pod/default/front-1", "pod/shop/cart-1:80"),
            ("front-1", "shop/web", "host2", "pod/default/front-1", "shop/web"),
            ("host1", "10.96.0.1:80", "host1", "node", "10.96.0.1:80"),
            ("host1", "host2:30080", "host1", "node", "192.168.50.2:30080"),
            ("client", "host2:30080", "host2", "192.168.50.100", "192.168.50.2:30080"),
            ("client", "192.168.50.2:30080", "host2", "192.168.50.100", "192.168.50.2:30080"),
            ("client", "svc/front", "host1", "192.168.50.100", "svc/front"),
            ("host2", "[fd00::1]:80", "host2", "node", "[fd00::1]:80"),
        ] {
            let question = Question::of(&status(), None, from, to, false).unwrap();
            let expected =
                Question { node: node.to_owned(), from: from_place.to_owned(), to: to_place.to_owned() };
            assert_eq!(question, expected, "{from} {to}");
        }
        for (at, from, from_place) in [
            ("host2", "host1", "192.168.50.1"),
            ("host2", "host2", "node"),
            ("host2", "cart-1", "pod/shop/cart-1"),
        ] {
            let question = Question::of(&status(), Some(at), from, "host2:30080", false).unwrap();
            assert_eq!((question.node.as_str(), question.from.as_str()), (at, from_place), "{at} {from}");
        }
        for (at, from, refused) in [
            (
                None,
                "nobody",
                "there is no pod or node \"nobody\" in the lab; there is client, host1, host2, front-1, shop/cart-1, a/db-1, b/db-1",
            ),
            (None, "db-1", "several pods are called db-1: say which, a/db-1 or b/db-1"),
            (Some("host3"), "front-1", "--node host3: the lab has no such node; it has host1, host2"),
        ] {
            let error = Question::of(&status(), at, from, "svc/front", false).unwrap_err().to_string();
            assert_eq!(error, refused);
        }
    }

    #[test]
    fn the_family_follows_the_destination() {
        assert!(wants_v6(&[], "[fd00::1]:80") && wants_v6(&[], "fd00::1"));
        assert!(wants_v6(&["--family".into(), "ipv6".into()], "svc/web"));
        assert!(!wants_v6(&[], "10.0.0.1:80") && !wants_v6(&["--verbose".into()], "svc/web"));
    }
}
