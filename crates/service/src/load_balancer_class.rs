//! `spec.loadBalancerClass`: whose business the addresses of a Service are.

/// The class of load balancers that Portolan is.
pub const LOAD_BALANCER_CLASS: &str = "portolan.dev/load-balancer";

/// Whether a Service of this `spec.loadBalancerClass` is for us. One without a class is if
/// `is_default`: no other load balancer takes those.
pub fn is_own_class(class: Option<&str>, is_default: bool) -> bool {
    match class.filter(|class| !class.is_empty()) {
        Some(class) => class == LOAD_BALANCER_CLASS,
        None => is_default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_class_the_default_decides() {
        for (class, is_default, expected) in [
            (None, true, true),
            (None, false, false),
            (Some(""), false, false),
            (Some(LOAD_BALANCER_CLASS), false, true),
            (Some("example.com/other"), true, false),
        ] {
            assert_eq!(is_own_class(class, is_default), expected, "{class:?} {is_default}");
        }
    }
}
