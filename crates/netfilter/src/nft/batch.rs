//! Transactions: messages that the kernel applies all together or not at all.

use super::chain::Chain;
use super::element::Element;
use super::expr::Expr;
use super::expr_wire;
use super::rule::{self, Rule};
use super::set::Set;
use super::table::{self, TableFamily, TableRef};
use super::uapi::{self, attr};
use portolan_netlink::wire::{
    ATTRIBUTE_HEADER_LEN, ATTRIBUTE_MAX, HEADER_LEN, Message, Messages, NFGENMSG_LEN, Open, Writer,
};

// NLM_F_*, linux/netlink.h
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

/// Length of `NFNL_MSG_BATCH_END` and, without a generation, of `NFNL_MSG_BATCH_BEGIN`, bytes.
const MARK_LEN: usize = HEADER_LEN + NFGENMSG_LEN;
/// Length of `NFNL_BATCH_GENID`, bytes
const GENERATION_LEN: usize = ATTRIBUTE_HEADER_LEN + 4;
/// Offset of the first message. The begin mark ends here; it starts later when it has no
/// generation.
const FRONT: usize = GENERATION_LEN + MARK_LEN;

/// Why a batch cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A rule contains an expression that was read from the kernel and is not known well enough to
    /// be written.
    #[error(
        "rule for chain {chain}: expression {expression} can be read but not written; leave the rule out"
    )]
    UnknownExpression {
        /// The rule's chain
        chain: String,
        /// The expression's name
        expression: String,
    },
    /// A name, key or value is longer than an attribute can be.
    #[error("message {index} has a name, key or value of more than {ATTRIBUTE_MAX} bytes")]
    Oversized {
        /// The message's number in the batch
        index: usize,
    },
}

/// What an [`ElementList`] does with its elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementOperation {
    /// Adds them. One that is there with the same data stays; with other data it is `EEXIST`, and
    /// on some kernels with the same verdict too: delete first.
    Add,
    /// Deletes them; a missing one is `ENOENT`.
    Delete,
    /// Deletes those that are there (`NFT_MSG_DESTROYSETELEM`, kernel 6.3; `EINVAL` before).
    Destroy,
}

/// An element of a batch, found by its place in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElementAt {
    /// The family of its table
    pub family: TableFamily,
    /// Its table
    pub table: String,
    /// Its set
    pub set: String,
    /// Its key
    pub key: Vec<u8>,
}

/// One transaction. Methods append a message each, in the order in which the kernel will apply
/// them; nothing is sent before [`crate::socket::Socket::commit`].
#[derive(Debug, Clone)]
pub struct Batch {
    writer: Writer,
    messages: usize,
    /// Where the last message starts: it asks for the kernel's answer.
    last: usize,
    has_generation: bool,
    error: Option<EncodeError>,
}

impl Default for Batch {
    fn default() -> Self {
        Batch::new()
    }
}

impl Batch {
    /// A transaction that does nothing yet.
    pub fn new() -> Batch {
        let mut batch =
            Batch { writer: Writer::new(), messages: 0, last: 0, has_generation: false, error: None };
        batch.clear();
        batch
    }

    /// Starts over; keeps the buffer.
    pub fn clear(&mut self) {
        self.writer.clear();
        self.writer.raw(&[0; FRONT]);
        self.messages = 0;
        self.last = 0;
        self.has_generation = false;
        self.error = None;
        self.put_begin(None);
    }

    /// Length as it is sent, bytes.
    pub fn len(&self) -> usize {
        self.front().len() + MARK_LEN
    }

    /// Nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// How many messages were appended.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Why it cannot be sent, if so.
    pub fn error(&self) -> Option<&EncodeError> {
        self.error.as_ref()
    }

    /// The kernel refuses the transaction if the rule set is of another generation than this: then
    /// [`crate::socket::CommitError::is_stale`].
    pub fn expect_generation(&mut self, generation: u32) {
        self.put_begin(Some(generation));
    }

    fn put_begin(&mut self, generation: Option<u32>) {
        let mut mark = Writer::new();
        let open = mark.message(uapi::BATCH_BEGIN, REQUEST, 0, 0, uapi::BATCH_RESOURCE);
        if let Some(generation) = generation {
            mark.be32(uapi::BATCH_GENERATION, generation);
        }
        mark.end_message(open);
        self.has_generation = generation.is_some();
        let start = FRONT - mark.len();
        self.writer.bytes_mut()[start..FRONT].copy_from_slice(mark.as_bytes());
    }

