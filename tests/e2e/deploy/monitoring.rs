//! What alerts and dashboard ask for is served.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::files::{items, objects, text};

const FILES: &str = "deploy/helm/portolan/files";
/// Words of queries that are no metrics.
const WORDS: [&str; 9] =
    ["sum", "max", "count", "rate", "increase", "histogram_quantile", "by", "or", "label_values"];
/// Labels that Prometheus gives to what it scrapes, and the one of histograms.
const COMMON_LABELS: [&str; 4] = ["instance", "job", "node", "le"];

/// The metrics in the tables of docs/metrics.md, with their types and labels.
pub(crate) fn documented() -> anyhow::Result<BTreeMap<String, Metric>> {
    let page = text("docs/metrics.md")?.replace("\\|", "/");
    let mut metrics = BTreeMap::new();
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, names, kind, labels, ..] = cells[..] else { continue };
        let labels = labels.split(',').filter_map(|label| label.split('=').next());
        let labels: BTreeSet<String> =
            labels.map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()).collect();
        for name in names.split('`').skip(1).step_by(2) {
            let metric = Metric { histogram: kind.contains("histogram"), labels: labels.clone() };
            metrics.insert(name.to_owned(), metric);
        }
    }
    ensure!(metrics.len() > 30, "only {metrics:?} were found in docs/metrics.md");
    Ok(metrics)
}

/// A metric as the page has it.
#[derive(Debug, Clone)]
pub(crate) struct Metric {
    histogram: bool,
    labels: BTreeSet<String>,
}

/// A query's metrics, each with the labels that it is selected by, and the labels that results are
/// grouped by.
#[derive(Debug, Default)]
struct Query {
    metrics: Vec<(String, Vec<String>)>,
    grouped_by: Vec<String>,
}

/// Takes a query apart, as far as alerts and the dashboard go.
fn parse(query: &str) -> Query {
    let mut parsed = Query::default();
    let mut rest = query;
    while let Some(start) =
        rest.find(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '{' | '[' | '"' | '$'))
    {
        rest = &rest[start..];
        let until = |end: char| rest[1..].find(end).map_or(rest.len(), |at| at + 2);
        let length = match rest.as_bytes()[0] {
            b'{' => until('}'),
            b'[' => until(']'),
            b'"' => until('"'),
            _ => rest
                .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '$'))
                .unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        match token.as_bytes()[0] {
            b'{' => {
                let selectors = token.trim_matches(['{', '}']).split(',');
                let labels = selectors.filter_map(|one| one.split(['=', '!']).next()).map(str::to_owned);
                if let Some((_, of_metric)) = parsed.metrics.last_mut() {
                    of_metric.extend(labels);
                }
            }
            b'[' | b'"' | b'$' => {}
            _ if token == "by" => {
                let end = rest.find(')').unwrap_or(rest.len());
                let labels = rest[..end].split(['(', ',']).map(str::trim).filter(|label| !label.is_empty());
                parsed.grouped_by.extend(labels.map(str::to_owned));
                rest = &rest[end..];
            }
            _ if WORDS.contains(&token) => {}
            _ => parsed.metrics.push((token.to_owned(), Vec::new())),
        }
    }
    parsed
}

/// The queries of a dashboard's panels, with the panels' titles.
fn panels(dashboard: &Value) -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for panel in items(&dashboard["panels"]) {
        for target in items(&panel["targets"]) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            queries.push((text(&panel["title"]), text(&target["expr"])));
        }
    }
    queries
}

fn alerts() -> anyhow::Result<Vec<Value>> {
    let file = objects(&format!("{FILES}/alerts.yaml"))?.remove(0);
    Ok(items(&file["groups"]).flat_map(|group| items(&group["rules"]).cloned()).collect())
}

pub(crate) fn metrics_are_there() -> anyhow::Result<()> {
    let documented = documented()?;
    let process = text("crates/observe/src/metrics/process.rs")?;
    let mut queries = Vec::new();
    for rule in alerts()? {
        let query = rule["expr"].as_str().context("an alert without expr")?;
        queries.push((rule["alert"].to_string(), query.to_owned()));
    }
    let dashboard: Value = serde_json::from_str(&text(&format!("{FILES}/dashboard.json"))?)?;
    let of_panels = panels(&dashboard);
    ensure!(queries.len() >= 6 && of_panels.len() >= 15, "{} and {}", queries.len(), of_panels.len());
    queries.extend(of_panels);
    for (title, query) in queries {
        let parsed = parse(&query);
        ensure!(!parsed.metrics.is_empty(), "{title}: no metric in {query}");
        let mut known: BTreeSet<&str> = COMMON_LABELS.into();
        for (name, labels) in &parsed.metrics {
            if let Some(rest) = name.strip_prefix("process_") {
                ensure!(process.contains(&format!("\"{rest}\"")), "{title}: there is no metric {name}");
                continue;
            }
            let base = name.strip_suffix("_bucket").unwrap_or(name);
            let metric =
                documented.get(base).with_context(|| format!("{title}: there is no metric {base}"))?;
            ensure!(metric.histogram == (base != name), "{title}: {base}: is it a histogram, or not?");
            known.extend(metric.labels.iter().map(String::as_str));
            for label in labels {
                let has = metric.labels.contains(label) || COMMON_LABELS.contains(&label.as_str());
                ensure!(has, "{title}: {name} has no label {label}");
            }
        }
        for label in &parsed.grouped_by {
            ensure!(known.contains(label.as_str()), "{title}: no metric has the label {label}");
        }
    }
    Ok(())
}

pub(crate) fn alerts_are_documented() -> anyhow::Result<()> {
    let page = text("docs/metrics.md")?;
    let (_, table) = page.split_once("| Alert |").context("docs/metrics.md has no table of alerts")?;
    let cell = |row: &str, number: usize| row.split('|').nth(number).map(|cell| cell.trim().to_owned());
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let documented: Vec<_> = rows.map(|row| (cell(row, 1), cell(row, 2))).collect();
    let word = |value: &Value| value.as_str().map(str::to_owned);
    let rules: Vec<_> =
        alerts()?.iter().map(|rule| (word(&rule["alert"]), word(&rule["labels"]["severity"]))).collect();
    ensure!(documented == rules, "docs/metrics.md has {documented:?}, alerts.yaml has {rules:?}");
    for rule in alerts()? {
        for text in ["summary", "description"] {
            ensure!(rule["annotations"][text].is_string(), "{}: no {text}", rule["alert"]);
        }
    }
    Ok(())
}
