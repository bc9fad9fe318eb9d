//! From the start of `portolan dns` to its first good answer, in a cluster.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use portolan_apiserver::scale;
use portolan_apiserver::{Credentials, Double, Options};

use super::client;
use crate::process;

const PORT: u16 = 5301;
/// An answer takes longer only if something is broken.
const LIMIT: Duration = Duration::from_secs(30);
/// How long one question waits: before the port is open, none is answered.
const PATIENCE: Duration = Duration::from_millis(20);

/// How long `program` takes until it answers for the last of so many Services of an API server,
/// which is the tests' stand-in, in this process.
pub(super) fn first_answer(program: &Path, services: u32) -> anyhow::Result<Duration> {
    let services = usize::try_from(services)?;
    let cluster = scale::cluster(services, 1);
    let server = Double::start(Options::default()).context("starting the API server")?;
    server.load(cluster.objects()).context("loading the API server")?;
    let folder = tempfile::tempdir().context("creating a temporary folder")?;
    let (kubeconfig, corefile) = (folder.path().join("kubeconfig"), folder.path().join("Corefile"));
    server.kubeconfig(&kubeconfig, &Credentials::None).context("writing a kubeconfig")?;
    std::fs::write(&corefile, format!(".:{PORT} {{\nbind 127.0.0.1\nkubernetes cluster.local\n}}\n"))
        .context("writing a Corefile")?;
    let last = cluster.service(services - 1);
    let field = |at: &str| last.pointer(at).and_then(|text| text.as_str()).context("a Service");
    let (name, namespace) = (field("/metadata/name")?, field("/metadata/namespace")?);
    let address: Ipv4Addr = field("/spec/clusterIP")?.parse()?;
    let question = client::question(&[name, namespace, "svc", "cluster", "local"], client::A);

    let mut command = Command::new(program);
    command.args(["dns", "--quiet", "--threads=1", "--state-dir=", "--conf"]).arg(&corefile);
    command.arg("--kubeconfig").arg(&kubeconfig).stdin(Stdio::null()).stdout(Stdio::null());
    let started = Instant::now();
    let mut child = process::die_with_parent(&mut command)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let taken = loop {
        if is_answered(&question, address).unwrap_or(false) {
            break Ok(started.elapsed());
        }
        if started.elapsed() > LIMIT {
            break Err(anyhow::anyhow!("{name}.{namespace} is not {address} within {LIMIT:?}"));
        }
    };
    // It may have ended already.
    let _ = child.kill();
    let _ = child.wait();
    taken
}

/// Whether the answer is this address. An error is no answer, or a port that is not open.
fn is_answered(question: &[u8], address: Ipv4Addr) -> anyhow::Result<bool> {
    let socket = client::socket(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(question)?;
    let mut answer = [0; 512];
    let length = match socket.recv(&mut answer) {
        Ok(length) => length,
        Err(error) => {
            // Refused at once, as long as nobody listens.
            std::thread::sleep(Duration::from_millis(1));
            return Err(error.into());
        }
    };
    ensure!(length > 12, "a short answer");
    Ok(answer[..length].windows(4).any(|octets| octets == address.octets()))
}
