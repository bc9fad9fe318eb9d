//! `portolan trace` as people call it: dumps, standard input, manifests, many packets; and the
//! examples of docs/trace.md.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// What the program leaves: exit code, standard output, standard error.
type Done = (Option<i32>, String, String);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn trace(arguments: &[&str], input: &str) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
    command.arg("trace").args(arguments).current_dir(root());
    run(&mut command, input)
}

fn run(command: &mut Command, input: &str) -> Done {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("it was asked for");
    let input = input.to_owned();
    // What refuses its arguments reads nothing.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let done = child.wait_with_output().expect("it ends");
    writer.join().expect("writing does not panic");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

const OLD: &str = "crates/trace/tests/dumps/node-of-2017.iptables-save";
const CLASSIC: &str = "crates/trace/tests/dumps/spec.iptables-save";
const FLAT: &str = "crates/trace/tests/dumps/portolan.nft.json";
const KUBE_PROXY: &str = "crates/trace/tests/dumps/kube-proxy.nft.json";

/// A packet's verdict and the number of its endpoints, from `-o json`.
fn answer(arguments: &[&str]) -> (String, usize) {
    let (code, out, error) = trace(&[arguments, &["-o", "json"]].concat(), "");
    assert_eq!(code, Some(0), "{arguments:?}: {error}");
    let answer: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"));
    let endpoints = answer["endpoints"].as_array().map_or(0, Vec::len);
    (answer["verdict"].as_str().unwrap_or_default().to_owned(), endpoints)
}

#[test]
fn dumps_are_asked_by_address_and_by_name() {
    let node = "--node-ip=192.168.50.1";
    for (situation, arguments, verdict, endpoints) in [
        (
            "flat, by address",
            &["--nft-json", FLAT, node, "--from", "10.244.1.5", "--to", "10.96.0.1:80"],
            "forward",
            3,
        ),
        (
            "flat, by name",
            &["--nft-json", FLAT, node, "--from", "outside", "--to", "shop/web:http"],
            "forward",
            3,
        ),
        (
            "flat, by port number",
            &["--nft-json", FLAT, node, "--from", "node", "--to", "svc/shop/web:80"],
            "forward",
            3,
        ),
        (
            "flat, NodePort",
            &["--nft-json", FLAT, node, "--from", "outside", "--to", "node:30080"],
            "forward",
            3,
        ),
        (
            "flat, protocol of the port",
            &["--nft-json", FLAT, node, "--from", "10.244.1.5", "--to", "shop/near:dns"],
            "forward",
            1,
        ),
        (
            "flat, dropped",
            &["--nft-json", FLAT, node, "--from", "192.0.2.1", "--to", "203.0.113.2:80"],
            "drop",
            0,
        ),
        (
            "kube-proxy, by name",
            &["--nft-json", KUBE_PROXY, node, "--from", "10.244.1.5", "--to", "shop/web:http"],
            "forward",
            3,
        ),
        (
            "kube-proxy, refused",
            &["--nft-json", KUBE_PROXY, node, "--from", "10.244.1.5", "--to", "10.96.0.4:80"],
            "reject",
            0,
        ),
        (
            "no rule",
            &["--nft-json", FLAT, node, "--from", "10.244.1.5", "--to", "198.51.100.9:80"],
            "none",
            0,
        ),
    ] {
        assert_eq!(answer(arguments), (verdict.to_owned(), endpoints), "{situation}");
    }
}

#[test]
fn iptables_dumps_come_by_standard_input_too() {
    let text = std::fs::read_to_string(root().join(OLD)).expect("a dump");
    let arguments = ["--iptables-save", "-", "--from", "outside", "--to", "default/svc-test-1", "-o", "json"];
    let (code, out, error) = trace(&arguments, &text);
    assert_eq!(code, Some(0), "{error}");
    let answer: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(answer["verdict"], "forward", "{out}");
    assert_eq!(answer["service"]["name"], "svc-test-1", "{out}");
    assert_eq!(answer["packet"]["hook"], "prerouting", "{out}");
    let (verdict, _) =
        self::answer(&["--iptables-save", OLD, "--from", "outside", "--to", "default/svc-test-1"]);
    assert_eq!(verdict, "forward");
}

const FORMS: &str = "crates/trace/tests/dumps/forms";

#[test]
fn every_form_of_a_dump_has_names_and_the_same_endpoints() {
    for (file, flag) in [
        ("spec.iptables-save", "--iptables-save"),
        ("spec.iptables-S", "--iptables-save"),
        ("spec.iptables-L", "--iptables-save"),
        ("spec.iptables-L", "--dump"),
        ("kube-proxy.nft", "--nft-json"),
        ("kube-proxy.nft", "--dump"),
        ("kube-proxy.nft.json", "--dump"),
    ] {
        let path = format!("{FORMS}/{file}");
        let arguments =
            [flag, &path, "--from", "10.244.1.5", "--in-interface", "cni0", "--to", "shop/web:http"];
        assert_eq!(answer(&arguments), ("forward".to_owned(), 3), "{flag} {file}");
    }
}

#[test]
fn a_part_is_followed_and_what_is_missing_is_said() {
    let text = std::fs::read_to_string(root().join(FORMS).join("spec.iptables-save")).expect("a dump");
    let part: Vec<&str> = text.lines().filter(|line| line.contains("shop/web")).collect();
    let arguments = ["--dump", "-", "--from", "10.244.1.5", "--to", "shop/web:http"];
    let (code, out, error) = trace(&arguments, &part.join("\n"));
    assert_eq!(code, Some(0), "{error}");
    let mut lines = out.lines();
    assert!(lines.next().is_some_and(|line| line.contains("one of 3 endpoints of shop/web:http")), "{out}");
    assert!(lines.next().is_some_and(|line| line.starts_with("Missing: ")), "{out}");
    let (_, out, _) = trace(&[&arguments[..], &["-o", "json"]].concat(), &part.join("\n"));
    let answer: Value = serde_json::from_str(&out).expect("JSON");
    assert!(answer["left_out"][0].as_str().is_some_and(|said| said.contains("iptables-save")), "{out}");
}

#[test]
fn what_is_known_beside_the_rules_decides() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let rules = file(
        "rules",
        "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -o cni0 -m set --match-set clients src -j ACCEPT\nCOMMIT\n\
         *nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 30080 -j DNAT --to-destination 10.244.1.5:80\n\
         COMMIT\n",
    );
    let addresses = file("addresses", "2: eth0: <UP>\n    inet 192.0.2.50/24 scope global eth0\n");
    let routes = file("routes", "10.244.1.0/24 dev cni0 proto kernel\ndefault via 192.0.2.1 dev eth0\n");
    let elsewhere = file("elsewhere", r#"[{"dst":"default","gateway":"192.0.2.1","dev":"eth0"}]"#);
    let sets = file("sets", "create clients hash:net family inet\nadd clients 198.51.100.0/24\n");
    for (situation, flags, verdict) in [
        ("nothing more", &["--node-ip", "192.0.2.50"][..], "depends"),
        ("all of it", &["--ip-addr", &addresses, "--ip-route", &routes, "--ipset-save", &sets], "forward"),
        (
            "through another interface",
            &["--ip-addr", &addresses, "--ip-route", &elsewhere, "--ipset-save", &sets],
            "drop",
        ),
        (
            "through the one that is said",
            &["--ip-addr", &addresses, "--out-interface", "cni0", "--ipset-save", &sets],
            "forward",
        ),
        ("and another one", &["--node-ip", "192.0.2.50", "--out-interface", "eth0"], "drop"),
    ] {
        let asked = ["--iptables-save", &rules, "--from", "198.51.100.7", "--to", "192.0.2.50:30080"];
        assert_eq!(answer(&[&asked[..], flags].concat()).0, verdict, "{situation}");
    }
    let (code, _, error) = trace(&["--ip-route", &routes, "--from", "outside", "--to", "10.96.0.1:80"], "");
    assert_eq!(code, Some(1));
    assert!(error.contains("--ip-route is for rules that are not this node's"), "{error}");
    let (code, _, error) = trace(
        &["--iptables-save", &rules, "--ip-addr", "-", "--from", "outside", "--to", "node:30080"],
        "nothing of the kind\n",
    );
    assert_eq!(code, Some(1));
    assert!(error.contains("ip address"), "{error}");
}

#[test]
fn pictures_are_whole() {
    let arguments = ["--nft-json", FLAT, "--from", "10.244.1.5", "--to", "shop/web:http", "-o"];
    let (_, dot, _) = trace(&[&arguments[..], &["dot"]].concat(), "");
    assert!(dot.starts_with("digraph") && dot.trim_end().ends_with('}'), "{dot}");
    let (_, svg, _) = trace(&[&arguments[..], &["svg"]].concat(), "");
    assert!(svg.contains("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn what_cannot_be_answered_says_what_is_missing() {
    let without_elements = json!({"nftables": [
        {"table": {"family": "ip", "name": "portolan"}},
        {"map": {"family": "ip", "table": "portolan", "name": "services", "type": "ipv4_addr", "map": "verdict"}},
    ]});
    let from_to = ["--from", "outside", "--to", "10.96.0.1:80"];
    for (situation, arguments, input, part) in [
        ("no places", &["--nft-json", FLAT][..], String::new(), "--from <PLACE>"),
        ("only one of them", &["--nft-json", FLAT, "--from", "outside"], String::new(), "--to <PLACE>"),
        (
            "no file",
            &["--nft-json", "/nonexistent", "--from", "outside", "--to", "10.96.0.1:80"],
            String::new(),
            "/nonexistent",
        ),
        (
            "no JSON",
            &["--nft-json", OLD, "--from", "outside", "--to", "10.96.0.1:80"],
            String::new(),
            "this is iptables-save output: use --dump or --iptables-save",
        ),
        (
            "JSON as iptables-save",
            &["--iptables-save", FLAT, "--from", "outside", "--to", "10.96.0.1:80"],
            String::new(),
            "this is output of `nft -j`: use --dump or --nft-json",
        ),
        (
            "listed with -t",
            &["--nft-json", "-", "--from", "outside", "--to", "10.96.0.1:80"],
            without_elements.to_string(),
            "nft -t",
        ),
        (
            "a dump that was cut off",
            &["--iptables-save", "-", "--from", "outside", "--to", "10.96.0.1:80"],
            "*nat\n".to_owned(),
            "cut off",
        ),
        (
            "a node without address",
            &["--nft-json", FLAT, "--from", "outside", "--to", "node:80"],
            String::new(),
            "--node-ip",
        ),
        (
            "a pod of a dump",
            &["--nft-json", FLAT, "--from", "pod/shop/a", "--to", "10.96.0.1:80"],
            String::new(),
            "--manifests",
        ),
        (
            "an unknown Service",
            &["--nft-json", FLAT, "--from", "outside", "--to", "shop/webs:http"],
            String::new(),
            "is shop/web meant?",
        ),
        (
            "an unknown port",
            &["--nft-json", FLAT, "--from", "outside", "--to", "shop/web:https"],
            String::new(),
            "http (80/tcp)",
        ),
        (
            "a mode without manifests",
            &["--proxy-mode", "nftables", "--from", "outside", "--to", "10.96.0.1:80"],
            String::new(),
            "--manifests",
        ),
        (
            "two origins",
            &["--live", "--nft-json", FLAT, "--from", "outside", "--to", "10.96.0.1:80"],
            String::new(),
            "cannot be used with",
        ),
    ] {
        let (code, out, error) = trace(arguments, &input);
        assert_eq!(code, Some(1), "{situation}: {out}{error}");
        assert!(error.contains(part), "{situation}: {error}");
    }
    let (code, out, error) = trace(&[&["--iptables-save", CLASSIC][..], &from_to].concat(), "");
    assert_eq!(code, Some(0), "the same with what it needs: {out}{error}");
}

#[test]
fn a_text_of_another_program_is_known_for_what_it_is() {
    let texts = [
        ("iptables-save", "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n"),
        ("iptables", "-P PREROUTING ACCEPT\n-A PREROUTING -j DROP\n"),
        ("nft list", "table ip mine {\n\tchain a {\n\t}\n}\n"),
        ("nft -j", "{\"nftables\": []}\n"),
        ("ipset", "create clients hash:net family inet\nadd clients 198.51.100.0/24\n"),
        ("ip addr", "2: eth0: <UP>\n    inet 192.0.2.50/24 scope global eth0\n"),
        ("ip route", "default via 192.0.2.1 dev eth0\n"),
    ];
    for (flag, fits) in [
        ("--iptables-save", &["iptables-save", "iptables"][..]),
        ("--nft-json", &["nft list", "nft -j"]),
        ("--dump", &["iptables-save", "iptables", "nft list", "nft -j"]),
        ("--ipset-save", &["ipset"]),
        ("--ip-addr", &["ip addr"]),
        ("--ip-route", &["ip route"]),
    ] {
        for (program, text) in texts.iter().filter(|(program, _)| !fits.contains(program)) {
            let rules: &[&str] = if flag.starts_with("--ip") && flag != "--iptables-save" {
                &["--iptables-save", CLASSIC]
            } else {
                &[]
            };
            let asked = [rules, &[flag, "-", "--from", "outside", "--to", "10.96.0.1:80"]].concat();
            let (code, out, error) = trace(&asked, text);
            assert_eq!(code, Some(1), "{flag}, {program}: {out}{error}");
            let said = error.contains("-: this is ") && error.contains(program) && error.contains(": use --");
            assert!(said, "{flag}, {program}: {error}");
        }
    }
}

#[test]
fn names_without_a_namespace_are_understood_or_proposed() {
    for (to, expected) in [
        ("svc/svc-test-1", "forwarded to 10.100.3.7:8080, an endpoint of default/svc-test-1"),
        ("service/svc-test-1:80", "forwarded to 10.100.3.7:8080, an endpoint of default/svc-test-1"),
        ("svc-test-1", "portolan: --to: svc-test-1 is no place: is default/svc-test-1 meant?"),
        ("nowhere", "portolan: --to: nowhere is no place: give an address"),
    ] {
        let (_, out, error) = trace(&["--dump", OLD, "--from", "outside", "--to", to], "");
        assert!(format!("{out}{error}").contains(expected), "{to}: {out}{error}");
    }
}

/// Names of each kind, and pods that ask for them in their own ways.
const NAMED: &str = r#"
{kind: Service, apiVersion: v1, metadata: {name: kube-dns, namespace: kube-system}, spec: {clusterIP: 10.96.0.10,
  selector: {app: dns}, ports: [{name: dns, port: 53, protocol: UDP, targetPort: 5353}]}}
---
{kind: Pod, apiVersion: v1, metadata: {name: dns, namespace: kube-system, labels: {app: dns}}, spec: {nodeName: host1},
  status: {podIP: 10.244.1.53, conditions: [{type: Ready, status: "True"}]}}
---
{kind: Service, apiVersion: v1, metadata: {name: web, namespace: shop}, spec: {clusterIPs: [10.96.0.7, "fd00:96::7"],
  ipFamilyPolicy: RequireDualStack, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}}
---
{kind: Service, apiVersion: v1, metadata: {name: db, namespace: shop}, spec: {clusterIP: None, selector: {app: db},
  ports: [{port: 5432}]}}
---
{kind: Service, apiVersion: v1, metadata: {name: waiting, namespace: shop}, spec: {clusterIP: None, selector: {app: waiting},
  ports: [{port: 5432}]}}
---
{kind: Service, apiVersion: v1, metadata: {name: inner, namespace: shop}, spec: {type: ExternalName,
  externalName: web.shop.svc.cluster.local}}
---
{kind: Service, apiVersion: v1, metadata: {name: outer, namespace: shop}, spec: {type: ExternalName, externalName: a.example}}
---
{kind: Pod, apiVersion: v1, metadata: {name: web-1, namespace: shop, labels: {app: web}}, spec: {nodeName: host1},
  status: {podIPs: [{ip: 10.244.1.2}, {ip: "fd00:244:1::2"}], conditions: [{type: Ready, status: "True"}]}}
---
{kind: Pod, apiVersion: v1, metadata: {name: db-0, namespace: shop, labels: {app: db}}, spec: {nodeName: host1, hostname: db-0,
  subdomain: db}, status: {podIP: 10.244.1.3, conditions: [{type: Ready, status: "True"}]}}
---
{kind: Pod, apiVersion: v1, metadata: {name: waiting-0, namespace: shop, labels: {app: waiting}}, spec: {nodeName: host1},
  status: {podIP: 10.244.1.4}}
---
{kind: Pod, apiVersion: v1, metadata: {name: far}, spec: {nodeName: host1, dnsConfig: {searches: [shop.svc.cluster.local],
  options: [{name: ndots, value: "1"}]}}, status: {podIP: 10.244.1.5}}
---
{kind: Pod, apiVersion: v1, metadata: {name: on-host}, spec: {nodeName: host1, hostNetwork: true}, status: {podIP: 10.0.0.1}}
"#;

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn names_are_looked_up_as_the_client_does() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("named.yaml"), NAMED).expect("written");
    let manifests = folder.path().display().to_string();
    let ask = |more: &[&str]| {
        let flags = ["--manifests", &manifests, "--proxy-mode", "iptables", "--node-ip", "192.168.50.1"];
        trace(&[&flags[..], more, &["--", "--hostname-override=host1"]].concat(), "")
    };
    for (from, to, more, code, parts) in [
        (
            "pod/shop/db-0",
            "web",
            &[][..],
            0,
            &[
                "pod/shop/db-0 asks svc/kube-system/kube-dns at 10.96.0.10 for web.",
                "search shop.svc.cluster.local svc.cluster.local cluster.local; options ndots:5",
                "web.shop.svc.cluster.local  A        10.96.0.7: ClusterIP of svc/shop/web",
                "AAAA     fd00:96::7: ClusterIP of svc/shop/web",
                "-> 10.96.0.7:80/tcp is forwarded to 10.244.1.2:8080",
                "fd00:96::7 is not followed: whoever asks has no IPv6 address.",
            ][..],
        ),
        (
            "pod/shop/web-1",
            "web",
            &[],
            0,
            &[
                "-> 10.96.0.7:80/tcp is forwarded",
                "-> [fd00:96::7]:80/tcp is forwarded to [fd00:244:1::2]:8080",
            ],
        ),
        (
            "pod/shop/web-1",
            "db-0.db:1234",
            &["--family", "ipv4"],
            0,
            &["10.244.1.3: of svc/shop/db: pod/shop/db-0", "-> 10.244.1.3:1234/tcp"],
        ),
        (
            "pod/shop/web-1",
            "db",
            &[],
            0,
            &[
                "db.shop.svc.cluster.local  A        10.244.1.3: svc/shop/db: pod/shop/db-0",
                "-> 10.244.1.3:5432/tcp",
            ],
        ),
        (
            "pod/shop/web-1",
            "waiting",
            &[],
            1,
            &[
                "waiting.shop.svc.cluster.local  A, AAAA  NXDOMAIN: no endpoint of svc/shop/waiting is ready: pod/shop/waiting-0 (10.244.1.4)",
                "waiting.svc.cluster.local       A, AAAA  NXDOMAIN: no namespace waiting",
                "portolan: --to waiting: the name does not exist now: no endpoint of svc/shop/waiting is ready",
            ],
        ),
        (
            "pod/default/far",
            "web",
            &[],
            0,
            &[
                "web.default.svc.cluster.local  A, AAAA  NXDOMAIN: no Service default/web",
                "web.shop.svc.cluster.local     A        10.96.0.7",
            ],
        ),
        (
            "pod/default/far",
            "a.b",
            &[],
            1,
            &["options ndots:1", "\n  a.b  ", "A, AAAA  outside: not below cluster.local"],
        ),
        (
            "10.244.1.9",
            "web.shop:81",
            &[],
            0,
            &["a pod of namespace default at 10.244.1.9 asks", "-> 10.96.0.7:81/tcp"],
        ),
        (
            "pod/shop/web-1",
            "inner",
            &["--family", "ipv4"],
            0,
            &["10.96.0.7, by way of web.shop.svc.cluster.local", "-> 10.96.0.7:80/tcp"],
        ),
        (
            "pod/shop/web-1",
            "outer",
            &[],
            1,
            &["outside, by way of a.example", "what others say of a.example is not known here"],
        ),
        (
            "pod/shop/web-1",
            "web.shop.svc.cluster.local.",
            &["--lookup", "--family", "ipv4"],
            0,
            &[
                "10.244.1.2:40000 -> 10.96.0.10:53/udp is forwarded to 10.244.1.53:5353",
                "-> 10.96.0.7:80/tcp",
            ],
        ),
        (
            "pod/default/on-host",
            "web",
            &[],
            1,
            &["pod/default/on-host does not ask the cluster's DNS: it is on the host's network"],
        ),
        ("node", "web", &[], 1, &["a node does not ask the cluster's DNS"]),
        ("192.168.50.1", "web", &[], 1, &["a node does not ask the cluster's DNS"]),
        ("outside", "web", &[], 1, &["who is outside does not ask the cluster's DNS"]),
        ("pod/shop/web-1", "web:http", &[], 1, &["DNS knows no names of ports: give a number"]),
        ("pod/shop/web-1", "web", &["-o", "svg"], 1, &["a picture shows the way to one address"]),
        ("pod/shop/web-1", "10.96.0.7:80", &["--lookup"], 1, &["--lookup: there is nothing to look up"]),
        (
            "pod/shop/web-1",
            "web",
            &["--cluster-domain", "z"],
            0,
            &["search shop.svc.z svc.z z", "web.shop.svc.z  A "],
        ),
    ] {
        let (status, out, error) = ask(&[&["--from", from, "--to", to], more].concat());
        assert_eq!(status, Some(code), "{from} {to}: {out}{error}");
        for part in parts {
            assert!(format!("{out}{error}").contains(part), "{from} {to}: {part}: {out}{error}");
        }
    }
    let (_, out, _) = ask(&["--from", "pod/shop/web-1", "--to", "web", "--lookup", "-o", "json"]);
    let found: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(found["lookup"]["servers"], serde_json::json!(["10.96.0.10"]));
    assert_eq!(found["lookup"]["questions"][1]["addresses"], serde_json::json!(["fd00:96::7"]));
    assert_eq!(found["lookup_packet"]["verdict"], "forward");
    assert_eq!(found["packets"][1]["packet"]["destination"], "[fd00:96::7]:80");
}

/// A Service with a mistyped `targetPort`, one with an address of a load balancer, and two nodes.
const SHOP: &str = r#"
kind: Service
apiVersion: v1
metadata: {name: typo, namespace: shop}
spec: {clusterIP: 10.96.0.9, selector: {app: web}, ports: [{port: 80, targetPort: htpp}]}
---
kind: Service
apiVersion: v1
metadata: {name: lb, namespace: shop}
spec: {type: LoadBalancer, clusterIP: 10.96.0.8, selector: {app: web}, ports: [{port: 80, targetPort: http}],
  loadBalancerSourceRanges: [10.0.0.0/8]}
status: {loadBalancer: {ingress: [{ip: 198.51.100.7}]}}
---
kind: Pod
apiVersion: v1
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {nodeName: host1, containers: [{name: web, ports: [{name: http, containerPort: 8080}]}]}
status: {podIP: 10.244.1.2, conditions: [{type: Ready, status: "True"}]}
---
{kind: Node, apiVersion: v1, metadata: {name: host1}, status: {addresses: [{type: InternalIP, address: 192.168.50.1}]}}
---
{kind: Node, apiVersion: v1, metadata: {name: host2}, status: {addresses: [{type: InternalIP, address: 192.168.50.2}]}}
"#;

#[test]
fn manifests_say_what_rules_do_not() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("shop.yaml"), SHOP).expect("written");
    let manifests = folder.path().display().to_string();
    for (from, to, parts) in [
        (
            "pod/shop/web-1",
            "shop/typo",
            &[
                "is rejected: shop/typo has no ready endpoint: spec.ports[0].targetPort: no selected pod has a TCP port called \"htpp\"",
            ][..],
        ),
        (
            "pod/shop/web-1",
            "192.168.50.2:30080",
            &["leaves this node: 192.168.50.2 is an address of node host2, whose rules decide: ask there."],
        ),
        (
            "outside",
            "shop/lb",
            &[
                "-> 198.51.100.7:80/tcp is dropped",
                "a client outside uses 198.51.100.7 of svc/shop/lb; to ask for the ClusterIP, give 10.96.0.8:80",
            ],
        ),
        ("pod/shop/web-1", "shop/lb", &["-> 10.96.0.8:80/tcp is forwarded to 10.244.1.2:8080"]),
        (
            "pod/shop/web-1",
            "lb",
            &["lb.shop.svc.cluster.local", "-> 10.96.0.8:80/tcp is forwarded to 10.244.1.2:8080"],
        ),
        ("web-1", "shop/lb", &["--from: web-1 is no place: is pod/shop/web-1 meant?"]),
    ] {
        let flags = ["--manifests", &manifests, "--proxy-mode", "iptables", "--from", from, "--to", to];
        let (_, out, error) = trace(&[&flags[..], &["--", "--hostname-override=host1"]].concat(), "");
        for part in parts {
            assert!(format!("{out}{error}").contains(part), "{from} {to}: {part}: {out}{error}");
        }
        assert!(!out.contains("?."), "{from} {to}: {out}");
    }
}

