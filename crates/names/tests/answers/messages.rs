//! §6: messages.

use std::collections::BTreeSet;

use portolan_names::wire::{Answers, kind};

use crate::notation::{Question, ask};
use crate::scene::Scene;
use crate::{as_is, run};

#[test]
fn requests() {
    run(&[
        (
            "spelling is repeated",
            as_is,
            "wEb.SHOP.Svc.cLuster.Local A",
            "NOERROR | wEb.SHOP.Svc.cLuster.Local A 10.96.0.1",
        ),
        ("spelling of a zone in authority", as_is, "x.CLUSTER.local A", "NXDOMAIN ; soa CLUSTER.local"),
        (
            "EDNS: our own size",
            as_is,
            "web.shop.svc.Z A edns=4096",
            "NOERROR | web.shop.svc.Z A 10.96.0.1 + OPT 1232",
        ),
        (
            "EDNS: DO is repeated",
            as_is,
            "web.shop.svc.Z A edns=512 do",
            "NOERROR | web.shop.svc.Z A 10.96.0.1 + OPT 1232 do",
        ),
        ("EDNS of another version", as_is, "web.shop.svc.Z A edns=512 version=1", "BADVERS -aa + OPT 1232"),
        ("NOTIFY", as_is, "web.shop.svc.Z A opcode=4", "NOTIMP -aa"),
        ("UPDATE", as_is, "Z SOA opcode=5", "NOTIMP -aa"),
        ("class CH", as_is, "web.shop.svc.Z A class=3", "REFUSED -aa"),
        ("class ANY", as_is, "web.shop.svc.Z A class=255", "REFUSED -aa"),
    ]);
}

#[test]
fn what_is_no_question() {
    let names = Scene::new().names();
    let good = Question::parse("web.shop.svc.Z A rd");
    let with = |change: fn(&mut Vec<u8>)| {
        let mut message = good.message.clone();
        change(&mut message);
        message
    };
    for (name, message, expected) in [
        ("11 octets", with(|message| message.truncate(11)), "silence"),
        ("an answer", with(|message| message[2] |= 0x80), "silence"),
        ("no question", with(|message| message[5] = 0), "FORMERR -aa rd"),
        ("two questions", with(|message| message[5] = 2), "FORMERR -aa rd"),
        ("cut off", with(|message| message.truncate(20)), "FORMERR -aa rd"),
        ("a header alone", with(|message| message.truncate(12)), "FORMERR -aa rd"),
    ] {
        let question = Question { message, transport: good.transport };
        assert_eq!(ask(&names, &question, 1).0, expected, "{name}");
    }
}

/// A headless Service `many` with this many endpoints, named or not.
fn many(count: u32, named: bool) -> portolan_names::Names {
    let mut scene = Scene::new();
    scene.service("shop/many", "", "p:tcp:1");
    let endpoint = |number: u32| {
        let (high, low) = (number / 250, number % 250 + 1);
        if named { format!("10.9.{high}.{low}=many-{number}") } else { format!("10.9.{high}.{low}") }
    };
    let endpoints: Vec<String> = (0..count).map(endpoint).collect();
    for (number, part) in endpoints.chunks(100).enumerate() {
        scene.slice("shop/many", &format!("s{number}"), "p:tcp:1", &part.join(" "));
    }
    scene.names()
}

/// Octets, whether TC is set, answers, additional records.
fn size(names: &portolan_names::Names, question: &str) -> (usize, bool, usize, usize) {
    let (_, message) = ask(names, &Question::parse(question), 3);
    let answers = Answers::parse(&message).unwrap();
    let truncated = answers.is_truncated();
    let sections: Vec<(u8, u16)> =
        answers.map(|record| record.unwrap()).map(|record| (record.section, record.kind)).collect();
    let of = |section| sections.iter().filter(|(of, kind)| *of == section && *kind != kind::OPT).count();
    (message.len(), truncated, of(0), of(2))
}

