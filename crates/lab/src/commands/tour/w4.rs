//! Reading the rules, one by one, as sentences.

use super::story::Sight::{Ends, Hides, InOrder, Lines, Shows};
use super::story::{Part, Scenery, Tour, client, here, node, restart, serve};
use crate::proxy::ProxyMode;

pub(super) static TOUR: Tour = Tour {
    name: "W4",
    word: "rules",
    title: "Reading the rules",
    differs: "The article reads the rules of one node of a real cluster, with Calico and Docker beside the proxy; \
        here the tour writes their chains. In place of Grafana the lab's own server answers.",
    scenery: Scenery {
        files: &[
            ("nodes.yaml", include_str!("files/w4-nodes.yaml")),
            ("grafana.yaml", include_str!("files/grafana.yaml")),
            ("others.iptables", include_str!("files/others.iptables")),
        ],
        start: "nodes.yaml",
        services: "10.111.0.0/16",
    },
    parts: &[OTHERS, READING, LISTENER, UNTOUCHED],
};

const OTHERS: Part = Part {
    title: "A node where others have rules, too",
    steps: &[
        node("cc-sauron", "cat others.iptables")
            .look("Chains as Calico and Docker have them.")
            .sees(&[Shows(":DOCKER"), Shows(":cali-PREROUTING")]),
        node("cc-sauron", "iptables-restore --noflush others.iptables")
            .look("They stand beside the proxy's."),
        here("kubectl create namespace monitoring")
            .look("Names of chains follow from namespace and name, so they count.")
            .sees(&[Shows("namespace/monitoring created")]),
        here("kubectl apply -f grafana.yaml").look("A pod, and a Service of type NodePort.").sees(&[
            Shows("pod/prometheus-grafana-5f848c4987-btg95 created"),
            Shows("service/grafana-example-service created"),
        ]),
        here("kubectl -n monitoring get pods -o wide")
            .soon()
            .look("The endpoint: 10.244.0.115.")
            .sees(&[Shows("prometheus-grafana-5f848c4987-btg95 1/1 Running 10.244.0.115 cc-sauron")]),
        here("kubectl -n monitoring get service grafana-example-service")
            .look("The frontends: 10.111.189.177:3000, and 31577 on every node.")
            .sees(&[Shows("NodePort 10.111.189.177 3000:31577/TCP")]),
        client("curl -s http://192.168.4.10:31577")
            .soon()
            .look("It works. Now the way of this packet, rule by rule.")
            .sees(&[Shows("hello from prometheus-grafana-5f848c4987-btg95 on cc-sauron")]),
    ],
};

const READING: Part = Part {
    title: "From PREROUTING to the pod",
    steps: &[
        node("cc-sauron", "iptables -t nat -L PREROUTING -n")
            .look(
                "Read a line so: if protocol, source and destination match, go to this chain. Every packet visits \
                 KUBE-SERVICES; what is in the other chains is others' business.",
            )
            .sees(&[Shows("KUBE-SERVICES"), Shows("cali-PREROUTING"), Shows("DOCKER LOCAL")]),
        node("cc-sauron", "iptables -t nat -L KUBE-SERVICES -n")
            .look(
                "If it is TCP, to 10.111.189.177, port 3000: KUBE-SVC-OIUYAK75OI4PJHUN. Ours is to the node's own \
                 address, and falls through to the last rule.",
            )
            .sees(&[
                Shows("KUBE-SVC-OIUYAK75OI4PJHUN 0.0.0.0/0 10.111.189.177 dpt:3000"),
                Ends("KUBE-NODEPORTS LOCAL"),
            ]),
        node("cc-sauron", "iptables -t nat -L KUBE-NODEPORTS -n")
            .look("If it is TCP, to port 31577: KUBE-EXT-OIUYAK75OI4PJHUN. (The article's proxy has no KUBE-EXT- yet.)")
            .sees(&[Shows("KUBE-EXT-OIUYAK75OI4PJHUN dpt:31577")]),
        node("cc-sauron", "iptables -t nat -L KUBE-EXT-OIUYAK75OI4PJHUN -n")
            .look("Whatever it is: note by a mark that it is to be masqueraded, come back, go to the Service's chain.")
            .sees(&[InOrder(&["KUBE-MARK-MASQ", "KUBE-SVC-OIUYAK75OI4PJHUN"])]),
        node("cc-sauron", "iptables -t nat -L KUBE-SVC-OIUYAK75OI4PJHUN -n")
            .look("One pod, so there is nothing to draw: KUBE-SEP-LAT64KIID4KEQMCP.")
            .sees(&[
                Shows("KUBE-MARK-MASQ !10.244.0.0/16"),
                Ends("KUBE-SEP-LAT64KIID4KEQMCP 10.244.0.115:3000"),
                Hides("statistic"),
            ]),
        node("cc-sauron", "iptables -t nat -L KUBE-SEP-LAT64KIID4KEQMCP -n")
            .look("If it is TCP: the destination becomes 10.244.0.115:3000. That is the pod.")
            .sees(&[Ends("DNAT to:10.244.0.115:3000")]),
        node("cc-sauron", "portolan trace --from 192.168.4.100 --to 192.168.4.10:31577")
            .needs(&["iptables"])
            .look("The same read by `trace`. With --verbose it says of each rule passed why it did not match.")
            .sees(&[Shows("forwarded 10.244.0.115:3000,"), Shows("KUBE-SEP-LAT64KIID4KEQMCP 2:")]),
    ],
};

