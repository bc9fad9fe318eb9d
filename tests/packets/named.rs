//! `portolan run --dns`: names are answered on host1, and by a pod of the DNS Service for everybody
//! else.
//!
//! Who answered shows in the TTL, which the Corefiles have different.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use portolan_lab::netns::Namespace;
use portolan_netfilter::conntrack::Conntrack;
use portolan_netfilter::nft::TableFamily;
use portolan_service::{Family, Protocol};
use portolan_tests::ask;
use portolan_tests::manifests::{ServiceManifest, slice};
use portolan_tests::proxy::{Launch, Proxy};
use portolan_tests::site::{self, Site};

use crate::case::{Mode, Setting};
use crate::fixture::{self, HOST1, underlay};
use crate::scene::{cluster_ip, endpoint, eventually, plain, when_busy};

/// Who answered, by the TTL of its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// The proxy of host1.
    Here,
    /// The pod of the Service.
    There,
}

/// That of kubeadm's Corefile.
const TTL_HERE: u32 = 30;
const TTL_THERE: u32 = 20;
/// The number of the DNS Service's address.
const DNS: u8 = 53;
const PORT: u16 = 53;
/// Where another server of the node answers.
const OTHER: u16 = 8088;
/// Where the proxy has its metrics.
const METRICS: u16 = 10_249;
/// How soon what was written must be so.
const SOON: Duration = Duration::from_secs(10);
/// An answer takes less than a millisecond; a question that is lost is noticed after this.
const LOST: Duration = Duration::from_secs(2);
/// Between two questions of a busy node.
const RATE: Duration = Duration::from_micros(500);
/// How many are asked while a process is killed.
const STEADY: u32 = 1000;
/// For so long questions may come that a killed process does not answer any more. On a quiet
/// machine it is some milliseconds.
const IN_HAND: Duration = Duration::from_millis(100);
/// How often the proxy ends and starts again while questions are asked.
const RESTARTS: usize = 4;

/// A DNS Service, with its pod on host2, and the proxy of host1 that answers in its place.
struct Scene {
    site: Site,
    launch: Launch,
    there: Option<Child>,
}

impl Scene {
    /// Once the pod answers. No proxy runs on host1 yet.
    fn new(mode: Mode) -> anyhow::Result<Scene> {
        let mut site = Site::build(&fixture::plan())?;
        let manifests = site.manifests();
        let addresses = Family::ALL.map(|family| cluster_ip(DNS, family));
        let service = ServiceManifest::new("kube-dns", &addresses);
        let service = service.port("dns", Protocol::Udp, PORT).port("dns-tcp", Protocol::Tcp, PORT);
        manifests.write("web", &[plain("web", 1).object()])?;
        manifests.write("kube-dns", &[service.object()])?;
        let ports = [("dns", Protocol::Udp, PORT), ("dns-tcp", Protocol::Tcp, PORT)];
        let slices = Family::ALL.map(|family| {
            let name = format!("kube-dns-{}", family.to_string().to_lowercase());
            slice(&name, "kube-dns", family, &ports, &[endpoint("b1", family)])
        });
        manifests.write("kube-dns-slices", &slices)?;
        let corefile = site.manifests().path().with_file_name("Corefile");
        let text = format!(".:53 {{\nkubernetes cluster.local {{\nttl {TTL_THERE}\n}}\nready\n}}\n");
        std::fs::write(&corefile, text)?;
        let mut command = Command::new(site::binary());
        command.arg("dns").arg("--manifests").arg(manifests.path()).arg("--conf").arg(&corefile);
        command.args(["--state-dir", ""]).stdin(Stdio::null()).stdout(Stdio::null());
        let there = Some(site.pod("b1").spawn(&mut command)?);
        site.start_proxy("host2", mode.flags(Setting::Default))?;
        let flags = mode.flags(Setting::Default).chain(["--dns", "--dns-service=default/kube-dns"]);
        let launch = site.launch("host1", flags);
        let scene = Scene { site, launch, there };
        for family in Family::ALL {
            scene.becomes("client-b", family, Who::There)?;
        }
        Ok(scene)
    }