    /// All but the end mark.
    pub(crate) fn front(&self) -> &[u8] {
        let skipped = if self.has_generation { 0 } else { GENERATION_LEN };
        &self.writer.as_bytes()[skipped..]
    }

    /// The end mark.
    pub(crate) fn end() -> Writer {
        let mut mark = Writer::new();
        let open = mark.message(uapi::BATCH_END, REQUEST, 0, 0, uapi::BATCH_RESOURCE);
        mark.end_message(open);
        mark
    }

    /// The batch as one datagram, as it is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.front(), Batch::end().as_bytes()].concat()
    }

    /// Opens a message whose number is its sequence number less one.
    fn open(&mut self, kind: u16, flags: u16, family: TableFamily) -> Open {
        if self.messages > 0
            && let Some([low, high]) = self.writer.bytes_mut().get_mut(self.last + 6..self.last + 8)
        {
            [*low, *high] = (u16::from_ne_bytes([*low, *high]) & !ACK).to_ne_bytes();
        }
        self.messages += 1;
        self.last = self.writer.len();
        let sequence = u32::try_from(self.messages).unwrap_or(u32::MAX);
        self.writer.message(kind, REQUEST | ACK | flags, sequence, family.number(), 0)
    }

    fn close(&mut self, message: Open) {
        self.writer.end_message(message);
        if self.writer.is_oversized() && self.error.is_none() {
            self.error = Some(EncodeError::Oversized { index: self.messages - 1 });
        }
    }

    fn append(&mut self, kind: u16, flags: u16, family: TableFamily, fill: impl FnOnce(&mut Writer)) {
        let message = self.open(kind, flags, family);
        fill(&mut self.writer);
        self.close(message);
    }

    /// Creates a table unless it is there.
    pub fn add_table(&mut self, table: TableRef<'_>, comment: &str) {
        self.append(uapi::NEWTABLE, CREATE, table.family, |to| table::emit(table.name, 0, comment, to));
    }

    /// Creates a table that goes with the socket that commits this, however the process ends;
    /// nobody else can change it. Kernel 5.12 (`NFT_TABLE_F_OWNER`), `EOPNOTSUPP` before; `EPERM`
    /// if another socket owns one of that name.
    pub fn add_owned_table(&mut self, table: TableRef<'_>, comment: &str) {
        self.append(uapi::NEWTABLE, CREATE, table.family, |to| {
            table::emit(table.name, table::OWNED, comment, to);
        });
    }

    /// Deletes a table and all that is in it; `ENOENT` if it is missing.
    pub fn delete_table(&mut self, table: TableRef<'_>) {
        self.append(uapi::DELTABLE, 0, table.family, |to| to.string(attr::TABLE_NAME, table.name));
    }

    /// Creates a chain unless it is there.
    pub fn add_chain(&mut self, table: TableRef<'_>, chain: &Chain) {
        self.append(uapi::NEWCHAIN, CREATE, table.family, |to| chain.emit(table.name, to));
    }

    /// Deletes a chain; `EBUSY` if it has rules or a verdict leads to it.
    pub fn delete_chain(&mut self, table: TableRef<'_>, name: &str) {
        self.append(uapi::DELCHAIN, 0, table.family, |to| {
            to.string(attr::CHAIN_TABLE, table.name);
            to.string(attr::CHAIN_NAME, name);
        });
    }

    /// Deletes all rules of a chain.
    pub fn flush_chain(&mut self, table: TableRef<'_>, name: &str) {
        self.append(uapi::DELRULE, 0, table.family, |to| {
            to.string(attr::RULE_TABLE, table.name);
            to.string(attr::RULE_CHAIN, name);
        });
    }

    /// Deletes one rule; `ENOENT` if it is missing. The kernel uses no handle twice.
    pub fn delete_rule(&mut self, table: TableRef<'_>, chain: &str, handle: u64) {
        self.append(uapi::DELRULE, 0, table.family, |to| {
            to.string(attr::RULE_TABLE, table.name);
            to.string(attr::RULE_CHAIN, chain);
            to.be64(attr::RULE_HANDLE, handle);
        });
    }

    /// Deletes all rules of a table.
    pub fn flush_rules(&mut self, table: TableRef<'_>) {
        self.append(uapi::DELRULE, 0, table.family, |to| to.string(attr::RULE_TABLE, table.name));
    }

    /// Appends a rule to a chain. With an [`super::Expr::Other`] the batch cannot be sent any more.
    pub fn add_rule(&mut self, table: TableRef<'_>, chain: &str, rule: &Rule) {
        let message = self.open(uapi::NEWRULE, CREATE | APPEND, table.family);
        if let Err(unknown) = rule.emit(table.name, chain, &mut self.writer) {
            self.error.get_or_insert(EncodeError::UnknownExpression {
                chain: chain.to_owned(),
                expression: unknown.0,
            });
        }
        self.close(message);
    }

    /// Appends a rule that has the kernel report every packet that passes `tests`, from there on:
    /// [`super::TraceEvent`].
    pub fn add_tracing_rule(&mut self, table: TableRef<'_>, chain: &str, tests: &[Expr]) {
        let message = self.open(uapi::NEWRULE, CREATE | APPEND, table.family);
        let emitted = rule::emit_parts(table.name, chain, tests, expr_wire::put_tracing, &mut self.writer);
        if let Err(unknown) = emitted {
            self.error.get_or_insert(EncodeError::UnknownExpression {
                chain: chain.to_owned(),
                expression: unknown.0,
            });
        }
        self.close(message);
    }

    /// Creates a set or map unless it is there.
    pub fn add_set(&mut self, table: TableRef<'_>, set: &Set) {
        self.append(uapi::NEWSET, CREATE, table.family, |to| set.emit(table.name, table.family, to));
    }

    /// Deletes a set and its elements; `EBUSY` if a rule refers to it.
    pub fn delete_set(&mut self, table: TableRef<'_>, name: &str) {
        self.append(uapi::DELSET, 0, table.family, |to| {
            to.string(attr::SET_TABLE, table.name);
            to.string(attr::SET_NAME, name);
        });
    }

    /// Deletes all elements of a set.
    pub fn flush_set(&mut self, table: TableRef<'_>, name: &str) {
        self.append(uapi::DELSETELEM, 0, table.family, |to| {
            to.string(attr::LIST_TABLE, table.name);
            to.string(attr::LIST_SET, name);
        });
    }

    /// Adds elements: [`ElementOperation::Add`].
    pub fn add_elements<'a>(
        &mut self,
        table: TableRef<'_>,
        set: &str,
        elements: impl IntoIterator<Item = Element<'a>>,
    ) {
        self.all_elements(table, set, ElementOperation::Add, elements);
    }

    /// Deletes elements: [`ElementOperation::Delete`].
    pub fn delete_elements<'a>(
        &mut self,
        table: TableRef<'_>,
        set: &str,
        elements: impl IntoIterator<Item = Element<'a>>,
    ) {
        self.all_elements(table, set, ElementOperation::Delete, elements);
    }

    /// Deletes elements where they are: [`ElementOperation::Destroy`].
    pub fn destroy_elements<'a>(
        &mut self,
        table: TableRef<'_>,
        set: &str,
        elements: impl IntoIterator<Item = Element<'a>>,
    ) {
        self.all_elements(table, set, ElementOperation::Destroy, elements);
    }

    fn all_elements<'a>(
        &mut self,
        table: TableRef<'_>,
        set: &str,
        operation: ElementOperation,
        elements: impl IntoIterator<Item = Element<'a>>,
    ) {
        let mut list = self.element_list(table, set, operation);
        for element in elements {
            list.push(&element);
        }
    }

    /// Appends elements one by one, for keys that are made in a buffer that is used again. Elements
    /// share messages, of at most 64 KiB each; without elements there is no message.
    pub fn element_list<'b>(
        &'b mut self,
        table: TableRef<'b>,
        set: &'b str,
        operation: ElementOperation,
    ) -> ElementList<'b> {
        ElementList { batch: self, table, set, operation, open: None }
    }

    /// The messages, without the marks at either end.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        Messages::new(&self.writer.as_bytes()[FRONT..]).map_while(Result::ok)
    }
}

