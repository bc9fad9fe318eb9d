//! Questions and answers as lines of text. `Z` stands for `cluster.local`.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use portolan_names::wire::{Answers, Name, Record, class, kind, rcode};
use portolan_names::{Names, Outcome, Reply, Transport};

use crate::scene::NOW;

const KINDS: [(&str, u16); 17] = [
    ("A", kind::A),
    ("NS", kind::NS),
    ("CNAME", kind::CNAME),
    ("SOA", kind::SOA),
    ("PTR", kind::PTR),
    ("MX", 15),
    ("TXT", kind::TXT),
    ("AAAA", kind::AAAA),
    ("SRV", kind::SRV),
    ("NAPTR", 35),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("IXFR", kind::IXFR),
    ("AXFR", kind::AXFR),
    ("ANY", 255),
    ("CAA", 257),
    ("TYPE65280", 65280),
];

/// A question with what is said about its message.
pub(crate) struct Question {
    pub(crate) message: Vec<u8>,
    pub(crate) transport: Transport,
}

/// The name that `text` spells with `Z` for the zone.
pub(crate) fn name(text: &str) -> Name {
    if text == "." {
        return Name::root();
    }
    Name::parse(&text.replace('Z', "cluster.local")).unwrap()
}

impl Question {
    /// `NAME TYPE`, and then any of `tcp`, `edns=SIZE`, `version=N`, `do`, `rd`, `cd`, `ad`,
    /// `class=N`, `opcode=N`.
    pub(crate) fn parse(text: &str) -> Question {
        let mut words = text.split_whitespace();
        let owner = name(words.next().unwrap());
        let asked = words.next().unwrap();
        let kind = KINDS.iter().find(|(word, _)| *word == asked).unwrap_or_else(|| panic!("{asked}")).1;
        let (mut flags, mut class, mut transport) = (0u16, class::IN, Transport::Udp);
        let (mut edns, mut version, mut dnssec) = (None, 0, 0);
        for word in words {
            match word.split_once('=') {
                Some(("edns", size)) => edns = Some(size.parse::<u16>().unwrap()),
                Some(("version", number)) => version = number.parse().unwrap(),
                Some(("class", number)) => class = number.parse().unwrap(),
                Some(("opcode", number)) => flags |= number.parse::<u16>().unwrap() << 11,
                None if word == "tcp" => transport = Transport::Tcp,
                None if word == "do" => dnssec = 0x80,
                None if word == "rd" => flags |= 0x0100,
                None if word == "cd" => flags |= 0x0010,
                None if word == "ad" => flags |= 0x0020,
                _ => panic!("{word}"),
            }
        }
        let mut message = vec![0x12, 0x34];
        message.extend(flags.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())]);
        message.extend_from_slice(owner.as_wire());
        message.extend(kind.to_be_bytes());
        message.extend(class.to_be_bytes());
        if let Some(size) = edns {
            message.extend([0, 0, 41]);
            message.extend(size.to_be_bytes());
            message.extend([0, version, dnssec, 0, 0, 0]);
        }
        Question { message, transport }
    }
}

/// What is done about a question, and the message, if one is sent.
pub(crate) fn ask(names: &Names, question: &Question, random: u64) -> (String, Vec<u8>) {
    let mut reply = Reply::new();
    match names.answer(&question.message, question.transport, random, &mut reply) {
        Outcome::Reply => (show(reply.message()), reply.message().to_vec()),
        Outcome::Silent => ("silence".to_owned(), Vec::new()),
        Outcome::Forward(query) => (format!("others: {}", short(&query.name)), Vec::new()),
        Outcome::Outside(outside) => (format!("outside: {}", short(outside.name())), Vec::new()),
    }
}

/// The answer to a question as text.
pub(crate) fn answer(names: &Names, question: &str) -> String {
    ask(names, &Question::parse(question), 1).0
}

pub(crate) fn short(name: &Name) -> String {
    let text = name.to_string();
    if text == "." {
        return text;
    }
    let text = text.trim_end_matches('.');
    text.strip_suffix("cluster.local").map_or(text.to_owned(), |front| format!("{front}Z"))
}