    fn client(&self, name: &str) -> &Namespace {
        if name.starts_with("host") { self.site.node(name) } else { self.site.pod(name) }
    }

    /// A proxy on host1, once names are answered there.
    fn start(&self) -> anyhow::Result<Proxy> {
        let proxy = self.launch.start(self.site.node("host1"))?;
        proxy.wait_for_log("names are answered on this node", SOON)?;
        Ok(proxy)
    }

    /// Asks over UDP from `client` until it is answered by `who`.
    fn becomes(&self, client: &str, family: Family, who: Who) -> anyhow::Result<()> {
        let to = SocketAddr::new(cluster_ip(DNS, family), PORT);
        let becomes = || {
            eventually(SOON, || match datagram(to, ask::SILENCE) {
                Ok(Some((answered, _))) if answered == who => Ok(()),
                other => Err(format!("{other:?}")),
            })
        };
        self.client(client).run(becomes)?.map_err(|last| anyhow::anyhow!("{client}: {to}: still {last}"))
    }

    /// Each of these clients is answered by this one, over UDP and TCP, in both families.
    fn answered(&self, when: &str, expected: &[(&str, Who)]) -> anyhow::Result<()> {
        for (client, who) in expected {
            for family in Family::ALL {
                let to = SocketAddr::new(cluster_ip(DNS, family), PORT);
                let (udp, tcp) = self.client(client).run(|| (resolved(to), connection(to)))?;
                let udp = udp?.map(|(who, _)| who);
                ensure!(udp == Some(*who), "{when}: {client} over UDP {family}: {udp:?}");
                let tcp = tcp.with_context(|| format!("{when}: {client} over TCP {family}"))?;
                ensure!(tcp == *who, "{when}: {client} over TCP {family}: {tcp:?}");
            }
        }
        Ok(())
    }

    /// Entries of connection tracking on host1 for what was sent to the DNS Service.
    fn tracked(&self) -> anyhow::Result<usize> {
        Ok(self.site.node("host1").run(|| {
            let mut count = 0;
            for family in Family::ALL {
                let table = if family == Family::V4 { TableFamily::Ip } else { TableFamily::Ip6 };
                let to = Some((cluster_ip(DNS, family), PORT));
                Conntrack::open()?.udp_flows(table, to, |_| count += 1)?;
            }
            Ok::<_, std::io::Error>(count)
        })??)
    }

