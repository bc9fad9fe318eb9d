//! `portolan get`: asks the proxy that runs on this node.

mod status;
mod table;

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use portolan_observe::control::{self, Query, Table};
use serde_json::Value;

use crate::cli::{GetArgs, GetWhat, Output};

/// Asks, and prints the answer.
pub(crate) fn get(args: &GetArgs) -> anyhow::Result<()> {
    let asked = match args.what {
        GetWhat::Services => Table::Services,
        GetWhat::Endpoints => Table::Endpoints,
        GetWhat::Changes => Table::Changes,
        GetWhat::Status => Table::Status,
    };
    let mut answer = control::ask(&args.socket, &Query { table: asked, namespace: args.namespace.clone() })?;
    if args.output == Output::Json {
        println!("{answer:#}");
        return Ok(());
    }
    let rows = answer.get_mut(asked.name()).map(Value::take).unwrap_or_default();
    let unexpected = "an answer of another form: is the proxy of another version?";
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let text = match asked {
        Table::Services => table::services(&serde_json::from_value::<Vec<_>>(rows).context(unexpected)?),
        Table::Endpoints => table::endpoints(&serde_json::from_value::<Vec<_>>(rows).context(unexpected)?),
        Table::Changes => table::changes(&serde_json::from_value::<Vec<_>>(rows).context(unexpected)?, now),
        Table::Status => status::text(&rows, now),
    };
    print!("{text}");
    Ok(())
}
