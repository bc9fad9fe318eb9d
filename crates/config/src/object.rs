//! The object `KubeProxyConfiguration` v1alpha1, as given: what is missing or null is `None` or
//! empty.

use std::collections::BTreeMap;

use crate::duration::GoDuration;

pub(crate) const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
/// What comes after it (KEP-784).
pub(crate) const NEXT_API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha2";
pub(crate) const KIND: &str = "KubeProxyConfiguration";

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Object {
    pub(crate) feature_gates: BTreeMap<String, bool>,
    pub(crate) client: Client,
    pub(crate) logging: Logging,
    pub(crate) hostname_override: String,
    pub(crate) bind_address: String,
    pub(crate) healthz_bind_address: String,
    pub(crate) metrics_bind_address: String,
    pub(crate) bind_address_hard_fail: Option<bool>,
    pub(crate) enable_profiling: Option<bool>,
    pub(crate) show_hidden_metrics_for_version: String,
    pub(crate) mode: String,
    pub(crate) iptables: Iptables,
    pub(crate) ipvs: Ipvs,
    pub(crate) nftables: Nftables,
    pub(crate) winkernel: Winkernel,
    pub(crate) windows_run_as_service: Option<bool>,
    pub(crate) detect_local_mode: String,
    pub(crate) detect_local: DetectLocal,
    pub(crate) cluster_cidr: String,
    pub(crate) nodeport_addresses: Vec<String>,
    /// Portolan's own
    pub(crate) accept_forwarded: Option<bool>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) conntrack: Conntrack,
    pub(crate) config_sync_period: Option<GoDuration>,
    pub(crate) port_range: String,
    pub(crate) udp_idle_timeout: Option<GoDuration>,
    /// Portolan's own
    pub(crate) userspace: Userspace,
    /// Portolan's own
    pub(crate) announcement: Announcement,
    /// Portolan's own
    pub(crate) load_balancer: LoadBalancer,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Announcement {
    pub(crate) layer2: Option<bool>,
    pub(crate) key_file: String,
    pub(crate) interfaces: Vec<String>,
    pub(crate) routing_table: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LoadBalancer {
    pub(crate) default: Option<bool>,
    pub(crate) pools: Vec<Pool>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Pool {
    pub(crate) name: String,
    pub(crate) addresses: Vec<String>,
    pub(crate) auto_assign: Option<bool>,
    pub(crate) avoid_buggy_ips: Option<bool>,
    pub(crate) service_allocation: ServiceAllocation,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ServiceAllocation {
    pub(crate) priority: Option<i32>,
    pub(crate) namespaces: Vec<String>,
    pub(crate) namespace_selectors: Vec<Selector>,
    pub(crate) service_selectors: Vec<Selector>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Selector {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) expressions: Vec<Expression>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Expression {
    pub(crate) key: String,
    pub(crate) operator: String,
    pub(crate) values: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Userspace {
    pub(crate) diversion: String,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Client {
    pub(crate) kubeconfig: String,
    pub(crate) accept_content_types: String,
    pub(crate) content_type: String,
    pub(crate) qps: Option<f32>,
    pub(crate) burst: Option<i32>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Logging {
    pub(crate) format: String,
    pub(crate) flush_frequency: Option<GoDuration>,
    pub(crate) verbosity: Option<i64>,
    pub(crate) vmodule: Vec<Vmodule>,
    pub(crate) text: LogStreams,
    pub(crate) json: LogStreams,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Vmodule {
    pub(crate) file_pattern: String,
    pub(crate) verbosity: i64,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LogStreams {
    pub(crate) split_stream: Option<bool>,
    /// A Kubernetes quantity, as `64Ki`.
    pub(crate) info_buffer_size: String,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Iptables {
    pub(crate) masquerade_bit: Option<i32>,
    pub(crate) masquerade_all: Option<bool>,
    pub(crate) localhost_nodeports: Option<bool>,
    pub(crate) sync_period: Option<GoDuration>,
    pub(crate) min_sync_period: Option<GoDuration>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Nftables {
    pub(crate) masquerade_bit: Option<i32>,
    pub(crate) masquerade_all: Option<bool>,
    pub(crate) sync_period: Option<GoDuration>,
    pub(crate) min_sync_period: Option<GoDuration>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Ipvs {
    pub(crate) sync_period: Option<GoDuration>,
    pub(crate) min_sync_period: Option<GoDuration>,
    pub(crate) scheduler: String,
    pub(crate) exclude_cidrs: Vec<String>,
    pub(crate) strict_arp: Option<bool>,
    pub(crate) tcp_timeout: Option<GoDuration>,
    pub(crate) tcp_fin_timeout: Option<GoDuration>,
    pub(crate) udp_timeout: Option<GoDuration>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Winkernel {
    pub(crate) network_name: String,
    pub(crate) source_vip: String,
    pub(crate) enable_dsr: Option<bool>,
    pub(crate) root_hns_endpoint_name: String,
    pub(crate) forward_health_check_vip: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct DetectLocal {
    pub(crate) bridge_interface: String,
    pub(crate) interface_name_prefix: String,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Conntrack {
    pub(crate) max_per_core: Option<i32>,
    pub(crate) min: Option<i32>,
    pub(crate) tcp_established_timeout: Option<GoDuration>,
    pub(crate) tcp_close_wait_timeout: Option<GoDuration>,
    pub(crate) tcp_be_liberal: Option<bool>,
    pub(crate) udp_timeout: Option<GoDuration>,
    pub(crate) udp_stream_timeout: Option<GoDuration>,
}
