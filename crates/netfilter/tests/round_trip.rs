//! What is written is read back the same, and what is read never does harm.

use std::time::Duration;

use portolan_netfilter::conntrack::Flow;
use portolan_netfilter::nft::{
    BaseChain, Batch, COMMENT_MAX, Chain, ChainInfo, ChainType, CmpOp, CtKey, DataType, Direction, Element,
    ElementData, ElementOperation, EncodeError, Expr, Field, Hook, KeyType, MetaKey, OwnedData, OwnedElement,
    PayloadBase, Register, Rule, RuleInfo, Set, SetInfo, TableFamily, TableInfo, TableRef, Verdict,
};
use portolan_netfilter::wire::{Attributes, Message, Messages, Writer};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const TABLE: TableRef<'static> = TableRef { family: TableFamily::Ip6, name: "svc" };

/// What `fill` appends, message by message, with a rule's handle so that rules can be read.
fn messages(fill: impl FnOnce(&mut Batch)) -> Vec<Vec<u8>> {
    let mut batch = Batch::new();
    fill(&mut batch);
    assert_eq!(batch.error(), None);
    let bytes = batch.to_bytes();
    assert_eq!(bytes.len(), batch.len());
    let mut messages: Vec<Vec<u8>> =
        Messages::new(&bytes).map(|message| message.expect("well-formed").payload.to_vec()).collect();
    assert_eq!(messages.len(), batch.messages() + 2);
    messages.pop();
    messages.remove(0);
    messages
}

fn read<T>(payload: &[u8], parse: impl Fn(&Message<'_>) -> T) -> T {
    parse(&Message { kind: 0, flags: 0, sequence: 0, payload })
}

fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9-]{0,30}"
}

/// A comment as it is kept.
fn comment() -> impl Strategy<Value = Option<String>> {
    option::of("[a-zA-Z0-9 /:äß€-]{0,40}")
}

fn register() -> impl Strategy<Value = Register> {
    (0..16u32).prop_map(Register::word)
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Accept),
        Just(Verdict::Drop),
        Just(Verdict::Return),
        name().prop_map(Verdict::Jump),
        name().prop_map(Verdict::Goto),
    ]
}

fn milliseconds() -> impl Strategy<Value = Option<Duration>> {
    option::of((1..u64::MAX).prop_map(Duration::from_millis))
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..64)
}

fn expr() -> impl Strategy<Value = Expr> {
    let base = prop_oneof![Just(PayloadBase::Network), Just(PayloadBase::Transport)];
    let meta = prop_oneof![
        Just(MetaKey::L4Proto),
        Just(MetaKey::InputInterfaceName),
        Just(MetaKey::OutputInterfaceName),
        Just(MetaKey::NfProto),
        Just(MetaKey::Mark),
    ];
    let ct = prop_oneof![
        Just(CtKey::State),
        Just(CtKey::Status),
        Just(CtKey::SourceIp),
        Just(CtKey::DestinationIp),
        Just(CtKey::SourceIp6),
        Just(CtKey::DestinationIp6),
        Just(CtKey::ProtoSource),
        Just(CtKey::ProtoDestination),
    ];
    let direction = option::of(prop_oneof![Just(Direction::Original), Just(Direction::Reply)]);
    let op = prop_oneof![Just(CmpOp::Equal), Just(CmpOp::NotEqual)];
    prop_oneof![
        (base, any::<u32>(), any::<u32>(), register()).prop_map(|(base, offset, len, dest)| Expr::Payload {
            base,
            offset,
            len,
            dest
        }),
        (meta, register()).prop_map(|(key, dest)| Expr::Meta { key, dest }),
        (ct, direction, register()).prop_map(|(key, direction, dest)| Expr::Ct { key, direction, dest }),
        register().prop_map(|dest| Expr::FibSourceType { dest }),
        register().prop_map(|dest| Expr::FibDestinationType { dest }),
        (any::<u32>(), register()).prop_map(|(modulus, dest)| Expr::RandomBelow { modulus, dest }),
        (op, register(), value()).prop_map(|(op, source, value)| Expr::Cmp { op, source, value }),
        (register(), register(), value()).prop_map(|(source, dest, mask)| {
            let xor = mask.iter().rev().copied().collect();
            Expr::Bitwise { source, dest, mask, xor }
        }),
        (name(), register(), option::of(register()), any::<bool>())
            .prop_map(|(set, source, dest, inverted)| Expr::Lookup { set, source, dest, inverted }),
        verdict().prop_map(Expr::Immediate),
        (value(), register().prop_filter("decides", |dest| *dest != Register::VERDICT))
            .prop_map(|(value, dest)| Expr::Constant { value, dest }),
        (any::<bool>(), register(), option::of(register())).prop_map(|(ipv6, address, port)| Expr::Dnat {
            ipv6,
            address,
            port
        }),
        Just(Expr::MasqueradeFullyRandom),
        Just(Expr::NoTrack),
        Just(Expr::RejectTcpReset),
        register().prop_map(|source| Expr::SetMark { source }),
        any::<bool>().prop_map(|ipv6| Expr::RejectPortUnreachable { ipv6 }),
        (name(), register(), option::of(register()), milliseconds())
            .prop_map(|(set, key, data, timeout)| Expr::UpdateSet { set, key, data, timeout }),
        (name(), register()).prop_map(|(set, key)| Expr::DeleteFromSet { set, key }),
    ]
}

