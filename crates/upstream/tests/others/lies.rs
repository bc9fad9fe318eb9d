//! Servers that lie, and others that pretend to be them.

use std::time::{Duration, Instant};

use portolan_names::wire::{Section, Transport, kind, rcode};

use crate::fake::{Act, Asked, Fake, ask, forwarder, impatient, zone};

/// The answer that is true.
const TRUE: &str = "NOERROR; www.example.com. 60 A 192.0.2.1";
const SERVFAIL: &str = "SERVFAIL";

/// A lie: another address.
fn lie(asked: &Asked) -> Vec<u8> {
    asked.answer(rcode::NOERROR, &[(Section::Answer, "", kind::A, 60, &[203, 0, 113, 66])])
}

/// A lie with one octet changed.
fn changed(asked: &Asked, at: usize, by: u8) -> Act {
    let mut message = lie(asked);
    message[at] ^= by;
    Act::Send(message)
}

#[tokio::test]
async fn what_is_no_answer_is_ignored() {
    type Lie = fn(&Asked) -> Act;
    for (name, first) in [
        ("another id", (|asked| changed(asked, 0, 1)) as Lie),
        ("no answer at all", |asked| changed(asked, 2, 0x80)),
        ("another opcode", |asked| changed(asked, 2, 0x10)),
        ("another name", |asked| changed(asked, 13, 1)),
        ("another type", |asked| {
            let end = asked.query().question.len() + 12;
            changed(asked, end - 3, 1)
        }),
        ("another class", |asked| {
            let end = asked.query().question.len() + 12;
            changed(asked, end - 1, 2)
        }),
        ("another port", |asked| Act::Elsewhere(lie(asked))),
        ("no question", |asked| changed(asked, 5, 1)),
        ("two questions", |asked| changed(asked, 5, 3)),
        ("a header", |asked| Act::Send(lie(asked)[..12].to_vec())),
        ("half a header", |asked| Act::Send(lie(asked)[..7].to_vec())),
        ("nothing", |_| Act::Send(Vec::new())),
        ("garbage", |_| Act::Send(vec![0xc0; 500])),
    ] {
        let fake = Fake::start(move |asked| vec![first(asked), asked.address(1, 60)]).await;
        assert_eq!(ask(&forwarder([zone(&fake)]), "www.example.com", kind::A).await, TRUE, "{name}");
        assert_eq!(fake.count(), 1, "{name}: the true answer was still awaited");

        let fake = Fake::start(move |asked| vec![first(asked)]).await;
        let reply = ask(&forwarder([impatient(&fake)]), "www.example.com", kind::A).await;
        assert_eq!(reply, SERVFAIL, "{name}, and nothing else");
        assert_eq!(fake.count(), 2, "{name}: two tries");
    }
}

#[tokio::test]
async fn the_case_of_letters_shows_who_answers() {
    fn other_case(asked: &Asked) -> Act {
        let mut message = lie(asked);
        let length = asked.query().question.len() - 4;
        for octet in &mut message[12..12 + length] {
            if octet.is_ascii_alphabetic() {
                *octet ^= 0x20;
            }
        }
        Act::Send(message)
    }
    let fake = Fake::start(|asked| match asked.transport {
        Transport::Udp => vec![other_case(asked)],
        Transport::Tcp => vec![asked.address(1, 60)],
    })
    .await;
    let forwarder = forwarder([zone(&fake)]);
    for _ in 0..2 {
        assert_eq!(ask(&forwarder, "www.example.com", kind::A).await, TRUE);
    }
    let transports: Vec<Transport> = fake.asked().iter().map(|asked| asked.transport).collect();
    assert_eq!(
        transports,
        [Transport::Udp, Transport::Tcp, Transport::Udp, Transport::Tcp],
        "a liar each time"
    );
}

#[tokio::test]
async fn a_server_that_folds_case_is_found_out_once() {
    fn folded(asked: &Asked) -> Vec<Act> {
        let mut answer = asked.answer(rcode::NOERROR, &[(Section::Answer, "", kind::A, 60, &[192, 0, 2, 1])]);
        let length = asked.query().question.len() - 4;
        answer[12..12 + length].make_ascii_lowercase();
        vec![Act::Send(answer)]
    }
    let over_both = Fake::start(folded).await;
    let udp_only = Fake::start(|asked| match asked.transport {
        Transport::Udp => folded(asked),
        Transport::Tcp => vec![Act::Close],
    })
    .await;
    for (name, fake, expected) in [
        ("TCP too", over_both, vec![Transport::Udp, Transport::Tcp, Transport::Udp]),
        ("UDP only", udp_only, vec![Transport::Udp, Transport::Tcp, Transport::Udp, Transport::Udp]),
    ] {
        let forwarder = forwarder([zone(&fake)]);
        for _ in 0..2 {
            assert_eq!(ask(&forwarder, "www.example.com", kind::A).await, TRUE, "{name}");
        }
        let asked: Vec<Transport> = fake.asked().iter().map(|asked| asked.transport).collect();
        assert_eq!(asked, expected, "{name}: it is not asked over TCP again");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_decoded_is_a_failure() {
    for (name, spoil) in [
        (
            "a record cut off",
            (|message: &mut Vec<u8>| message.truncate(message.len() - 2)) as fn(&mut Vec<u8>),
        ),
        ("an owner that points to itself", |message| {
            let at = message.len() - 16;
            let [high, low] = (0xc000 | u16::try_from(at).unwrap()).to_be_bytes();
            message[at..at + 2].copy_from_slice(&[high, low]);
        }),
        ("more records than there are", |message| message[7] = 200),
    ] {
        let fake = Fake::start(move |asked| {
            let mut message =
                asked.answer(rcode::NOERROR, &[(Section::Answer, "", kind::A, 60, &[192, 0, 2, 1])]);
            // Without its OPT record.
            message.truncate(message.len() - 11);
            message[11] = 0;
            spoil(&mut message);
            vec![Act::Send(message)]
        })
        .await;
        let reply = ask(&forwarder([impatient(&fake)]), "www.example.com", kind::A).await;
        assert_eq!(reply, SERVFAIL, "{name}");
    }
}

#[tokio::test]
async fn a_server_that_is_silent_or_late_fails_after_two_tries() {
    let silent = Fake::start(|_| Vec::new()).await;
    let late = Fake::start(|asked| vec![Act::Late(Duration::from_secs(3), lie(asked))]).await;
    let (first, second) = (forwarder([zone(&silent)]), forwarder([zone(&late)]));
    let begun = Instant::now();
    let both =
        tokio::join!(ask(&first, "www.example.com", kind::A), ask(&second, "www.example.com", kind::A));
    assert_eq!((both.0.as_str(), both.1.as_str()), (SERVFAIL, SERVFAIL));
    let took = begun.elapsed();
    assert!((3.9..4.9).contains(&took.as_secs_f64()), "two tries of 2 s: {took:?}");
    assert_eq!((silent.count(), late.count()), (2, 2));
}
