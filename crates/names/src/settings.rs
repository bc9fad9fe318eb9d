//! What the zone's operator decides.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::wire::Name;

/// Which names pods have (spec §1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PodMode {
    /// None
    #[default]
    Disabled,
    /// Any address has one, in any namespace that exists.
    Insecure,
    /// Those that a pod of the namespace has.
    Verified,
}

/// Which namespaces exist (spec §1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NamespaceFilter {
    /// All
    #[default]
    All,
    /// Those listed
    Listed(Vec<String>),
    /// Those with labels that meet all requirements.
    Labelled(Vec<Requirement>),
}

/// One requirement of a label selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What its value must be.
    pub value: LabelValue,
}

/// What a label's value must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelValue {
    /// One of these.
    In(Vec<String>),
    /// None of these, or the label is absent.
    NotIn(Vec<String>),
    /// The label is there.
    Present,
    /// It is not.
    Absent,
}

/// Which names that are not there others are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Fallthrough {
    /// None
    #[default]
    Nothing,
    /// All
    Everything,
    /// Those in these domains.
    Domains(Vec<String>),
}

/// Server-side search: a question of a pod for a name in its own namespace that is not there is
/// answered with what its search list leads to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Search {
    /// Only for names in these domains. None: for all.
    pub domains: Vec<String>,
    /// What pods' search lists have after the cluster's three domains: those of the node's
    /// resolv.conf.
    pub list: Vec<String>,
}

/// The options of the zones.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option by itself")]
pub struct Settings {
    /// The domains that are answered for, such as `cluster.local`; those below `in-addr.arpa` and
    /// `ip6.arpa` are reverse zones. Targets of PTR records are in the first that is none.
    pub zones: Vec<String>,
    /// How long answers may be kept, seconds.
    pub ttl: u32,
    /// TTL of the SOA record in answers that say no, seconds. `None`: that of other records, and
    /// at most 300.
    pub negative_ttl: Option<u32>,
    /// MINIMUM of the SOA record, seconds. `None`: the TTL of other records. Answers that say no
    /// may be kept for as long as the lower of the two says (RFC 2308 §5).
    pub minimum: Option<u32>,
    /// No record may be kept for longer, seconds: the longest time of `cache`, which counts for
    /// answers too that it does not keep. `None`: no limit.
    pub ttl_limit: Option<u32>,
    /// `pods`
    pub pods: PodMode,
    /// `endpoint_pod_names`: endpoints without hostname are called after their pods.
    pub endpoint_pod_names: bool,
    /// Endpoints have names; false is `noendpoints`.
    pub endpoints: bool,
    /// `ignore empty_service`: a ClusterIP Service without a ready endpoint does not exist.
    pub ignore_empty_service: bool,
    /// `zonal`: headless Services have names for their endpoints in a topology zone.
    pub zonal: bool,
    /// `namespaces` and `namespace_labels`
    pub namespaces: NamespaceFilter,
    /// `fallthrough`
    pub fallthrough: Fallthrough,
    /// Server-side search, `autopath`. Pods are to be given to [`crate::Names`] then, whatever
    /// `pods` is.
    pub search: Option<Search>,
    /// The server's own addresses, for NS records.
    pub own_addresses: Vec<IpAddr>,
    /// The cluster's networks beside those of its nodes: above all those of ServiceCIDRs. Nobody
    /// else is asked for names of addresses there.
    pub own_networks: Vec<IpNet>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            zones: ["cluster.local", "in-addr.arpa", "ip6.arpa"].map(str::to_owned).to_vec(),
            ttl: 5,
            negative_ttl: None,
            minimum: None,
            ttl_limit: None,
            pods: PodMode::Disabled,
            endpoint_pod_names: false,
            endpoints: true,
            ignore_empty_service: false,
            zonal: false,
            namespaces: NamespaceFilter::All,
            fallthrough: Fallthrough::Nothing,
            search: None,
            own_addresses: Vec::new(),
            own_networks: Vec::new(),
        }
    }
}

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A domain is none.
    #[error("{field}: {value:?} is no domain name: give labels of 1 to 63 characters with dots between them")]
    Domain {
        /// The setting.
        field: &'static str,
        /// What it is.
        value: String,
    },
    /// There is no domain for Services.
    #[error("zones: no domain for Services among them: add one, such as cluster.local")]
    NoZone,
    /// A TTL is too long.
    #[error("{field}: {value} s is longer than {TTL_MAX} s: give at most that")]
    Ttl {
        /// The setting.
        field: &'static str,
        /// What it is, seconds.
        value: u32,
    },
}

/// The longest TTL, seconds.
pub const TTL_MAX: u32 = 3600;
/// The longest TTL of the SOA record, seconds.
pub const SOA_TTL_MAX: u32 = 300;

/// A domain that is answered for.
#[derive(Debug, Clone)]
pub(crate) struct Zone {
    /// In lower case.
    pub(crate) name: Name,
    /// Names of addresses are in it.
    pub(crate) reverse: bool,
}

/// Settings, checked and ready for use.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) settings: Settings,
    /// The first longest.
    pub(crate) zones: Vec<Zone>,
    /// Where targets of PTR records are, as given.
    pub(crate) primary: Name,
    pub(crate) search: Option<Searched>,
    fallthrough: Vec<Name>,
}

/// [`Search`], ready for use.
#[derive(Debug, Clone)]
pub(crate) struct Searched {
    pub(crate) domains: Vec<Name>,
    pub(crate) list: Vec<Name>,
}

