//! Load-balancer addresses on a local network: real ARP and Neighbour Discovery between nodes that
//! run the program and a machine outside.

mod bgp;
mod network;

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use portolan_tests::harness;

use crate::network::{ADDRESSES, Change, NODES, Network};

/// From the moment when a node is gone to the first connection that is answered, at the default.
const FAILOVER: Duration = Duration::from_secs(2);
/// What takes no time at all may take so long on a machine that is busy.
const AT_ONCE: Duration = Duration::from_millis(800);

fn main() -> ExitCode {
    let trials = vec![
        trial("one node answers for an address", one_answers),
        trial("another takes over when a node dies", || taken_over(0)),
        trial("another takes over when a node dies, and one frame in a hundred is lost", || taken_over(1)),
        trial("another takes over when a proxy is killed", proxy_killed),
        trial("another takes over at once when a proxy ends", proxy_ends),
        trial("an address follows its endpoints under policy Local", follows_endpoints),
        trial("a node that is excluded has no address", excluded),
        trial("a stranger with the same address is reported", stranger),
        trial("a routing daemon announces what is in the routing table", bgp::announced_by_bird),
        trial("two clusters on one wire do not hear each other", two_clusters),
    ];
    harness::run("announced", 4, trials)
}

fn trial(name: &str, test: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> Trial {
    harness::trial(name, test)
}

/// An address, and the node that has it.
fn first() -> anyhow::Result<(IpAddr, &'static str)> {
    let (address, holder) = ADDRESSES[0];
    Ok((address.parse()?, holder))
}

/// The connection that is open while the address moves is lost, and no other.
fn few_failures(network: &Network) -> anyhow::Result<()> {
    ensure!(network.failures() <= 1, "{} connections failed meanwhile", network.failures());
    Ok(())
}

fn one_answers() -> anyhow::Result<()> {
    let network = Network::build(&NODES, "one key for all of them")?;
    for (address, holder) in ADDRESSES {
        let address: IpAddr = address.parse()?;
        network.until_held_by(address, holder)?;
        for _ in 0..20 {
            network.forget(address)?;
            let node = network.answering(address)?.context("no answer")?;
            ensure!(node == holder, "{address}: {node} and not {holder}");
        }
        let said = network.said(address)?;
        ensure!(said.iter().all(|node| node.as_deref() == Some(holder)), "{address}: {said:?}");
    }
    Ok(())
}

/// Of a hundred frames, `loss` are lost on their way to each node.
fn taken_over(loss: u32) -> anyhow::Result<()> {
    let mut network = Network::build(&NODES, "one key for all of them")?;
    network.lose(loss)?;
    for (address, holder) in ADDRESSES {
        let address: IpAddr = address.parse()?;
        network.until_held_by(address, holder)?;
        network.change(holder, Change::Dies)?;
        let took = network.until_another(address, holder)?;
        ensure!(took < FAILOVER, "{address}: another node answers {took:.1?} after {holder} died");
        network.change(holder, Change::Revives)?;
        network.until_held_by(address, holder)?;
    }
    Ok(())
}

fn proxy_killed() -> anyhow::Result<()> {
    let mut network = Network::build(&NODES, "one key for all of them")?;
    let (address, holder) = first()?;
    network.until_held_by(address, holder)?;
    network.change(holder, Change::ProxyKilled)?;
    // Its rules are in force, so that clients who have learnt its hardware address are served by it
    // until they learn another one.
    let took = network.until_another(address, holder)?;
    ensure!(took < FAILOVER, "another node answers {took:.1?} after the proxy was killed");
    few_failures(&network)?;
    Ok(())
}

fn proxy_ends() -> anyhow::Result<()> {
    let mut network = Network::build(&NODES, "one key for all of them")?;
    let (address, holder) = first()?;
    network.until_held_by(address, holder)?;
    network.change(holder, Change::ProxyEnds)?;
    let took = network.until_another(address, holder)?;
    ensure!(took < AT_ONCE, "another node answers {took:.1?} after the proxy was asked to end");
    few_failures(&network)?;
    Ok(())
}

fn follows_endpoints() -> anyhow::Result<()> {
    let network = Network::build(&NODES, "one key for all of them")?;
    let (address, holder) = first()?;
    network.until_held_by(address, holder)?;
    for node in NODES {
        network.endpoints(&[node])?;
        network.until_held_by(address, node)?;
    }
    network.endpoints(&[])?;
    network.until_nobody(address)
}

fn excluded() -> anyhow::Result<()> {
    let network = Network::build(&NODES, "one key for all of them")?;
    let (address, holder) = first()?;
    network.until_held_by(address, holder)?;
    network.exclude(holder)?;
    let took = network.until_another(address, holder)?;
    ensure!(took < FAILOVER, "another node answers {took:.1?} after {holder} was excluded");
    few_failures(&network)?;
    Ok(())
}

fn stranger() -> anyhow::Result<()> {
    let network = Network::build(&NODES, "one key for all of them")?;
    let (address, holder) = first()?;
    network.until_held_by(address, holder)?;
    network.claim_outside(address)?;
    let line = network.log(holder, "also announced by")?;
    ensure!(line.contains(&address.to_string()), "{line}");
    Ok(())
}

fn two_clusters() -> anyhow::Result<()> {
    let mut network = Network::build(&NODES[..1], "the key of one cluster")?;
    network.until_held_by(first()?.0, NODES[0])?;
    network.start(NODES[1], "the key of another")?;
    // Each believes that it is alone, and both say that the other is there.
    for (node, other) in [(NODES[0], NODES[1]), (NODES[1], NODES[0])] {
        network.log(node, "also announced by")?;
        let log = network.whole_log(node);
        ensure!(!log.contains(&format!("node {other} is heard")), "{node}: {log}");
    }
    Ok(())
}
