//! `portolan get names`: what names are served, printed a page at a time.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use portolan_observe::control::{self, DEFAULT_SOCKET, DNS_SOCKET, Error, Place, Query, Table, Which};
use portolan_observe::rows::NameRow;
use serde_json::Value;

use super::table::NameTable;
use crate::cli::{GetArgs, GetOutput, STATE_DIR};

/// Asks for one page after the other, and prints each before the next is asked for.
pub(super) fn get(args: &GetArgs) -> anyhow::Result<()> {
    let all = args.output != GetOutput::Text;
    let which = Which { name: args.name.clone(), all, after: None };
    let mut query = Query { namespace: args.namespace.clone(), which, ..Query::of(Table::Names) };
    let (socket, first) = first_page(args, &query)?;
    let mut printer = Printer::new(args.output);
    let mut page = Page::read(first)?;
    let mut any = false;
    loop {
        any |= !page.rows.is_empty();
        match printer.rows(&page.rows) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written.context("standard output")?,
        }
        let Some(next) = page.next else { break };
        query.which.after = Some(next);
        page = Page::read(control::ask(&socket, &query)?)?;
    }
    match printer.end() {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error).context("standard output"),
        _ => {}
    }
    let of_namespace =
        args.namespace.as_ref().map_or(String::new(), |namespace| format!(" in namespace {namespace}"));
    match &args.name {
        Some(name) if !any => bail!(
            "{name}: no such name is served{of_namespace}: there is no such Service, or no endpoint or port of this name"
        ),
        None if !any && args.output != GetOutput::Json => eprintln!("no names of Services{of_namespace}"),
        _ => {}
    }
    Ok(())
}

/// The first page, and the socket of who answered.
fn first_page(args: &GetArgs, query: &Query) -> anyhow::Result<(PathBuf, Value)> {
    let in_state = Path::new(STATE_DIR).join("dns.sock");
    let usual = [DEFAULT_SOCKET.into(), DNS_SOCKET.into(), in_state];
    let sockets = args.socket.as_ref().map_or_else(|| usual.to_vec(), |socket| vec![socket.clone()]);
    let mut refused = None;
    for socket in &sockets {
        match control::ask(socket, query) {
            Ok(page) => return Ok((socket.clone(), page)),
            Err(Error::NoProxy { .. }) => {}
            // A proxy without names beside a DNS server.
            Err(error @ Error::Refused { .. }) => refused = refused.or(Some((socket.clone(), error))),
            Err(error) => return Err(error.into()),
        }
    }
    if let Some((socket, error)) = refused {
        bail!("{}: {error}", socket.display());
    }
    let sockets: Vec<String> = sockets.iter().map(|socket| socket.display().to_string()).collect();
    bail!(
        "{}: nobody answers: is `portolan dns` or `portolan run` running here? In a container, ask there; give its --socket, if it has one",
        sockets.join(", ")
    )
}

struct Page {
    rows: Vec<NameRow>,
    next: Option<Place>,
}

impl Page {
    fn read(mut answer: Value) -> anyhow::Result<Page> {
        let mut take = |key| answer.get_mut(key).map(Value::take).unwrap_or_default();
        let unexpected = "an answer of another form: is the process of another version?";
        let rows = serde_json::from_value(take(Table::Names.name())).context(unexpected)?;
        Ok(Page { rows, next: serde_json::from_value(take("next")).context(unexpected)? })
    }
}

/// Prints rows in a form.
enum Printer {
    /// Whether there was a row.
    Json(bool),
    Table(NameTable),
}

impl Printer {
    fn new(output: GetOutput) -> Printer {
        match output {
            GetOutput::Json => Printer::Json(false),
            GetOutput::Text => Printer::Table(NameTable::new(false)),
            GetOutput::Wide => Printer::Table(NameTable::new(true)),
        }
    }

    fn rows(&mut self, rows: &[NameRow]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match self {
            Printer::Table(table) => out.write_all(table.rows(rows).as_bytes())?,
            Printer::Json(begun) => {
                for row in rows {
                    let before = if *begun { ",\n" } else { "{\"names\": [\n" };
                    write!(out, "{before}{}", serde_json::to_string(row)?)?;
                    *begun = true;
                }
            }
        }
        out.flush()
    }

    fn end(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match self {
            Printer::Json(true) => out.write_all(b"\n]}\n")?,
            Printer::Json(false) => out.write_all(b"{\"names\": []}\n")?,
            Printer::Table(_) => {}
        }
        out.flush()
    }
}
