//! A port that nobody listens on, and the same done by hand.

use super::story::Sight::{Ends, Hides, InOrder, Shows};
use super::story::{Part, Scenery, Tour, client, here, node, serve};

pub(super) static TOUR: Tour = Tour {
    name: "W1",
    word: "port",
    title: "A port nobody listens on",
    differs: "The article has a real web server and a cluster of virtual machines; here the lab's own server \
        answers, in a network namespace. kube-proxy of today leads NodePorts through one more chain, KUBE-EXT-.",
    scenery: Scenery {
        files: &[
            ("nodes.yaml", include_str!("files/w1-nodes.yaml")),
            ("karmaweb.yaml", include_str!("files/karmaweb.yaml")),
        ],
        start: "nodes.yaml",
        services: "10.110.0.0/16",
    },
    parts: &[SERVICE, CHAINS, BY_HAND],
};

const SERVICE: Part = Part {
    title: "A Service of type NodePort",
    steps: &[
        here("cat karmaweb.yaml")
            .look("One pod, and a Service in front of it.")
            .sees(&[Shows("type: NodePort")]),
        here("kubectl apply -f karmaweb.yaml")
            .look("Both are there.")
            .sees(&[Shows("pod/karmaweb created"), Shows("service/karmaweb created")]),
        here("kubectl get pods -o wide")
            .soon()
            .look("The pod runs on the node `worker`, and has an address of its own.")
            .sees(&[Shows("karmaweb 1/1 Running 10.244.5.241 worker")]),
        here("kubectl get service karmaweb")
            .look("ClusterIP 10.110.199.177, and port 32264 on every node.")
            .sees(&[Shows("karmaweb NodePort 10.110.199.177 80:32264/TCP")]),
        node("worker", "ss -tuln")
            .look("No socket listens on 32264.")
            .sees(&[Shows("*Address:Port"), Hides("*:32264")]),
        node("worker", "curl -s http://localhost:32264")
            .soon()
            .needs(&["iptables"])
            .look("It is answered all the same, by the pod, which takes the node's bridge for its client.")
            .sees(&[
                Shows("hello from karmaweb on worker"),
                Shows("you are 10.244.5.1:* I am 10.244.5.241:3000"),
            ]),
    ],
};

const CHAINS: Part = Part {
    title: "Who answered? The chains of table nat",
    steps: &[
        node("worker", "iptables -t nat -L PREROUTING -n")
            .look("Whatever comes in goes to KUBE-SERVICES first. What the node sends does, too: see OUTPUT.")
            .sees(&[Shows("KUBE-SERVICES")]),
        node("worker", "iptables -t nat -L KUBE-SERVICES -n")
            .look("A rule for each ClusterIP and port; the last one is for NodePorts, on the node's own addresses.")
            .sees(&[
                Shows("KUBE-SVC-5XYKYCRLOJZB2ITL 10.110.199.177 default/karmaweb:http dpt:80"),
                Ends("KUBE-NODEPORTS LOCAL"),
            ]),
        node("worker", "iptables -t nat -L KUBE-NODEPORTS -n")
            .look("Port 32264 is a rule, and no socket.")
            .sees(&[Shows("KUBE-EXT-5XYKYCRLOJZB2ITL default/karmaweb:http dpt:32264")]),
        node("worker", "iptables -t nat -L KUBE-EXT-5XYKYCRLOJZB2ITL -n")
            .look("What came by a NodePort is marked, and goes on to the chain of the Service.")
            .sees(&[InOrder(&["KUBE-MARK-MASQ", "KUBE-SVC-5XYKYCRLOJZB2ITL"])]),
        node("worker", "iptables -t nat -L KUBE-SVC-5XYKYCRLOJZB2ITL -n")
            .look("What is sent to the ClusterIP by no pod (not from 10.244.0.0/16) is marked, too.")
            .sees(&[InOrder(&[
                "KUBE-MARK-MASQ !10.244.0.0/16 10.110.199.177",
                "KUBE-SEP-RX5EM3L6A5YPWQT5 10.244.5.241:3000",
            ])]),
        node("worker", "iptables -t nat -L KUBE-SEP-RX5EM3L6A5YPWQT5 -n")
            .look("The end of the way: the destination becomes the pod's address and port.")
            .sees(&[Shows("DNAT to:10.244.5.241:3000")]),
        node("worker", "iptables -t nat -L KUBE-POSTROUTING -n")
            .look("Only what has the mark 0x4000 goes past the first rule, and gets the node's address.")
            .sees(&[InOrder(&["RETURN", "MARK", "MASQUERADE"])]),
        client("curl -s http://10.110.199.177")
            .look("From outside of the cluster to the ClusterIP: the pod sees the node, and not the client.")
            .sees(&[Shows("hello from karmaweb on worker"), Shows("you are 10.244.5.1:*"), Hides("10.0.0.100:*")]),
        node("worker", "portolan trace --from node --to 127.0.0.1:32264")
            .needs(&["iptables"])
            .look("All of it at once: `trace` reads the same rules, and follows a packet through them.")
            .sees(&[Shows("forwarded 10.244.5.241:3000,"), Shows("KUBE-SEP-RX5EM3L6A5YPWQT5 2:")]),
    ],
};

const BY_HAND: Part = Part {
    title: "The same by hand, without any Service",
    steps: &[
        node("worker", "ip link add web0 type bridge; ip addr add 15.0.0.1/24 dev web0; ip link set web0 up")
            .look("A new interface..."),
        node("worker", "ip -br addr show web0")
            .look("... with an address of its own.")
            .sees(&[Shows("web0 15.0.0.1/24")]),
        serve("worker", "by-hand", [15, 0, 0, 1], 8765, "# the tour starts a web server on 15.0.0.1:8765")
            .look("This stands for any program that listens there."),
        node("worker", "ss -tln")
            .look("It listens on 8765, and nobody on 8909.")
            .needs(&["ip"])
            .sees(&[Shows("LISTEN 15.0.0.1:8765"), Hides("*:8909")]),
        node("worker", "curl -sS http://localhost:8909")
            .fails()
            .look("So port 8909 refuses.")
            .sees(&[Shows("*8909*")]),
        node(
            "worker",
            "iptables -t nat -A OUTPUT -o lo -p tcp --dport 8909 -j DNAT --to-destination 15.0.0.1:8765",
        )
        .look("What this node sends to port 8909 of itself gets another destination."),
        node("worker", "curl -s http://localhost:8909")
            .needs(&["iptables", "ip"])
            .look("One rule, and the server at 15.0.0.1:8765 answers for it.")
            .sees(&[Shows("hello from by-hand on worker"), Shows("I am 15.0.0.1:8765")]),
        node("worker", "ss -tln")
            .needs(&["ip"])
            .look("Still nobody listens on 8909.")
            .sees(&[Shows("LISTEN 15.0.0.1:8765"), Hides("*:8909")]),
        node("worker", "portolan trace --from node --to 127.0.0.1:8909")
            .needs(&["iptables", "ip"])
            .look("The rule is nobody's but ours: `trace` says which chain it is in.")
            .sees(&[Shows("15.0.0.1:8765*")]),
    ],
};
