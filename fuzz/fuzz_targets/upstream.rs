//! Answers of other name servers: what can be read is passed on so that it can be read again, fits,
//! and has the client's id and question. What is passed on once is passed on again as it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_names::Transport;
use portolan_names::wire::{Answers, Query};
use portolan_upstream::passed_on;

// The first octet says how long the client's message is; the rest is what a server answers.
fuzz_target!(|bytes: &[u8]| {
    let Some((&length, rest)) = bytes.split_first() else { return };
    let (message, answer) = rest.split_at(usize::from(length).min(rest.len()));
    let Ok(query) = Query::parse(message) else { return };
    for transport in [Transport::Udp, Transport::Tcp] {
        let Some(reply) = passed_on(message, transport, answer) else { return };
        assert!(reply.len() <= query.limit(transport));
        assert_eq!(reply[..2], message[..2]);
        assert_eq!(reply[12..12 + query.question.len()], *query.question);
        let answers = Answers::parse(&reply).unwrap();
        let (records, cut) = (answers.clone().count(), answers.is_truncated());
        assert!(answers.clone().all(|record| record.is_ok()));
        let again = passed_on(message, transport, &reply).unwrap();
        let answers = Answers::parse(&again).unwrap();
        assert!(cut || answers.clone().count() == records);
    }
});
