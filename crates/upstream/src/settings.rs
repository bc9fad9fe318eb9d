//! Who is asked for which names, and what is kept of the answers.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use portolan_names::wire::Name;

mod target;

pub(crate) use target::socket_address;
pub use target::{BadTarget, Protocol, Target};

/// All that is asked of others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Domains. The longest that a name is in decides about it.
    pub zones: Vec<Zone>,
    /// Where we answer ourselves. What a resolv.conf names there is left out.
    pub own_addresses: Vec<SocketAddr>,
}

/// A domain, and what is done for names in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// The domain; `.` is everything.
    pub name: String,
    /// What metrics call it: the label `server`, such as `dns://:53`.
    pub server: String,
    /// Names with fixed addresses, before all else.
    pub hosts: Option<Hosts>,
    /// What is kept of answers. `None`: nothing.
    pub cache: Option<Cache>,
    /// Who is asked. The first that takes a name decides about it.
    pub forwards: Vec<Forward>,
    /// `loadbalance`: addresses in random order, each time another one.
    pub shuffle: bool,
    /// `loop`: find out whether questions come back to us, and if so, as often whether they still
    /// do.
    pub detect_loops: Option<Duration>,
}

impl Zone {
    /// How often servers whose questions come back are asked again.
    pub const LOOP_INTERVAL: Duration = Duration::from_secs(30);

    /// The domain `name` without anything.
    pub fn new(name: &str) -> Zone {
        Zone {
            name: name.to_owned(),
            server: "dns://:53".to_owned(),
            hosts: None,
            cache: None,
            forwards: Vec::new(),
            shuffle: false,
            detect_loops: None,
        }
    }
}

/// Servers that are asked: the plugin `forward`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The domain that they are asked for.
    pub from: String,
    /// Domains in it that they are not asked for.
    pub except: Vec<String>,
    /// The servers.
    pub to: Vec<Target>,
    /// Which of them is next.
    pub policy: Policy,
    /// `force_tcp`: no datagrams.
    pub force_tcp: bool,
    /// `tls`, `tls_servername`: how servers with TLS are spoken to.
    pub tls: Tls,
    /// After more failed probes in a row than these a server is left out. 0: never.
    pub max_fails: u32,
    /// How a server that has failed is probed.
    pub health: Health,
    /// What is done when all servers are left out.
    pub all_down: AllDown,
    /// A connection that was not used for as long is closed.
    pub expire: Duration,
    /// As many questions are under way at most. One more takes the place of the oldest if that is
    /// older than 200 ms, and is refused otherwise. `None`: the bound of the program.
    pub max_concurrent: Option<usize>,
    /// A server that does not answer within this has failed.
    pub timeout: Duration,
    /// How often a question is asked at most. Each server is asked at least once, if the time of
    /// two tries suffices.
    pub tries: u32,
    /// Response codes after which the next server is asked.
    pub failover: Vec<u16>,
}

impl Forward {
    /// Asks `to` for everything.
    pub fn new(to: impl IntoIterator<Item = Target>) -> Forward {
        Forward {
            from: ".".to_owned(),
            except: Vec::new(),
            to: to.into_iter().collect(),
            policy: Policy::default(),
            force_tcp: false,
            tls: Tls::default(),
            max_fails: 2,
            health: Health::default(),
            all_down: AllDown::default(),
            expire: Duration::from_secs(10),
            max_concurrent: None,
            timeout: Duration::from_secs(2),
            tries: 2,
            failover: Vec::new(),
        }
    }
}

/// Which of several servers is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Any
    #[default]
    Random,
    /// One after the other
    RoundRobin,
    /// The first that is well
    Sequential,
}

/// How a server that has failed is probed until it is well again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Time between probes.
    pub interval: Duration,
    /// The name that is asked for.
    pub domain: String,
    /// The flag RD of the probe; false is `no_rec`.
    pub recursion: bool,
}

impl Default for Health {
    fn default() -> Health {
        Health { interval: Duration::from_millis(500), domain: ".".to_owned(), recursion: true }
    }
}

/// What is done when all servers are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AllDown {
    /// A random one is asked: perhaps only the probes are lost.
    #[default]
    AskAny,
    /// `failfast_all_unhealthy_upstreams`: SERVFAIL at once.
    Fail,
}

/// TLS to servers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// The name that certificates must have. `None`: the server's address.
    pub server_name: Option<String>,
    /// A file of certificates (PEM) of who is trusted. `None`: whom the system trusts.
    pub authorities: Option<PathBuf>,
    /// Files of our own certificates and key (PEM), if servers want to know who asks.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What is kept of answers: the plugin `cache`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Domains whose answers are kept. Empty: all of the zone.
    pub domains: Vec<String>,
    /// Answers with records.
    pub success: Kept,
    /// Answers that say that there is nothing.
    pub denial: Kept,
    /// How long a failure is remembered, at most 5 minutes (RFC 9520 §3.2). 0: not at all.
    pub servfail: Duration,
    /// Octets that all of it may take.
    pub bytes: usize,
    /// Whether old answers are better than none (RFC 8767).
    pub serve_stale: Option<Stale>,
    /// Whether answers that are often asked for are renewed before they end.
    pub prefetch: Option<Prefetch>,
    /// `keepttl`: answers out of the cache do not count down.
    pub keep_ttl: bool,
}

