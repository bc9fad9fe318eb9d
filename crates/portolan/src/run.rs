//! `portolan run`: follows a cluster, or a folder of manifests, and keeps the kernel to it until it
//! is stopped.
//!
//! Threads wait, for objects, for interface addresses and for whoever asks; the main thread owns
//! the proxy and everything that changes. Stopping the process at any moment leaves the rules in
//! force (spec §11.22).

mod event_loop;
mod start;

use anyhow::{anyhow, bail};
use portolan_config::Config;
use portolan_dataplane::{MODES, ModeDescriptor};
use portolan_observe::BuildInfo;
use tracing::info;

use self::start::apply_settings;
use crate::cli::RunArgs;
use crate::ready_fd::ReadyFd;
use crate::{
    cleanup, configuration, kernel_settings, logging, process_one, requirements, signals, this_node,
};

/// Runs until it is asked to end, or does the one thing that flags ask for. Otherwise it returns
/// only errors that nothing can be done about.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<()> {
    // Before anything else opens a descriptor, and before there is a second process that has it.
    let ready = args.ready_fd.map(ReadyFd::take).transpose()?;
    let ready = process_one::leave(ready)?;
    // What answers names catches its panics: one question is lost, and no other.
    signals::end_on_panic(|thread| thread.starts_with("dns-"), "the rules stay in force");
    if let Some(form) = &args.version {
        return print_version(form);
    }
    let flags = &args.proxy.flags;
    one_source(args)?;
    let (loaded, file) = configuration::load(flags)?;
    let config = &loaded.config;
    logging::start(config.logging.verbosity, config.logging.format);
    configuration::log(&loaded.notes);
    if let Some(path) = flags.write_to() {
        return configuration::write(config, path);
    }
    if flags.cleanup == Some(true) {
        cleanup::own(|line| info!("{line}"))?;
        return cleanup::kube_proxy(|line| info!("{line}"));
    }
    let mode = mode(config)?;
    let name = this_node::name(config)?;
    info!("portolan {} for node {name}, mode {}", env!("CARGO_PKG_VERSION"), config.mode);
    if flags.init_only == Some(true) {
        apply_settings(args, config, mode);
        (mode.load)();
        kernel_settings::apply_sysctls(&this_node::sysctls(mode, config));
        return Ok(());
    }
    requirements::check(args, config)?;
    start::forward(args, &loaded, mode, file, &name, ready)
}

/// The mode that is configured.
pub(crate) fn mode(config: &Config) -> anyhow::Result<&'static ModeDescriptor> {
    portolan_dataplane::named(config.mode.name()).ok_or_else(|| {
        let modes: Vec<&str> = MODES.iter().map(|mode| mode.name).collect();
        anyhow!(
            "mode {} is not available in this version: leave the mode empty or set {}",
            config.mode,
            modes.join(" or ")
        )
    })
}

/// A folder of manifests stands in place of a cluster.
fn one_source(args: &RunArgs) -> anyhow::Result<()> {
    let flags = &args.proxy.flags;
    let kubeconfig = flags.kubeconfig.as_ref().is_some_and(|path| !path.as_os_str().is_empty());
    let master = flags.master.as_ref().is_some_and(|url| !url.is_empty());
    let other = [("--kubeconfig", kubeconfig), ("--master", master)].into_iter().find(|(_, given)| *given);
    match (args.manifests(), other) {
        (Some(_), Some((flag, _))) => bail!(
            "--manifests and {flag} exclude each other: objects come from the folder or from the cluster; leave one out"
        ),
        _ => Ok(()),
    }
}

fn print_version(form: &str) -> anyhow::Result<()> {
    match form {
        "true" => println!("Kubernetes v{} (Portolan)", env!("CARGO_PKG_VERSION")),
        "raw" => println!("{:#?}", BuildInfo::new(env!("CARGO_PKG_VERSION"))),
        other => bail!("--version={other}: give true or raw"),
    }
    Ok(())
}