#[test]
fn packets_are_answered_line_by_line_and_unmet_expectations_fail() {
    let good = r#"{"name": "web", "from": "outside", "to": "shop/web:http", "expect": {"verdict": "forward", "masquerade": true}}"#;
    let unmet = r#"{"from": "10.244.1.5", "to": "10.96.0.1:80", "expect": {"verdict": "drop", "endpoints": [], "masquerade": true}}"#;
    let arguments = ["--nft-json", FLAT, "--node-ip", "192.168.50.1", "--packets", "-"];

    let (code, out, error) = trace(&arguments, &format!("# comment\n\n{good}\n"));
    assert_eq!((code, out.lines().count()), (Some(0), 1), "{out}{error}");
    assert!(out.starts_with("web: 192.0.2.7:40000 -> 203.0.113.1:80/tcp forward to"), "{out}");

    let (code, out, error) = trace(&arguments, &format!("{good}\n{unmet}\nno JSON\u{1b}[2J\n"));
    assert_eq!((code, out.lines().count()), (Some(1), 3), "{out}{error}");
    for part in [
        "FAILED line 2",
        "verdict: expected drop, actual forward",
        "endpoints: expected none, actual 10.244.1.11:8080",
        "masquerade: expected true, actual false",
        "line 3: not a packet",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(error.contains("3 packets: 1 not as expected; 1 line without a packet"), "{error}");
    assert!(!out.contains('\u{1b}'), "{out:?}");

    let (code, out, _) = trace(&[&arguments[..], &["-o", "json"]].concat(), &format!("{good}\n{unmet}\n"));
    assert_eq!(code, Some(1));
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines[0]["verdict"], "forward");
    assert_eq!(lines[1]["unmet"][0], json!({"field": "verdict", "expected": "drop", "actual": "forward"}));

    for (malformed, part) in [
        (r#"{"from": "outside"}"#, "`to`"),
        (r#"{"from": "outside", "to": "10.96.0.1:80", "too": 1}"#, "too"),
        (r#"{"from": "outside", "to": "10.96.0.1:80", "protocol": "icmp"}"#, "tcp, udp, sctp"),
        (r#"{"from": "outside", "to": "10.96.0.1:80", "state": "old"}"#, "new, established, invalid"),
        (r#"{"from": "outside", "to": "10.96.0.1:80", "expect": {"verdict": "lost"}}"#, "is none of"),
    ] {
        let (code, out, _) = trace(&arguments, malformed);
        assert_eq!(code, Some(1), "{malformed}");
        assert!(out.starts_with("line 1: ") && out.contains(part), "{malformed}: {out}");
    }
}

#[test]
fn manifests_are_answered_alike_in_all_modes_of_the_kernel() {
    let mut answers = Vec::new();
    for mode in ["nftables", "iptables", "ipvs"] {
        let arguments = [
            "--manifests",
            "examples/trace",
            "--proxy-mode",
            mode,
            "--packets",
            "examples/trace/shop.packets",
            "--",
            "--hostname-override=worker-1",
            "--cluster-cidr=10.244.0.0/16",
            "--state-dir=/nonexistent",
        ];
        let (code, out, error) = trace(&arguments, "");
        assert_eq!(code, Some(0), "{mode}: {out}{error}");
        assert_eq!(out.lines().count(), 3, "{mode}: {out}");
        answers.push(out);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

/// Runs the commands (`$ ...`) of the documentation as a reader would. A line `...` stands for the
/// rest of what is printed.
#[test]
fn the_documented_examples_print_what_they_show() {
    let text = std::fs::read_to_string(root().join("docs/trace.md")).expect("docs/trace.md");
    let program = Path::new(env!("CARGO_BIN_EXE_portolan"));
    let path = format!(
        "{}:{}",
        program.parent().expect("a folder").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let mut commands = 0;
    for block in text.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        for example in block.split("$ ").skip(1) {
            let (mut line, mut shown) = example.split_once('\n').unwrap_or((example, ""));
            let mut command = String::new();
            while let Some(before) = line.strip_suffix('\\') {
                command.push_str(before);
                (line, shown) = shown.split_once('\n').unwrap_or((shown, ""));
            }
            command.push_str(line);
            let (_, out, error) =
                run(Command::new("sh").args(["-c", &command]).env("PATH", &path).current_dir(root()), "");
            let printed = format!("{out}{error}");
            match shown.split_once("...\n") {
                Some((beginning, _)) => assert!(printed.starts_with(beginning), "{command}\n{printed}"),
                None => assert_eq!(printed, shown, "{command}"),
            }
            commands += 1;
        }
    }
    assert!(commands >= 5, "only {commands} examples were found");
}
