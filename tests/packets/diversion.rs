//! What is sent to a Service's address stays on the node while somebody there answers, without
//! connection tracking, and goes to the Service otherwise: no question is lost in between.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use portolan_dataplane::Diversion;
use portolan_lab::netns::Namespace;
use portolan_lab::responder::Answer;
use portolan_netfilter::conntrack::Conntrack;
use portolan_netfilter::nft::TableFamily;
use portolan_service::{Family, Protocol};
use portolan_tests::ask::{self, Flow, Outcome};
use socket2::{Domain, SockRef, Socket, Type};

use crate::case::Mode;
use crate::fixture::{HOST1, PORT, underlay};
use crate::scene::{PLAIN, Scene, cluster_ip, plain};

/// Who answers on the node, and who in the Service.
const HERE: &str = "here";
const THERE: &str = "b1";
/// Pairs of questions.
const PAIRS: usize = 1000;
/// How often packets begin and end to stay on the node, and how long each time.
const SWITCHES: usize = 40;
const STAY: Duration = Duration::from_millis(25);

/// A Service with an endpoint on host2, and what answers in its place on host1.
struct Site {
    scene: Scene,
    to: SocketAddr,
}

impl Site {
    fn new(mode: Mode, family: Family) -> anyhow::Result<Site> {
        let scene = Scene::new(mode)?;
        scene.service("web", &plain("web", 1))?;
        scene.endpoints("web", PLAIN, &[THERE])?;
        scene.settle()?;
        // A server sets IPV6_FREEBIND; the one of these tests does not.
        scene.site.node("host1").sysctl("net.ipv6.ip_nonlocal_bind", "1")?;
        Ok(Site { scene, to: SocketAddr::new(cluster_ip(1, family), PORT) })
    }

    fn host1(&self) -> &Namespace {
        self.scene.site.node("host1")
    }

    /// Nothing is diverted yet.
    fn diversion(&self) -> anyhow::Result<Diversion> {
        let (address, source) = (self.to.ip(), underlay(HOST1, Family::of(self.to.ip())));
        Ok(self.host1().run(move || {
            let mut diversion = Diversion::new(PORT)?;
            diversion.prepare(address, Some(source))?;
            Ok::<_, portolan_dataplane::Error>(diversion)
        })??)
    }

    fn only(&self) -> BTreeSet<IpAddr> {
        BTreeSet::from([self.to.ip()])
    }

    /// Who answers each of these clients, over UDP and TCP.
    fn answers(&self, when: &str, expected: [(&str, &str); 3]) -> anyhow::Result<()> {
        for (client, pod) in expected {
            let namespace = self.client(client);
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                let to = self.to;
                let outcome = namespace.run(move || ask::ask(protocol, to, None, ask::PATIENCE))?;
                ensure!(outcome.pod() == Some(pod), "{when}: {client} over {protocol}: {outcome}");
            }
        }
        Ok(())
    }

    fn client(&self, name: &str) -> &Namespace {
        if name.starts_with("host") { self.scene.site.node(name) } else { self.scene.site.pod(name) }
    }

    /// Entries of connection tracking on host1 for what was sent to the address.
    fn tracked(&self) -> anyhow::Result<usize> {
        let to = self.to;
        Ok(self.host1().run(move || {
            let family = if to.is_ipv4() { TableFamily::Ip } else { TableFamily::Ip6 };
            let mut count = 0;
            Conntrack::open()?.udp_flows(family, Some((to.ip(), to.port())), |_| count += 1)?;
            Ok::<_, std::io::Error>(count)
        })??)
    }
}

/// Pods of the node and the node itself are answered on it, others are not; pairs of questions from
/// one port are never lost, and leave no entry.
pub(crate) fn without_connection_tracking(mode: Mode, family: Family) -> anyhow::Result<()> {
    let site = Site::new(mode, family)?;
    let mut diversion = site.diversion()?;
    let _here = site.scene.site.respond_on_node("host1", HERE, site.to)?;
    let all_there = [("client-a", THERE), ("host1", THERE), ("client-b", THERE)];
    site.answers("prepared", all_there)?;
    diversion.divert(&site.only())?;
    site.answers("diverted", [("client-a", HERE), ("host1", HERE), ("client-b", THERE)])?;

    let tracked = site.tracked()?;
    for client in ["client-a", "host1"] {
        let to = site.to;
        let lost = site.client(client).run(move || pairs(to))??;
        ensure!(lost == 0, "{client}: {lost} of {PAIRS} pairs of questions were not both answered");
    }
    ensure!(site.tracked()? <= tracked, "{} entries, {tracked} before", site.tracked()?);

    diversion.divert(&BTreeSet::new())?;
    site.answers("not diverted any more", all_there)?;
    diversion.divert(&site.only())?;
    diversion.forget(site.to.ip())?;
    site.answers("forgotten", all_there)?;
    drop(diversion);
    let mut diversion = site.diversion()?;
    diversion.divert(&site.only())?;
    drop(diversion);
    site.answers("whoever diverted has ended", all_there)?;
    let left = site.host1().run(Diversion::clean_up)??;
    ensure!(left == [site.to.ip()], "routes to {left:?} were left");
    ensure!(site.host1().run(Diversion::clean_up)??.is_empty(), "they are removed");
    site.answers("cleaned up", all_there)
}

