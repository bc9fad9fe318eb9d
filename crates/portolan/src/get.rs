//! `portolan get`: asks the proxy that runs on this node, or the DNS server.

mod names;
mod status;
mod table;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use portolan_observe::control::{self, DEFAULT_SOCKET, Query, Table, Which};
use serde_json::Value;

use crate::cli::{GetArgs, GetOutput, GetWhat};

/// Asks, and prints the answer.
pub(crate) fn get(args: &GetArgs) -> anyhow::Result<()> {
    let asked = match args.what {
        GetWhat::Services => Table::Services,
        GetWhat::Endpoints => Table::Endpoints,
        GetWhat::Addresses => Table::Addresses,
        GetWhat::Changes => Table::Changes,
        GetWhat::Status => Table::Status,
        GetWhat::Names => return names::get(args),
    };
    let by_name = matches!(asked, Table::Services | Table::Endpoints);
    if let Some(name) = args.name.as_ref().filter(|_| !by_name) {
        bail!("{name}: only names, services and endpoints are asked for by name: leave it out");
    }
    let socket = args.socket.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET));
    let which = Which { name: args.name.clone(), ..Which::default() };
    let query = Query { namespace: args.namespace.clone(), which, ..Query::of(asked) };
    let mut answer = control::ask(socket, &query)?;
    if args.output == GetOutput::Json {
        println!("{answer:#}");
        return Ok(());
    }
    let rows = answer.get_mut(asked.name()).map(Value::take).unwrap_or_default();
    let pods = answer.get_mut("probedPods").map(Value::take).unwrap_or_default();
    if rows.as_array().is_some_and(Vec::is_empty) {
        eprintln!("{}", none(asked, &query));
        if pods.is_null() {
            return Ok(());
        }
    }
    let wide = args.output == GetOutput::Wide;
    let unexpected = "an answer of another form: is the proxy of another version?";
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let text = match asked {
        Table::Services => {
            table::services(&serde_json::from_value::<Vec<_>>(rows).context(unexpected)?, wide)
        }
        Table::Endpoints => {
            let pods =
                if pods.is_null() { Vec::new() } else { serde_json::from_value(pods).context(unexpected)? };
            table::endpoints(&serde_json::from_value::<Vec<_>>(rows).context(unexpected)?, &pods, wide)
        }
        Table::Addresses => table::addresses(&serde_json::from_value::<Vec<_>>(rows).context(unexpected)?),
        Table::Changes => table::changes(&serde_json::from_value::<Vec<_>>(rows).context(unexpected)?, now),
        Table::Status => status::text(&rows, now),
        Table::Names => return Ok(()),
    };
    print!("{text}");
    Ok(())
}

/// What is printed where a table would have no rows. Output for programs is left empty.
fn none(asked: Table, query: &Query) -> String {
    let what = match asked {
        Table::Services => "no Services are in force",
        Table::Endpoints => "no endpoints are in force",
        Table::Addresses => "no load-balancer addresses are in force",
        Table::Changes | Table::Status | Table::Names => return "nothing has changed yet".to_owned(),
    };
    let of = query.which.name.as_ref().map(|name| format!(" of a Service {name}"));
    let within = query.namespace.as_ref().map(|namespace| format!(" in namespace {namespace}"));
    [what.to_owned()].into_iter().chain(of).chain(within).collect()
}
