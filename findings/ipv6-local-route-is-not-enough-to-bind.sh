#!/usr/bin/env bash
# A route of type local lets a socket be bound to its address over IPv4, and not over IPv6.
#
# Package: iproute2 6.1.0-3 (Debian 12). Kernel: Linux 6.18.
# Behaviour: "ip route add local ADDRESS dev lo" makes an address the host's own for routing. bind() asks the routing
# table over IPv4 (inet_addr_type_table in net/ipv4/af_inet.c), but the list of addresses of interfaces over IPv6
# (ipv6_chk_addr in net/ipv6/af_inet6.c). Packets to the address are delivered over both.
# Seen: IPv4: bound. IPv6: EADDRNOTAVAIL; with the socket option IPV6_FREEBIND: bound, and reached by a datagram.
# For programs that answer at an address which no interface has: IPv4 works by chance of its lookup; ask for
# IP_FREEBIND and IPV6_FREEBIND in both families.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get download -qq iproute2=6.1.0-3 libbpf1 libelf1 libmnl0 libcap2 libxtables12 >/dev/null 2>&1
for package in *.deb; do dpkg-deb --extract "$package" root; done
ip=$(find root -path '*/sbin/ip' -o -path '*/bin/ip' | head -n 1)

cat >inside.py <<'INSIDE'
import errno
import socket
import subprocess
import sys

IPV6_FREEBIND = 78
subprocess.run([sys.argv[1], "link", "set", "lo", "up"], check=True)


def bound(family, address, free):
    subprocess.run([sys.argv[1], "route", "replace", "local", address, "dev", "lo"], check=True)
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(5)
    if free:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
    try:
        sock.bind((address, 5353))
    except OSError as error:
        return errno.errorcode[error.errno]
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.sendto(b"question", (address, 5353))
    return "bound, and " + ("reached" if sock.recv(16) == b"question" else "not reached")


seen = [
    ("IPv4", bound(socket.AF_INET, "192.0.2.53", False)),
    ("IPv6", bound(socket.AF_INET6, "2001:db8::53", False)),
    ("IPv6 with IPV6_FREEBIND", bound(socket.AF_INET6, "2001:db8::53", True)),
]
for what, result in seen:
    print(f"{what}: {result}")
assert [result for _, result in seen] == ["bound, and reached", "EADDRNOTAVAIL", "bound, and reached"]
INSIDE
uname -r
export LD_LIBRARY_PATH=$PWD/root/usr/lib/x86_64-linux-gnu:$PWD/root/lib/x86_64-linux-gnu
timeout 60 unshare --net --map-root-user python3 inside.py "$PWD/$ip"
echo "as described"
