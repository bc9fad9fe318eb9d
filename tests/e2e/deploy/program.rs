//! The program, given what the files have.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::files::{below, items, object, objects, repository, text, texts};

/// kubeadm's configuration, as of 1.36: everything at its default but the pod network.
const KUBEADM: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: \"\"
  burst: 0
  contentType: \"\"
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: \"\"
  interfaceNamePrefix: \"\"
detectLocalMode: \"\"
enableProfiling: false
healthzBindAddress: \"\"
hostnameOverride: \"\"
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: \"\"
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
kind: KubeProxyConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: \"0\"
    text:
      infoBufferSize: \"0\"
  verbosity: 0
metricsBindAddress: \"\"
mode: \"\"
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: \"\"
showHiddenMetricsForVersion: \"\"
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: \"\"
  rootHnsEndpointName: \"\"
  sourceVip: \"\"
";

/// Runs the program, which must succeed, and returns what it logged.
pub(crate) fn succeed(program: &Path, args: &[String]) -> anyhow::Result<String> {
    let Output { status, stderr, .. } = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("starting {}", program.display()))?;
    let log = String::from_utf8_lossy(&stderr).into_owned();
    ensure!(status.success(), "{} {args:?}: {status}: {log}", program.display());
    Ok(log)
}

/// Lines of a log that an operator should do something about.
pub(crate) fn complaints(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect()
}

pub(crate) fn configurations_are_accepted() -> anyhow::Result<()> {
    let program = portolan_tests::binary::portolan()?;
    let scratch = TempDir::new()?;
    let written = scratch.path().join("written");
    let mut count = 0;
    for file in below("deploy", ".conf")? {
        if objects(&file)?[0]["kind"] != "KubeProxyConfiguration" {
            continue;
        }
        let config = format!("--config={}", repository(&file).display());
        let write = format!("--write-config-to={}", written.display());
        let log = succeed(&program, &["run".to_owned(), config, write])?;
        ensure!(complaints(&log).is_empty(), "{file}: {log}");
        ensure!(
            fs::read_to_string(&written)?.contains("KubeProxyConfiguration"),
            "{file}: nothing was written"
        );
        count += 1;
    }
    ensure!(count == 3, "{count} configurations");
    Ok(())
}

/// The container's arguments as they would be on a node, but that the configuration is `config`,
/// and is written to `written` instead of being put into force.
pub(crate) fn on_a_node(args: &[String], config: &Path, written: &Path) -> Vec<String> {
    let mut args: Vec<String> = args
        .iter()
        .map(|arg| match arg.split_once('=') {
            Some(("--config", _)) => format!("--config={}", config.display()),
            _ => arg.replace("$(NODE_NAME)", "node-1"),
        })
        .collect();
    args.push(format!("--write-config-to={}", written.display()));
    args
}

/// All containers of a pod's template.
pub(crate) fn containers(object: &Value) -> Vec<Value> {
    let pod = &object["spec"]["template"]["spec"];
    items(&pod["initContainers"]).chain(items(&pod["containers"])).cloned().collect()
}

pub(crate) fn command_lines_are_accepted() -> anyhow::Result<()> {
    let program = portolan_tests::binary::portolan()?;
    let scratch = TempDir::new()?;
    let written = scratch.path().join("written");
    let config = repository("deploy/base/config.conf");
    for container in containers(&object("deploy/base/daemonset.yaml", "DaemonSet")?) {
        succeed(&program, &on_a_node(&texts(&container["args"]), &config, &written))?;
    }
    // Of the patch, what follows the program's path.
    let patch = objects("deploy/kubeadm/kubeproxydaemonset+strategic.yaml")?.remove(0);
    for container in containers(&patch) {
        let command = texts(&container["command"]);
        let (path, args) = command.split_first().context("a patch without a command")?;
        ensure!(text("deploy/Containerfile")?.contains(path.as_str()), "the image has no {path}");
        succeed(&program, &on_a_node(args, &config, &written))?;
    }
    // This namespace is the test's own.
    let cleanup = containers(&object("deploy/cleanup/daemonset.yaml", "DaemonSet")?);
    succeed(&program, &texts(&cleanup[0]["args"]))?;
    // The unit's variants, those in comments included.
    let environment = text("deploy/systemd/portolan.env")?;
    let variants: Vec<&str> = environment
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix("PORTOLAN_OPTIONS="))
        .collect();
    ensure!(variants.len() == 2, "{variants:?}");
    let config = repository("deploy/systemd/config.conf");
    for options in variants {
        let mut args = vec!["run".to_owned()];
        args.extend(options.split_whitespace().map(str::to_owned));
        succeed(&program, &on_a_node(&args, &config, &written))?;
    }
    Ok(())
}

pub(crate) fn kubeadm() -> anyhow::Result<()> {
    let scratch = TempDir::new()?;
    let (config, written) = (scratch.path().join("config.conf"), scratch.path().join("written"));
    fs::write(&config, KUBEADM)?;
    // As in the image: a link beside the program.
    let program = scratch.path().join("kube-proxy");
    std::os::unix::fs::symlink(portolan_tests::binary::portolan()?.canonicalize()?, &program)?;
    let command = ["--config=/var/lib/kube-proxy/config.conf", "--hostname-override=$(NODE_NAME)"];
    let args = on_a_node(&command.map(str::to_owned), &config, &written);
    let log = succeed(&program, &args)?;
    ensure!(complaints(&log).is_empty(), "kubeadm's own configuration: {log}");
    let written = fs::read_to_string(&written)?;
    ensure!(written.contains("node-1") && written.contains("10.244.0.0/16"), "{written}");
    Ok(())
}
