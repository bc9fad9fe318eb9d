//! Which modules of a kernel the guest gets.

use std::collections::{BTreeMap, BTreeSet};

/// Folders, or beginnings of modules' names, below a kernel's `kernel/`: what a service proxy and
/// its tests may ask for, and the channel to the host.
const CHOSEN: &[&str] = &[
    "drivers/char/virtio_console.",
    "drivers/net/dummy.",
    "drivers/net/geneve.",
    "drivers/net/ifb.",
    "drivers/net/ipvlan/",
    "drivers/net/macvlan.",
    "drivers/net/nlmon.",
    "drivers/net/tap.",
    "drivers/net/tun.",
    "drivers/net/veth.",
    "drivers/net/virtio_net.",
    "drivers/net/vrf.",
    "drivers/net/vxlan/",
    "drivers/net/wireguard/",
    "drivers/virtio/",
    "fs/fuse/",
    "fs/overlayfs/",
    // The checksums of SCTP.
    "arch/x86/crypto/crc32c",
    "crypto/crc32c",
    "net/8021q/",
    "net/bridge/",
    "net/core/",
    "net/ipv4/",
    "net/ipv6/",
    "net/netfilter/",
    "net/netlink/",
    "net/packet/",
    "net/sched/",
    "net/sctp/",
    "net/tls/",
    "net/unix/",
    "net/xfrm/",
];

/// Of the modules in a `modules.dep` (depmod(8)), those that the guest gets: what [`CHOSEN`] names,
/// and all that they need.
pub(crate) fn chosen(modules_dep: &str) -> BTreeSet<&str> {
    let lines = modules_dep.lines().filter_map(|line| line.split_once(':'));
    let needs: BTreeMap<&str, &str> = lines.collect();
    let is_chosen = |module: &&str| {
        let below = module.strip_prefix("kernel/").unwrap_or(module);
        CHOSEN.iter().any(|chosen| below.starts_with(chosen))
    };
    // depmod lists what a module needs directly and through others.
    needs
        .iter()
        .filter(|(module, _)| is_chosen(module))
        .flat_map(|(module, needed)| needed.split_whitespace().chain([*module]))
        .collect()
}
