//! What pages say of the program.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::ensure;

use crate::files::{below, text};

/// Everything in back quotes on the lines of tables.
fn quoted_in_tables(page: &str) -> Vec<String> {
    let rows = page.lines().filter(|line| line.starts_with("| "));
    rows.flat_map(|row| row.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

pub(crate) fn flags() -> anyhow::Result<()> {
    let program = portolan_tests::binary::portolan()?;
    let page = text("docs/configuration.md")?;
    let quoted = quoted_in_tables(&page);
    let documented: BTreeSet<&str> =
        quoted.iter().filter(|text| text.starts_with("--")).map(String::as_str).collect();
    let help = Command::new(&program).args(["run", "--help"]).output()?;
    let help = String::from_utf8(help.stdout)?;
    let words = help.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | '=' | '.' | '`'));
    // What is between flags, in texts about them, are flags, too.
    let shown: BTreeSet<&str> =
        words.filter(|word| word.len() > 3 && word.starts_with("--") && *word != "--help").collect();
    ensure!(shown.len() > 30, "only {shown:?} were found in --help");
    let missing: Vec<_> = shown.difference(&documented).collect();
    ensure!(missing.is_empty(), "in --help, and not in docs/configuration.md: {missing:?}");
    for flag in documented {
        // What is wrong with its value is not what is asked; help ends the program.
        let output = Command::new(&program).args(["run", &format!("{flag}=0"), "--help"]).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(!errors.contains("unexpected argument"), "docs/configuration.md has {flag}: {errors}");
    }
    Ok(())
}

/// Each message in the table of troubles is somewhere in the source; its parts are, where it leaves
/// something out.
pub(crate) fn messages() -> anyhow::Result<()> {
    // What the system says, settings by their names, and JSON as it is sent.
    const NOT_OURS: [&str; 6] = [
        "address already in use",
        "nf_conntrack_max stays",
        "oom_score_adj stays",
        "there is no /proc/sys/net/netfilter/",
        "mode ipvs is not available in this version",
        "\"nodeEligible\":false",
    ];
    let mut source = String::new();
    for file in below("crates", ".rs")? {
        source.push_str(&text(&file)?);
    }
    // As the parts of the messages above that are ours.
    for part in [" stays ", "there is no {path}", "is not available in this version", "node_eligible"] {
        ensure!(source.contains(part), "no message has {part:?}");
    }
    let page = text("docs/replacing-kube-proxy.md")?;
    let (_, troubles) = page.split_once("## When something is wrong").unwrap_or_default();
    let mut checked = 0;
    for row in troubles.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| The log")) {
        let first = row.split('|').nth(1).unwrap_or_default();
        let messages = first.split('`').skip(1).step_by(2).filter(|text| text.contains(' '));
        for part in messages.flat_map(|message| message.split("...")) {
            let part = part.trim().trim_end_matches([':', ',']);
            if part.is_empty() || NOT_OURS.contains(&part) || part == "ago" {
                continue;
            }
            ensure!(source.contains(part), "docs/replacing-kube-proxy.md: no message has {part:?}");
            checked += 1;
        }
    }
    ensure!(checked > 10, "only {checked} messages were found");
    Ok(())
}
