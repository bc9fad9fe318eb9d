//! Server blocks that answer for the same domain at the same place.

use std::collections::HashMap;

use crate::corefile::ServerBlock;
use crate::plugins::bind::Host;
use crate::problem::{Place, Problem};

/// A problem for each zone that an earlier server block has too, where they listen.
pub(crate) fn overlaps(blocks: &[ServerBlock]) -> Vec<Problem> {
    // By domain and port: where the server block listens, and where it is written.
    let mut seen: HashMap<_, Vec<(Vec<&Host>, &Place)>> = HashMap::new();
    let mut problems = Vec::new();
    for block in blocks {
        let hosts: Vec<&Host> = block.bind.iter().flat_map(|bind| &bind.hosts).collect();
        for zone in &block.zones {
            let before = seen.entry((&*zone.domain, zone.port)).or_default();
            let meets = |other: &[&Host]| {
                hosts.is_empty() || other.is_empty() || hosts.iter().any(|host| other.contains(host))
            };
            if let Some((_, other)) = before.iter().find(|(other, _)| meets(other)) {
                problems.push(Problem {
                    place: zone.place.clone(),
                    subject: String::new(),
                    message: format!(
                        "{}:{} is answered for already by {other}: put both server blocks together",
                        zone.domain, zone.port
                    ),
                });
            }
            before.push((hosts.clone(), &zone.place));
        }
    }
    problems
}
