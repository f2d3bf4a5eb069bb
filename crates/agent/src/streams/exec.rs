//! `POST /exec/<namespace>/<pod>/<container>`: a command in a container, its streams as WebSocket messages.
//!
//! Request and response bodies carry raw WebSocket frames: the API server has answered the client's upgrade and copies bytes.
//! Each message begins with its channel: 0 standard input, 1 output, 2 error, 3 the exit as a Status, 4 terminal sizes, and in
//! the fifth version of the protocol 255, which closes the channel that follows.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::{Frame, Incoming};
use runtime::{Exec, ExecSpec, ExecStream, LAST_OUTPUT, TerminalSize};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::io::{ReaderStream, StreamReader};
use tokio_util::sync::CancellationToken;

use super::{Body, Query, Wanted, refuse};
use crate::calls::STREAMS;
use crate::container::{ATTEMPT, CONTAINER};
use crate::worker::Shared;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Bytes between the command and the connection.
const PIPE: usize = 64 << 10;
/// How much of the output is one message, in bytes.
const PIECE: usize = 16 << 10;
/// Longest message of a client, in bytes: Python's sends a whole input as one.
const MESSAGE: usize = 4 << 20;
/// What is read of a stream at most after the command has ended: all that the kernel may still hold of what it wrote itself.
const LAST_BYTES: usize = 1 << 20;
/// SIGKILL.
const KILL: i32 = 9;

pub(super) async fn answer(
    shared: Arc<Shared>,
    wanted: Wanted,
    query: &Query,
    request: Request<Incoming>,
) -> Response<Body> {
    let tty = query.is("tty");
    let spec = ExecSpec {
        command: query.all("command"),
        tty,
        stdin: query.is("stdin"),
        stdout: query.is("stdout"),
        stderr: query.is("stderr") && !tty,
    };
    if spec.command.is_empty() {
        return refuse(
            StatusCode::BAD_REQUEST,
            "you must specify at least one command for the container",
        );
    }
    let Some(id) = running(&shared, &wanted).await else {
        let Wanted {
            namespace,
            pod,
            container,
            ..
        } = &wanted;
        let message = format!("container {container:?} of pod {namespace}/{pod} is not running");
        return refuse(StatusCode::BAD_REQUEST, &message);
    };
    let (near, far) = tokio::io::duplex(PIPE);
    let incoming = BodyStream::new(request.into_body());
    let incoming = incoming.filter_map(|frame| async move {
        let data = frame.map(|frame| frame.into_data().ok());
        data.map_err(std::io::Error::other).transpose()
    });
    let socket = tokio::io::join(StreamReader::new(Box::pin(incoming)), near);
    let left = CancellationToken::new();
    let leaves = left.clone().drop_guard();
    // The task ends with the command or with the connection.
    tokio::spawn(async move {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE))
            .max_frame_size(Some(MESSAGE));
        let socket = WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await;
        tokio::select! {
            () = serve(&shared, &wanted, id, spec, socket) => {}
            // What the command is doing with the client's input does not matter then: it ends with all that it started.
            () = left.cancelled() => {}
        }
    });
    let body = StreamBody::new(ReaderStream::new(far).map(move |piece| {
        let _until_dropped = &leaves;
        piece.map(Frame::data)
    }));
    Response::new(BodyExt::boxed(body))
}

/// Id of the container's running run.
async fn running(shared: &Shared, wanted: &Wanted) -> Option<String> {
    let sandbox = shared.runtime.pod(&wanted.uid)?;
    let runs = STREAMS
        .run(&wanted.uid, move || sandbox.containers())
        .await
        .ok()?;
    let mut runs = runs
        .into_iter()
        .filter(|run| run.annotations.get(CONTAINER) == Some(&wanted.container));
    let run = runs.find(|run| run.state.is_running())?;
    tracing::debug!(
        container = wanted.container,
        attempt = run.annotations.get(ATTEMPT),
        "run a command"
    );
    Some(run.id)
}

/// Runs the command and moves its streams until it ends or the client leaves.
async fn serve<S>(
    shared: &Shared,
    wanted: &Wanted,
    id: String,
    spec: ExecSpec,
    mut socket: WebSocketStream<S>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let started = match shared.runtime.pod(&wanted.uid) {
        Some(sandbox) => STREAMS
            .run(&wanted.uid, move || sandbox.exec(&id, &spec))
            .await
            .map_err(|error| error.message),
        None => Err("the pod's sandbox is gone".to_owned()),
    };
    let status = match started {
        Ok(process) => match attend(&process, &mut socket).await {
            Ok(Some(code)) => exit_status(code),
            Ok(None) => return,
            Err(error) => failure(&error.message, "InternalError", None),
        },
        Err(message) => failure(&message, "InternalError", None),
    };
    if let Err(error) = say_farewell(&mut socket, &status).await {
        tracing::debug!(%error, "end the streams of a command");
    }
}

/// Sends how the command ended and closes the connection.
async fn say_farewell<S>(socket: &mut WebSocketStream<S>, status: &Value) -> Result<(), tungstenite::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut last = vec![ERROR];
    last.extend(status.to_string().into_bytes());
    socket.send(Message::binary(last)).await?;
    // kubectl takes any other end, one without a code too, for a broken connection.
    let end = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    socket.close(Some(end)).await
}

