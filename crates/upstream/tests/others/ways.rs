//! Ways to a server: datagrams, connections, with and without EDNS.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portolan_names::wire::{Section, Transport, kind, rcode};

use crate::fake::{Act, Asked, Fake, Rr, ask, brief, forwarder, impatient, question, with_edns, zone};

/// An answer with `count` addresses.
fn many(asked: &Asked, count: u8) -> Act {
    let data: Vec<[u8; 4]> = (0..count).map(|last| [192, 0, 2, last]).collect();
    let records: Vec<Rr<'_>> =
        data.iter().map(|data| (Section::Answer, "", kind::A, 60, &data[..])).collect();
    Act::Send(asked.answer(rcode::NOERROR, &records))
}

fn transports(fake: &Fake) -> Vec<Transport> {
    let asked = fake.asked();
    asked.iter().filter(|asked| asked.query().kind != kind::NS).map(|asked| asked.transport).collect()
}

#[tokio::test]
async fn what_a_datagram_cannot_hold_is_asked_for_over_tcp() {
    let fake = Fake::start(|asked| vec![many(asked, 200)]).await;
    let forwarder = forwarder([zone(&fake)]);
    let message = question("www.example.com", kind::A);
    for (name, message, transport, records, cut) in [
        ("UDP without EDNS", message.clone(), Transport::Udp, 29, true),
        ("UDP with EDNS", with_edns(message.clone(), 4096, false), Transport::Udp, 74, true),
        ("TCP", message, Transport::Tcp, 200, false),
    ] {
        let reply = brief(&forwarder.answer(&message, transport).await.unwrap());
        assert_eq!(reply.matches(" A ").count(), records, "{name}: {reply}");
        assert_eq!(reply.starts_with("NOERROR tc"), cut, "{name}");
    }
    assert_eq!(transports(&fake), [Transport::Udp, Transport::Tcp].repeat(3));
}

#[tokio::test]
async fn a_cut_answer_is_better_than_none() {
    for (name, act) in [
        (
            "no TCP",
            (|asked| if asked.transport == Transport::Tcp { Act::Close } else { many(asked, 200) })
                as fn(&Asked) -> Act,
        ),
        ("slow TCP", |asked| {
            let Act::Send(message) = many(asked, 100) else { unreachable!() };
            if asked.transport == Transport::Tcp {
                Act::Late(Duration::from_secs(5), message)
            } else {
                Act::Send(message)
            }
        }),
    ] {
        let fake = Fake::start(move |asked| vec![act(asked)]).await;
        let reply = ask(&forwarder([impatient(&fake)]), "www.example.com", kind::A).await;
        assert!(reply.starts_with("NOERROR tc; www.example.com. 60 A 192.0.2.0"), "{name}: {reply}");
    }
}

#[tokio::test]
async fn a_connection_is_used_again_and_for_several_questions_at_a_time() {
    let fake = Fake::start(|asked| vec![asked.address(1, 60)]).await;
    let mut zone = zone(&fake);
    zone.forwards[0].force_tcp = true;
    let forwarder = forwarder([zone]);
    let names: Vec<String> = (0..20).map(|at| format!("name{at}.example.com")).collect();
    let asks: Vec<_> = names.iter().map(|name| ask(&forwarder, name, kind::A)).collect();
    for ask in asks {
        assert!(ask.await.starts_with("NOERROR; name"));
    }
    let mut tasks = tokio::task::JoinSet::new();
    for name in names {
        let forwarder = forwarder.clone();
        tasks.spawn(async move { ask(&forwarder, &name, kind::AAAA).await });
    }
    assert!(tasks.join_all().await.iter().all(|reply| reply.starts_with("NOERROR")));
    let ports: std::collections::HashSet<u16> = fake.asked().iter().map(|asked| asked.from.port()).collect();
    assert_eq!((fake.count(), ports.len()), (40, 1), "one connection");
    assert!(transports(&fake).iter().all(|transport| *transport == Transport::Tcp));
}

#[tokio::test]
async fn a_connection_that_was_closed_is_made_again() {
    let count = Arc::new(AtomicUsize::new(0));
    let fake = Fake::start(move |asked| match count.fetch_add(1, Ordering::Relaxed) {
        // The server closes after its first answer, and instead of its second.
        0 => vec![asked.address(1, 60), Act::Close],
        1 => vec![Act::Close],
        _ => vec![asked.address(2, 60)],
    })
    .await;
    let mut zone = zone(&fake);
    zone.forwards[0].force_tcp = true;
    let forwarder = forwarder([zone]);
    for last in [1, 2] {
        let reply = ask(&forwarder, "www.example.com", kind::A).await;
        assert_eq!(reply, format!("NOERROR; www.example.com. 60 A 192.0.2.{last}"));
    }
}

#[tokio::test]
async fn answers_on_a_connection_come_in_any_order_and_lies_do_not_count() {
    // Each question waits for the next one; the first is answered last.
    let waiting: Arc<std::sync::Mutex<Vec<Asked>>> = Arc::default();
    let fake = Fake::start(move |asked| {
        let mut waiting = waiting.lock().unwrap();
        waiting.push(asked.clone());
        if waiting.len() < 3 {
            return Vec::new();
        }
        let stray = Act::Send(vec![0xff; 12]);
        let answers = waiting.drain(..).rev().map(|asked| {
            let label = asked.spelled().as_bytes()[1] - b'0';
            asked.address(label, 60)
        });
        std::iter::once(stray).chain(answers).collect()
    })
    .await;
    let mut zone = zone(&fake);
    zone.forwards[0].force_tcp = true;
    let forwarder = forwarder([zone]);
    let replies = tokio::join!(
        ask(&forwarder, "n1.example.com", kind::A),
        ask(&forwarder, "n2.example.com", kind::A),
        ask(&forwarder, "n3.example.com", kind::A)
    );
    assert_eq!(replies.0, "NOERROR; n1.example.com. 60 A 192.0.2.1");
    assert_eq!(replies.1, "NOERROR; n2.example.com. 60 A 192.0.2.2");
    assert_eq!(replies.2, "NOERROR; n3.example.com. 60 A 192.0.2.3");
}

#[tokio::test]
async fn a_server_from_before_edns_is_asked_without() {
    let header = |asked: &Asked, code: u8| {
        let id = &asked.message[..2];
        vec![id[0], id[1], 0x81, 0x80 | code, 0, 0, 0, 0, 0, 0, 0, 0]
    };
    for (name, rejects_with_question, code) in [
        ("FORMERR", true, rcode::FORMERR),
        ("NOTIMP", true, rcode::NOTIMP),
        ("FORMERR, only a header", false, rcode::FORMERR),
    ] {
        let fake = Fake::start(move |asked| match asked.query().edns {
            None => vec![asked.address(1, 60)],
            Some(_) if rejects_with_question => {
                let mut message = asked.answer(code, &[]);
                message.truncate(message.len() - 11);
                message[11] = 0;
                vec![Act::Send(message)]
            }
            Some(_) => vec![Act::Send(header(asked, u8::try_from(code).unwrap()))],
        })
        .await;
        let forwarder = forwarder([zone(&fake)]);
        for _ in 0..2 {
            let reply = ask(&forwarder, "www.example.com", kind::A).await;
            assert_eq!(reply, "NOERROR; www.example.com. 60 A 192.0.2.1", "{name}");
        }
        let edns: Vec<bool> = fake.asked().iter().map(|asked| asked.query().edns.is_some()).collect();
        assert_eq!(edns, [true, false, false], "{name}: it is remembered");
    }
}
