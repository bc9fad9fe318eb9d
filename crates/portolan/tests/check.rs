//! What `portolan check` reports as ignored.

use std::process::Command;

use serde_json::Value;

/// Runs `portolan check` on a folder with one file: its exit code and what it says.
fn check(manifest: &str, flags: &[&str]) -> (Option<i32>, Value) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("web.yaml"), manifest).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_portolan"))
        .arg("check")
        .arg(folder.path())
        .args(["--hostname-override=here", "--state-dir=/nonexistent", "-o", "json"])
        .args(flags)
        .output()
        .expect("portolan starts");
    let text = String::from_utf8_lossy(&output.stdout);
    (output.status.code(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

const RIGHT: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}}
spec:
  containers: [{name: a, image: b, resources: {limits: {cpu: 1}}, ports: [{name: http, containerPort: 8080}]}]
status: {podIP: 10.244.1.2, conditions: [{type: Ready, status: 'True'}]}
";

#[test]
fn what_is_ignored_is_a_warning_and_an_error_if_asked_for() {
    for (situation, from, to, expected) in [
        ("nothing", "web", "web", &[][..]),
        (
            "a kind that nobody has",
            "kind: Service",
            "kind: Servcie",
            &[
                "web.yaml:2: Servcie web: kind: \"Servcie\" is no kind of v1, and is ignored; is Service meant?",
            ],
        ),
        (
            "a field that nobody has, without which there are no endpoints",
            "selector:",
            "selectr:",
            &[
                "web.yaml:1: Service default/web: nothing gives it endpoints: it has no selector, and no EndpointSlice here \
                 names it; connections are refused",
                "web.yaml:5: Service default/web: spec.selectr: unknown field, which is ignored; is selector meant?",
            ],
        ),
        (
            "a port name that no pod has",
            "targetPort: http",
            "targetPort: htpp",
            &[
                "web.yaml:6: Service default/web: spec.ports[0].targetPort: no selected pod has a TCP port called \"htpp\"; they \
                 have \"http\"",
            ],
        ),
        (
            "labels that no pod has",
            "{app: web}}",
            "{app: wbe}}",
            &[
                "web.yaml:5: Service default/web: spec.selector: no pod here has the labels app=web; is app=wbe meant?",
            ],
        ),
    ] {
        let manifest = RIGHT.replace(from, to);
        let (code, said) = check(&manifest, &[]);
        assert_eq!(said["warnings"], serde_json::json!(expected), "{situation}");
        assert_eq!((code, &said["problems"]), (Some(0), &serde_json::json!([])), "{situation}");
        let (strict, _) = check(&manifest, &["--strict"]);
        assert_eq!(strict, Some(i32::from(!expected.is_empty())), "{situation}");
    }
}

#[test]
fn what_the_plan_finds_has_file_and_line() {
    let service = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  ports: [{{port: 80}}]\n  \
             externalIPs: [192.0.2.77]\n---\n"
        )
    };
    let (code, said) = check(&(service("a") + &service("b")), &[]);
    let problems = said["problems"].as_array().unwrap();
    assert_eq!((code, problems.len()), (Some(1), 1), "{said}");
    let problem = problems[0].as_str().unwrap();
    assert!(problem.starts_with("web.yaml:13: Service default/b: spec.externalIPs: 192.0.2.77"), "{problem}");
}

#[test]
fn the_proxy_protocol_needs_a_mode_and_a_version() {
    let with = |value: &str| {
        let annotation = format!("{{name: web, annotations: {{portolan.dev/proxy-protocol: {value}}}}}");
        RIGHT.replace("{name: web}", &annotation)
    };
    let place = "web.yaml:1: Service default/web: metadata.annotations: portolan.dev/proxy-protocol: ";
    for (value, mode, expected) in [
        ("v1", "userspace", None),
        ("v2", "userspace", None),
        ("v3", "userspace", Some("\"v3\" is not one of v1, v2")),
        ("v3", "nftables", Some("\"v3\" is not one of v1, v2")),
        ("v1", "nftables", Some("the mode of this proxy translates connections")),
    ] {
        let (code, said) = check(&with(value), &[&format!("--proxy-mode={mode}")]);
        let problems = said["problems"].as_array().unwrap();
        assert_eq!(
            (code, problems.len()),
            (Some(expected.is_some().into()), expected.iter().len()),
            "{said}"
        );
        if let (Some(problem), Some(expected)) = (problems.first(), expected) {
            let problem = problem.as_str().unwrap();
            assert!(problem.starts_with(&format!("{place}{expected}")), "{problem}");
        }
    }
}

#[test]
fn a_scheduler_needs_a_mode_and_a_name() {
    let with = |annotation: &str| {
        RIGHT.replace("{name: web}", &format!("{{name: web, annotations: {{{annotation}}}}}"))
    };
    for (annotation, mode, list, expected) in [
        ("portolan.dev/ipvs-scheduler: lc", "nftables", "warnings", "lc is a scheduler of IPVS, which this"),
        (
            "kube-router.io/service.scheduler: least",
            "nftables",
            "problems",
            "\"least\" is not one of rr, wrr",
        ),
        ("portolan.dev/ipvs-scheduler: ''", "userspace", "problems", "\"\" is not one of rr, wrr"),
    ] {
        let (_, said) = check(&with(annotation), &[&format!("--proxy-mode={mode}")]);
        let (key, _) = annotation.split_once(':').unwrap();
        let place = format!("web.yaml:1: Service default/web: metadata.annotations: {key}: ");
        let found = said[list].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
        let found: Vec<&str> = found.filter_map(|line| line.strip_prefix(&place)).collect();
        assert!(matches!(found[..], [line] if line.starts_with(expected)), "{annotation} {mode}: {said}");
    }
}

#[test]
fn a_folder_without_manifests_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("web.txt"), RIGHT).unwrap();
    for (flags, expected) in [(&[][..], 0), (&["--strict"], 1)] {
        let output = Command::new(env!("CARGO_BIN_EXE_portolan"))
            .arg("check")
            .arg(folder.path())
            .args(["--hostname-override=here", "--state-dir="])
            .args(flags)
            .output()
            .expect("portolan starts");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(expected), "{text}");
        assert!(
            text.contains("warning: no manifests here: files that end in .yaml, .yml or .json are read\n"),
            "{text}"
        );
    }
}

#[test]
fn a_deployment_that_nobody_runs_is_a_warning() {
    let (code, said) = check(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\n\
         spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: []}}}\n",
        &["--strict"],
    );
    let warnings = said["warnings"].as_array().unwrap();
    assert_eq!((code, warnings.len()), (Some(1), 1), "{said}");
    let warning = warnings[0].as_str().unwrap();
    assert!(warning.starts_with("web.yaml:2: Deployment shop/web: kind: is passed over: "), "{warning}");
}
