//! Reads what `ipvsadm -Sn` and `ipvsadm -Ln` print (ipvsadm(8)).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use portolan_service::{Family, Protocol};

use super::{Connections, Destination, FALLBACK, HASH_PORT, Method, Serves, VirtualServer, VirtualServers};
use crate::Error;
use crate::port_names::port_named;
use crate::printable::{printable, shortened};

/// What is wrong with a line.
type Problem = String;

impl VirtualServers {
    /// Reads the output of `ipvsadm -Sn`, or of `ipvsadm -Ln`, which has the numbers of
    /// connections, too.
    ///
    /// # Errors
    /// A line that ipvsadm does not print.
    pub fn from_text(text: &str) -> Result<VirtualServers, Error> {
        let mut read = VirtualServers::default();
        let mut places = HashMap::new();
        let mut lines = 0;
        for (number, line) in (1..).zip(text.lines()) {
            let clean = printable(line);
            let words: Vec<&str> = clean.split_ascii_whitespace().collect();
            let done = match words[..] {
                [] => continue,
                ["IP", "Virtual", "Server", ..] | ["Prot", ..] | ["->", "RemoteAddress:Port", ..] => Ok(()),
                ["-A", ref options @ ..] => server(options).map(|server| {
                    places.insert(server.serves, read.servers.len());
                    read.servers.push(server);
                }),
                ["-a", ref options @ ..] => destination(options).and_then(|(serves, destination)| {
                    let place = places.get(&serves).ok_or("its virtual server is missing")?;
                    read.servers[*place].destinations.push(destination);
                    Ok(())
                }),
                ["->", address, method, weight, ref counts @ ..] => {
                    listed_destination((address, method, weight), counts, &mut read.servers)
                }
                [kind, address, ref others @ ..] => {
                    listed_server(kind, address, others).map(|server| read.servers.push(server))
                }
                _ => Err("not what ipvsadm prints".to_owned()),
            };
            done.map_err(|problem| Error::NodeText {
                program: "ipvsadm -Sn",
                problem: format!("line {number}: {problem}: `{}`", shortened(line)),
            })?;
            lines += 1;
        }
        // A node without any has none of its lines; with other text nothing should be read from it.
        if lines == 0 && !text.trim().is_empty() {
            let problem = format!("no virtual server in it, which begins with `{}`", shortened(text.trim()));
            return Err(Error::NodeText { program: "ipvsadm -Sn", problem });
        }
        Ok(read)
    }
}

/// `-t 10.96.0.1:80 -s rr -p 10800`
fn server(options: &[&str]) -> Result<VirtualServer, Problem> {
    let mut server = VirtualServer {
        serves: served(options)?,
        scheduler: "wlc".to_owned(),
        flags: 0,
        persistence: None,
        mask: None,
        destinations: Vec::new(),
    };
    let mut words = options.iter().copied();
    while let Some(option) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{option} has no value"));
        match option {
            "-t" | "-u" | "-f" | "--sctp-service" | "--pe" => drop(value()?),
            "-s" => value()?.clone_into(&mut server.scheduler),
            "-p" => server.persistence = Some(number(value()?)?),
            "-M" => server.mask = Some(value()?.to_owned()),
            "-b" => server.flags |= flags(value()?),
            // Marks of IPv6, and datagrams that are scheduled one by one.
            "-6" | "-o" => {}
            other => return Err(format!("{other} is not known")),
        }
    }
    Ok(server)
}

/// What a virtual server takes, by its options.
fn served(options: &[&str]) -> Result<Serves, Problem> {
    let after = |wanted: &str| {
        let at = options.iter().position(|option| *option == wanted)?;
        options.get(at + 1).copied()
    };
    for (option, protocol) in
        [("-t", Protocol::Tcp), ("-u", Protocol::Udp), ("--sctp-service", Protocol::Sctp)]
    {
        if let Some(address) = after(option) {
            return Ok(Serves::Address(protocol, socket_address(address)?));
        }
    }
    let text = after("-f").ok_or("neither an address nor a mark")?;
    // The mark itself may be -6.
    let sixes = options.iter().filter(|option| **option == "-6").count();
    let family = if sixes > usize::from(text == "-6") { Family::V6 } else { Family::V4 };
    Ok(Serves::Mark(family, mark(text)?))
}

