//! What `iptables -L` prints, with and without `-n`, `-v` and `--line-numbers`: each row is turned
//! into the words of iptables-save. Words that are not known become conditions that are named.

mod extensions;
mod row;
mod words;

use portolan_service::Family;

use self::row::{Columns, Row, columns};
use super::commands::{self, Command};
use super::group::{Group, Line};
use crate::Error;
use crate::printable::{printable, shortened};

/// The line that begins a chain: `Chain INPUT (policy ACCEPT 0 packets, 0 bytes)`, `Chain
/// KUBE-SERVICES (2 references)`.
pub(super) fn heading(line: &str) -> Option<(&str, Option<&str>)> {
    let (name, after) = line.trim().strip_prefix("Chain ")?.split_once(" (")?;
    if name.is_empty() || name.contains(char::is_whitespace) || !after.ends_with(')') {
        return None;
    }
    let policy = after.strip_prefix("policy ").and_then(|policy| policy.split([' ', ')']).next());
    Some((name, policy))
}

/// The tables of `text`.
pub(super) fn groups(text: &str) -> Result<Vec<Group>, Error> {
    let mut groups: Vec<Group> = Vec::new();
    let mut said: Option<Command> = None;
    let mut begin = true;
    let mut user_chains = false;
    let mut at: Option<(String, Option<Columns>)> = None;
    for (number, raw) in (1..).zip(text.lines()) {
        let clean = printable(raw);
        let line = clean.trim();
        if line.is_empty() || line == "--" {
            continue;
        }
        if let Some((name, policy)) = heading(line) {
            let another = |group: &Group| policy.is_some() && (user_chains || group.is_another(name));
            if begin || groups.last().is_none_or(another) {
                let named = said.as_ref().map(|said| said.family).filter(|family| *family == Family::V6);
                let table = said.take().and_then(|said| said.table);
                let mut group = Group::new(table);
                group.named = named;
                group.whole_chains = true;
                groups.push(group);
                (begin, user_chains) = (false, false);
            }
            let group = groups.last_mut().expect("it was added");
            match policy {
                Some(policy) => group.base(number, name, policy),
                None => group.chain(number, name),
            }
            user_chains |= policy.is_none();
            at = Some((name.to_owned(), None));
            continue;
        }
        if let (Some(found), Some((_, columns))) = (columns(line), &mut at) {
            *columns = Some(found);
            continue;
        }
        if commands::is_message(line) {
            commands::message(&mut groups, line);
            continue;
        }
        let prompt = !line.contains(" -- ") && !line.contains("/*");
        if let Some(command) = commands::command(line).filter(|_| prompt) {
            said = Some(command);
            begin = true;
            at = None;
            continue;
        }
        if line.starts_with('#') || commands::is_noise(line) {
            continue;
        }
        let (Some((chain, columns)), Some(group)) = (&at, groups.last_mut()) else {
            return Err(problem(
                number,
                raw,
                "a row of iptables -L without the `Chain` line of its chain before it",
            ));
        };
        let row = Row::read(line, *columns).map_err(|what| problem(number, raw, &what))?;
        group.family = group.family.or(row.family());
        group.rule(Line { number, text: row.rule(chain), shown: Some(row.shown) });
    }
    Ok(groups)
}

fn problem(line: usize, raw: &str, problem: &str) -> Error {
    Error::Line { line, problem: problem.to_owned(), text: shortened(raw) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings() {
        for (line, expected) in [
            ("Chain INPUT (policy ACCEPT 0 packets, 0 bytes)", Some(("INPUT", Some("ACCEPT")))),
            ("Chain FORWARD (policy DROP)", Some(("FORWARD", Some("DROP")))),
            ("Chain KUBE-SERVICES (2 references)", Some(("KUBE-SERVICES", None))),
            ("Chain of events (seen)", None),
            ("INPUT (policy ACCEPT)", None),
        ] {
            assert_eq!(heading(line), expected, "{line}");
        }
    }
}
