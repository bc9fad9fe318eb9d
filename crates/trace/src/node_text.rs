//! Addresses and routes of a node, from what `ip` prints of them (iproute2), as text or as JSON.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use portolan_service::Family;
use serde_json::Value;

use crate::Error;
use crate::packet::Node;
use crate::printable::{printable, shortened};

/// A network, or an address with its network, and the interface that it is at.
type At = (IpNet, String);

impl Node {
    /// Addresses and their interfaces from the output of `ip address`, also with `-o`, `-br` or
    /// `-j`.
    ///
    /// # Errors
    /// A text without an address.
    pub fn addresses_from(text: &str) -> Result<Vec<At>, Error> {
        let found = if is_json(text) {
            json_addresses(&parsed(text, "ip -j address")?)
        } else {
            text_addresses(text)
        };
        if found.is_empty() { Err(nothing(text, "ip address")) } else { Ok(found) }
    }

    /// Routes of the main table and the interfaces that they lead through, from the output of `ip
    /// route` or `ip -6 route`, also with `-j`. Of several to one network those with the lowest
    /// metric are taken; routes that refuse lead nowhere and are left out.
    ///
    /// # Errors
    /// A text without a route.
    pub fn routes_from(text: &str) -> Result<Vec<At>, Error> {
        let found =
            if is_json(text) { json_routes(&parsed(text, "ip -j route")?) } else { text_routes(text) };
        if found.is_empty() {
            return Err(nothing(text, "ip route"));
        }
        let mut lowest: BTreeMap<IpNet, u64> = BTreeMap::new();
        for route in &found {
            let metric = lowest.entry(route.network).or_insert(route.metric);
            *metric = (*metric).min(route.metric);
        }
        let taken = found.into_iter().filter(|route| lowest.get(&route.network) == Some(&route.metric));
        Ok(taken.map(|route| (route.network, route.interface)).collect())
    }
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('[')
}

fn parsed(text: &str, program: &'static str) -> Result<Value, Error> {
    serde_json::from_str(text)
        .map_err(|error| Error::NodeText { program, problem: shortened(&format!("not JSON: {error}")) })
}

fn nothing(text: &str, program: &'static str) -> Error {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let what = if program == "ip route" { "route" } else { "address" };
    Error::NodeText {
        program,
        problem: format!("no {what} found in it, which begins with `{}`", shortened(first)),
    }
}

/// `eth0@if5`, as `ip` writes an interface whose other end is elsewhere.
fn interface(word: &str) -> String {
    let name = word.trim_end_matches(':').split('@').next().unwrap_or_default();
    printable(name).into_owned()
}

fn address(word: &str) -> Option<IpNet> {
    match word.parse::<IpNet>() {
        Ok(network) => Some(network),
        Err(_) => word.parse::<IpAddr>().ok().map(IpNet::from),
    }
}

fn text_addresses(text: &str) -> Vec<At> {
    let mut found = Vec::new();
    let mut at = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let numbered = words
            .first()
            .is_some_and(|word| word.strip_suffix(':').is_some_and(|number| number.parse::<u32>().is_ok()));
        if let (true, Some(name)) = (numbered, words.get(1)) {
            at = interface(name);
        }
        let inet = words.iter().position(|word| matches!(*word, "inet" | "inet6"));
        if let Some(own) = inet.and_then(|place| words.get(place + 1)).and_then(|word| address(word)) {
            found.push((own, at.clone()));
            continue;
        }
        // `ip -br address`: name, state, addresses.
        if let [name, "UP" | "DOWN" | "UNKNOWN" | "LOWERLAYERDOWN" | "DORMANT", ref own @ ..] = words[..] {
            found.extend(own.iter().filter_map(|word| address(word)).map(|own| (own, interface(name))));
        }
    }
    found
}

