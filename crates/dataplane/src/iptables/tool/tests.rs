//! The programs that this machine has, on tables of both variants.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use portolan_netfilter::socket::Socket;
use portolan_service::Family;

use super::*;
use crate::tests::namespace;

const VARIANTS: [Variant; 2] = [Variant::Nft, Variant::Legacy];

/// Runs the test `name` in a network namespace of its own.
fn in_namespace(name: &str, body: impl FnOnce()) {
    namespace::run(&format!("iptables::tool::tests::{name}"), body);
}

/// Runs a program that must succeed.
fn program(words: &str) {
    let mut words_of = words.split_whitespace();
    let output = Command::new(words_of.next().expect("a program"))
        .args(words_of)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .expect("a program that these tests need");
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Of this variant, as if kubelet had its chains there.
fn tool(variant: Variant, family: Family) -> Tool {
    let programs = Programs::find(family, Some((variant, Reason::Kubelet)), &programs::directories())
        .expect("this machine has both variants");
    let reader = Reader::open(variant, family).expect("a socket");
    Tool { family, programs, reader }
}

fn each(mut body: impl FnMut(Tool)) {
    for variant in VARIANTS {
        for family in Family::ALL {
            body(tool(variant, family));
        }
    }
}

fn address(family: Family) -> &'static str {
    match family {
        Family::V4 => "192.0.2.1/32",
        Family::V6 => "2001:db8::1/128",
    }
}

#[test]
fn what_is_restored_is_saved() {
    in_namespace("what_is_restored_is_saved", || {
        each(|tool| {
            let rule = format!("-A KUBE-SVC-X -d {} -j RETURN", address(tool.family));
            let input = format!(
                "*filter\n:KUBE-SERVICES - [0:0]\nCOMMIT\n*nat\n:KUBE-SVC-X - [0:0]\n:OTHER - [0:0]\n{rule}\nCOMMIT\n"
            );
            tool.restore(&input).expect("it is taken");
            // A chain that is not named stays; one that is named is emptied first (spec §5.3).
            tool.restore(&format!("*nat\n:KUBE-SVC-X - [0:0]\n{rule}\nCOMMIT\n")).expect("it is taken");
            let nat = tool.save(&["nat"]).expect("it is there");
            let count = |text: &str| nat.lines().filter(|line| *line == text).count();
            assert_eq!((count(&rule), count(":OTHER - [0:0]")), (1, 1), "{:?}: {nat}", tool.programs);
            assert!(tool.save(&["filter"]).expect("it is there").contains(":KUBE-SERVICES - [0:0]"));
        });
    });
}

#[test]
fn a_refused_line_is_named_and_its_table_unchanged() {
    // Situation, lines of a table nat, the line that is named by iptables-nft and by
    // iptables-legacy
    let cases = [
        ("an option that is none", ":B - [0:0]\n-A B --bogus 1", 3, 3),
        ("a match that is none", ":B - [0:0]\n-A B -m nosuch -j RETURN", 3, 3),
        ("a rule that is not there", ":B - [0:0]\n-D A -j RETURN", 3, 3),
        ("a chain that is not there", "-X NOSUCH", 2, 2),
        ("a rule in a chain that is not there", "-A NOSUCH -j RETURN", 2, 2),
        ("a jump to nowhere", ":B - [0:0]\n-A B -j NOSUCH\n-A B -j RETURN", 3, 3),
        ("a chain in use", ":B - [0:0]\n-A A -j B\n-X B", 4, 4),
        // The kernel refuses; to iptables-legacy it does not say what.
        ("a target in the wrong place", "-A PREROUTING -j A\n-A A -j MASQUERADE", 3, 4),
    ];
    in_namespace("a_refused_line_is_named_and_its_table_unchanged", || {
        each(|mut tool| {
            tool.restore("*nat\n:A - [0:0]\nCOMMIT\n").expect("it is taken");
            let before = tool.save(&["nat"]).expect("it is there");
            let fingerprint = tool.fingerprint().expect("it can be read");
            for (situation, lines, nft, legacy) in cases {
                let line = if tool.variant() == Variant::Nft { nft } else { legacy };
                let rejected = tool.restore(&format!("*nat\n{lines}\nCOMMIT\n"));
                let Err(RestoreError::Rejected { line: named, message }) = rejected else {
                    panic!("{situation}: {rejected:?}");
                };
                assert_eq!(named, Some(line), "{situation}, {}: {message}", tool.variant());
                let saved = |text: &str| {
                    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
                };
                let after = tool.save(&["nat"]).expect("it is there");
                assert_eq!(saved(&after), saved(&before), "{situation}, {}", tool.variant());
            }
            assert_eq!(tool.fingerprint().expect("it can be read"), fingerprint, "{}", tool.variant());
        });
    });
}

