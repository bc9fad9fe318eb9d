//! Others at our tables, ours beside others', and what `check` and `cleanup` do.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use portolan_lab::netns::Namespace;
use portolan_netfilter::nft::TableFamily;
use portolan_service::{Family, Protocol};
use portolan_tests::ask::{self, Outcome};

use crate::case::{Mode, Setting};
use crate::chains;
use crate::fixture::PORT;
use crate::scene::{PLAIN, SOON, Scene, cluster_ip, eventually, plain, when_busy};
use crate::tables::{self, ours};

const NUMBER: u8 = 1;

fn scene(mode: Mode) -> anyhow::Result<Scene> {
    let scene = Scene::new(mode)?;
    scene.service("mended", &plain("mended", NUMBER).affinity(10_800))?;
    scene.endpoints("mended", PLAIN, &["a1", "b1"])?;
    scene.settle()?;
    Ok(scene)
}

fn to(family: TableFamily) -> SocketAddr {
    let family = match family {
        TableFamily::Ip => Family::V4,
        TableFamily::Ip6 => Family::V6,
    };
    SocketAddr::new(cluster_ip(NUMBER, family), PORT)
}

/// What someone does to our tables.
type Damage = fn(&Namespace, TableFamily) -> anyhow::Result<()>;

/// The ways to damage them.
#[rustfmt::skip]
pub(crate) const DAMAGES: &[(&str, Damage)] = &[
    ("delete table", |node, family| tables::commit(node, move |batch| batch.delete_table(ours(family)))),
    ("flush table", |node, family| tables::commit(node, move |batch| batch.flush_rules(ours(family)))),
    ("flush chain", |node, family| tables::commit(node, move |batch| batch.flush_chain(ours(family), "nat-prerouting"))),
    ("delete chain", |node, family| tables::commit(node, move |batch| {
        batch.flush_chain(ours(family), "nat-prerouting");
        batch.delete_chain(ours(family), "nat-prerouting");
    })),
    ("flush map", |node, family| tables::commit(node, move |batch| batch.flush_set(ours(family), "endpoints"))),
    ("delete element", |node, family| tables::delete_an_element(node, ours(family), "cluster-ips")),
];

/// What was damaged is whole again within a second, and the log says what was found.
pub(crate) fn mended(damage: Damage, family: TableFamily) -> anyhow::Result<()> {
    let within = Duration::from_secs(1);
    repaired(Mode::Nftables, family, within, |node| contents(node, family), |node| damage(node, family))
}

/// The same of chains, whose tools take their time.
pub(crate) fn chains_mended(mode: Mode, damage: chains::ChainDamage, family: Family) -> anyhow::Result<()> {
    let within = Duration::from_secs(4);
    let table = match family {
        Family::V4 => TableFamily::Ip,
        Family::V6 => TableFamily::Ip6,
    };
    let contents = |node: &Namespace| chains::contents(node, family);
    repaired(mode, table, within, contents, |node| chains::damage(node, family, damage))
}

fn repaired(
    mode: Mode,
    family: TableFamily,
    within: Duration,
    contents: impl Fn(&Namespace) -> anyhow::Result<String>,
    damage: impl FnOnce(&Namespace) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let scene = scene(mode)?;
    let node = scene.site.node("host1");
    let whole = contents(node)?;
    let begun = Instant::now();
    // That something was damaged shows in the log, below: here it may be whole again already.
    damage(node)?;
    eventually(within * 3, || {
        let now = contents(node)?;
        if now == whole { Ok(()) } else { Err(anyhow!("the rules are {now}\nnot {whole}")) }
    })?;
    let took = begun.elapsed();
    let within = when_busy(within);
    ensure!(took < within, "mended after {took:?}, not within {within:?}");
    let outcome = scene.ask("client-a", Protocol::Tcp, to(family))?;
    ensure!(outcome.pod().is_some(), "after the repair: {outcome}");
    scene.site.proxy("host1")?.wait_for_log("changed by someone else", SOON)?;
    Ok(())
}

/// Names and sizes of all that is ours, as the kernel lists it; not what packets change.
fn contents(node: &Namespace, family: TableFamily) -> anyhow::Result<String> {
    tables::with_socket(node, |socket| {
        let table = ours(family);
        let mut chains: Vec<_> = socket.chains(table)?.into_iter().map(|chain| chain.name).collect();
        chains.sort();
        let mut rules: Vec<_> = socket
            .rules(table)?
            .into_iter()
            .map(|rule| format!("{}: {:?}", rule.chain, rule.exprs))
            .collect();
        rules.sort();
        let mut elements = Vec::new();
        let mut sets: Vec<_> = socket.sets(table)?.into_iter().map(|set| set.name).collect();
        sets.sort();
        for set in sets.iter().filter(|set| !set.starts_with("affinity/")) {
            socket.elements(table, set, |element| {
                elements.push(format!("{set}: {:?} {:?}", element.key, element.data));
            })?;
        }
        elements.sort();
        Ok(format!("{chains:#?} {rules:#?} {sets:#?} {elements:#?}"))
    })
}