    fn stop_there(&mut self) {
        if let Some(mut there) = self.there.take() {
            let _ = there.kill();
            let _ = there.wait();
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.stop_there();
    }
}

/// Pods of the node and the node itself are answered on it, whatever becomes of the Service's pods,
/// until the proxy ends; nothing is left of it then.
pub(crate) fn answered_on_the_node(mode: Mode) -> anyhow::Result<()> {
    let mut scene = Scene::new(mode)?;
    let mut proxy = scene.start()?;
    let here = [("client-a", Who::Here), ("host1", Who::Here)];
    let there = [("client-a", Who::There), ("host1", Who::There)];
    scene.answered("started", &here)?;
    scene.answered("of the other node", &[("client-b", Who::There)])?;
    ensure!(scene.tracked()? == 0, "{} entries of connection tracking", scene.tracked()?);

    let metrics = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), METRICS);
    let (_, text) = scene.client("host1").run(|| ask::http_get(metrics, "/metrics", SOON))??;
    for family in Family::ALL {
        let line = format!("portolan_dns_node_address{{address=\"{}\"}} 1", cluster_ip(DNS, family));
        ensure!(text.lines().any(|found| found == line), "no {line} in:\n{text}");
    }
    ensure!(text.contains("\ncoredns_dns_requests_total{"), "nothing was counted:\n{text}");

    // From the same state as the rules.
    scene.site.manifests().write("web", &[plain("web", 2).object()])?;
    let to = SocketAddr::new(cluster_ip(DNS, Family::V4), PORT);
    scene.client("client-a").run(|| {
        eventually(SOON, || match datagram(to, ask::SILENCE) {
            Ok(Some((_, address))) if address == cluster_ip(2, Family::V4) => Ok(()),
            other => bail!("the changed Service: {other:?}"),
        })
    })??;

    end(&mut proxy)?;
    scene.answered("ended", &there)?;
    let mut proxy = scene.start()?;
    scene.answered("started again", &here)?;
    proxy.kill();
    scene.answered("killed", &there)?;
    let (code, said) = scene.launch.cleanup(scene.site.node("host1"))?;
    ensure!(code == Some(0) && said.contains("removed local routes of the cluster's DNS"), "{said}");
    let (_, said) = scene.launch.cleanup(scene.site.node("host1"))?;
    ensure!(said.contains("nothing of Portolan's is left"), "{said}");

    let proxy = scene.start()?;
    scene.stop_there();
    scene.answered("the Service's pod has ended", &here)?;
    scene.site.manifests().remove("kube-dns-slices")?;
    scene.site.manifests().write("web", &[plain("web", 1).object()])?;
    scene.becomes("client-a", Family::V4, Who::Here)?;
    scene.answered("the Service has no endpoint", &here)?;
    scene.site.manifests().remove("kube-dns")?;
    proxy.wait_for_log("names are not answered on this node any more", SOON)?;
    for family in Family::ALL {
        let to = SocketAddr::new(cluster_ip(DNS, family), PORT);
        let outcome = scene.client("client-a").run(|| datagram(to, ask::SILENCE))?;
        ensure!(!matches!(outcome, Ok(Some(_))), "the Service is gone: {outcome:?}");
    }
    Ok(())
}

/// A Corefile that cannot be used costs no rule, and is used once it can be.
pub(crate) fn a_bad_corefile_costs_no_rule(mode: Mode) -> anyhow::Result<()> {
    let mut scene = Scene::new(mode)?;
    let corefile = scene.site.manifests().path().with_file_name("Corefile-of-the-node");
    std::fs::write(&corefile, ".:53 {\nnonsense\n}\n")?;
    scene.launch.flags.push(format!("--dns-conf={}", corefile.display()));
    let mut proxy = scene.launch.start(scene.site.node("host1"))?;
    proxy.wait_for_log("names are not answered on this node, and the DNS Service answers", SOON)?;
    scene.answered("a bad Corefile", &[("client-a", Who::There), ("host1", Who::There)])?;
    std::fs::write(&corefile, format!(".:53 {{\nkubernetes cluster.local {{\nttl {TTL_HERE}\n}}\n}}\n"))?;
    proxy.wait_for_log("the Corefile can be used now", SOON)?;
    proxy.kill();
    let _proxy = scene.start()?;
    scene.answered("a good one", &[("client-a", Who::Here), ("host1", Who::Here)])
}

/// What the node has is left as it is: its own addresses, and other servers on it are not reached
/// at the addresses of the DNS Service.
pub(crate) fn what_others_have_stays(mode: Mode) -> anyhow::Result<()> {
    let mut scene = Scene::new(mode)?;
    let own = underlay(HOST1, Family::V4);
    scene.launch.flags.push(format!("--dns-address={own}"));
    let mut proxy = scene.start()?;
    proxy.wait_for_log("is an address of this node already", SOON)?;
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), OTHER);
    let _other = scene.site.respond_on_node("host1", "other", any)?;
    let at = |address| SocketAddr::new(address, OTHER);
    let ask = |to| scene.client("client-a").run(move || ask::ask(Protocol::Tcp, to, None, ask::PATIENCE));
    ensure!(ask(at(own))?.pod() == Some("other"), "the node's own address");
    let outcome = ask(at(cluster_ip(DNS, Family::V4)))?;
    ensure!(outcome.pod().is_none(), "the DNS Service's address: {outcome}");
    end(&mut proxy)?;
    ensure!(ask(at(own))?.pod() == Some("other"), "the node's own address, afterwards");
    Ok(())
}

