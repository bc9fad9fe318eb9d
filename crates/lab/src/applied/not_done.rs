//! What files ask for that the lab does not do.

use super::declared::Declared;
use crate::finding::Finding;

/// Kinds that nobody in the lab does anything about, and why.
const KINDS: [(&str, &str); 4] = [
    ("CronJob", "is passed over: the lab makes no pods of a CronJob"),
    ("NetworkPolicy", "is passed over: in a cluster the network plugin enforces it, and the lab has none"),
    ("Ingress", "is passed over: the lab has no Ingress controller; ask its Services themselves"),
    ("PersistentVolumeClaim", "is passed over: the lab has no volumes that last"),
];

/// Fields of a pod that the scheduler passes over.
const PLACING: [&str; 4] = [
    "affinity.podAffinity",
    "affinity.podAntiAffinity",
    "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution",
    "topologySpreadConstraints",
];

/// What of an object the lab does not do. It may have a load balancer.
pub(super) fn not_done(declared: &Declared, has_load_balancer: bool) -> Vec<Finding> {
    if let Some((_, why)) = KINDS.iter().find(|(kind, _)| *kind == declared.kind()) {
        return vec![declared.warning("kind", why)];
    }
    if declared.key().is_none() {
        let group = declared.at("apiVersion").as_str().unwrap_or("a group that is not named");
        let why = format!("is passed over: the lab's API server does not serve it in {group}");
        return vec![declared.warning("kind", &why)];
    }
    match declared.kind() {
        "Service" if has_load_balancer => Vec::new(),
        "Service" => without_address(declared).into_iter().collect(),
        "Pod" => of_pods(declared, "spec").into_iter().chain(of_status(declared)).collect(),
        "Deployment" | "ReplicaSet" | "ReplicationController" | "StatefulSet" | "DaemonSet" | "Job" => {
            of_pods(declared, "spec.template.spec")
        }
        _ => Vec::new(),
    }
}

/// What is not done of a pod's `spec`.
fn of_pods(declared: &Declared, spec: &str) -> Vec<Finding> {
    let placing = PLACING.iter().map(|field| format!("{spec}.{field}"));
    placing
        .filter(|field| !declared.at(field).is_null())
        .map(|field| {
            let why = "is ignored: the lab spreads pods evenly; nodeName, nodeSelector, required nodeAffinity and \
                       taints choose nodes";
            declared.warning(&field, why)
        })
        .collect()
}

/// What a Pod says of itself, and its node knows better.
fn of_status(declared: &Declared) -> Option<Finding> {
    let field = "status.conditions";
    let why = "is ignored: its node says whether it is ready; for one that is not, give it a readinessProbe that \
               fails";
    (!declared.at(field).is_null()).then(|| declared.warning(field, why))
}

/// What a Service of type LoadBalancer lacks, since the lab has no load balancer.
fn without_address(declared: &Declared) -> Option<Finding> {
    let is_balanced = declared.at("spec.type") == "LoadBalancer";
    let given = declared.at("status.loadBalancer.ingress").as_array();
    (is_balanced && given.is_none_or(Vec::is_empty)).then(|| {
        declared.warning(
            "spec.type",
            "LoadBalancer, but the lab allocates no load-balancer address; begin it with --load-balancer-pool, or give \
             the Service one, such as status: {loadBalancer: {ingress: [{ip: 203.0.113.5}]}}",
        )
    })
}
