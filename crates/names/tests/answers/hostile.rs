//! Messages that nobody means well with.

use portolan_names::wire::{Answers, HEADER_LEN, Name, Query};
use portolan_names::{Outcome, Reply, Transport};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::notation::Question;
use crate::scene::Scene;

const QUESTIONS: [&str; 8] = [
    "web.shop.svc.Z A edns=1232",
    "db.shop.svc.Z AAAA",
    "_sql._tcp.db.shop.svc.Z SRV edns=4096 do",
    "a.pin._zone.db.shop.svc.Z A",
    "out.shop.svc.Z A",
    "1.0.96.10.in-addr.arpa PTR",
    "10-1-2-3.shop.pod.Z A",
    "Z NS",
];

proptest! {
    #[test]
    fn mutated_messages_get_answers_that_can_be_read(
        question in 0..QUESTIONS.len(),
        changes in vec((any::<u16>(), any::<u8>()), 0..6),
        cut in any::<Option<u8>>(),
        tcp in any::<bool>(),
        upstream in vec(any::<u8>(), 0..80),
    ) {
        let mut scene = Scene::new();
        scene.external("shop/out", "www.example.com");
        let names = scene.names();
        let mut message = Question::parse(QUESTIONS[question]).message;
        for (at, octet) in changes {
            let at = usize::from(at) % message.len();
            message[at] = octet;
        }
        if let Some(cut) = cut {
            message.truncate(usize::from(cut));
        }
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let mut reply = Reply::new();
        match names.answer(&message, transport, 1, &mut reply) {
            Outcome::Silent | Outcome::Forward(_) => return Ok(()),
            Outcome::Reply => {}
            Outcome::Outside(outside) => outside.finish(Some(&upstream), &mut reply),
        }
        let reply = reply.message();
        prop_assert!(tcp || reply.len() <= 1232);
        prop_assert_eq!(&reply[..2], &message[..2]);
        for record in Answers::parse(reply).unwrap() {
            prop_assert!(record.is_ok());
        }
    }

    #[test]
    fn any_octets_are_read_to_an_end(message in vec(any::<u8>(), 0..200), at in 0usize..220) {
        let _ = Query::parse(&message);
        let _ = Name::read(&message, at);
        if let Ok(answers) = Answers::parse(&message) {
            prop_assert!(answers.count() <= 3 * 65_535);
        }
    }

    /// A name that was written is read again, whatever octets its labels have.
    #[test]
    fn names_round_trip(labels in vec(vec(any::<u8>(), 1..20), 0..8)) {
        let mut name = Name::root();
        for label in &labels {
            prop_assert!(name.push(label));
        }
        let mut message = vec![0; HEADER_LEN];
        message.extend_from_slice(name.as_wire());
        let (read, end) = Name::read(&message, HEADER_LEN).unwrap();
        prop_assert_eq!(&read, &name);
        prop_assert_eq!(end, message.len());
        prop_assert_eq!(read.labels(), labels.len());
    }
}
