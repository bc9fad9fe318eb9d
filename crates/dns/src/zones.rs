//! Which block answers for which zone at a listener.

use std::net::SocketAddr;
use std::sync::Arc;

use portolan_names::wire::Name;

use crate::counters::ZoneCounters;
use crate::error::Error;
use crate::settings::Block;

/// The zones of a listener.
#[derive(Default)]
pub(crate) struct Zones {
    /// The longest first.
    routes: Vec<Route>,
}

/// A zone, and who answers for it.
pub(crate) struct Route {
    /// In lower case.
    zone: Name,
    pub(crate) block: Arc<Block>,
    /// One for each thread.
    pub(crate) counters: Arc<[ZoneCounters]>,
}

impl Zones {
    /// Zones for `threads` threads. Counters of zones that `before` has too go on.
    pub(crate) fn new(
        listener: SocketAddr,
        blocks: Vec<Block>,
        before: &Zones,
        threads: usize,
    ) -> Result<Zones, Error> {
        let mut routes: Vec<Route> = Vec::new();
        for block in blocks {
            let block = Arc::new(block);
            for text in &block.zones {
                let zone = parse(text).ok_or_else(|| Error::Zone { listener, zone: text.clone() })?;
                if routes.iter().any(|route| route.zone == zone) {
                    return Err(Error::ZoneTwice { listener, zone: text.clone() });
                }
                let known = before.routes.iter().find(|route| route.zone == zone);
                let counters = known.map_or_else(
                    || (0..threads).map(|_| ZoneCounters::default()).collect(),
                    |route| route.counters.clone(),
                );
                routes.push(Route { zone, block: block.clone(), counters });
            }
        }
        routes.sort_by_key(|route| std::cmp::Reverse(route.zone.labels()));
        Ok(Zones { routes })
    }

    /// The zone that `name`, in lower case, is in.
    pub(crate) fn of(&self, name: &Name) -> Option<usize> {
        self.routes.iter().position(|route| name.is_within(&route.zone))
    }

    /// The zone with this number.
    pub(crate) fn route(&self, at: usize) -> &Route {
        &self.routes[at]
    }

    /// All zones, with their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (String, &Route)> {
        self.routes.iter().map(|route| (route.zone.to_string(), route))
    }
}

fn parse(text: &str) -> Option<Name> {
    if text == "." {
        return Some(Name::root());
    }
    let mut name = Name::parse(text)?;
    name.make_lowercase();
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones(lists: &[&[&str]]) -> Result<Zones, String> {
        let blocks = lists.iter().map(|zones| Block {
            zones: zones.iter().map(|zone| (*zone).to_owned()).collect(),
            ..Block::default()
        });
        let listener = "127.0.0.1:53".parse().unwrap();
        Zones::new(listener, blocks.collect(), &Zones::default(), 1).map_err(|error| error.to_string())
    }

    #[test]
    fn the_longest_zone_wins() {
        let zones = zones(&[&["."], &["Example.com", "b.example.com."], &["c.b.example.com"]]).unwrap();
        for (name, expected) in [
            ("example.com", "example.com."),
            ("a.example.com", "example.com."),
            ("aexample.com", "."),
            ("x.c.b.example.com", "c.b.example.com."),
            ("b.example.com", "b.example.com."),
        ] {
            let found = zones.of(&Name::parse(name).unwrap()).unwrap();
            assert_eq!(zones.route(found).zone.to_string(), expected, "{name}");
        }
        assert!(Zones::default().of(&Name::root()).is_none());
    }

    #[test]
    fn zones_that_cannot_be() {
        for (name, lists, expected) in [
            ("no domain", &[&["a..b"][..]][..], "\"a..b\" is no domain name"),
            ("twice", &[&["a.b"], &["A.B."]], "\"A.B.\" is in two blocks"),
        ] {
            let error = zones(lists).err().unwrap();
            assert!(error.contains(expected), "{name}: {error}");
        }
    }
}
