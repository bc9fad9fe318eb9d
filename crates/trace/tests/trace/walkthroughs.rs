//! Packets to the Services of the articles that users read, by the rules that kube-proxy writes for
//! them.

use portolan_trace::{Family, Ruleset};

use crate::notation::{check, node};

/// The rules of one NodePort Service as today's kube-proxy writes them (spec §5D), before iptables
/// has put them in its own order.
fn walkthrough(
    name: &str,
    pods: &str,
    frontends: (&str, u16, u16),
    svc: &str,
    endpoints: &[(&str, &str)],
) -> Ruleset {
    let (ip, port, node_port) = frontends;
    let mut lines = vec![
        "*nat".to_owned(),
        ":KUBE-SERVICES - [0:0]".to_owned(),
        ":KUBE-NODEPORTS - [0:0]".to_owned(),
        ":KUBE-POSTROUTING - [0:0]".to_owned(),
        ":KUBE-MARK-MASQ - [0:0]".to_owned(),
        format!(":KUBE-SVC-{svc} - [0:0]"),
        format!(":KUBE-EXT-{svc} - [0:0]"),
    ];
    lines.extend(endpoints.iter().map(|(sep, _)| format!(":KUBE-SEP-{sep} - [0:0]")));
    for hook in ["PREROUTING", "OUTPUT"] {
        lines.push(format!("-A {hook} -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES"));
    }
    lines.push(
        "-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING".into(),
    );
    let cluster_ip =
        format!("-m comment --comment \"{name} cluster IP\" -m tcp -p tcp -d {ip} --dport {port}");
    lines.push(format!("-A KUBE-SERVICES {cluster_ip} -j KUBE-SVC-{svc}"));
    lines.push("-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS".into());
    lines.push(format!(
        "-A KUBE-NODEPORTS -m comment --comment {name} -m tcp -p tcp --dport {node_port} -j KUBE-EXT-{svc}"
    ));
    lines.push(format!(
        "-A KUBE-EXT-{svc} -m comment --comment \"masquerade traffic for {name} external destinations\" -j KUBE-MARK-MASQ"
    ));
    lines.push(format!("-A KUBE-EXT-{svc} -j KUBE-SVC-{svc}"));
    lines.push(format!("-A KUBE-SVC-{svc} {cluster_ip} ! -s {pods} -j KUBE-MARK-MASQ"));
    for (number, (sep, endpoint)) in endpoints.iter().enumerate() {
        let draw = match endpoints.len() - number {
            1 => String::new(),
            left => format!(
                " -m statistic --mode random --probability {:.10}",
                1.0 / f64::from(u8::try_from(left).expect("few"))
            ),
        };
        lines.push(format!(
            "-A KUBE-SVC-{svc} -m comment --comment \"{name} -> {endpoint}\"{draw} -j KUBE-SEP-{sep}"
        ));
        let address = endpoint.split(':').next().expect("an address");
        lines.push(format!("-A KUBE-SEP-{sep} -m comment --comment {name} -s {address} -j KUBE-MARK-MASQ"));
        lines.push(format!(
            "-A KUBE-SEP-{sep} -m comment --comment {name} -m tcp -p tcp -j DNAT --to-destination {endpoint}"
        ));
    }
    lines.push("-A KUBE-POSTROUTING -m mark ! --mark 0x00004000/0x00004000 -j RETURN".into());
    lines.push("-A KUBE-POSTROUTING -j MARK --xor-mark 0x00004000".into());
    lines.push("-A KUBE-POSTROUTING -j MASQUERADE --random-fully".into());
    lines.push("-A KUBE-MARK-MASQ -j MARK --or-mark 0x00004000".into());
    lines.push("COMMIT\n".into());
    Ruleset::from_iptables_save(&lines.join("\n"), Family::V4).expect("a dump")
}

#[test]
fn the_walkthroughs() {
    let karmaweb = walkthrough(
        "default/karmaweb:http",
        "10.244.0.0/16",
        ("10.110.199.177", 80, 32264),
        "5XYKYCRLOJZB2ITL",
        &[("RX5EM3L6A5YPWQT5", "10.244.5.241:3000")],
    );
    check(
        &karmaweb,
        &node(),
        &[
            (
                "W1: curl localhost on the NodePort",
                "node tcp 127.0.0.1 127.0.0.1:32264",
                "1 10.244.5.241:3000 masq",
            ),
            (
                "W1: from outside the pod network",
                "outside tcp 192.0.2.1 10.110.199.177:80",
                "1 10.244.5.241:3000 masq",
            ),
            ("W1: from a pod", "pod tcp 10.244.1.5 10.110.199.177:80", "1 10.244.5.241:3000"),
        ],
    );
    let hello_app = walkthrough(
        "default/hello-app-service",
        "172.16.0.0/16",
        ("10.104.81.240", 80, 30811),
        "YG6ZEOBCLVGD3AJB",
        &[("7I3URQ2O437FVP5U", "172.16.166.130:8080"), ("PSPHHDAXPY5YRT7B", "172.16.192.89:8080")],
    );
    check(
        &hello_app,
        &node(),
        &[
            (
                "W2: either pod with probability 1/2, from whichever node",
                "outside tcp 192.0.2.1 192.168.50.1:30811",
                "1/2 172.16.166.130:8080 masq; 1/2 172.16.192.89:8080 masq",
            ),
            (
                "W2: the ClusterIP from a pod",
                "pod tcp 172.16.166.131 10.104.81.240:80",
                "1/2 172.16.166.130:8080; 1/2 172.16.192.89:8080",
            ),
        ],
    );
    let grafana = walkthrough(
        "default/grafana",
        "10.244.0.0/16",
        ("10.111.189.177", 3000, 31577),
        "OIUYAK75OI4PJHUN",
        &[("LAT64KIID4KEQMCP", "10.244.0.115:3000")],
    );
    check(
        &grafana,
        &node(),
        &[
            (
                "W4: the NodePort leads to the pod",
                "outside tcp 192.0.2.1 192.168.50.1:31577",
                "1 10.244.0.115:3000 masq",
            ),
            (
                "W4: the pod that asks itself",
                "pod tcp 10.244.0.115 10.111.189.177:3000",
                "1 10.244.0.115:3000 masq",
            ),
            ("W4: UDP is not the Service's", "outside udp 192.0.2.1 192.168.50.1:31577", "1 accept"),
        ],
    );
}
