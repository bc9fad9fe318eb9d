//! What a name stands for (spec §1, §5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portolan_service::{Endpoint, EndpointSlice, Family, Protocol, Service, ServiceType, Target};

use crate::endpoint_name::{Called, address_of_label};
use crate::services::{Entry, Place};
use crate::settings::{NamespaceFilter, PodMode, Zone};
use crate::state::Names;
use crate::wire::Name;

/// What a name stands for. Labels (`'q`) are parts of the name that was looked up.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found<'s, 'q> {
    /// Nothing
    Absent,
    /// Nothing, and others would not know either.
    AbsentEverywhere,
    /// It has names below it, and no records.
    Parent,
    /// The zone
    Apex,
    /// The version of the specification
    Version,
    /// The server
    NameServer,
    /// The pod that has an address
    Pod(IpAddr),
    /// A Service by its ClusterIPs
    Cluster { service: &'s Service, ports: Ports<'q> },
    /// Endpoints of a Service
    Endpoints(Endpoints<'s, 'q>),
    /// Another name, as written in an object
    Alias(&'s str),
    /// What is at an address: a ClusterIP or endpoints
    Address(IpAddr),
}

/// Some of the endpoints of a Service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endpoints<'s, 'q> {
    pub(crate) entry: &'s Entry,
    pub(crate) service: &'s Service,
    pub(crate) which: Which<'q>,
    pub(crate) ports: Ports<'q>,
}

/// Which endpoints.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which<'q> {
    All,
    /// Those called so.
    Named(&'q [u8]),
    /// Those of a topology zone, which is given by labels as messages have them.
    Zone {
        labels: &'q [u8],
        /// All, if there are none.
        prefer: bool,
    },
}

/// Which ports: by name and protocol, without the underscore. What is empty matches all.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ports<'q> {
    port: &'q [u8],
    protocol: &'q [u8],
}

impl Ports<'_> {
    pub(crate) fn match_all(self) -> bool {
        self.port.is_empty() && self.protocol.is_empty()
    }

    pub(crate) fn matches(self, name: &str, protocol: Protocol) -> bool {
        let protocol = protocol_name(protocol);
        let same = |label: &[u8], text: &str| label.is_empty() || label.eq_ignore_ascii_case(text.as_bytes());
        same(self.port, name) && same(self.protocol, protocol)
    }

    /// Whether a slice has a port that matches; without any it has addresses all the same.
    fn match_slice(self, slice: &EndpointSlice) -> bool {
        self.match_all() || slice.ports.iter().any(|port| self.matches(&port.name, port.protocol))
    }
}

impl Names {
    /// What `name`, in lower case and within `zone`, stands for.
    pub(crate) fn lookup<'s, 'q>(&'s self, name: &'q Name, zone: &Zone) -> Found<'s, 'q> {
        let own = name.labels() - zone.name.labels();
        if own == 0 {
            Found::Apex
        } else if zone.reverse {
            self.reverse(name)
        } else {
            self.forward(name, own)
        }
    }

    /// A name whose leftmost `own` labels are below the cluster's domain.
    fn forward<'s, 'q>(&'s self, name: &'q Name, own: usize) -> Found<'s, 'q> {
        match (name.label(own - 1), own) {
            (b"svc" | b"pod", 1) => Found::Parent,
            (b"svc", 2) => self.namespace(name.label(0)),
            (b"pod", 2) if self.options.settings.pods != PodMode::Disabled => self.namespace(name.label(0)),
            (b"pod", 3) => self.pod(name.label(0), name.label(1)),
            (b"svc", _) => self.service(name, own - 3),
            (b"dns-version", 1) => Found::Version,
            (b"dns", 2) if name.label(0) == b"ns" => Found::NameServer,
            _ => Found::Absent,
        }
    }

    fn namespace(&self, label: &[u8]) -> Found<'static, 'static> {
        if self.namespaces.exists(label) { Found::Parent } else { Found::Absent }
    }

    fn pod(&self, label: &[u8], namespace: &[u8]) -> Found<'static, 'static> {
        let Some(address) = address_of_label(label) else { return Found::Absent };
        let exists = match self.options.settings.pods {
            PodMode::Disabled => false,
            PodMode::Insecure => self.namespaces.exists(namespace),
            PodMode::Verified => self.namespaces.exists(namespace) && self.pods.has(namespace, address),
        };
        if exists { Found::Pod(address) } else { Found::Absent }
    }

