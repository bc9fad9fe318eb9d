//! What iptables-save has printed, line by line.

use super::open::{Given, Open, Problem};
use super::{commands, incomplete};
use crate::Error;
use crate::printable::{printable, shortened};
use crate::ruleset::{Ruleset, Table, TableFamily, Tool};

pub(super) struct Reader<'a> {
    given: Given<'a>,
    tables: Vec<Table>,
    current: Option<Open>,
    by_iptables_nft: bool,
    missing: incomplete::Missing,
}

impl<'a> Reader<'a> {
    pub(super) fn new(given: Given<'a>) -> Reader<'a> {
        Reader {
            given,
            tables: Vec::new(),
            current: None,
            by_iptables_nft: false,
            missing: incomplete::Missing::default(),
        }
    }

    /// Takes line number `line` of the dump.
    pub(super) fn read(&mut self, line: usize, raw: &str) -> Result<(), Error> {
        self.line(line, &printable(raw)).map_err(|problem| Error::Line {
            line,
            problem,
            text: shortened(raw),
        })
    }

    pub(super) fn done(self) -> Result<Ruleset, Error> {
        if let Some(open) = self.current {
            return Err(Error::CutOff { table: shortened(&open.table.name), line: open.line });
        }
        let mut tables = self.tables;
        tables.extend(self.missing.tables());
        Ok(Ruleset::of(tables))
    }
}

impl Reader<'_> {
    fn line(&mut self, number: usize, line: &str) -> Result<(), Problem> {
        let line = line.trim();
        if line.is_empty() {
            return Ok(());
        }
        if let Some(comment) = line.strip_prefix('#') {
            if comment.contains("tables-save v") {
                self.by_iptables_nft = comment.contains("(nf_tables)");
            }
            self.missing.look_at(comment, self.given.family);
            return Ok(());
        }
        if let Some(name) = line.strip_prefix('*') {
            if let Some(open) = &self.current {
                return Err(format!("table {} has no COMMIT before it", open.table.name));
            }
            let mut table = Table::new(TableFamily::Only(self.given.family), name.trim(), Tool::Iptables);
            table.by_iptables_nft = self.by_iptables_nft;
            self.current = Some(Open::new(table, number));
            return Ok(());
        }
        if line == "COMMIT" {
            let open = self.current.take().ok_or("no table before it")?;
            self.tables.push(open.table);
            return Ok(());
        }
        if self.current.is_none() {
            if commands::is_message(line) {
                self.missing.look_at(line, self.given.family);
                return Ok(());
            }
            if commands::command(line).is_some() || commands::is_noise(line) {
                return Ok(());
            }
        }
        let given = self.given;
        let open = self.current.as_mut().ok_or("no table before it")?;
        if let Some(declaration) = line.strip_prefix(':') {
            return open.declare(declaration);
        }
        let rule = match line.strip_prefix('[') {
            Some(counted) => counted.split_once(']').ok_or("counters without an end")?.1.trim_start(),
            None => line,
        };
        open.append(rule, None, given)
    }
}