#[test]
fn answers_that_do_not_fit() {
    let names = many(300, false);
    // Header and question take 45 octets, an address 16, EDNS 11.
    assert_eq!(size(&names, "many.shop.svc.Z A"), (509, true, 29, 0));
    assert_eq!(size(&names, "many.shop.svc.Z A edns=100"), (504, true, 28, 0));
    assert_eq!(size(&names, "many.shop.svc.Z A edns=1232"), (1224, true, 73, 0));
    assert_eq!(size(&names, "many.shop.svc.Z A edns=65535"), (1224, true, 73, 0));
    assert_eq!(size(&names, "many.shop.svc.Z A tcp"), (45 + 300 * 16, false, 300, 0));
}

#[test]
fn additional_records_are_left_out_first() {
    let names = many(12, true);
    let (length, truncated, answers, additional) = size(&names, "_p._tcp.many.shop.svc.Z SRV edns=800");
    assert!(length <= 800 && !truncated, "{length}");
    assert!(answers == 12 && additional < 12, "{answers} {additional}");
    let (length, truncated, answers, additional) = size(&names, "_p._tcp.many.shop.svc.Z SRV");
    assert!(length <= 512 && truncated && answers < 12 && additional == 0, "{length} {answers}");
    let (_, truncated, answers, additional) = size(&names, "_p._tcp.many.shop.svc.Z SRV tcp");
    assert_eq!((truncated, answers, additional), (false, 12, 12));
}

/// Additional records name targets that are further away than pointers reach.
#[test]
fn long_answers_over_tcp_are_whole() {
    let names = many(700, true);
    let (_, message) = ask(&names, &Question::parse("_p._tcp.many.shop.svc.Z SRV tcp"), 3);
    assert!(message.len() > 0x4000);
    let mut targets = BTreeSet::new();
    for record in Answers::parse(&message).unwrap().map(Result::unwrap) {
        if record.section == 2 {
            targets.insert(record.owner.to_string());
        }
    }
    assert_eq!(targets.len(), 700);
    let (_, message) = ask(&many(4500, false), &Question::parse("many.shop.svc.Z A tcp"), 3);
    assert!(message.len() <= 65_535 && Answers::parse(&message).unwrap().is_truncated());
}

#[test]
fn addresses_come_in_random_order() {
    let mut scene = Scene::new();
    scene.service("shop/three", "", "p:tcp:1");
    scene.slice("shop/three", "a", "p:tcp:1", "10.9.0.1 10.9.0.2 10.9.0.3");
    let names = scene.names();
    let question = Question::parse("three.shop.svc.Z A");
    let mut orders = BTreeSet::new();
    for random in 0..100 {
        let (_, message) = ask(&names, &question, random);
        let order: Vec<u8> =
            Answers::parse(&message).unwrap().map(|record| record.unwrap().data[3]).collect();
        orders.insert(order);
    }
    assert_eq!(orders.len(), 6);
    assert_eq!(ask(&names, &question, 5).1, ask(&names, &question, 5).1, "the same number, the same order");
}

/// Of more than fit each gets its turn.
#[test]
fn what_is_cut_differs() {
    let names = many(60, false);
    let question = Question::parse("many.shop.svc.Z A");
    let mut seen = BTreeSet::new();
    for random in 0..50 {
        let (_, message) = ask(&names, &question, random);
        seen.extend(Answers::parse(&message).unwrap().map(|record| record.unwrap().data[3]));
    }
    assert_eq!(seen.len(), 60);
}

#[test]
fn srv_comes_in_a_fixed_order() {
    let names = many(5, true);
    let question = Question::parse("_p._tcp.many.shop.svc.Z SRV tcp");
    let order = |random| -> Vec<Vec<u8>> {
        let (_, message) = ask(&names, &question, random);
        let records = Answers::parse(&message).unwrap().map(Result::unwrap);
        records.filter(|record| record.section == 0).map(|record| record.data.to_vec()).collect()
    };
    assert!((1..20).all(|random| order(random) == order(0)));
}
