//! `forward`: other servers that are asked.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::all_domains;
use crate::directive::{Directive, Line};
use crate::domain::{domain, domains};
use crate::problem::{Complaints, Place};
use crate::token::Token;
use crate::words::rcode;

/// Which names other servers are asked for, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// Where it is written.
    pub place: Place,
    /// Names in these domains.
    pub from: Vec<String>,
    /// `except`: but not in these.
    pub except: Vec<String>,
    /// At least one.
    pub to: Vec<To>,
    /// `force_tcp`: by TCP alone.
    pub force_tcp: bool,
    /// `prefer_udp`: by UDP first, also for questions that came by TCP.
    pub prefer_udp: bool,
    /// `expire`: connections that were idle for so long are closed.
    pub expire: Duration,
    /// `read_timeout`: how long an answer may take.
    pub read_timeout: Duration,
    /// `max_fails`: failures in a row that make a server unhealthy; 0: it never is.
    pub max_fails: u32,
    /// `max_connect_attempts`: for one question; 0: no limit but time.
    pub max_connect_attempts: Option<u32>,
    /// `tls`: how servers with `tls://` are trusted, and what they are shown.
    pub tls: Tls,
    /// `tls_servername`: the name in the certificates of servers with `tls://`.
    pub tls_server_name: Option<String>,
    /// `policy`
    pub policy: Selection,
    /// `health_check`
    pub health_check: HealthCheck,
    /// `max_concurrent`: more questions at once are refused; 0: no limit.
    pub max_concurrent: usize,
    /// `failover`: after these rcodes another server is asked.
    pub failover: Vec<u16>,
    /// `failfast_all_unhealthy_upstreams`: SERVFAIL at once while no server is healthy.
    pub fail_fast: bool,
}

/// A server that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// By UDP and TCP.
    Plain(SocketAddr),
    /// By TLS (RFC 7858), perhaps with the name in its certificate.
    Tls(SocketAddr, Option<String>),
    /// Those that a file in the form of /etc/resolv.conf names.
    File(String),
}

/// Files in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// Our certificate and its key.
    pub own: Option<(String, String)>,
    /// The authority that signs servers' certificates; `None`: those of the system.
    pub authority: Option<String>,
}

/// Which server is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Selection {
    /// Any.
    #[default]
    Random,
    /// One after the other.
    RoundRobin,
    /// The first one, as long as it is healthy.
    Sequential,
}

/// How it is found out whether an unhealthy server is well again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// How often it is asked.
    pub interval: Duration,
    /// It is asked to recurse; false is `no_rec`.
    pub recursion: bool,
    /// For what name.
    pub domain: String,
}

/// At most this many servers (as CoreDNS).
const SERVERS_MAX: usize = 15;
const OPTIONS: [&str; 14] = [
    "except",
    "force_tcp",
    "prefer_udp",
    "expire",
    "read_timeout",
    "max_fails",
    "max_connect_attempts",
    "tls",
    "tls_servername",
    "policy",
    "health_check",
    "max_concurrent",
    "failover",
    "failfast_all_unhealthy_upstreams",
];

/// `None` if it does not say from where to where, which is complained of.
pub(crate) fn read(directive: &Directive, complaints: &mut Complaints<'_>) -> Option<Forward> {
    let Some((from, to)) = directive.args.split_first().filter(|(_, to)| !to.is_empty()) else {
        let message = "takes a domain and servers, such as: forward . /etc/resolv.conf";
        complaints.error(directive.place(), message);
        return None;
    };
    let from = domains(&from.text).unwrap_or_else(|message| {
        complaints.error(&from.place, message);
        Vec::new()
    });
    if to.len() > SERVERS_MAX {
        complaints.error(directive.place(), format!("has more than {SERVERS_MAX} servers: delete some"));
    }
    let mut found = Forward {
        place: directive.place().clone(),
        from,
        except: Vec::new(),
        to: to.iter().filter_map(|to| server(to, complaints)).collect(),
        force_tcp: false,
        prefer_udp: false,
        expire: Duration::from_secs(10),
        read_timeout: Duration::from_secs(2),
        max_fails: 2,
        max_connect_attempts: None,
        tls: Tls::default(),
        tls_server_name: None,
        policy: Selection::default(),
        health_check: HealthCheck {
            interval: Duration::from_millis(500),
            recursion: true,
            domain: ".".to_owned(),
        },
        max_concurrent: 0,
        failover: Vec::new(),
        fail_fast: false,
    };
    for line in &directive.lines {
        option(line, &mut found, complaints);
    }
    if found.tls_server_name.is_some() && found.to.iter().any(|to| matches!(to, To::Tls(_, Some(_)))) {
        let message = "tls_servername and a name after % exclude each other: delete one";
        complaints.error(directive.place(), message);
    }
    Some(found)
}

