//! Chains of iptables that are kube-proxy's and ours by the same names, and how ours are
//! recognised.

/// Marks packets to be masqueraded; host ports of others use it, too (spec §5.43).
pub(crate) const MARK_MASQ: &str = "KUBE-MARK-MASQ";
/// Masquerades what is marked.
pub(crate) const POSTROUTING: &str = "KUBE-POSTROUTING";

/// Accepts what is forwarded to endpoints.
pub(crate) const FORWARD: &str = "KUBE-FORWARD";

/// Of kube-proxy's userspace mode: brings what the node sends to its NodePorts to sockets.
pub(crate) const NODE_PORT_HOST: &str = "KUBE-NODEPORT-HOST";
/// Of kube-proxy's userspace mode: accepts what goes from NodePorts to sockets.
pub(crate) const NODE_PORT_NON_LOCAL: &str = "KUBE-NODEPORT-NON-LOCAL";

/// The comment of a rule at the end of each of `MARKED` that decides nothing. It says that the
/// chains that are kube-proxy's by name were written by us. kube-proxy writes these chains anew
/// with each sync, or empties them at its start, so that the mark is gone once the chains are its
/// own again.
pub const MARK: &str = "written by portolan";

/// Tables and chains that bear the mark: for either mode with chains two, so that it is still there
/// after somebody has flushed one table.
pub(crate) const MARKED: [(&str, &str); 4] =
    [("nat", POSTROUTING), ("filter", FORWARD), ("nat", NODE_PORT_HOST), ("filter", NODE_PORT_NON_LOCAL)];
