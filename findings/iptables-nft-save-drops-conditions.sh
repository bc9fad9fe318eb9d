#!/usr/bin/env bash
# iptables-nft-save prints rules of nft without their conditions, and exits with 0.
#
# Package: iptables 1.8.9-2, with nftables 1.0.6-2+deb12u2 to write the rules (both Debian 12).
# Behaviour: a rule that nft wrote into a table of iptables-nft is printed by iptables-nft-save. Conditions
# that the tool does not know are not marked as unknown: those with a set vanish, and a range of addresses
# becomes its last address alone. The dump restores as rules that match other packets: "drop ports 81 and
# 82" becomes "drop all of TCP". Only some conditions (connection tracking, fib, numgen) make it say that
# the table is incompatible; the status is 0 then as well.
# Seen: the right-hand sides of the table below.
# For a reader of dumps: a plain-looking rule in a dump of iptables-nft may stand for a narrower one.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get download -qq iptables=1.8.9-2 libxtables12=1.8.9-2 nftables=1.0.6-2+deb12u2 \
	libnftables1=1.0.6-2+deb12u2 libnftnl11=1.2.4-2 libmnl0=1.0.4-3 >/dev/null 2>&1
for package in *.deb; do dpkg-deb --extract "$package" root; done

cat >inside.sh <<'INSIDE'
set -euo pipefail
root=$PWD/root
export LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu
export XTABLES_LIBDIR=$root/usr/lib/x86_64-linux-gnu/xtables
nft=$root/usr/sbin/nft
iptables() { "$root/usr/sbin/xtables-nft-multi" "$@"; }

iptables iptables --version
"$nft" --version
iptables iptables -A INPUT -p tcp --dport 9 -j ACCEPT # makes the table as iptables has it

wrong=0
while IFS='|' read -r rule expected; do
	"$nft" flush chain ip filter INPUT
	"$nft" add rule ip filter INPUT "$rule counter drop"
	status=0
	dump=$(iptables iptables-save -t filter) || status=$?
	seen=$(grep -E '^-A INPUT|incompatible' <<<"$dump" || true)
	printf '%-45s -> %s (status %s)\n' "$rule" "$seen" "$status"
	[ "$seen" = "$expected" ] && [ "$status" = 0 ] || { wrong=1; echo "  expected: $expected (status 0)"; }
done <<'TABLE'
tcp dport { 81, 82 }|-A INPUT -p tcp -j DROP
ip saddr { 192.0.2.1, 198.51.100.0/24 }|-A INPUT -j DROP
ip daddr != { 192.0.2.1, 192.0.2.2 }|-A INPUT -j DROP
iifname { "eth1", "eth2" }|-A INPUT -j DROP
ip daddr . tcp dport { 192.0.2.1 . 80 }|-A INPUT -p tcp -j DROP
ip saddr 192.0.2.0-192.0.2.7|-A INPUT -s 192.0.2.7/32 -j DROP
ct state new|# Table `filter' is incompatible, use 'nft' tool.
TABLE
exit "$wrong"
INSIDE

unshare --user --map-root-user --net timeout 60 bash inside.sh
echo "as described"
