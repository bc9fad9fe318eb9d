//! kube-rs against a lab, as a second client beside kubectl: `tests/kube-rs/run`. It speaks
//! otherwise than kubectl in many places, and its authors are others.

mod client;
#[path = "../../src/lab.rs"]
mod lab;

use lab::OwnLab;

/// The program under test.
mod site {
    use std::path::Path;
    use std::sync::LazyLock;

    static BINARY: LazyLock<String> = LazyLock::new(|| {
        let usual = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/debug/portolan");
        std::env::var("PORTOLAN_BIN").unwrap_or_else(|_| usual.to_owned())
    });

    /// What `PORTOLAN_BIN` names, or what the tests have built.
    pub(crate) fn binary() -> &'static Path {
        Path::new(&*BINARY)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let lab = OwnLab::up(["--nodes", "1"])?;
    client::follows(&lab).await?;
    println!("a reflector follows pods, listed and streamed: ok");
    client::applies(&lab).await?;
    println!("server-side apply has owners of fields: ok");
    client::enters(&lab).await?;
    println!("exec, logs and ports of a pod: ok");
    Ok(())
}
