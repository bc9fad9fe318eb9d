//! Loads the rule set of the tests into the network namespace it is run in, to see how nft lists
//! it: `unshare -n sh -c 'ruleset && nft list ruleset'`.

use portolan_netfilter::nft::{Batch, TableFamily};
use portolan_netfilter::socket::Socket;

#[path = "../tests/kernel/design.rs"]
mod design;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut batch = Batch::new();
    for family in [TableFamily::Ip, TableFamily::Ip6] {
        design::Design { family }.load(&mut batch);
    }
    Ok(Socket::open()?.commit(&batch)?)
}
