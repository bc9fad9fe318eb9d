//! The real kernel, with clients, sockets and endpoints on addresses of the loopback interface.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use portolan_netlink::rtnetlink::{Address, Rtnetlink};
use portolan_service::{
    ChangeSet, FrontendKind, List, PortPlan, Protocol, ServiceChange, ServicePlan, Verdict,
};

use super::on;
use crate::dataplane::{Dataplane, Difference, InUse, Integrity};
use crate::iptables::{self, Iptables};
use crate::modes::MODES;
use crate::nftables::Nftables;
use crate::tests::namespace::{loopback_up, run};
use crate::tests::plans::{CLUSTER, LOCAL, PortExt, net, port, service, settings};
use crate::userspace::wishes::SocketKey;
use crate::userspace::{Userspace, UserspaceSettings};
use crate::variant::Variant;

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long to wait for what must not come.
const SILENCE: Duration = Duration::from_millis(300);
/// The address of sockets.
const NODE: &str = "192.0.2.50";
const WEB: &str = "127.96.0.1:80";
const NODE_PORT: &str = "127.0.0.1:30080";

/// The interface, with the node's own address.
fn network() {
    loopback_up();
    let mut kernel = Rtnetlink::open().expect("a socket");
    let index = kernel.link("lo").expect("an answer").expect("every namespace has it").index;
    let network = net("192.0.2.50/32");
    kernel.add_address(&Address { index, network }).expect("a new address");
}

/// An endpoint that answers each connection and each datagram with its address.
fn endpoint(address: &'static str) {
    let (listener, socket) =
        (TcpListener::bind(address).expect("bound"), UdpSocket::bind(address).expect("bound"));
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            connection.expect("a client").write_all(address.as_bytes()).expect("written");
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(address.as_bytes(), from);
        }
    });
}

/// Who answers a connection there.
fn ask(to: &str) -> Result<String, ErrorKind> {
    let mut answer = String::new();
    let connection = TcpStream::connect_timeout(&to.parse().expect("an address"), PATIENCE);
    let read = connection.and_then(|mut connection| {
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.read_to_string(&mut answer)
    });
    read.map(|_| answer).map_err(|error| error.kind())
}

/// Who answers a datagram there.
fn ask_udp(to: &str) -> Result<String, ErrorKind> {
    let mut buffer = [0; 100];
    let client = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let asked = client.connect(to).and_then(|()| {
        client.set_read_timeout(Some(PATIENCE))?;
        client.send(b"?")?;
        client.recv(&mut buffer)
    });
    asked.map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned()).map_err(|error| error.kind())
}

fn web(endpoints: &[&str]) -> ServicePlan {
    let of = |protocol, name| {
        let port = port(name, protocol, endpoints);
        let (inside, outside) = if endpoints.is_empty() {
            (Verdict::Reject, Verdict::Reject)
        } else {
            (CLUSTER, if port.local.is_empty() { Verdict::Drop } else { LOCAL })
        };
        port.at(FrontendKind::ClusterIp, "127.96.0.1", 80, inside, inside).at(
            FrontendKind::NodePort,
            "127.0.0.1",
            30080,
            inside,
            outside,
        )
    };
    service("web", vec![of(Protocol::Tcp, "http"), of(Protocol::Udp, "dns")])
}

fn change(before: Option<&ServicePlan>, after: Option<&ServicePlan>) -> ChangeSet {
    let name = before.or(after).expect("a change").name.clone();
    let shared = |plan: Option<&ServicePlan>| plan.cloned().map(Arc::new);
    ChangeSet { services: vec![ServiceChange { name, before: shared(before), after: shared(after) }] }
}

fn new() -> Userspace {
    Userspace::new(on(NODE)).expect("a dataplane")
}

/// The settings with rules of iptables.
fn with_iptables() -> UserspaceSettings {
    let options = iptables::Options { layout: iptables::Layout::Portals, ..iptables::Options::default() };
    UserspaceSettings { iptables: Some(options), ..on(NODE) }
}

