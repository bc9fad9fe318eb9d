//! How long IPVS remembers connections.

use anyhow::ensure;

use crate::case::{Mode, Setting};
use crate::kube_proxy_ipvs::run;
use crate::scene::Scene;

/// What is configured is in the kernel, and what is not stays as it was.
pub(crate) fn are_set() -> anyhow::Result<()> {
    let scene = Scene::with_flags(
        Mode::Ipvs,
        Setting::Default,
        &["--ipvs-tcp-timeout=1000s", "--ipvs-udp-timeout=7s"],
    )?;
    scene.settle()?;
    let listed = run(scene.site.node("host1"), "ipvsadm", &["-L", "--timeout"], "")?;
    ensure!(listed.trim() == "Timeout (tcp tcpfin udp): 1000 120 7", "{listed}");
    Ok(())
}