/// The exit code; `None` when the client left first. The command is then ended, with all that it started.
async fn attend<S>(process: &Exec, socket: &mut WebSocketStream<S>) -> runtime::Result<Option<i32>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut stdout = Output::new(STDOUT, process.stdout()?);
    let mut stderr = Output::new(STDERR, process.stderr()?);
    let mut stdin = process.stdin()?;
    // What the command has not taken yet. More is read only then, so that a command that does not read holds up its client and nobody else.
    let mut input = Bytes::new();
    let mut exit = std::pin::pin!(process.wait());
    let code = loop {
        let piece = tokio::select! {
            code = &mut exit => break code?,
            piece = stdout.piece() => piece,
            piece = stderr.piece() => piece,
            written = write(&stdin, &input), if !input.is_empty() => {
                match written {
                    Ok(count) => drop(input.split_to(count)),
                    Err(error) => {
                        tracing::debug!(%error, "write to a command");
                        stdin = None;
                        input.clear();
                    }
                }
                continue;
            }
            message = socket.next(), if input.is_empty() => {
                match message {
                    Some(Ok(Message::Binary(data))) => obey(process, &mut stdin, &mut input, data),
                    // Python's client sends text as text.
                    Some(Ok(Message::Text(text))) => obey(process, &mut stdin, &mut input, text.into()),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => {
                        process.signal(KILL)?;
                        return Ok(None);
                    }
                    Some(Ok(_)) => {}
                }
                continue;
            }
        };
        if socket.send(Message::Binary(piece)).await.is_err() {
            process.signal(KILL)?;
            return Ok(None);
        }
    };
    drop(stdin);
    for output in [&mut stdout, &mut stderr] {
        let mut left = LAST_BYTES;
        // A process in the background may hold it open, and may go on writing.
        while left > 0
            && output.pipe.is_some()
            && let Ok(piece) = tokio::time::timeout(LAST_OUTPUT, output.piece_or_end()).await
        {
            let Some(piece) = piece else { break };
            left = left.saturating_sub(piece.len());
            if socket.send(Message::Binary(piece)).await.is_err() {
                return Ok(None);
            }
        }
    }
    Ok(Some(code))
}

/// A stream of a command, as messages.
struct Output {
    channel: u8,
    pipe: Option<ExecStream>,
}

impl Output {
    fn new(channel: u8, pipe: Option<ExecStream>) -> Self {
        Self { channel, pipe }
    }

    /// The next message; never, after the end.
    async fn piece(&mut self) -> Bytes {
        match self.piece_or_end().await {
            Some(piece) => piece,
            None => std::future::pending().await,
        }
    }

    /// The next message; `None` at the end.
    async fn piece_or_end(&mut self) -> Option<Bytes> {
        let mut piece = vec![self.channel; PIECE];
        match self.pipe.as_ref()?.read(&mut piece[1..]).await {
            Ok(length) if length > 0 => {
                piece.truncate(length + 1);
                Some(piece.into())
            }
            // A terminal whose last process has ended answers with an error.
            Ok(_) | Err(_) => {
                self.pipe = None;
                None
            }
        }
    }
}

async fn write(stdin: &Option<ExecStream>, input: &[u8]) -> io::Result<usize> {
    match stdin {
        Some(stdin) => stdin.write(input).await,
        None => Ok(input.len()),
    }
}

/// One message of the client.
fn obey(process: &Exec, stdin: &mut Option<ExecStream>, input: &mut Bytes, data: Bytes) {
    match data.split_first() {
        Some((&STDIN, bytes)) if stdin.is_some() => *input = data.slice_ref(bytes),
        Some((&RESIZE, size)) => {
            if let Some(size) = size_of(size)
                && let Err(error) = process.resize(size)
            {
                tracing::debug!(%error, "resize a terminal");
            }
        }
        Some((&CLOSE, [STDIN])) => *stdin = None,
        _ => {}
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

fn size_of(text: &[u8]) -> Option<TerminalSize> {
    let Size { width, height } = serde_json::from_slice(text).ok()?;
    Some(TerminalSize { width, height })
}

fn exit_status(code: i32) -> Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    let message = format!("command terminated with non-zero exit code: exit status {code}");
    failure(&message, "NonZeroExitCode", Some(code))
}

fn failure(message: &str, reason: &str, code: Option<i32>) -> Value {
    let mut status = json!({"metadata": {}, "status": "Failure", "message": message, "reason": reason});
    match code {
        Some(code) => {
            let cause = json!({"reason": "ExitCode", "message": code.to_string()});
            status["details"] = json!({ "causes": [cause] });
        }
        None => status["code"] = 500.into(),
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_connection_ends_with_the_exit_and_a_normal_close() {
        let (near, far) = tokio::io::duplex(PIPE);
        let mut server = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
        let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
        say_farewell(&mut server, &exit_status(7))
            .await
            .expect("it is sent");
        let exit = client.next().await.expect("the exit").expect("it is read");
        assert_eq!(exit.into_data()[0], ERROR);
        let end = client.next().await.expect("the end").expect("it is read");
        let Message::Close(Some(end)) = end else {
            panic!("{end:?}")
        };
        assert_eq!(u16::from(end.code), 1000);
    }

    #[test]
    fn the_exit_travels_as_a_status() {
        assert_eq!(exit_status(0), json!({"metadata": {}, "status": "Success"}));
        let status = exit_status(3);
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(
            status["details"]["causes"][0],
            json!({"reason": "ExitCode", "message": "3"})
        );
    }

    #[test]
    fn a_terminal_size_is_read_as_kubectl_writes_it() {
        let size = size_of(br#"{"Width":80,"Height":24}"#);
        let expected = TerminalSize {
            width: 80,
            height: 24,
        };
        assert_eq!(size, Some(expected));
        assert_eq!(size_of(b"nonsense"), None);
    }
}