impl Options {
    pub(crate) fn new(settings: Settings) -> Result<Options, Error> {
        for (field, value) in [
            ("ttl", settings.ttl),
            ("negative_ttl", settings.negative_ttl.unwrap_or_default()),
            ("minimum", settings.minimum.unwrap_or_default()),
        ] {
            if value > TTL_MAX {
                return Err(Error::Ttl { field, value });
            }
        }
        let arpa = [domain("zones", "in-addr.arpa")?, domain("zones", "ip6.arpa")?];
        let (mut zones, mut primary) = (Vec::new(), None);
        for text in &settings.zones {
            let name = domain("zones", text)?;
            let reverse = arpa.iter().any(|arpa| name.is_within(arpa));
            if !reverse {
                primary = primary.or(Name::parse(text));
            }
            zones.push(Zone { name, reverse });
        }
        zones.sort_by_key(|zone| std::cmp::Reverse(zone.name.labels()));
        let primary = primary.ok_or(Error::NoZone)?;
        let fallthrough = match &settings.fallthrough {
            Fallthrough::Nothing => Vec::new(),
            Fallthrough::Everything => vec![Name::root()],
            Fallthrough::Domains(domains) => {
                domains.iter().map(|text| domain("fallthrough", text)).collect::<Result<_, _>>()?
            }
        };
        let all = |field, texts: &[String]| -> Result<Vec<Name>, Error> {
            texts.iter().map(|text| domain(field, text)).collect()
        };
        let searched = |search: &Search| -> Result<Searched, Error> {
            let domains = all("search.domains", &search.domains)?;
            Ok(Searched { domains, list: all("search.list", &search.list)? })
        };
        let search = settings.search.as_ref().map(searched).transpose()?;
        Ok(Options { settings, zones, primary, search, fallthrough })
    }

    /// The zone that `name` is in.
    pub(crate) fn zone_of(&self, name: &Name) -> Option<&Zone> {
        self.zones.iter().find(|zone| name.is_within(&zone.name))
    }

    /// The domains that Services have names in, as given, without a dot at the end.
    pub(crate) fn service_domains(&self) -> impl Iterator<Item = &str> {
        let reverse = |text: &str| {
            let text = text.to_ascii_lowercase();
            text.ends_with("in-addr.arpa") || text.ends_with("ip6.arpa")
        };
        let domains = self.settings.zones.iter().map(|zone| zone.trim_end_matches('.'));
        domains.filter(move |zone| !reverse(zone))
    }

    /// Whether others are asked for `name` if it is not there.
    pub(crate) fn falls_through(&self, name: &Name) -> bool {
        self.fallthrough.iter().any(|domain| name.is_within(domain))
    }

    /// Whether a namespace may exist. Labels are `None` if its object is not known.
    pub(crate) fn shows_namespace(&self, name: &str, labels: Option<&[(Box<str>, Box<str>)]>) -> bool {
        match &self.settings.namespaces {
            NamespaceFilter::All => true,
            NamespaceFilter::Listed(names) => names.iter().any(|listed| listed.eq_ignore_ascii_case(name)),
            NamespaceFilter::Labelled(requirements) => labels
                .is_some_and(|labels| requirements.iter().all(|requirement| requirement.is_met_by(labels))),
        }
    }

    /// The TTL of records, seconds.
    pub(crate) fn ttl(&self) -> u32 {
        self.capped(self.settings.ttl)
    }

    /// TTL of the SOA record where it is asked for, seconds.
    pub(crate) fn soa_ttl(&self) -> u32 {
        self.ttl().min(SOA_TTL_MAX)
    }

    /// TTL of the SOA record in answers that say no, seconds.
    pub(crate) fn negative_ttl(&self) -> u32 {
        self.settings.negative_ttl.unwrap_or_else(|| self.soa_ttl())
    }

    /// MINIMUM of the SOA record, seconds.
    pub(crate) fn minimum(&self) -> u32 {
        self.settings.minimum.unwrap_or(self.settings.ttl)
    }

    /// `ttl` or the longest that is allowed, seconds.
    pub(crate) fn capped(&self, ttl: u32) -> u32 {
        self.settings.ttl_limit.map_or(ttl, |limit| ttl.min(limit))
    }
}

impl Requirement {
    fn is_met_by(&self, labels: &[(Box<str>, Box<str>)]) -> bool {
        let value = labels.iter().find(|(key, _)| **key == *self.key).map(|(_, value)| &**value);
        let listed = |values: &[String]| value.is_some_and(|value| values.iter().any(|one| one == value));
        match &self.value {
            LabelValue::In(values) => listed(values),
            LabelValue::NotIn(values) => !listed(values),
            LabelValue::Present => value.is_some(),
            LabelValue::Absent => value.is_none(),
        }
    }
}

fn domain(field: &'static str, text: &str) -> Result<Name, Error> {
    if text == "." {
        return Ok(Name::root());
    }
    let mut name = Name::parse(text).ok_or_else(|| Error::Domain { field, value: text.to_owned() })?;
    name.make_lowercase();
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be() {
        let given = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            Options::new(settings).err().map(|error| error.to_string())
        };
        for (name, change, expected) in [
            ("the defaults", (|_| {}) as fn(&mut Settings), None),
            (
                "an empty label",
                |settings| settings.zones.push("a..b".to_owned()),
                Some("zones: \"a..b\" is no domain name"),
            ),
            ("reverse zones alone", |settings| drop(settings.zones.remove(0)), Some("zones: no domain")),
            (
                "a fallthrough that is no domain",
                |settings| settings.fallthrough = Fallthrough::Domains(vec![String::new()]),
                Some("fallthrough: \"\""),
            ),
            ("a long TTL", |settings| settings.ttl = 3601, Some("ttl: 3601 s is longer than 3600 s")),
        ] {
            match (given(change), expected) {
                (None, None) => {}
                (Some(error), Some(expected)) => assert!(error.starts_with(expected), "{name}: {error}"),
                (found, _) => panic!("{name}: {found:?}"),
            }
        }
    }
}