/// Whoever asks over UDP all the time is answered all the time, while packets begin and end to stay
/// on the node.
pub(crate) fn no_question_is_lost(mode: Mode, family: Family) -> anyhow::Result<()> {
    let site = Site::new(mode, family)?;
    let mut diversion = site.diversion()?;
    let _here = site.scene.site.respond_on_node("host1", HERE, site.to)?;
    let stop = AtomicBool::new(false);
    let (asked, switched) = thread::scope(|scope| {
        let clients = ["client-a", "host1"].map(|client| {
            let (namespace, stop, to) = (site.client(client), &stop, site.to);
            scope.spawn(move || namespace.run(move || stream(to, stop)))
        });
        let mut switch = || -> anyhow::Result<()> {
            for _ in 0..SWITCHES {
                diversion.divert(&site.only())?;
                // Not for anything to happen: questions are asked all the time.
                thread::sleep(STAY);
                diversion.divert(&BTreeSet::new())?;
                thread::sleep(STAY);
            }
            Ok(())
        };
        let switched = switch();
        stop.store(true, Ordering::Relaxed);
        (clients.map(|client| client.join().expect("a client does not panic")), switched)
    });
    switched?;
    for asked in asked {
        let (count, failures) = asked?;
        ensure!(count[0] > SWITCHES && count[1] > SWITCHES, "answers here and there: {count:?}");
        ensure!(failures.is_empty(), "{} of {count:?} failed: {failures:?}", failures.len());
    }
    Ok(())
}

/// A connection goes on where it began, and a new one from the same port where it should.
pub(crate) fn connections_stay(mode: Mode, family: Family) -> anyhow::Result<()> {
    let site = Site::new(mode, family)?;
    let mut diversion = site.diversion()?;
    let _here = site.scene.site.respond_on_node("host1", HERE, site.to)?;
    for client in ["client-a", "host1"] {
        let open = || site.client(client).run(|| Connection::open(site.to, None))?;
        let mut there = open()?;
        ensure!(there.ask()? == THERE, "{client}: not diverted yet");
        diversion.divert(&site.only())?;
        ensure!(there.ask()? == THERE, "{client}: it began there, and questions are diverted now");
        let mut here = open()?;
        ensure!(here.ask()? == HERE, "{client}: diverted");
        diversion.divert(&BTreeSet::new())?;
        ensure!(here.ask()? == HERE, "{client}: it began here, and questions go there now");
        ensure!(open()?.ask()? == THERE, "{client}: not diverted any more");
        let port = here.end()?;
        let again = site.client(client).run(|| Connection::open(site.to, Some(port)))?;
        ensure!(again?.ask()? == THERE, "{client}: the port of one that began here");
    }
    Ok(())
}

/// A client's connection to a responder that answers each line with its name.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(to: SocketAddr, port: Option<u16>) -> anyhow::Result<Connection> {
        let any: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        // A port of the kernel's choice is to be nobody else's.
        socket.set_reuse_address(port.is_some())?;
        socket.bind(&SocketAddr::new(any, port.unwrap_or(0)).into())?;
        socket.connect_timeout(&to.into(), ask::PATIENCE).context("connecting")?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(ask::PATIENCE))?;
        // The port is free at once when it ends.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        Ok(Connection(BufReader::new(stream)))
    }

    /// Who is at the other end.
    fn ask(&mut self) -> anyhow::Result<String> {
        self.0.get_ref().write_all(b"GET /whoami HTTP/1.1\r\nHost: web\r\n\r\n")?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            ensure!(self.0.read_line(&mut line).context("no answer")? > 0, "it was closed");
            if let Some(value) = line.strip_prefix("Content-Length:") {
                length = value.trim().parse()?;
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        let answer: Answer = serde_json::from_slice(&body)?;
        Ok(answer.pod)
    }

    /// Ends it. Returns the port that it came from.
    fn end(self) -> anyhow::Result<u16> {
        Ok(self.0.get_ref().local_addr()?.port())
    }
}

/// Asks until it is to stop. Returns how often it was answered here and there, and what else
/// happened.
fn stream(to: SocketAddr, stop: &AtomicBool) -> ([usize; 2], Vec<String>) {
    let (mut count, mut failures) = ([0, 0], Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let outcome = match Flow::open(to) {
            Ok(flow) => flow.ask(ask::PATIENCE),
            Err(error) => Outcome::Other(error.to_string()),
        };
        match outcome.pod() {
            Some(HERE) => count[0] += 1,
            Some(THERE) => count[1] += 1,
            _ => failures.push(outcome.to_string()),
        }
    }
    (count, failures)
}

/// Sends two questions at once from one new port, as resolvers do, many times. Returns how often
/// not both were answered.
fn pairs(to: SocketAddr) -> anyhow::Result<usize> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let mut lost = 0;
    for _ in 0..PAIRS {
        let socket = UdpSocket::bind(any)?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(ask::SILENCE))?;
        socket.send(b"A")?;
        socket.send(b"AAAA").context("the second question")?;
        let answered = (0..2).all(|_| socket.recv(&mut [0; 2048]).is_ok());
        lost += usize::from(!answered);
    }
    Ok(lost)
}
