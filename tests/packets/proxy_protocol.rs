//! The PROXY protocol towards endpoints (docs/userspace.md): a server that reads what comes first
//! on each connection.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, bail, ensure};
use portolan_lab::netns::Namespace;
use portolan_service::{Family, Protocol};
use portolan_tests::ask::PATIENCE;
use portolan_tests::manifests::{ServiceManifest, slice};

use crate::case::{Mode, Setting};
use crate::fixture::{HOST1, PORT, underlay};
use crate::scene::{SOON, Scene, cluster_ip, endpoint, eventually};

const ANNOTATION: &str = "portolan.dev/proxy-protocol";
const NODE_PORT: u16 = 31_400;
/// Where the server listens in pod a1.
const SERVER: u16 = 9000;
/// What clients send: it ends what comes first.
const HELLO: &[u8] = b"hello";

struct Served {
    scene: Scene,
    family: Family,
    server: TcpListener,
}

/// A connection, as its client and the server have it.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// What came before the client's first octet.
    header: Vec<u8>,
}

impl Served {
    /// A Service `web` with this annotation, whose endpoint is the server.
    fn new(mode: Mode, family: Family, annotation: Option<&str>) -> anyhow::Result<Served> {
        let scene = Scene::with(mode, Setting::NodePortPrimary)?;
        let server = scene.site.pod("a1").run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, SERVER)))??;
        let served = Served { scene, family, server };
        served.annotate(annotation)?;
        let ports = [("p", Protocol::Tcp, SERVER)];
        let slice = slice("web", "web", family, &ports, &[endpoint("a1", family)]);
        served.scene.site.manifests().write("web-slice", &[slice])?;
        Ok(served)
    }

    fn annotate(&self, annotation: Option<&str>) -> anyhow::Result<()> {
        let service = ServiceManifest::new("web", &Family::ALL.map(|family| cluster_ip(1, family)))
            .kind("NodePort")
            .node_port("p", Protocol::Tcp, PORT, Some(NODE_PORT));
        let service =
            annotation.into_iter().fold(service, |service, version| service.annotation(ANNOTATION, version));
        self.scene.service("web", &service)
    }

    fn cluster_ip(&self) -> SocketAddr {
        SocketAddr::new(cluster_ip(1, self.family), PORT)
    }

    /// Connects and says hello, once the Service is in force.
    fn connect(&self, from: &Namespace, to: SocketAddr) -> anyhow::Result<Connection> {
        let connect = || eventually(SOON, || TcpStream::connect_timeout(&to, PATIENCE));
        let mut client = from.run(connect)?.with_context(|| format!("connecting to {to}"))?;
        client.write_all(HELLO)?;
        let (mut server, _) = self.server.accept()?;
        for side in [&client, &server] {
            side.set_read_timeout(Some(PATIENCE))?;
        }
        let mut header = Vec::new();
        while !header.ends_with(HELLO) {
            let mut octet = [0];
            server.read_exact(&mut octet).with_context(|| format!("after {header:?}"))?;
            header.push(octet[0]);
        }
        header.truncate(header.len() - HELLO.len());
        Ok(Connection { client, server, header })
    }
}

impl Connection {
    /// The header is that of `annotation`, with the client's own address and `to`.
    fn is_headed(&self, annotation: Option<&str>, to: SocketAddr) -> anyhow::Result<()> {
        let expected = header(annotation, self.client.local_addr()?, to);
        let shown = |octets: &[u8]| octets.escape_ascii().to_string();
        ensure!(
            self.header == expected,
            "{annotation:?}: \"{}\" and not \"{}\"",
            shown(&self.header),
            shown(&expected)
        );
        Ok(())
    }

    /// What both sides send still comes.
    fn goes_on(&self) -> anyhow::Result<()> {
        for (mut from, mut to) in [(&self.client, &self.server), (&self.server, &self.client)] {
            from.write_all(b"more")?;
            let mut found = [0; 4];
            to.read_exact(&mut found)?;
            ensure!(&found == b"more", "{found:?}");
        }
        Ok(())
    }
}

/// What the specification has for a connection from `client` to `to`, written down a second time.
fn header(annotation: Option<&str>, client: SocketAddr, to: SocketAddr) -> Vec<u8> {
    match annotation {
        None => Vec::new(),
        Some("v1") => {
            let family = if to.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {} {} {} {}\r\n", client.ip(), to.ip(), client.port(), to.port()).into()
        }
        Some(_) => {
            let octets = |address: SocketAddr| match address.ip() {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            let (family, length) = if to.is_ipv4() { (0x11, 12) } else { (0x21, 36) };
            let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
            header.extend([family, 0, length]);
            header.extend([octets(client), octets(to)].concat());
            header.extend(client.port().to_be_bytes());
            header.extend(to.port().to_be_bytes());
            header
        }
    }
}

/// Pods here and elsewhere and clients outside: the endpoint learns who they are and what they
/// asked for.
pub(crate) fn clients_are_named(mode: Mode, family: Family, version: &'static str) -> anyhow::Result<()> {
    let served = Served::new(mode, family, Some(version))?;
    let site = &served.scene.site;
    let node_port = SocketAddr::new(underlay(HOST1, family), NODE_PORT);
    for (name, from, to) in [
        ("a pod here", site.pod("client-a"), served.cluster_ip()),
        ("a pod elsewhere", site.pod("client-b"), served.cluster_ip()),
        ("outside, ClusterIP", site.outside(), served.cluster_ip()),
        ("outside, NodePort", site.outside(), node_port),
    ] {
        let connection = served.connect(from, to).context(name)?;
        connection.is_headed(Some(version), to).context(name)?;
        connection.goes_on().context(name)?;
    }
    Ok(())
}

/// The annotation comes, changes and goes: it holds for new connections, and those that are there
/// go on.
pub(crate) fn changes_live(family: Family) -> anyhow::Result<()> {
    let served = Served::new(Mode::Userspace, family, None)?;
    let (from, to) = (served.scene.site.pod("client-a"), served.cluster_ip());
    let mut open = vec![served.connect(from, to)?];
    open[0].is_headed(None, to)?;
    for annotation in [Some("v1"), Some("v2"), None, Some("v2"), None] {
        served.annotate(annotation)?;
        open.push(eventually(SOON, || {
            let connection = served.connect(from, to)?;
            connection.is_headed(annotation, to)?;
            anyhow::Ok(connection)
        })?);
    }
    open.iter().try_for_each(Connection::goes_on)
}

/// What cannot be done is reported once, by the names of Service and annotation, and the Service is
/// served without.
pub(crate) fn without(mode: Mode, family: Family) -> anyhow::Result<()> {
    let (annotation, reason) = match mode {
        Mode::Userspace => ("v3", "\"v3\" is not one of v1, v2"),
        _ => ("v1", "use mode userspace"),
    };
    let served = Served::new(mode, family, Some(annotation))?;
    let (from, to) = (served.scene.site.pod("client-a"), served.cluster_ip());
    let connection = served.connect(from, to)?;
    connection.is_headed(None, to)?;
    connection.goes_on()?;
    served.scene.settle()?;
    let proxy = served.scene.site.proxy("host1")?;
    let log = proxy.log();
    let place = format!("Service default/web: metadata.annotations: {ANNOTATION}: ");
    let reported: Vec<&str> = log.lines().filter(|line| line.contains(&place)).collect();
    let [line] = reported[..] else { bail!("reported {} times\n{log}", reported.len()) };
    ensure!(line.contains(reason), "{line}");
    served.annotate(None)?;
    proxy.wait_for_log(&format!("solved: {place}"), PATIENCE)?;
    Ok(())
}
