//! Portolan for one machine: everything that needs no cluster.
//!
//! It is what `cargo run` builds where no package is named, because it compiles in a fraction of
//! the time: the libraries of the Kubernetes API's client, most of all dependencies, are left out,
//! and the lab's API server, so that of the lab there is only the demo. `cargo install --path
//! crates/portolan` has them.

fn main() -> std::process::ExitCode {
    portolan::main()
}
