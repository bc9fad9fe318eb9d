#!/usr/bin/env bash
# nft lists a conntrack rule of iptables-nft as its opposite.
#
# Packages: nftables 1.0.6-2+deb12u2, iptables 1.8.9-2 (both Debian 12).
# Behaviour: kubelet writes "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP" to drop what is
# neither of these. "nft list" translates the match through iptables' own library, loses the negation and
# two of the three states, and prints a rule that reads as if it dropped just what it lets pass. The rule
# in the kernel is right, and iptables-nft-save prints it right.
# Seen: "ct status dnat counter packets 0 bytes 0 drop".
# For readers of nft listings: a condition on connection tracking in a table that iptables-nft wrote must
# be read with iptables-nft-save.
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
iptables() { "$root/usr/sbin/xtables-nft-multi" "$@"; }

iptables iptables --version
"$root/usr/sbin/nft" --version
iptables iptables -A FORWARD -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
saved=$(iptables iptables-save -t filter | grep '^-A')
listed=$("$root/usr/sbin/nft" list chain ip filter FORWARD 2>/dev/null | grep drop | tr -d '\t')
echo "iptables-nft-save: $saved"
echo "nft list:          $listed"
[ "$saved" = "-A FORWARD -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP" ]
[ "$listed" = "ct status dnat counter packets 0 bytes 0 drop" ]
INSIDE

unshare --user --map-root-user --net timeout 60 bash inside.sh
echo "as described"
