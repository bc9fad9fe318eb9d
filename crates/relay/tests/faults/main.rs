//! Whatever may go wrong with clients, endpoints, and the process: on real sockets of the loopback
//! interface, each case in a network namespace of its own.
//!
//! Anybody but root enters a user namespace first, which a process can do only before it has
//! threads: hence no harness.

#![allow(clippy::unnecessary_wraps, reason = "all cases have one signature")]

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

mod connections;
mod datagrams;
mod dialling;
mod leaving;
mod namespace;
mod scene;
mod succession;

use namespace::{Case, apart, enter_user_namespace};

const CASES: &[(&str, Case)] = &[
    ("each side may end first, and the other goes on", connections::half_close),
    ("long messages arrive whole, both ways at once", connections::long_messages),
    ("the same without pipes", connections::long_messages_without_pipes),
    ("a reset is passed on", connections::resets),
    ("an endpoint that is silent", connections::silent_endpoint),
    ("an endpoint that vanishes", connections::vanished_endpoint),
    ("a client that never reads", connections::client_never_reads),
    ("many short connections", connections::short_connections),
    ("no more connections than there may be", connections::too_many),
    ("many idle connections hold no pipes", connections::idle_connections),
    ("a header says who the client is", connections::proxy_header),
    ("endpoints see the address that was chosen", connections::source_address),
    ("a dead endpoint: another one is tried", dialling::dead_endpoint),
    ("an endpoint that does not answer: another one in time", dialling::unreachable_endpoint),
    ("none can be reached: a reset after all attempts", dialling::none_reachable),
    ("no endpoint: a reset at once", dialling::no_endpoint),
    ("a client that leaves before the endpoint answers", dialling::impatient_client),
    ("a port that somebody else has", dialling::port_taken),
    ("answers for many UDP clients from the right address", datagrams::many_clients),
    ("datagrams stay what they are", datagrams::boundaries),
    ("a UDP client that is silent is forgotten", datagrams::idle),
    ("a UDP endpoint that is gone: another one is tried", datagrams::dead_endpoint),
    ("no more UDP clients than there may be", datagrams::too_many),
    ("a UDP endpoint leaves", datagrams::leaving_endpoint),
    ("an endpoint leaves: connections go on, or end in time", leaving::leaving_endpoint),
    ("a listener leaves: its port is free at once", leaving::leaving_listener),
    ("the relay finishes when connections have ended", leaving::finish),
    ("the relay has no more patience", leaving::impatience),
    ("one process hands its listeners over to the next", succession::hand_over),
    ("a process takes over more sockets than its soft limit allows", succession::more_than_the_soft_limit),
    ("a process is killed", succession::killed),
];

fn main() -> ExitCode {
    if let Some(endpoint) = std::env::var_os(succession::CHILD) {
        return succession::child(&endpoint.to_string_lossy());
    }
    if std::env::var_os(succession::MANY).is_some() {
        return succession::receive_many();
    }
    let arguments = Arguments::from_args();
    // SAFETY: no arguments, no failure.
    let root = unsafe { libc::geteuid() } == 0;
    if !root && let Err(error) = enter_user_namespace() {
        eprintln!("cannot enter a user namespace, which these tests need without root: {error}");
        return ExitCode::FAILURE;
    }
    let trials = CASES.iter().map(|(name, case)| Trial::test(*name, move || apart(*case))).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
