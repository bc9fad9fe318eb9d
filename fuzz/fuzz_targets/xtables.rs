//! A table of iptables-legacy, and the same without some of its chains.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_netfilter::nft::TableFamily;
use portolan_netfilter::xtables::{Info, Refusal, Table};

/// Length of the kernel's description of a table, bytes
const INFO: usize = 84;

fuzz_target!(|input: &[u8]| {
    // A byte for the family, one that picks chains, the description, the entries.
    let Some(([family, picks], rest)) = input.split_first_chunk() else { return };
    let Some((info, bytes)) = rest.split_at_checked(INFO) else { return };
    let family = if family & 1 == 0 { TableFamily::Ip } else { TableFamily::Ip6 };
    let Some(mut info) = Info::parse(info) else { return };
    info.size = u32::try_from(bytes.len()).unwrap_or(0);
    let Ok(table) = Table::parse(family, "filter", info, bytes.to_vec()) else { return };

    let same = table.without(&[], &[]).expect("nothing is left out");
    assert_eq!(same.table, table);
    let chains: Vec<usize> =
        (0..table.chains().len()).filter(|chain| picks & (1 << (chain % 8)) != 0).collect();
    let rules: Vec<usize> = (0..table.entries())
        .filter(|rule| table.jump(*rule).is_some_and(|chain| chains.contains(&chain)))
        .collect();
    match table.without(&chains, &rules) {
        Ok(reduced) => assert_eq!(reduced.table.entries(), reduced.origins.len()),
        Err(Refusal::Malformed(error)) => panic!("{error}"),
        Err(Refusal::InUse(_) | Refusal::Structure(_)) => {}
    }
});
