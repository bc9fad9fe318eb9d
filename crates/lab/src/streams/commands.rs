//! `exec`: a command in a container, with pipes or with a terminal.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use portolan_apiserver::{Process, Run, Size};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::terminal;
use crate::Error;
use crate::pod::Pod;

/// How many pieces wait for a slow reader.
const QUEUE: usize = 4;

/// So much is read at once, in bytes.
const PIECE: usize = 1 << 14;

/// What Ctrl-D sends: the end of input at a terminal.
const END_OF_INPUT: &[u8] = &[4];

/// How long a terminal may take for what was printed last, and a process for its end once its
/// terminal has hung up.
const SETTLING: Duration = Duration::from_secs(1);

/// What is said of a container in which nothing runs.
pub(super) fn not_found(container: &str) -> String {
    format!("container not found ({container:?}): it does not run now; the status of its pod says why")
}

/// Starts a command. It is killed with its group when nobody is interested any more. What it has
/// left running in the background when it ends goes on. Call it within a runtime, where it may
/// block.
pub(super) fn start(pod: &Pod, container: &str, run: &Run) -> Result<Process, String> {
    let Some((program, arguments)) = run.command.split_first() else {
        return Err("there is no command".to_owned());
    };
    let mut command = pod.command(Some(container), program).map_err(|_| not_found(container))?;
    command.args(arguments);
    let connected = if run.tty { with_terminal(run, &mut command) } else { with_pipes(run, &mut command) };
    let ends = connected.map_err(|error| format!("failed to exec in container: {error}"))?;
    terminal::lead_session(&mut command, run.tty);
    let started = pod.spawn(Some(container), &mut command);
    // It holds the ends of the process open.
    drop(command);
    let child = started.map_err(|error| refused(&error, program, container))?;
    let attended = Attended::new(child).map_err(|error| format!("failed to exec in container: {error}"))?;
    let (stdin, typed) = mpsc::channel(QUEUE);
    let (resize, sizes) = mpsc::channel(QUEUE);
    let (output, stdout) = mpsc::channel(QUEUE);
    let (errors, stderr) = mpsc::channel(QUEUE);
    let (exit, ended) = oneshot::channel();
    tokio::spawn(attend(attended, ends, Client { typed, sizes, output, errors, exit }));
    Ok(Process { stdin, stdout, stderr, resize, exit: ended })
}

/// Why a command was not started, in the words of container runtimes.
fn refused(error: &Error, program: &str, container: &str) -> String {
    let Error::Io { source, .. } = error else { return not_found(container) };
    let why = match source.kind() {
        io::ErrorKind::NotFound if program.contains('/') => {
            format!("stat {program}: no such file or directory")
        }
        io::ErrorKind::NotFound => "executable file not found in $PATH".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => source.to_string(),
    };
    format!("failed to exec in container: unable to start container process: exec: {program:?}: {why}")
}

/// Our ends of what a process reads and writes.
#[derive(Default)]
struct Ends {
    input: Option<pipe::Sender>,
    output: Option<pipe::Receiver>,
    errors: Option<pipe::Receiver>,
    terminal: Option<OwnedFd>,
}

fn with_pipes(run: &Run, command: &mut Command) -> io::Result<Ends> {
    let mut ends = Ends::default();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if run.stdin {
        let (reader, writer) = io::pipe()?;
        command.stdin(reader);
        ends.input = Some(pipe::Sender::from_owned_fd(writer.into())?);
    }
    if run.stdout {
        let (reader, writer) = io::pipe()?;
        command.stdout(writer);
        ends.output = Some(pipe::Receiver::from_owned_fd(reader.into())?);
    }
    if run.stderr {
        let (reader, writer) = io::pipe()?;
        command.stderr(writer);
        ends.errors = Some(pipe::Receiver::from_owned_fd(reader.into())?);
    }
    Ok(ends)
}

fn with_terminal(run: &Run, command: &mut Command) -> io::Result<Ends> {
    let (ours, theirs) = terminal::open()?;
    command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
    if !command.get_envs().any(|(name, _)| name == "TERM") {
        command.env("TERM", "xterm");
    }
    // Not pipes, but they are read and written alike.
    let input = run.stdin.then(|| pipe::Sender::from_owned_fd_unchecked(ours.try_clone()?));
    Ok(Ends {
        input: input.transpose()?,
        output: Some(pipe::Receiver::from_owned_fd_unchecked(ours.try_clone()?)?),
        errors: None,
        terminal: Some(ours),
    })
}

/// A process. When this is dropped before its end, it is killed with its group.
struct Attended {
    /// Until it has been waited for.
    child: Option<Child>,
    /// Readable when it has ended (pidfd_open(2)).
    ending: Option<AsyncFd<OwnedFd>>,
}