/// Other programs' tables, chains and rules stay as they are, whatever the proxy does.
pub(crate) fn foreign_tables_stay(mode: Mode) -> anyhow::Result<()> {
    let mut scene = scene(mode)?;
    let node = scene.site.node("host1");
    tables::install_foreign(node)?;
    let variant = match mode {
        Mode::Nftables | Mode::Ipvs | Mode::Userspace => None,
        Mode::Iptables | Mode::Portals => {
            chains::install_foreign(node)?;
            Some(chains::variant(node)?)
        }
    };
    let foreign = |scene: &Scene| {
        let node = scene.site.node("host1");
        let rules = variant.map_or_else(|| Ok(String::new()), |variant| chains::foreign(node, variant))?;
        anyhow::Ok(format!("{}\n{rules}", tables::foreign(node)?))
    };
    let before = foreign(&scene)?;
    ensure!(!mode.has_chains() || before.contains("DOCKER-USER"), "nothing was installed: {before}");
    let unchanged = |scene: &Scene, when: &str| {
        let now = foreign(scene)?;
        ensure!(now == before, "after {when} the foreign rules are {now}, were {before}");
        anyhow::Ok(())
    };
    scene.endpoints("mended", PLAIN, &["a1"])?;
    scene.settle()?;
    unchanged(&scene, "a change")?;
    scene.site.restart_proxy("host1")?;
    unchanged(&scene, "a restart")?;
    match mode {
        Mode::Nftables | Mode::Ipvs | Mode::Userspace => {
            tables::commit(scene.site.node("host1"), |batch| batch.delete_table(ours(TableFamily::Ip)))?;
        }
        Mode::Iptables | Mode::Portals => {
            let damage: chains::ChainDamage = match mode {
                Mode::Portals => &["-t", "nat", "-F", "KUBE-PORTALS-CONTAINER"],
                _ => &["-t", "nat", "-F", "KUBE-SERVICES"],
            };
            chains::damage(scene.site.node("host1"), Family::V4, damage)?;
        }
    }
    scene.await_outcome("client-a", Protocol::Tcp, to(TableFamily::Ip), |outcome| outcome.pod().is_some())?;
    unchanged(&scene, "a repair")?;
    scene.site.stop_proxy("host1");
    let launch = scene.site.launch("host1", mode.flags(Setting::Default));
    let (code, output) = launch.cleanup(scene.site.node("host1"))?;
    ensure!(code == Some(0), "cleanup: {code:?} {output}");
    unchanged(&scene, "cleanup")
}

/// `cleanup` leaves nothing behind, with and without something to clean.
pub(crate) fn cleanup_leaves_nothing(mode: Mode) -> anyhow::Result<()> {
    let mut scene = scene(mode)?;
    let launch = scene.site.launch("host1", mode.flags(Setting::Default));
    scene.site.stop_proxy("host1");
    // The rules outlive the proxy ...
    if !mode.has_sockets() {
        let left = scene.ask("client-a", Protocol::Tcp, to(TableFamily::Ip))?;
        ensure!(left.pod().is_some(), "without the proxy: {left}");
    }
    let variant = match mode {
        Mode::Nftables | Mode::Ipvs | Mode::Userspace => None,
        Mode::Iptables | Mode::Portals => Some(chains::variant(scene.site.node("host1"))?),
    };
    for attempt in ["first", "second"] {
        let (code, output) = launch.cleanup(scene.site.node("host1"))?;
        ensure!(code == Some(0), "{attempt} cleanup: {code:?} {output}");
        // It says what it removed.
        let part = match (attempt, mode) {
            ("first", Mode::Nftables | Mode::Ipvs | Mode::Userspace) => "table ip portolan",
            ("first", Mode::Iptables | Mode::Portals) => "IPv4",
            _ => "nothing of Portolan's is left",
        };
        ensure!(output.contains(part), "{attempt} cleanup: it does not print {part:?}: {output}");
        // ... until they are cleaned up.
        let names = match variant {
            None => tables::table_names(scene.site.node("host1"))?,
            // The tables themselves belong to whoever uses iptables.
            Some(variant) => chains::leftovers(scene.site.node("host1"), variant)?,
        };
        ensure!(names.is_empty(), "after the {attempt} cleanup there are {names:?}");
    }
    let outcome = scene
        .site
        .pod("client-a")
        .run(|| ask::ask(Protocol::Tcp, to(TableFamily::Ip), None, ask::SILENCE))?;
    ensure!(outcome.pod().is_none(), "after cleanup {outcome}");
    Ok(())
}

/// `check` says what would change and changes nothing.
pub(crate) fn check_changes_nothing(mode: Mode) -> anyhow::Result<()> {
    let mut scene = scene(mode)?;
    let launch = scene.site.launch("host1", mode.flags(Setting::Default));
    scene.site.stop_proxy("host1");
    let node = scene.site.node("host1");
    let state = || {
        let rules = match mode {
            Mode::Nftables | Mode::Ipvs | Mode::Userspace => String::new(),
            Mode::Iptables | Mode::Portals => Family::ALL
                .map(|family| chains::contents(node, family))
                .into_iter()
                .collect::<Result<_, _>>()?,
        };
        anyhow::Ok((tables::generation(node)?, rules))
    };
    let before = state()?;
    let (code, output) = launch.check(node)?;
    ensure!(
        code == Some(0) && output.contains("nothing would change"),
        "with nothing to do: {code:?} {output}"
    );
    scene.endpoints("mended", PLAIN, &["a1"])?;
    scene.service("added", &plain("added", NUMBER + 1))?;
    scene.endpoints("added", PLAIN, &["a1"])?;
    let (code, output) = launch.check(node)?;
    ensure!(code == Some(0) && output.contains("default/added"), "with a new Service: {code:?} {output}");
    ensure!(!output.contains("nothing would change"), "with changes to do: {output}");
    scene
        .site
        .manifests()
        .write_text("broken.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: UPPER}\n")?;
    let (code, output) = launch.check(node)?;
    ensure!(code == Some(1) && output.contains("broken.yaml"), "with a bad file: {code:?} {output}");
    ensure!(state()? == before, "check changed something");
    if mode.has_sockets() {
        return Ok(());
    }
    let outcome = scene.ask("client-a", Protocol::Tcp, to(TableFamily::Ip))?;
    ensure!(matches!(outcome, Outcome::Answered(_)), "after check: {outcome}");
    Ok(())
}
