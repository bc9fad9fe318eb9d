//! Commands that clients have run: each in a thread of its own, so that the responder answers
//! meanwhile, also what the command itself asks.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::json;

/// So many commands at once.
const MOST: usize = 8;
/// A command is ended after it, in seconds.
const WITHIN: &str = "60";

/// The commands that are being run.
#[derive(Debug, Default)]
pub(super) struct Shells {
    /// Each has a share of it.
    running: Arc<()>,
}

impl Shells {
    /// Runs a command, sends what it prints as JSON, and closes the connection. If too many are
    /// run, it is closed at once.
    pub(super) fn run(&self, stream: TcpStream, command: String) {
        if Arc::strong_count(&self.running) > MOST {
            return;
        }
        let share = Arc::clone(&self.running);
        let work = move || {
            // Whoever has gone needs no answer.
            let _ = answer(stream, &command);
            drop(share);
        };
        // Without a thread, the connection is closed.
        let _ = thread::Builder::new().name("shell".to_owned()).stack_size(256 << 10).spawn(work);
    }
}

fn answer(mut stream: TcpStream, command: &str) -> std::io::Result<()> {
    let done = Command::new("timeout").args([WITHIN, "sh", "-c", command]).output();
    let body = match done {
        Ok(done) => {
            let all = [done.stdout, done.stderr].concat();
            let mut body = json!({ "output": String::from_utf8_lossy(&all) });
            if !done.status.success() {
                body["error"] = done.status.to_string().into();
            }
            body
        }
        Err(error) => json!({ "error": error.to_string() }),
    };
    let body = body.to_string();
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
