#!/usr/bin/env bash
# tcpdump -Z root does not stay root where groups cannot be given up: it ends instead.
#
# Packages: tcpdump 4.99.3-1 and libpcap0.8 1.10.3-1 (Debian 12).
# Behaviour: -Z names the user to change to after the capture is open; "-Z root" is the common way to ask
# that nothing be changed. Debian's tcpdump changes user also when it already is that user, and calls
# initgroups(3) for it. In the user namespace of an ordinary user, as rootless containers and labs of
# namespaces have it, /proc/self/setgroups says "deny" and the call fails. tcpdump reports that as a
# failure to change user and captures nothing, although it may open the capture.
# Seen: "Couldn't change to 'root' uid=0 gid=0: Operation not permitted", status 1.
# For tools that run tcpdump in namespaces: no option of tcpdump helps; the system call has to succeed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get download -qq tcpdump=4.99.3-1 libpcap0.8=1.10.3-1 >/dev/null 2>&1
for package in *.deb; do dpkg-deb --extract "$package" root; done

cat >inside.sh <<'INSIDE'
set -euo pipefail
export LD_LIBRARY_PATH=root/usr/lib/x86_64-linux-gnu
python3 -c 'import socket, fcntl, struct
s = socket.socket(); fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"lo", 0x41))' # lo up
echo "setgroups: $(cat /proc/self/setgroups)"
status=0
timeout 5 root/usr/bin/tcpdump -Z root -i lo -c 1 -n >out 2>&1 || status=$?
cat out
echo "status $status"
[ "$status" = 1 ] && grep -qF "Couldn't change to 'root' uid=0 gid=0: Operation not permitted" out
INSIDE

root/usr/bin/tcpdump --version 2>&1 | head -1
unshare --user --map-root-user --net timeout 30 bash inside.sh
echo "as described"