fn option(line: &Line, found: &mut Forward, complaints: &mut Complaints<'_>) {
    let flag = match line.option() {
        "force_tcp" => Some(&mut found.force_tcp),
        "prefer_udp" => Some(&mut found.prefer_udp),
        "failfast_all_unhealthy_upstreams" => Some(&mut found.fail_fast),
        _ => None,
    };
    if let Some(flag) = flag {
        line.nothing(complaints);
        *flag = true;
        return;
    }
    match line.option() {
        "except" => {
            line.some("domains", complaints);
            found.except.extend(all_domains(&line.args, complaints));
        }
        "expire" => found.expire = line.one_duration(complaints).unwrap_or(found.expire),
        "read_timeout" => match line.one_duration(complaints) {
            Some(Duration::ZERO) => line.error(complaints, "is longer than 0"),
            Some(timeout) => found.read_timeout = timeout,
            None => {}
        },
        "max_fails" => found.max_fails = line.one_number(0..=u32::MAX, complaints).unwrap_or_default(),
        "max_connect_attempts" => found.max_connect_attempts = line.one_number(0..=u32::MAX, complaints),
        "max_concurrent" => {
            found.max_concurrent = line.one_number(0..=usize::MAX, complaints).unwrap_or_default();
        }
        "tls" => found.tls = tls(line, complaints),
        "tls_servername" => found.tls_server_name = line.one("one name", complaints).map(str::to_owned),
        "policy" => match line.one("random, round_robin or sequential", complaints) {
            Some("random") | None => {}
            Some("round_robin") => found.policy = Selection::RoundRobin,
            Some("sequential") => found.policy = Selection::Sequential,
            Some(other) => {
                line.error(complaints, format!("{other:?}: write random, round_robin or sequential"));
            }
        },
        "health_check" => health_check(line, &mut found.health_check, complaints),
        "failover" => {
            found.failover = rcodes(line, complaints);
            if found.failover.contains(&0) {
                line.error(complaints, "NOERROR is no failure: delete it");
            }
        }
        "max_age" | "max_idle_conns" => {
            line.notice(complaints, "has no effect: few connections are kept, and for a short time");
        }
        "next" | "next_on_nodata" => {
            line.error(
                complaints,
                "a second server after an answer is not had: write failover, or delete the line",
            );
        }
        "source_address" => {
            line.error(
                complaints,
                "the address that questions are sent from is the kernel's choice: delete the line",
            );
        }
        "doh_method" => line.error(complaints, "DNS over HTTPS is not had: delete the line, and use tls://"),
        "resolver" => line.error(complaints, "servers are given by address: delete the line"),
        _ => line.unknown(&OPTIONS, complaints),
    }
}

fn tls(line: &Line, complaints: &mut Complaints<'_>) -> Tls {
    let texts: Vec<String> = line.texts().map(str::to_owned).collect();
    match <[String; 3]>::try_from(texts) {
        Ok([certificate, key, authority]) => {
            Tls { own: Some((certificate, key)), authority: Some(authority) }
        }
        Err(texts) => match &*texts {
            [] => Tls::default(),
            [authority] => Tls { own: None, authority: Some(authority.clone()) },
            [certificate, key] => Tls { own: Some((certificate.clone(), key.clone())), authority: None },
            _ => {
                line.error(
                    complaints,
                    "takes at most three files: certificate, key, the authority's certificate",
                );
                Tls::default()
            }
        },
    }
}

/// Reads `DURATION [no_rec] [domain NAME]`.
fn health_check(line: &Line, check: &mut HealthCheck, complaints: &mut Complaints<'_>) {
    let mut texts = line.some("a duration", complaints).iter().map(|arg| &*arg.text);
    if let Some(interval) = texts.next() {
        check.interval = line.duration(interval, complaints).unwrap_or(check.interval);
    }
    while let Some(text) = texts.next() {
        match text {
            "no_rec" => check.recursion = false,
            "domain" => match texts.next().map(domain) {
                Some(Ok(domain)) => check.domain = domain,
                Some(Err(message)) => line.error(complaints, message),
                None => line.error(complaints, "a name should follow the word domain: add it"),
            },
            other => line.error(complaints, format!("{other:?}: write no_rec or domain NAME")),
        }
    }
}

