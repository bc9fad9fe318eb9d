//! A load balancer in front of the nodes.

use super::story::Sight::{Hides, InOrder, Lines, Shows};
use super::story::{Part, Scenery, Tour, client, here, node, restart};
use crate::proxy::ProxyMode;

pub(super) static TOUR: Tour = Tour {
    name: "W3",
    word: "balancer",
    title: "A load balancer in front",
    differs: "The lab has no load balancer. The tour writes its address into the status of the Service, as a cloud \
        does, and the client's route to it leads to a node. The article's image says hello to everybody; here it is \
        one that says who it is and whom it sees. Another pod on each of two nodes holds the addresses before \
        10.16.0.11 and 10.16.1.8, so that the pods have those of the article.",
    scenery: Scenery {
        files: &[
            ("nodes.yaml", include_str!("files/w3-nodes.yaml")),
            ("hello-world.yaml", include_str!("files/hello-world.yaml")),
            ("on-the-node.yaml", include_str!("files/on-the-node.yaml")),
        ],
        start: "nodes.yaml",
        services: "10.19.240.0/20",
    },
    parts: &[BALANCER, LOCAL, SOURCES, WAYS, ON_THE_NODE],
};

/// Who answers 20 requests.
const WHO: &str =
    "for n in $(seq 20); do curl -s http://203.0.113.10; done | grep -o 'on gke-.' | sort | uniq -c";

const BALANCER: Part = Part {
    title: "One address for all nodes",
    steps: &[
        here("kubectl cordon gke-3")
            .look("The third node gets no pod, for later.")
            .sees(&[Shows("node/gke-3 cordoned")]),
        here("kubectl get nodes").look("Three nodes, one of them closed.").sees(&[Shows("gke-1 Ready"), Shows("gke-3 Ready,SchedulingDisabled")]),
        here("kubectl apply -f hello-world.yaml")
            .look("Two pods, and a Service of type LoadBalancer.")
            .sees(&[Shows("replicaset.apps/hello-world created"), Shows("service/hello-world created")]),
        here("kubectl get pods -o wide")
            .soon()
            .look("A pod on each of the other nodes.")
            .sees(&[
                Shows("hello-world-* 1/1 Running 10.16.0.11 gke-1"),
                Shows("hello-world-* 1/1 Running 10.16.1.8 gke-2"),
            ]),
        node("gke-1", "ip -br addr show cbr0")
            .look("Each node has a bridge for its pods, and a network of its own on it.")
            .sees(&[Shows("cbr0 10.16.0.1/24")]),
        here("kubectl get service hello-world")
            .look("The Service waits for somebody who gives it an address.")
            .sees(&[Shows("hello-world LoadBalancer 10.19.* <pending> 80:30510/TCP")]),
        here(
            "kubectl patch service hello-world --subresource=status \
             -p '{\"status\":{\"loadBalancer\":{\"ingress\":[{\"ip\":\"203.0.113.10\"}]}}}'",
        )
        .look("The tour does what a cloud would.")
        .sees(&[Shows("*hello-world patched")]),
        here("kubectl get service hello-world")
            .look("Now every node takes packets to 203.0.113.10 for the Service's.")
            .sees(&[Shows("LoadBalancer 203.0.113.10 80:30510/TCP")]),
        client("ip route get 203.0.113.10")
            .look("What the client sends there arrives at gke-1.")
            .sees(&[Shows("203.0.113.10 via 10.138.15.2")]),
        client(WHO)
            .soon()
            .look("One of the two pods answers at random, on whichever node it is.")
            .sees(&[Lines(2), Shows("on gke-1"), Shows("on gke-2")]),
        client("curl -s http://203.0.113.10")
            .look("What comes from outside is masqueraded: the pod sees gke-1, and not the client's 10.138.15.100.")
            .sees(&[Shows("hello from hello-world-*"), Hides("10.138.15.100:*")]),
        node("gke-1", "portolan trace --from 10.138.15.100 --to 203.0.113.10:80")
            .needs(&["iptables"])
            .look("`trace` reads from the rules that each pod has half of the chances, and who is masqueraded.")
            .sees(&[Shows("10.16.0.11:8080* 1/2*"), Shows("10.16.1.8:8080* 1/2*")]),
    ],
};

const LOCAL: Part = Part {
    title: "externalTrafficPolicy: Local",
    steps: &[
        here(
            "kubectl patch service hello-world \
             -p '{\"spec\":{\"externalTrafficPolicy\":\"Local\",\"healthCheckNodePort\":31999}}'",
        )
        .look("The policy, and a port on which a load balancer asks each node about its pods.")
        .sees(&[Shows("*hello-world patched")]),
        client(WHO)
            .soon()
            .look("Only the pod on the node that the request came to answers.")
            .sees(&[Lines(1), Shows("20 on gke-1")]),
        client("curl -s http://203.0.113.10")
            .look("And it sees the client's own address.")
            .sees(&[Shows("you are 10.138.15.100:* I am 10.16.0.11:8080")]),
        client("ip route replace 203.0.113.10 via 10.138.15.4")
            .look("As if the load balancer chose gke-3."),
        client("curl -sS -m 0.5 http://203.0.113.10")
            .soon()
            .fails()
            .needs(&["ip"])
            .look("gke-3 has no pod of the Service: it gives the request to nobody.")
            .sees(&[Shows("curl: timed out")]),
        client("curl -s http://10.138.15.2:31999/healthz; curl -s http://10.138.15.4:31999/healthz")
            .soon()
            .look("A load balancer asks this port of each node, and sends gke-3 nothing: it has 0 endpoints.")
            .sees(&[InOrder(&["*localEndpoints* 1,", "*localEndpoints* 0,"])]),
        client(
            "for node in 2 3 4; do curl -s -o /dev/null -w '%{http_code}\\n' http://10.138.15.$node:31999; done",
        )
        .soon()
        .look("200 where there is a pod, 503 where there is none.")
        .sees(&[Lines(3), InOrder(&["200", "200", "503"])]),
        client("ip route del 203.0.113.10").look("Back to gke-1."),
    ],
};