    /// A name with `left` labels before those of a Service.
    fn service<'s, 'q>(&'s self, name: &'q Name, left: usize) -> Found<'s, 'q> {
        let Some((entry, service)) = self.existing(name.between(left, left + 2), name.label(left + 1)) else {
            return Found::Absent;
        };
        if service.kind == ServiceType::ExternalName {
            return match alias(service) {
                Some(target) if left == 0 => Found::Alias(target),
                _ => Found::Absent,
            };
        }
        let endpoints = |which, ports| Found::Endpoints(Endpoints { entry, service, which, ports });
        if left == 1 {
            return if self.options.settings.endpoints {
                endpoints(Which::Named(name.label(0)), Ports::default())
            } else {
                Found::Absent
            };
        }
        let ports = match left {
            0 => Ports::default(),
            2 => Ports { port: bare(name.label(0)), protocol: bare(name.label(1)) },
            _ if self.options.settings.zonal && service.headless && name.label(left - 1) == b"_zone" => {
                let labels = name.between(0, left - 2);
                return match name.label(left - 2) {
                    b"pin" => endpoints(Which::Zone { labels, prefer: false }, Ports::default()),
                    b"prefer" => endpoints(Which::Zone { labels, prefer: true }, Ports::default()),
                    _ => Found::Absent,
                };
            }
            _ => return Found::Absent,
        };
        if service.headless {
            endpoints(Which::All, ports)
        } else if ports.match_all()
            || service.ports.iter().any(|port| ports.matches(&port.name, port.protocol))
        {
            Found::Cluster { service, ports }
        } else {
            Found::Absent
        }
    }

    /// The Service of this key (its labels in lower case) and namespace, if it exists in the DNS.
    fn existing(&self, key: &[u8], namespace: &[u8]) -> Option<(&Entry, &Service)> {
        let entry = self.in_shown_namespace(key, namespace)?;
        Some((entry, self.shown(entry)?))
    }

    /// The Service of this key and namespace, whether or not it exists in the DNS.
    pub(crate) fn in_shown_namespace(&self, key: &[u8], namespace: &[u8]) -> Option<&Entry> {
        let entry = self.services.find(key)?;
        let all = self.options.settings.namespaces == NamespaceFilter::All;
        (all || self.namespaces.exists(namespace)).then_some(entry)
    }

    /// The object of a Service that exists in the DNS if its namespace does.
    pub(crate) fn shown<'s>(&self, entry: &'s Entry) -> Option<&'s Service> {
        let service = &**entry.service()?;
        let settings = &self.options.settings;
        let exists = if service.kind == ServiceType::ExternalName {
            true
        } else if service.headless {
            settings.endpoints && (entry.ready() > 0 || entry.ready_targets().next().is_some())
        } else {
            !settings.ignore_empty_service || entry.ready() > 0 || entry.ready_targets().next().is_some()
        };
        exists.then_some(service)
    }

    /// A name of an address, or of all addresses that begin alike.
    fn reverse(&self, name: &Name) -> Found<'static, 'static> {
        let Some((address, length)) = address_of_reverse(name) else { return Found::Absent };
        let full = if address.is_ipv4() { 32 } else { 128 };
        if length == full && self.is_known(address) {
            Found::Address(address)
        } else if !self.networks.contain(address, length) {
            Found::Absent
        } else if length == full {
            Found::AbsentEverywhere
        } else {
            Found::Parent
        }
    }

    fn is_known(&self, address: IpAddr) -> bool {
        self.service_at(address).is_some()
            || self.services.by_endpoint(address).any(|place| self.endpoint_at(place).is_some())
    }

    /// The Service whose ClusterIP `address` is.
    pub(crate) fn service_at(&self, address: IpAddr) -> Option<&Service> {
        let entry = self.services.by_cluster_ip(address)?;
        let namespace = entry.name().namespace();
        self.shown(entry).filter(|_| self.shows_namespace(namespace))
    }

    /// The endpoint at `place` with its Service, if it has a name.
    pub(crate) fn endpoint_at(&self, place: Place) -> Option<(&Service, &Endpoint)> {
        let entry = self.services.owner(place)?;
        let service = self.shown(entry)?;
        let named = self.options.settings.endpoints && service.kind != ServiceType::ExternalName;
        if !named || !self.shows_namespace(service.name.namespace()) {
            return None;
        }
        Some((service, self.services.endpoint(place)?.1))
    }

    /// Whether the settings let this namespace exist.
    pub(crate) fn shows_namespace(&self, name: &str) -> bool {
        if self.options.settings.namespaces == NamespaceFilter::All {
            return true;
        }
        // Names of objects are in lower case.
        self.namespaces.exists(name.as_bytes())
    }

    /// Puts the endpoints, of one family if one is asked for, into `places`. Returns whether the
    /// name exists.
    pub(crate) fn collect(
        &self,
        found: &Endpoints<'_, '_>,
        family: Option<Family>,
        places: &mut Vec<Place>,
    ) -> bool {
        places.clear();
        let wanted = |slice: &EndpointSlice| family.is_none_or(|family| slice.family == family);
        match found.which {
            Which::Named(label) => {
                let mut exists = false;
                self.services.named(found.entry, label, |place| {
                    exists = true;
                    if self.services.endpoint(place).is_some_and(|(slice, _)| wanted(slice)) {
                        places.push(place);
                    }
                });
                exists
            }
            Which::All => {
                let mut exists = false;
                for (at, slice) in self.services.slices(found.entry) {
                    if found.ports.match_slice(slice) {
                        exists = exists || slice.endpoints.iter().any(|endpoint| endpoint.ready);
                        if wanted(slice) {
                            push_ready(places, at, slice, |_| true);
                        }
                    }
                }
                exists
            }
            Which::Zone { labels, prefer } => {
                for (at, slice) in self.services.slices(found.entry).filter(|(_, slice)| wanted(slice)) {
                    push_ready(places, at, slice, |endpoint| is_in_zone(endpoint, labels));
                }
                if places.is_empty() && prefer {
                    for (at, slice) in self.services.slices(found.entry).filter(|(_, slice)| wanted(slice)) {
                        push_ready(places, at, slice, |_| true);
                    }
                }
                true
            }
        }
    }

    /// The names that the endpoints stand for, of slices of type FQDN.
    pub(crate) fn targets<'s>(&'s self, found: &Endpoints<'s, '_>) -> impl Iterator<Item = &'s str> {
        let (which, all_ports) = (found.which, found.ports.match_all());
        let pod_names = self.options.settings.endpoint_pod_names;
        found.entry.ready_targets().filter_map(move |target| {
            let listed = match which {
                Which::All => all_ports,
                Which::Named(label) => Called::new(label).is_of_target(target, pod_names),
                Which::Zone { .. } => false,
            };
            target_name(target).filter(|_| listed)
        })
    }
}

