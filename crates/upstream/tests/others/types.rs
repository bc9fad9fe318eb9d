//! Records of all types pass through: names in them are put together, all else is as it came.

use portolan_names::wire::{Answers, Transport};
use portolan_upstream::passed_on;
use proptest::prelude::*;

use crate::fake::{question, with_edns};

/// A pointer to `example.com` in the question for `a.example.com`.
const EXAMPLE: &[u8] = &[0xc0, 14];
/// That name.
const WHOLE: &[u8] = b"\x07example\x03com\x00";

/// A server's answer to the question for `kind` at `a.example.com`, with these records' data.
fn answer(kind: u16, data: &[Vec<u8>]) -> Vec<u8> {
    let mut message = question("a.example.com", kind);
    message[2..4].copy_from_slice(&[0x81, 0x80]);
    message[6..8].copy_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
    for data in data {
        let [high, low] = kind.to_be_bytes();
        message.extend_from_slice(&[0xc0, 12, high, low, 0, 1, 0, 0, 0, 60]);
        message.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        message.extend_from_slice(data);
    }
    message
}

/// The data of the records that a client gets.
fn passed(kind: u16, data: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    let message = with_edns(question("a.example.com", kind), 1232, true);
    let reply = passed_on(&message, Transport::Tcp, &answer(kind, data))?;
    let answers = Answers::parse(&reply).unwrap();
    Some(
        answers
            .map(Result::unwrap)
            .filter(|record| record.section == 0)
            .map(|record| record.data.to_vec())
            .collect(),
    )
}

#[test]
fn data_with_names() {
    let join = |parts: &[&[u8]]| parts.concat();
    for (name, kind, data, expected) in [
        ("TXT", 16, join(&[b"\x03\xc0\x0cx"]), join(&[b"\x03\xc0\x0cx"])),
        ("an unknown type", 65_280, join(&[EXAMPLE, b"rest"]), join(&[EXAMPLE, b"rest"])),
        ("nothing", 65_281, Vec::new(), Vec::new()),
        ("SVCB, HTTPS", 65, join(&[b"\0\x01\0\0\x01\0\x03\x02h2"]), join(&[b"\0\x01\0\0\x01\0\x03\x02h2"])),
        ("CNAME keeps a pointer", 5, join(&[b"\x01b", EXAMPLE]), join(&[b"\x01b", EXAMPLE])),
        ("MX keeps a pointer", 15, join(&[b"\0\x0a\x01b", EXAMPLE]), join(&[b"\0\x0a\x01b", EXAMPLE])),
        (
            "SRV has none",
            33,
            join(&[b"\0\x01\0\x02\0\x03\x01b", EXAMPLE]),
            join(&[b"\0\x01\0\x02\0\x03\x01b", WHOLE]),
        ),
        (
            "NAPTR has none",
            35,
            join(&[b"\0\x01\0\x02\x01s\x00\x02re", EXAMPLE]),
            join(&[b"\0\x01\0\x02\x01s\x00\x02re", WHOLE]),
        ),
        ("DNAME has none", 39, join(&[EXAMPLE]), join(&[WHOLE])),
        ("RRSIG", 46, join(&[&[0; 18], WHOLE, b"sig"]), join(&[&[0; 18], WHOLE, b"sig"])),
    ] {
        assert_eq!(passed(kind, &[data]), Some(vec![expected]), "{name}");
    }
    for (name, kind, data) in [
        ("a name cut off", 5, b"\x05ab".to_vec()),
        ("something behind a name", 5, b"\x01b\x00more".to_vec()),
        ("an SRV record that is too short", 33, b"\0\x01\0".to_vec()),
        ("a pointer forwards", 5, vec![0xc0, 0xff]),
    ] {
        assert_eq!(passed(kind, &[data]), None, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever a server sends, what comes of it can be read, and fits.
    #[test]
    fn changed_octets_do_no_harm(
        kind in prop::sample::select(vec![1u16, 2, 5, 6, 12, 15, 16, 28, 33, 35, 46, 65_280]),
        data in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..40),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut answer = answer(kind, &data);
        for (at, octet) in changes {
            let at = at.index(answer.len());
            answer[at] = octet;
        }
        let message = question("a.example.com", kind);
        for (transport, limit) in [(Transport::Udp, 512), (Transport::Tcp, 65_535)] {
            let Some(reply) = passed_on(&message, transport, &answer) else { continue };
            prop_assert!(reply.len() <= limit);
            prop_assert_eq!(&reply[..2], &message[..2]);
            prop_assert_eq!(&reply[12..message.len()], &message[12..]);
            prop_assert!(Answers::parse(&reply).unwrap().all(|record| record.is_ok()));
        }
    }
}

#[test]
fn addresses_come_in_any_order_behind_aliases() {
    let data: Vec<Vec<u8>> = (0..4).map(|last| vec![192, 0, 2, last]).collect();
    let mut firsts = std::collections::HashSet::new();
    for _ in 0..200 {
        let addresses = passed(1, &data).unwrap();
        assert_eq!(addresses.len(), 4);
        firsts.insert(addresses[0].clone());
    }
    assert_eq!(firsts.len(), 4, "each is first at times");
}