#[test]
fn fingerprints_tell_of_changes() {
    in_namespace("fingerprints_tell_of_changes", || {
        each(|mut tool| {
            let mut read = || tool.fingerprint().expect("it can be read");
            let empty = read();
            assert_eq!(read(), empty, "nobody did anything");
            let both = "*filter\n:A - [0:0]\nCOMMIT\n*nat\n:A - [0:0]\n:B - [0:0]\nCOMMIT\n";
            tool.restore(both).expect("it is taken");
            let mut read = || tool.fingerprint().expect("it can be read");
            let written = read();
            assert_ne!(written, empty);
            assert!(written.follows(&empty, 2), "{written:?} {empty:?}");
            tool.save(&["nat"]).expect("it is there");
            tool.restore("*nat\n-A A -j B\n-A B -j RETURN\nCOMMIT\n").expect("it is taken");
            let mut read = || tool.fingerprint().expect("it can be read");
            let changed = read();
            assert_ne!(changed, written, "a rule more, and what was read counts for nothing");
            assert!(changed.follows(&written, 1), "{changed:?} {written:?}");
            let others = if tool.family == Family::V4 { "iptables" } else { "ip6tables" };
            let suffix = if tool.variant() == Variant::Nft { "nft" } else { "legacy" };
            program(&format!("{others}-{suffix} -t nat -F A"));
            let mut read = || tool.fingerprint().expect("it can be read");
            assert_ne!(read(), changed, "somebody else");
        });
    });
}

#[test]
fn a_table_that_is_not_there_is_not_created_by_a_look() {
    in_namespace("a_table_that_is_not_there_is_not_created_by_a_look", || {
        each(|mut tool| {
            tool.fingerprint().expect("it can be read");
            choice::choose().expect("it can be read");
        });
        for family in Family::ALL.map(crate::variant::table_family) {
            assert!(portolan_netfilter::xtables::tables(family).expect("readable").is_empty());
            assert!(Socket::open().expect("a socket").tables(family).expect("readable").is_empty());
        }
    });
}

#[test]
fn a_host_without_traces_gets_what_iptables_is() {
    in_namespace("a_host_without_traces_gets_what_iptables_is", || {
        assert_eq!(choice::choose().expect("readable"), None);
        let plain = Programs::find(Family::V4, None, &programs::directories()).expect("there is one");
        assert!(plain.restore.ends_with("iptables-restore"), "{plain:?}");
        assert_eq!(Tool::find(Family::V4).expect("there is one").programs, plain);
    });
}

#[test]
fn the_variant_with_kubelets_chain_is_found_in_spite_of_rules_in_the_other() {
    let name = "the_variant_with_kubelets_chain_is_found_in_spite_of_rules_in_the_other";
    in_namespace(name, || {
        let hint = "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n";
        let rules =
            "*filter\n-A INPUT -j ACCEPT\n-A INPUT -j ACCEPT\nCOMMIT\n*nat\n:KUBE-SERVICES - [0:0]\nCOMMIT\n";
        let found = || Family::ALL.map(|family| Tool::find(family).expect("there is one").variant());
        // The two directions one after the other, each stronger evidence than the last
        tool(Variant::Nft, Family::V4).restore(rules).expect("it is taken");
        assert_eq!(found(), [Variant::Nft; 2], "rules of IPv4 decide for IPv6, too");
        tool(Variant::Legacy, Family::V4).restore(hint).expect("it is taken");
        assert_eq!(found(), [Variant::Legacy; 2]);
        program("iptables-legacy -t mangle -X KUBE-IPTABLES-HINT");
        assert_eq!(found(), [Variant::Nft; 2]);
        tool(Variant::Legacy, Family::V6).restore(rules).expect("it is taken");
        program("ip6tables-legacy -A OUTPUT -j ACCEPT");
        assert_eq!(found(), [Variant::Legacy; 2], "both have a proxy's chains; here are more rules");
        tool(Variant::Nft, Family::V6).restore(hint).expect("it is taken");
        assert_eq!(found(), [Variant::Nft; 2]);
    });
}

#[test]
fn a_lock_that_is_held_is_waited_for_and_then_told() {
    in_namespace("a_lock_that_is_held_is_waited_for_and_then_told", || {
        let path = PathBuf::from(std::env::var_os("XTABLES_LOCKFILE").expect("set for each test"));
        let held = crate::removal::xtables_lock::XtablesLock::take(&path).expect("nobody else has it");
        let error = tool(Variant::Legacy, Family::V4).restore("*nat\nCOMMIT\n").expect_err("it is held");
        assert!(matches!(&error, RestoreError::Failed(Error::Unusable(_) | Error::Missing(_))), "{error:?}");
        assert!(error.to_string().contains("another program has held the lock"), "{error}");
        drop(held);
        tool(Variant::Legacy, Family::V4).restore("*nat\nCOMMIT\n").expect("it is free");
    });
}

