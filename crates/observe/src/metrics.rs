//! The metrics: those of kube-proxy under their names, so that its dashboards and alerts go on
//! working (spec §11.16), those that every Kubernetes component has (§11.17), and our own, which
//! begin with `portolan_`.

mod announcements;
mod api_client;
mod balanced;
mod component;
mod kube_proxy;
mod own;
mod packets;
mod probes;
mod process;
mod register;
mod relayed;

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use portolan_config::Mode;
use portolan_service::{Family, PerFamily};
use prometheus::{Registry, TextEncoder};

pub use self::announcements::Announcements;
pub use self::api_client::ApiClient;
pub use self::balanced::BalancedPort;
pub(crate) use self::component::HealthCheck;
use self::component::{Component, HealthSlis};
pub use self::component::{Feature, FeatureStage};
use self::kube_proxy::KubeProxy;
use self::own::Own;
pub use self::probes::{Probes, ProbesOfKind};
use self::process::Process;
pub use self::relayed::{RelayedPort, RelayedPorts};
use crate::BuildInfo;
use crate::health::View;

/// One attempt to bring a state into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Everything was written, not only what changed.
    pub full: bool,
    /// From the first byte encoded to the kernel's answer.
    pub took: Duration,
    /// When the kernel answered.
    pub at: SystemTime,
}

/// How many there are of what is in force.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Services with a plan.
    pub services: usize,
    /// Endpoints, counted once for each Service port.
    pub endpoints: PerFamily<usize>,
    /// Addresses and ports that clients connect to.
    pub frontends: PerFamily<usize>,
}

/// All metrics of one proxy. The proxy says in its own words what happens; [`Metrics::text`] is
/// what Prometheus reads.
pub struct Metrics {
    registry: Registry,
    families: Vec<Family>,
    kube_proxy: KubeProxy,
    component: Component,
    /// Requests to the API server.
    pub api_client: ApiClient,
    own: Own,
    mode: Mode,
    process: Process,
    slis: HealthSlis,
    appended: OnceLock<Box<dyn Fn() -> String + Send + Sync>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("families", &self.families).finish_non_exhaustive()
    }
}

impl Metrics {
    /// The metrics of a proxy that runs `mode` for `families`, with rules as mode `rules` has them.
    ///
    /// Counters and histograms begin at zero for each family, so that the first event is an
    /// increase; gauges of times are not there before they have a time.
    pub fn new(mode: Mode, rules: Mode, families: &[Family], build: &BuildInfo) -> Metrics {
        let registry = Registry::new();
        Metrics {
            kube_proxy: KubeProxy::register(&registry, rules, families),
            component: Component::register(&registry, build),
            api_client: ApiClient::register(&registry),
            own: Own::register(&registry, families, build),
            mode,
            process: Process::register(&registry),
            slis: HealthSlis::new(),
            appended: OnceLock::new(),
            families: families.to_vec(),
            registry,
        }
    }

    /// Everything as Prometheus reads it (text format 0.0.4).
    pub fn text(&self) -> String {
        self.process.update();
        let mut text = encode(&self.registry);
        if let Some(appended) = self.appended.get() {
            text.push_str(&appended());
        }
        text
    }

    /// From now on the text ends with what `read` returns, which has metrics of other names. Once
    /// only: later calls have no effect.
    pub fn append(&self, read: impl Fn() -> String + Send + Sync + 'static) {
        // Taken already.
        let _ = self.appended.set(Box::new(read));
    }

    /// What `/metrics/slis` answers: the health checks as they were last asked. At the first scrape
    /// those that nobody has asked yet are asked, by `ask`, which returns their status.
    pub(crate) fn slis_text(&self, ask: impl Fn(HealthCheck) -> u16) -> String {
        if self.slis.is_first_reading() {
            for check in HealthCheck::ALL.into_iter().filter(|check| !self.slis.has(*check)) {
                self.slis.answered(check, ask(check));
            }
        }
        encode(self.slis.registry())
    }

    /// Forgets what [`Metrics::slis_text`] shows (spec §11.13).
    pub(crate) fn reset_slis(&self) {
        self.slis.reset();
    }

    /// A change that needs a commit was queued.
    pub fn queued(&self, at: SystemTime) {
        self.for_families(|family| self.kube_proxy.queued(family, at));
    }

    /// What is wanted was brought into the kernel, with `operations` rules and elements written or
    /// removed.
    pub fn committed(&self, commit: &Commit, operations: usize) {
        self.for_families(|family| {
            self.kube_proxy.synced(family, commit);
            self.kube_proxy.last_synced(family, commit.at);
        });
        self.own.committed(commit, operations);
    }

    /// The kernel refused a commit. kube-proxy's durations count these too.
    pub fn commit_failed(&self, commit: &Commit) {
        self.for_families(|family| {
            self.kube_proxy.synced(family, commit);
            self.kube_proxy.failed(family, commit.full);
        });
        self.own.commit_failed(commit);
    }

    /// Rules or elements that nothing needs any more could not be removed (nftables).
    pub fn cleanup_failed(&self) {
        self.for_families(|family| self.kube_proxy.cleanup_failed(family));
    }

    /// A change of endpoints is in force, this long after its
    /// `endpoints.kubernetes.io/last-change-trigger-time` (spec §9.15).
    pub fn network_programming(&self, family: Family, took: Duration) {
        self.kube_proxy.network_programming(family, took);
    }