/// `-t 10.96.0.1:80 -r 10.244.1.11:8080 -m -w 1`
fn destination(options: &[&str]) -> Result<(Serves, Destination), Problem> {
    let serves = served(options)?;
    let mut address = None;
    let mut to = (Method::AsTheyAre, 1, 0);
    let mut words = options.iter().copied();
    while let Some(option) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{option} has no value"));
        match option {
            "-r" => address = Some(socket_address(value()?)?),
            "-w" => to.1 = number(value()?)?,
            "-x" => to.2 = number(value()?)?,
            "-m" => to.0 = Method::Translated,
            "-t" | "-u" | "-f" | "--sctp-service" | "-y" | "--tun-type" | "--tun-port" => drop(value()?),
            "-g" | "-i" | "-6" | "--tun-nocsum" | "--tun-csum" | "--tun-remcsum" => {}
            other => return Err(format!("{other} is not known")),
        }
    }
    let (method, weight, limit) = to;
    let address = address.ok_or("it has no address")?;
    Ok((serves, Destination { address, method, weight, limit, connections: None }))
}

/// `TCP 10.96.0.1:80 rr persistent 10800`
fn listed_server(kind: &str, address: &str, others: &[&str]) -> Result<VirtualServer, Problem> {
    let mut others = others.iter().copied().peekable();
    let serves = match kind {
        "TCP" => Serves::Address(Protocol::Tcp, socket_address(address)?),
        "UDP" => Serves::Address(Protocol::Udp, socket_address(address)?),
        "SCTP" => Serves::Address(Protocol::Sctp, socket_address(address)?),
        "FWM" => {
            let v6 = others.next_if_eq(&"IPv6").is_some();
            Serves::Mark(if v6 { Family::V6 } else { Family::V4 }, mark(address)?)
        }
        _ => return Err("not what ipvsadm prints".to_owned()),
    };
    let mut server = VirtualServer {
        serves,
        scheduler: others.next().ok_or("it has no scheduler")?.to_owned(),
        flags: 0,
        persistence: None,
        mask: None,
        destinations: Vec::new(),
    };
    while let Some(word) = others.next() {
        let mut value = || others.next().ok_or_else(|| format!("{word} has no value"));
        match word {
            "persistent" => server.persistence = Some(number(value()?)?),
            "mask" => server.mask = Some(value()?.to_owned()),
            "pe" => drop(value()?),
            "ops" => {}
            listed if listed.starts_with('(') => server.flags |= flags(listed.trim_matches(['(', ')'])),
            other => return Err(format!("{other} is not known")),
        }
    }
    Ok(server)
}

/// `10.244.1.11:8080  Masq  1  0  3`
fn listed_destination(
    (address, method, weight): (&str, &str, &str),
    counts: &[&str],
    servers: &mut [VirtualServer],
) -> Result<(), Problem> {
    let server = servers.last_mut().ok_or("its virtual server is missing")?;
    let method = match method {
        "Masq" => Method::Translated,
        "Route" | "Tunnel" | "Local" => Method::AsTheyAre,
        other => return Err(format!("{other} is no way to forward; list with `ipvsadm -Ln`")),
    };
    let connections = match counts {
        [active, inactive] => Some(Connections { active: number(active)?, inactive: number(inactive)? }),
        _ => None,
    };
    let address = socket_address(address)?;
    server.destinations.push(Destination { address, method, weight: number(weight)?, limit: 0, connections });
    Ok(())
}

/// `sh-fallback,sh-port`, or `flag-1` for others.
fn flags(text: &str) -> u32 {
    let flag = |name: &str| match name {
        "sh-fallback" | "mh-fallback" | "flag-1" => FALLBACK,
        "sh-port" | "mh-port" | "flag-2" => HASH_PORT,
        _ => 0,
    };
    text.split(',').map(flag).fold(0, |all, flag| all | flag)
}

fn number(text: &str) -> Result<u32, Problem> {
    text.parse().map_err(|_| format!("{} is not a number", shortened(text)))
}

/// ipvsadm prints marks as signed numbers.
fn mark(text: &str) -> Result<u32, Problem> {
    number(text).or_else(|problem| text.parse().map(i32::cast_unsigned).map_err(|_| problem))
}

/// `10.96.0.1:80`, `[fd00::1]:80`, or an address without a port.
fn socket_address(text: &str) -> Result<SocketAddr, Problem> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let not = || format!("{} is no address and port; list with -n", shortened(text));
    let address = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().map_err(|_| not());
    match text.rsplit_once(':').filter(|_| text.parse::<IpAddr>().is_err()) {
        Some((first, name)) => Ok(SocketAddr::new(address(first)?, port_named(name).ok_or_else(not)?)),
        None => Ok(SocketAddr::new(address(text)?, 0)),
    }
}
