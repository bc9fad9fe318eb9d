//! What people read.

use std::fmt::Write;
use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::Path;

use crate::cluster::{Finding, PortStatus, ServiceStatus, Status};

/// Text styles, where the output is a terminal (and <https://no-color.org> does not ask for none).
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    colour: bool,
}

impl Style {
    /// For standard output.
    pub(super) fn of_output() -> Style {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Style { colour: wanted && std::io::stdout().is_terminal() }
    }

    pub(super) fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    pub(super) fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Nodes with their pods and the client, then Services, then what is wrong with the manifests,
/// whose names are shortened as someone in `folder` would write them.
pub(super) fn status(status: &Status, folder: Option<&Path>) -> String {
    render(status, folder, Style::of_output())
}

/// Nodes with their pods and the client.
pub(super) fn places(status: &Status) -> String {
    render_places(status, Style::of_output())
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
        if node.proxy != "running" {
            let _ = write!(rest, "  {}", style.bad(&format!("proxy {}", node.proxy)));
        }
        line(&node.name, 0, &rest);
        for pod in status.pods.iter().filter(|pod| pod.node == node.name) {
            let ports = if pod.ports.is_empty() {
                String::new()
            } else {
                format!("  {}", style.faint(&format!("port {}", joined(&pod.ports))))
            };
            let unready = if pod.ready { String::new() } else { format!("  {}", style.strong("not ready")) };
            let dns = pod.dns.as_ref().map(|dns| style.bad(&format!("DNS server {}", dns.what)));
            let dns = dns.map_or(String::new(), |text| format!("  {text}"));
            line(&pod.name, 2, &format!("{}{ports}{unready}{dns}", joined(&pod.addresses)));
        }
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
    use crate::cluster::{DnsTrouble, NodeStatus, PodStatus};

    #[test]
    fn a_lab_at_a_glance() {
        let node = |name: &str, last: u8, proxy: &str| NodeStatus {
            name: name.to_owned(),
            addresses: vec![[192, 168, 50, last].into()],
            pod_networks: vec![format!("10.244.{last}.0/24").parse().unwrap()],
            proxy: proxy.to_owned(),
        };
        let status = Status {
            nodes: vec![node("host1", 1, "running"), node("host2", 2, "ended, signal: 9")],
            pods: vec![PodStatus {
                name: "web-1".to_owned(),
                node: "host1".to_owned(),
                addresses: vec![[10, 244, 1, 2].into()],
                ports: vec![8080, 9090],
                ready: false,
                dns: Some(DnsTrouble {
                    what: "ended, signal: 9; it was started again once".to_owned(),
                    gone: false,
                }),
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
            proxy_mode: "nftables".to_owned(),
            client: vec![[192, 168, 50, 100].into()],
            state: "/run/x".into(),
        };
        assert_eq!(
            render(&status, Some(Path::new("/home/me")), Style { colour: false }),
            "  client   192.168.50.100\n  \
               host1    192.168.50.1  pods 10.244.1.0/24\n    \
                 web-1  10.244.1.2  port 8080, 9090  not ready  DNS server ended, signal: 9; it was started again once\n  \
               host2    192.168.50.2  pods 10.244.2.0/24  proxy ended, signal: 9\n\
             \n  \
               svc/web        10.96.0.9, 203.0.113.5  port 80 (http, on nodes 30080), 53/UDP\n  \
               svc/shop/none  no address\n\
             \n\
             problem: web.yaml:3: not valid YAML\n\
             warning: /etc/x.yaml: Job j: kind: is passed over\n"
        );
    }
}