const SOURCES: Part = Part {
    title: "loadBalancerSourceRanges",
    steps: &[
        here("kubectl patch service hello-world -p '{\"spec\":{\"externalTrafficPolicy\":\"Cluster\"}}'")
            .look("Back to policy Cluster.")
            .sees(&[Shows("*hello-world patched")]),
        here(
            "kubectl patch service hello-world \
             -p '{\"spec\":{\"loadBalancerSourceRanges\":[\"198.51.100.0/24\"]}}'",
        )
        .look("Only one network may come, which is not the client's.")
        .sees(&[Shows("*hello-world patched")]),
        client("curl -sS -m 0.5 http://203.0.113.10")
            .soon()
            .fails()
            .look("Sources outside of the ranges are dropped: no answer at all.")
            .sees(&[Shows("curl: timed out")]),
        here(
            "kubectl patch service hello-world \
             -p '{\"spec\":{\"loadBalancerSourceRanges\":[\"198.51.100.0/24\",\"10.138.15.96/28\"]}}'",
        )
        .look("One more network.")
        .sees(&[Shows("*hello-world patched")]),
        client("curl -s -m 2 http://203.0.113.10")
            .soon()
            .look("The client's network is among them now.")
            .sees(&[Shows("hello from hello-world-*")]),
        node("gke-1", "iptables -t nat -L KUBE-FW-DZ6LTOHRG6HQWHYE -n")
            .look("What no rule of this chain sends on is dropped in table filter.")
            .sees(&[
                Shows("KUBE-EXT-DZ6LTOHRG6HQWHYE 198.51.100.0/24"),
                Shows("KUBE-EXT-DZ6LTOHRG6HQWHYE 10.138.15.96/28"),
            ]),
    ],
};

const WAYS: Part = Part {
    title: "Three ways to do this, and their successor",
    steps: &[
        node("gke-2", "iptables -t nat -S KUBE-SVC-DZ6LTOHRG6HQWHYE")
            .look(
                "kube-proxy began in user space, copying bytes; then came these chains, and IPVS beside them. The \
                 lab's proxies show iptables, and what came after: nftables.",
            )
            .sees(&[Shows("KUBE-SEP-NOQ7E4VUK2BI2XE5"), Shows("KUBE-SEP-C6SABZ3UIO2Q2VUL")]),
        restart(
            "gke-2",
            Some(ProxyMode::Nftables),
            "portolan lab proxy restart gke-2 --proxy-mode nftables",
        )
        .look("Each node may have a mode of its own.")
        .sees(&[Shows("gke-2 in force")]),
        node("gke-2", "iptables -t nat -S | grep KUBE")
            .fails()
            .look("The chains are gone...")
            .sees(&[Lines(0)]),
        node("gke-2", "nft list set ip portolan allowed")
            .look("... and the source ranges are elements of a set.")
            .sees(&[Shows("203.0.113.10 tcp 80 10.138.15.96/28*")]),
        client("ip route replace 203.0.113.10 via 10.138.15.3")
            .look("As if the load balancer chose gke-2."),
        client(WHO)
            .soon()
            .look("By way of gke-2, it is the same for the client.")
            .sees(&[Lines(2), Shows("on gke-1"), Shows("on gke-2")]),
    ],
};

const ON_THE_NODE: Part = Part {
    title: "Without a Service: the node's own address",
    steps: &[
        here("cat on-the-node.yaml")
            .look("A port of the node that leads to a pod, and a pod that has the node's network.")
            .sees(&[Shows("hostPort:"), Shows("hostNetwork: true")]),
        here("kubectl apply -f on-the-node.yaml")
            .look("They name gke-3 themselves, so that it is closed does not matter.")
            .sees(&[Shows("pod/with-host-port created"), Shows("pod/on-host-network created")]),
        here("kubectl get pods -o wide")
            .soon()
            .look("One has an address of its own, the other that of its node.")
            .sees(&[
                Shows("with-host-port 1/1 Running 10.16.2.2 gke-3"),
                Shows("on-host-network 1/1 Running 10.138.15.4 gke-3"),
            ]),
        client("curl -s http://10.138.15.4:8081; curl -s http://10.138.15.4:9100")
            .soon()
            .look("Both are reached on the node's address.")
            .sees(&[InOrder(&["I am 10.16.2.2:8080", "I am 10.138.15.4:9100"])]),
        node("gke-3", "ss -tln")
            .look("On the host network a process listens on the node; behind a hostPort there is a rule.")
            .sees(&[Shows("*:9100"), Hides("*:8081")]),
    ],
};
