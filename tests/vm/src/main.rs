//! `in-vm` runs a program as root in a virtual machine, under a kernel of Debian's that need not be
//! the one of this machine. See CONTRIBUTING.md.
//!
//! The same binary is the first process of the guest (`guest.rs`), so that both ends of the channel
//! between them are in one place.

mod channel;
mod cli;
mod console;
mod cpio;
mod files;
mod guest;
mod host;
mod image;
mod job;
mod kernel;
mod machine;
mod modules;
mod tool;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;

/// The exit status when the program's own is not known, or when the kernel had something to
/// complain about.
const FAILURE: u8 = 125;

fn main() -> ExitCode {
    if guest::is_guest() {
        guest::main();
    }
    let cli = Cli::parse();
    let ended = host::run(&cli);
    ended.unwrap_or_else(|error| {
        eprintln!("in-vm: {error:#}");
        ExitCode::from(FAILURE)
    })
}
