//! What a scrape contains, read as Prometheus reads it and compared with the table of spec §11.16.

mod scrape;

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use portolan_config::Mode;
use portolan_observe::{BuildInfo, Commit, Feature, FeatureStage, Metrics, Telemetry, Totals, View};
use portolan_service::{Family, PerFamily};
use scrape::Scrape;

const E: &str = "0.001 0.002 0.004 0.008 0.016 0.032 0.064 0.128 0.256 0.512 1.024 2.048 4.096 8.192 16.384";
const PROGRAMMING: &str = "0.25 0.5 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 \
     40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 65 70 75 80 85 90 95 100 105 110 115 120 150 180 210 240 270 300";

/// Name, type, labels, bounds of buckets, modes (i: iptables, n: nftables, v: ipvs).
const TABLE: &[(&str, &str, &[&str], &str, &str)] = &[
    ("sync_proxy_rules_duration_seconds", "histogram", &["ip_family"], E, "inv"),
    ("sync_full_proxy_rules_duration_seconds", "histogram", &["ip_family"], E, "in"),
    ("sync_partial_proxy_rules_duration_seconds", "histogram", &["ip_family"], E, "in"),
    ("sync_proxy_rules_last_timestamp_seconds", "gauge", &["ip_family"], "", "inv"),
    ("sync_proxy_rules_last_queued_timestamp_seconds", "gauge", &["ip_family"], "", "inv"),
    ("network_programming_duration_seconds", "histogram", &["ip_family"], PROGRAMMING, "inv"),
    ("sync_proxy_rules_endpoint_changes_pending", "gauge", &[], "", "inv"),
    ("sync_proxy_rules_endpoint_changes_total", "counter", &[], "", "inv"),
    ("sync_proxy_rules_service_changes_pending", "gauge", &[], "", "inv"),
    ("sync_proxy_rules_service_changes_total", "counter", &[], "", "inv"),
    ("sync_proxy_rules_no_local_endpoints_total", "gauge", &["ip_family", "traffic_policy"], "", "inv"),
    ("sync_proxy_rules_iptables_total", "gauge", &["ip_family", "table"], "", "i"),
    ("sync_proxy_rules_iptables_last", "gauge", &["ip_family", "table"], "", "i"),
    ("sync_proxy_rules_iptables_restore_failures_total", "counter", &["ip_family"], "", "iv"),
    ("sync_proxy_rules_iptables_partial_restore_failures_total", "counter", &["ip_family"], "", "i"),
    ("sync_proxy_rules_nftables_sync_failures_total", "counter", &["ip_family"], "", "n"),
    ("sync_proxy_rules_nftables_cleanup_failures_total", "counter", &["ip_family"], "", "n"),
    ("conntrack_reconciler_sync_duration_seconds", "histogram", &["ip_family"], E, "inv"),
    ("conntrack_reconciler_deleted_entries_total", "counter", &["ip_family"], "", "inv"),
    ("proxy_healthz_total", "counter", &["code"], "", "inv"),
    ("proxy_livez_total", "counter", &["code"], "", "inv"),
];

fn metrics(mode: Mode) -> Metrics {
    Metrics::new(mode, mode, &Family::ALL, &BuildInfo::new("1.2.3"))
}

fn commit(full: bool) -> Commit {
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
    Commit { full, took: Duration::from_millis(3), at }
}

