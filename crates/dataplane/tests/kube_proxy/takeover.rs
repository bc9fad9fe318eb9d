//! Connections while kube-proxy's rules go: none fails, none is even delayed.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use libtest_mimic::Failed;
use portolan_dataplane::nftables::Nftables;
use portolan_dataplane::{Dataplane, Settings, kube_proxy};
use portolan_service::{
    Backend, Family, Frontend, FrontendKind, List, Masquerade, ObjectName, PortPlan, Protocol, ServicePlan,
    Verdict,
};

use crate::namespace::{alone, lock, tool, unshare};
use crate::rules::{kube_proxy, text};

/// The first of the Services that [`kube_proxy`] makes, and its endpoint
const SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)), 80);
const ENDPOINT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 100, 0, 1)), 8080);

/// Connections that must have been made before the removal, and after it
const CONNECTIONS: usize = 300;
/// Clients at work at the same time
const CLIENTS: usize = 4;
const LIMIT: Duration = Duration::from_secs(30);

/// A thread with a network namespace of its own that runs what it is given.
struct Place {
    thread: i32,
    work: Sender<Box<dyn FnOnce() + Send>>,
}

impl Place {
    fn new() -> Result<Place, Failed> {
        let (work, jobs) = channel::<Box<dyn FnOnce() + Send>>();
        let (sender, threads) = channel();
        std::thread::spawn(move || {
            // SAFETY: no arguments, no failure.
            let thread = unshare(libc::CLONE_NEWNET).map(|()| unsafe { libc::gettid() });
            let _ = sender.send(thread);
            for job in jobs {
                job();
            }
        });
        Ok(Place { thread: threads.recv()??, work })
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Failed> {
        let (sender, result) = channel();
        self.work.send(Box::new(move || drop(sender.send(job()))))?;
        Ok(result.recv()?)
    }

    fn ip(&self, commands: &[&str]) -> Result<(), Failed> {
        let commands: Vec<String> = commands.iter().map(|command| format!("ip {command}")).collect();
        self.run(move || commands.iter().try_for_each(|command| tool(command, "").map(drop)))?
    }
}

/// How often the kernel had to send something again on this connection.
fn retransmissions(stream: &TcpStream) -> std::io::Result<u32> {
    // SAFETY: all-zero is a valid tcp_info.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).expect("small");
    // SAFETY: `info` is as long as `len` says; both live until the call returns.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut len,
        )
    };
    if result == 0 { Ok(info.tcpi_total_retrans) } else { Err(std::io::Error::last_os_error()) }
}

/// Connects, is greeted, and says something; `Err` if anything was lost on the way.
fn converse() -> Result<TcpStream, String> {
    let mut stream =
        TcpStream::connect_timeout(&SERVICE, LIMIT).map_err(|error| format!("connecting: {error}"))?;
    stream.set_read_timeout(Some(LIMIT)).map_err(|error| error.to_string())?;
    say(&mut stream)?;
    match retransmissions(&stream) {
        Ok(0) => Ok(stream),
        Ok(number) => Err(format!("{number} packets were lost")),
        Err(error) => Err(error.to_string()),
    }
}

fn say(stream: &mut TcpStream) -> Result<(), String> {
    let mut answer = [0];
    stream
        .write_all(b"?")
        .and_then(|()| stream.read_exact(&mut answer))
        .map_err(|error| format!("talking: {error}"))
}

/// Answers every byte with another.
fn serve() -> std::io::Result<()> {
    let listener = TcpListener::bind(ENDPOINT)?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).and_then(|()| stream.write_all(b"!")).is_ok() {}
            });
        }
    });
    Ok(())
}

fn plan() -> ServicePlan {
    let cluster: Arc<[Backend]> = [Backend {
        address: ENDPOINT.ip(),
        port: ENDPOINT.port(),
        place: portolan_service::Place::Here,
        weight: 1,
    }]
    .into();
    let verdict = Verdict::Forward(List::Cluster);
    ServicePlan {
        name: ObjectName::new("shop", "web-0"),
        ports: vec![PortPlan {
            family: Family::V4,
            name: "http".into(),
            protocol: Protocol::Tcp,
            local: cluster.clone(),
            serving: Arc::from([]),
            cluster,
            affinity: None,
            proxy_protocol: None,
            scheduler: None,
            resting: Arc::default(),
            node_port: None,
            frontends: vec![Frontend {
                kind: FrontendKind::ClusterIp,
                address: SERVICE.ip(),
                port: SERVICE.port(),
                inside: verdict,
                outside: verdict,
                masquerade: Masquerade::NotLocal,
                allowed_sources: None,
            }],
        }],
        health_check: None,
    }
}

