//! What the proxy knows when it starts and the API server does not answer.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use portolan_apiserver::Credentials;
use portolan_kubernetes::snapshot::read;
use portolan_tests::proxy::Launch;

use crate::scene::{RECOVERY, SOON, Scene};

fn path(launch: &Launch) -> PathBuf {
    launch.state.join("cluster.snapshot")
}

/// Waits until the snapshot holds this endpoint list: it is written a second after a change.
fn written(scene: &Scene, number: u8, address: &str) -> anyhow::Result<()> {
    let path = path(&scene.launch(&Credentials::None)?);
    let deadline = Instant::now() + SOON;
    loop {
        let mut last = String::new();
        if path.exists() {
            read(&path, |entry| {
                if entry.name == format!("s{number}-1") {
                    last = String::from_utf8_lossy(entry.json).into_owned();
                }
            })?;
        }
        if last.contains(address) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the snapshot has no {address} for Service {number}: {last:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Two Services, of which the second came as a change, are known from before.
fn known(scene: &Scene) -> anyhow::Result<()> {
    scene.service(1, &["a"])?;
    let mut proxy = scene.start()?;
    scene.service(2, &["b"])?;
    scene.becomes(2, "b", SOON)?;
    written(scene, 2, "10.244.1.12")?;
    proxy.kill();
    Ok(())
}

pub(crate) fn boots_the_node() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    known(&scene)?;
    scene.server.down();
    // A reboot leaves no rules.
    let launch = scene.launch(&Credentials::None)?;
    let (code, output) = launch.cleanup(scene.node())?;
    ensure!(code == Some(0), "cleanup: {output}");
    ensure!(scene.ask(1)?.pod().is_none(), "rules are left");

    let mut proxy = scene.begin()?;
    proxy.wait_until_ready(RECOVERY)?;
    scene.answered_by(1, "a")?;
    scene.answered_by(2, "b")?;
    proxy.wait_for_log("from the snapshot", SOON)?;
    let (_, body) = scene.health()?;
    ensure!(body["view"]["source"] == "snapshot" && body["view"]["snapshotTaken"].is_string(), "{body}");

    // When the server is back, the difference is applied.
    scene.endpoints(1, &["b"])?;
    scene.delete(2)?;
    scene.server.up();
    scene.becomes(1, "b", RECOVERY)?;
    scene.vanishes(2, SOON)?;
    let (status, body) = scene.health()?;
    ensure!(status == 200 && body["view"]["source"] == "api", "{status} {body}");

    // What was learnt since is what the next start without a server knows.
    written(&scene, 1, "10.244.1.12")?;
    proxy.kill();
    scene.server.down();
    let mut proxy = scene.begin()?;
    proxy.wait_until_ready(RECOVERY)?;
    scene.answered_by(1, "b")?;
    ensure!(scene.ask(2)?.pod().is_none(), "a Service that was deleted came back from the snapshot");
    Ok(())
}

pub(crate) fn damaged() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    known(&scene)?;
    scene.server.down();
    let path = path(&scene.launch(&Credentials::None)?);
    let mut bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    // In the header: a format that nobody knows.
    bytes[8] ^= 0xff;
    fs::write(&path, bytes)?;
    let mut proxy = scene.begin()?;
    proxy.wait_for_log("its format is", RECOVERY)?;
    scene.server.up();
    proxy.wait_until_ready(RECOVERY)?;
    scene.answered_by(1, "a")?;
    scene.answered_by(2, "b")
}

/// The disk runs full while the first state is written.
pub(crate) fn full_disk() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    scene.server.load(portolan_apiserver::scale::cluster(500, 1).objects())?;
    scene.service(1, &["a"])?;
    let mut launch = scene.launch(&Credentials::None)?;
    launch.state = scene.file("small");
    fs::create_dir(&launch.state)?;
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "none"]).arg(&launch.state).status()?;
    ensure!(mounted.success(), "mount: {mounted}");
    let proxy = launch.start(scene.node())?;
    proxy.wait_for_log("the last good state can no longer be kept", SOON)?;
    scene.endpoints(1, &["b"])?;
    scene.becomes(1, "b", SOON)?;
    let warnings = proxy.log().matches("the last good state").count();
    ensure!(warnings == 1, "{warnings} warnings of the same{}", proxy.last_lines());
    ensure!(!path(&launch).exists(), "an incomplete snapshot is in force");
    Ok(())
}

pub(crate) fn no_disk() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    scene.service(1, &["a"])?;
    let mut launch = scene.launch(&Credentials::None)?;
    // Nobody, not even root, can make a folder there.
    launch.state = "/proc/self/fdinfo/none".into();
    let proxy = launch.start(scene.node())?;
    proxy.wait_for_log("the last good state cannot be kept", SOON)?;
    scene.answered_by(1, "a")?;
    scene.endpoints(1, &["b"])?;
    scene.becomes(1, "b", SOON)
}
