//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

/// Runs a program as root in a virtual machine, under a kernel of Debian's.
///
/// The program may be one of this machine, with a path or found in PATH, or an applet of busybox.
/// `cargo` runs here, and has what it builds run in a machine: `in-vm cargo test -p NAME`. A
/// program that cargo built finds the repository's files, and the binary `portolan` beside it.
///
/// Its standard input is empty. The exit status is the program's own, or 128 and the signal that
/// ended it; 124 after the time limit; 125 when the guest died or its kernel complained.
#[derive(Debug, Parser)]
#[command(name = "in-vm")]
pub(crate) struct Cli {
    /// The kernel, as the first two numbers of its version.
    #[arg(long, value_name = "VERSION", default_value = "6.12")]
    pub(crate) kernel: String,
    /// Memory of the guest, in MiB. Its files are in there too.
    #[arg(long, value_name = "MIB", default_value_t = 1536)]
    pub(crate) memory: u32,
    /// Processors of the guest.
    #[arg(long, value_name = "NUMBER", default_value_t = 2)]
    pub(crate) cpus: u32,
    /// Ends the guest after this long.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) limit: u64,
    /// Sets a variable of the program's environment. PORTOLAN_*, RUST_* and CARGO_MANIFEST_DIR are
    /// passed on as they are here.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub(crate) environment: Vec<String>,
    /// Puts a file or folder into the guest, at the same path, or a program of PATH, with the
    /// libraries that it is linked to.
    #[arg(long, value_name = "PATH")]
    pub(crate) add: Vec<PathBuf>,
    /// Emulates the processor even if /dev/kvm can be used.
    #[arg(long)]
    pub(crate) emulate: bool,
    /// Shows all that the kernel says, on standard error.
    #[arg(long)]
    pub(crate) verbose: bool,
    /// Downloads the kernel, if it is not there yet, and runs nothing.
    #[arg(long, conflicts_with = "program")]
    pub(crate) download: bool,
    /// What to run.
    #[arg(value_name = "PROGRAM", required_unless_present = "download", default_value = "")]
    pub(crate) program: OsString,
    /// Its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub(crate) arguments: Vec<OsString>,
}