fn element() -> impl Strategy<Value = OwnedElement> {
    let data = prop_oneof![verdict().prop_map(OwnedData::Verdict), value().prop_map(OwnedData::Value)];
    (value(), option::of(value()), option::of(data), milliseconds(), comment()).prop_map(
        |(key, key_end, data, timeout, comment)| OwnedElement {
            key,
            key_end,
            data,
            timeout,
            expires: None,
            comment,
        },
    )
}

fn borrowed(element: &OwnedElement) -> Element<'_> {
    Element {
        key: &element.key,
        key_end: element.key_end.as_deref(),
        data: element.data.as_ref().map(|data| match data {
            OwnedData::Value(value) => ElementData::Value(value),
            OwnedData::Verdict(verdict) => ElementData::Verdict(verdict),
        }),
        timeout: element.timeout,
        comment: element.comment.as_deref(),
    }
}

/// Every parser, on what may be anything.
fn read_all(bytes: &[u8]) {
    for message in Messages::new(bytes).map_while(Result::ok) {
        TableInfo::parse(&message);
        ChainInfo::parse(&message);
        RuleInfo::parse(&message);
        SetInfo::parse(&message).map(|set| set.comment());
        OwnedElement::parse_all(&message).for_each(drop);
        Flow::parse(&message);
    }
}