/// Finds the element that the attribute at `offset` in a message belongs to; bytes, from the
/// message's start.
pub(crate) fn element_at(message: &Message<'_>, offset: usize) -> Option<ElementAt> {
    let (family, attributes) = message.netfilter()?;
    let length = HEADER_LEN + message.payload.len();
    let mut rest = attributes.clone();
    let (start, list) = loop {
        let start = length - rest.remaining();
        let attribute = rest.next()?;
        if attribute.kind == attr::LIST_ELEMENTS {
            break (start + ATTRIBUTE_HEADER_LEN, attribute);
        }
    };
    let mut items = list.nested();
    if offset < start {
        return None;
    }
    let item = loop {
        let item = items.next()?;
        if offset < start + list.payload.len() - items.remaining() {
            break item;
        }
    };
    let text = |kind| Some(attributes.get(kind)?.text()?.to_owned());
    Some(ElementAt {
        family: TableFamily::from_number(family)?,
        table: text(attr::LIST_TABLE)?,
        set: text(attr::LIST_SET)?,
        key: item.nested().get(attr::ELEMENT_KEY)?.nested().get(attr::DATA_VALUE)?.payload.to_vec(),
    })
}

/// Says what a message asks for, such as `add 312 elements to services`.
pub(crate) fn describe(message: &Message<'_>) -> String {
    let Some((_, attributes)) = message.netfilter() else { return String::new() };
    let name = |kind| attributes.get(kind).and_then(|name| name.text()).unwrap_or("");
    let elements = || match attributes.get(attr::LIST_ELEMENTS).map(|list| list.nested().count()) {
        Some(1) => "1 element".to_owned(),
        Some(count) => format!("{count} elements"),
        None => "all elements".to_owned(),
    };
    match message.kind {
        uapi::NEWTABLE => format!("add table {}", name(attr::TABLE_NAME)),
        uapi::DELTABLE => format!("delete table {}", name(attr::TABLE_NAME)),
        uapi::NEWCHAIN => format!("add chain {}", name(attr::CHAIN_NAME)),
        uapi::DELCHAIN => format!("delete chain {}", name(attr::CHAIN_NAME)),
        uapi::NEWRULE => format!("add a rule to chain {}", name(attr::RULE_CHAIN)),
        uapi::DELRULE => match attributes.get(attr::RULE_CHAIN) {
            Some(_) if attributes.get(attr::RULE_HANDLE).is_some() => {
                format!("delete a rule of chain {}", name(attr::RULE_CHAIN))
            }
            Some(_) => format!("delete the rules of chain {}", name(attr::RULE_CHAIN)),
            None => format!("delete the rules of table {}", name(attr::RULE_TABLE)),
        },
        uapi::NEWSET => format!("add set {}", name(attr::SET_NAME)),
        uapi::DELSET => format!("delete set {}", name(attr::SET_NAME)),
        uapi::NEWSETELEM => format!("add {} to {}", elements(), name(attr::LIST_SET)),
        uapi::DELSETELEM => format!("delete {} of {}", elements(), name(attr::LIST_SET)),
        uapi::DESTROYSETELEM => format!("destroy {} of {}", elements(), name(attr::LIST_SET)),
        other => format!("message of type {other:#x}"),
    }
}

