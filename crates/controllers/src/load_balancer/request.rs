//! What a Service asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use portolan_service::{Family, Protocol, parse_address};

use crate::{Issue, Labels};

/// What a Service that has load-balancer addresses needs of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The families of its ClusterIPs, in order.
    pub families: Vec<Family>,
    /// It must have an address of each of the families: `RequireDualStack`.
    pub every_family: bool,
    /// What it asks for by itself.
    pub wishes: Wishes,
    /// Protocols and numbers of its ports.
    pub ports: BTreeSet<(Protocol, u16)>,
    /// Its selector, with `externalTrafficPolicy: Local`: what shares its addresses must have the
    /// same, since packets go only where such a pod is.
    pub local: Option<Labels>,
    /// Its labels.
    pub labels: Labels,
    /// The addresses that it has as far as is recorded, such as in its status.
    pub recorded: Vec<IpAddr>,
}

/// What a Service asks for by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// These addresses and no others: `metallb.io/loadBalancerIPs`, or `spec.loadBalancerIP`.
    pub addresses: Vec<IpAddr>,
    /// The field that asks for them.
    pub addresses_field: &'static str,
    /// What is wrong with it. Then the Service keeps what it has, and is given nothing.
    pub wrong: Option<Issue>,
    /// An address of the pool of this name: `metallb.io/address-pool`.
    pub pool: Option<Arc<str>>,
    /// Services with the same key may have the same address: `metallb.io/allow-shared-ip`.
    pub sharing: Option<Arc<str>>,
}

/// An annotation of MetalLB's, and its older name.
struct Annotation {
    name: &'static str,
    old: &'static str,
    /// The path of the field.
    field: &'static str,
}

const ADDRESSES: Annotation = Annotation {
    name: "metallb.io/loadBalancerIPs",
    old: "metallb.universe.tf/loadBalancerIPs",
    field: "metadata.annotations.metallb.io/loadBalancerIPs",
};
const POOL: Annotation = Annotation {
    name: "metallb.io/address-pool",
    old: "metallb.universe.tf/address-pool",
    field: "metadata.annotations.metallb.io/address-pool",
};
const SHARING: Annotation = Annotation {
    name: "metallb.io/allow-shared-ip",
    old: "metallb.universe.tf/allow-shared-ip",
    field: "metadata.annotations.metallb.io/allow-shared-ip",
};

const IN_SPEC: &str = "spec.loadBalancerIP";

impl Annotation {
    /// Its value, of which an empty one says nothing. The new name counts if both are there.
    fn of<'a>(&self, annotations: &'a BTreeMap<String, String>) -> Option<&'a str> {
        let value = annotations.get(self.name).or_else(|| annotations.get(self.old))?;
        (!value.is_empty()).then_some(value)
    }
}

impl Wishes {
    /// The field that names a pool.
    pub(super) const POOL_FIELD: &'static str = POOL.field;
    /// The field that allows sharing.
    pub(super) const SHARING_FIELD: &'static str = SHARING.field;

    /// What the annotations of a Service and its `spec.loadBalancerIP` ask for.
    pub fn read(annotations: &BTreeMap<String, String>, load_balancer_ip: Option<&str>) -> Wishes {
        let in_spec = load_balancer_ip.filter(|text| !text.is_empty());
        let annotated = ADDRESSES.of(annotations);
        let addresses_field = if annotated.is_some() { ADDRESSES.field } else { IN_SPEC };
        let addresses = if annotated.is_some() && in_spec.is_some() {
            let message = format!("{} is there, too; leave one of the two out", ADDRESSES.name);
            Err(Issue::new(IN_SPEC, message))
        } else {
            addresses(annotated.or(in_spec)).map_err(|message| Issue::new(addresses_field, message))
        };
        let (addresses, wrong) = match addresses {
            Ok(addresses) => (addresses, None),
            Err(issue) => (Vec::new(), Some(issue)),
        };
        Wishes {
            addresses,
            addresses_field,
            wrong,
            pool: POOL.of(annotations).map(Arc::from),
            sharing: SHARING.of(annotations).map(Arc::from),
        }
    }
}

