//! However the objects came to be as they are, the answers are the same.

use std::collections::BTreeMap;

use portolan_names::{Names, NamespaceFilter, PodMode, Settings, Update};
use portolan_service::{Change, NamesChange, ObjectName, PodPhase, further};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::notation::{Question, ask};
use crate::scene::{external, named, namespace, node, pod, service, slice, targets};

/// Few names and addresses, so that they collide.
pub(crate) fn update() -> impl Strategy<Value = Update> {
    let service_name = || select(vec!["a/web", "a/db", "b/web"]);
    let ips = select(vec!["10.96.0.1", "10.96.0.2 fd00:96::1", "10.96.0.3", ""]);
    let ports = select(vec!["p:tcp:1", "p:tcp:1 q:udp:1", ""]);
    let target = select(vec!["web.a.svc.cluster.local", "db.a.svc.cluster.local", "out.example"]);
    let endpoints = || {
        subsequence(
            vec!["10.1.0.1", "10.1.0.1=x", "10.1.0.2=x@z", "10.1.0.3!", "10.96.0.1", "10.1.0.2"],
            0..5,
        )
    };
    let v6 = subsequence(vec!["fd00::1=x", "fd00::2", "fd00::1@z"], 0..3);
    let endpoints = prop_oneof![endpoints(), v6].prop_map(|list| list.join(" "));
    let namespaces = (select(vec!["a", "b", "c"]), select(vec!["1", "2"]));
    let phase = select(vec![PodPhase::Running, PodPhase::Failed]);
    prop_oneof![
        (service_name(), ips, ports.clone())
            .prop_map(|(name, ips, ports)| Change::from(service(name, ips, ports)).into()),
        (service_name(), target).prop_map(|(name, target)| Change::from(external(name, target)).into()),
        service_name().prop_map(|name| Change::ServiceRemoved(named(name)).into()),
        (service_name(), service_name(), select(vec!["1", "2"]), ports, endpoints).prop_map(
            |(of, owner, suffix, ports, endpoints)| {
                let mut slice = slice(of, suffix, ports, &endpoints);
                // A slice may change its Service.
                slice.service = ObjectName::new(slice.name.namespace(), named(owner).name());
                Change::from(slice).into()
            }
        ),
        (service_name(), select(vec!["1", "2"]))
            .prop_map(|(of, suffix)| Change::SliceRemoved(named(&format!("{of}-{suffix}"))).into()),
        namespaces.prop_map(|(name, label)| namespace(name, &[("l", label)])),
        select(vec!["a", "b", "c"]).prop_map(|name| NamesChange::NamespaceRemoved(name.into()).into()),
        (select(vec!["a/p", "b/p"]), select(vec!["10.1.0.1", "10.1.0.2 fd00::1", ""]), phase, any::<bool>())
            .prop_map(|(name, ips, phase, leaving)| pod(name, ips, phase, leaving)),
        select(vec!["a/p", "b/p"]).prop_map(|name| NamesChange::PodRemoved(named(name)).into()),
        (service_name(), select(vec!["t.example", "web.a.svc.cluster.local!"]))
            .prop_map(|(of, target)| targets(of, "t", target)),
        service_name().prop_map(|of| NamesChange::TargetsRemoved(named(&format!("{of}-t"))).into()),
        (service_name(), select(vec!["10.1.0.1=x", "10.1.0.4=y"])).prop_map(|(of, endpoint)| {
            let mut slice = slice(of, "1", "p:tcp:1", endpoint);
            slice.name = further(&slice.name);
            NamesChange::Further(slice.into()).into()
        }),
        service_name().prop_map(|of| NamesChange::FurtherRemoved(further(&named(&format!("{of}-1")))).into()),
        (select(vec!["n1", "n2"]), select(vec!["10.1.0.0/24", "10.2.0.0/24"]))
            .prop_map(|(name, network)| node(name, network)),
        select(vec!["n1", "n2"]).prop_map(|name| Change::NodeRemoved(name.into()).into()),
    ]
}

