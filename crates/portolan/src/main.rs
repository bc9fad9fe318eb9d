//! The whole program.

fn main() -> std::process::ExitCode {
    portolan::main()
}