/// Whoever asks all the time is answered all the time, whether the proxy ends or is killed, and
/// starts again.
pub(crate) fn no_question_is_lost(mode: Mode) -> anyhow::Result<()> {
    let scene = Scene::new(mode)?;
    // The rules of Services stay.
    end(&mut scene.start()?)?;
    let asked = while_asking(&scene, || {
        for _ in 0..RESTARTS {
            let mut proxy = scene.start()?;
            for family in Family::ALL {
                scene.becomes("client-a", family, Who::Here)?;
            }
            end(&mut proxy)?;
        }
        Ok(())
    })?;
    for (client, Asked { here, there, lost }) in asked {
        // While a client waits for an answer that is lost, it asks nobody.
        ensure!((here > 0 && there > 0) || lost > 0, "{client}: {here} here, {there} there");
        // Those that the Service answers pass translation, where the kernel loses one now and then.
        ensure!(lost <= 1, "{client}: {lost} of {} pairs of questions were lost", here + there + lost);
    }
    // What a killed process had in hand is lost, and nothing after it.
    for _ in 0..RESTARTS {
        let mut proxy = scene.start()?;
        let to = SocketAddr::new(cluster_ip(DNS, Family::V4), PORT);
        let client = scene.client("client-a");
        let lost = thread::scope(|scope| {
            let (began, begin) = mpsc::channel();
            let asking = scope.spawn(move || client.run(move || steadily(to, &began)));
            begin.recv().context("nobody asks")?;
            proxy.kill();
            asking.join().expect("a client does not panic")?
        })?;
        let in_hand = RATE.saturating_mul(u32::try_from(lost)?);
        println!("{}: killed: {lost} questions of {in_hand:?} were lost", mode.name());
        ensure!(in_hand < when_busy(IN_HAND), "{lost} questions of {in_hand:?} were lost");
    }
    Ok(())
}

/// Asks [`STEADY`] questions at [`RATE`], and says so once half of them are. Returns how many were
/// not answered.
fn steadily(to: SocketAddr, began: &mpsc::Sender<()>) -> anyhow::Result<usize> {
    let socket = socket(to)?;
    socket.set_nonblocking(true)?;
    let mut answered = 0;
    let start = Instant::now();
    for number in 0..STEADY {
        thread::sleep((start + RATE * number).saturating_duration_since(Instant::now()));
        socket.send(&question(1, 1))?;
        while socket.recv(&mut [0; 512]).is_ok() {
            answered += 1;
        }
        if number == STEADY / 2 {
            began.send(())?;
        }
    }
    let end = Instant::now() + when_busy(LOST);
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(ask::SILENCE))?;
    let all = usize::try_from(STEADY)?;
    while answered < all && Instant::now() < end && socket.recv(&mut [0; 512]).is_ok() {
        answered += 1;
    }
    Ok(all - answered)
}

#[derive(Debug, Default)]
struct Asked {
    here: usize,
    there: usize,
    lost: usize,
}

/// Pairs of questions from one port, over and over, while `act` does something.
fn while_asking(
    scene: &Scene,
    act: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Vec<(&'static str, Asked)>> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients = [("client-a", Family::V4), ("client-a", Family::V6), ("host1", Family::V4)];
        let clients = clients.map(|(client, family)| {
            let to = SocketAddr::new(cluster_ip(DNS, family), PORT);
            let (namespace, stop) = (scene.client(client), &stop);
            (client, scope.spawn(move || namespace.run(move || pairs(to, stop))))
        });
        let acted = act();
        stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for (client, asking) in clients {
            all.push((client, asking.join().expect("a client does not panic")??));
        }
        acted.map(|()| all)
    })
}