fn json_addresses(document: &Value) -> Vec<At> {
    let mut found = Vec::new();
    for link in document.as_array().into_iter().flatten() {
        let name = link.get("ifname").and_then(Value::as_str).unwrap_or_default();
        for own in link.get("addr_info").and_then(Value::as_array).into_iter().flatten() {
            let ip = own.get("local").and_then(Value::as_str).and_then(|ip| ip.parse::<IpAddr>().ok());
            let length =
                own.get("prefixlen").and_then(Value::as_u64).and_then(|length| u8::try_from(length).ok());
            if let (Some(ip), Some(length)) = (ip, length)
                && let Ok(network) = IpNet::new(ip, length)
            {
                found.push((network, interface(name)));
            }
        }
    }
    found
}

#[derive(Debug)]
struct Route {
    network: IpNet,
    interface: String,
    metric: u64,
}

/// What refuses packets, or is no route of this table.
fn is_other_kind(word: &str) -> bool {
    matches!(
        word,
        "unreachable"
            | "blackhole"
            | "prohibit"
            | "throw"
            | "local"
            | "broadcast"
            | "anycast"
            | "multicast"
            | "nat"
    )
}

fn everything(family: Family) -> IpNet {
    match family {
        Family::V4 => IpNet::V4(ipnet::Ipv4Net::default()),
        Family::V6 => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}

fn text_routes(text: &str) -> Vec<Route> {
    let family_in = |line: &str| {
        let of = |word: &str| address(word).map(|network| Family::of(network.addr()));
        line.split_ascii_whitespace().find_map(of)
    };
    // The family of `default dev ppp0` shows only in its neighbours.
    let of_text = text.lines().find_map(family_in).unwrap_or(Family::V4);
    let mut found: Vec<Route> = Vec::new();
    let mut multipath: Option<(IpNet, u64)> = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let after = |key: &str| {
            words.iter().position(|word| *word == key).and_then(|place| words.get(place + 1)).copied()
        };
        let Some(first) = words.first().copied() else { continue };
        if first == "nexthop" {
            if let (Some((network, metric)), Some(name)) = (multipath, after("dev")) {
                found.push(Route { network, interface: interface(name), metric });
            }
            continue;
        }
        multipath = None;
        if is_other_kind(first) || after("table").is_some_and(|table| table != "main") {
            continue;
        }
        let destination = if first == "unicast" { words.get(1).copied().unwrap_or_default() } else { first };
        let network = match destination {
            "default" => everything(family_in(line).unwrap_or(of_text)),
            destination => match address(destination) {
                Some(network) => network.trunc(),
                None => continue,
            },
        };
        let metric = after("metric").and_then(|metric| metric.parse().ok()).unwrap_or(0);
        match after("dev") {
            Some(name) => found.push(Route { network, interface: interface(name), metric }),
            None => multipath = Some((network, metric)),
        }
    }
    found
}

