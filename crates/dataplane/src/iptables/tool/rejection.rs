//! Why iptables-restore fails, from what it prints: the texts of releases 1.6 to 1.8.11, both
//! variants.

use portolan_service::Family;

use crate::error::Error;
use crate::variant::Variant;

/// Why rules were not written.
#[derive(Debug, thiserror::Error)]
pub(in crate::iptables) enum RestoreError {
    /// It does not take the input. Nothing is changed in the table that the line belongs to; tables
    /// before it in the input are written.
    #[error("{message}")]
    Rejected {
        /// The line that it names, from 1. Where the kernel refuses, with iptables-legacy, it is
        /// the line `COMMIT`, because then nobody knows more than the table.
        line: Option<usize>,
        /// What it says about it, for people
        message: String,
    },
    /// It could not work at all: program, lock, privilege or kernel.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// What is printed when it cannot work at all, and what to do about it; the first that is found
/// counts.
const CIRCUMSTANCES: [(&str, &str); 10] = [
    ("holding the xtables lock", "another program has held the lock for 5 seconds; it will be tried again"),
    ("lock file", "the lock cannot be opened: in a container, mount /run/xtables.lock from the host"),
    ("Can't lock", "the lock cannot be taken: in a container, mount /run/xtables.lock from the host"),
    ("you must be root", "no privilege: grant CAP_NET_ADMIN in the network namespace of the host"),
    (
        "initialize table",
        "the kernel has no such table: load the module iptable_nat, iptable_filter or iptable_mangle, or ip6table_*",
    ),
    ("initialize nft", "the kernel has no nf_tables: load the module nf_tables, or use iptables-legacy"),
    ("is incompatible", INCOMPATIBLE),
    (
        "Message too long",
        "without privileges over the machine, iptables-nft cannot send a transaction of more than a few hundred rules: use mode \
         nftables, raise net.core.wmem_max, or use iptables-legacy",
    ),
    (
        "Operation not supported",
        "the kernel lacks what a rule needs: load the module nft_compat and those of the matches",
    ),
    (
        "error while loading shared libraries",
        "the program is not complete: install the package iptables again",
    ),
];

/// Circumstances in which a part of the host is not there.
const MISSING: [&str; 4] =
    ["initialize table", "initialize nft", "Operation not supported", "error while loading shared libraries"];

/// A table of iptables-nft holds what no iptables rule can say.
pub(super) const INCOMPATIBLE: &str = "someone wrote rules to it with nft that iptables cannot read: move them to a table of another name, as iptables-nft \
     owns filter, nat, mangle, raw and security";

/// Reads what a failed iptables-restore printed.
pub(super) fn read(variant: Variant, family: Family, input: &str, stderr: &str) -> RestoreError {
    let said = said(stderr);
    let circumstance = CIRCUMSTANCES.iter().find(|(text, _)| stderr.contains(text));
    // A rule that needs what the kernel lacks is one rule's matter, if the rule is known.
    let line = line(stderr);
    match circumstance {
        Some((text, remedy)) if line.is_none() || *text != "Operation not supported" => {
            let message = format!("{variant}, {family}: {said}: {remedy}");
            if MISSING.contains(text) {
                Error::Missing(message).into()
            } else {
                Error::Unusable(message).into()
            }
        }
        _ => rejected(input, line, said),
    }
}

fn rejected(input: &str, line: Option<usize>, said: String) -> RestoreError {
    let text = |line: usize| input.lines().nth(line.checked_sub(1)?);
    if line.and_then(text) != Some("COMMIT") {
        return RestoreError::Rejected { line, message: said };
    }
    // Chains that are jumped to are looked for when all of a table is known.
    if let Some((_, rest)) = said.split_once("Chain '")
        && let Some((chain, _)) = rest.split_once("' does not exist")
        && let Some(at) = input.lines().position(|line| jumps_to(line, chain))
    {
        return RestoreError::Rejected { line: Some(at + 1), message: said };
    }
    let message = format!("{said} (the kernel refuses the table as a whole; its log may say why)");
    RestoreError::Rejected { line, message }
}

/// The last target of a line is its target; before it, a comment may say anything.
fn jumps_to(line: &str, chain: &str) -> bool {
    let mut words = line.split_whitespace().rev();
    let mut after = None;
    let target = words.find_map(|word| {
        let follows = after.replace(word);
        matches!(word, "-j" | "-g" | "--jump" | "--goto").then_some(follows)
    });
    target.flatten() == Some(chain)
}

/// The line of the input that is named first.
fn line(stderr: &str) -> Option<usize> {
    stderr.lines().find_map(|text| {
        let number = ["Error occurred at line: ", "COMMIT expected at line "]
            .iter()
            .find_map(|before| text.strip_prefix(before).or_else(|| Some(text.split_once(before)?.1)))
            // `iptables-restore: line 3 failed`, `line 3: RULE_APPEND failed (...)`
            .or_else(|| text.split(": ").find_map(|part| part.strip_prefix("line ")))?;
        let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        number[..digits].parse().ok()
    })
}

/// What is printed, in one line, without what only says where, and how to get help.
fn said(stderr: &str) -> String {
    let lines: Vec<&str> = stderr
        .lines()
        .map(|line| line.trim().trim_end_matches(':'))
        .filter(|line| {
            !line.is_empty() && !line.starts_with("Try `") && !line.starts_with("Error occurred at line")
        })
        .collect();
    if lines.is_empty() { "it fails and does not say why".to_owned() } else { lines.join(": ") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INPUT: &str =
        "*nat\n:A - [0:0]\n-A A -m comment --comment \"to -j B then\" -j RETURN\n-A A -j B\nCOMMIT\n";

    /// What of a text is expected: the line, or that it is no matter of a line; and words of the
    /// message.
    type Expected = (Result<Option<usize>, ()>, &'static str);

    const CASES: &[(&str, &str, Expected)] = &[
        (
            "1.8.9 legacy, unknown option",
            "iptables-restore v1.8.9 (legacy): unknown option \"--bogus\"\nError occurred at line: 3\n\
             Try `iptables-restore -h' or 'iptables-restore --help' for more information.\n",
            (Ok(Some(3)), "iptables-restore v1.8.9 (legacy): unknown option \"--bogus\""),
        ),
        (
            "1.8.9 nft, unknown match",
            "iptables-nft-restore v1.8.9 (nf_tables): Couldn't load match `nosuch':No such file or directory\n\n\
             Error occurred at line: 3\nTry `iptables-nft-restore -h' or 'iptables-nft-restore --help' for more information.\n",
            (Ok(Some(3)), "Couldn't load match `nosuch'"),
        ),
        ("1.8.9 legacy, missing rule", "iptables-restore: line 3 failed\n", (Ok(Some(3)), "line 3 failed")),
        (
            "1.8.9 nft, missing rule",
            "iptables-nft-restore: line 3 failed: Bad rule (does a matching rule exist in that chain?).\n",
            (Ok(Some(3)), "Bad rule"),
        ),
        ("1.8.4 nft, missing chain", "iptables-restore: line 2 failed\n", (Ok(Some(2)), "line 2 failed")),
        (
            "1.8.9 nft, the kernel refuses a rule",
            "iptables-nft-restore v1.8.9 (nf_tables): \nline 4: RULE_APPEND failed (Invalid argument): rule in chain A\n",
            (Ok(Some(4)), "(nf_tables): line 4: RULE_APPEND failed (Invalid argument): rule in chain A"),
        ),
        (
            "1.8.4 nft, the kernel refuses to remove a chain",
            "iptables-restore v1.8.4 (nf_tables): \nline 2: CHAIN_USER_DEL failed (Device or resource busy): chain B\n",
            (Ok(Some(2)), "Device or resource busy"),
        ),
        (
            "1.8.7 nft, the kernel refuses several, the first counts",
            "iptables-restore v1.8.7 (nf_tables): \nline 3: RULE_ADD failed (No such file or directory): rule in chain A\n\
             line 4: RULE_ADD failed (No such file or directory): rule in chain A\n",
            (Ok(Some(3)), "RULE_ADD failed"),
        ),
        (
            "nft, the kernel lacks what one rule needs",
            "iptables-restore v1.8.9 (nf_tables): \nline 3: RULE_APPEND failed (Operation not supported): rule in chain A\n",
            (Ok(Some(3)), "Operation not supported"),
        ),
        (
            "1.8.9 nft, a jump to nowhere is found, not the comment that looks like it",
            "iptables-nft-restore v1.8.9 (nf_tables): Chain 'B' does not exist\nError occurred at line: 5\n",
            (Ok(Some(4)), "Chain 'B' does not exist"),
        ),
        (
            "1.8.9 nft, a jump to nowhere that is not in the input",
            "iptables-nft-restore v1.8.9 (nf_tables): Chain 'C' does not exist\nError occurred at line: 5\n",
            (Ok(Some(5)), "Chain 'C' does not exist"),
        ),
        (
            "1.8.9 nft, more than an unprivileged process can send",
            "sendmsg() failed: Message too long\niptables-nft-restore: line 5 failed: Message too long.\n",
            (Err(()), "raise net.core.wmem_max"),
        ),
        (
            "legacy, the kernel refuses the table",
            "iptables-restore: line 5 failed\n",
            (Ok(Some(5)), "refuses the table as a whole"),
        ),
        (
            "1.6.1, bad argument",
            "iptables-restore v1.6.1: Couldn't load target `NOCHAIN':No such file or directory\n\nError occurred at line: 3\n\
             Try `iptables-restore -h' or 'iptables-restore --help' for more information.\n",
            (Ok(Some(3)), "Couldn't load target `NOCHAIN'"),
        ),
        (
            "end of input without COMMIT",
            "iptables-restore: COMMIT expected at line 3\n",
            (Ok(Some(3)), "COMMIT expected"),
        ),
        ("no line", "iptables-restore v1.8.9 (nf_tables): odd\n", (Ok(None), "(nf_tables): odd")),
        ("a line that is no number", "line one: odd\n", (Ok(None), "odd")),
        ("nothing at all", "", (Ok(None), "does not say why")),
        (
            "the lock is held",
            "Can't lock /run/xtables.lock: Resource temporarily unavailable\n\
             Another app is currently holding the xtables lock. Stopped waiting after 5s.\n",
            (Err(()), "will be tried again"),
        ),
        (
            "1.6.2, the lock is held",
            "Another app is currently holding the xtables lock; still 0s 0us time ahead to have a chance to grab the lock...\n\
             Another app is currently holding the xtables lock. Stopped waiting after 5s.\n",
            (Err(()), "will be tried again"),
        ),
        (
            "the lock cannot be opened",
            "Fatal: can't open lock file /run/xtables.lock: Permission denied\n",
            (Err(()), "mount /run/xtables.lock"),
        ),
        (
            "nft without privilege",
            "iptables-nft-restore v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)\n",
            (Err(()), "CAP_NET_ADMIN"),
        ),
        (
            "legacy without the module",
            "iptables-restore v1.8.9 (legacy): iptables-restore: unable to initialize table 'nat'\nError occurred at line: 1\n\
             Try `iptables-restore -h' or 'iptables-restore --help' for more information.\n",
            (Err(()), "iptable_nat"),
        ),
        (
            "nft without the module",
            "iptables-restore/1.8.4 Failed to initialize nft: Protocol not supported\n",
            (Err(()), "load the module nf_tables"),
        ),
        (
            "a table that nft was used on",
            "iptables-restore v1.8.9 (nf_tables): table `nat' is incompatible, use 'nft' tool.\n\nError occurred at line: 1\n",
            (Err(()), "another name"),
        ),
    ];

    #[test]
    fn texts_of_all_releases_are_read() {
        for (name, text, (line, words)) in CASES {
            let error = read(Variant::Nft, Family::V4, INPUT, text);
            let message = error.to_string();
            let found = match error {
                RestoreError::Rejected { line, .. } => Ok(line),
                RestoreError::Failed(Error::Unusable(_) | Error::Missing(_)) => Err(()),
                RestoreError::Failed(error) => panic!("{name}: {error}"),
            };
            assert_eq!(found, *line, "{name}");
            assert!(message.contains(words) && !message.contains('\n'), "{name}: {message}");
            assert!(!message.contains("Try `"), "{name}: {message}");
        }
    }

    proptest! {
        #[test]
        fn anything_may_be_printed(
            stderr in "(line |: |[0-9]{1,30}|COMMIT expected at line |Error occurred at line: |Chain '|' does not exist|\\PC|\n){0,12}",
        ) {
            if let RestoreError::Rejected { message, .. } = read(Variant::Legacy, Family::V6, INPUT, &stderr) {
                prop_assert!(!message.is_empty() && !message.contains('\n'));
            }
        }
    }
}
