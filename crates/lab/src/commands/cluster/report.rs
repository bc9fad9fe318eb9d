//! What people read.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

use crate::cluster::{PodStatus, PortStatus, ServiceStatus, Status};
use crate::commands::style::Style;
use crate::finding::Finding;

/// Nodes with their pods and the client, then Services, then what is wrong with the manifests,
/// whose names are shortened as someone in `folder` would write them.
pub(super) fn status(status: &Status, folder: Option<&Path>) -> String {
    render(status, folder, Style::of_output())
}

fn render(status: &Status, folder: Option<&Path>, style: Style) -> String {
    render_places(status, style)
        + &services(&status.services, style)
        + &findings(&status.problems, folder, style)
}

fn render_places(status: &Status, style: Style) -> String {
    let names = status
        .nodes
        .iter()
        .map(|node| node.name.len())
        .chain(status.pods.iter().map(|pod| pod.name.len() + 2));
    let width = names.chain(["client".len()]).max().unwrap_or_default();
    // Where all are in the same mode, nothing is said of it.
    let usual_mode = status.nodes.first().map_or("", |node| node.proxy_mode.as_str());
    let mut text = String::new();
    let mut line = |name: &str, indent: usize, rest: &str| {
        // Padded before it is coloured: escapes have no width.
        let padded = format!("{:indent$}{name:<rest_width$}", "", rest_width = width - indent);
        let _ = writeln!(text, "  {}  {rest}", style.strong(&padded));
    };
    line("client", 0, &joined(&status.client));
    for node in &status.nodes {
        let mut rest = format!(
            "{}  {}",
            joined(&node.addresses),
            style.faint(&format!("pods {}", joined(&node.pod_networks)))
        );
        if !node.ready {
            let _ = write!(rest, "  {}", style.bad("not ready"));
        }
        if node.proxy_mode != usual_mode {
            let _ = write!(rest, "  {}", style.faint(&node.proxy_mode));
        }
        if node.proxy != "running" {
            let _ = write!(rest, "  {}", style.bad(&format!("proxy {}", node.proxy)));
        }
        line(&node.name, 0, &rest);
        for one in status.pods.iter().filter(|pod| pod.node == node.name) {
            line(&one.name, 2, &pod(one, style));
        }
    }
    for one in status.pods.iter().filter(|pod| pod.node.is_empty()) {
        line(&one.name, 2, &style.bad("on no node"));
    }
    text
}

/// What there is to say of a pod beside its name.
fn pod(pod: &PodStatus, style: Style) -> String {
    let mut text = joined(&pod.addresses);
    if !pod.ports.is_empty() {
        let _ = write!(text, "  {}", style.faint(&format!("port {}", joined(&pod.ports))));
    }
    if pod.state != "Running" {
        let _ = write!(text, "  {}", style.strong(&pod.state));
    } else if !pod.ready {
        let _ = write!(text, "  {}", style.strong("not ready"));
    }
    text
}