fn json_routes(document: &Value) -> Vec<Route> {
    let routes = || document.as_array().into_iter().flatten();
    let text = |route: &Value, key: &str| route.get(key).and_then(Value::as_str).map(str::to_owned);
    let family_of = |route: &Value| {
        ["dst", "gateway", "prefsrc"]
            .iter()
            .find_map(|key| Some(Family::of(address(&text(route, key)?)?.addr())))
    };
    let of_text = routes().find_map(family_of).unwrap_or(Family::V4);
    let mut found = Vec::new();
    for route in routes() {
        let other = text(route, "type").is_some_and(|kind| is_other_kind(&kind));
        if other || text(route, "table").is_some_and(|table| table != "main") {
            continue;
        }
        let network = match text(route, "dst").as_deref() {
            Some("default") => everything(family_of(route).unwrap_or(of_text)),
            Some(destination) => match address(destination) {
                Some(network) => network.trunc(),
                None => continue,
            },
            None => continue,
        };
        let metric = route.get("metric").and_then(Value::as_u64).unwrap_or(0);
        let hops = route.get("nexthops").and_then(Value::as_array).into_iter().flatten();
        for name in std::iter::once(route).chain(hops).filter_map(|hop| text(hop, "dev")) {
            found.push(Route { network, interface: interface(&name), metric });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(found: &[At]) -> String {
        found.iter().map(|(network, at)| format!("{network} {at}")).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn addresses_in_every_form() {
        let long = "1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000\n    \
                    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00\n    inet 127.0.0.1/8 scope host lo\n       \
                    valid_lft forever preferred_lft forever\n2: eth0@if5: <BROADCAST,UP> mtu 1500\n    \
                    inet 10.0.0.5/24 brd 10.0.0.255 scope global eth0\n    inet6 fd00::5/64 scope global\n";
        let one_line = "1: lo    inet 127.0.0.1/8 scope host lo\n2: eth0    inet 10.0.0.5/24 brd 10.0.0.255 scope global eth0\\\n\
                        2: eth0    inet6 fd00::5/64 scope global\n";
        let brief = "lo               UNKNOWN        127.0.0.1/8\neth0@if5         UP             10.0.0.5/24 fd00::5/64\n";
        let json = r#"[{"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8}]},
            {"ifname":"eth0","addr_info":[{"local":"10.0.0.5","prefixlen":24},{"local":"fd00::5","prefixlen":64}]}]"#;
        for (name, text) in
            [("ip addr", long), ("ip -o addr", one_line), ("ip -br addr", brief), ("ip -j addr", json)]
        {
            let found = Node::addresses_from(text).expect(name);
            assert_eq!(shown(&found), "127.0.0.1/8 lo, 10.0.0.5/24 eth0, fd00::5/64 eth0", "{name}");
        }
        let peer = "3: ppp0: <POINTOPOINT>\n    inet 10.8.0.1 peer 10.8.0.2/32 scope global ppp0\n";
        assert_eq!(shown(&Node::addresses_from(peer).expect("a peer")), "10.8.0.1/32 ppp0");
        for nothing in ["", "hello", "[]", "[", "{}"] {
            assert!(Node::addresses_from(nothing).is_err(), "{nothing}");
        }
    }

    #[test]
    fn routes_in_every_form() {
        let text = "default via 10.0.0.1 dev eth0 proto dhcp metric 100\ndefault via 10.0.1.1 dev wlan0 metric 600\n\
                    10.244.1.0/24 dev cni0 proto kernel scope link src 10.244.1.1\n10.244.2.7 via 10.0.0.6 dev eth0\n\
                    unreachable 10.9.0.0/16\nlocal 10.0.0.5 dev eth0 table local\n10.3.0.0/16 dev x table 7\n";
        let json = r#"[{"dst":"default","gateway":"10.0.0.1","dev":"eth0","metric":100},
            {"dst":"default","gateway":"10.0.1.1","dev":"wlan0","metric":600},
            {"dst":"10.244.1.0/24","dev":"cni0"},{"dst":"10.244.2.7","gateway":"10.0.0.6","dev":"eth0"},
            {"type":"unreachable","dst":"10.9.0.0/16"}]"#;
        for (name, text) in [("ip route", text), ("ip -j route", json)] {
            let found = Node::routes_from(text).expect(name);
            assert_eq!(shown(&found), "0.0.0.0/0 eth0, 10.244.1.0/24 cni0, 10.244.2.7/32 eth0", "{name}");
        }
        for (name, text, expected) in [
            (
                "several ways",
                "default proto static\n\tnexthop via 10.0.0.1 dev eth0 weight 1\n\tnexthop via 10.0.1.1 dev eth1 weight 1\n",
                "0.0.0.0/0 eth0, 0.0.0.0/0 eth1",
            ),
            (
                "IPv6",
                "fd00::/64 dev eth0 proto kernel metric 256\ndefault dev ppp0 metric 1024\n",
                "fd00::/64 eth0, ::/0 ppp0",
            ),
            ("a default route alone", "default dev ppp0 scope link\n", "0.0.0.0/0 ppp0"),
        ] {
            assert_eq!(shown(&Node::routes_from(text).expect(name)), expected, "{name}");
        }
        assert!(Node::routes_from("Kernel IP routing table\n").is_err());
    }
}
