//! `portolan check`: validates a folder of manifests and says what `run` would change in the
//! kernel.

use std::process::ExitCode;

use anyhow::Context;
use portolan_config::Level;
use portolan_dataplane::Difference;
use portolan_service::{Change, Planner, Problem};
use portolan_source::manifests::{Manifests, Severity, Workloads};
use serde_json::json;
use tracing::warn;

use crate::addresses;
use crate::cli::{CheckArgs, Output};
use crate::configuration::{self, Loaded};
use crate::describe::counted;
use crate::manifests::options;
use crate::run::mode;
use crate::this_node::{self, ThisNode};
use crate::{forwarding, kernel_settings, logging};

/// What is wrong with the manifests.
struct Findings {
    /// What cannot be done as it is asked for.
    problems: Vec<String>,
    /// What is ignored, or matches nothing.
    warnings: Vec<String>,
}

/// Prints problems and differences. The exit status is 1 if the manifests have problems; with
/// `--strict`, if they have problems or warnings.
pub(crate) fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let (Loaded { config, notes }, _) = configuration::load(&args.proxy.flags)?;
    logging::start(config.logging.verbosity, config.logging.format);
    // What holds on every node without a word of its own is for the node's log.
    configuration::log(notes.iter().filter(|note| note.level == Level::Warning));
    let liberal = kernel_settings::tcp_is_liberal();
    let mut node = ThisNode::new(
        &this_node::name(&config)?,
        mode(&config)?,
        &config,
        &args.proxy.service_cluster_ip_range,
        liberal,
    );
    let mut manifests = Manifests::open(&args.manifests, options(&args.proxy, &config, true))?;
    let update = manifests.load();
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

    let mut dataplane = node.configured().dataplane()?;
    let mut findings = findings(&manifests, &planner, config.accept_forwarded);
    findings.problems.extend(dataplane.obstacles(&mut planner.plans().map(|plan| &**plan)));
    let compared = dataplane.preview(&mut planner.plans().map(|plan| &**plan));
    if let Err(error) = &compared {
        warn!("{error}: cannot compare with the kernel; run as root to see what would change");
    }
    let differences = compared.ok();
    match args.output {
        Output::Text => print_text(&findings, planner.plans().len(), differences.as_deref()),
        Output::Json => println!("{:#}", as_json(&findings, planner.plans().len(), differences.as_deref())),
    }
    let failed = !findings.problems.is_empty() || (args.strict && !findings.warnings.is_empty());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn findings(manifests: &Manifests, planner: &Planner, accept_forwarded: bool) -> Findings {
    let (ignored, invalid): (Vec<_>, Vec<_>) =
        manifests.problems().into_iter().cloned().partition(|problem| problem.severity == Severity::Warning);
    let mut ignored = [ignored, manifests.unmatched(Workloads::Ignored)].concat();
    ignored.sort();
    let mut warnings: Vec<String> = ignored.iter().map(ToString::to_string).collect();
    let placed = |problem: &Problem| placed(manifests, problem);
    warnings.extend(planner.warnings().iter().map(placed));
    if !manifests.has_files() {
        warnings.push("no manifests here: files that end in .yaml, .yml or .json are read".to_owned());
    }
    warnings.extend(forwarding::findings(accept_forwarded));
    let invalid = invalid.iter().map(ToString::to_string);
    Findings { problems: invalid.chain(planner.problems().iter().map(placed)).collect(), warnings }
}

/// What the plan says of a Service, behind the file and the line that it is about.
fn placed(manifests: &Manifests, problem: &Problem) -> String {
    let field = problem.message.split_once(": ").map_or("", |(field, _)| field);
    match manifests.place(&problem.service, field) {
        Some((file, Some(line))) => format!("{}:{line}: {problem}", file.display()),
        Some((file, None)) => format!("{}: {problem}", file.display()),
        None => problem.to_string(),
    }
}

fn print_text(findings: &Findings, services: usize, differences: Option<&[Difference]>) {
    let Findings { problems, warnings } = findings;
    for problem in problems {
        println!("problem: {problem}");
    }
    for warning in warnings {
        println!("warning: {warning}");
    }
    let [services, problems, warnings] = [
        counted(services, "Service"),
        counted(problems.len(), "problem"),
        counted(warnings.len(), "warning"),
    ];
    println!("{services} to forward, {problems}, {warnings}");
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

fn as_json(findings: &Findings, services: usize, differences: Option<&[Difference]>) -> serde_json::Value {
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
    let Findings { problems, warnings } = findings;
    json!({"problems": problems, "warnings": warnings, "services": services, "changes": differences})
}
