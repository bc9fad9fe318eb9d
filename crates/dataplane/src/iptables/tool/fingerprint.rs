//! Whether somebody changed tables, for the price of one small request.

use std::io;

use portolan_netfilter::socket::Socket;
use portolan_netfilter::xtables::{self, Info, Xtables};
use portolan_service::Family;

use crate::error::Error;
use crate::variant::{Variant, table_family};

/// The tables that we write to
const TABLES: [&str; 3] = ["filter", "mangle", "nat"];

/// Stands for the state of the tables. When two differ, somebody has changed something.
///
/// iptables-nft: the generation of the network namespace's rule set. Every commit of anybody
/// changes it, also those that do not concern iptables' tables; counters do not.
///
/// iptables-legacy: of each of our tables the number and size of entries and where the chains of
/// hooks begin and end. The kernel reports no more without all rules. A rule that gives way to
/// another one of the same length goes unseen, and so do counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::iptables) struct Fingerprint(State);

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Nft { generation: u32 },
    Legacy { tables: Vec<(&'static str, Info)> },
}

impl Fingerprint {
    /// Nobody else has changed anything between `before` and now, in which time we committed to
    /// `commits` tables, each with something to change. With iptables-legacy there is no way to
    /// know, and it says yes.
    pub(in crate::iptables) fn follows(&self, before: &Fingerprint, commits: usize) -> bool {
        match (&self.0, &before.0) {
            (State::Nft { generation: after }, State::Nft { generation: before }) => {
                u32::try_from(commits).is_ok_and(|commits| after.wrapping_sub(*before) == commits)
            }
            _ => true,
        }
    }
}

/// What fingerprints are read with.
#[derive(Debug)]
pub(super) enum Reader {
    Nft(Socket),
    Legacy(Family, Xtables),
}

impl Reader {
    /// For the network namespace of the calling thread.
    pub(super) fn open(variant: Variant, family: Family) -> Result<Reader, Error> {
        let netlink =
            |source| Error::Netlink { doing: format!("{variant}, {family}: opening a socket"), source };
        Ok(match variant {
            Variant::Nft => Reader::Nft(Socket::open().map_err(netlink)?),
            Variant::Legacy => Reader::Legacy(family, Xtables::open(table_family(family)).map_err(netlink)?),
        })
    }

    pub(super) fn read(&mut self) -> Result<Fingerprint, Error> {
        let doing = |doing: &str| {
            let doing = doing.to_owned();
            move |source| Error::Netlink { doing, source }
        };
        Ok(Fingerprint(match self {
            Reader::Nft(socket) => State::Nft {
                generation: socket.generation().map_err(doing("reading the generation of the rule set"))?,
            },
            Reader::Legacy(family, kernel) => State::Legacy {
                tables: legacy(*family, kernel)
                    .map_err(doing("reading the sizes of iptables-legacy's tables"))?,
            },
        }))
    }
}

fn legacy(family: Family, kernel: &Xtables) -> io::Result<Vec<(&'static str, Info)>> {
    // To ask for a table that is not there would create it.
    let present = xtables::tables(table_family(family))?;
    TABLES
        .into_iter()
        .filter(|name| present.iter().any(|table| table == name))
        .map(|name| Ok((name, kernel.info(name)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_commits_are_told_from_others() {
        let nft = |generation| Fingerprint(State::Nft { generation });
        // Before, after, our commits, whether nobody else committed
        let cases = [
            (7, 7, 0, true),
            (7, 8, 1, true),
            (7, 9, 2, true),
            (7, 9, 1, false),
            (7, 8, 0, false),
            (7, 7, 1, false),
            (u32::MAX, 1, 2, true),
        ];
        for (before, after, commits, expected) in cases {
            assert_eq!(nft(after).follows(&nft(before), commits), expected, "{before} {after} {commits}");
        }
    }
}
