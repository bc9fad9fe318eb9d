//! What the API server says of single objects.

use anyhow::{Context, ensure};
use portolan_apiserver::{Corruption, Resource};
use serde_json::json;

use crate::scene::{NODE, SOON, Scene, service};

pub(crate) fn corrupt() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    for number in 1..=3 {
        scene.service(number, &["a"])?;
    }
    // In the first list already.
    let corrupt = |number: u8, how| {
        scene.server.corrupt(Resource::EndpointSlices, "default", &format!("s{number}-1"), &how)
    };
    ensure!(corrupt(1, Corruption::WrongType));
    let proxy = scene.start()?;
    proxy.wait_for_log("s1-1", SOON)?;
    scene.answered_by(2, "a")?;
    // And in the watch: what is known of the object stays, the others change.
    ensure!(corrupt(2, Corruption::WrongType));
    ensure!(corrupt(3, Corruption::Syntax));
    scene.settle()?;
    proxy.wait_for_log("s2-1", SOON)?;
    scene.answered_by(2, "a")?;
    scene.answered_by(3, "a")?;
    // Good again.
    for number in 1..=3 {
        scene.endpoints(number, &["b"])?;
    }
    for number in 1..=3 {
        scene.becomes(number, "b", SOON)?;
    }
    Ok(())
}

pub(crate) fn leaves_the_selection() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    scene.service(1, &["a"])?;
    let _proxy = scene.start()?;
    scene.answered_by(1, "a")?;
    let other = service(1).label("service.kubernetes.io/service-proxy-name", "other");
    scene.server.apply(other.object())?;
    scene.vanishes(1, SOON)?;
    scene.server.apply(service(1).object())?;
    scene.becomes(1, "a", SOON)
}

pub(crate) fn leaving_node() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    scene.service(1, &["a"])?;
    let _proxy = scene.start()?;
    // The Node may come a moment after the first lists.
    let health_becomes = |wanted: u16| -> anyhow::Result<()> {
        let deadline = std::time::Instant::now() + SOON;
        loop {
            let (status, body) = scene.health()?;
            if status == wanted {
                return Ok(());
            }
            ensure!(std::time::Instant::now() < deadline, "still {status} after {SOON:?}: {body}");
        }
    };
    health_becomes(200)?;
    let mut node = scene.server.look(|state| state.object(Resource::Nodes, "", NODE)).context("the Node")?;
    node["spec"]["taints"] = json!([{ "key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule" }]);
    scene.server.apply(node.clone())?;
    health_becomes(503)?;
    scene.answered_by(1, "a")?;
    node["spec"]["taints"] = json!([]);
    scene.server.apply(node)?;
    health_becomes(200)
}

pub(crate) fn no_service_cidrs() -> anyhow::Result<()> {
    for code in [403, 404] {
        let scene = Scene::new()?;
        scene.server.answer_always(Resource::ServiceCidrs, Some(code));
        scene.service(1, &["a"])?;
        let _proxy = scene.start()?;
        scene.answered_by(1, "a")?;
        let asked = scene.server.look(|state| {
            state.requests().iter().filter(|request| request.resource == Some(Resource::ServiceCidrs)).count()
        });
        ensure!((1..=3).contains(&asked), "asked {asked} times for what answers {code}");
    }
    Ok(())
}

pub(crate) fn announces_its_start() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    scene.service(1, &["a"])?;
    let _proxy = scene.start()?;
    scene.server_sees("an Event", SOON, |state| state.count(Resource::Events) > 0)?;
    let events = scene.server.look(|state| state.objects(Resource::Events));
    let event = events.first().context("an Event")?;
    let about = &event["regarding"];
    ensure!(event["reason"] == "Starting" && event["action"] == "StartKubeProxy", "{event:#}");
    ensure!(event["reportingController"] == "kube-proxy" && event["type"] == "Normal", "{event:#}");
    ensure!(
        about["kind"] == "Node" && about["name"] == NODE && about["uid"].as_str().is_none_or(str::is_empty),
        "{event:#}"
    );
    Ok(())
}