/// Where the socket of a list of the Service's first port listens.
fn socket(dataplane: &Userspace, plan: &ServicePlan, list: List) -> SocketAddr {
    let port: &PortPlan = &plan.ports[0];
    let number = dataplane.ports.assigned(&SocketKey::new(plan, port, list));
    let address = NODE.parse().expect("an address");
    let name = crate::userspace::wishes::name(plan, port, list, address, number).expect("TCP");
    dataplane.listeners.address(&name).expect("it listens")
}

#[test]
fn clients_reach_endpoints_through_sockets() {
    run("userspace::tests::kernel::clients_reach_endpoints_through_sockets", || {
        network();
        endpoint("127.1.0.1:8080");
        endpoint("127.1.0.2:8080");
        clients_reach_endpoints(on(NODE), |cluster, local| {
            format!("shop/web:http: {NODE_PORT}/tcp -> {cluster}; from outside {local}")
        });
        clients_reach_endpoints(with_iptables(), |cluster, _| {
            format!("nat KUBE-NODEPORT-HOST node 30080/tcp (shop/web:http) -> {cluster}")
        });
    });
}

/// `line`: what is listed of the NodePort, by the sockets of both lists.
fn clients_reach_endpoints(settings: UserspaceSettings, line: impl Fn(SocketAddr, SocketAddr) -> String) {
    let both = web(&["127.1.0.1:8080", "127.1.0.2:8080*"]);
    let mut dataplane = Userspace::new(settings).expect("a dataplane");
    dataplane.sync(&mut [&both].into_iter()).expect("sync");
    assert_eq!(dataplane.verify(&mut [&both].into_iter()).expect("verify"), Integrity::Intact);
    for to in [WEB, NODE_PORT] {
        let mut answers = [ask(to), ask(to)].map(|answer| answer.expect("an answer"));
        answers.sort_unstable();
        // In turn, and all frontends of a port have one turn.
        assert_eq!(answers, ["127.1.0.1:8080", "127.1.0.2:8080"], "{to}");
        assert!(ask_udp(to).is_ok(), "{to}");
    }
    // The Local list has a socket of its own, which those from outside get.
    let (cluster, local) = (socket(&dataplane, &both, List::Cluster), socket(&dataplane, &both, List::Local));
    assert_ne!(cluster, local);
    let lines = dataplane.listing().expect("listing");
    let line = line(cluster, local);
    assert!(lines.contains(&line), "{line} in {lines:#?}");
    // Nobody gets to a socket but through a frontend.
    for at in [cluster, local] {
        assert!(TcpStream::connect_timeout(&at, SILENCE).is_err(), "{at}");
    }

    let one = web(&["127.1.0.2:8080*"]);
    let outcome = dataplane.apply(&change(Some(&both), Some(&one))).expect("apply");
    assert_eq!(outcome.operations, 0, "endpoints are no rule");
    assert_eq!(socket(&dataplane, &one, List::Cluster), cluster);
    for _ in 0..4 {
        assert_eq!(ask(WEB).as_deref(), Ok("127.1.0.2:8080"));
    }

    let none = web(&[]);
    dataplane.apply(&change(Some(&one), Some(&none))).expect("apply");
    for to in [WEB, NODE_PORT] {
        assert_eq!(ask(to), Err(ErrorKind::ConnectionRefused), "{to}");
        // Where it leaves the node, sending fails.
        let refused = [ErrorKind::PermissionDenied, ErrorKind::ConnectionRefused];
        assert!(ask_udp(to).is_err_and(|error| refused.contains(&error)), "{to}");
    }
    dataplane.apply(&change(Some(&none), Some(&both))).expect("apply");
    assert!(ask(WEB).is_ok());
    dataplane.apply(&change(Some(&both), None)).expect("apply");
    assert_eq!(dataplane.verify(&mut std::iter::empty()).expect("verify"), Integrity::Intact);
    assert_eq!(dataplane.listing().expect("listing"), Vec::<String>::new());
    dataplane.cleanup().expect("cleanup");
    for mode in MODES {
        let left = (mode.find_own)(InUse::default()).expect("a look");
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn another_mode_takes_over_and_back() {
    run("userspace::tests::kernel::another_mode_takes_over_and_back", || {
        network();
        endpoint("127.1.0.1:8080");
        let plan = web(&["127.1.0.1:8080*"]);
        let plans = || [&plan].into_iter();
        let mut kernel = Nftables::new(settings()).expect("a dataplane");
        kernel.sync(&mut plans()).expect("sync");
        let translated = kernel.listing().expect("listing");
        assert_eq!(ask(WEB).as_deref(), Ok("127.1.0.1:8080"));

        let mut dataplane = new();
        let preview = dataplane.preview(&mut plans()).expect("preview");
        let changed = preview.iter().all(|line| matches!(line, Difference::Changed(_)));
        assert!(preview.len() == 4 && changed, "{preview:?}");
        dataplane.sync(&mut plans()).expect("sync");
        assert_eq!(ask(WEB).as_deref(), Ok("127.1.0.1:8080"));
        assert_ne!(dataplane.listing().expect("listing"), translated);
        // What an earlier process left is taken to stay as it is.
        assert_eq!(new().preview(&mut plans()).expect("preview"), []);
        let fewer = service("web", vec![plan.ports[0].clone()]);
        let gone = new().preview(&mut [&fewer].into_iter()).expect("preview");
        let gone: Vec<String> = gone.iter().map(ToString::to_string).collect();
        assert_eq!(gone, ["- shop/web:dns 127.0.0.1 udp 30080", "- shop/web:dns 127.96.0.1 udp 80"]);

        kernel.sync(&mut plans()).expect("sync");
        assert_eq!(kernel.listing().expect("listing"), translated);
        drop(dataplane);
        assert_eq!(ask(WEB).as_deref(), Ok("127.1.0.1:8080"));
    });
}

#[test]
fn diversions_take_over_from_each_other_and_from_mode_iptables() {
    run("userspace::tests::kernel::diversions_take_over_from_each_other_and_from_mode_iptables", || {
        network();
        endpoint("127.1.0.1:8080");
        let plan = web(&["127.1.0.1:8080*"]);
        let plans = || [&plan].into_iter();
        let options = iptables::Options { localhost_node_ports: true, ..iptables::Options::default() };
        let kernel = || Box::new(Iptables::new(&settings(), &options).expect("a dataplane"));
        let userspace = |settings| Box::new(Userspace::new(settings).expect("a dataplane"));
        let in_turn: [(&str, Box<dyn Dataplane>); 5] = [
            ("mode iptables", kernel()),
            ("chains", userspace(with_iptables())),
            ("tables", userspace(on(NODE))),
            ("chains again", userspace(with_iptables())),
            ("mode iptables again", kernel()),
        ];
        let mut before: Option<Box<dyn Dataplane>> = None;
        for (name, mut dataplane) in in_turn {
            // Sockets are handed over, so that connections to them go on.
            if let Some(listeners) = before.as_mut().and_then(|before| before.listeners())
                && let Some(new) = dataplane.listeners()
            {
                *new = std::mem::take(listeners);
            }
            assert_ne!(dataplane.preview(&mut plans()).expect("preview"), [], "{name}");
            dataplane.sync(&mut plans()).expect("sync");
            assert_eq!(ask(WEB).as_deref(), Ok("127.1.0.1:8080"), "{name}, beside what was before");
            for mode in MODES {
                (mode.remove_own)(dataplane.in_use()).expect("removed");
            }
            assert_eq!(ask(WEB).as_deref(), Ok("127.1.0.1:8080"), "{name}");
            assert!(ask_udp(WEB).is_ok(), "{name}");
            assert_eq!(dataplane.verify(&mut plans()).expect("verify"), Integrity::Intact, "{name}");
            assert_eq!(dataplane.preview(&mut plans()).expect("preview"), [], "{name}");
            before = Some(dataplane);
        }
    });
}

/// What kube-proxy 1.25 writes for a ClusterIP and a NodePort (U5).
const OF_KUBE_PROXY: &str = "\
*nat
:KUBE-PORTALS-CONTAINER - [0:0]
:KUBE-PORTALS-HOST - [0:0]
:KUBE-NODEPORT-CONTAINER - [0:0]
:KUBE-NODEPORT-HOST - [0:0]
-I PREROUTING -m comment --comment \"handle ClusterIPs; NOTE: this must be before the NodePort rules\" -j KUBE-PORTALS-CONTAINER
-I OUTPUT -m comment --comment \"handle ClusterIPs; NOTE: this must be before the NodePort rules\" -j KUBE-PORTALS-HOST
-A PREROUTING -m addrtype --dst-type LOCAL -m comment --comment \"handle service NodePorts; NOTE: this must be the last rule in the chain\" -j KUBE-NODEPORT-CONTAINER
-A OUTPUT -m addrtype --dst-type LOCAL -m comment --comment \"handle service NodePorts; NOTE: this must be the last rule in the chain\" -j KUBE-NODEPORT-HOST
-A KUBE-PORTALS-CONTAINER -m comment --comment shop/web:http -p tcp -m tcp --dport 80 -d 127.96.0.1/32 -j REDIRECT --to-ports 41234
-A KUBE-PORTALS-HOST -m comment --comment shop/web:http -p tcp -m tcp --dport 80 -d 127.96.0.1/32 -j DNAT --to-destination 192.0.2.50:41234
-A KUBE-NODEPORT-CONTAINER -m comment --comment shop/web:http -p tcp -m tcp --dport 30080 -j REDIRECT --to-ports 41234
-A KUBE-NODEPORT-HOST -m comment --comment shop/web:http -p tcp -m tcp --dport 30080 -j DNAT --to-destination 192.0.2.50:41234
COMMIT
*filter
:KUBE-NODEPORT-NON-LOCAL - [0:0]
-I INPUT -m comment --comment \"Ensure that non-local NodePort traffic can flow\" -j KUBE-NODEPORT-NON-LOCAL
-A KUBE-NODEPORT-NON-LOCAL -m comment --comment shop/web:http -p tcp -m tcp --dport 41234 -m state --state NEW -j ACCEPT
COMMIT
";

#[test]
fn chains_of_kube_proxy_give_way() {
    run("userspace::tests::kernel::chains_of_kube_proxy_give_way", || {
        network();
        endpoint("127.1.0.1:8080");
        for variant in ["nft", "legacy"] {
            let mut restore = Command::new(format!("iptables-{variant}-restore"))
                .arg("--noflush")
                .stdin(Stdio::piped())
                .spawn()
                .expect("iptables is installed");
            restore.stdin.take().expect("a pipe").write_all(OF_KUBE_PROXY.as_bytes()).expect("it reads");
            assert!(restore.wait().expect("it ends").success(), "{variant}");
            assert_eq!(ask(WEB), Err(ErrorKind::ConnectionRefused), "{variant}: kube-proxy has ended");
            let plan = web(&["127.1.0.1:8080*"]);
            let mut dataplane = Userspace::new(with_iptables()).expect("a dataplane");
            let of_variant = dataplane.in_use().iptables.v4.expect("IPv4 is served");
            assert_eq!(of_variant == Variant::Legacy, variant == "legacy", "the host's own");
            dataplane.sync(&mut [&plan].into_iter()).expect("sync");
            for to in [WEB, NODE_PORT] {
                assert_eq!(ask(to).as_deref(), Ok("127.1.0.1:8080"), "{variant}: {to}");
            }
            let listing = dataplane.listing().expect("listing");
            assert!(!listing.iter().any(|line| line.contains("41234")), "{variant}: {listing:#?}");
            assert_eq!(dataplane.preview(&mut [&plan].into_iter()).expect("preview"), [], "{variant}");
            dataplane.cleanup().expect("cleanup");
        }
    });
}

#[test]
fn what_an_earlier_process_left_of_chains_is_taken_to_stay() {
    run("userspace::tests::kernel::what_an_earlier_process_left_of_chains_is_taken_to_stay", || {
        network();
        let plan = web(&["127.1.0.1:8080", "127.1.0.2:8080*"]);
        Userspace::new(with_iptables()).expect("a dataplane").sync(&mut [&plan].into_iter()).expect("sync");
        let preview = |plan: &ServicePlan| {
            let mut next = Userspace::new(with_iptables()).expect("a dataplane");
            next.preview(&mut [plan].into_iter()).expect("preview")
        };
        assert_eq!(preview(&plan), []);
        let fewer = service("web", vec![plan.ports[0].clone()]);
        let gone = preview(&fewer);
        let removed = gone.iter().all(|line| {
            matches!(line, Difference::Removed(what) if what.contains("shop/web:dns") || what.contains("chain KUBE-EXT-"))
        });
        assert!(removed && gone.len() > 5, "{gone:#?}");
    });
}

#[test]
fn ports_come_from_the_range() {
    run("userspace::tests::kernel::ports_come_from_the_range", || {
        network();
        endpoint("127.1.0.1:8080");
        let one = |name: &str, address: &str| {
            let port = port("http", Protocol::Tcp, &["127.1.0.1:8080"]).cluster_ip(address);
            service(name, vec![port])
        };
        let plans = [one("a", "127.96.0.1"), one("b", "127.96.0.2"), one("c", "127.96.0.3")];
        // The first is somebody else's.
        let theirs = TcpListener::bind((NODE, 41_000)).expect("bound");
        let settings = UserspaceSettings { ports: Some(41_000..=41_002), ..on(NODE) };
        let mut dataplane = Userspace::new(settings).expect("a dataplane");
        dataplane.sync(&mut plans.iter()).expect("sync");
        assert_eq!(socket(&dataplane, &plans[0], List::Cluster).port(), 41_001);
        assert_eq!(socket(&dataplane, &plans[1], List::Cluster).port(), 41_002);
        assert_eq!(ask("127.96.0.2:80").as_deref(), Ok("127.1.0.1:8080"));
        assert_eq!(ask("127.96.0.3:80"), Err(ErrorKind::ConnectionRefused), "no port is left");
        let lack = "all ports of 41000-41002 are taken, so shop/c:http tcp/IPv4 is not served: give a larger \
                    --proxy-port-range";
        assert_eq!(dataplane.unserved(), [lack]);
        // A port that is given back goes to whoever comes next.
        dataplane.apply(&change(Some(&plans[0]), None)).expect("apply");
        dataplane.sync(&mut plans[1..].iter()).expect("sync");
        assert_eq!(socket(&dataplane, &plans[2], List::Cluster).port(), 41_001);
        assert_eq!(socket(&dataplane, &plans[1], List::Cluster).port(), 41_002);
        assert_eq!(ask("127.96.0.3:80").as_deref(), Ok("127.1.0.1:8080"));
        assert_eq!(dataplane.unserved(), Vec::<String>::new());
        drop(theirs);
    });
}

#[test]
fn sockets_keep_their_ports_in_the_next_dataplane() {
    run("userspace::tests::kernel::sockets_keep_their_ports_in_the_next_dataplane", || {
        network();
        endpoint("127.1.0.1:8080");
        let plan = service("web", vec![web(&["127.1.0.1:8080"]).ports.remove(0)]);
        // There is none to spare.
        let settings = crate::userspace::UserspaceSettings { ports: Some(41_000..=41_000), ..on(NODE) };
        let mut before = Userspace::new(settings.clone()).expect("a dataplane");
        before.sync(&mut [&plan].into_iter()).expect("sync");
        assert_eq!(ask(WEB).as_deref(), Ok("127.1.0.1:8080"));

        let mut after = Userspace::new(settings).expect("a dataplane");
        after.listeners = std::mem::take(&mut before.listeners);
        drop(before);
        after.sync(&mut [&plan].into_iter()).expect("sync");
        assert_eq!(after.unserved(), Vec::<String>::new());
        assert_eq!(socket(&after, &plan, List::Cluster).port(), 41_000);
        assert_eq!(ask(WEB).as_deref(), Ok("127.1.0.1:8080"));
    });
}
