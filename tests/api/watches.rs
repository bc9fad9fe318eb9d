//! Watches end, break, fall silent or cannot be continued.

use std::time::{Duration, Instant};

use anyhow::ensure;
use portolan_apiserver::{Options, Resource};

use crate::scene::{RECOVERY, SOON, Scene};

/// The proxy renews a watch that has been quiet for 3 minutes; a little more for a busy machine.
const HALF_OPEN: Duration = Duration::from_secs(200);

pub(crate) fn gone() -> anyhow::Result<()> {
    gone_by(false)
}

pub(crate) fn gone_as_status() -> anyhow::Result<()> {
    gone_by(true)
}

fn gone_by(status: bool) -> anyhow::Result<()> {
    let scene = Scene::new()?;
    scene.server.gone_as_status(status);
    scene.service(1, &["a"])?;
    scene.service(2, &["a"])?;
    let proxy = scene.start()?;
    scene.watched(SOON)?;
    let lists = scene.lists(Resource::Services);
    // While nobody watches, much happens, and its history is forgotten.
    scene.server.down();
    scene.endpoints(1, &["b"])?;
    scene.delete(2)?;
    scene.service(3, &["b"])?;
    scene.server.forget();
    scene.server.up();
    scene.becomes(1, "b", RECOVERY)?;
    scene.becomes(3, "b", SOON)?;
    scene.vanishes(2, SOON)?;
    ensure!(scene.lists(Resource::Services) > lists, "it did not list again");
    // Followed from there.
    scene.endpoints(1, &["a"])?;
    scene.becomes(1, "a", SOON)?;
    drop(proxy);
    Ok(())
}

type Disturb = fn(&Scene);

pub(crate) fn errors() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    scene.service(1, &["a"])?;
    let _proxy = scene.start()?;
    scene.watched(SOON)?;
    let lists = scene.lists(Resource::EndpointSlices);
    let disturbances: [(&str, Disturb); 4] = [
        ("it ends", |scene| scene.server.end_watches(None)),
        ("the connection is cut", |scene| scene.server.cut()),
        ("an error event", |scene| scene.server.fail_watches(None, 500, "etcd has no leader")),
        ("a line that is not JSON", |scene| scene.server.inject(None, "<html>504 Gateway Timeout</html>")),
    ];
    for (turn, (what, disturb)) in disturbances.iter().enumerate() {
        let pod = if turn.is_multiple_of(2) { "b" } else { "a" };
        disturb(&scene);
        scene.endpoints(1, &[pod])?;
        scene.becomes(1, pod, RECOVERY).map_err(|error| error.context(*what))?;
    }
    ensure!(
        scene.lists(Resource::EndpointSlices) == lists,
        "it listed again, but could have gone on from where it was"
    );
    Ok(())
}

pub(crate) fn pages() -> anyhow::Result<()> {
    let scene = Scene::with(Options { streaming_lists: false, ..Options::default() })?;
    let fillers = portolan_apiserver::scale::cluster(1200, 1);
    scene.server.load(fillers.objects())?;
    scene.service(1, &["a"])?;
    let _proxy = scene.start()?;
    scene.answered_by(1, "a")?;
    let pages = scene.server.look(|state| {
        let requests = state.requests().iter();
        requests
            .filter(|request| request.resource == Some(Resource::Services) && request.code == Some(200))
            .filter(|request| request.parameter("limit").is_some())
            .count()
    });
    ensure!(pages >= 3, "{pages} pages for 1201 Services");
    scene.endpoints(1, &["b"])?;
    scene.becomes(1, "b", SOON)
}

pub(crate) fn broken_list() -> anyhow::Result<()> {
    let scene = Scene::with(Options { streaming_lists: false, ..Options::default() })?;
    for number in 1..=40 {
        scene.service(number, &["a"])?;
    }
    let _proxy = scene.start()?;
    scene.watched(SOON)?;
    // The next lists break off in the middle; what they did not get to is still there.
    scene.server.down();
    scene.server.forget();
    scene.server.break_next_list(Resource::Services, 10);
    scene.server.break_next_list(Resource::EndpointSlices, 10);
    scene.endpoints(1, &["b"])?;
    scene.server.up();
    let deadline = Instant::now() + RECOVERY;
    while scene.ask(1)?.pod() != Some("b") {
        for number in [2, 20, 40] {
            scene.answered_by(number, "a")?;
        }
        ensure!(Instant::now() < deadline, "the change was not seen within {RECOVERY:?}");
    }
    for number in 2..=40 {
        scene.answered_by(number, "a")?;
    }
    Ok(())
}

pub(crate) fn half_open() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    scene.service(1, &["a"])?;
    let _proxy = scene.start()?;
    scene.watched(SOON)?;
    let lists = scene.lists(Resource::EndpointSlices);
    scene.server.mute_watches(None);
    scene.endpoints(1, &["b"])?;
    scene.answered_by(1, "a")?;
    scene.becomes(1, "b", HALF_OPEN)?;
    ensure!(scene.lists(Resource::EndpointSlices) == lists, "renewing a watch needs no list");
    Ok(())
}
