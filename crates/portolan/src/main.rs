//! Portolan: a Kubernetes service proxy.
fn main() {}