    /// A change is in force, this long after it was received.
    pub fn event_to_commit(&self, took: Duration) {
        self.own.event_to_commit(took);
    }

    /// `count` changes of Services were received. Counted once for each family, as kube-proxy does.
    pub fn service_changes(&self, count: usize) {
        self.kube_proxy.service_changes(count * self.families.len());
    }

    /// `count` changes of EndpointSlices were received.
    pub fn endpoint_changes(&self, count: usize) {
        self.kube_proxy.endpoint_changes(count);
    }

    /// The number of Services and EndpointSlices with changes that are not in force yet.
    pub fn changes_pending(&self, services: usize, endpoints: usize) {
        self.kube_proxy.changes_pending(services, endpoints);
    }

    /// The number of Service ports with `internalTrafficPolicy: Local`, and of those with
    /// `externalTrafficPolicy: Local`, that have endpoints but none on this node (spec §2.10).
    pub fn no_local_endpoints(&self, family: Family, internal: usize, external: usize) {
        self.kube_proxy.no_local_endpoints(family, internal, external);
    }

    /// Stale connection tracking entries were looked for, which took `took`, and `removed` of them
    /// were removed (spec §8A).
    pub fn conntrack_reconciled(&self, family: Family, removed: usize, took: Duration) {
        self.kube_proxy.conntrack_reconciled(family, removed, took);
    }

    /// The number of rules in `table` (`filter` or `nat`), and how many of them were last written
    /// (mode iptables, spec §11.18).
    pub fn iptables_rules(&self, family: Family, table: &str, total: usize, last: usize) {
        self.kube_proxy.iptables_rules(family, table, total, last);
    }

    /// Adds a counter of packets in the kernel: the name of its metric after kube-proxy's prefix,
    /// what it counts for people, and what reads it (`None` where nobody counts). At most once for
    /// each name.
    pub fn count_packets(
        &self,
        name: &str,
        help: &str,
        read: impl Fn() -> Option<u64> + Send + Sync + 'static,
    ) {
        packets::register(&self.registry, name, help, read);
    }

    /// Adds what happens to load-balancer addresses that this process announces. `read` is called
    /// for each scrape; `None` leaves them out. At most once.
    pub fn count_announcements(&self, read: impl Fn() -> Option<Announcements> + Send + Sync + 'static) {
        announcements::register(&self.registry, read);
    }

    /// Adds what probes of Pods say. `read` is called for each scrape. At most once.
    pub fn count_probes(&self, read: impl Fn() -> Probes + Send + Sync + 'static) {
        probes::register(&self.registry, read);
    }

    /// Adds what happens at Service ports whose clients this process relays to endpoints. `read` is
    /// called for each scrape. At most once.
    pub fn count_relayed(&self, read: impl Fn() -> RelayedPorts + Send + Sync + 'static) {
        relayed::register(&self.registry, self.mode, read);
    }

    /// Adds what the kernel's IPVS has counted for Service ports. `read` is called for each scrape
    /// and returns each port once; `None` leaves them out. At most once.
    pub fn count_balanced(&self, read: impl Fn() -> Option<Vec<BalancedPort>> + Send + Sync + 'static) {
        balanced::register(&self.registry, read);
    }

    /// Somebody else's change of the rules was put right.
    pub fn repaired(&self) {
        self.own.repaired();
    }

    /// The number of Services with rules that the kernel refuses.
    pub fn refused_services(&self, count: usize) {
        self.own.refused_services(count);
    }

    /// The number of things that are asked for and that cannot be honoured, now.
    pub fn problems(&self, count: usize) {
        self.own.problems(count);
    }

    /// The number of Services that are not served because each alone asks for too much.
    pub fn oversized_services(&self, count: usize) {
        self.own.oversized_services(count);
    }

    /// An object of this kind did not decode and was skipped; `unknown` if its kind could not be
    /// read either.
    pub fn undecodable(&self, kind: &str) {
        self.own.undecodable(kind);
    }

    /// How much is in force.
    pub fn totals(&self, totals: &Totals) {
        self.own.totals(totals, &self.families);
    }

    /// The configuration that is in use, by its hash.
    pub fn config(&self, hash: &str) {
        self.own.config(hash);
    }

    /// The state of a feature gate.
    pub fn feature(&self, feature: &Feature) {
        self.component.feature(feature);
    }

    /// `/healthz` was answered.
    pub(crate) fn healthz_answered(&self, code: u16) {
        self.kube_proxy.healthz_answered(code);
        self.slis.answered(HealthCheck::Healthz, code);
    }

    /// `/livez` was answered.
    pub(crate) fn livez_answered(&self, code: u16) {
        self.kube_proxy.livez_answered(code);
        self.slis.answered(HealthCheck::Livez, code);
    }

    /// Where the objects come from, and how old that is, now.
    pub(crate) fn view(&self, view: &View) {
        self.own.view(view);
    }

    fn for_families(&self, record: impl Fn(Family)) {
        self.families.iter().copied().for_each(record);
    }
}

fn encode(registry: &Registry) -> String {
    // Fails only for a metric without samples, which `gather` leaves out.
    TextEncoder::new().encode_to_string(&registry.gather()).unwrap_or_default()
}
