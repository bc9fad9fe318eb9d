//! Resolvers that people have, asking `portolan dns`: the C libraries glibc and musl, dig, busybox
//! and systemd-resolved. Each has four search domains and `ndots:5`, as pods have.
//!
//! What each of them makes of an answer is its own affair. So a row says what must be found, and
//! that it is found without a wait: a resolver that dislikes an answer asks again, seconds later.

mod library;
mod outside;
mod programs;
mod site;
mod tools;

use std::process::ExitCode;

use libtest_mimic::Trial;
use portolan_service::Family;
use portolan_tests::harness;

use crate::tools::trial;

/// Trials mostly wait for processes.
const THREADS: usize = 4;
/// musl takes no more addresses of a name.
const MUSL_TAKES: usize = 48;

fn main() -> ExitCode {
    harness::run("resolvers", THREADS, Family::ALL.iter().flat_map(|family| trials(*family)).collect())
}

fn trials(family: Family) -> Vec<Trial> {
    let (glibc, musl) = (tools::glibc_lookup, tools::musl_lookup);
    let over = |what: &str| format!("{what} over {family}");
    let musl_has_tcp = tools::musl_has_tcp();
    vec![
        trial("glibc", &over("getaddrinfo"), glibc(), "gcc", move |it| library::finds(it, family)),
        trial("glibc", &over("a large answer"), glibc(), "gcc", move |it| {
            library::large_with_tcp(it, family, usize::MAX)
        }),
        trial("glibc", &over("nothing outside"), glibc(), "gcc", move |it| {
            library::nothing_outside(it, family)
        }),
        trial("musl", &over("nothing outside"), musl(), "musl-tools", move |it| {
            library::nothing_outside(it, family)
        }),
        trial("glibc", &over("getent"), tools::find("getent"), "libc-bin", move |it| {
            library::getent(it, family)
        }),
        trial("musl", &over("getaddrinfo"), musl(), "musl-tools", move |it| library::finds(it, family)),
        trial("musl", &over("a large answer"), musl(), "musl-tools", move |it| {
            if musl_has_tcp {
                library::large_with_tcp(it, family, MUSL_TAKES)
            } else {
                library::large_without_tcp(it, family)
            }
        }),
        trial("dig", &over("questions"), tools::find("dig"), "bind9-dnsutils", move |it| {
            programs::dig(it, family)
        }),
        trial("busybox", &over("nslookup"), tools::find("busybox"), "busybox", move |it| {
            programs::busybox(it, family)
        }),
        trial(
            "systemd-resolved",
            &over("asked by glibc"),
            tools::resolved().filter(|_| glibc().is_some()),
            "systemd-resolved",
            move |it| {
                let lookup = glibc().unwrap_or_default();
                library::by_resolved(&lookup.to_string_lossy(), it, family)
            },
        ),
    ]
}
