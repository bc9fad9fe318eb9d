//! The pages that kubelet and Prometheus ask the controller for.

use std::sync::Arc;
use std::time::Duration;

use portolan_address_controller::{Report, Status};
use portolan_observe::servers::{Page, Pages};
use prometheus::{GaugeVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

/// The thread comes by more often than this.
const IS_STUCK: Duration = Duration::from_secs(20);
/// Whoever has not heard from the API server for so long has lost it.
const OUT_OF_DATE: Duration = Duration::from_secs(30);

pub(super) fn pages(status: Arc<Status>) -> Pages {
    Arc::new(move |path| match path {
        // Would a restart help? Not because the API server is away.
        "/livez" if status.is_alive(IS_STUCK) => Some(Page::Text("ok".to_owned())),
        "/livez" => Some(Page::Unavailable(format!("nothing has been done for {IS_STUCK:?}"))),
        "/healthz" if status.is_ready(OUT_OF_DATE) => Some(Page::Text("ok".to_owned())),
        "/healthz" => Some(Page::Unavailable(format!(
            "the API server has not answered about the Lease for {OUT_OF_DATE:?}"
        ))),
        "/metrics" => Some(Page::Metrics(metrics(&status.report()).unwrap_or_default())),
        _ => None,
    })
}

fn metrics(report: &Report) -> prometheus::Result<String> {
    let registry = Registry::new_custom(Some("portolan".to_owned()), None)?;
    let leads =
        IntGauge::new("controller_leader", "Whether this controller has the Lease, and writes statuses")?;
    leads.set(report.leads.into());
    registry.register(Box::new(leads))?;
    let writes = Opts::new("controller_status_writes_total", "Writes of Services' statuses, by their result");
    let writes = IntCounterVec::new(writes, &["result"])?;
    let results = [("accepted", report.written), ("conflict", report.conflicts), ("failed", report.failures)];
    for (result, count) in results {
        writes.with_label_values(&[result]).inc_by(count);
    }
    registry.register(Box::new(writes))?;
    let waiting = IntGauge::new(
        "load_balancer_services_waiting",
        "Services that ask for a load-balancer address and have none, or not all that they must have",
    )?;
    waiting.set(i64::try_from(report.waiting).unwrap_or(i64::MAX));
    registry.register(Box::new(waiting))?;
    let labels = ["pool", "ip_family"];
    let size = Opts::new("load_balancer_pool_addresses", "Addresses that a pool can give");
    let size = GaugeVec::new(size, &labels)?;
    let used = Opts::new("load_balancer_pool_addresses_in_use", "Addresses of a pool that Services have");
    let used = GaugeVec::new(used, &labels)?;
    for pool in &report.pools {
        let family = pool.family.to_string();
        let labels = [&*pool.name, family.as_str()];
        #[expect(clippy::cast_precision_loss, reason = "nobody counts more than 2^53 addresses")]
        let (pool_size, pool_used) = (pool.size as f64, pool.used as f64);
        size.with_label_values(&labels).set(pool_size);
        used.with_label_values(&labels).set(pool_used);
    }
    registry.register(Box::new(size))?;
    registry.register(Box::new(used))?;
    TextEncoder::new().encode_to_string(&registry.gather())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use portolan_address_controller::PoolUse;
    use portolan_service::Family;

    use super::*;

    #[test]
    fn pools_are_counted() {
        let pool =
            PoolUse { name: "lan".into(), family: Family::V6, size: u128::from(u64::MAX) + 1, used: 3 };
        let report = Report {
            leads: true,
            heard: None,
            turn: Instant::now(),
            pools: vec![pool],
            waiting: 2,
            written: 7,
            conflicts: 1,
            failures: 0,
        };
        let text = metrics(&report).expect("text");
        for line in [
            "portolan_controller_leader 1",
            "portolan_controller_status_writes_total{result=\"accepted\"} 7",
            "portolan_load_balancer_services_waiting 2",
            "portolan_load_balancer_pool_addresses{ip_family=\"IPv6\",pool=\"lan\"} 18446744073709552000",
            "portolan_load_balancer_pool_addresses_in_use{ip_family=\"IPv6\",pool=\"lan\"} 3",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} in:\n{text}");
        }
    }
}
