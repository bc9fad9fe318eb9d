#!/bin/bash
# A node in mode iptables, of which table nat of one family becomes unreadable for the tools. Prints
# what the kernel holds of the other one after a change. Usage: live.sh 4|6, the family to break.
set -eu
[ "${IN_NS:-}" ] || exec env IN_NS=1 unshare -n -m "$0" "$@"
d=$(mktemp -d); mkdir "$d/m"
ip link set lo up
ip link add eth0 type veth peer name c0
ip addr add 198.51.100.10/24 dev eth0
ip addr add 2001:db8:1::10/64 dev eth0 nodad
ip link set eth0 up; ip link set c0 up

write_endpoints() {
	cat > "$d/draft" <<Y
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  ipFamilyPolicy: RequireDualStack
  clusterIP: 10.96.0.80
  clusterIPs: [10.96.0.80, "fd00:10:96::80"]
  ports: [{name: http, port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-4, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.244.1.$1]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-6, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{name: http, port: 8080}]
endpoints: [{addresses: ["fd00:244:1::$1"]}]
Y
	mv "$d/draft" "$d/m/web.yaml"
}

# Waits up to $1 seconds until the command after it succeeds.
within() {
	local until=$((SECONDS + $1)); shift
	until "$@"; do [ "$SECONDS" -lt "$until" ] || return 1; sleep 0.1; done
}

endpoint() { "$1-save" -t nat 2> /dev/null | grep -o -- 'DNAT --to-destination .*'; }
has_endpoint() { endpoint "$1" | grep -qF "$2"; }
log_has() { grep -qE "$1" "$d/log"; }

write_endpoints 11
portolan run --proxy-mode iptables --manifests "$d/m" --hostname-override node-a --cluster-cidr 10.244.0.0/16 \
	--state-dir "$d/state" --socket "$d/socket" > "$d/log" 2>&1 &
proxy=$!
trap 'kill $proxy; rm -rf "$d"' EXIT
within 20 has_endpoint iptables 10.244.1.11:8080 || { cat "$d/log"; exit 1; }
within 20 has_endpoint ip6tables '[fd00:244:1::11]:8080' || { cat "$d/log"; exit 1; }
case $1 in
4) nft add rule ip nat PREROUTING ct count over 5000 drop; tool=ip6tables; family=IPv6; new='[fd00:244:1::12]:8080' ;;
6) nft add rule ip6 nat PREROUTING ct count over 5000 drop; tool=iptables; family=IPv4; new=10.244.1.12:8080 ;;
esac
# Until it has noticed, and waits for longer between two tries than what follows may take.
within 25 log_has 'again in ([89]|[1-9][0-9])([.][0-9]+)?s' || true
write_endpoints 12
within 3 has_endpoint $tool "$new" || cat "$d/log"
echo "$family after the change: $(endpoint $tool)"