fn rcodes(line: &Line, complaints: &mut Complaints<'_>) -> Vec<u16> {
    line.some("names of rcodes, such as NXDOMAIN", complaints);
    let mut codes = Vec::new();
    for text in line.texts() {
        match rcode(text) {
            Some(code) => codes.push(code),
            None => line.error(complaints, format!("{text:?} is no rcode, such as NXDOMAIN or SERVFAIL")),
        }
    }
    codes
}

/// Reads a server: `192.0.2.1`, `dns://192.0.2.1:53`, `tls://[2001:db8::1]:853%dns.example`, or a
/// file.
fn server(arg: &Token, complaints: &mut Complaints<'_>) -> Option<To> {
    let text = &*arg.text;
    let (tls, rest) = match text.split_once("://") {
        Some(("dns", rest)) => (false, rest),
        Some(("tls", rest)) => (true, rest),
        Some((protocol, _)) => {
            let message =
                format!("{text}: servers are not asked by {protocol}: write an address, dns:// or tls://");
            complaints.error(&arg.place, message);
            return None;
        }
        None => (false, text),
    };
    let (host, name) = split_name(rest);
    match address(&host, if tls { 853 } else { 53 }) {
        Some(address) if tls => Some(To::Tls(address, name)),
        Some(address) => {
            if name.is_some() {
                let message = format!("{text}: scopes of addresses are not had: delete what follows %");
                complaints.error(&arg.place, message);
            }
            Some(To::Plain(address))
        }
        None if !tls && rest == text && (text.contains('/') || !text.contains(':')) => {
            Some(To::File(text.to_owned()))
        }
        None => {
            complaints.error(&arg.place, format!("{text}: is neither an address nor a file"));
            None
        }
    }
}

/// Splits off what follows `%`, which may be before the port.
fn split_name(text: &str) -> (String, Option<String>) {
    let Some((host, rest)) = text.rsplit_once('%') else { return (text.to_owned(), None) };
    let (name, port) = match rest.rsplit_once(':') {
        Some((name, port)) => (name, format!(":{port}")),
        None => (rest, String::new()),
    };
    let closing =
        if host.starts_with('[') && !host.ends_with(']') && !host.contains("]:") { "]" } else { "" };
    (format!("{host}{closing}{port}"), Some(name.trim_end_matches(']').to_owned()))
}

/// An address, with or without a port.
fn address(text: &str, port: u16) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse().ok();
    bare.parse().ok().map(|address: IpAddr| SocketAddr::new(address, port)).or_else(with_port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Problems;

    #[test]
    fn servers_are_read() {
        let plain = |text: &str| Some(To::Plain(text.parse().unwrap()));
        let tls =
            |text: &str, name: Option<&str>| Some(To::Tls(text.parse().unwrap(), name.map(str::to_owned)));
        let file = |text: &str| Some(To::File(text.to_owned()));
        for (text, expected) in [
            ("192.0.2.1", plain("192.0.2.1:53")),
            ("192.0.2.1:5353", plain("192.0.2.1:5353")),
            ("dns://192.0.2.1", plain("192.0.2.1:53")),
            ("2001:db8::1", plain("[2001:db8::1]:53")),
            ("[2001:db8::1]", plain("[2001:db8::1]:53")),
            ("[2001:db8::1]:5353", plain("[2001:db8::1]:5353")),
            ("tls://192.0.2.1", tls("192.0.2.1:853", None)),
            ("tls://192.0.2.1%dns.example", tls("192.0.2.1:853", Some("dns.example"))),
            ("tls://192.0.2.1%dns.example:8853", tls("192.0.2.1:8853", Some("dns.example"))),
            ("tls://[2001:db8::1%dns.example]:853", tls("[2001:db8::1]:853", Some("dns.example"))),
            ("/etc/resolv.conf", file("/etc/resolv.conf")),
            ("resolv.conf", file("resolv.conf")),
            ("https://192.0.2.1", None),
            ("tls://dns.example", None),
            ("dns://", None),
            ("192.0.2.1:99999", None),
        ] {
            let mut problems = Problems::default();
            let token = Token {
                text: text.to_owned(),
                place: Place { file: "f".into(), line: 1 },
                starts_line: false,
                quoted: false,
            };
            assert_eq!(server(&token, &mut problems.of("forward")), expected, "{text}");
            assert_eq!(problems.errors.is_empty(), expected.is_some(), "{text}");
        }
    }
}
