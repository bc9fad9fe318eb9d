//! The schedulers of IPVS that Services ask for (docs/ipvs.md).

use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, ensure};
use portolan_netfilter::ipvs::{Ipvs, Scheduling, ServerKey, ServerState};
use portolan_service::{Family, Protocol};
use portolan_tests::ask::PATIENCE;

use crate::case::{Mode, Setting};
use crate::scene::{PLAIN, SOON, Scene, ask_over, cluster_ip, eventually, plain};

const OWN: &str = "portolan.dev/ipvs-scheduler";
const KUBE_ROUTER: &str = "kube-router.io/service.scheduler";
const NUMBER: u8 = 1;

/// How the virtual servers of Service `web` choose, those of both protocols and families.
fn held(scene: &Scene) -> anyhow::Result<Vec<Scheduling>> {
    let servers: Vec<ServerState> = scene.site.node("host1").run(|| Ipvs::open()?.servers())??;
    let of_web = |server: &ServerState| match server.key {
        ServerKey::Address(key) => {
            Family::ALL.map(|family| cluster_ip(NUMBER, family)).contains(&key.address)
        }
        ServerKey::Mark(..) => false,
    };
    Ok(servers.into_iter().filter(of_web).map(|server| server.scheduling).collect())
}

/// The scheduler comes, changes and goes with annotations. What is open goes on, and new clients
/// are answered by every scheduler. One that does not exist is reported once.
pub(crate) fn change_live(family: Family) -> anyhow::Result<()> {
    let scene = Scene::new(Mode::Ipvs)?;
    scene.service("web", &plain("web", NUMBER))?;
    scene.endpoints("web", PLAIN, &["a1", "b1"])?;
    let to = SocketAddr::new(cluster_ip(NUMBER, family), 80);
    scene.await_outcome("client-a", Protocol::Tcp, to, |outcome| outcome.pod().is_some())?;
    let connect = move || TcpStream::connect_timeout(&to, PATIENCE);
    let mut open = scene.site.pod("client-a").run(connect)??;
    open.set_read_timeout(Some(PATIENCE))?;
    let first = ask_over(&mut open)?;

    for (annotations, scheduler, flags) in [
        (&[][..], "rr", 0),
        (&[(OWN, "lc")], "lc", 0),
        (&[(KUBE_ROUTER, "sh")], "sh", 0x8),
        (&[(OWN, "mh"), (KUBE_ROUTER, "sh")], "mh", 0x10),
        (&[(OWN, "wrr")], "wrr", 0),
        (&[(OWN, "fastest")], "rr", 0),
        (&[(OWN, "sed")], "sed", 0),
        (&[], "rr", 0),
    ] {
        let service = annotations
            .iter()
            .fold(plain("web", NUMBER), |service, (key, value)| service.annotation(key, value));
        scene.service("web", &service)?;
        let expected = Scheduling { scheduler: scheduler.into(), flags, persistence: None };
        eventually(SOON, || {
            let held = held(&scene)?;
            ensure!(held == vec![expected.clone(); 4], "{annotations:?}: {held:?}");
            Ok(())
        })?;
        let now = ask_over(&mut open).with_context(|| format!("{annotations:?}: the open connection"))?;
        ensure!(now == first, "{annotations:?}: {now} answers in place of {first}");
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            scene.await_outcome("client-a", protocol, to, |outcome| outcome.pod().is_some())?;
        }
    }
    let log = scene.site.proxy("host1")?.log();
    let place = format!("Service default/web: metadata.annotations: {OWN}: \"fastest\" is not one of rr");
    let reported = log.lines().filter(|line| line.contains(&place) && !line.contains("solved: ")).count();
    ensure!(reported == 1, "reported {reported} times\n{log}");
    Ok(())
}

/// Where the kernel lacks the scheduler, one that heeds weights stands in from the start where
/// there are some, and where they come later.
pub(crate) fn missing_with_weights() -> anyhow::Result<()> {
    const WEIGHTS: (&str, &str) = ("portolan.dev/endpoint-weights", "10.244.1.0/24: 3, *: 2");
    let flags = ["--ipvs-scheduler=unheard-of"];
    let scene = Scene::with_flags(Mode::Ipvs, Setting::Default, &flags)?;
    let weighted = plain("web", NUMBER).annotation(WEIGHTS.0, WEIGHTS.1);
    scene.endpoints("web", PLAIN, &["a1", "b1"])?;
    let to = SocketAddr::new(cluster_ip(NUMBER, Family::V4), 80);
    for (service, expected) in [(&weighted, "wrr"), (&plain("web", NUMBER), "rr"), (&weighted, "wrr")] {
        scene.service("web", service)?;
        scene.settle()?;
        scene.await_outcome("client-a", Protocol::Tcp, to, |outcome| outcome.pod().is_some())?;
        // Without waiting: verification would put it right.
        let held: Vec<String> = held(&scene)?.into_iter().map(|held| held.scheduler).collect();
        ensure!(held == vec![expected; 4], "{held:?} and not {expected}");
    }
    let log = scene.site.proxy("host1")?.log();
    let warned = log.matches("the kernel has no IPVS scheduler \"unheard-of\"").count();
    ensure!(warned == 1, "warned {warned} times\n{log}");
    Ok(())
}

/// Least connections: an endpoint that is new gets all new connections until it has as many as the
/// others (docs/ipvs.md).
pub(crate) fn rush_to_the_new_one() -> anyhow::Result<()> {
    const EACH: usize = 15;
    let scene = Scene::new(Mode::Ipvs)?;
    scene.service("web", &plain("web", NUMBER).annotation(OWN, "lc"))?;
    scene.endpoints("web", PLAIN, &["a1", "a2"])?;
    let to = SocketAddr::new(cluster_ip(NUMBER, Family::V4), 80);
    scene.await_outcome("client-a", Protocol::Tcp, to, |outcome| outcome.pod().is_some())?;
    let mut open = Vec::new();
    let mut answers = |count: usize| -> anyhow::Result<Vec<String>> {
        let new =
            scene.site.pod("client-a").run(move || -> anyhow::Result<Vec<(TcpStream, String)>> {
                let connect = |_| {
                    let mut connection = TcpStream::connect_timeout(&to, PATIENCE)?;
                    connection.set_read_timeout(Some(PATIENCE))?;
                    let answer = ask_over(&mut connection)?;
                    // The rest names the client's port.
                    Ok((connection, answer.lines().next().unwrap_or_default().to_owned()))
                };
                (0..count).map(connect).collect()
            })??;
        let (connections, answers): (Vec<_>, Vec<_>) = new.into_iter().unzip();
        open.extend(connections);
        Ok(answers)
    };
    let old = answers(2 * EACH)?;
    scene.endpoints("web", PLAIN, &["a1", "a2", "b1"])?;
    scene.settle()?;
    let new = answers(EACH)?;
    ensure!(new.iter().all(|answer| *answer == new[0] && !old.contains(answer)), "{old:?}, then {new:?}");
    // With as many as the others, it has its share.
    let then = answers(3)?;
    ensure!(then.iter().any(|answer| *answer != new[0]), "{then:?}");
    Ok(())
}