/// What an update is about, and whether the object is there after it.
fn subject(update: &Update) -> (String, bool) {
    let (subject, there) = match update {
        Update::Object(Change::Service(service)) => (format!("service {}", service.name), true),
        Update::Object(Change::ServiceRemoved(name)) => (format!("service {name}"), false),
        Update::Object(Change::Slice(slice)) => (format!("slice {}", slice.name), true),
        Update::Object(Change::SliceRemoved(name)) => (format!("slice {name}"), false),
        Update::Object(Change::Node(node)) => (format!("node {}", node.name), true),
        Update::Object(Change::NodeRemoved(name)) => (format!("node {name}"), false),
        Update::Names(NamesChange::Namespace(namespace)) => (format!("namespace {}", namespace.name), true),
        Update::Names(NamesChange::NamespaceRemoved(name)) => (format!("namespace {name}"), false),
        Update::Names(NamesChange::Pod(pod)) => (format!("pod {}", pod.name), true),
        Update::Names(NamesChange::PodRemoved(name)) => (format!("pod {name}"), false),
        Update::Names(NamesChange::Targets(slice)) => (format!("targets {}", slice.name), true),
        Update::Names(NamesChange::TargetsRemoved(name)) => (format!("targets {name}"), false),
        Update::Names(NamesChange::Further(slice)) => (format!("further {}", slice.name), true),
        Update::Names(NamesChange::FurtherRemoved(name)) => (format!("further {name}"), false),
    };
    (subject, there)
}

pub(crate) fn settings() -> impl Strategy<Value = Settings> {
    let filter = select(vec![
        NamespaceFilter::All,
        NamespaceFilter::Listed(vec!["a".to_owned()]),
        NamespaceFilter::Labelled(vec![portolan_names::Requirement {
            key: "l".to_owned(),
            value: portolan_names::LabelValue::In(vec!["1".to_owned()]),
        }]),
    ]);
    (filter, any::<bool>(), prop::bool::weighted(0.8), select(vec![PodMode::Insecure, PodMode::Verified]))
        .prop_map(|(namespaces, ignore_empty_service, endpoints, pods)| Settings {
            namespaces,
            ignore_empty_service,
            endpoints,
            pods,
            zonal: true,
            own_addresses: vec!["10.1.0.1".parse().unwrap()],
            ..Settings::default()
        })
}

/// Answers to questions about all that may be there.
fn answers(names: &Names) -> BTreeMap<String, String> {
    let mut questions = Vec::new();
    for namespace in ["a", "b", "c"] {
        for name in ["web", "db"] {
            for front in ["", "x.", "10-1-0-1.", "_p._tcp.", "_q._udp.", "z.pin._zone.", "z.prefer._zone."] {
                for kind in ["A", "AAAA", "SRV", "CNAME"] {
                    questions.push(format!("{front}{name}.{namespace}.svc.Z {kind} tcp"));
                }
            }
        }
        questions.push(format!("{namespace}.svc.Z TXT"));
        questions.push(format!("10-1-0-1.{namespace}.pod.Z A"));
        questions.push(format!("fd00--1.{namespace}.pod.Z AAAA"));
    }
    for address in ["1.0.96.10", "2.0.96.10", "1.0.1.10", "2.0.1.10", "3.0.1.10", "0.1.10", "0.2.10"] {
        questions.push(format!("{address}.in-addr.arpa PTR"));
    }
    questions.extend(["Z NS".to_owned(), "ns.dns.Z A".to_owned()]);
    let answer = |question: &String| ask(names, &Question::parse(question), 9).0;
    // The sections say the same whatever is drawn; targets of slices are drawn, of one here.
    questions.iter().map(|question| (question.clone(), answer(question))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn any_order_of_changes_ends_in_the_same_answers(
        settings in settings(),
        updates in vec(update(), 0..40),
        shuffle in any::<u64>(),
    ) {
        let mut steps = Names::new(settings.clone(), 1).unwrap();
        let mut last = BTreeMap::new();
        for update in &updates {
            steps.apply([update.clone()], 1_700_000_000);
            last.insert(subject(update).0, update.clone());
        }
        steps.set_synced();
        let mut objects: Vec<Update> = last.into_values().filter(|update| subject(update).1).collect();
        let mut state = shuffle;
        for at in (1..objects.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            objects.swap(at, usize::try_from(state >> 33).unwrap() % (at + 1));
        }
        // Another seed: other hashes, the same answers.
        let mut fresh = Names::new(settings, 2).unwrap();
        fresh.apply(objects, 1_700_000_000);
        fresh.apply([namespace("serial", &[])], 1_700_000_000);
        steps.apply([namespace("serial", &[])], 1_700_000_000);
        fresh.set_synced();
        prop_assert_eq!(answers(&steps), answers(&fresh));
    }
}