proptest! {
    #[test]
    fn rules(exprs in vec(expr(), 0..12), comment in comment(), chain in name()) {
        let rule = Rule { exprs, comment };
        let mut payload = messages(|batch| batch.add_rule(TABLE, &chain, &rule)).remove(0);
        let mut handle = Writer::new();
        handle.be64(3, 12345);
        payload.extend_from_slice(handle.as_bytes());
        let info = read(&payload, RuleInfo::parse).expect("a rule");
        prop_assert_eq!((info.table.as_str(), info.chain, info.handle), ("svc", chain, 12345));
        prop_assert_eq!(Rule { exprs: info.exprs, comment: info.comment }, rule);
    }

    #[test]
    fn chains(name in name(), comment in comment(), priority in any::<i32>(), hook in 0..5usize, nat in any::<bool>(), is_base in any::<bool>()) {
        let hook = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting][hook];
        let kind = if nat { ChainType::Nat } else { ChainType::Filter };
        let kind = is_base.then_some(BaseChain { kind, hook, priority });
        let chain = Chain { name: name.clone(), kind, comment: comment.clone() };
        let payload = messages(|batch| batch.add_chain(TABLE, &chain)).remove(0);
        let expected = ChainInfo { table: "svc".to_owned(), name, is_base, kind, drops: false, comment };
        prop_assert_eq!(read(&payload, ChainInfo::parse), Some(expected));
    }

    #[test]
    fn sets(name in name(), comment in comment(), interval in any::<bool>(), gc_interval in milliseconds(), size in option::of(any::<u32>()), value in 0..3usize) {
        let data = [None, Some(DataType::Verdict), Some(DataType::Value(&[Field::DestinationAddress, Field::DestinationPort]))][value];
        let key = KeyType(&[Field::Random, Field::DestinationAddress, Field::L4Proto, Field::DestinationPort]);
        let set = Set { name: name.clone(), id: 1, key, data, dynamic: false, timeouts: false, interval, gc_interval, size, comment: comment.clone() };
        let payload = messages(|batch| batch.add_set(TABLE, &set)).remove(0);
        let info = read(&payload, SetInfo::parse).expect("a set");
        prop_assert_eq!((&info.name, info.flags, info.size, info.count), (&name, set.flags(), size, None));
        prop_assert_eq!((info.key_len, info.data_len), (28, [0, 0, 20][value]));
        prop_assert_eq!(info.comment(), comment);
    }

    #[test]
    fn elements(elements in vec(element(), 1..100)) {
        let messages = messages(|batch| batch.add_elements(TABLE, "s", elements.iter().map(borrowed)));
        let found: Vec<_> = messages.iter().flat_map(|payload| {
            OwnedElement::parse_all(&Message { kind: 0, flags: 0, sequence: 0, payload }).collect::<Vec<_>>()
        }).collect();
        prop_assert_eq!(found, elements);
    }

    #[test]
    fn deletions_name_keys_alone(elements in vec(element(), 1..20)) {
        let messages = messages(|batch| batch.delete_elements(TABLE, "s", elements.iter().map(borrowed)));
        let found: Vec<_> = messages.iter().flat_map(|payload| {
            OwnedElement::parse_all(&Message { kind: 0, flags: 0, sequence: 0, payload }).collect::<Vec<_>>()
        }).collect();
        let keys = elements.into_iter().map(|element| OwnedElement { data: None, timeout: None, comment: None, ..element });
        prop_assert_eq!(found, keys.collect::<Vec<_>>());
    }

    #[test]
    fn any_comment_is_kept_as_far_as_it_can_be(text in ".{0,300}") {
        let payload = messages(|batch| batch.add_table(TABLE, &text)).remove(0);
        let kept = read(&payload, TableInfo::parse).expect("a table").comment.unwrap_or_default();
        prop_assert!(kept.len() <= COMMENT_MAX);
        let expected: String = text.split('\0').next().unwrap_or("").chars().map(|c| match c {
            '"' => '\'',
            c if c.is_ascii_control() => ' ',
            c => c,
        }).collect();
        prop_assert!(expected.starts_with(&kept));
        prop_assert!(kept == expected || kept.len() > COMMENT_MAX - 4);
    }

    #[test]
    fn any_bytes_are_read(bytes in vec(any::<u8>(), 0..400)) {
        read_all(&bytes);
        // Attributes never hold more than there is, whatever they claim.
        let held: usize = Attributes::new(&bytes).map(|attribute| attribute.payload.len() + 4).sum();
        prop_assert!(held <= bytes.len());
        prop_assert!(Messages::new(&bytes).count() <= bytes.len() / 16 + 1);
    }

    #[test]
    fn damaged_messages_are_read(exprs in vec(expr(), 1..6), element in element(), damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in any::<prop::sample::Index>()) {
        let mut batch = Batch::new();
        batch.add_rule(TABLE, "c", &Rule { exprs, comment: Some("c".to_owned()) });
        batch.add_elements(TABLE, "s", [borrowed(&element)]);
        let mut bytes = batch.to_bytes();
        for (index, value) in damage {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        read_all(&bytes);
        read_all(&bytes[..cut.index(bytes.len())]);
    }
}

#[test]
fn an_unknown_expression_is_read_and_not_written() {
    let mut batch = Batch::new();
    batch.add_rule(TABLE, "c", &Rule { exprs: vec![Expr::Other("limit".to_owned())], comment: None });
    let expected = EncodeError::UnknownExpression { chain: "c".to_owned(), expression: "limit".to_owned() };
    assert_eq!(batch.error(), Some(&expected));
    batch.clear();
    assert_eq!(batch.error(), None);
    assert!(batch.is_empty());
}

/// What is too long, and how it gets into a batch.
type Case<'a> = (&'a str, &'a dyn Fn(&mut Batch));