#[test]
fn a_table_that_iptables_cannot_read_is_named() {
    in_namespace("a_table_that_iptables_cannot_read_is_named", || {
        program("nft add table ip nat");
        program("nft add chain ip nat BESIDE { type nat hook prerouting priority -50 ; }");
        let tool = tool(Variant::Nft, Family::V4);
        tool.save(&["nat"]).expect("a base chain that iptables does not know hinders nobody");
        program("nft add chain ip nat PREROUTING { type nat hook prerouting priority -100 ; }");
        program("nft add rule ip nat PREROUTING tcp dport { 80, 81 } redirect to :8080");
        let error = tool.save(&["nat"]).expect_err("iptables cannot read it");
        assert!(error.to_string().contains("table nat") && error.to_string().contains("with nft"), "{error}");
    });
}

/// A directory of programs of our own.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str, programs: &[(&str, &str)]) -> Directory {
        let path = std::env::temp_dir().join(format!("portolan-test-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        for (name, script) in programs {
            let file = path.join(name);
            std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("a file");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        }
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left is in the directory for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn find(directory: &Path, chosen: Option<Variant>) -> Result<Programs, String> {
    let chosen = chosen.map(|variant| (variant, Reason::Kubelet));
    Programs::find(Family::V4, chosen, &[directory.to_owned()]).map_err(|error| error.to_string())
}

/// Situation, programs, the variant that the host uses, words of the version or of the error
type Search<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<Variant>, Result<&'a str, &'a str>);

#[test]
fn missing_programs_are_named() {
    let nft = "echo 'iptables v1.8.9 (nf_tables)'";
    let old = "echo 'iptables v1.4.21'";
    let unknown = "echo 'unrecognized option --version' >&2; exit 1";
    let cases: [Search<'_>; 8] = [
        ("nothing", &[], None, Err("no usable iptables-restore or iptables-nft-restore or")),
        ("nothing for nft", &[], Some(Variant::Nft), Err("this host uses iptables (nft), as kubelet has")),
        ("no save", &[("iptables-restore", nft)], None, Err("install the package iptables")),
        (
            "of the other variant",
            &[("iptables-restore", nft), ("iptables-save", nft)],
            Some(Variant::Legacy),
            Err("iptables-restore is iptables (nft) 1.8.9"),
        ),
        (
            "of the right one under its plain name",
            &[("iptables-restore", nft), ("iptables-save", nft)],
            Some(Variant::Nft),
            Ok("iptables (nft) 1.8.9"),
        ),
        (
            "named for its variant",
            &[("iptables-nft-restore", nft), ("iptables-nft-save", nft)],
            None,
            Ok("iptables (nft) 1.8.9"),
        ),
        (
            "an old one, of which only iptables prints its version",
            &[("iptables-restore", unknown), ("iptables-save", unknown), ("iptables", old)],
            Some(Variant::Legacy),
            Ok("iptables (legacy) 1.4.21"),
        ),
        (
            "one that does not run",
            &[("iptables-restore", unknown), ("iptables-save", unknown)],
            None,
            Err("unrecognized option --version"),
        ),
    ];
    for (at, (situation, programs, chosen, expected)) in cases.into_iter().enumerate() {
        let directory = Directory::new(&format!("programs-{at}"), programs);
        match (find(&directory.0, chosen), expected) {
            (Ok(found), Ok(version)) => assert_eq!(found.version.to_string(), version, "{situation}"),
            (Err(error), Err(words)) => assert!(error.contains(words), "{situation}: {error}"),
            (found, _) => panic!("{situation}: {found:?}"),
        }
    }
}

#[test]
fn an_old_release_is_run_under_locks_of_ours() {
    in_namespace("an_old_release_is_run_under_locks_of_ours", || {
        // Succeeds only if it is asked not to lock, and the lock is held.
        let restore = "[ \"$*\" = '--noflush --counters' ] && ! flock -n \"$XTABLES_LOCKFILE\" true";
        let directory = Directory::new(
            "old",
            &[
                ("iptables-restore", &format!("[ \"$1\" = --version ] && exit 1; {restore}")),
                ("iptables-save", "exit 1"),
                ("iptables", "echo 'iptables v1.6.1'"),
            ],
        );
        let tool = Tool::find_in(Family::V4, std::slice::from_ref(&directory.0)).expect("it is found");
        assert!(!tool.random_fully());
        tool.restore("*nat\nCOMMIT\n").expect("the lock is held meanwhile");
        let lock = std::env::var_os("XTABLES_LOCKFILE").expect("set for each test");
        program(&format!("flock -n {} true", lock.display()));
    });
}
