//! Talking to a running lab: a line of JSON there, a line back, and file descriptors of namespaces.

use std::convert::Infallible;
use std::fs::File;
use std::io::{BufRead, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, anyhow, bail, ensure};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Deserialize, Serialize};

use super::place::Place;
use crate::cluster::{Cluster, Status};
use crate::proxy::ProxyMode;

/// A whole reply in bytes: a lab of a thousand pods.
const MAX_REPLY: usize = 1 << 20;

/// A whole order in bytes.
const MAX_ORDER: u64 = 1 << 12;

#[derive(Debug, Serialize, Deserialize)]
enum Order {
    Status,
    /// The name of a node, a pod or the client.
    Enter(String),
    /// A folder of manifests is to be written of what the API server has.
    Snapshot,
    /// The proxy of a node is to be started again, in this mode.
    RestartProxy(String, Option<ProxyMode>),
    Node(NodeOrder, String),
    /// A node of this name, or of one that is free, with a proxy in this mode.
    AddNode(Option<String>, Option<ProxyMode>),
    Down,
}

/// What is to become of a node.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum NodeOrder {
    /// No new pods come to it.
    Cordon,
    /// They come again.
    Uncordon,
    /// It is switched off.
    Stop,
    /// It leaves.
    Remove,
}

#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Status(Status),
    /// It comes with the descriptors of [`Namespaces`].
    Enter(Entry),
    /// Where the manifests are, as seen inside.
    Snapshot(PathBuf),
    /// The name of a node that has come.
    Added(String),
    Done,
    Failed(String),
}

/// What whoever enters must know.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The node, the pod or the client.
    pub(super) target: String,
    /// It is a pod, and has all that it is to have.
    pub(super) is_pod: bool,
    /// The lab's folder, as seen inside.
    pub(super) state: PathBuf,
    /// The program that the lab's proxies are.
    pub(super) program: PathBuf,
}

/// The namespaces of a node, a pod or the client.
pub(super) struct Namespaces {
    pub(super) user: OwnedFd,
    pub(super) mount: OwnedFd,
    pub(super) process: OwnedFd,
    pub(super) host_name: OwnedFd,
    pub(super) network: OwnedFd,
}

/// What the lab of this name is like.
pub(super) fn status(name: &str) -> anyhow::Result<Status> {
    let (reply, _) = ask(name, &Order::Status)?;
    match reply {
        Reply::Status(status) => Ok(status),
        other => Err(unexpected(&other)),
    }
}

/// The namespaces of `target` in the lab of this name.
pub(super) fn namespaces(name: &str, target: &str) -> anyhow::Result<(Entry, Namespaces)> {
    let (reply, fds) = ask(name, &Order::Enter(target.to_owned()))?;
    let entry = match reply {
        Reply::Enter(entry) => entry,
        other => return Err(unexpected(&other)),
    };
    let mut fds = fds.into_iter();
    let mut next = || fds.next().context("the lab sent too few descriptors");
    let namespaces =
        Namespaces { user: next()?, mount: next()?, process: next()?, host_name: next()?, network: next()? };
    Ok((entry, namespaces))
}

/// Writes the objects of the lab of this name as manifests. Gives their folder, as seen inside.
pub(super) fn snapshot(name: &str) -> anyhow::Result<PathBuf> {
    match ask(name, &Order::Snapshot)?.0 {
        Reply::Snapshot(folder) => Ok(folder),
        other => Err(unexpected(&other)),
    }
}

/// Starts the proxy of a node again.
pub(super) fn restart_proxy(name: &str, node: &str, mode: Option<ProxyMode>) -> anyhow::Result<()> {
    done(name, &Order::RestartProxy(node.to_owned(), mode))
}

/// Has something become of a node.
pub(super) fn order_node(name: &str, order: NodeOrder, node: &str) -> anyhow::Result<()> {
    done(name, &Order::Node(order, node.to_owned()))
}

/// Adds a node. Gives its name.
pub(super) fn add_node(name: &str, node: Option<&str>, mode: Option<ProxyMode>) -> anyhow::Result<String> {
    match ask(name, &Order::AddNode(node.map(str::to_owned), mode))?.0 {
        Reply::Added(node) => Ok(node),
        other => Err(unexpected(&other)),
    }
}