impl Attended {
    fn new(child: Child) -> io::Result<Attended> {
        let pid = child.id();
        let mut attended = Attended { child: Some(child), ending: None };
        // SAFETY: it takes two numbers, and makes a descriptor that nobody else knows of.
        let ending = unsafe {
            let number = Errno::result(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
            OwnedFd::from_raw_fd(i32::try_from(number).map_err(io::Error::other)?)
        };
        // SAFETY: an OwnedFd is open until it is dropped, and has one number all the time.
        attended.ending = Some(unsafe { AsyncFd::register(ending) }.map_err(io::Error::from)?);
        Ok(attended)
    }

    /// Waits for the end, and gives the exit code as a shell does.
    async fn end(&mut self) -> Result<i32, String> {
        let gone = || "the process is gone".to_owned();
        let (Some(child), Some(ending)) = (&mut self.child, &self.ending) else { return Err(gone()) };
        loop {
            let mut ready = ending.readable().await.map_err(|error| error.to_string())?;
            if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                self.child = None;
                return status.code().or_else(|| Some(128 + status.signal()?)).ok_or_else(gone);
            }
            ready.clear_ready();
        }
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // The number is its own until it has been waited for. If nobody is left, all is well.
        if let Ok(pid) = i32::try_from(child.id()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        // It ends in a moment, but this thread waits for nobody. Without another one it stays as a
        // zombie.
        let _ =
            thread::Builder::new().name("ending".to_owned()).stack_size(64 << 10).spawn(move || child.wait());
    }
}

/// The client's ends.
struct Client {
    typed: mpsc::Receiver<Bytes>,
    sizes: mpsc::Receiver<Size>,
    output: mpsc::Sender<Bytes>,
    errors: mpsc::Sender<Bytes>,
    exit: oneshot::Sender<Result<i32, String>>,
}

/// Passes on what is typed and printed until the process has ended or the client is gone.
async fn attend(mut process: Attended, ends: Ends, client: Client) {
    let Client { typed, mut sizes, output, errors, mut exit } = client;
    let has_terminal = ends.terminal.is_some();
    let (done, ended) = watch::channel(());
    let also_ended = ended.clone();
    let running = &mut process;
    let work = async move {
        let end = async {
            let code = running.end().await;
            done.send_replace(());
            code
        };
        let printed = print(ends.output, output, ended, has_terminal);
        let (code, (), ()) = tokio::join!(end, printed, print(ends.errors, errors, also_ended, false));
        code
    };
    let typing = async move {
        tokio::join!(type_in(ends.input, typed, has_terminal), async {
            while let (Some(size), Some(terminal)) = (sizes.recv().await, &ends.terminal) {
                terminal::resize(terminal, size);
            }
        });
        std::future::pending::<()>().await;
    };
    let is_over = tokio::select! {
        code = work => Some(code),
        () = typing => None,
        () = exit.closed() => None,
    };
    match is_over {
        // If nobody takes it, nobody is interested any more.
        Some(code) => drop(exit.send(code)),
        // Our end is closed by now. A shell passes on that its terminal has hung up.
        None if has_terminal => drop(timeout(SETTLING, process.end()).await),
        None => {}
    }
}

/// Passes on what is typed. At its end a pipe is closed; a terminal gets what Ctrl-D sends.
async fn type_in(input: Option<pipe::Sender>, mut typed: mpsc::Receiver<Bytes>, is_terminal: bool) {
    let Some(mut input) = input else { return };
    while let Some(piece) = typed.recv().await {
        // Whoever reads no more may still have something to say.
        if input.write_all(&piece).await.is_err() {
            return;
        }
    }
    if is_terminal {
        let _closed = input.write_all(END_OF_INPUT).await;
    }
}

/// Passes on what is printed, up to the end of the process: others may have its output, too.
async fn print(
    from: Option<pipe::Receiver>,
    to: mpsc::Sender<Bytes>,
    mut ended: watch::Receiver<()>,
    is_terminal: bool,
) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; PIECE];
    loop {
        let read = tokio::select! {
            biased;
            read = from.read(&mut buffer) => read,
            _ = ended.changed() => break,
        };
        // A terminal ends with an error, EIO.
        let Ok(length @ 1..) = read else { return };
        if to.send(Bytes::copy_from_slice(&buffer[..length])).await.is_err() {
            return;
        }
    }
    loop {
        let read = if is_terminal {
            // The kernel passes on later what is printed to it, and then hangs up.
            timeout(SETTLING, from.read(&mut buffer)).await.unwrap_or(Ok(0))
        } else {
            // What is in a pipe is there. Not asked of the runtime, which may learn of it later.
            nix::unistd::read(from.as_fd(), &mut buffer).map_err(io::Error::from)
        };
        let Ok(length @ 1..) = read else { return };
        if to.send(Bytes::copy_from_slice(&buffer[..length])).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_why_nothing_was_started() {
        let io = |kind: io::ErrorKind| Error::Io { what: String::new(), source: kind.into() };
        let missing = "exec: \"curl\": executable file not found in $PATH";
        for (error, program, end) in [
            (io(io::ErrorKind::NotFound), "curl", missing),
            (io(io::ErrorKind::NotFound), "/curl", "exec: \"/curl\": stat /curl: no such file or directory"),
            (io(io::ErrorKind::PermissionDenied), "/etc", "exec: \"/etc\": permission denied"),
        ] {
            let message = refused(&error, program, "web");
            assert!(message.ends_with(end), "{message}");
        }
        let gone = Error::NotRunning { container: "web".to_owned() };
        assert!(refused(&gone, "sh", "web").starts_with("container not found (\"web\")"));
    }
}
