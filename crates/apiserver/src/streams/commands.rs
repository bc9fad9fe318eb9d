//! `exec` and `attach`: a command in a pod, over a WebSocket with protocol `v5.channel.k8s.io`.
//! The first byte of a message is its channel.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::SEC_WEBSOCKET_PROTOCOL;
use hyper::upgrade::Upgraded;
use hyper::{Request as HttpRequest, Response};
use hyper_util::rt::TokioIo;
use portolan_store::Failure;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::websocket::{Message, Reader, Writer, accept};
use super::{offers, wants};
use crate::body::Body;
use crate::node_side::{NodeSide, PodRef, Process, Run, Size};
use crate::refusal;
use crate::resource::Subresource;
use crate::state::Request;

const PROTOCOL: &str = "v5.channel.k8s.io";

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
/// The client closes the channel that the next byte names.
const CLOSE: u8 = 255;

/// Starts what is asked for, and accepts the WebSocket.
pub(super) fn commands(
    node_side: Arc<dyn NodeSide>,
    pod: PodRef,
    part: Subresource,
    request: &Request,
    mut http: HttpRequest<Incoming>,
) -> Result<Response<Body>, Failure> {
    // Before anything runs.
    if !wants(&http, "websocket") || !offers(&http, &SEC_WEBSOCKET_PROTOCOL, PROTOCOL) {
        return Err(Failure::new(
            400,
            format!(
                "Upgrade request required: a WebSocket with protocol {PROTOCOL}, as kubectl 1.30 and later ask for"
            ),
        ));
    }
    let truth = |name: &str| matches!(request.parameter(name), Some("true" | "1"));
    let command: Vec<String> =
        request.query.iter().filter(|(name, _)| name == "command").map(|(_, value)| value.clone()).collect();
    if part == Subresource::Exec && command.is_empty() {
        return Err(refusal::bad_request("you must specify at least 1 command for the container"));
    }
    let run = Run {
        command: if part == Subresource::Exec { command } else { Vec::new() },
        stdin: truth("stdin"),
        stdout: truth("stdout"),
        stderr: truth("stderr"),
        tty: truth("tty"),
    };
    if !(run.stdin || run.stdout || run.stderr) {
        return Err(refusal::bad_request("you must specify at least one of stdin, stdout, stderr"));
    }
    let response =
        accept(&http, PROTOCOL).ok_or_else(|| refusal::bad_request("Sec-WebSocket-Key is missing"))?;
    let upgraded = hyper::upgrade::on(&mut http);
    tokio::spawn(async move {
        let started = node_side.run(pod, run).await;
        // An error means that the client went away.
        if let Ok(stream) = upgraded.await {
            let (from, to) = tokio::io::split(TokioIo::new(stream));
            let _gone = serve(started, from, to).await;
        }
    });
    Ok(response)
}

type Stream = TokioIo<Upgraded>;

async fn serve(
    started: Result<Process, String>,
    from: ReadHalf<Stream>,
    to: WriteHalf<Stream>,
) -> io::Result<()> {
    let mut writer = Writer::new(to);
    let process = match started {
        Ok(process) => process,
        Err(message) => {
            writer.send(&[&[STATUS], failure(&message, &Value::Null).to_string().as_bytes()]).await?;
            return writer.close().await;
        }
    };
    let Process { stdin, mut stdout, mut stderr, resize, mut exit } = process;
    let (pongs, mut pings) = mpsc::channel(4);
    let mut input = tokio::spawn(read(Reader::new(from), stdin, resize, pongs));
    let (mut out_open, mut err_open, mut ended) = (true, true, None);
    // What is printed before the end comes before the status.
    while out_open || err_open || ended.is_none() {
        tokio::select! {
            piece = stdout.recv(), if out_open => match piece {
                Some(piece) => writer.send(&[&[STDOUT], &piece]).await?,
                None => out_open = false,
            },
            piece = stderr.recv(), if err_open => match piece {
                Some(piece) => writer.send(&[&[STDERR], &piece]).await?,
                None => err_open = false,
            },
            result = &mut exit, if ended.is_none() => {
                ended = Some(result.unwrap_or_else(|_| Err("the command is gone without a word".to_owned())));
            }
            Some(ping) = pings.recv() => writer.pong(&ping).await?,
            _ = &mut input => return Ok(()),
        }
    }
    input.abort();
    let status = match ended {
        Some(Ok(0)) | None => json!({ "metadata": {}, "status": "Success" }),
        Some(Ok(code)) => failure(
            &format!("command terminated with non-zero exit code: exit status {code}"),
            &json!({ "causes": [{ "reason": "ExitCode", "message": code.to_string() }] }),
        ),
        Some(Err(message)) => failure(&message, &Value::Null),
    };
    writer.send(&[&[STATUS], status.to_string().as_bytes()]).await?;
    writer.close().await
}

fn failure(message: &str, details: &Value) -> Value {
    let reason = if details.is_null() { "InternalError" } else { "NonZeroExitCode" };
    json!({ "metadata": {}, "status": "Failure", "message": message, "reason": reason, "details": details })
}

/// A size as kubectl writes it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SizeMessage {
    width: u16,
    height: u16,
}

/// Passes on what the client sends; ends when it goes away.
async fn read(
    mut reader: Reader<ReadHalf<Stream>>,
    stdin: mpsc::Sender<Bytes>,
    resize: mpsc::Sender<Size>,
    pongs: mpsc::Sender<Bytes>,
) {
    let mut stdin = Some(stdin);
    while let Ok(message) = reader.next().await {
        match message {
            Message::Close => return,
            Message::Ping(payload) => {
                // Whoever pings faster than it reads does without some of the answers.
                let _full = pongs.try_send(payload);
            }
            Message::Data(data) => match data.first() {
                Some(&STDIN) => {
                    if let Some(open) = &stdin
                        && open.send(data.slice(1..)).await.is_err()
                    {
                        stdin = None;
                    }
                }
                Some(&RESIZE) => {
                    if let Ok(SizeMessage { width, height }) = serde_json::from_slice(&data[1..]) {
                        let _full = resize.try_send(Size { width, height });
                    }
                }
                Some(&CLOSE) if data.get(1) == Some(&STDIN) => stdin = None,
                _ => {}
            },
        }
    }
}
