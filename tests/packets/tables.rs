//! What nftables holds in a namespace: looked at, damaged, and of others.

use anyhow::{Context, anyhow};
use portolan_lab::netns::Namespace;
use portolan_netfilter::nft::{
    BaseChain, Batch, Chain, ChainType, CmpOp, Element, Expr, Hook, PayloadBase, Register, Rule, TableFamily,
    TableRef, Verdict,
};
use portolan_netfilter::socket::Socket;

/// The proxy's table of a family.
pub(crate) const fn ours(family: TableFamily) -> TableRef<'static> {
    TableRef { family, name: "portolan" }
}

/// Another program's table.
const FOREIGN: TableRef<'static> = TableRef { family: TableFamily::Ip, name: "cali-nat" };

/// Does something with the kernel's tables in a namespace.
pub(crate) fn with_socket<T: Send>(
    namespace: &Namespace,
    work: impl FnOnce(&mut Socket) -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    namespace.run(|| {
        let mut socket = Socket::open().context("opening netfilter")?;
        work(&mut socket)
    })?
}

/// Commits what `fill` puts into a batch.
pub(crate) fn commit(namespace: &Namespace, fill: impl FnOnce(&mut Batch) + Send) -> anyhow::Result<()> {
    with_socket(namespace, |socket| {
        let mut batch = Batch::new();
        fill(&mut batch);
        socket.commit(&batch).map_err(|error| anyhow!("{error}"))
    })
}

/// Names of all tables of both families.
pub(crate) fn table_names(namespace: &Namespace) -> anyhow::Result<Vec<String>> {
    with_socket(namespace, |socket| {
        let mut names = Vec::new();
        for family in [TableFamily::Ip, TableFamily::Ip6] {
            names.extend(socket.tables(family)?.into_iter().map(|table| format!("{family} {}", table.name)));
        }
        Ok(names)
    })
}

/// The kernel's count of transactions.
pub(crate) fn generation(namespace: &Namespace) -> anyhow::Result<u32> {
    with_socket(namespace, |socket| Ok(socket.generation()?))
}

/// Deletes one element of a set, whichever comes first.
pub(crate) fn delete_an_element(
    namespace: &Namespace,
    table: TableRef<'static>,
    set: &'static str,
) -> anyhow::Result<()> {
    with_socket(namespace, |socket| {
        let mut first = None;
        socket.elements(table, set, |element| {
            first.get_or_insert_with(|| element.key.clone());
        })?;
        let key = first.with_context(|| format!("{table}: {set} is empty"))?;
        let mut batch = Batch::new();
        batch.delete_elements(table, set, [Element::new(&key)]);
        socket.commit(&batch).map_err(|error| anyhow!("{error}"))
    })
}

/// Installs a table as another program might have it, with a chain on the same hook as ours and one
/// rule.
pub(crate) fn install_foreign(namespace: &Namespace) -> anyhow::Result<()> {
    commit(namespace, |batch| {
        batch.add_table(FOREIGN, "somebody else's");
        for (name, hook, priority) in
            [("cali-PREROUTING", Hook::Prerouting, -101), ("DOCKER", Hook::Output, -101)]
        {
            let kind = Some(BaseChain { kind: ChainType::Nat, hook, priority });
            batch.add_chain(FOREIGN, &Chain { name: name.into(), kind, comment: None });
            // ip protocol icmp accept
            let exprs = vec![
                Expr::Payload { dest: Register::R1, base: PayloadBase::Network, offset: 9, len: 1 },
                Expr::Cmp { source: Register::R1, op: CmpOp::Equal, value: vec![1] },
                Expr::Immediate(Verdict::Accept),
            ];
            batch.add_rule(FOREIGN, name, &Rule { exprs, comment: Some("not ours".into()) });
        }
    })
}

/// All of the foreign table, as the kernel lists it.
pub(crate) fn foreign(namespace: &Namespace) -> anyhow::Result<String> {
    with_socket(namespace, |socket| {
        let tables = socket.tables(FOREIGN.family)?;
        let table = tables
            .into_iter()
            .find(|table| table.name == FOREIGN.name)
            .context("the foreign table is gone")?;
        Ok(format!("{table:?} {:?} {:?}", socket.chains(FOREIGN)?, socket.rules(FOREIGN)?))
    })
}