const LISTENER: Part = Part {
    title: "A process that has the port already",
    steps: &[
        serve(
            "cc-sauron",
            "process-on-the-node",
            [0, 0, 0, 0],
            31577,
            "# the tour starts a web server on port 31577 of the node",
        )
        .look("As if somebody had taken the port before."),
        node("cc-sauron", "ss -tln")
            .look("It listens on all addresses.")
            .sees(&[Shows("LISTEN 0.0.0.0:31577")]),
        client("curl -s http://192.168.4.10:31577")
            .look("The pod answers still: rules come before sockets.")
            .sees(&[Shows("hello from prometheus-grafana-5f848c4987-btg95"), Hides("process-on-the-node")]),
        node("cc-sauron", "curl -s http://192.168.4.10:31577")
            .look("From the node itself, too: OUTPUT leads to KUBE-SERVICES as well.")
            .sees(&[Shows("hello from prometheus-grafana-5f848c4987-btg95"), Hides("process-on-the-node")]),
    ],
};

const UNTOUCHED: Part = Part {
    title: "What is others' stays others'",
    steps: &[
        restart(
            "cc-sauron",
            Some(ProxyMode::Nftables),
            "portolan lab proxy restart cc-sauron --proxy-mode nftables",
        )
        .look("Another mode: the chains of iptables have to go.")
        .sees(&[Shows("cc-sauron in force")]),
        node("cc-sauron", "iptables-save -t nat | grep -E 'DOCKER|cali-|docker0'")
            .needs(&["iptables-restore"])
            .look("The proxy took its own chains away, and touched nothing else.")
            .sees(&[
                Lines(6),
                InOrder(&[
                    ":DOCKER",
                    ":cali-PREROUTING",
                    "-A PREROUTING -j cali-PREROUTING",
                    "-A PREROUTING -j DOCKER",
                ]),
            ]),
        node("cc-sauron", "iptables-save -t nat")
            .needs(&["iptables-restore"])
            .look("This is all that is left there.")
            .sees(&[Hides("*KUBE-*")]),
        node("cc-sauron", "nft list map ip portolan endpoints")
            .look("In nftables, the way is one look-up: destination and port, and the pod.")
            .sees(&[Shows("192.168.4.10 tcp 31577 10.244.0.115 3000*")]),
        client("curl -s http://192.168.4.10:31577")
            .look("The pod answers still, and the process on the node does not.")
            .sees(&[Shows("hello from prometheus-grafana-5f848c4987-btg95")]),
        node("cc-sauron", "portolan trace --from 192.168.4.100 --to 192.168.4.10:31577")
            .look("`trace` reads these, too.")
            .sees(&[Shows("forwarded 10.244.0.115:3000,")]),
    ],
};
