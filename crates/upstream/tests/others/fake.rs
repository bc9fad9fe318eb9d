//! Servers on loopback that do what a test says.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portolan_names::wire::{Answers, Header, Owner, Query, Section, Transport, Writer, class, kind};
use portolan_upstream::{Forward, Forwarder, Metrics, Protocol, Settings, Target, Zone};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

/// The longest that a test waits for something that must come.
pub(crate) const LONG: Duration = Duration::from_secs(10);

/// A question as a server has heard it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) message: Vec<u8>,
    pub(crate) transport: Transport,
    pub(crate) from: SocketAddr,
}

/// What a server does about a question.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// It sends this.
    Send(Vec<u8>),
    /// It sends this after a while.
    Late(Duration, Vec<u8>),
    /// Somebody else sends this, from another port.
    Elsewhere(Vec<u8>),
    /// It closes the connection.
    Close,
}

/// A server. It ends with the test.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Asked {
    pub(crate) fn query(&self) -> Query<'_> {
        Query::parse(&self.message).expect("we ask what can be read")
    }

    /// The name as it was spelled.
    pub(crate) fn spelled(&self) -> String {
        let query = self.query();
        let mut name = portolan_names::wire::Name::root();
        name.push_wire(query.spelled(0));
        name.to_string()
    }

    /// An answer with these records.
    pub(crate) fn answer(&self, rcode: u16, records: &[Rr<'_>]) -> Vec<u8> {
        let query = self.query();
        let mut writer = Writer::new();
        writer.begin(&query, query.limit(self.transport));
        let mut header = Header { rcode, recursion_available: true, ..Header::default() };
        for (section, owner, kind, ttl, data) in records {
            let name = portolan_names::wire::Name::parse(owner).unwrap_or(portolan_names::wire::Name::root());
            let owner = if owner.is_empty() { Owner::At(12) } else { Owner::Name(name.as_wire()) };
            if !writer.record(*section, owner, *kind, *ttl, |writer| writer.raw(data)) {
                header.truncated = true;
                break;
            }
        }
        writer.finish(&query, header);
        writer.message().to_vec()
    }

    /// An answer with this address.
    pub(crate) fn address(&self, last: u8, ttl: u32) -> Act {
        Act::Send(self.answer(0, &[(Section::Answer, "", kind::A, ttl, &[192, 0, 2, last])]))
    }
}

/// A record: section, owner (empty: the name that was asked for), type, TTL, data.
pub(crate) type Rr<'r> = (Section, &'r str, u16, u32, &'r [u8]);

impl Fake {
    /// Does what `act` says about each question, over UDP and TCP.
    pub(crate) async fn start(act: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) -> Fake {
        Fake::at("127.0.0.1:0".parse().unwrap(), act).await
    }

    /// The same at this address.
    pub(crate) async fn at(
        address: SocketAddr,
        act: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
    ) -> Fake {
        let (udp, tcp) = sockets(address).await;
        let address = udp.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let act = Arc::new(act);
        let shared = (Arc::clone(&asked), Arc::clone(&act));
        let datagrams = tokio::spawn(async move {
            let (asked, act) = shared;
            let (udp, other) = (Arc::new(udp), UdpSocket::bind("127.0.0.1:0").await.unwrap());
            let other = Arc::new(other);
            let mut buffer = [0; 2048];
            loop {
                let Ok((length, from)) = udp.recv_from(&mut buffer).await else { continue };
                let question = Asked { message: buffer[..length].to_vec(), transport: Transport::Udp, from };
                asked.lock().unwrap().push(question.clone());
                let acts = act(&question);
                let (udp, other) = (Arc::clone(&udp), Arc::clone(&other));
                tokio::spawn(async move {
                    for act in acts {
                        match act {
                            Act::Send(message) => drop(udp.send_to(&message, from).await),
                            Act::Late(after, message) => {
                                tokio::time::sleep(after).await;
                                drop(udp.send_to(&message, from).await);
                            }
                            Act::Elsewhere(message) => drop(other.send_to(&message, from).await),
                            Act::Close => {}
                        }
                    }
                });
            }
        });
        let shared = Arc::clone(&asked);
        let connections = tokio::spawn(async move {
            loop {
                let Ok((stream, from)) = tcp.accept().await else { continue };
                tokio::spawn(serve(stream, from, Arc::clone(&shared), Arc::clone(&act)));
            }
        });
        Fake { address, asked, tasks: vec![datagrams, connections] }
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often it was asked so far, apart from probes.
    pub(crate) fn count(&self) -> usize {
        self.asked().iter().filter(|asked| asked.query().kind != kind::NS).count()
    }

    pub(crate) fn target(&self) -> Target {
        Target::Server { address: self.address, protocol: Protocol::Plain }
    }
}

/// Serves one connection: questions in order, answers as they come.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    from: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    act: Arc<impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static>,
) {
    loop {
        let Ok(length) = stream.read_u16().await else { return };
        let mut message = vec![0; usize::from(length)];
        if stream.read_exact(&mut message).await.is_err() {
            return;
        }
        let question = Asked { message, transport: Transport::Tcp, from };
        asked.lock().unwrap().push(question.clone());
        for act in act(&question) {
            let message = match act {
                Act::Send(message) | Act::Elsewhere(message) => message,
                Act::Late(after, message) => {
                    tokio::time::sleep(after).await;
                    message
                }
                Act::Close => return,
            };
            let mut frame = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
            frame.extend_from_slice(&message);
            if stream.write_all(&frame).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
    }
}

/// Sockets for datagrams and connections at the same port.
async fn sockets(address: SocketAddr) -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind(address).await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both");
}