impl Entry {
    fn ready_targets(&self) -> impl Iterator<Item = &Target> {
        self.targets().iter().flat_map(|slice| &slice.endpoints).filter(|target| target.ready)
    }
}

fn push_ready(places: &mut Vec<Place>, slice: u32, of: &EndpointSlice, wanted: impl Fn(&Endpoint) -> bool) {
    let ready = (0..).zip(&of.endpoints).filter(|(_, endpoint)| endpoint.ready && wanted(endpoint));
    places.extend(ready.map(|(endpoint, _)| Place { slice, endpoint }));
}

/// Where an ExternalName Service leads; an address is no name (spec §4).
pub(crate) fn alias(service: &Service) -> Option<&str> {
    let target = &**service.external_name.as_ref()?;
    (target.parse::<IpAddr>().is_err() && Name::parse(target).is_some()).then_some(target)
}

/// Where a ready endpoint of a slice of type FQDN leads; an address is no name.
pub(crate) fn target_name(target: &Target) -> Option<&str> {
    let usable = target.ready && target.target.parse::<IpAddr>().is_err();
    Some(&*target.target).filter(|text| usable && Name::parse(text).is_some())
}

/// A protocol as names have it, in lower case.
pub(crate) fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// A label of a port or protocol, without its underscore.
fn bare(label: &[u8]) -> &[u8] {
    label.strip_prefix(b"_").unwrap_or(label)
}

/// Whether an endpoint's zone is spelled by `labels`, which are in lower case.
fn is_in_zone(endpoint: &Endpoint, mut labels: &[u8]) -> bool {
    let Some(zone) = &endpoint.zone else { return false };
    zone.split('.').all(|part| {
        let Some((&length, rest)) = labels.split_first() else { return false };
        let Some((label, after)) = rest.split_at_checked(usize::from(length)) else { return false };
        labels = after;
        label.eq_ignore_ascii_case(part.as_bytes())
    }) && labels.is_empty()
}

/// The address whose reverse name this is, and how many of its bits are given. `None` if it is
/// none.
fn address_of_reverse(name: &Name) -> Option<(IpAddr, u8)> {
    let count = name.labels().checked_sub(2)?;
    let digits = (0..count).rev().map(|at| name.label(at));
    match name.label(count) {
        b"in-addr" if count <= 4 => {
            let mut octets = [0; 4];
            for (octet, label) in octets.iter_mut().zip(digits) {
                let text = str::from_utf8(label).ok()?;
                if !text.bytes().all(|digit| digit.is_ascii_digit())
                    || (text.len() > 1 && text.starts_with('0'))
                {
                    return None;
                }
                *octet = text.parse().ok()?;
            }
            Some((Ipv4Addr::from(octets).into(), u8::try_from(8 * count).ok()?))
        }
        b"ip6" if count <= 32 => {
            let mut bits = 0u128;
            for (place, label) in digits.enumerate() {
                let &[digit] = label else { return None };
                let value = char::from(digit).to_digit(16)?;
                bits |= u128::from(value) << (124 - 4 * place);
            }
            Some((Ipv6Addr::from_bits(bits).into(), u8::try_from(4 * count).ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_reverse_names() {
        let nibbles = "1.0.".repeat(16);
        let full = format!("{nibbles}ip6.arpa");
        for (text, expected) in [
            ("4.3.2.1.in-addr.arpa", Some(("1.2.3.4", 32))),
            ("2.1.in-addr.arpa", Some(("1.2.0.0", 16))),
            ("04.3.2.1.in-addr.arpa", None),
            ("256.3.2.1.in-addr.arpa", None),
            ("5.4.3.2.1.in-addr.arpa", None),
            (&full, Some(("101:101:101:101:101:101:101:101", 128))),
            ("d.f.ip6.arpa", Some(("fd00::", 8))),
            ("fd.ip6.arpa", None),
        ] {
            let expected = expected.map(|(address, length)| (address.parse::<IpAddr>().unwrap(), length));
            assert_eq!(address_of_reverse(&Name::parse(text).unwrap()), expected, "{text}");
        }
    }
}
