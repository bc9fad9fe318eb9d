//! What `portolan get status` prints of the status that the proxy answers.

use std::time::Duration;

use serde_json::Value;

use super::table::{ago, push_wrapped};

/// Fields of `/healthz` that have a place of their own, or say what others do.
const PLACED: [&str; 10] = [
    "lastUpdated",
    "currentTime",
    "nodeEligible",
    "healthy",
    "status",
    "absent",
    "reason",
    "view",
    "note",
    "problems",
];

/// The answer to [`portolan_observe::control::Table::Status`], under the key `status`, in lines for
/// people. `now` in seconds since 1970.
pub(super) fn text(status: &Value, now: Duration) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, value: String| lines.push((name.to_owned(), value));
    let build = &status["build"];
    let parts =
        [string(&build["gitVersion"]), labelled("commit ", &build["gitCommit"]), string(&build["platform"])];
    line("Version", parts.into_iter().flatten().collect::<Vec<_>>().join(", "));
    line("Mode", string(&status["mode"]).unwrap_or_default());
    if let Some(started) = string(&status["startTime"]) {
        line("Started", at(&started, now));
    }
    let health = &status["healthz"]["body"];
    let healthy = health["healthy"] == true;
    let answer = format!("{}, /healthz answers {}", word(healthy), status["healthz"]["code"]);
    line("Health", answer);
    for name in ["reason", "note"] {
        if let Some(text) = string(&health[name]) {
            line("", text);
        }
    }
    for (family, of_family) in health["status"].as_object().into_iter().flatten() {
        line(family, family_text(of_family, now));
    }
    for (family, why) in health["absent"].as_object().into_iter().flatten() {
        line(family, labelled("not on this host: ", why).unwrap_or_default());
    }
    if let Some(eligible) = health["nodeEligible"].as_bool() {
        line(
            "Node",
            if eligible { "takes traffic of load balancers" } else { "takes no traffic of load balancers" }
                .to_owned(),
        );
    }
    line("Objects", view(&health["view"], now));
    if let Some(count) = health["problems"].as_u64().filter(|count| *count > 0) {
        line("Problems", problems(count, &health["view"]));
    }
    for unserved in status["unserved"].as_array().into_iter().flatten().filter_map(string) {
        line("", unserved);
    }
    // What a proxy of another version adds.
    for (name, value) in health.as_object().into_iter().flatten() {
        if !PLACED.contains(&name.as_str()) {
            line(name, string(value).unwrap_or_else(|| value.to_string()));
        }
    }
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default() + 2;
    lines.iter().fold(String::new(), |mut text, (name, value)| {
        push_wrapped(&mut text, &format!("{name:width$}"), value, width);
        text
    })
}

fn family_text(of_family: &Value, now: Duration) -> String {
    let written = match string(&of_family["lastUpdated"]) {
        Some(written) if !written.starts_with("0001-") => format!("written {}", at(&written, now)),
        _ => "never written".to_owned(),
    };
    format!("{}, {written}", word(of_family["healthy"] == true))
}

fn view(view: &Value, now: Duration) -> String {
    let source = match view["source"].as_str() {
        Some("manifests") => "from manifests".to_owned(),
        Some("api") => "from the API server".to_owned(),
        Some("snapshot") => "as they were, as no API server answers".to_owned(),
        other => format!("from {}", other.unwrap_or("nowhere")),
    };
    let taken = string(&view["snapshotTaken"]).map(|taken| format!(": {}", at(&taken, now)));
    let age = view["ageSeconds"].as_f64().map(|age| format!(", known to be current {age:.0} s ago"));
    [Some(source), taken, age].into_iter().flatten().collect()
}

/// How many things that are asked for cannot be honoured, and where they are named.
fn problems(count: u64, view: &Value) -> String {
    let and_check = if view["source"] == "manifests" { " and by `portolan check`" } else { "" };
    format!("{count}, named in the log{and_check}")
}

fn word(healthy: bool) -> &'static str {
    if healthy { "healthy" } else { "unhealthy" }
}

