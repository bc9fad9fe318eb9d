//! From a pod to a Service, by its name.

use super::story::Sight::{Ends, Hides, InOrder, Lines, Shows, Times};
use super::story::{Part, Place, Scenery, Tour, fetch, here, node};

pub(super) static TOUR: Tour = Tour {
    name: "W5",
    word: "names",
    title: "From pod to Service, by name",
    differs: "The article's cluster is of 2017. Chains of Services are named a little differently since, and \
        `kubernetes` has no affinity any more: the tour switches it on. The API server is at 10.20.30.250. Where the \
        article edits an object in an editor, the tour patches it.",
    scenery: Scenery {
        files: &[
            ("nodes.yaml", include_str!("files/w5-nodes.yaml")),
            ("net-test.yaml", include_str!("files/net-test.yaml")),
            ("svc-test-1.yaml", include_str!("files/svc-test-1.yaml")),
            ("deploy-test-2.yaml", include_str!("files/deploy-test-2.yaml")),
            ("host-port.yaml", include_str!("files/host-port.yaml")),
            (
                "node-of-2017.iptables-save",
                include_str!("../../../../trace/tests/dumps/node-of-2017.iptables-save"),
            ),
        ],
        start: "nodes.yaml",
        services: "10.11.12.0/24",
    },
    parts: &[CLUSTER, BY_NAME, CAPTURES, FROM_NODES, THREE, VERSIONS, AFFINITY, OF_2017],
};

/// Who answers 40 requests of the pod.
const WHO: &str = "kubectl exec net-test -- \
    sh -c 'for n in $(seq 40); do curl -sS http://10.11.12.125; echo; done | sort | uniq -c'";

const CLUSTER: Part = Part {
    title: "Five nodes, and a DNS",
    steps: &[
        here("kubectl get nodes -o wide").look("Five nodes, 10.20.30.71 to .75.").sees(&[
            Times(5, "ubuntu-* Ready"),
            Shows("ubuntu-1 10.20.30.71"),
            Shows("ubuntu-5 10.20.30.75"),
        ]),
        node("ubuntu-3", "ip -br addr show cbr0")
            .look("The bridge of a node's pods.")
            .sees(&[Shows("cbr0 10.100.2.1/24")]),
        here("kubectl -n kube-system get pods -o wide").look("Two pods in which a DNS answers.").sees(&[
            Shows("kube-dns-1 1/1 Running 10.100.0.9 ubuntu-1"),
            Shows("kube-dns-2 1/1 Running 10.100.1.7 ubuntu-2"),
        ]),
        here("kubectl -n kube-system get service kube-dns")
            .look("The DNS of the cluster is a Service over two pods, like any other.")
            .sees(&[Shows("kube-dns ClusterIP 10.11.12.254")]),
    ],
};

const BY_NAME: Part = Part {
    title: "A Service, and a pod that asks it",
    steps: &[
        here("cat svc-test-1.yaml")
            .look("The Service finds the port of its pods by name: web-port.")
            .sees(&[Shows("targetPort: web-port*")]),
        here("kubectl apply -f net-test.yaml")
            .look("A pod to type commands in.")
            .sees(&[Shows("pod/net-test created")]),
        here("kubectl apply -f svc-test-1.yaml")
            .look("A web server, and the Service svc-test-1 in front of it.")
            .sees(&[Shows("deployment.apps/deploy-test-1 created"), Shows("service/svc-test-1 created")]),
        here("kubectl get pods -o wide").soon().look("They are on different nodes.").sees(&[
            Shows("deploy-test-1-* 1/1 Running 10.100.3.2 ubuntu-4"),
            Shows("net-test 1/1 Running 10.100.2.9 ubuntu-3"),
        ]),
        here("kubectl exec net-test -- curl -s http://10.11.12.125")
            .soon()
            .look("By address.")
            .sees(&[Shows("This is Web Server 1 running on 8080!")]),
        here("kubectl exec net-test -- curl -s http://svc-test-1")
            .soon()
            .look("By name.")
            .sees(&[Shows("This is Web Server 1 running on 8080!")]),
        here("kubectl exec net-test -- cat /etc/resolv.conf")
            .look("A name with fewer than five dots is tried with each of these behind it first.")
            .sees(&[
                Shows("search default.svc.cluster.local svc.cluster.local cluster.local"),
                Shows("nameserver 10.11.12.254"),
                Shows("options ndots:5"),
            ]),
    ],
};

