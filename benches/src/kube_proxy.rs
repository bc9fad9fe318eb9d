//! Rules to compare with, as text for `nft -f`: what kube-proxy 1.36 lays out in its nftables mode
//! (spec §6), and a single rule.

use std::fmt::Write;

use portolan_service::Protocol;

use crate::cluster::{ENDPOINT_PORT, Member, POD_NETWORK, SERVICE_PORT, Shape, members};

/// The bit of the packet mark for packets to be masqueraded.
const MARK: &str = "0x4000";

/// One rule for all Services.
pub(crate) fn one_dnat() -> String {
    format!(
        "table ip one-dnat {{ chain nat-prerouting {{ type nat hook prerouting priority dstnat; \
         ip daddr 10.96.0.0/16 udp dport {SERVICE_PORT} dnat to 10.128.0.1:{ENDPOINT_PORT}; }}; }}\n"
    )
}

/// All of UDP Services with ClusterIPs in kube-proxy's layout: a chain for each, hooks, checks and
/// marks as spec §6B-E.
pub(crate) fn rules(shape: Shape) -> String {
    let mut cluster_ips = Vec::new();
    let mut service_ips = Vec::new();
    let mut hairpin = Vec::new();
    let mut chains = String::new();
    for member in members(shape, Protocol::Udp) {
        let (address, chain) = (member.cluster_ip(), chain(&member));
        cluster_ips.push(address.to_string());
        service_ips.push(format!("{address} . udp . {SERVICE_PORT} : goto {chain}"));
        let mut endpoints = Vec::new();
        for (index, backend) in member.plan().ports[0].cluster.iter().enumerate() {
            let address = backend.address;
            endpoints.push(format!("{index} : {address} . {ENDPOINT_PORT}"));
            if backend.is_local() {
                hairpin.push(format!("{address} . {address} . udp . {ENDPOINT_PORT}"));
            }
        }
        writeln!(
            chains,
            "  chain {chain} {{ meta l4proto udp dnat ip addr . port to numgen random mod {} map {{ {} }}; }}",
            endpoints.len(),
            endpoints.join(", ")
        )
        .expect("a String takes everything");
    }
    let elements = |elements: Vec<String>| match elements.len() {
        0 => String::new(),
        _ => format!(" elements = {{ {} }};", elements.join(", ")),
    };
    let (cluster_ips, service_ips, hairpin) =
        (elements(cluster_ips), elements(service_ips), elements(hairpin));
    format!(
        "table ip kube-proxy {{
  set cluster-ips {{ type ipv4_addr;{cluster_ips} }}
  set nodeport-ips {{ type ipv4_addr; elements = {{ 192.0.2.1 }}; }}
  set hairpin-connections {{ type ipv4_addr . ipv4_addr . inet_proto . inet_service;{hairpin} }}
  map service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict;{service_ips} }}
  map service-nodeports {{ type inet_proto . inet_service : verdict; }}
  map no-endpoint-services {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
  map no-endpoint-nodeports {{ type inet_proto . inet_service : verdict; }}
  map firewall-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; }}

  chain filter-prerouting-pre-dnat {{ type filter hook prerouting priority -110;
    ct state new jump firewall-check; }}
  chain filter-output-pre-dnat {{ type filter hook output priority -110;
    ct state new jump firewall-check; }}
  chain nat-prerouting {{ type nat hook prerouting priority dstnat;
    jump services; }}
  chain nat-output {{ type nat hook output priority -100;
    jump services; }}
  chain filter-input {{ type filter hook input priority filter;
    ct state new jump nodeport-endpoints-check
    ct state new jump service-endpoints-check; }}
  chain filter-forward {{ type filter hook forward priority filter;
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check; }}
  chain filter-output {{ type filter hook output priority filter;
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check; }}
  chain nat-postrouting {{ type nat hook postrouting priority srcnat;
    jump masquerading; }}

  chain services {{
    ip daddr @cluster-ips ip saddr != {POD_NETWORK} meta mark set meta mark or {MARK}
    ip daddr . meta l4proto . th dport vmap @service-ips
    ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports; }}
  chain service-endpoints-check {{
    ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }}
  chain nodeport-endpoints-check {{
    ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports; }}
  chain firewall-check {{
    ip daddr . meta l4proto . th dport vmap @firewall-ips; }}
  chain cluster-ips-check {{
    ip daddr @cluster-ips reject
    ip daddr {{ 10.96.0.0/16 }} drop; }}
  chain masquerading {{
    meta mark and {MARK} != 0 meta mark set meta mark xor {MARK} masquerade fully-random
    ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random; }}

{chains}}}
"
    )
}

/// The name of a Service's chain, formed as spec §6.9 but for the hash, which is of the same
/// length.
fn chain(member: &Member) -> String {
    let name = format!("{}/udp/http", member.name());
    // FNV-1a
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let hash: String =
        hash.to_be_bytes().map(|byte| char::from(letters[usize::from(byte % 32)])).into_iter().collect();
    format!("service-{hash}-{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_has_a_chain_and_every_endpoint_a_place() {
        let text = rules(Shape::new(20, 3));
        assert_eq!(
            text.matches("  chain service-").count(),
            20 + 1,
            "one for each, and service-endpoints-check"
        );
        assert_eq!(text.matches(": goto service-").count(), 20);
        assert_eq!(text.matches("numgen random mod 3 map").count(), 20);
        assert_eq!(text.matches(&format!(" . {ENDPOINT_PORT}")).count(), 20 * 3 + 1, "and one of them local");
    }
}