/// `2026-01-31T12:00:00Z, 5m3s ago`
fn at(time: &str, now: Duration) -> String {
    let seconds = time.split_once('.').map_or_else(|| time.to_owned(), |(seconds, _)| format!("{seconds}Z"));
    format!("{seconds}, {} ago", ago(time, now))
}

fn string(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn labelled(label: &str, value: &Value) -> Option<String> {
    string(value).map(|text| format!("{label}{text}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(status: &Value) -> Vec<String> {
        // 2024-02-29T10:30:05Z
        text(status, Duration::from_secs(1_709_202_605)).lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_healthy_proxy_in_a_cluster() {
        let status = json!({
            "build": {"gitVersion": "v0.1.0", "gitCommit": "", "platform": "linux/amd64"},
            "mode": "nftables",
            "startTime": "2024-02-29T08:30:00.122625199Z",
            "currentTime": "2024-02-29T10:30:05Z",
            "healthz": {"code": 200, "body": {
                "lastUpdated": "2024-02-29T10:30:05Z",
                "currentTime": "2024-02-29T10:30:05Z",
                "nodeEligible": true,
                "healthy": true,
                "status": {
                    "IPv4": {"lastUpdated": "2024-02-29T10:30:00Z", "healthy": true},
                    "IPv6": {"lastUpdated": "2024-02-29T10:29:05Z", "healthy": true},
                },
                "view": {"source": "api", "ageSeconds": 1.3},
            }},
        });
        assert_eq!(
            lines(&status),
            [
                "Version  v0.1.0, linux/amd64",
                "Mode     nftables",
                "Started  2024-02-29T08:30:00Z, 2h0m ago",
                "Health   healthy, /healthz answers 200",
                "IPv4     healthy, written 2024-02-29T10:30:00Z, 5s ago",
                "IPv6     healthy, written 2024-02-29T10:29:05Z, 1m0s ago",
                "Node     takes traffic of load balancers",
                "Objects  from the API server, known to be current 1 s ago",
            ]
        );
    }

    #[test]
    fn an_unhealthy_one_and_fields_that_are_not_known() {
        let status = json!({
            "build": {"gitVersion": "v0.2.0", "gitCommit": "abc", "platform": "linux/arm64"},
            "mode": "iptables",
            "startTime": "2024-02-29T10:30:00Z",
            "healthz": {"code": 503, "body": {
                "healthy": false,
                "status": {"IPv4": {"lastUpdated": "0001-01-01T00:00:00Z", "healthy": false}},
                "absent": {"IPv6": "the kernel has no ip6_tables"},
                "reason": "no state has been brought into force yet, which is said in a line of no more than eighty characters",
                "problems": 2,
                "view": {"source": "snapshot", "snapshotTaken": "2024-02-28T10:30:05Z"},
                "tides": "low",
            }},
            "unserved": ["127.0.0.1:30080/TCP of Service port shop/web is not listened on: another has it"],
        });
        assert_eq!(
            lines(&status),
            [
                "Version   v0.2.0, commit abc, linux/arm64",
                "Mode      iptables",
                "Started   2024-02-29T10:30:00Z, 5s ago",
                "Health    unhealthy, /healthz answers 503",
                "          no state has been brought into force yet, which is said in a line of",
                "          no more than eighty characters",
                "IPv4      unhealthy, never written",
                "IPv6      not on this host: the kernel has no ip6_tables",
                "Objects   as they were, as no API server answers: 2024-02-28T10:30:05Z, 1d0h ago",
                "Problems  2, named in the log",
                "          127.0.0.1:30080/TCP of Service port shop/web is not listened on:",
                "          another has it",
                "tides     low",
            ]
        );
    }

    #[test]
    fn an_answer_of_another_form_is_no_failure() {
        for status in [json!(null), json!({}), json!({"healthz": {"body": {"status": [1]}}})] {
            assert!(!text(&status, Duration::ZERO).is_empty(), "{status}");
        }
    }
}