impl Cache {
    /// Of at most `ttl` seconds: `cache 30`.
    pub fn of(ttl: u32) -> Cache {
        let mut cache = Cache::default();
        cache.success.ttl_max = ttl;
        cache.denial.ttl_max = ttl;
        cache
    }
}

impl Default for Cache {
    fn default() -> Cache {
        let kept = Kept { entries: 9984, ttl_max: 3600, ttl_min: 5, not_in: Vec::new() };
        Cache {
            domains: Vec::new(),
            success: kept.clone(),
            denial: Kept { ttl_max: 1800, ..kept },
            servfail: Duration::from_secs(5),
            bytes: 32 << 20,
            serve_stale: None,
            prefetch: None,
            keep_ttl: false,
        }
    }
}

/// How much of one kind of answers is kept, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Answers
    pub entries: usize,
    /// The longest time, seconds.
    pub ttl_max: u32,
    /// The shortest time, seconds.
    pub ttl_min: u32,
    /// Domains that nothing is kept of: `disable`.
    pub not_in: Vec<String>,
}

/// How old answers are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stale {
    /// For how long after their end.
    pub keep: Duration,
    /// `verify`: the servers are asked first, and the old answer is given if there is none after
    /// this time. `None`: it is given at once, and the servers are asked for next time.
    pub verify: Option<Duration>,
}

impl Stale {
    /// How long a client waits before it gets an old answer (RFC 8767 §5).
    pub const CLIENT_TIMEOUT: Duration = Duration::from_millis(1800);
}

/// Which answers are renewed before they end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefetch {
    /// Those asked for as often,
    pub amount: u32,
    /// without a longer time in between,
    pub within: Duration,
    /// when as much of their time is left, per cent.
    pub percentage: u8,
}

/// Names with fixed addresses: the plugin `hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// A file as hosts(5) has it, followed as it changes.
    pub file: Option<PathBuf>,
    /// Domains that it speaks for. Empty: all of the zone.
    pub domains: Vec<String>,
    /// Further entries.
    pub entries: Vec<(IpAddr, Vec<String>)>,
    /// How long answers may be kept, seconds.
    pub ttl: u32,
    /// Addresses have names too; false is `no_reverse`.
    pub reverse: bool,
    /// Domains whose names others are asked for if they are not there; empty is all. `None`: no
    /// names.
    pub fallthrough: Option<Vec<String>>,
}

impl Default for Hosts {
    fn default() -> Hosts {
        Hosts {
            file: None,
            domains: Vec::new(),
            entries: Vec::new(),
            ttl: 3600,
            reverse: true,
            fallthrough: None,
        }
    }
}

/// A setting that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A domain is none.
    #[error("{field}: {value:?} is no domain name: give labels of 1 to 63 characters with dots between them")]
    Domain {
        /// The setting.
        field: &'static str,
        /// What it is.
        value: String,
    },
    /// A domain is given twice.
    #[error("zone {0}: given twice: put all of it into one")]
    Twice(String),
    /// Nobody is asked.
    #[error("zone {0}: forward names no server: give an address or a resolv.conf")]
    NoServer(String),
    /// What would never end, or never begin.
    #[error("zone {zone}: {field} is 0: give at least {least}")]
    Zero {
        /// The domain.
        zone: String,
        /// The setting.
        field: &'static str,
        /// What is enough.
        least: &'static str,
    },
    /// A server is to be spoken to with TLS.
    #[error("{server}: this program was built without TLS: build it with the feature `tls`, or ask over UDP")]
    WithoutTls {
        /// The server.
        server: String,
    },
    /// Certificates cannot be used.
    #[error("zone {zone}: tls: {problem}")]
    Tls {
        /// The domain.
        zone: String,
        /// What is wrong, with the remedy.
        problem: String,
    },
    /// No file can be followed.
    #[error("following files: {0}")]
    Watch(#[from] portolan_watch::Error),
}

/// The domain that `text` spells, in lower case.
pub(crate) fn domain(field: &'static str, text: &str) -> Result<Name, Error> {
    if text == "." {
        return Ok(Name::root());
    }
    let mut name = Name::parse(text).ok_or_else(|| Error::Domain { field, value: text.to_owned() })?;
    name.make_lowercase();
    Ok(name)
}

/// The domains that `texts` spell.
pub(crate) fn domains(field: &'static str, texts: &[String]) -> Result<Vec<Name>, Error> {
    texts.iter().map(|text| domain(field, text)).collect()
}
