//! Chains of iptables that are kube-proxy's and ours by the same names, and how ours are
//! recognised.

/// Marks packets to be masqueraded; host ports of others use it, too (spec §5.43).
pub(crate) const MARK_MASQ: &str = "KUBE-MARK-MASQ";
/// Masquerades what is marked.
pub(crate) const POSTROUTING: &str = "KUBE-POSTROUTING";

/// Accepts what is forwarded to endpoints.
pub(crate) const FORWARD: &str = "KUBE-FORWARD";

/// The comment of a rule at the end of each of `MARKED` that decides nothing. It says that the
/// chains that are kube-proxy's by name were written by our mode iptables. kube-proxy writes these
/// chains anew with each sync, so that the mark is gone once the chains are its own again.
pub const MARK: &str = "written by portolan";

/// Tables and chains that bear the mark: two, so that it is still there after somebody has flushed
/// one table.
pub(crate) const MARKED: [(&str, &str); 2] = [("nat", POSTROUTING), ("filter", FORWARD)];
