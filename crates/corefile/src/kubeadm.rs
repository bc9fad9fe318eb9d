//! The Corefile of kubeadm.

/// The Corefile that kubeadm 1.36 installs, for the cluster's domain, and on this port.
pub fn kubeadm(domain: &str, port: u16) -> String {
    format!(
        ".:{port} {{
    errors
    health {{
        lameduck 5s
    }}
    ready
    kubernetes {domain} in-addr.arpa ip6.arpa {{
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }}
    prometheus :9153
    forward . /etc/resolv.conf {{
        max_concurrent 1000
    }}
    cache 30 {{
        disable success {domain}
        disable denial {domain}
    }}
    loop
    reload
    loadbalance
}}
"
    )
}