fn done(name: &str, order: &Order) -> anyhow::Result<()> {
    match ask(name, order)?.0 {
        Reply::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// Ends the lab of this name and waits for its end.
pub(super) fn down(name: &str) -> anyhow::Result<()> {
    let place = Place::of(name)?;
    let mut stream = connect(&place, name)?;
    send(&mut stream, &Order::Down)?;
    // Its end closes the connection.
    let _ = stream.read(&mut [0]);
    place.wait_free()
}

fn ask(name: &str, order: &Order) -> anyhow::Result<(Reply, Vec<OwnedFd>)> {
    let mut stream = connect(&Place::of(name)?, name)?;
    send(&mut stream, order)?;
    let (line, fds) = receive(&stream)?;
    ensure!(!line.is_empty(), "the lab ended before it answered");
    Ok((serde_json::from_slice(&line).context("the lab's answer")?, fds))
}

fn unexpected(reply: &Reply) -> anyhow::Error {
    match reply {
        Reply::Failed(message) => anyhow!("{message}"),
        other => anyhow!("the lab answered {other:?}; was it started by another version of this program?"),
    }
}

fn connect(place: &Place, name: &str) -> anyhow::Result<UnixStream> {
    UnixStream::connect(place.socket()).map_err(|_| {
        if let Ok(Some(lock)) = place.take() {
            // Nobody, or a lab that crashed: nothing stays of it.
            place.remove();
            drop(lock);
        }
        anyhow!("no lab {name:?} is running; start one with `portolan lab up FILE...`")
    })
}

fn send(stream: &mut UnixStream, message: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line).context("writing to the lab")
}

/// A reply, up to the end of its line or of the connection, and the descriptors that came with it.
fn receive(stream: &UnixStream) -> anyhow::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let (mut line, mut fds) = (Vec::new(), Vec::new());
    while line.last() != Some(&b'\n') {
        ensure!(line.len() < MAX_REPLY, "the lab's answer is longer than {MAX_REPLY} bytes");
        let mut piece = [0; 4096];
        let mut slices = [IoSliceMut::new(&mut piece)];
        let mut space = nix::cmsg_space!([RawFd; 5]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), flags)
            .context("receiving the lab's answer")?;
        let length = message.bytes;
        for control in message.cmsgs().context("receiving the lab's descriptors")? {
            if let ControlMessageOwned::ScmRights(received) = control {
                // SAFETY: the kernel has just made these descriptors for us, and nobody else knows
                // of them.
                fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        if length == 0 {
            break;
        }
        line.extend_from_slice(&piece[..length]);
    }
    Ok((line, fds))
}

/// Obeys orders until one ends this process, and with it the lab. One that takes its time keeps
/// no other waiting.
pub(super) fn serve(listener: &UnixListener, cluster: &Cluster) -> anyhow::Result<Infallible> {
    thread::scope(|scope| {
        loop {
            let (mut stream, _) = listener.accept().context("waiting for commands")?;
            let answer = move || match answer(&mut stream, cluster) {
                Ok(Next::Serve) => {}
                // The connection stays open until the end of this process.
                Ok(Next::End) => std::process::exit(0),
                Err(error) => eprintln!("a command was not answered: {error:#}"),
            };
            let thread = thread::Builder::new().name("command".to_owned());
            thread.spawn_scoped(scope, answer).context("starting a thread for a command")?;
        }
    })
}

enum Next {
    Serve,
    End,
}

fn answer(stream: &mut UnixStream, cluster: &Cluster) -> anyhow::Result<Next> {
    // Somebody who connects and says nothing must not keep others waiting for ever.
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    let mut line = String::new();
    BufReader::new(&*stream).take(MAX_ORDER).read_line(&mut line)?;
    let done = |result: Result<(), crate::Error>| match result {
        Ok(()) => Reply::Done,
        Err(error) => Reply::Failed(error.to_string()),
    };
    let reply = match serde_json::from_str(&line)? {
        Order::Status => Reply::Status(cluster.status()),
        Order::Enter(target) => match open_namespaces(cluster, &target) {
            Ok((is_pod, namespaces)) => {
                send_entry(stream, cluster, target, is_pod, &namespaces)?;
                return Ok(Next::Serve);
            }
            Err(error) => Reply::Failed(format!("{error:#}")),
        },
        Order::Snapshot => match cluster.snapshot() {
            Ok(folder) => Reply::Snapshot(folder),
            Err(error) => Reply::Failed(error.to_string()),
        },
        Order::RestartProxy(node, mode) => done(cluster.restart_proxy(&node, mode)),
        Order::Node(order, node) => done(match order {
            NodeOrder::Cordon => cluster.cordon(&node, true),
            NodeOrder::Uncordon => cluster.cordon(&node, false),
            NodeOrder::Stop => cluster.stop_node(&node),
            NodeOrder::Remove => cluster.remove_node(&node),
        }),
        Order::AddNode(node, mode) => match cluster.add_node(node.as_deref(), mode) {
            Ok(node) => Reply::Added(node),
            Err(error) => Reply::Failed(error.to_string()),
        },
        Order::Down => return Ok(Next::End),
    };
    send(stream, &reply)?;
    Ok(Next::Serve)
}

fn send_entry(
    stream: &UnixStream,
    cluster: &Cluster,
    target: String,
    is_pod: bool,
    namespaces: &[OwnedFd; 5],
) -> anyhow::Result<()> {
    let (state, program) = (cluster.state().to_owned(), cluster.program().to_owned());
    let mut line = serde_json::to_vec(&Reply::Enter(Entry { target, is_pod, state, program }))?;
    line.push(b'\n');
    let fds = namespaces.each_ref().map(|fd| fd.as_fd().as_raw_fd());
    let message = ControlMessage::ScmRights(&fds);
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&line)], &[message], MsgFlags::empty(), None)?;
    Ok(())
}

/// In the order of [`Namespaces`], and whether it is a pod.
fn open_namespaces(cluster: &Cluster, target: &str) -> anyhow::Result<(bool, [OwnedFd; 5])> {
    let own = |kind: &str| -> anyhow::Result<OwnedFd> {
        let path = format!("/proc/self/ns/{kind}");
        Ok(File::open(&path).with_context(|| format!("opening {path}"))?.into())
    };
    if let Some(pod) = cluster.inside_pod(target)? {
        return Ok((true, [own("user")?, pod.mount, pod.process, pod.host_name, pod.network]));
    }
    let network = match cluster.lab().namespace(target) {
        Ok(namespace) => namespace.as_fd().try_clone_to_owned()?,
        Err(error) => bail!("{error}"),
    };
    Ok((false, [own("user")?, own("mnt")?, own("pid")?, own("uts")?, network]))
}
