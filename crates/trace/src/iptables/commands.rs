//! Lines as commands of iptables: what `iptables -S` prints, and rules that were cut out of a dump.

use super::group::{Group, Line};
use super::values::family_of;
use crate::Error;
use crate::printable::{printable, shortened};
use portolan_service::Family;

/// A command of iptables that stands before what it printed: `# iptables -t nat -S`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) table: Option<String>,
    pub(super) family: Family,
}

/// The command in `line`, if there is one.
pub(super) fn command(line: &str) -> Option<Command> {
    let mut words = line.split_ascii_whitespace();
    let program = words.find_map(|word| {
        let name = word.trim_start_matches(['$', '#', '>', '`', '"', '\'']);
        let name = name.rsplit('/').next().unwrap_or(name);
        let rest = name.strip_prefix("ip6tables").or_else(|| name.strip_prefix("iptables"))?;
        matches!(rest, "" | "-nft" | "-legacy" | "-save" | "-nft-save" | "-legacy-save").then_some(name)
    })?;
    let family = if program.starts_with("ip6") { Family::V6 } else { Family::V4 };
    let mut table = None;
    while let Some(word) = words.next() {
        match word {
            "-t" | "--table" => table = words.next(),
            "-A" | "-I" | "-D" => return None,
            word => table = word.strip_prefix("--table=").or_else(|| word.strip_prefix("-t")).or(table),
        }
    }
    let table =
        table.map(|name| name.trim_matches(['`', '"', '\'']).to_owned()).filter(|name| !name.is_empty());
    Some(Command { table, family })
}

/// The rule in `line`: behind counters, or behind the line number and the file name that grep
/// writes.
pub(super) fn rule(line: &str) -> Option<&str> {
    let line = line.trim();
    let at =
        ["-A ", "-I ", "--append ", "--insert "].iter().filter_map(|command| line.find(command)).min()?;
    let before = &line[..at];
    let counted = before.starts_with('[') && before.trim_end().ends_with(']');
    let numbered = before.ends_with([':', '-']) && !before.contains(char::is_whitespace);
    (before.is_empty() || counted || numbered).then(|| &line[at..])
}

/// The tables of `text`.
pub(super) fn groups(text: &str) -> Result<Vec<Group>, Error> {
    let mut groups: Vec<Group> = Vec::new();
    let mut said: Option<Command> = None;
    let mut begin = true;
    for (number, raw) in (1..).zip(text.lines()) {
        let clean = printable(raw);
        let line = clean.trim();
        if line.is_empty() || line == "--" || line == "COMMIT" {
            begin |= line == "COMMIT";
            continue;
        }
        if let Some(name) = line.strip_prefix('*') {
            let family = said.as_ref().map_or(Family::V4, |said| said.family);
            said = Some(Command { table: Some(name.trim().to_owned()), family });
            begin = true;
            continue;
        }
        let policy = line.strip_prefix("-P ").or_else(|| line.strip_prefix("--policy "));
        let new = line.strip_prefix("-N ").or_else(|| line.strip_prefix("--new-chain "));
        let declared = line.strip_prefix(':');
        let rule = rule(line);
        if policy.is_none() && new.is_none() && declared.is_none() && rule.is_none() {
            if is_message(line) {
                message(&mut groups, line);
            } else if let Some(command) = command(line) {
                begin = true;
                said = Some(command);
            } else if line.starts_with('#') {
                begin |= line.contains("tables-save v");
            } else if !is_noise(line) {
                return Err(Error::Line {
                    line: number,
                    problem: "no rule of iptables-save or iptables -S, and no `Chain` line of iptables -L before it"
                        .into(),
                    text: shortened(raw),
                });
            }
            continue;
        }
        // Policies and chains come before rules: behind a rule, another table begins.
        let declares = policy.is_some() || new.is_some() || declared.is_some();
        let base = policy.and_then(|policy| policy.split_ascii_whitespace().next());
        let again = groups.last().is_some_and(|group| {
            declares && group.has_rules() || base.is_some_and(|base| group.is_another(base))
        });
        if begin || again || groups.is_empty() {
            // A command is of what it prints, and of no table that follows without one.
            let said = said.take();
            let mut group = Group::new(said.as_ref().and_then(|said| said.table.clone()));
            group.named = said.map(|said| said.family).filter(|family| *family == Family::V6);
            groups.push(group);
            begin = false;
        }
        let group = groups.last_mut().expect("it was added");
        if let Some(declaration) = policy {
            let mut words = declaration.split_ascii_whitespace();
            let (name, policy) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            group.base(number, name, policy);
        } else if let Some(name) = new {
            group.chain(number, name);
        } else if let Some(declaration) = declared {
            let mut words = declaration.split_ascii_whitespace();
            let (name, policy) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            match policy {
                "ACCEPT" | "DROP" => group.base(number, name, policy),
                _ => group.chain(number, name),
            }
        } else if let Some(rule) = rule {
            group.family = group.family.or_else(|| family_of(rule));
            group.rule(Line { number, text: rule.to_owned(), shown: None });
        }
    }
    Ok(groups)
}

/// Whether a program says in `line` that something is missing.
pub(super) fn is_message(line: &str) -> bool {
    line.contains("incompatible") && line.contains("table") || line.contains("legacy tables present")
}

/// Keeps what a program says of its tables.
pub(super) fn message(groups: &mut Vec<Group>, line: &str) {
    if groups.is_empty() {
        groups.push(Group::new(None));
    }
    groups.last_mut().expect("there is one").messages.push(line.to_owned());
}

/// What shells print, and what people write around what they paste.
pub(super) fn is_noise(line: &str) -> bool {
    ["$", "```", "...", "[..."].iter().any(|beginning| line.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_table_and_family() {
        let of = |table: Option<&str>, family| Some(Command { table: table.map(str::to_owned), family });
        for (line, expected) in [
            ("# iptables -t nat -S", of(Some("nat"), Family::V4)),
            ("$ sudo iptables-legacy -tmangle -nvL", of(Some("mangle"), Family::V4)),
            ("root@node-1:~# /usr/sbin/ip6tables --table=nat -L -n", of(Some("nat"), Family::V6)),
            ("iptables-save | grep web", of(None, Family::V4)),
            ("iptables -t nat -A PREROUTING -j X", None),
            ("Kubernetes sets iptables-based rules", None),
            ("Chain INPUT (policy ACCEPT)", None),
        ] {
            assert_eq!(command(line), expected, "{line}");
        }
    }

    #[test]
    fn rules_are_found_behind_what_grep_writes() {
        for (line, expected) in [
            ("-A X -j Y", Some("-A X -j Y")),
            ("  -A X -j Y  ", Some("-A X -j Y")),
            ("12:-A X -j Y", Some("-A X -j Y")),
            ("12--A X -j Y", Some("-A X -j Y")),
            ("node.txt:12:-A X -j Y", Some("-A X -j Y")),
            ("[12:345] -A X -j Y", Some("-A X -j Y")),
            ("# -A X -j Y", None),
            ("see -A X", None),
            (":X - [0:0]", None),
        ] {
            assert_eq!(rule(line), expected, "{line}");
        }
    }
}
