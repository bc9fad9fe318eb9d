//! Connection tracking entries (linux/netfilter/nfnetlink_conntrack.h).
