//! What is meant by a name without its namespace.

use anyhow::bail;

use crate::names::Names;
use crate::place::{PLACES, Place};

/// `place` with its namespace. A name alone is refused, and what has this name is proposed.
pub(crate) fn meant(place: &Place, names: &Names) -> anyhow::Result<Place> {
    match place {
        Place::Short { first, name, port } => {
            let is_namespace = names.service_titles().any(|title| title == format!("{first}/{name}"));
            let namespace = if is_namespace { first.clone() } else { "default".to_owned() };
            let name = name.clone();
            Ok(if first == "pod" && !is_namespace {
                Place::Pod { namespace, name, port: port.as_ref().and_then(|port| port.parse().ok()) }
            } else {
                Place::Service { namespace, name, port: port.clone() }
            })
        }
        Place::Bare { name, .. } => {
            let likely = likely(name, names);
            if likely.is_empty() {
                bail!("{name} is no place: {PLACES}");
            }
            bail!("{name} is no place: is {} meant?", likely.join(" or "));
        }
        other => Ok(other.clone()),
    }
}

/// What is called `name`.
pub(crate) fn likely(name: &str, names: &Names) -> Vec<String> {
    let of_name = |title: &String| title.split_once('/').is_some_and(|(_, its)| its == name);
    let mut likely: Vec<String> = names.service_titles().filter(of_name).collect();
    likely.extend(names.pod_titles().filter(of_name).map(|title| format!("pod/{title}")));
    // The namespace that kubectl takes comes first.
    let rank = |title: &String| (title.split('/').rev().nth(1) != Some("default"), title.clone());
    likely.sort_by_key(rank);
    likely.dedup();
    likely
}

#[cfg(test)]
mod tests {
    use portolan_service::{ObjectName, PerFamily};
    use portolan_trace::explain::{KnownService, Services};

    use super::*;

    fn names(services: &[&str], pods: &[&str]) -> Names {
        let services = services.iter().map(|title| {
            let (namespace, name) = title.split_once('/').unwrap();
            KnownService { namespace: namespace.into(), name: name.into(), ..KnownService::default() }
        });
        let pods = pods.iter().map(|title| {
            let (namespace, name) = title.split_once('/').unwrap();
            (ObjectName::new(namespace, name), PerFamily::default())
        });
        Names {
            services: Services { services: services.collect(), ..Services::default() },
            pods: pods.collect(),
            ..Names::default()
        }
    }

    #[test]
    fn namespaces_are_found() {
        let some = names(&["default/web", "shop/web", "shop/cart"], &["shop/cart-0"]);
        let odd = names(&["svc/web", "default/web", "pod/web"], &[]);
        for (names, given, expected) in [
            (&some, "svc/web", "svc/default/web"),
            (&some, "service/web:80", "svc/default/web:80"),
            (&some, "svc/cart", "svc/default/cart"),
            (&some, "pod/web-1:80", "pod/default/web-1:80"),
            (&odd, "svc/web", "svc/svc/web"),
            (&odd, "service/web", "svc/default/web"),
            (&odd, "pod/web:80", "svc/pod/web:80"),
            (&some, "shop/web", "svc/shop/web"),
            (&some, "node:80", "node:80"),
        ] {
            let place: Place = given.parse().unwrap();
            assert_eq!(meant(&place, names).unwrap(), expected.parse().unwrap(), "{given}");
        }
        for (given, expected) in [
            ("web", "web is no place: is default/web or shop/web meant?"),
            ("cart:80", "cart is no place: is shop/cart meant?"),
            ("cart-0", "cart-0 is no place: is pod/shop/cart-0 meant?"),
            ("nowhere", "nowhere is no place: give an address"),
        ] {
            let refused = meant(&given.parse().unwrap(), &some).unwrap_err().to_string();
            assert!(refused.starts_with(expected), "{given}: {refused}");
        }
    }
}
