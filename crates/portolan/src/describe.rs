//! Changes of the plan in words, for logs and `check`.

use std::collections::BTreeSet;
use std::fmt::Write;

use portolan_service::{Backend, PortPlan, Scheduler, ServiceChange, ServicePlan, Verdict};

/// At most this many endpoints are named in a line.
const NAMED: usize = 4;

/// A number of things: `1 Service`, `2 Services`.
pub(crate) fn counted(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// One line for each Service port that changed, such as `shop/web:http: endpoints 2 -> 3, +
/// 10.1.2.3:8080`.
pub(crate) fn lines(change: &ServiceChange) -> Vec<String> {
    let (before, after) = (change.before.as_deref(), change.after.as_deref());
    let Some(names) = after.or(before) else { return Vec::new() };
    let (old, new) = (ports(before), ports(after));
    let mut lines: Vec<String> = Vec::new();
    for port in new {
        match old.iter().find(|other| same(port, other)) {
            None => lines.push(format!("{}: new, {}", title(names, port), summary(port))),
            Some(other) if other != port => {
                lines.push(format!("{}: {}", title(names, port), difference(other, port)));
            }
            Some(_) => {}
        }
    }
    for port in old.iter().filter(|port| !new.iter().any(|other| same(port, other))) {
        lines.push(format!("{}: gone", title(names, port)));
    }
    if lines.is_empty() {
        lines.push(format!("{}: health check changed", change.name));
    }
    lines
}

/// Each port of `after` that `before` does not have, with where clients find it, such as
/// `shop/web:http at 10.96.0.5:80/TCP`.
pub(crate) fn new_ports(before: Option<&ServicePlan>, after: Option<&ServicePlan>) -> Vec<String> {
    let Some(plan) = after else { return Vec::new() };
    let new = plan.ports.iter().filter(|port| !ports(before).iter().any(|other| same(port, other)));
    new.map(|port| {
        let frontends = port.frontends.iter().map(|frontend| {
            let address = std::net::SocketAddr::new(frontend.address, frontend.port);
            format!("{address}/{}", port.protocol.to_string().to_uppercase())
        });
        format!("{} at {}", plan.port_name(port), frontends.collect::<Vec<_>>().join(", "))
    })
    .collect()
}

fn ports(plan: Option<&ServicePlan>) -> &[PortPlan] {
    plan.map_or(&[], |plan| &plan.ports)
}

fn same(one: &PortPlan, other: &PortPlan) -> bool {
    (one.family, one.protocol, &one.name) == (other.family, other.protocol, &other.name)
}

fn title(plan: &ServicePlan, port: &PortPlan) -> String {
    format!("{} {}/{}", plan.port_name(port), port.protocol, port.family)
}

/// `10.96.0.5:80 -> 3 endpoints` for each frontend.
fn summary(port: &PortPlan) -> String {
    let mut text = String::new();
    for frontend in &port.frontends {
        let address = std::net::SocketAddr::new(frontend.address, frontend.port);
        let separator = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{separator}{address} -> {}", verdict(port, frontend.inside));
        if frontend.inside != frontend.outside {
            let _ = write!(text, " (from outside: {})", verdict(port, frontend.outside));
        }
    }
    text
}

fn verdict(port: &PortPlan, verdict: Verdict) -> String {
    match verdict {
        Verdict::Forward(list) => counted(port.backends(list).len(), "endpoint"),
        Verdict::Reject => "rejected".to_owned(),
        Verdict::Drop => "dropped".to_owned(),
    }
}

fn difference(old: &PortPlan, new: &PortPlan) -> String {
    let mut parts = Vec::new();
    for (title, before, after) in
        [("endpoints", &old.cluster, &new.cluster), ("local endpoints", &old.local, &new.local)]
    {
        if before != after && (title == "endpoints" || (old.cluster == new.cluster)) {
            let moved = moved(before, after);
            if moved.is_empty() {
                parts.push(format!("{title}: weights{}", weights(after)));
            } else {
                parts.push(format!("{title} {} -> {}{moved}", before.len(), after.len()));
            }
        }
    }
    if old.proxy_protocol != new.proxy_protocol {
        let version = new.proxy_protocol.map_or_else(|| "none".to_owned(), |version| version.to_string());
        parts.push(format!("PROXY protocol {version}"));
    }
    if old.scheduler != new.scheduler {
        parts.push(format!("IPVS scheduler {}", new.scheduler.map_or("of the mode", Scheduler::name)));
    }
    if parts.is_empty() || summary(old) != summary(new) && old.cluster == new.cluster {
        parts.push(summary(new));
    }
    parts.join("; ")
}

/// The weight of each.
fn weights(list: &[Backend]) -> String {
    let mut text = String::new();
    for Backend { address, port, weight, .. } in list.iter().take(NAMED) {
        let _ = write!(text, ", {} {weight}", std::net::SocketAddr::new(*address, *port));
    }
    if list.len() > NAMED {
        let _ = write!(text, ", {} more", list.len() - NAMED);
    }
    text.replacen(',', "", 1)
}

fn moved(before: &[Backend], after: &[Backend]) -> String {
    let set = |list: &[Backend]| -> BTreeSet<String> {
        list.iter()
            .map(|backend| std::net::SocketAddr::new(backend.address, backend.port).to_string())
            .collect()
    };
    let (before, after) = (set(before), set(after));
    let mut text = String::new();
    for (sign, list) in [("+", after.difference(&before)), ("-", before.difference(&after))] {
        let list: Vec<&String> = list.collect();
        for name in list.iter().take(NAMED) {
            let _ = write!(text, ", {sign} {name}");
        }
        if list.len() > NAMED {
            let _ = write!(text, ", {sign} {} more", list.len() - NAMED);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use portolan_service::{Family, Frontend, FrontendKind, List, Masquerade, ObjectName, Place, Protocol};

    use super::*;

    fn plan(endpoints: &[&str], verdict: Verdict) -> Arc<ServicePlan> {
        let backends: Arc<[Backend]> = endpoints
            .iter()
            .map(|address| Backend {
                address: address.parse().unwrap(),
                port: 8080,
                place: Place::Elsewhere,
                weight: 1,
            })
            .collect();
        Arc::new(ServicePlan {
            name: ObjectName::new("shop", "web"),
            ports: vec![PortPlan {
                family: Family::V4,
                name: "http".into(),
                protocol: Protocol::Tcp,
                cluster: backends,
                local: Arc::default(),
                serving: Arc::default(),
                affinity: None,
                proxy_protocol: None,
                scheduler: None,
                resting: Arc::default(),
                node_port: None,
                frontends: vec![Frontend {
                    kind: FrontendKind::ClusterIp,
                    address: "10.96.0.5".parse().unwrap(),
                    port: 80,
                    inside: verdict,
                    outside: verdict,
                    masquerade: Masquerade::NotLocal,
                    allowed_sources: None,
                }],
            }],
            health_check: None,
        })
    }

    #[test]
    fn new_ports_are_named_with_where_they_are() {
        let web = || Some(plan(&["10.1.0.1"], Verdict::Forward(List::Cluster)));
        let named = |before: Option<Arc<ServicePlan>>, after: Option<Arc<ServicePlan>>| {
            new_ports(before.as_deref(), after.as_deref())
        };
        assert_eq!(named(None, web()), ["shop/web:http at 10.96.0.5:80/TCP"]);
        assert!(named(web(), Some(plan(&[], Verdict::Reject))).is_empty(), "it is there already");
        assert!(named(web(), None).is_empty());
    }

    #[test]
    fn changes_read_as_sentences() {
        let one = || Some(plan(&["10.1.0.1"], Verdict::Forward(List::Cluster)));
        let two = || Some(plan(&["10.1.0.1", "10.1.0.2"], Verdict::Forward(List::Cluster)));
        let none = || Some(plan(&[], Verdict::Reject));
        for (before, after, expected) in [
            (None, two(), "shop/web:http tcp/IPv4: new, 10.96.0.5:80 -> 2 endpoints"),
            (two(), one(), "shop/web:http tcp/IPv4: endpoints 2 -> 1, - 10.1.0.2:8080"),
            (one(), none(), "shop/web:http tcp/IPv4: endpoints 1 -> 0, - 10.1.0.1:8080"),
            (one(), None, "shop/web:http tcp/IPv4: gone"),
        ] {
            let change = ServiceChange { name: ObjectName::new("shop", "web"), before, after };
            assert_eq!(lines(&change), [expected]);
        }
    }
}
