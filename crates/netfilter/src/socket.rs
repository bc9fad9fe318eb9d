//! A netlink socket of the netfilter family: the only place that makes system calls.
