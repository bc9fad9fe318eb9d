//! The API server is away, comes back, comes back different, or says that it has no time.

use std::time::{Duration, Instant};

use anyhow::ensure;
use portolan_apiserver::{Resource, Starting};

use crate::scene::{RECOVERY, SOON, Scene};

/// How long a server whose history went back may go unnoticed.
const NOTICED: Duration = Duration::from_secs(30);
/// How far behind the readiness of a server the proxy may be: 2 s, and what a machine takes that is
/// busy with other tests.
const BEHIND: Duration = Duration::from_secs(4);

pub(crate) fn at_the_start() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    scene.service(1, &["a"])?;
    scene.server.down();
    let mut proxy = scene.begin()?;
    // It goes on trying, and says so in health.
    proxy.wait_for_log("API server", SOON)?;
    // The server of health may come after the first try.
    proxy.wait_for_log("Healthz server answers", SOON)?;
    let (status, body) = scene.health()?;
    ensure!(status == 503 && body["healthy"] == false, "healthy before anything is known: {status} {body}");
    scene.server.up();
    proxy.wait_until_ready(RECOVERY)?;
    scene.answered_by(1, "a")?;
    // Each resource is tried again at its own time, and the Node may be the last.
    proxy.wait_for_log("listed resource=nodes", RECOVERY)?;
    let deadline = Instant::now() + SOON;
    loop {
        let (status, body) = scene.health()?;
        if status == 200 && body["view"]["source"] == "api" {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{status} {body}");
    }
}

pub(crate) fn later() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    scene.service(1, &["a"])?;
    scene.service(2, &["a"])?;
    let _proxy = scene.start()?;
    scene.answered_by(1, "a")?;
    let age = || -> anyhow::Result<f64> {
        let (status, body) = scene.health()?;
        ensure!(status == 200, "an API server that is away makes no node unhealthy: {status} {body}");
        ensure!(body["view"]["source"] == "api", "{body}");
        body["view"]["ageSeconds"].as_f64().ok_or_else(|| anyhow::anyhow!("no age: {body}"))
    };
    scene.server.down();
    let gone = Instant::now();
    let before = age()?;
    scene.endpoints(1, &["b"])?;
    scene.delete(2)?;
    scene.service(3, &["b"])?;
    // Nothing of it is known here: what was in force is. Asked for as long as it takes an age to
    // show.
    while gone.elapsed() < Duration::from_secs(2) {
        scene.answered_by(1, "a")?;
        scene.answered_by(2, "a")?;
    }
    let after = age()?;
    ensure!(after - before > 1.0, "the age does not grow: {before} s, then {after} s");
    scene.server.up();
    scene.becomes(1, "b", RECOVERY)?;
    scene.becomes(3, "b", SOON)?;
    scene.vanishes(2, SOON)?;
    scene.watched(RECOVERY)?;
    let recovered = age()?;
    ensure!(recovered < after, "the age does not shrink: {after} s, then {recovered} s");
    Ok(())
}

pub(crate) fn restored() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    for number in 1..=4 {
        scene.service(number, &["a"])?;
    }
    let _proxy = scene.start()?;
    for number in 1..=4 {
        scene.answered_by(number, "a")?;
    }
    // The backup is older than Service 4, has other endpoints of 1, a Service more, and lower
    // versions.
    scene.server.down();
    scene.delete(4)?;
    scene.endpoints(1, &["b"])?;
    scene.service(5, &["b"])?;
    scene.server.restore(10);
    scene.server.boot(Starting::Initializing);
    scene.server.ready();
    scene.becomes(1, "b", NOTICED)?;
    scene.becomes(5, "b", SOON)?;
    scene.vanishes(4, SOON)?;
    scene.answered_by(2, "a")?;
    // And it is followed from there.
    scene.endpoints(2, &["b"])?;
    scene.becomes(2, "b", SOON)
}

pub(crate) fn restarted() -> anyhow::Result<()> {
    for starting in [Starting::Forbidden, Starting::Initializing] {
        let scene = Scene::new()?;
        scene.service(1, &["a"])?;
        let _proxy = scene.start()?;
        scene.watched(SOON)?;
        scene.server.down();
        let down = Instant::now();
        scene.endpoints(1, &["b"])?;
        // Long enough for pauses to grow. What was known stays in force.
        while down.elapsed() < Duration::from_secs(5) {
            scene.answered_by(1, "a")?;
        }
        let before = scene.server.look(|state| state.requests().len());
        scene.server.boot(starting);
        // The proxy asks, and is refused, more than once.
        scene.server_sees("requests", SOON, |state| state.requests().len() >= before + 2)?;
        scene.answered_by(1, "a")?;
        scene.server.ready();
        let ready = Instant::now();
        scene.becomes(1, "b", RECOVERY)?;
        ensure!(ready.elapsed() < BEHIND, "{starting:?}: {:?} behind the server", ready.elapsed());
        scene.watched(SOON)?;
    }
    Ok(())
}

pub(crate) fn killed_in_a_storm() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    for number in 1..=50 {
        scene.service(number, &["a"])?;
    }
    let mut proxy = scene.start()?;
    let storm = |turn: usize| -> anyhow::Result<()> {
        let pod = if turn.is_multiple_of(2) { "b" } else { "a" };
        (1..=50).try_for_each(|number| scene.endpoints(number, &[pod]))
    };
    for turn in 0..5 {
        for _ in 0..5 {
            storm(turn)?;
        }
        proxy.kill();
        // What was in force last is in force: every Service answers.
        for number in [1, 25, 50] {
            let outcome = scene.ask(number)?;
            ensure!(outcome.pod().is_some(), "turn {turn}: Service {number} after the kill: {outcome}");
        }
        storm(turn + 1)?;
        proxy = scene.begin()?;
        storm(turn)?;
        proxy.wait_until_ready(SOON)?;
    }
    scene.settle()?;
    for number in 1..=50 {
        scene.answered_by(number, "b")?;
    }
    Ok(())
}

pub(crate) fn overloaded() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    scene.service(1, &["a"])?;
    scene.server.answer_next(2, Some(Resource::Services), 429, Some(2));
    scene.server.answer_next(1, Some(Resource::EndpointSlices), 503, Some(1));
    scene.server.answer_next(1, Some(Resource::EndpointSlices), 500, None);
    let mut proxy = scene.begin()?;
    proxy.wait_until_ready(RECOVERY)?;
    scene.answered_by(1, "a")?;
    let asked: Vec<Instant> = scene.server.look(|state| {
        let requests = state.requests().iter();
        requests
            .filter(|request| request.resource == Some(Resource::Services))
            .map(|request| request.at)
            .collect()
    });
    for pair in asked.windows(2).take(2) {
        let pause = pair[1] - pair[0];
        ensure!(
            pause >= Duration::from_secs(2),
            "asked again after {pause:?}, not after the 2 s that the server asked for"
        );
    }
    Ok(())
}
