//! The virtual machine: qemu and its devices.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::Context;

use crate::tool;

/// What the kernel is to do: messages to the serial port, those of warnings and worse only; end
/// when it is in trouble.
const COMMAND_LINE: &str = "console=ttyS0 loglevel=5 panic=-1 oops=panic rdinit=/init init=/init \
    mitigations=off random.trust_cpu=on cryptomgr.notests apparmor=0 audit=0";

/// On an emulated processor, whose time goes on while others have the real one, the kernel cannot
/// find out how fast the time stamp counter is: its seconds would be too short, and it would take
/// processors for stuck.
const EMULATED: &str = "clocksource=hpet tsc=unstable no_timer_check";

/// A machine to be.
#[derive(Debug)]
pub(crate) struct Settings<'a> {
    pub(crate) kernel: &'a Path,
    /// The archive with the guest's files.
    pub(crate) files: &'a File,
    pub(crate) memory: u32,
    pub(crate) cpus: u32,
    pub(crate) emulate: bool,
}

/// A machine that runs. It ends with the thread that started it.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) process: Child,
    /// What the guest's `/dev/vport0p1` is connected to.
    pub(crate) channel: UnixStream,
    /// What the kernel says.
    pub(crate) console: UnixStream,
}

/// Starts a machine.
pub(crate) fn start(settings: &Settings) -> anyhow::Result<Machine> {
    let (channel, its_channel) = UnixStream::pair().context("a socket")?;
    let (console, its_console) = UnixStream::pair().context("a socket")?;
    // The kernel kills qemu when this process ends, however that is.
    let mut command = tool::command("setpriv", "util-linux")?;
    command.args(["--pdeathsig", "KILL"]);
    command.arg(
        tool::find("qemu-system-x86_64")
            .context("qemu-system-x86_64 is missing: install the package qemu-system-x86")?,
    );
    command.args(["-machine", "q35", "-cpu", "max", "-nodefaults", "-no-user-config"]);
    command.args(["-display", "none", "-no-reboot"]);
    let emulate = settings.emulate || !has_virtualization();
    // Emulated processors take turns: side by side, one may run code that another patches, which
    // no kernel survives ("Oops: int3").
    command.args(["-accel", if emulate { "tcg,thread=single" } else { "kvm" }]);
    command.arg("-smp").arg(settings.cpus.to_string());
    command.arg("-m").arg(settings.memory.to_string());
    command.arg("-kernel").arg(settings.kernel).arg("-append");
    command.arg(if emulate { format!("{COMMAND_LINE} {EMULATED}") } else { COMMAND_LINE.to_owned() });
    command.arg("-initrd").arg(tool::handed(settings.files)?);
    command.arg("-chardev").arg(socket("console", &its_console)?);
    command.args(["-serial", "chardev:console"]);
    command.arg("-chardev").arg(socket("channel", &its_channel)?);
    command.args(["-device", "virtio-serial", "-device", "virtserialport,chardev=channel"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let process = command.spawn().context("starting qemu")?;
    Ok(Machine { process, channel, console })
}

/// Whether the processor itself can run guests. There are machines with a /dev/kvm of which this is
/// not so, and which cannot run every kernel.
fn has_virtualization() -> bool {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut words = processor.split_whitespace();
    words.any(|word| word == "vmx" || word == "svm") && File::open("/dev/kvm").is_ok()
}

/// One end of a pair of sockets as a device's other side.
fn socket(id: &str, end: &UnixStream) -> anyhow::Result<String> {
    tool::handed(end)?;
    Ok(format!("socket,id={id},fd={}", end.as_raw_fd()))
}