/// An answer in a line: code, flags, then `| RECORD` for each answer, `; soa ZONE` for the SOA
/// record in authority, `+ RECORD` for each additional record.
///
/// `NODATA` is NOERROR without answers and with a SOA record. AA is mentioned where it is missing,
/// and a TTL where it is not 5. Addresses and additional records are sorted.
pub(crate) fn show(message: &[u8]) -> String {
    let answers = Answers::parse(message).unwrap();
    let flags = answers.flags;
    let records: Vec<Record<'_>> = answers.map(Result::unwrap).collect();
    let of = |section| records.iter().filter(move |record| record.section == section);
    let opt = records.iter().find(|record| record.kind == kind::OPT);
    let code = flags & 0xf | opt.map_or(0, |opt| u16::try_from(opt.ttl >> 24).unwrap() << 4);
    let mut line = match code {
        rcode::NOERROR if of(0).count() == 0 && of(1).any(|record| record.kind == kind::SOA) => "NODATA",
        rcode::NOERROR => "NOERROR",
        rcode::FORMERR => "FORMERR",
        rcode::SERVFAIL => "SERVFAIL",
        rcode::NXDOMAIN => "NXDOMAIN",
        rcode::NOTIMP => "NOTIMP",
        rcode::REFUSED => "REFUSED",
        rcode::BADVERS => "BADVERS",
        _ => "?",
    }
    .to_owned();
    assert_ne!(flags & 0x8000, 0, "QR");
    for (flag, set, word) in [
        (0x0400, false, " -aa"),
        (0x0200, true, " tc"),
        (0x0100, true, " rd"),
        (0x0080, true, " ra"),
        (0x0020, true, " ad"),
        (0x0010, true, " cd"),
    ] {
        if (flags & flag != 0) == set {
            line.push_str(word);
        }
    }
    let mut answers: Vec<String> = of(0).map(|record| format!(" | {}", shown(message, record))).collect();
    let from = answers.iter().position(|text| !text.contains(" CNAME ")).unwrap_or(answers.len());
    if of(0).any(|record| matches!(record.kind, kind::A | kind::AAAA)) {
        answers[from..].sort();
    }
    line.extend(answers);
    for record in of(1) {
        let text = shown(message, record);
        let owner = short(&record.owner);
        let usual = format!("{owner} SOA ns.dns.{owner} hostmaster.{owner} {NOW} 7200 1800 86400 5");
        let _ = if text == usual { write!(line, " ; soa {owner}") } else { write!(line, " ; {text}") };
    }
    let mut others: Vec<String> = of(2).map(|record| format!(" + {}", shown(message, record))).collect();
    others.sort();
    line.extend(others);
    line
}

fn shown(message: &[u8], record: &Record<'_>) -> String {
    if record.kind == kind::OPT {
        let flags = if record.ttl & 0x8000 == 0 { "" } else { " do" };
        return format!("OPT {}{flags}", record.class);
    }
    let owner = short(&record.owner);
    let kind = KINDS.iter().find(|(_, number)| *number == record.kind).map_or("?", |(word, _)| word);
    let ttl = if record.ttl == 5 { String::new() } else { format!(" {}", record.ttl) };
    let name = |at| short(&Name::read(message, at).unwrap().0);
    let be16 = |at: usize| u16::from_be_bytes([record.data[at], record.data[at + 1]]);
    let data = match record.kind {
        kind::A => Ipv4Addr::from(<[u8; 4]>::try_from(record.data).unwrap()).to_string(),
        kind::AAAA => Ipv6Addr::from(<[u8; 16]>::try_from(record.data).unwrap()).to_string(),
        kind::SRV => format!("{} {} {} {}", be16(0), be16(2), be16(4), name(record.at + 6)),
        kind::TXT => format!("{:?}", str::from_utf8(&record.data[1..]).unwrap()),
        kind::SOA => {
            let (server, next) = Name::read(message, record.at).unwrap();
            let (mailbox, next) = Name::read(message, next).unwrap();
            let number = |at: usize| u32::from_be_bytes(message[at..at + 4].try_into().unwrap());
            let numbers: Vec<String> = (0..5).map(|place| number(next + 4 * place).to_string()).collect();
            format!("{} {} {}", short(&server), short(&mailbox), numbers.join(" "))
        }
        _ => name(record.at),
    };
    format!("{owner}{ttl} {kind} {data}")
}