const CAPTURES: Part = Part {
    title: "One packet, seen twice",
    steps: &[
        here("kubectl exec net-test -- tcpdump -n -l -c 4 -i eth0 tcp")
            .behind("listening on")
            .needs(&["curl"])
            .look("The pod's packets, in the background."),
        here("kubectl exec net-test -- curl -s http://10.11.12.125")
            .needs(&["tcpdump"])
            .look("Meanwhile, a request.")
            .sees(&[Shows("running on 8080!")]),
        fetch(Place::Here)
            .needs(&["tcpdump", "curl"])
            .look("At the pod's interface there is only the Service: the pod does not know who answers.")
            .sees(&[
                Shows("10.100.2.9.* > 10.11.12.125.80:"),
                Shows("10.11.12.125.80 > 10.100.2.9.*"),
                Hides("10.100.3.*"),
            ]),
        node("ubuntu-3", "tcpdump -n -l -c 4 -i eth0 tcp port 8080")
            .behind("listening on")
            .needs(&["curl"])
            .look("The same at the node's interface."),
        here("kubectl exec net-test -- curl -s http://10.11.12.125")
            .needs(&["tcpdump"])
            .look("Another request.")
            .sees(&[Shows("running on 8080!")]),
        fetch(Place::Node("ubuntu-3"))
            .needs(&["tcpdump", "curl"])
            .look("At the node's interface there is only the pod and its port: replies are translated back.")
            .sees(&[
                Shows("10.100.2.9.* > 10.100.3.2.8080:"),
                Shows("10.100.3.2.8080 > 10.100.2.9.*"),
                Hides("10.11.12.125*"),
            ]),
    ],
};

const FROM_NODES: Part = Part {
    title: "From a node",
    steps: &[
        node("ubuntu-3", "curl -s http://10.11.12.125")
            .look("The ClusterIP works on nodes, too...")
            .sees(&[Shows("This is Web Server 1 running on 8080!")]),
        node("ubuntu-3", "iptables -t nat -S OUTPUT")
            .look("... because the hook OUTPUT leads to the same chain.")
            .sees(&[Shows("-j KUBE-SERVICES")]),
        node("ubuntu-3", "curl -sS http://svc-test-1")
            .fails()
            .look("Names do not: the node does not ask the cluster's DNS.")
            .sees(&[Shows("curl: resolve host: svc-test-1*")]),
    ],
};

const THREE: Part = Part {
    title: "Scaled to three",
    steps: &[
        here("kubectl scale --replicas=3 deployment/deploy-test-1")
            .look("Two more pods.")
            .sees(&[Shows("*deploy-test-1 scaled")]),
        here("kubectl get pods --selector=app=web-front-end -o wide")
            .soon()
            .look("Three replicas, wherever there was room.")
            .sees(&[Times(3, "deploy-test-1-* 1/1 Running")]),
        node("ubuntu-3", "iptables -t nat -L KUBE-SVC-4KKQ72WK6FBT7SBZ -n")
            .soon()
            .look("A third of the connections take the first; half of the rest, the second; the rest, the third.")
            .sees(&[InOrder(&[
                "KUBE-SEP-* probability 0.33333333*",
                "KUBE-SEP-* probability 0.50000000000",
                "KUBE-SEP-*",
            ])]),
        node("ubuntu-3", "iptables -t nat -Z KUBE-SVC-4KKQ72WK6FBT7SBZ").look("Its counters begin at 0."),
        here(WHO)
            .look("40 requests...")
            .sees(&[Lines(1), Shows("40 This is Web Server 1 running on 8080!")]),
        node("ubuntu-3", "iptables -t nat -L KUBE-SVC-4KKQ72WK6FBT7SBZ -n -v")
            .needs(&["curl"])
            .look("... and who got them. Column pkts counts connections: only the first packet of each is translated by rules.")
            .sees(&[Times(3, "KUBE-SEP-*"), Hides("0 0 KUBE-SEP-*")]),
        node("ubuntu-3", "portolan trace --from 10.100.2.9 --to 10.11.12.125:80")
            .needs(&["iptables"])
            .look("1/3 each.")
            .sees(&[Times(3, "10.100.* about 1/3")]),
    ],
};

const VERSIONS: Part = Part {
    title: "Two versions, and from one to the other",
    steps: &[
        here("cat deploy-test-2.yaml")
            .look("Version v2 listens on 9090, under the same name of the port.")
            .sees(&[Shows("9090, name: web-port,")]),
        here("kubectl apply -f deploy-test-2.yaml")
            .look("Its labels are those that the Service selects.")
            .sees(&[Shows("deployment.apps/deploy-test-2 created")]),
        here("kubectl get pods --selector=app=web-front-end -o wide")
            .soon()
            .look("Three pods of v1, one of v2.")
            .sees(&[Times(3, "deploy-test-1-* 1/1"), Times(1, "deploy-test-2-* 1/1")]),
        here(WHO).soon().look("Both versions answer behind one Service, each on its own port.").sees(&[
            Lines(2),
            Shows("running on 8080!"),
            Shows("running on 9090!"),
        ]),
        here(
            "kubectl exec net-test -- sh -c 'cd /run/tour; until [ -e stop ]; do curl -sS 10.11.12.125; \
             echo; done > seen 2>&1'",
        )
        .behind("")
        .look("Somebody asks all the time, in the background."),
        here("sort seen | uniq -c")
            .soon()
            .needs(&["curl"])
            .look("So far there are answers of both.")
            .sees(&[Lines(2), Shows("running on 8080!"), Shows("running on 9090!")]),
        here("kubectl patch service svc-test-1 -p '{\"spec\": {\"selector\": {\"version\": \"v2\"}}}'")
            .look("The selector becomes narrower.")
            .sees(&[Shows("*svc-test-1 patched")]),
        here(WHO)
            .soon()
            .look("All new connections go to version v2.")
            .sees(&[Lines(1), Shows("40 This is Web Server 1 running on 9090!")]),
        here("touch stop").look("Enough."),
        fetch(Place::Here).needs(&["curl"]).look("It has ended."),
        here("sort seen | uniq -c")
            .needs(&["curl"])
            .look("There is still nothing but answers: not one error in between.")
            .sees(&[Lines(2), Shows("running on 8080!"), Shows("running on 9090!")]),
    ],
};

