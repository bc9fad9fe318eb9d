//! Any sequence of changes to files ends in the same objects as a fresh load.

use std::fs;

use crate::state::State;
use portolan_source::manifests::{Manifests, Options};
use proptest::prelude::*;

const READY: &str = "conditions: [{type: Ready, status: 'True'}]";

/// An object out of few, so that files collide and claims conflict.
fn object() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let service = (name.clone(), 1_u16..4, 0_u8..4, 0_u8..4, prop::sample::select(vec!["x", "y"])).prop_map(
        |(name, port, ip, node_port, app)| {
            // Asked for, always: what is allocated depends on who came first.
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  type: NodePort\n  clusterIP: 10.96.0.{}\n  \
                 selector: {{app: {app}}}\n  trafficDistribution: PreferClose\n  ports: [{{port: {port}, targetPort: web, nodePort: {}}}]\n",
                10 + ip,
                30000 + u16::from(node_port)
            )
        },
    );
    let pod = (name.clone(), 1_u8..9, prop::sample::select(vec!["x", "y"]), 8080_u16..8083, any::<bool>())
        .prop_map(|(name, ip, app, port, ready)| {
            let ready = if ready { READY } else { "phase: Running" };
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {app}}}}}\n\
                 spec: {{nodeName: n1, containers: [{{ports: [{{name: web, containerPort: {port}}}]}}]}}\n\
                 status: {{podIP: 10.0.0.{ip}, {ready}}}\n"
            )
        });
    let node = prop::sample::select(vec!["z1", "z2"]).prop_map(|zone| {
        format!("apiVersion: v1\nkind: Node\nmetadata: {{name: n1, labels: {{topology.kubernetes.io/zone: {zone}}}}}\n")
    });
    let slice = (name, 1_u8..9).prop_map(|(name, ip)| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}\n\
             addressType: IPv4\nports: [{{port: 80}}]\nendpoints: [{{addresses: [10.5.0.{ip}]}}]\n"
        )
    });
    prop_oneof![3 => service, 3 => pod, 1 => node, 1 => slice]
}

#[derive(Debug, Clone)]
enum Edit {
    Write(&'static str, Vec<String>),
    Replace(&'static str, Vec<String>),
    Rename(&'static str, &'static str),
    Remove(&'static str),
    /// Take the events so far.
    Look,
}

fn edit() -> impl Strategy<Value = Edit> {
    let file = prop::sample::select(vec!["1.yaml", "2.yaml", "sub/3.yml"]);
    let objects = || prop::collection::vec(object(), 0..4);
    prop_oneof![
        3 => (file.clone(), objects()).prop_map(|(file, objects)| Edit::Write(file, objects)),
        2 => (file.clone(), objects()).prop_map(|(file, objects)| Edit::Replace(file, objects)),
        1 => (file.clone(), file.clone()).prop_map(|(from, to)| Edit::Rename(from, to)),
        1 => file.prop_map(Edit::Remove),
        3 => Just(Edit::Look),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn end_as_a_fresh_load(edits in prop::collection::vec(edit(), 1..25)) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        let mut followed = Manifests::open(folder.path(), Options::default()).unwrap();
        let mut state = State::default();
        state.apply(followed.load().changes);
        for edit in edits {
            let path = |file: &str| folder.path().join(file);
            match edit {
                Edit::Write(file, objects) => fs::write(path(file), objects.join("---\n")).unwrap(),
                Edit::Replace(file, objects) => {
                    fs::write(path(".new"), objects.join("---\n")).unwrap();
                    fs::rename(path(".new"), path(file)).unwrap();
                }
                Edit::Rename(from, to) => drop(fs::rename(path(from), path(to))),
                Edit::Remove(file) => drop(fs::remove_file(path(file))),
                Edit::Look => {
                    if let Some(update) = followed.wait(Some(std::time::Duration::ZERO)).unwrap() {
                        state.apply(update.changes);
                    }
                }
            }
        }
        while let Some(update) = followed.wait(Some(std::time::Duration::ZERO)).unwrap() {
            state.apply(update.changes);
        }
        let mut fresh = Manifests::open(folder.path(), Options::default()).unwrap();
        let mut expected = State::default();
        expected.apply(fresh.load().changes);
        prop_assert_eq!(&state, &expected);
        prop_assert_eq!(followed.problems(), fresh.problems());
    }
}
