#!/usr/bin/env bash
# nft -j leaves out that a set is filled by packets, so that its own output makes another set.
#
# Package: nftables 1.0.6-2+deb12u2 (Debian 12).
# Behaviour: a set with "flags dynamic,timeout" is listed with both flags as text. As JSON it is listed with
# "timeout" alone. What "nft -j list" printed loads without a word with "nft -j -f" and makes a set without
# the flag: a backup in JSON is not what was backed up.
# Seen: "flags": ["timeout"]; after a round trip no line "flags dynamic,timeout".
# For readers of listings: whether packets fill a set (affinity, rate limits, blocklists) follows from the
# rules that update it, not from its flags in JSON.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get download -qq nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11=1.2.4-2 \
	libmnl0=1.0.4-3 libxtables12=1.8.9-2 >/dev/null 2>&1
for package in *.deb; do dpkg-deb --extract "$package" root; done

cat >inside.sh <<'INSIDE'
set -euo pipefail
export LD_LIBRARY_PATH=$PWD/root/usr/lib/x86_64-linux-gnu
nft=root/usr/sbin/nft

"$nft" --version
"$nft" add table ip t
"$nft" add set ip t clients '{ type ipv4_addr; flags dynamic,timeout; timeout 1m; }'
text=$("$nft" list set ip t clients)
json=$("$nft" -j list set ip t clients | grep -o '"flags": \[[^]]*\]')
"$nft" -j list ruleset >ruleset.json
"$nft" flush ruleset
"$nft" -j -f ruleset.json
again=$("$nft" list set ip t clients)
echo "text:  $(grep -o 'flags.*' <<<"$text")"
echo "JSON:  $json"
echo "again: $(grep -o 'flags.*' <<<"$again" || echo 'no flags listed')"
grep -q 'flags dynamic,timeout' <<<"$text"
[ "$json" = '"flags": ["timeout"]' ]
! grep -q dynamic <<<"$again"
INSIDE

unshare --user --map-root-user --net timeout 60 bash inside.sh
echo "as described"