#[test]
fn what_is_too_long_for_an_attribute_is_an_error() {
    let long = "x".repeat(70_000);
    let fills: [Case<'_>; 3] = [
        ("name", &|batch| batch.delete_chain(TABLE, &long)),
        ("key", &|batch| batch.add_elements(TABLE, "s", [Element::new(long.as_bytes())])),
        ("set", &|batch| batch.add_elements(TABLE, &long, [Element::new(&[1])])),
    ];
    for (what, fill) in fills {
        let mut batch = Batch::new();
        batch.add_table(TABLE, "");
        fill(&mut batch);
        assert_eq!(batch.error(), Some(&EncodeError::Oversized { index: 1 }), "{what}");
    }
}

#[test]
fn element_messages_stay_below_64_kib() {
    let mut batch = Batch::new();
    let verdict = Verdict::Goto("x".repeat(100));
    let comment = "y".repeat(200);
    let mut list = batch.element_list(TABLE, "s", ElementOperation::Add);
    for number in 0..5000u32 {
        list.push(&Element {
            data: Some(ElementData::Verdict(&verdict)),
            comment: Some(&comment),
            timeout: Some(Duration::from_secs(1)),
            ..Element::new(&number.to_ne_bytes())
        });
    }
    drop(list);
    assert_eq!(batch.error(), None);
    let bytes = batch.to_bytes();
    let sizes: Vec<usize> =
        Messages::new(&bytes).map(|message| message.expect("whole").payload.len()).collect();
    assert!(sizes.iter().all(|size| *size < (64 << 10) + 100), "{sizes:?}");
    // All but the last are nearly full.
    assert!(sizes[1..sizes.len() - 2].iter().all(|size| *size > 64_500), "{sizes:?}");
    let found = Messages::new(&bytes).flatten().map(|message| OwnedElement::parse_all(&message).count());
    assert_eq!(found.sum::<usize>(), 5000);
}

#[test]
fn a_generation_may_be_expected_at_any_time() {
    let mut batch = Batch::new();
    batch.add_table(TABLE, "");
    let before = batch.len();
    batch.expect_generation(7);
    assert_eq!(batch.len(), before + 8);
    let bytes = batch.to_bytes();
    let first = Messages::new(&bytes).next().expect("a mark").expect("whole");
    let (_, attributes) = first.netfilter().expect("of netfilter");
    assert_eq!(attributes.get(1).and_then(|generation| generation.be32()), Some(7));
    assert_eq!(Messages::new(&bytes).count(), 3);
    batch.expect_generation(8);
    assert_eq!(batch.len(), before + 8);
}

#[test]
fn only_the_last_message_asks_for_an_answer() {
    const ACK: u16 = 4;
    let mut batch = Batch::new();
    for _ in 0..3 {
        batch.add_table(TABLE, "");
    }
    let bytes = batch.to_bytes();
    let asks: Vec<bool> = Messages::new(&bytes).flatten().map(|message| message.flags & ACK != 0).collect();
    assert_eq!(asks, [false, false, false, true, false]);
}

#[test]
fn a_set_comment_is_cut_to_what_the_kernel_stores() {
    /// `NFT_USERDATA_MAXLEN`
    const KERNEL_MAX: usize = 256;
    let fields = &[Field::Random, Field::DestinationAddress, Field::L4Proto, Field::DestinationPort];
    let set = |comment: &str| Set {
        name: "s".to_owned(),
        id: 1,
        key: KeyType(fields),
        data: Some(DataType::Value(&[Field::DestinationAddress, Field::DestinationPort])),
        dynamic: false,
        timeouts: false,
        interval: false,
        gc_interval: None,
        size: None,
        comment: Some(comment.to_owned()),
    };
    let bare = set("").userdata(TableFamily::Ip).len();
    let room = KERNEL_MAX - bare;
    for (comment, kept) in
        [("x".repeat(room), room), ("x".repeat(room + 1), room), ("é".repeat(100), room / 2 * 2)]
    {
        let payload = messages(|batch| batch.add_set(TABLE, &set(&comment))).remove(0);
        let info = read(&payload, SetInfo::parse).expect("a set");
        assert!(info.userdata.len() <= KERNEL_MAX);
        assert_eq!(info.comment().map(|comment| comment.len()), Some(kept));
    }
}
