//! Who looks a name up, and how its resolver is configured.

use anyhow::bail;
use portolan_controllers::{ClusterDns, DnsPolicy, Naming, ResolvConf};
use portolan_service::ObjectName;
use portolan_trace::Node;

use super::{DNS_SERVICE, Dns};
use crate::names::Names as Known;
use crate::place::Place;

/// Whoever looks a name up.
#[derive(Debug)]
pub(crate) struct Client {
    /// For people.
    pub(crate) title: String,
    pub(crate) conf: ResolvConf,
}

/// The client at `from`, which must be a pod: others do not ask the cluster's DNS. Whether it is
/// known to be outside is in `outside`.
pub(crate) fn client(
    from: &Place,
    outside: bool,
    dns: &Dns,
    known: &Known,
    node: &Node,
) -> anyhow::Result<Client> {
    let pod = match from {
        Place::Pod { namespace, name, .. } => Some(ObjectName::new(namespace, name)),
        Place::Address(address, _) if !outside && !node.is_local(*address) => {
            let has = |addresses: &portolan_service::PerFamily<_>| {
                addresses.v4 == Some(*address) || addresses.v6 == Some(*address)
            };
            known.pods.iter().find(|(_, addresses)| has(addresses)).map(|(name, _)| name.clone())
        }
        Place::Node(_) | Place::Localhost(_) | Place::Address(..) if !outside => bail!(
            "a node does not ask the cluster's DNS: give the Service (svc/NAMESPACE/NAME), or --from a pod"
        ),
        _ => bail!(
            "who is outside does not ask the cluster's DNS: give the Service (svc/NAMESPACE/NAME), or --from a pod"
        ),
    };
    let namespace = pod.as_ref().map_or("default", ObjectName::namespace);
    let naming = pod.as_ref().and_then(|pod| dns.naming.get(pod));
    let title = match (&pod, from) {
        (Some(pod), _) => format!("pod/{pod}"),
        (None, Place::Address(address, _)) => format!("a pod of namespace default at {address}"),
        (None, _) => "a pod of namespace default".to_owned(),
    };
    let default = Naming::default();
    let naming = naming.map_or(&default, |naming| naming);
    let servers = known.cluster_ips(DNS_SERVICE.0, DNS_SERVICE.1);
    // Where its Service is not known, it is somewhere else; whoever asks does so all the same.
    let somewhere = [std::net::Ipv4Addr::UNSPECIFIED.into()];
    let asked = servers.first().map_or(&somewhere[..], std::slice::from_ref);
    let cluster = ClusterDns { servers: asked.to_vec(), domain: dns.domain.clone() };
    let mut conf = ResolvConf::of_pod(naming, namespace, &cluster, &ResolvConf::default());
    if !conf.servers.iter().any(|server| asked.contains(server)) {
        bail!("{title} does not ask the cluster's DNS: {}", reason(naming));
    }
    conf.servers.retain(|server| !server.is_unspecified());
    Ok(Client { title, conf })
}

fn reason(naming: &Naming) -> &'static str {
    match naming.policy {
        DnsPolicy::None => "its dnsPolicy is None, and its dnsConfig has other servers",
        DnsPolicy::Default => {
            "its dnsPolicy is Default, so that it asks whom its node asks; ClusterFirst is the usual one"
        }
        _ => {
            "it is on the host's network, so that it asks whom its node asks, unless its dnsPolicy is ClusterFirstWithHostNet"
        }
    }
}