const AFFINITY: Part = Part {
    title: "A client that stays",
    steps: &[
        here("kubectl patch service kubernetes -p '{\"spec\": {\"sessionAffinity\": \"ClientIP\"}}'")
            .look("As `kubernetes` was made in 2017.")
            .sees(&[Shows("*kubernetes patched")]),
        node("ubuntu-3", "iptables -t nat -L KUBE-SVC-NPX46M4PTMTKRN6Y -n")
            .soon()
            .look("Who was here within 10,800 s goes to where they went; only others come to the next rule.")
            .sees(&[InOrder(&[
                "KUBE-SEP-* recent: CHECK seconds: 10800 reap name: KUBE-SEP-*",
                "KUBE-SEP-*",
            ])]),
        here("kubectl scale --replicas=3 deployment/deploy-test-2")
            .look("Here there is one API server, so three pods of ours show more.")
            .sees(&[Shows("*deploy-test-2 scaled")]),
        here("kubectl patch service svc-test-1 -p '{\"spec\": {\"sessionAffinity\": \"ClientIP\"}}'")
            .look("The same for their Service.")
            .sees(&[Shows("*svc-test-1 patched")]),
        node("ubuntu-3", "iptables -t nat -L KUBE-SVC-4KKQ72WK6FBT7SBZ -n")
            .soon()
            .look("For each pod a rule that looks for the client, and then the draw.")
            .sees(&[Times(3, "KUBE-SEP-* recent: CHECK seconds: 10800"), Times(6, "KUBE-SEP-*")]),
        node("ubuntu-3", "iptables -t nat -Z KUBE-SVC-4KKQ72WK6FBT7SBZ").look("Its counters begin at 0."),
        here(WHO)
            .look("40 requests of one client...")
            .sees(&[Lines(1), Shows("40 This is Web Server 1 running on 9090!")]),
        node("ubuntu-3", "iptables -t nat -L KUBE-SVC-4KKQ72WK6FBT7SBZ -n -v")
            .needs(&["curl"])
            .look("... were drawn once, and then went 39 times to the same pod: four of the six rules sent nobody anywhere.")
            .sees(&[
                Times(4, "0 0 KUBE-SEP-*"),
                Shows("39 KUBE-SEP-* recent: CHECK"),
                Times(1, "1 KUBE-SEP-* 0.0.0.0/0"),
            ]),
    ],
};

const OF_2017: Part = Part {
    title: "What stands beside it, in 2017 and here",
    steps: &[
        here("grep -E 'HOSTPORTS|SNAT|MARK-DROP|FIREWALL' node-of-2017.iptables-save")
            .look("kubenet's ports of nodes and its two SNAT rules; and how that proxy dropped packets, by a mark.")
            .sees(&[
                Shows("-A PREROUTING LOCAL -j KUBE-HOSTPORTS"),
                Times(2, "-A POSTROUTING -j MASQUERADE"),
                Shows("-A KUBE-MARK-DROP 0x8000/0x8000"),
                Shows("-A KUBE-FIREWALL 0x8000/0x8000 -j DROP"),
            ]),
        here("portolan trace --iptables-save node-of-2017.iptables-save --from 10.100.2.9 --to 10.11.12.125:80")
            .look("`trace` reads it as it was: KUBE-SVC-SWP62QIEGFZNLQE7, with the name's colon in its hash.")
            .sees(&[Shows("10.100.3.7:8080,"), Shows("KUBE-SVC-SWP62QIEGFZNLQE7 1:")]),
        here("kubectl apply -f host-port.yaml")
            .look("A pod that wants a port of its node.")
            .sees(&[Shows("pod/with-host-port created")]),
        here("kubectl get pods -o wide").soon().look("On ubuntu-5.").sees(&[Shows("with-host-port 1/1 Running ubuntu-5")]),
        node("ubuntu-5", "iptables-save -t nat | grep -E 'HOSTPORTS|SNAT'")
            .soon()
            .look("The lab's kubenet has the same by the same names.")
            .sees(&[
                Shows("-A PREROUTING LOCAL -j KUBE-HOSTPORTS"),
                Times(2, "-A POSTROUTING -j MASQUERADE"),
            ]),
        node("ubuntu-5", "curl -s http://localhost:8081")
            .needs(&["iptables"])
            .look("Port 8081 of the node is the pod's 8080.")
            .sees(&[Ends("This is Web Server 1 running on 8080!")]),
    ],
};
