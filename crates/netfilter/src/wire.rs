//! Netlink messages and attributes (linux/netlink.h, linux/netfilter/nfnetlink.h).