/// Addresses with commas between them.
fn addresses(text: Option<&str>) -> Result<Vec<IpAddr>, String> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for text in text.into_iter().flat_map(|text| text.split(',')).map(str::trim) {
        let address = parse_address(text).ok_or_else(|| format!("{text:?} is not an IP address"))?;
        let family = Family::of(address);
        if let Some(other) = addresses.iter().find(|other| Family::of(**other) == family) {
            return Err(format!("{address} is {family} like {other}; one of each family at most"));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

/// What must be equal for Services to have the same address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SharingKey {
    key: Arc<str>,
    local: Option<Labels>,
}

impl Request {
    pub(super) fn sharing(&self) -> Option<SharingKey> {
        let key = self.wishes.sharing.clone()?;
        Some(SharingKey { key, local: self.local.clone() })
    }

    /// The families of which `held` has no address.
    pub(super) fn missing(&self, held: &[IpAddr]) -> Vec<Family> {
        let has = |family: &Family| held.iter().any(|address| Family::of(*address) == *family);
        self.families.iter().copied().filter(|family| !has(family)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, annotations, `spec.loadBalancerIP`, addresses or the field that is wrong.
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<&'a str>, Result<&'a [&'a str], &'a str>);

    #[test]
    fn wishes_are_read_from_annotations_and_spec() {
        let v4 = "metallb.io/loadBalancerIPs";
        let old = "metallb.universe.tf/loadBalancerIPs";
        #[rustfmt::skip]
        let table: &[Row<'_>] = &[
            ("nothing", &[], None, Ok(&[])),
            ("spec", &[], Some("192.0.2.1"), Ok(&["192.0.2.1"])),
            ("empty spec", &[], Some(""), Ok(&[])),
            ("annotation", &[(v4, "192.0.2.1")], None, Ok(&["192.0.2.1"])),
            ("two families", &[(v4, "2001:db8::1, 192.0.2.1")], None, Ok(&["2001:db8::1", "192.0.2.1"])),
            ("old name", &[(old, "192.0.2.1")], None, Ok(&["192.0.2.1"])),
            ("both names", &[(old, "192.0.2.1"), (v4, "192.0.2.2")], None, Ok(&["192.0.2.2"])),
            ("empty annotation", &[(v4, "")], Some("192.0.2.1"), Ok(&["192.0.2.1"])),
            ("annotation and spec", &[(v4, "192.0.2.1")], Some("192.0.2.1"), Err("spec.loadBalancerIP")),
            ("no address", &[(v4, "web")], None, Err(ADDRESSES.field)),
            ("no address in spec", &[], Some("web"), Err("spec.loadBalancerIP")),
            ("one family twice", &[(v4, "192.0.2.1,192.0.2.2")], None, Err(ADDRESSES.field)),
        ];
        for (name, annotations, spec, expected) in table {
            let annotations =
                annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let read = Wishes::read(&annotations, *spec);
            let read = read.wrong.map_or(Ok(read.addresses), |issue| Err(issue.field));
            let expected = expected
                .map(|addresses| addresses.iter().map(|ip| ip.parse().expect(ip)).collect::<Vec<IpAddr>>())
                .map_err(str::to_owned);
            assert_eq!(read, expected, "{name}");
        }
    }

    #[test]
    fn pools_and_keys_are_read_from_either_name() {
        let given = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            let wishes = Wishes::read(&pairs.collect(), None);
            (wishes.pool.as_deref().map(str::to_owned), wishes.sharing.as_deref().map(str::to_owned))
        };
        let new = [("metallb.io/address-pool", "lan"), ("metallb.io/allow-shared-ip", "dns")];
        let old =
            [("metallb.universe.tf/address-pool", "lan"), ("metallb.universe.tf/allow-shared-ip", "dns")];
        let both = (Some("lan".to_owned()), Some("dns".to_owned()));
        assert_eq!((given(&new), given(&old), given(&[])), (both.clone(), both, (None, None)));
    }
}
