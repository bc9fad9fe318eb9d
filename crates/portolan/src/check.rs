//! `portolan check`: validates a folder of manifests and says what `run` would change in the kernel.

use std::process::ExitCode;

use anyhow::Context;
use portolan_config::Level;
use portolan_dataplane::Difference;
use portolan_service::{Change, Planner};
use portolan_source::manifests::Manifests;
use serde_json::json;
use tracing::warn;

use crate::addresses;
use crate::cli::{CheckArgs, Output};
use crate::configuration::{self, Loaded};
use crate::describe::counted;
use crate::run::{make_dataplane, options};
use crate::this_node::{self, ThisNode};
use crate::{forwarding, kernel_settings, logging};

/// Prints problems and differences. The exit status is 1 if the manifests have problems.
pub(crate) fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let (Loaded { config, notes }, _) = configuration::load(&args.proxy.flags)?;
    logging::start(config.logging.verbosity, config.logging.format);
    // What holds on every node without a word of its own is for the node's log.
    configuration::log(notes.iter().filter(|note| note.level == Level::Warning));
    let liberal = kernel_settings::tcp_is_liberal();
    let mut node =
        ThisNode::new(&this_node::name(&config)?, &config, &args.proxy.service_cluster_ip_range, liberal);
    let update = Manifests::open(&args.manifests, options(&args.proxy, true))?.load();
    for change in &update.changes {
        if let Change::Node(object) = change
            && object.name == *node.name()
        {
            node.set_object(object.clone());
        }
    }
    node.set_addresses(addresses::list().context("listing interface addresses")?);
    let mut planner = Planner::new(node.local_node());
    planner.apply(update.changes);

    let mut problems: Vec<String> = update.new_problems.iter().map(ToString::to_string).collect();
    problems.extend(planner.problems().iter().map(ToString::to_string));
    let mut warnings: Vec<String> = planner.warnings().iter().map(ToString::to_string).collect();
    warnings.extend(forwarding::findings(config.accept_forwarded));

    let mut dataplane = make_dataplane(config.mode)(node.settings())?;
    let mut plans = planner.plans().map(|plan| &**plan);
    let compared = dataplane.preview(&mut plans);
    if let Err(error) = &compared {
        warn!("{error}: cannot compare with the kernel; run as root to see what would change");
    }
    let differences = compared.ok();
    match args.output {
        Output::Text => print_text(&problems, &warnings, planner.plans().len(), differences.as_deref()),
        Output::Json => {
            println!("{:#}", as_json(&problems, &warnings, planner.plans().len(), differences.as_deref()));
        }
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_text(problems: &[String], warnings: &[String], services: usize, differences: Option<&[Difference]>) {
    for problem in problems {
        println!("problem: {problem}");
    }
    for warning in warnings {
        println!("warning: {warning}");
    }
    println!("{} to forward, {}", counted(services, "Service"), counted(problems.len(), "problem"));
    match differences {
        None => {}
        Some([]) => println!("The kernel holds exactly this: nothing would change."),
        Some(differences) => {
            println!("In the kernel {} would change:", counted(differences.len(), "thing"));
            for difference in differences {
                println!("  {difference}");
            }
        }
    }
}

fn as_json(
    problems: &[String],
    warnings: &[String],
    services: usize,
    differences: Option<&[Difference]>,
) -> serde_json::Value {
    let differences = differences.map(|differences| {
        differences
            .iter()
            .map(|difference| match difference {
                Difference::Added(what) => json!({"change": "add", "what": what}),
                Difference::Changed(what) => json!({"change": "replace", "what": what}),
                Difference::Removed(what) => json!({"change": "remove", "what": what}),
            })
            .collect::<Vec<_>>()
    });
    json!({"problems": problems, "warnings": warnings, "services": services, "changes": differences})
}
