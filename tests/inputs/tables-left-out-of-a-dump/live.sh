#!/bin/bash
# A node in mode iptables, with a rule in table nat that nft can write and iptables-save cannot
# print.
set -eu
[ "${IN_NS:-}" ] || exec env IN_NS=1 unshare -n -m "$0"
d=$(mktemp -d); mkdir "$d/m"
ip link set lo up
ip link add eth0 type veth peer name c0
ip addr add 198.51.100.10/24 dev eth0
ip link set eth0 up; ip link set c0 up
ip route add 10.96.0.0/16 dev eth0
cat > "$d/m/web.yaml" <<'Y'
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.80, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [198.51.100.10], nodeName: node-a}]
Y
portolan run --proxy-mode iptables --manifests "$d/m" --hostname-override node-a --cluster-cidr 10.244.0.0/16 \
	--state-dir "$d/state" --socket "$d/socket" > "$d/log" 2>&1 &
proxy=$!
trap 'kill $proxy; rm -rf "$d"' EXIT
until iptables-save -t nat 2> "$d/tool" | grep -q -- '--to-destination 198.51.100.10:8080'; do
	[ "$SECONDS" -lt 20 ] || { cat "$d/log" "$d/tool"; exit 1; }
	sleep 0.1
done
nft add rule ip nat PREROUTING ct count over 5000 drop
portolan trace --live --socket "$d/socket" --from node --to 10.96.0.80:80
