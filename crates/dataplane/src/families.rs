//! The IP families of the host.

use std::path::Path;

use portolan_service::Family;

/// The families that are served: IPv6 if the kernel has it (`/proc/net/if_inet6`, spec §1.32).
pub(crate) fn families() -> Vec<Family> {
    Family::ALL.into_iter().filter(|family| absence(*family).is_none()).collect()
}

/// Why the host does not have a family, for people; `None` if it does.
pub(crate) fn absence(family: Family) -> Option<String> {
    let has_ipv6 = || Path::new("/proc/net/if_inet6").exists();
    (family == Family::V6 && !has_ipv6()).then(|| "the kernel has no IPv6".to_owned())
}
