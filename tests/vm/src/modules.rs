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

/// Modules that are loaded before the program starts. Others load on demand, but each costs a
/// transaction of nftables a start of modprobe, and of two hundred milliseconds where the processor
/// is emulated. iptables-legacy loads its own, which it may not do in a user namespace.
pub(crate) const LOADED: &[&str] = &[
    "bridge",
    "ip6_tables",
    "ip_tables",
    "nf_conntrack_netlink",
    "nf_tables",
    "nft_chain_nat",
    "nft_ct",
    "nft_fib_ipv4",
    "nft_fib_ipv6",
    "nft_masq",
    "nft_nat",
    "nft_numgen",
    "nft_redir",
    "nft_reject_ipv4",
    "nft_reject_ipv6",
    "veth",
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

/// The lines of a `modules.dep` that are about `modules`.
pub(crate) fn dependencies_of(modules: &BTreeSet<&str>, modules_dep: &str) -> String {
    let is_kept = |line: &&str| line.split(':').next().is_some_and(|module| modules.contains(module));
    modules_dep.split_inclusive('\n').filter(is_kept).collect()
}

/// The lines `alias PATTERN MODULE` of a `modules.alias` that lead to `modules`.
pub(crate) fn aliases_of(modules: &BTreeSet<&str>, modules_alias: &str) -> String {
    let names: BTreeSet<String> = modules.iter().map(|path| name(path)).collect();
    let is_kept = |line: &&str| line.split_whitespace().nth(2).is_some_and(|module| names.contains(module));
    modules_alias.split_inclusive('\n').filter(is_kept).collect()
}

/// A module's name, by its file.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULES_DEP: &str = "\
kernel/net/netfilter/ipvs/ip_vs.ko: kernel/net/netfilter/nf_conntrack.ko kernel/lib/libcrc32c.ko
kernel/net/netfilter/nf_conntrack.ko: kernel/lib/libcrc32c.ko
kernel/lib/libcrc32c.ko:
kernel/drivers/net/dummy.ko:
kernel/drivers/net/dummy_of_another_kind.ko:
kernel/sound/soundcore.ko:
";

    #[test]
    fn a_module_comes_with_what_it_needs() {
        let expected = [
            "kernel/drivers/net/dummy.ko",
            "kernel/lib/libcrc32c.ko",
            "kernel/net/netfilter/ipvs/ip_vs.ko",
            "kernel/net/netfilter/nf_conntrack.ko",
        ];
        assert_eq!(chosen(MODULES_DEP), BTreeSet::from(expected));
    }

    #[test]
    fn lists_are_of_these_modules_alone() {
        let chosen = chosen(MODULES_DEP);
        assert!(!dependencies_of(&chosen, MODULES_DEP).contains("sound"));
        assert_eq!(dependencies_of(&chosen, MODULES_DEP).lines().count(), 4);
        let aliases = "# Aliases\nalias rtnl-link-dummy dummy\nalias char-major-14-* soundcore\n";
        assert_eq!(aliases_of(&chosen, aliases), "alias rtnl-link-dummy dummy\n");
        assert_eq!(name("kernel/crypto/crc32c-generic.ko"), "crc32c_generic");
    }
}
