//! Follows an API server and prints each update: `KUBECONFIG=... cargo run -p portolan-kubernetes
//! --example follow -- NODE-NAME [SNAPSHOT]`.
//!
//! Ends when nothing has changed for a minute.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use portolan_kubernetes::{Followed, Options, start};
use portolan_service::Catalog;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let options = Options {
        kubeconfig: std::env::var_os("KUBECONFIG").map(Into::into),
        master: None,
        qps: 5.0,
        burst: 10,
        node_name: arguments.next().ok_or("which node? give its name")?.into(),
        followed: Followed::default(),
        snapshot: arguments.next().map(Into::into),
    };
    let begun = Instant::now();
    let (sender, updates) = channel();
    let source = start(options, move |update| drop(sender.send(update)))?;
    let mut catalog = Catalog::default();
    while let Ok(update) = updates.recv_timeout(Duration::from_mins(1)) {
        let (count, delay) = (update.changes.len(), update.received.elapsed());
        for change in update.changes {
            catalog.apply(change);
        }
        let memory = std::fs::read_to_string("/proc/self/status")?;
        let memory: Vec<&str> =
            memory.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM")).collect();
        println!(
            "{:?} after the start: {:?}, {count} changes, {} problems, networks {:?}, {delay:?} after the first byte; {memory:?}",
            begun.elapsed(),
            update.origin,
            update.problems.len(),
            update.service_networks,
        );
    }
    println!("{:#?}", source.status().report());
    Ok(())
}
