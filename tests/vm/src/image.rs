//! What every guest has.

use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::files::Files;
use crate::kernel::Kernel;
use crate::{modules, tool};

/// Programs that tests of a service proxy run, as far as this machine has them.
const PROGRAMS: &[&str] = &[
    "bash",
    "conntrack",
    "curl",
    "ip",
    "ip6tables",
    "ip6tables-legacy",
    "ip6tables-legacy-restore",
    "ip6tables-legacy-save",
    "ip6tables-nft",
    "ip6tables-nft-restore",
    "ip6tables-nft-save",
    "ip6tables-restore",
    "ip6tables-save",
    "ipset",
    "iptables",
    "iptables-legacy",
    "iptables-legacy-restore",
    "iptables-legacy-save",
    "iptables-nft",
    "iptables-nft-restore",
    "iptables-nft-save",
    "iptables-restore",
    "iptables-save",
    "ipvsadm",
    "nft",
    // busybox's would run its own applets in place of programs.
    "sh",
    "ss",
    "tc",
    "tcpdump",
];

/// Files and folders that programs read, as far as this machine has them.
const FILES: &[&str] = &[
    "/etc/ethertypes",
    "/etc/group",
    "/etc/iproute2",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/protocols",
    "/etc/services",
    // iptables loads its extensions from here.
    "/usr/lib/x86_64-linux-gnu/xtables",
];

/// The folders that the kernel, its file systems and programs expect, and who may write there.
const FOLDERS: &[(&str, u32)] = &[
    ("/dev", 0o755),
    ("/etc", 0o755),
    ("/in-vm", 0o755),
    ("/proc", 0o555),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/sys", 0o555),
    ("/tmp", 0o1777),
    ("/usr", 0o755),
    ("/usr/bin", 0o755),
    ("/usr/lib", 0o755),
    ("/usr/lib64", 0o755),
    ("/usr/sbin", 0o755),
    ("/var", 0o755),
];

/// The files of a guest under `kernel`, without the program that it is for. `in_vm` is this
/// program: it is also the guest's first process.
pub(crate) fn base(kernel: &Kernel, in_vm: &Path) -> anyhow::Result<Files> {
    let mut files = Files::default();
    for (path, permissions) in FOLDERS {
        files.folder(path, *permissions);
    }
    for name in ["bin", "lib", "lib64", "sbin"] {
        files.link(Path::new("/").join(name), Path::new("usr").join(name));
    }
    files.link("/var/run", "/run");
    files.link("/var/tmp", "/tmp");
    files.text("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n");
    for path in FILES.iter().map(Path::new).filter(|path| path.exists()) {
        files.add_all(path, &[])?;
    }
    for program in PROGRAMS.iter().filter_map(tool::find) {
        files.add_program(&program)?;
    }
    add_busybox(&mut files)?;
    add_modules(&mut files, kernel)?;
    let in_vm = files.add_program(in_vm)?;
    files.link("/init", in_vm);
    Ok(files)
}

/// busybox stands in for what [`PROGRAMS`] does not name. Its modprobe serves the kernel too.
fn add_busybox(files: &mut Files) -> anyhow::Result<()> {
    let applets = tool::run(tool::command("busybox", "busybox")?.arg("--list"))?;
    let busybox = tool::find("busybox").context("busybox is missing")?;
    let busybox = files.add_program(&busybox)?;
    for applet in applets.lines() {
        let places = ["/usr/sbin", "/usr/bin"].map(|folder| Path::new(folder).join(applet));
        if !places.iter().any(|place| files.has(place)) {
            let [sbin, bin] = places;
            // The kernel looks for it there (/proc/sys/kernel/modprobe).
            files.link(if applet == "modprobe" { sbin } else { bin }, &busybox);
        }
    }
    Ok(())
}

/// The modules of choice, and lists of them alone: modprobe reads them from beginning to end
/// whenever the kernel asks for something.
fn add_modules(files: &mut Files, kernel: &Kernel) -> anyhow::Result<()> {
    let folder = Path::new("/usr/lib/modules").join(&kernel.version);
    files.folder("/usr/lib/modules", 0o755);
    files.folder(&folder, 0o755);
    let read = |name: &str| {
        let path = kernel.modules.join(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    let (dependencies, aliases) = (read("modules.dep")?, read("modules.alias")?);
    let chosen = modules::chosen(&dependencies);
    files.text(folder.join("modules.dep"), modules::dependencies_of(&chosen, &dependencies));
    files.text(folder.join("modules.alias"), modules::aliases_of(&chosen, &aliases));
    files.text(folder.join("modules.builtin"), read("modules.builtin")?);
    for module in chosen {
        let path = folder.join(module);
        for above in path.ancestors().skip(1).take_while(|above| *above != folder) {
            files.folder(above, 0o755);
        }
        files.copy(path, &kernel.modules.join(module))?;
    }
    Ok(())
}
