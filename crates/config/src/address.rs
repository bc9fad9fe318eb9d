//! Addresses that servers are bound to (spec §10.8, §10.9, §10.15).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use portolan_service::Family;

use crate::problem::{Level, Place};
use crate::problems::Problems;

const HEALTHZ_PORT: u16 = 10256;
const METRICS_PORT: u16 = 10249;

pub(crate) fn bind_address(text: &str, problems: &mut Problems<'_>) -> IpAddr {
    if text.is_empty() {
        return Ipv4Addr::UNSPECIFIED.into();
    }
    text.parse().unwrap_or_else(|_| {
        problems.error("bindAddress", format!("{text:?} is not an IP address"));
        Ipv4Addr::UNSPECIFIED.into()
    })
}

/// `None` if the health server is switched off.
pub(crate) fn healthz(text: &str, bind: Family, problems: &mut Problems<'_>) -> Option<SocketAddr> {
    let any = match bind {
        Family::V4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    match deprecated_port(problems.flags.healthz_port, problems) {
        Some(0) => {
            let message = "deprecated; the health server is switched off";
            problems.note_at(Level::Info, Place::Flag("healthz-port"), message);
            None
        }
        port => Some(server("healthzBindAddress", text, SocketAddr::new(any, HEALTHZ_PORT), port, problems)),
    }
}

pub(crate) fn metrics(text: &str, bind: Family, problems: &mut Problems<'_>) -> SocketAddr {
    let loopback = match bind {
        Family::V4 => IpAddr::from(Ipv4Addr::LOCALHOST),
        Family::V6 => IpAddr::from(Ipv6Addr::LOCALHOST),
    };
    let default = SocketAddr::new(loopback, METRICS_PORT);
    match deprecated_port(problems.flags.metrics_port, problems) {
        Some(0) => {
            let message = "0: the metrics server cannot be switched off; bind it to loopback to hide it";
            problems.error_at(Place::Flag("metrics-port"), message);
            default
        }
        port => server("metricsBindAddress", text, default, port, problems),
    }
}

/// The value of `--healthz-port` or `--metrics-port`, where it counts: neither beside a file nor
/// when the configuration is only written (spec §10.5).
fn deprecated_port(given: Option<i32>, problems: &Problems<'_>) -> Option<i32> {
    given.filter(|_| problems.file.is_none() && problems.flags.write_to().is_none())
}

/// The two parts of what may be an IPv6 address and a port without brackets between them: `::1:80`.
/// Some such texts are addresses as well, which hardly anybody means: kube-proxy would listen on
/// the address `::1:80`.
fn without_brackets(text: &str) -> Option<(Ipv6Addr, u16)> {
    let (address, port) = text.rsplit_once(':')?;
    let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())??;
    Some((address.parse().ok()?, port))
}

fn server(
    field: &'static str,
    text: &str,
    default: SocketAddr,
    deprecated_port: Option<i32>,
    problems: &mut Problems<'_>,
) -> SocketAddr {
    let (flag, instead) = match field {
        "healthzBindAddress" => ("healthz-port", "--healthz-bind-address"),
        _ => ("metrics-port", "--metrics-bind-address"),
    };
    if let Some((address, port_given)) = without_brackets(text) {
        let also = text.parse::<IpAddr>().map_or_else(
            |_| String::new(),
            |address| format!(", or [{address}]:{} if this is an address without a port", default.port()),
        );
        let message = format!(
            "{text:?}: an IPv6 address with a port needs brackets; write [{address}]:{port_given}{also}"
        );
        problems.error(field, message);
        return default;
    }
    // A port of its own is only missing from an address without one; the default has one.
    if let Ok(address) = text.parse::<IpAddr>() {
        let port = deprecated_port.unwrap_or(i32::from(default.port()));
        return match u16::try_from(port) {
            Ok(port) if port > 0 => SocketAddr::new(address, port),
            _ => {
                problems.error_at(Place::Flag(flag), format!("{port} is not in 1-65535"));
                default
            }
        };
    }
    if deprecated_port.is_some_and(|port| port != i32::from(default.port())) {
        let message = format!("deprecated, and without effect on an address with a port; use {instead}");
        problems.note_at(Level::Warning, Place::Flag(flag), message);
    }
    if text.is_empty() {
        return default;
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => {
            problems.error(field, format!("{text:?}: port 0 is not in 1-65535"));
            default
        }
        Ok(address) => address,
        Err(_) => {
            problems.error(field, format!("{text:?} is not an IP address and a port, such as {default}"));
            default
        }
    }
}