fn services(services: &[ServiceStatus], style: Style) -> String {
    let width = services.iter().map(|service| service.name.len() + 4).max().unwrap_or_default();
    let mut text = String::new();
    for service in services {
        let name = format!("{:<width$}", format!("svc/{}", service.name));
        let addresses: Vec<IpAddr> =
            service.cluster_ips.iter().chain(&service.external_ips).copied().collect();
        let addresses = if addresses.is_empty() { "no address".to_owned() } else { joined(&addresses) };
        let ports: Vec<String> = service.ports.iter().map(port).collect();
        let ports = if ports.is_empty() { String::new() } else { format!("  port {}", ports.join(", ")) };
        let _ = writeln!(text, "  {}  {addresses}{}", style.strong(&name), style.faint(&ports));
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

/// `80`, `53/UDP`, `80 (http)`, `80 (on nodes 30080)`
fn port(port: &PortStatus) -> String {
    let mut text = port.port.to_string();
    if port.protocol != "TCP" {
        let _ = write!(text, "/{}", port.protocol);
    }
    let name = Some(port.name.clone()).filter(|name| !name.is_empty());
    let node_port = port.node_port.map(|number| format!("on nodes {number}"));
    let more: Vec<String> = [name, node_port].into_iter().flatten().collect();
    if !more.is_empty() {
        let _ = write!(text, " ({})", more.join(", "));
    }
    text
}

fn findings(findings: &[Finding], folder: Option<&Path>, style: Style) -> String {
    let mut text = String::new();
    for finding in findings {
        let kind = if finding.is_warning { style.strong("warning") } else { style.bad("problem") };
        let _ = write!(text, "{kind}: ");
        if let Some(file) = &finding.file {
            let short = folder.and_then(|folder| file.strip_prefix(folder).ok()).unwrap_or(file);
            let line = finding.line.map_or(String::new(), |line| format!(":{line}"));
            let _ = write!(text, "{}{line}: ", short.display());
        }
        let _ = writeln!(text, "{}", finding.message);
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

fn joined<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::NodeStatus;

    #[test]
    fn a_lab_at_a_glance() {
        let node = |name: &str, last: u8, proxy: &str| NodeStatus {
            name: name.to_owned(),
            addresses: vec![[192, 168, 50, last].into()],
            pod_networks: vec![format!("10.244.{last}.0/24").parse().unwrap()],
            proxy: proxy.to_owned(),
            proxy_mode: if last == 1 { "nftables" } else { "iptables" }.to_owned(),
            ready: true,
        };
        let status = Status {
            nodes: vec![node("host1", 1, "running"), node("host2", 2, "ended, signal: 9")],
            pods: vec![PodStatus {
                name: "web-1".to_owned(),
                node: "host1".to_owned(),
                addresses: vec![[10, 244, 1, 2].into()],
                ports: vec![8080, 9090],
                ready: false,
                state: "Running".to_owned(),
                host_network: false,
            }],
            services: vec![
                ServiceStatus {
                    name: "web".to_owned(),
                    cluster_ips: vec![[10, 96, 0, 9].into()],
                    external_ips: vec![[203, 0, 113, 5].into()],
                    ports: vec![
                        PortStatus {
                            name: "http".to_owned(),
                            protocol: "TCP".to_owned(),
                            port: 80,
                            node_port: Some(30_080),
                        },
                        PortStatus {
                            name: String::new(),
                            protocol: "UDP".to_owned(),
                            port: 53,
                            node_port: None,
                        },
                    ],
                },
                ServiceStatus {
                    name: "shop/none".to_owned(),
                    cluster_ips: vec![],
                    external_ips: vec![],
                    ports: vec![],
                },
            ],
            problems: vec![
                Finding {
                    file: Some("/home/me/web.yaml".into()),
                    line: Some(3),
                    message: "not valid YAML".to_owned(),
                    is_warning: false,
                },
                Finding {
                    file: Some("/etc/x.yaml".into()),
                    line: None,
                    message: "Job j: kind: is passed over".to_owned(),
                    is_warning: true,
                },
            ],
            client: vec![[192, 168, 50, 100].into()],
            state: "/run/x".into(),
            api: "https://127.0.0.1:1".to_owned(),
        };
        assert_eq!(
            render(&status, Some(Path::new("/home/me")), Style::plain()),
            "  client   192.168.50.100\n  \
               host1    192.168.50.1  pods 10.244.1.0/24\n    \
                 web-1  10.244.1.2  port 8080, 9090  not ready\n  \
               host2    192.168.50.2  pods 10.244.2.0/24  iptables  proxy ended, signal: 9\n\
             \n  \
               svc/web        10.96.0.9, 203.0.113.5  port 80 (http, on nodes 30080), 53/UDP\n  \
               svc/shop/none  no address\n\
             \n\
             problem: web.yaml:3: not valid YAML\n\
             warning: /etc/x.yaml: Job j: kind: is passed over\n"
        );
    }
}
