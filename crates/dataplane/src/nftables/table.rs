//! Our table.

use portolan_netfilter::nft::TableRef;
use portolan_service::Family;

use crate::variant::table_family;

/// The name of our table in either family.
pub(crate) const TABLE: &str = "portolan";
/// What `nft list` shows for it.
pub(crate) const TABLE_COMMENT: &str = "Services of Kubernetes; managed by portolan, do not edit";

/// Our table in `family`.
pub(crate) fn table(family: Family) -> TableRef<'static> {
    TableRef { family: table_family(family), name: TABLE }
}

/// Our table in `family`, for people.
pub(crate) fn table_name(family: Family) -> String {
    format!("table {} {TABLE}", if family == Family::V4 { "ip" } else { "ip6" })
}
