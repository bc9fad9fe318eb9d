//! Which scheduler of the kernel's IPVS chooses the endpoints of a Service, where IPVS does.

use std::fmt;
use std::sync::Arc;

/// An unknown value of an annotation is kept up to here, characters.
const KEPT: usize = 40;

/// A scheduler of IPVS, by its name in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scheduler(&'static str);

impl Scheduler {
    /// The annotation of Services that asks for one, for all their ports.
    pub const ANNOTATION: &'static str = "portolan.dev/ipvs-scheduler";
    /// The annotation of kube-router for the same. [`Scheduler::ANNOTATION`] goes before it.
    pub const KUBE_ROUTER_ANNOTATION: &'static str = "kube-router.io/service.scheduler";

    /// Those that choose among the endpoints of a Service.
    const USEFUL: [&'static str; 9] = ["rr", "wrr", "lc", "wlc", "sed", "nq", "mh", "sh", "twos"];
    /// Those that choose one endpoint for all clients of an address, or until it is full.
    const FOR_ONE: [&'static str; 5] = ["dh", "lblc", "lblcr", "fo", "ovf"];

    /// The scheduler of this name.
    ///
    /// There is no other than those listed here: the kernel loads whatever module has the name, and
    /// whoever may write a Service must not choose modules of the node.
    pub fn named(name: &str) -> Option<Scheduler> {
        let all = Scheduler::USEFUL.iter().chain(&Scheduler::FOR_ONE);
        all.copied().find(|known| *known == name).map(Scheduler)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// It does not spread the clients of one address over endpoints.
    pub fn prefers_one_endpoint(self) -> bool {
        Scheduler::FOR_ONE.contains(&self.0)
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.0)
    }
}

/// What the annotations of a Service say of its scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedScheduler {
    /// Which annotation says it.
    pub annotation: &'static str,
    /// The scheduler, or, if there is none of this name, the first characters of what is written.
    pub scheduler: Result<Scheduler, Arc<str>>,
}

impl AskedScheduler {
    /// Reads the values of [`Scheduler::ANNOTATION`] and [`Scheduler::KUBE_ROUTER_ANNOTATION`].
    pub fn parse(own: Option<&str>, kube_router: Option<&str>) -> Option<AskedScheduler> {
        let of = |annotation, value: &str| AskedScheduler {
            annotation,
            scheduler: Scheduler::named(value)
                .ok_or_else(|| value.chars().take(KEPT).collect::<String>().into()),
        };
        let own = own.map(|value| of(Scheduler::ANNOTATION, value));
        own.or_else(|| kube_router.map(|value| of(Scheduler::KUBE_ROUTER_ANNOTATION, value)))
    }

    /// The schedulers there are, for people.
    pub(crate) fn choices() -> String {
        [&Scheduler::USEFUL[..], &Scheduler::FOR_ONE].concat().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_annotations() {
        const OWN: &str = Scheduler::ANNOTATION;
        const KUBE_ROUTER: &str = Scheduler::KUBE_ROUTER_ANNOTATION;
        let cases = [
            ("none", None, None, None),
            ("ours", Some("lc"), None, Some((OWN, Ok("lc")))),
            ("kube-router's", None, Some("dh"), Some((KUBE_ROUTER, Ok("dh")))),
            ("ours goes first", Some("mh"), Some("lc"), Some((OWN, Ok("mh")))),
            ("ours goes first though wrong", Some("hm"), Some("lc"), Some((OWN, Err("hm")))),
            ("empty", Some(""), None, Some((OWN, Err("")))),
            ("another case", Some("RR"), None, Some((OWN, Err("RR")))),
            ("a blank", None, Some("rr "), Some((KUBE_ROUTER, Err("rr ")))),
            // The kernel has a module ip_vs_ftp.
            ("a module that is no scheduler", Some("ftp"), None, Some((OWN, Err("ftp")))),
        ];
        for (name, own, kube_router, expected) in cases {
            let found = AskedScheduler::parse(own, kube_router);
            let found = found.as_ref().map(|asked| {
                (asked.annotation, asked.scheduler.as_ref().map(|known| known.name()).map_err(|text| &**text))
            });
            assert_eq!(found, expected, "{name}");
        }
        let long = AskedScheduler::parse(Some(&"ü".repeat(1000)), None).unwrap();
        assert_eq!(long.scheduler, Err("ü".repeat(KEPT).into()));
    }
}
