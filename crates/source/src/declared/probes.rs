//! Probes of pods, for whoever carries them out where no kubelet does.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use portolan_controllers::Issue;
use portolan_probe::{Action, ContainerProbes, HttpGet, Probe, ProbeKind, Target, Timing};
use portolan_service::parse_address;

use super::{Issues, shared};
use crate::objects::{self, NumberOrName};

/// A container that runs as long as the pod does, and the path of its field.
pub(super) type Running<'a> = (String, &'a objects::Container);

/// The probes of a pod with this address; `None` if it has none that can be carried out. Those that
/// cannot are in `left_out`.
pub(super) fn declare(
    issues: &mut Issues,
    left_out: &mut Vec<Issue>,
    containers: &[Running<'_>],
    address: Option<IpAddr>,
) -> Option<Arc<Target>> {
    let mut declared = Vec::new();
    for (path, container) in containers {
        let given = [
            (ProbeKind::Startup, "startupProbe", &container.startup_probe),
            (ProbeKind::Liveness, "livenessProbe", &container.liveness_probe),
            (ProbeKind::Readiness, "readinessProbe", &container.readiness_probe),
        ];
        let mut probes = Vec::new();
        for (kind, field, given) in given {
            let Some(given) = given else { continue };
            let path = format!("{path}.{field}");
            let mut reader = Reader { issues, left_out, path, container, address };
            let timing = reader.timing(kind, given);
            if let Some(action) = reader.action(given) {
                probes.push((kind, Probe { timing, action }));
            }
        }
        if !probes.is_empty() {
            declared.push(ContainerProbes { name: shared(&container.name), probes });
        }
    }
    let address = address.filter(|_| !declared.is_empty())?;
    Some(Arc::new(Target { address, containers: declared }))
}

/// Reads one probe.
struct Reader<'a> {
    issues: &'a mut Issues,
    left_out: &'a mut Vec<Issue>,
    path: String,
    container: &'a objects::Container,
    address: Option<IpAddr>,
}

impl Reader<'_> {
    fn timing(&mut self, kind: ProbeKind, given: &objects::Probe) -> Timing {
        let usual = Timing::default();
        // The API server takes 0 for a value that is not given.
        let mut number = |field: &str, value: Option<i64>| match value.filter(|value| *value != 0) {
            None => None,
            Some(value) => {
                let number = u32::try_from(value).ok().filter(|number| i32::try_from(*number).is_ok());
                if number.is_none() {
                    let message = format!("{value} is not in 0-{}", i32::MAX);
                    self.issues.add(format!("{}.{field}", self.path), message);
                }
                number
            }
        };
        let initial_delay = number("initialDelaySeconds", given.initial_delay_seconds);
        let period = number("periodSeconds", given.period_seconds);
        let timeout = number("timeoutSeconds", given.timeout_seconds);
        let successes = number("successThreshold", given.success_threshold).unwrap_or(usual.successes);
        let failures = number("failureThreshold", given.failure_threshold).unwrap_or(usual.failures);
        if kind != ProbeKind::Readiness && successes != 1 {
            let message = format!("{successes} is not 1, which it is for all probes but that of readiness");
            self.issues.add(format!("{}.successThreshold", self.path), message);
        }
        let seconds =
            |number: Option<u32>, usual| number.map_or(usual, |seconds| Duration::from_secs(seconds.into()));
        Timing {
            initial_delay: seconds(initial_delay, usual.initial_delay),
            period: seconds(period, usual.period),
            timeout: seconds(timeout, usual.timeout),
            successes,
            failures,
        }
    }

    /// What it does; `None` if that is not valid, or not possible here.
    fn action(&mut self, given: &objects::Probe) -> Option<Action> {
        let objects::Probe { http_get, tcp_socket, grpc, exec, .. } = given;
        let handlers = [http_get.is_some(), tcp_socket.is_some(), grpc.is_some(), exec.is_some()];
        if handlers.into_iter().filter(|is_given| *is_given).count() != 1 {
            let message = "give exactly one of httpGet, tcpSocket, grpc and exec";
            self.issues.add(self.path.clone(), message);
            return None;
        }
        if let Some(http) = http_get {
            let tls = self.is_https(http.scheme.as_deref());
            let to = self.to("httpGet", http.host.as_deref(), &http.port);
            let headers = http.http_headers.iter().map(|header| (header.name.clone(), header.value.clone()));
            let path = http.path.clone().unwrap_or_default();
            Some(Action::Http(HttpGet { to: to?, tls: tls?, path, headers: headers.collect() }))
        } else if let Some(tcp) = tcp_socket {
            self.to("tcpSocket", tcp.host.as_deref(), &tcp.port).map(Action::Tcp)
        } else if let Some(grpc) = grpc {
            let to = self.to("grpc", None, &NumberOrName::Number(grpc.port))?;
            Some(Action::Grpc { to, service: grpc.service.clone().unwrap_or_default() })
        } else {
            self.leave_out("exec", "commands run where the container does, which is not known here");
            None
        }
    }

    fn is_https(&mut self, scheme: Option<&str>) -> Option<bool> {
        let field = format!("{}.httpGet.scheme", self.path);
        let scheme = scheme.filter(|scheme| !scheme.is_empty()).unwrap_or("HTTP");
        self.issues.word(&field, scheme, &[("HTTP", false), ("HTTPS", true)])
    }

    fn to(&mut self, handler: &str, host: Option<&str>, port: &NumberOrName) -> Option<SocketAddr> {
        let port = self.port(&format!("{}.{handler}.port", self.path), port)?;
        let Some(host) = host.filter(|host| !host.is_empty()) else {
            // Without an address nothing is probed.
            return Some(SocketAddr::new(self.address?, port));
        };
        let address = parse_address(host);
        if address.is_none() {
            self.leave_out(&format!("{handler}.host"), &format!("{host:?} is not an IP address"));
        }
        Some(SocketAddr::new(address?, port))
    }

    fn port(&mut self, field: &str, port: &NumberOrName) -> Option<u16> {
        match port {
            NumberOrName::Number(number) => self.issues.port(field, *number),
            NumberOrName::Name(name) => {
                let named = self.container.ports.iter().find(|port| port.name == *name);
                // kubelet takes a number in quotes for a number.
                let number = named.map(|port| port.container_port).or_else(|| name.parse().ok());
                if number.is_none() {
                    self.issues.add(field, format!("the container has no port called {name:?}"));
                }
                self.issues.port(field, number?)
            }
        }
    }

    fn leave_out(&mut self, field: &str, why: &str) {
        let message = format!("{why}: this probe is not carried out, and counts for nothing");
        self.left_out.push(Issue::new(format!("{}.{field}", self.path), message));
    }
}
