//! Two pods on two nodes behind a NodePort.

use super::story::Sight::{Ends, InOrder, Lines, Shows};
use super::story::{Part, Scenery, Tour, client, here, node, restart};
use crate::proxy::ProxyMode;

pub(super) static TOUR: Tour = Tour {
    name: "W2",
    word: "pods",
    title: "Two pods behind a NodePort",
    differs: "The article gives no addresses of its nodes: host1 and host2 have 192.168.1.11 and .12 here. Another \
        pod of host2 holds the addresses before 172.16.192.89, so that the pods have those of the article.",
    scenery: Scenery {
        files: &[
            ("nodes.yaml", include_str!("files/w2-nodes.yaml")),
            ("hello-app.yaml", include_str!("files/hello-app.yaml")),
        ],
        start: "nodes.yaml",
        services: "10.104.0.0/16",
    },
    parts: &[SERVICE, CHAINS, SUCCESSOR],
};

const SERVICE: Part = Part {
    title: "A Deployment of two, and a Service",
    steps: &[
        here("cat hello-app.yaml")
            .look("Two replicas, and port 30811 on every node.")
            .sees(&[Shows("replicas: 2")]),
        here("kubectl apply -f hello-app.yaml")
            .look("A Deployment makes a ReplicaSet, and that makes the pods.")
            .sees(&[Shows("deployment.apps/hello-app created"), Shows("service/hello-app-service created")]),
        here("kubectl get pods -o wide").soon().look("A pod on each node.").sees(&[
            Shows("hello-app-* 1/1 Running 172.16.166.130 host1"),
            Shows("hello-app-* 1/1 Running 172.16.192.89 host2"),
        ]),
        here("kubectl get service hello-app-service")
            .look("ClusterIP 10.104.81.240, NodePort 30811.")
            .sees(&[Shows("hello-app-service NodePort 10.104.81.240 80:30811/TCP")]),
        client("curl -s http://192.168.1.11:30811")
            .soon()
            .look("From outside, on the address of a node.")
            .sees(&[Shows("Hello, world!"), Shows("Hostname:")]),
        client(
            "for n in $(seq 20); do curl -s http://192.168.1.11:30811; done | grep Hostname | sort | uniq -c",
        )
        .soon()
        .look("20 requests to host1: both pods answer, about half of them each, though one is on host2.")
        .sees(&[Lines(2), Shows("Hostname: hello-app-*")]),
        client(
            "for n in $(seq 20); do curl -s http://192.168.1.12:30811; done | grep Hostname | sort | uniq -c",
        )
        .soon()
        .look("The other node does the same.")
        .sees(&[Lines(2), Shows("Hostname: hello-app-*")]),
    ],
};

const CHAINS: Part = Part {
    title: "How the pod is drawn",
    steps: &[
        node("host1", "iptables -t nat -L KUBE-SERVICES -n")
            .look("The last rule is for destinations of type LOCAL: all addresses of the node.")
            .sees(&[Shows("KUBE-SVC-YG6ZEOBCLVGD3AJB 10.104.81.240 dpt:80"), Ends("KUBE-NODEPORTS LOCAL")]),
        node("host1", "iptables -t nat -L KUBE-NODEPORTS -n")
            .look("Port 30811 of any of them.")
            .sees(&[Shows("KUBE-EXT-YG6ZEOBCLVGD3AJB dpt:30811")]),
        node("host1", "iptables -t nat -L KUBE-EXT-YG6ZEOBCLVGD3AJB -n")
            .look("The same chain, however the Service is reached: by NodePort or by ClusterIP.")
            .sees(&[InOrder(&["KUBE-MARK-MASQ", "KUBE-SVC-YG6ZEOBCLVGD3AJB"])]),
        node("host1", "iptables -t nat -L KUBE-SVC-YG6ZEOBCLVGD3AJB -n")
            .look("A coin is tossed: half of the connections take the first endpoint, all others the second.")
            .sees(&[InOrder(&[
                "KUBE-SEP-7I3URQ2O437FVP5U 172.16.166.130:8080 statistic mode random probability 0.50000000000",
                "KUBE-SEP-PSPHHDAXPY5YRT7B 172.16.192.89:8080",
            ])]),
        node("host1", "iptables -t nat -L KUBE-SEP-7I3URQ2O437FVP5U -n")
            .look("The end of the way to the first pod.")
            .sees(&[Shows("DNAT to:172.16.166.130:8080")]),
        node("host1", "iptables -t nat -L KUBE-SEP-PSPHHDAXPY5YRT7B -n")
            .look("Its mark is for a pod that reaches itself by its own Service: it must not see its own address.")
            .sees(&[InOrder(&["KUBE-MARK-MASQ 172.16.192.89", "DNAT to:172.16.192.89:8080"])]),
        node("host1", "portolan trace --from 192.168.1.100 --to 192.168.1.11:30811")
            .needs(&["iptables"])
            .look("`trace` works out the chances: 1/2 each, by fractions and not by trying.")
            .sees(&[Shows("172.16.166.130:8080* 1/2*"), Shows("172.16.192.89:8080* 1/2*")]),
    ],
};

const SUCCESSOR: Part = Part {
    title: "The same in nftables",
    steps: &[
        restart("host2", Some(ProxyMode::Nftables), "portolan lab proxy restart host2 --proxy-mode nftables")
            .look("It takes the chains of iptables away only when its own rules are in force.")
            .sees(&[Shows("host2 in force")]),
        node("host2", "nft list map ip portolan endpoints")
            .look("No chain for each Service: a random number and the destination are looked up at once.")
            .sees(&[
                Shows("0 192.168.1.12 tcp 30811 172.16.166.130 8080*"),
                Shows("1 192.168.1.12 tcp 30811 172.16.192.89 8080*"),
            ]),
        node("host2", "nft list chain ip portolan nat-prerouting")
            .look("0 or 1 is drawn. A Service of one endpoint has no 1, and gets what is drawn after it.")
            .sees(&[Shows("numgen random mod 2 * @endpoints"), Shows("numgen random mod 1 * @endpoints")]),
        client(
            "for n in $(seq 20); do curl -s http://192.168.1.12:30811; done | grep Hostname | sort | uniq -c",
        )
        .soon()
        .look("Nobody outside notices.")
        .sees(&[Lines(2), Shows("Hostname: hello-app-*")]),
    ],
};
