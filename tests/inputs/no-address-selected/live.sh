#!/bin/bash
# A node with one address, 198.51.100.10, whose proxy is to serve NodePorts on other addresses.
# Prints where its health-check port listens. Usage: live.sh MODE NETWORK
set -eu
[ "${IN_NS:-}" ] || exec env IN_NS=1 unshare -n -m "$0" "$@"
d=$(mktemp -d)
ip link set lo up
ip link add eth0 type veth peer name c0
ip addr add 198.51.100.10/24 dev eth0
ip link set eth0 up; ip link set c0 up
portolan run --proxy-mode "$1" --nodeport-addresses "$2" --manifests manifests --hostname-override node-a \
	--state-dir "$d/state" --socket "$d/socket" > "$d/log" 2>&1 &
proxy=$!
trap 'kill $proxy; rm -rf "$d"' EXIT
listening() { ss -Hltn 'sport = :30000' | awk '{print "listening: " $4}'; }
# The Service is in force, and its port is open, if it is to be open at all.
until portolan get services --socket "$d/socket" 2> "$d/error" | grep -q web; do
	[ "$SECONDS" -lt 20 ] || { cat "$d/log" "$d/error"; exit 1; }
	sleep 0.1
done
case $2 in
127.*) until listening | grep -q .; do [ "$SECONDS" -lt 20 ] || break; sleep 0.1; done ;;
esac
listening | grep . || echo 'listening: nowhere'
