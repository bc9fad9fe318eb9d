//! Reads tables of nftables from the kernel by netlink, as the listing that `nft -j` would print of
//! them. No program is needed, and one reader serves both.
//!
//! It is written for our own tables: it reads every expression of theirs. Of what another program's
//! rule does beyond that it gives only the name, so that answers depend on it.

mod layout;
mod objects;
mod statements;

use std::collections::HashMap;
use std::io;

use portolan_netfilter::nft::TableRef;
use portolan_netfilter::socket::Socket;
use serde_json::{Value, json};

use self::layout::Layouts;
use self::objects::{chain_object, element_object, rule_object, set_object};
use self::statements::statements;

/// `NFT_SET_INTERVAL` of linux/netfilter/nf_tables.h.
const SET_INTERVAL: u32 = 0x4;

/// The objects of `table`, as in the list `nftables` of a listing.
pub(crate) fn read(socket: &mut Socket, table: TableRef<'_>) -> io::Result<Vec<Value>> {
    let family = table.family.to_string();
    let mut objects = vec![json!({"table": {"family": family, "name": table.name}})];
    objects.extend(socket.chains(table)?.iter().map(|chain| chain_object(&family, chain)));
    let sets = socket.sets(table)?;
    let lengths = sets.iter().map(|set| (set.name.clone(), set.key_len as usize)).collect();
    let mut layouts = Layouts { lengths, sets: HashMap::new() };
    for rule in socket.rules(table)? {
        let statements = statements(table.family, &rule.exprs, &mut layouts);
        objects.push(rule_object(&family, &rule, &statements));
    }
    for set in sets {
        let layout = layouts.sets.get(&set.name);
        let mut elements = Vec::new();
        let mut whole = layout.is_some();
        if let Some(layout) = layout {
            socket.elements(table, &set.name, |element| {
                // Ends of ranges come as elements of their own in sets that are no concatenations.
                let is_bare = set.flags & SET_INTERVAL != 0 && element.key_end.is_none();
                match element_object(&element, layout).filter(|_| !is_bare) {
                    Some(object) => elements.push(object),
                    None => whole = false,
                }
            })?;
        }
        objects.push(set_object(&family, &set, layout.filter(|_| whole), elements));
    }
    Ok(objects)
}
