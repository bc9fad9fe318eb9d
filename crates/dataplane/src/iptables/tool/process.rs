//! Runs a program of iptables: input, output and time are bounded by nothing but one limit.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What a program that has ended leaves.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Runs a program in the calling thread's network namespace, and ends it if it takes longer than
/// `limit` (`ErrorKind::TimedOut`). It need not read all of `input`; what it prints is made UTF-8.
pub(super) fn run(
    program: &Path,
    arguments: &[impl AsRef<OsStr>],
    input: &str,
    limit: Duration,
) -> io::Result<Finished> {
    let deadline = Instant::now() + limit;
    let mut child = Command::new(program)
        .args(arguments)
        // The kernel's words for errors are translated.
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (sender, receiver) = mpsc::channel();
    // A thread each, so that no full pipe blocks another. They end when the program does.
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that fails need not read everything.
            let _ = stdin.map(|mut stdin| stdin.write_all(input.as_bytes()));
        });
        let collect = |from: Option<Box<dyn Read + Send>>| {
            let sender = sender.clone();
            scope.spawn(move || {
                let mut bytes = Vec::new();
                let result = from.map_or(Ok(0), |mut from| from.read_to_end(&mut bytes));
                // Nobody listens any more when the time is up.
                let _ = sender.send(());
                result.map(|_| String::from_utf8_lossy(&bytes).into_owned())
            })
        };
        let stdout = collect(stdout.map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
        let stderr = collect(stderr.map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
        let in_time = [(), ()]
            .iter()
            .all(|()| receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok());
        if !in_time {
            child.kill()?;
        }
        let status = child.wait()?;
        if !in_time {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("did not finish within {} seconds and was ended", limit.as_secs_f32()),
            ));
        }
        let joined = |thread: std::thread::ScopedJoinHandle<'_, io::Result<String>>| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread that reads a pipe failed")))
        };
        Ok(Finished { status, stdout: joined(stdout)?, stderr: joined(stderr)? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_mins(1);

    fn shell(script: &str, input: &str, limit: Duration) -> io::Result<Finished> {
        run(Path::new("/bin/sh"), &["-c", script], input, limit)
    }

    #[test]
    fn no_pipe_blocks_another() {
        // More than a pipe holds, in all three directions
        let input = "0123456789abcde\n".repeat(1 << 16);
        let finished =
            shell("cat >&2; cat /dev/stdin; head -c 1000000 /dev/zero; echo end", &input, PATIENCE);
        let finished = finished.expect("it runs");
        assert!(finished.status.success());
        assert_eq!(finished.stderr, input);
        assert!(finished.stdout.ends_with("end\n"));
    }

    #[test]
    fn a_program_need_not_read_its_input() {
        let finished = shell("echo no >&2; exit 3", &"x".repeat(1 << 20), PATIENCE).expect("it runs");
        assert_eq!((finished.status.code(), finished.stderr.as_str()), (Some(3), "no\n"));
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let began = Instant::now();
        let error = shell("exec sleep 1000", "", Duration::from_millis(100)).expect_err("it is ended");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("0.1 seconds"), "{error}");
        assert!(began.elapsed() < PATIENCE);
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let error =
            run(Path::new("/nonexistent/iptables"), &["-V"], "", PATIENCE).expect_err("there is none");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn output_that_is_not_text_is_made_text() {
        let finished = shell(r"printf 'a\377b'", "", PATIENCE).expect("it runs");
        assert_eq!(finished.stdout, "a\u{fffd}b");
    }
}
