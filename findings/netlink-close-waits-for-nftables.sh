#!/usr/bin/env bash
# close() of a netfilter netlink socket waits until the kernel has freed what somebody else deleted from nftables.
#
# Package: nftables 1.0.6-2+deb12u2 (Debian 12). Kernel: Linux 6.18.
# Behaviour: a socket of family NETLINK_NETFILTER that was opened, bound and never used is closed in some
# microseconds. If another process has just deleted a table, the same close() takes a grace period of RCU and the time
# to free the table (nft_rcv_nl_event in net/netfilter/nf_tables_api.c). Sockets for conntrack, logging or queues wait
# as well, since the family is the same.
# Seen: 0.005 ms without, 7 to 19 ms after a deletion.
# For programs that change nftables and open a conntrack socket for each question: keep it open. Otherwise each
# question costs tens of milliseconds, none of which is the question's.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get download -qq nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11=1.2.4-2 \
	libmnl0=1.0.4-3 libxtables12=1.8.9-2 >/dev/null 2>&1
for package in *.deb; do dpkg-deb --extract "$package" root; done

cat >inside.py <<'INSIDE'
import socket
import statistics
import struct
import subprocess
import time

NETFILTER, TABLE_EVENTS, DELETED_TABLE = 12, 1 << 6, 10 << 8 | 2
nft = subprocess.Popen(["root/usr/sbin/nft", "-i"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def opened(groups=0):
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
    sock.bind((0, groups))
    sock.settimeout(10)
    return sock


def deletes_a_table(events):
    nft.stdin.write("add table ip t; add set ip t s { type ipv4_addr; }\ndelete table ip t\n")
    nft.stdin.flush()
    while True:
        data, offset = events.recv(1 << 16), 0
        while offset + 16 <= len(data):
            length, kind = struct.unpack_from("IH", data, offset)
            if kind == DELETED_TABLE:
                return
            offset += (length + 3) & ~3


def close_takes(after_deletion):
    unused = opened()
    if after_deletion:
        with opened(TABLE_EVENTS) as events:
            deletes_a_table(events)
            began = time.perf_counter()
            unused.close()
            return time.perf_counter() - began
    began = time.perf_counter()
    unused.close()
    return time.perf_counter() - began


alone = statistics.median(close_takes(False) for _ in range(9))
after = statistics.median(close_takes(True) for _ in range(9))
nft.stdin.close()
nft.wait(10)
print(f"close() of an unused socket: {alone * 1e3:.3f} ms; after another process deleted a table: {after * 1e3:.3f} ms")
assert after > 20 * alone and after > 0.001
INSIDE
uname -r
export LD_LIBRARY_PATH=$PWD/root/usr/lib/x86_64-linux-gnu
timeout 60 unshare --net --map-root-user python3 inside.py
echo "as described"
