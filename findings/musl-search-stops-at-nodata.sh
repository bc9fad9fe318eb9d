#!/usr/bin/env bash
# musl's resolver gives up a search list at the first domain that has the name without an address.
#
# Packages: musl 1.2.3-1 and musl-dev 1.2.3-1 (Debian 12), beside the C library of the machine (glibc).
# Behaviour: with "search a.test b.test", a name exists in both domains. In a.test it has no address
# records (NOERROR, empty answer, SOA), in b.test it has one. glibc goes on to b.test and finds it. musl
# reports that there is no address. If a.test has an A record, but answers NXDOMAIN to the AAAA question
# for the same name, musl discards the A record and goes on to b.test; glibc takes the A record.
# Seen: the table at the end of this script.
# For a DNS server of a cluster, whose clients all have search lists: the answer to a name that is not
# there must be NXDOMAIN and never an empty one, and both families must get the same rcode.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get download -qq musl=1.2.3-1 musl-dev=1.2.3-1 >/dev/null 2>&1
for package in *.deb; do dpkg-deb --extract "$package" root; done

cat >ask.c <<'C'
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>

int main(int count, char **words) {
	struct addrinfo want = {.ai_socktype = SOCK_STREAM}, *found;
	if (count < 2 || getaddrinfo(words[1], "80", &want, &found) != 0) {
		puts("none");
		return 0;
	}
	char text[INET6_ADDRSTRLEN] = "another family";
	if (found->ai_family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *)found->ai_addr)->sin_addr, text, sizeof text);
	puts(text);
	return 0;
}
C
cc -o ask-glibc ask.c
include=root/usr/include/x86_64-linux-musl
lib=root/usr/lib/x86_64-linux-musl
cc -static -nostdinc -isystem "$include" -nostdlib -fno-stack-protector -o ask-musl \
	"$lib/crt1.o" "$lib/crti.o" ask.c "$lib/libc.a" -lgcc "$lib/crtn.o"

# A name server for the two zones. Rows: name, what A gets, what AAAA gets.
cat >server.py <<'PY'
import socket, struct

ZONES = {
    "empty.a.test": ("", ""), "empty.b.test": ("192.0.2.2", ""),
    "split.a.test": ("192.0.2.1", None), "split.b.test": ("192.0.2.2", ""),
    "plain.b.test": ("192.0.2.2", ""),
}
NOERROR, NXDOMAIN, A = 0, 3, 1
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 53))
open("ready", "w").close()
while True:
    query, client = sock.recvfrom(512)
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
        at += 1 + query[at]
    kind, = struct.unpack_from("!H", query, at + 1)
    question = query[12:at + 5]
    address = ZONES.get(".".join(labels), (None, None))[0 if kind == A else 1]
    soa = struct.pack("!HHHIH", 0xC00C, 6, 1, 5, 22) + bytes(2) + struct.pack("!IIIII", 1, 60, 60, 60, 5)
    if address:
        rcode, answer, authority = NOERROR, struct.pack("!HHHIH", 0xC00C, A, 1, 5, 4) + socket.inet_aton(address), b""
    else:
        rcode, answer, authority = NOERROR if address == "" else NXDOMAIN, b"", soa
    header = query[:2] + struct.pack("!HHHHH", 0x8580 | rcode, 1, bool(answer), bool(authority), 0)
    sock.sendto(header + question + answer + authority, client)
PY
printf 'nameserver 127.0.0.1\nsearch a.test b.test\noptions ndots:2 timeout:2 attempts:2\n' >resolv.conf
echo 'hosts: dns' >nsswitch.conf

cat >inside.sh <<'INSIDE'
set -euo pipefail
python3 -c 'import socket, fcntl, struct
s = socket.socket(); fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"lo", 0x41))' # lo up
mount --bind resolv.conf /etc/resolv.conf
mount --bind nsswitch.conf /etc/nsswitch.conf
python3 server.py &
server=$!
trap 'kill $server' EXIT
for _ in $(seq 100); do [ -e ready ] && break; sleep 0.05; done

wrong=0
while read -r name resolver expected; do
	seen=$(timeout 20 "./ask-$resolver" "$name")
	echo "$name by $resolver: $seen"
	[ "$seen" = "$expected" ] || { wrong=1; echo "  expected: $expected"; }
done <<'TABLE'
plain glibc 192.0.2.2
plain musl 192.0.2.2
empty glibc 192.0.2.2
empty musl none
split glibc 192.0.2.1
split musl 192.0.2.2
TABLE
exit "$wrong"
INSIDE

getconf GNU_LIBC_VERSION
unshare --user --map-root-user --net --mount --pid --fork timeout 90 bash inside.sh
echo "as described"