/// Elements that are being appended to a [`Batch`]; complete when dropped.
#[derive(Debug)]
pub struct ElementList<'b> {
    batch: &'b mut Batch,
    table: TableRef<'b>,
    set: &'b str,
    operation: ElementOperation,
    /// The message and the list in it
    open: Option<(Open, Open)>,
}

impl ElementList<'_> {
    /// Appends an element.
    pub fn push(&mut self, element: &Element<'_>) {
        let size = element.size_bound();
        if self
            .open
            .as_ref()
            .is_some_and(|(_, list)| self.batch.writer.length_of(list) + size > ATTRIBUTE_MAX)
        {
            self.close();
        }
        if self.open.is_none() {
            let (kind, flags) = match self.operation {
                ElementOperation::Add => (uapi::NEWSETELEM, CREATE),
                ElementOperation::Delete => (uapi::DELSETELEM, 0),
                ElementOperation::Destroy => (uapi::DESTROYSETELEM, 0),
            };
            let message = self.batch.open(kind, flags, self.table.family);
            self.batch.writer.string(attr::LIST_TABLE, self.table.name);
            self.batch.writer.string(attr::LIST_SET, self.set);
            let list = self.batch.writer.nest(attr::LIST_ELEMENTS);
            self.open = Some((message, list));
        }
        element.emit(self.operation != ElementOperation::Add, &mut self.batch.writer);
    }

    fn close(&mut self) {
        if let Some((message, list)) = self.open.take() {
            self.batch.writer.end_nest(list);
            self.batch.close(message);
        }
    }
}

impl Drop for ElementList<'_> {
    fn drop(&mut self) {
        self.close();
    }
}