fn pairs(to: SocketAddr, stop: &AtomicBool) -> anyhow::Result<Asked> {
    let mut asked = Asked::default();
    while !stop.load(Ordering::Relaxed) {
        let socket = socket(to)?;
        socket.set_read_timeout(Some(when_busy(LOST)))?;
        socket.send(&question(1, 1))?;
        // A refusal of the first question shows here.
        let _ = socket.send(&question(2, 28));
        let mut answers = [None; 2];
        for _ in 0..2 {
            let mut buffer = [0; 512];
            let Ok(length) = socket.recv(&mut buffer) else { break };
            let Some(number) = buffer[1].checked_sub(1).filter(|number| *number < 2) else { break };
            answers[usize::from(number)] = Some(answer(&buffer[..length])?.0);
        }
        match answers {
            [Some(Who::Here), Some(_)] => asked.here += 1,
            [Some(_), Some(_)] => asked.there += 1,
            _ => asked.lost += 1,
        }
    }
    Ok(asked)
}

/// Ends it as an operator does, and waits for that.
fn end(proxy: &mut Proxy) -> anyhow::Result<()> {
    let code = proxy.end().context("ending the proxy")?;
    ensure!(code == Some(0), "it ended with {code:?}:\n{}", proxy.last_lines());
    Ok(())
}

/// Who answers, and the address of `web`. `None`: nobody, within `patience`.
fn datagram(to: SocketAddr, patience: Duration) -> anyhow::Result<Option<(Who, IpAddr)>> {
    let socket = socket(to)?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(&question(1, 1))?;
    let mut buffer = [0; 512];
    match socket.recv(&mut buffer) {
        Ok(length) => answer(&buffer[..length]).map(Some),
        Err(_) => Ok(None),
    }
}

/// Asks again when no answer comes, as resolvers do. That no question is lost has a test of its
/// own.
fn resolved(to: SocketAddr) -> anyhow::Result<Option<(Who, IpAddr)>> {
    for _ in 0..3 {
        let answer = datagram(to, Duration::from_secs(5))?;
        if answer.is_some() {
            return Ok(answer);
        }
    }
    Ok(None)
}

fn connection(to: SocketAddr) -> anyhow::Result<Who> {
    let mut stream = TcpStream::connect_timeout(&to, ask::PATIENCE)?;
    stream.set_read_timeout(Some(ask::PATIENCE))?;
    let question = question(1, 1);
    let length = u16::try_from(question.len())?.to_be_bytes();
    stream.write_all(&[&length[..], &question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(answer(&message)?.0)
}

fn socket(to: SocketAddr) -> anyhow::Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    Ok(socket)
}

/// `web.default.svc.cluster.local` with this id and type (RFC 1035 §4.1).
fn question(id: u8, kind: u8) -> Vec<u8> {
    let mut message = vec![0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["web", "default", "svc", "cluster", "local"] {
        message.push(label.len().try_into().expect("a short label"));
        message.extend(label.bytes());
    }
    message.extend([0, 0, kind, 0, 1]);
    message
}

/// Who gave it, and the address of its first record.
fn answer(message: &[u8]) -> anyhow::Result<(Who, IpAddr)> {
    ensure!(message.len() > 12 && message[7] > 0, "no answer: {message:?}");
    let rcode = message[3] & 0xf;
    ensure!(rcode == 0, "rcode {rcode}");
    // A compressed name, type and class come before it.
    let record = question(0, 0).len() + 6;
    let rest = message.get(record..).context("cut short")?;
    let (ttl, rest) = rest.split_first_chunk().context("cut short")?;
    let who = match u32::from_be_bytes(*ttl) {
        TTL_HERE => Who::Here,
        TTL_THERE => Who::There,
        other => bail!("a TTL of {other}"),
    };
    let address = match rest {
        [0, 4, octets @ ..] => IpAddr::from(*octets.first_chunk::<4>().context("cut short")?),
        [0, 16, octets @ ..] => IpAddr::from(*octets.first_chunk::<16>().context("cut short")?),
        _ => bail!("no address: {rest:?}"),
    };
    Ok((who, address))
}