/// What is asked for: a message of a client.
pub(crate) fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&class::IN.to_be_bytes());
    message
}

/// The same with EDNS: the size of datagrams, and whether signatures are wanted.
pub(crate) fn with_edns(mut message: Vec<u8>, size: u16, dnssec_ok: bool) -> Vec<u8> {
    message[11] = 1;
    let [high, low] = size.to_be_bytes();
    message.extend_from_slice(&[0, 0, 41, high, low, 0, 0, if dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]);
    message
}

/// A zone that asks `fake`.
pub(crate) fn zone(fake: &Fake) -> Zone {
    let mut zone = Zone::new(".");
    zone.forwards.push(Forward::new([fake.target()]));
    zone
}

/// The same, but nobody waits for long.
pub(crate) fn impatient(fake: &Fake) -> Zone {
    let mut zone = zone(fake);
    zone.forwards[0].timeout = Duration::from_millis(150);
    zone
}

/// Answers of these zones.
pub(crate) fn forwarder(zones: impl IntoIterator<Item = Zone>) -> Forwarder {
    let settings = Settings { zones: zones.into_iter().collect(), ..Settings::default() };
    Forwarder::new(&settings, Metrics::default()).unwrap()
}

/// A reply in brief: code, flags and records, such as `NOERROR ra | A 30 192.0.2.1`.
pub(crate) fn brief(reply: &[u8]) -> String {
    let answers = Answers::parse(reply).expect("a reply that can be read");
    let code = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];
    let mut text = code[usize::from(answers.rcode())].to_owned();
    for (flag, name) in [(0x0400, " aa"), (0x0200, " tc"), (0x0080, ""), (0x0020, " ad"), (0x0010, " cd")] {
        if answers.flags & flag != 0 {
            text += name;
        }
    }
    if answers.flags & 0x0080 == 0 {
        text += " no-ra";
    }
    for record in answers {
        let record = record.expect("a record that can be read");
        if record.kind == kind::OPT {
            continue;
        }
        text += ["; ", "; ns ", "; add "][usize::from(record.section)];
        let data = match (record.kind, record.data) {
            (kind::A, [a, b, c, d]) => format!("A {a}.{b}.{c}.{d}"),
            (kind::CNAME | kind::PTR | kind::NS, _) => {
                portolan_names::wire::Name::read(reply, record.at).unwrap().0.to_string()
            }
            (kind::SOA, _) => "SOA".to_owned(),
            (kind, data) => format!("{kind} {data:02x?}"),
        };
        write!(text, "{} {} {data}", record.owner, record.ttl).unwrap();
    }
    text
}

/// Asks over UDP, and gives the reply in brief.
pub(crate) async fn ask(forwarder: &Forwarder, name: &str, kind: u16) -> String {
    let reply = tokio::time::timeout(LONG, forwarder.answer(&question(name, kind), Transport::Udp)).await;
    brief(&reply.expect("an answer in time").expect("an answer"))
}