/// Waits for `CONNECTIONS` connections; the first that fails ends it.
fn await_connections(results: &Receiver<Result<(), String>>) -> Result<(), Failed> {
    for _ in 0..CONNECTIONS {
        results.recv_timeout(LIMIT)??;
    }
    Ok(())
}

/// A mode of kube-proxy.
#[derive(Clone, Copy)]
struct Mode {
    /// Loads what it leaves for the Service.
    load: fn() -> Result<(), Failed>,
    /// Connections that it translated go on without it.
    outlived: bool,
}

/// Loads what kube-proxy leaves, then our rules, and removes kube-proxy's while clients connect all
/// the time.
fn no_connection_is_lost(mode: Mode) -> Result<(), Failed> {
    alone(move || {
        let (client, pod) = (Place::new()?, Place::new()?);
        for command in [
            format!("link add to-client type veth peer name eth0 netns {}", client.thread),
            format!("link add to-pod type veth peer name eth0 netns {}", pod.thread),
            "addr add 10.1.0.1/24 dev to-client".to_owned(),
            "addr add 10.100.0.254/24 dev to-pod".to_owned(),
            "link set to-client up".to_owned(),
            "link set to-pod up".to_owned(),
        ] {
            tool(&format!("ip {command}"), "")?;
        }
        client.ip(&[
            "addr add 10.1.0.2/24 dev eth0",
            "link set eth0 up",
            "route add default via 10.1.0.1",
        ])?;
        pod.ip(&[
            "addr add 10.100.0.1/24 dev eth0",
            "link set eth0 up",
            "route add default via 10.100.0.254",
        ])?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        pod.run(serve)??;

        (mode.load)()?;
        // Clients are served by kube-proxy's rules alone.
        let mut lasting = client.run(converse)??;
        Nftables::new(Settings::default())?.sync(&mut std::iter::once(&plan()))?;

        let (sender, results) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..CLIENTS {
            let (sender, stop) = (sender.clone(), stop.clone());
            client.run(move || {
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) && sender.send(converse().map(drop)).is_ok() {}
                })
            })?;
        }
        await_connections(&results)?;
        let removed = kube_proxy::remove_locking(&lock())?;
        // Clients were in the middle of connecting all the time; what they began shows now, and
        // as many again.
        results.try_iter().collect::<Result<(), String>>()?;
        await_connections(&results)?;
        stop.store(true, Ordering::Relaxed);
        assert!(!removed.is_empty());
        if mode.outlived {
            say(&mut lasting)?;
        }
        assert!(kube_proxy::find()?.is_empty());
        Ok(())
    })
}

/// Many rules, so that removing them takes a while.
fn load_rules(variant: &str) -> Result<(), Failed> {
    let services =
        if portolan_netfilter::socket::Socket::open()?.batch_limit().is_some() { 50 } else { 2000 };
    let rules = text(&kube_proxy(false, services, 1), true).replace(":FORWARD DROP", ":FORWARD ACCEPT");
    tool(&format!("iptables-{variant}-restore"), &rules).map(drop)
}

pub(crate) fn from_iptables_nft() -> Result<(), Failed> {
    no_connection_is_lost(Mode { load: || load_rules("nft"), outlived: true })
}

pub(crate) fn from_iptables_legacy() -> Result<(), Failed> {
    no_connection_is_lost(Mode { load: || load_rules("legacy"), outlived: true })
}

/// Connections that IPVS balances end with it: the kernel drops their packets when their virtual
/// server is gone.
pub(crate) fn from_ipvs() -> Result<(), Failed> {
    no_connection_is_lost(Mode { load: load_virtual_servers, outlived: false })
}

fn load_virtual_servers() -> Result<(), Failed> {
    std::fs::write("/proc/sys/net/ipv4/vs/conntrack", "1")?;
    tool("ipset restore", crate::ipvs::SETS)?;
    tool("iptables-nft-restore", crate::ipvs::RULES)?;
    tool("ip link add kube-ipvs0 type dummy", "")?;
    let mut addresses = String::new();
    let mut servers = String::new();
    for service in 1..=500 {
        let address = format!("10.96.{}.{}", service / 250, service % 250);
        let _ = writeln!(addresses, "addr add {address}/32 dev kube-ipvs0");
        let _ = writeln!(servers, "-A -t {address}:80 -s rr\n-a -t {address}:80 -r {ENDPOINT} -m -w 1");
    }
    tool("ip -batch -", &addresses)?;
    tool("ipvsadm -R", &servers)?;
    Ok(())
}
