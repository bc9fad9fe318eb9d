//! What `portolan get addresses` shows: whose an address is, who announces it, and why that one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use portolan_announce::{AddressStatus, Announcer, Holder};
use portolan_observe::rows::AddressRow;
use portolan_service::{ObjectName, is_own_class};

/// A Service that has an address, and its `spec.loadBalancerClass`.
type User = (ObjectName, Option<Arc<str>>);

/// Load-balancer addresses, for who asks about them.
#[derive(Default)]
pub(crate) struct Addresses {
    /// The Services that have each.
    pub(crate) services: BTreeMap<IpAddr, Vec<User>>,
    /// Who announces by ARP and Neighbour Discovery, if anybody does.
    pub(super) announcer: Option<Arc<Announcer>>,
    /// Services without a class are announced, too.
    pub(super) is_default: bool,
    /// A routing table, and the addresses that it has routes for.
    pub(super) routes: Option<(u32, BTreeSet<IpAddr>)>,
}

impl Addresses {
    /// A row for each interface that an address is announced on; for the others one.
    pub(crate) fn rows(mut self) -> Vec<AddressRow> {
        let mut status: HashMap<IpAddr, AddressStatus> = HashMap::new();
        let answer = self.announcer.as_ref().and_then(|announcer| announcer.status());
        status.extend(answer.into_iter().flatten().map(|status| (status.address, status)));
        let services = std::mem::take(&mut self.services);
        services
            .iter()
            .flat_map(|(address, users)| self.rows_of(*address, users, status.get(address)))
            .collect()
    }

    /// Why nothing is known of an address.
    fn unknown(&self, users: &[User]) -> String {
        if users.iter().any(|(_, class)| is_own_class(class.as_deref(), self.is_default)) {
            return "not announced yet".to_owned();
        }
        match users.iter().find_map(|(_, class)| class.as_deref()) {
            Some(class) => format!("of class {class}, which another load balancer serves"),
            None => "of no class, and loadBalancer.default is false".to_owned(),
        }
    }

    fn rows_of(&self, address: IpAddr, users: &[User], status: Option<&AddressStatus>) -> Vec<AddressRow> {
        let mut services: Vec<String> = users.iter().map(|(name, _)| name.to_string()).collect();
        services.sort_unstable();
        let routed = self.routes.as_ref().filter(|(_, addresses)| addresses.contains(&address));
        let row = AddressRow {
            address: address.to_string(),
            services,
            interface: None,
            node: None,
            reason: String::new(),
            routing_table: routed.map(|(table, _)| *table),
            duplicates: status.iter().flat_map(|status| status.duplicates()).collect(),
        };
        let holders = status.map_or(&[][..], |status| &status.holders);
        if holders.is_empty() {
            let reason = match (&self.announcer, status) {
                (None, _) if routed.is_some() => "this node may announce it".to_owned(),
                (None, _) if self.routes.is_some() => "this node may not announce it".to_owned(),
                (None, _) => "announcement.layer2 is off".to_owned(),
                (Some(_), None) => self.unknown(users),
                (Some(_), Some(_)) => "no interface of this node fits it".to_owned(),
            };
            return vec![AddressRow { reason, ..row }];
        }
        let willing = status.and_then(|status| status.willing.as_deref());
        let on = |holder: &Holder| AddressRow {
            interface: Some(holder.interface.clone()),
            node: holder.node.as_deref().map(str::to_owned),
            reason: reason(holder, willing),
            ..row.clone()
        };
        holders.iter().map(on).collect()
    }
}

/// Why a node has an address, or none has. `willing` are those that may, if not all do.
fn reason(holder: &Holder, willing: Option<&[Arc<str>]>) -> String {
    match (&holder.node, willing) {
        (None, _) if holder.listens => "other nodes are listened for".to_owned(),
        (None, Some([])) => "no node has an endpoint for it (externalTrafficPolicy: Local)".to_owned(),
        (None, _) => "no node that may announce it is heard".to_owned(),
        (Some(_), Some(_)) if holder.could == 1 => {
            "the only node with an endpoint for it (externalTrafficPolicy: Local)".to_owned()
        }
        (Some(_), None) if holder.could == 1 => "the only node".to_owned(),
        (Some(_), Some(_)) => format!("first by rank of the {} nodes with endpoints for it", holder.could),
        (Some(_), None) => format!("first by rank of {} nodes", holder.could),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(node: Option<&str>, could: usize, listens: bool) -> Holder {
        let interface = "eth0".to_owned();
        Holder { interface, node: node.map(Arc::from), could, listens }
    }

    #[test]
    fn the_reason_is_said() {
        let two: [Arc<str>; 2] = ["a".into(), "b".into()];
        for (holder, willing, expected) in [
            (holder(None, 0, true), None, "other nodes are listened for"),
            (holder(None, 0, false), None, "no node that may announce it is heard"),
            (holder(None, 0, false), Some(&two[..]), "no node that may announce it is heard"),
            (
                holder(None, 0, false),
                Some(&[][..]),
                "no node has an endpoint for it (externalTrafficPolicy: Local)",
            ),
            (holder(Some("a"), 1, false), None, "the only node"),
            (
                holder(Some("a"), 1, false),
                Some(&two[..1]),
                "the only node with an endpoint for it (externalTrafficPolicy: Local)",
            ),
            (holder(Some("a"), 3, false), None, "first by rank of 3 nodes"),
            (
                holder(Some("a"), 2, false),
                Some(&two[..]),
                "first by rank of the 2 nodes with endpoints for it",
            ),
        ] {
            assert_eq!(reason(&holder, willing), expected);
        }
    }

    #[test]
    fn without_announcements_addresses_have_a_row_too() {
        let mut addresses = Addresses::default();
        let user = |name: &str| (ObjectName::new("shop", name), None);
        addresses.services.insert("192.0.2.7".parse().unwrap(), vec![user("web"), user("dns")]);
        let rows = addresses.rows();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].services, ["shop/dns", "shop/web"]);
        assert_eq!((rows[0].node.as_deref(), &*rows[0].reason), (None, "announcement.layer2 is off"));
    }
}
