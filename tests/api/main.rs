//! The whole program against an API server that fails in every way, with real packets where it
//! matters.
//!
//! Everything runs in private namespaces that end with this process: nothing is left behind however
//! it ends.

mod away;
mod credentials;
mod objects;
mod scene;
mod snapshot;
mod watches;

use std::process::ExitCode;

use libtest_mimic::Trial;
use portolan_tests::harness::{self, trial};

/// Tests mostly wait for the program to try again.
const THREADS: usize = 4;

fn main() -> ExitCode {
    harness::run("api", THREADS, trials())
}

fn trials() -> Vec<Trial> {
    vec![
        // The bound is three minutes of silence, three bookmarks of a real server: too long for
        // every run. The source's own tests have the same in a hurry.
        trial("a watch on a half-open connection is renewed within the bound", watches::half_open)
            .with_ignored_flag(true),
        trial("restored from an older backup: noticed within 30 s", away::restored),
        trial("restarted: refuses at first, and is followed as soon as it is ready", away::restarted),
        trial("snapshot: a node boots while the API server is away", snapshot::boots_the_node),
        trial("snapshot: a damaged one is reported and not used", snapshot::damaged),
        trial("snapshot: a disk that cannot be written is no reason to stop", snapshot::no_disk),
        trial("snapshot: a disk that runs full is reported once", snapshot::full_disk),
        trial("away at the start without a snapshot: waits, then comes up", away::at_the_start),
        trial("away later: rules stay, health shows the age, changes are caught up with", away::later),
        trial("killed in the middle of a storm of changes, and restarted", away::killed_in_a_storm),
        trial("overloaded at the start: waits as long as the server asks", away::overloaded),
        trial("410 Gone: lists again and applies only differences", watches::gone),
        trial("410 Gone as a status: lists again", watches::gone_as_status),
        trial("errors in watches: go on from where they were", watches::errors),
        trial("without streaming lists: pages", watches::pages),
        trial("a list that breaks off removes nothing", watches::broken_list),
        trial("objects that do not decode: the others are applied", objects::corrupt),
        trial("a Service that leaves the selection is removed, spec §1.5", objects::leaves_the_selection),
        trial(
            "a Node that is about to go: unhealthy, and still forwarding, spec §12.7",
            objects::leaving_node,
        ),
        trial("no ServiceCIDRs to be had: forwards all the same", objects::no_service_cidrs),
        trial("announces its start as an Event, spec §11.20", objects::announces_its_start),
        trial("a token file that rotates is read again", credentials::rotating_token),
        trial("a client certificate", credentials::client_certificate),
        trial("a token from a program", credentials::exec_plugin),
    ]
}