/// Says everything that a proxy can say.
fn exercise(metrics: &Metrics) {
    metrics.queued(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    metrics.committed(&commit(true), 40);
    metrics.committed(&commit(false), 2);
    metrics.commit_failed(&commit(false));
    metrics.cleanup_failed();
    metrics.service_changes(3);
    metrics.endpoint_changes(5);
    metrics.changes_pending(2, 4);
    for family in Family::ALL {
        metrics.network_programming(family, Duration::from_millis(300));
        metrics.no_local_endpoints(family, 1, 2);
        metrics.conntrack_reconciled(family, 7, Duration::from_millis(1));
        for table in ["filter", "nat"] {
            metrics.iptables_rules(family, table, 100, 10);
        }
    }
}

#[test]
fn kube_proxys_metrics_are_those_of_the_table() {
    for (letter, mode) in [('i', Mode::Iptables), ('n', Mode::Nftables), ('v', Mode::Ipvs)] {
        let metrics = metrics(mode);
        exercise(&metrics);
        let scrape = Scrape::read(&metrics.text());
        let mut expected = BTreeSet::new();
        for (name, kind, labels, buckets, _) in TABLE.iter().filter(|row| row.4.contains(letter)) {
            let name = format!("kubeproxy_{name}");
            assert_eq!(scrape.kind(&name), Some(*kind), "{mode:?}: type of {name}");
            let labels: BTreeSet<&str> = labels.iter().copied().collect();
            assert_eq!(scrape.labels(&name), Some(labels), "{mode:?}: labels of {name}");
            assert_eq!(scrape.bounds(&name), *buckets, "{mode:?}: buckets of {name}");
            expected.insert(name);
        }
        let there: BTreeSet<String> = scrape.names().filter(|name| name.starts_with("kubeproxy_")).collect();
        assert_eq!(there, expected, "{mode:?}: no other metric of kube-proxy's");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn what_is_recorded_is_what_is_counted() {
    let metrics = metrics(Mode::Nftables);
    exercise(&metrics);
    metrics.repaired();
    metrics.refused_services(2);
    metrics.problems(6);
    metrics.undecodable("Service");
    metrics.event_to_commit(Duration::from_micros(350));
    metrics.totals(&Totals {
        services: 9,
        endpoints: PerFamily { v4: 30, v6: 20 },
        frontends: PerFamily { v4: 12, v6: 11 },
    });
    metrics.config("a");
    metrics.config("b");
    metrics.feature(&Feature { name: "One".to_owned(), stage: FeatureStage::Beta, enabled: true });
    metrics.feature(&Feature { name: "Two".to_owned(), stage: FeatureStage::Stable, enabled: false });
    let (api_client, host) = (&metrics.api_client, "10.0.0.1:6443");
    api_client.requested(host, "GET", Some(200), Duration::from_millis(20), 300);
    api_client.requested(host, "GET", None, Duration::from_secs(30), 300);
    api_client.limited(host, "GET", Duration::from_millis(200));
    api_client.answered(host, "GET", 5000);
    api_client.retried(host, "GET", 429);
    api_client.resolved(host, Duration::from_millis(3));
    api_client.plugin_called(0, "no_error");
    api_client.certificate_given(None, Some(Duration::from_hours(2)));
    api_client.transport_made();
    let scrape = Scrape::read(&metrics.text());
    for (sample, expected) in [
        (r#"kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"}"#, 3.0),
        (r#"kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.002"}"#, 0.0),
        (r#"kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv6",le="0.004"}"#, 3.0),
        (r#"kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv6",le="+Inf"}"#, 3.0),
        (r#"kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv6"}"#, 1.0),
        (r#"kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family="IPv6"}"#, 2.0),
        (r#"kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"}"#, 1_700_000_000.25),
        (r#"kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv4"}"#, 1_700_000_000.0),
        (r#"kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv4",le="0.25"}"#, 0.0),
        (r#"kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv4",le="0.5"}"#, 1.0),
        // Once for each family, §11.16.
        ("kubeproxy_sync_proxy_rules_service_changes_total", 6.0),
        ("kubeproxy_sync_proxy_rules_endpoint_changes_total", 5.0),
        ("kubeproxy_sync_proxy_rules_service_changes_pending", 2.0),
        ("kubeproxy_sync_proxy_rules_endpoint_changes_pending", 4.0),
        (
            r#"kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="internal"}"#,
            1.0,
        ),
        (
            r#"kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv6",traffic_policy="external"}"#,
            2.0,
        ),
        (r#"kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv4"}"#, 1.0),
        (r#"kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total{ip_family="IPv6"}"#, 1.0),
        (r#"kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv6"}"#, 7.0),
        (r#"kubeproxy_proxy_healthz_total{code="503"}"#, 0.0),
        (r#"portolan_commits_total{extent="full",result="ok"}"#, 1.0),
        (r#"portolan_commits_total{extent="partial",result="ok"}"#, 1.0),
        (r#"portolan_commits_total{extent="partial",result="error"}"#, 1.0),
        ("portolan_kernel_operations_total", 42.0),
        ("portolan_repairs_total", 1.0),
        ("portolan_refused_services", 2.0),
        ("portolan_problems", 6.0),
        (r#"portolan_undecodable_objects_total{kind="Service"}"#, 1.0),
        (r#"portolan_undecodable_objects_total{kind="Node"}"#, 0.0),
        (r#"portolan_event_to_commit_seconds_bucket{le="0.0002"}"#, 0.0),
        (r#"portolan_event_to_commit_seconds_bucket{le="0.0004"}"#, 1.0),
        ("portolan_services", 9.0),
        (r#"portolan_endpoints{ip_family="IPv6"}"#, 20.0),
        (r#"portolan_frontends{ip_family="IPv4"}"#, 12.0),
        (r#"portolan_config_info{hash="b"}"#, 1.0),
        (r#"kubernetes_feature_enabled{name="One",stage="BETA"}"#, 1.0),
        (r#"kubernetes_feature_enabled{name="Two",stage=""}"#, 0.0),
        (r#"rest_client_requests_total{code="200",host="10.0.0.1:6443",method="GET"}"#, 1.0),
        (r#"rest_client_requests_total{code="<error>",host="10.0.0.1:6443",method="GET"}"#, 1.0),
        (r#"rest_client_request_duration_seconds_bucket{host="10.0.0.1:6443",verb="GET",le="0.025"}"#, 1.0),
        (r#"rest_client_request_size_bytes_bucket{host="10.0.0.1:6443",verb="GET",le="512"}"#, 2.0),
        (r#"rest_client_response_size_bytes_bucket{host="10.0.0.1:6443",verb="GET",le="4096"}"#, 0.0),
        (r#"rest_client_response_size_bytes_bucket{host="10.0.0.1:6443",verb="GET",le="16384"}"#, 1.0),
        (
            r#"rest_client_rate_limiter_duration_seconds_bucket{host="10.0.0.1:6443",verb="GET",le="0.25"}"#,
            1.0,
        ),
        (r#"rest_client_dns_resolution_duration_seconds_bucket{host="10.0.0.1:6443",le="0.005"}"#, 1.0),
        (r#"rest_client_request_retries_total{code="429",host="10.0.0.1:6443",verb="GET"}"#, 1.0),
        (r#"rest_client_exec_plugin_call_total{call_status="no_error",code="0"}"#, 1.0),
        (r#"rest_client_exec_plugin_certificate_rotation_age_bucket{le="14400"}"#, 1.0),
        ("rest_client_exec_plugin_ttl_seconds", f64::INFINITY),
        ("rest_client_transport_cache_entries", 1.0),
        (r#"rest_client_transport_create_calls_total{result="miss"}"#, 1.0),
    ] {
        assert_eq!(scrape.value(sample), Some(expected), "{sample}");
    }
    assert_eq!(scrape.value(r#"portolan_config_info{hash="a"}"#), None, "one configuration at a time");
    let build = scrape.labels("kubernetes_build_info").unwrap();
    for label in ["build_date", "compiler", "git_commit", "git_tree_state", "git_version", "go_version"] {
        assert!(build.contains(label), "kubernetes_build_info lacks {label}");
    }
}

#[test]
fn times_are_not_there_before_they_have_been() {
    let scrape = Scrape::read(&metrics(Mode::Nftables).text());
    for name in ["sync_proxy_rules_last_timestamp_seconds", "sync_proxy_rules_last_queued_timestamp_seconds"]
    {
        assert_eq!(scrape.kind(&format!("kubeproxy_{name}")), None, "{name}");
    }
}

#[test]
fn one_family_has_no_samples_of_the_other() {
    let metrics = Metrics::new(Mode::Nftables, Mode::Nftables, &[Family::V6], &BuildInfo::new("1.2.3"));
    metrics.committed(&commit(true), 1);
    let text = metrics.text();
    assert!(text.contains("IPv6") && !text.contains("IPv4"), "{text}");
}

#[test]
fn the_process_is_measured() {
    let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let metrics = metrics(Mode::Nftables);
    let first = Scrape::read(&metrics.text()).value("process_cpu_seconds_total").unwrap();
    // Processor time, until the kernel's clock of it has moved on.
    while Scrape::read(&metrics.text()).value("process_cpu_seconds_total") == Some(first) {}
    let scrape = Scrape::read(&metrics.text());
    let value = |name: &str| scrape.value(name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(scrape.kind("process_cpu_seconds_total"), Some("counter"));
    assert!(value("process_resident_memory_bytes") > 100_000.0);
    assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
    assert!(value("process_open_fds") >= 3.0);
    assert!(value("process_max_fds") >= value("process_open_fds"));
    assert!(value("process_threads") >= 1.0);
    assert!(value("process_network_receive_bytes_total") >= 0.0);
    assert!(value("process_network_transmit_bytes_total") >= 0.0);
    let age = before - value("process_start_time_seconds");
    assert!((-2.0..600.0).contains(&age), "{age}");
}

#[test]
fn the_view_is_as_old_as_it_is_at_the_scrape() {
    let build = BuildInfo::new("1.2.3");
    let telemetry =
        Telemetry::new(Mode::Nftables, Mode::Nftables, &Family::ALL, Duration::from_secs(30), &build);
    telemetry.health.set_view(View::Snapshot { taken: SystemTime::now() - Duration::from_secs(90) });
    let scrape = Scrape::read(&telemetry.metrics_text());
    assert_eq!(scrape.value("portolan_snapshot_in_use"), Some(1.0));
    let age = scrape.value("portolan_view_age_seconds").unwrap();
    assert!((90.0..120.0).contains(&age), "{age}");
    telemetry.health.set_view(View::Live { age: std::sync::Arc::new(|| Some(Duration::from_millis(1500))) });
    let scrape = Scrape::read(&telemetry.metrics_text());
    assert_eq!(scrape.value("portolan_snapshot_in_use"), Some(0.0));
    assert_eq!(scrape.value("portolan_view_age_seconds"), Some(1.5));
}
