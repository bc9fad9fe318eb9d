use portolan_netlink::wire::Messages;
use proptest::prelude::*;

use super::*;
use crate::nft::TableFamily;

fn key(address: &str) -> ServerKey {
    ServerKey::Address(VirtualServer { protocol: 6, address: address.parse().expect("address"), port: 80 })
}

fn scheduling(scheduler: &str, flags: u32, persistence: Option<u32>) -> Scheduling {
    Scheduling { scheduler: scheduler.into(), flags, persistence }
}

fn destination(address: &str, weight: u32) -> Destination {
    Destination { address: address.parse().expect("address"), port: 8080, weight }
}

/// The attributes of `request`, in hexadecimal.
fn hex(request: &Request<'_>) -> String {
    let mut writer = Writer::new();
    request.emit(&mut writer);
    let words = writer.as_bytes().chunks_exact(4).map(|word| match *word {
        [a, b, c, d] => format!("{a:02x}{b:02x}{c:02x}{d:02x}"),
        _ => String::new(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The bytes that kernels 6.1 and 6.12 took, on a machine of little endian.
#[test]
#[cfg(target_endian = "little")]
fn requests_in_bytes() {
    let v4 = "30000180 06000100 02000000 06000200 06000000 14000300 0a600050 00000000 00000000 00000000 \
              06000400 00500000";
    let v6_mark = "14000180 06000100 0a000000 08000500 07000070";
    let of_v4 = |more: &str| format!("{v4} {more}");
    let cases = [
        ("an address", hex(&Request::DeleteServer(&key("10.96.0.80"))), v4.to_owned()),
        (
            "a mark",
            hex(&Request::DeleteServer(&ServerKey::Mark(TableFamily::Ip6, 0x7000_0007))),
            v6_mark.to_owned(),
        ),
        (
            "a destination",
            hex(&Request::NewDestination(&key("10.96.0.80"), destination("10.1.0.1", 1))),
            of_v4(
                "48000280 14000100 0a010001 00000000 00000000 00000000 06000200 1f900000 06000b00 02000000 \
                 08000300 00000000 08000400 01000000 08000500 00000000 08000600 00000000",
            ),
        ),
        (
            "a destination to find",
            hex(&Request::DeleteDestination(&key("10.96.0.80"), destination("10.1.0.1", 1))),
            of_v4(
                "28000280 14000100 0a010001 00000000 00000000 00000000 06000200 1f900000 06000b00 02000000",
            ),
        ),
        (
            "a virtual server with persistence",
            hex(&Request::NewServer(&key("10.96.0.80"), &scheduling("rr", 0, Some(10_800)))),
            "54000180 06000100 02000000 06000200 06000000 14000300 0a600050 00000000 00000000 00000000 \
             06000400 00500000 07000600 72720000 0c000700 01000000 ffffffff 08000800 302a0000 \
             08000900 ffffffff"
                .to_owned(),
        ),
        (
            "a virtual server that hashes, of IPv6",
            hex(&Request::SetServer(
                &ServerKey::Mark(TableFamily::Ip6, 0x7000_0007),
                &scheduling("mh", HASH_BY_PORT, None),
            )),
            "38000180 06000100 0a000000 08000500 07000070 07000600 6d680000 0c000700 10000000 ffffffff \
             08000800 00000000 08000900 80000000"
                .to_owned(),
        ),
    ];
    for (name, found, expected) in cases {
        assert_eq!(found, expected, "{name}");
    }
}

/// As the kernel would report what a request asks for.
fn reported(command: u8, request: &Request<'_>, more: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    let message = writer.message_with(0x20, 0, 1, &header(command));
    request.emit(&mut writer);
    more(&mut writer);
    writer.end_message(message);
    writer.as_bytes().to_vec()
}

#[test]
fn what_is_asked_for_is_what_is_read() {
    for scheduling in [scheduling("rr", 0, None), scheduling("mh", HASH_BY_PORT, Some(60))] {
        let keys = [key("10.96.0.80"), key("fd00::80"), ServerKey::Mark(TableFamily::Ip, 0x7000_0001)];
        for key in keys {
            let bytes = reported(1, &Request::NewServer(&key, &scheduling), |_| {});
            let message = Messages::new(&bytes).next().expect("a message").expect("whole");
            let expected = ServerState { key, scheduling: scheduling.clone() };
            assert_eq!(ServerState::parse(&message), Some(expected));
        }
    }
}

/// As the kernel reports them: what was counted, and what is counted each second.
#[test]
fn counters_are_read() {
    let count = |from: u64| Counts {
        connections: from,
        packets_in: from + 1,
        packets_out: from + 2,
        bytes_in: from + 3,
        bytes_out: from + 4,
    };
    let expected = Counters { total: count(1 << 33), rate: count(70) };
    let (service_counters, numbers) = (12, (1_u64 << 33..).take(5).chain(70..75));
    let mut writer = Writer::new();
    let message = writer.message_with(0x20, 0, 1, &header(1));
    let key = key("10.96.0.80");
    key.emit(&mut writer, |to| {
        let counters = to.nest(service_counters);
        for (kind, number) in (1..).zip(numbers) {
            to.attribute(kind, &number.to_ne_bytes());
        }
        to.end_nest(counters);
    });
    writer.end_message(message);
    let message = Messages::new(writer.as_bytes()).next().expect("a message").expect("whole");
    assert_eq!(ServerState::parse_counters(&message), Some((key, expected)));
    let mut sum = expected;
    sum += expected;
    assert_eq!(sum.total.bytes_out, 2 * ((1 << 33) + 4));
}

proptest! {
    #[test]
    fn no_message_makes_it_panic(command in 0_u8..20, payload: Vec<u8>) {
        let mut bytes = header(command).to_vec();
        bytes.extend(payload);
        let message = Message { kind: 0x20, flags: 0, sequence: 1, payload: &bytes };
        let _ = ServerState::parse(&message);
        let _ = ServerState::parse_counters(&message);
        let _ = DestinationState::parse(&message);
    }
}
