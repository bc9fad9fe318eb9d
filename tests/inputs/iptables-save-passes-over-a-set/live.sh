#!/bin/bash
# In a network namespace of its own: a table of iptables-nft with a rule that nft added.
set -u
[ "${IN_NS:-}" ] || exec env IN_NS=1 unshare -n -m "$0" "$1"
ip link set lo up
ip addr add 198.51.100.10/32 dev lo
iptables-nft -A INPUT -i eth9 -j ACCEPT
nft add rule ip filter INPUT tcp dport '{ 80, 443 }' drop
portolan trace --live --from 192.0.2.7 --to "198.51.100.10:$1"
