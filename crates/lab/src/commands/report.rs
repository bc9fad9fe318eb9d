//! What people read.

use std::fmt::Write;
use std::io::IsTerminal;

use crate::cluster::Status;

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

/// The nodes, each with its pods, and the client.
pub(super) fn status(status: &Status) -> String {
    render(status, Style::of_output())
}

fn render(status: &Status, style: Style) -> String {
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
            line(&pod.name, 2, &format!("{}{ports}", joined(&pod.addresses)));
        }
    }
    text
}

fn joined<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{NodeStatus, PodStatus};

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
            }],
            client: vec![[192, 168, 50, 100].into()],
            state: "/run/x".into(),
        };
        assert_eq!(
            render(&status, Style { colour: false }),
            "  client   192.168.50.100\n  \
               host1    192.168.50.1  pods 10.244.1.0/24\n    \
                 web-1  10.244.1.2  port 8080, 9090\n  \
               host2    192.168.50.2  pods 10.244.2.0/24  proxy ended, signal: 9\n"
        );
    }
}
