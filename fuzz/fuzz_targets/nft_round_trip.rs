//! A rule or an element that was read can be written, and what was written is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_netfilter::nft::{
    Batch, Element, ElementData, Expr, OwnedData, OwnedElement, Rule, RuleInfo, TableFamily, TableRef,
};
use portolan_netfilter::wire::{Message, Messages, Writer};

/// `NFTA_RULE_HANDLE`
const RULE_HANDLE: u16 = 3;

fuzz_target!(|payload: &[u8]| {
    let message = Message { kind: 0, flags: 0, sequence: 0, payload };
    let table = TableRef { family: TableFamily::Ip, name: "t" };
    let mut batch = Batch::new();
    if let Some(info) = RuleInfo::parse(&message)
        && !info.exprs.iter().any(|expr| matches!(expr, Expr::Other(_)))
    {
        batch.add_rule(table, &info.chain, &Rule { exprs: info.exprs.clone(), comment: None });
        if batch.error().is_none() {
            let mut written = written(&batch);
            let mut handle = Writer::new();
            handle.be64(RULE_HANDLE, info.handle);
            written.extend_from_slice(handle.as_bytes());
            let message = Message { kind: 0, flags: 0, sequence: 0, payload: &written };
            let again = RuleInfo::parse(&message).expect("it was a rule");
            assert_eq!((again.exprs, again.chain), (info.exprs, info.chain));
        }
    }
    for element in OwnedElement::parse_all(&message) {
        batch.clear();
        let data = element.data.as_ref().map(|data| match data {
            OwnedData::Value(value) => ElementData::Value(value),
            OwnedData::Verdict(verdict) => ElementData::Verdict(verdict),
        });
        let borrowed = Element {
            key: &element.key,
            key_end: element.key_end.as_deref(),
            data,
            timeout: element.timeout,
            comment: None,
        };
        batch.add_elements(table, "s", [borrowed]);
        if batch.error().is_none() {
            let written = written(&batch);
            let message = Message { kind: 0, flags: 0, sequence: 0, payload: &written };
            let again: Vec<_> = OwnedElement::parse_all(&message).collect();
            assert_eq!(again, [OwnedElement { expires: None, comment: None, ..element.clone() }]);
        }
    }
});

/// The payload of the batch's only message.
fn written(batch: &Batch) -> Vec<u8> {
    let bytes = batch.to_bytes();
    let message = Messages::new(&bytes).nth(1).expect("between the marks").expect("well-formed");
    message.payload.to_vec()
}
