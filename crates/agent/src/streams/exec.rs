//! `POST /exec/<namespace>/<pod>/<container>`: a command in a container, its streams as WebSocket messages.
//!
//! Request and response bodies carry raw WebSocket frames: the API server has answered the client's upgrade and copies bytes.
//! Each message begins with its channel: 0 standard input, 1 output, 2 error, 3 the exit as a Status, 4 terminal sizes, and in
//! the fifth version of the protocol 255, which closes the channel that follows.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::{Frame, Incoming};
use runtime::{Exec, ExecSpec, TerminalSize};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::io::{ReaderStream, StreamReader};

use super::{Body, Query, Wanted, refuse};
use crate::container::{ATTEMPT, CONTAINER};
use crate::worker::{Shared, blocking};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Bytes between the command and the connection.
const PIPE: usize = 64 << 10;
/// Messages that wait for a slow command or a slow client.
const MESSAGES: usize = 16;
/// How much of the output is one message, in bytes.
const PIECE: usize = 16 << 10;
/// How long the exit is waited for at a time; the answer comes at once when it ends.
const WAIT: Duration = Duration::from_secs(60);
/// A process in the background may hold the output open after the command has ended: it is not waited for longer.
const LAST_OUTPUT: Duration = Duration::from_secs(1);
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
    // The task ends with the command or with the connection.
    tokio::spawn(async move {
        let socket = WebSocketStream::from_raw_socket(socket, Role::Server, None).await;
        serve(&shared, &wanted, id, spec, socket).await;
    });
    let body = StreamBody::new(ReaderStream::new(far).map(|piece| piece.map(Frame::data)));
    Response::new(BodyExt::boxed(body))
}

/// Id of the container's running run.
async fn running(shared: &Shared, wanted: &Wanted) -> Option<String> {
    let sandbox = shared.runtime.pod(&wanted.uid)?;
    let runs = blocking(move || sandbox.containers()).await.ok()?;
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
        Some(sandbox) => blocking(move || sandbox.exec(&id, &spec).map(Arc::new))
            .await
            .map_err(|error| error.message),
        None => Err("the pod's sandbox is gone".to_owned()),
    };
    let status = match started {
        Ok(process) => match attend(&process, &mut socket).await {
            Some(code) => exit_status(code),
            None => return,
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

/// The exit code; `None` when the client left first (the command is then killed).
async fn attend<S>(process: &Arc<Exec>, socket: &mut WebSocketStream<S>) -> Option<i32>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (output, mut pieces) = mpsc::channel::<Bytes>(MESSAGES);
    for (channel, pipe) in [(STDOUT, process.stdout()), (STDERR, process.stderr())] {
        if let Some(pipe) = pipe {
            let output = output.clone();
            tokio::task::spawn_blocking(move || read(pipe, channel, &output));
        }
    }
    drop(output);
    let mut stdin = process.stdin().map(|pipe| {
        let (input, received) = mpsc::channel::<Bytes>(MESSAGES);
        tokio::task::spawn_blocking(move || write(pipe, received));
        input
    });
    let mut exit = tokio::task::spawn_blocking({
        let process = Arc::clone(process);
        move || wait(&process)
    });
    let mut reading = true;
    let code = loop {
        tokio::select! {
            code = &mut exit => break code.unwrap_or(-1),
            piece = pieces.recv(), if reading => match piece {
                Some(piece) => send(socket, process, piece).await?,
                None => reading = false,
            },
            message = socket.next() => match message {
                Some(Ok(Message::Binary(data))) => obey(process, &mut stdin, data).await,
                Some(Ok(Message::Close(_)) | Err(_)) | None => {
                    kill(process).await;
                    return None;
                }
                Some(Ok(_)) => {}
            },
        }
    };
    let drained = tokio::time::timeout(LAST_OUTPUT, async {
        while let Some(piece) = pieces.recv().await {
            send(socket, process, piece).await?;
        }
        Some(())
    });
    match drained.await {
        Ok(Some(())) | Err(_) => Some(code),
        Ok(None) => None,
    }
}

async fn send<S>(socket: &mut WebSocketStream<S>, process: &Arc<Exec>, piece: Bytes) -> Option<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    if socket.send(Message::Binary(piece)).await.is_ok() {
        return Some(());
    }
    kill(process).await;
    None
}

/// One message of the client.
async fn obey(process: &Arc<Exec>, stdin: &mut Option<mpsc::Sender<Bytes>>, data: Bytes) {
    match data.split_first() {
        Some((&STDIN, input)) => {
            if let Some(pipe) = stdin
                && pipe.send(data.slice_ref(input)).await.is_err()
            {
                *stdin = None;
            }
        }
        Some((&RESIZE, size)) => {
            if let Some(size) = size_of(size) {
                let process = Arc::clone(process);
                if let Err(error) = blocking(move || process.resize(size)).await {
                    tracing::debug!(%error, "resize a terminal");
                }
            }
        }
        Some((&CLOSE, [STDIN])) => *stdin = None,
        _ => {}
    }
}

async fn kill(process: &Arc<Exec>) {
    let process = Arc::clone(process);
    if let Err(error) = blocking(move || process.signal(KILL)).await {
        tracing::debug!(%error, "kill a command whose client left");
    }
}

fn wait(process: &Exec) -> i32 {
    loop {
        match process.wait(WAIT) {
            Ok(Some(code)) => return code,
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%error, "wait for a command");
                return -1;
            }
        }
    }
}

fn read(mut pipe: File, channel: u8, output: &mpsc::Sender<Bytes>) {
    let mut piece = vec![0; PIECE];
    loop {
        match pipe.read(&mut piece[1..]) {
            Ok(0) => return,
            Ok(length) => {
                piece[0] = channel;
                if output
                    .blocking_send(Bytes::copy_from_slice(&piece[..=length]))
                    .is_err()
                {
                    return;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // A terminal whose last process has ended answers with an error.
            Err(_) => return,
        }
    }
}

fn write(mut pipe: File, mut received: mpsc::Receiver<Bytes>) {
    while let Some(piece) = received.blocking_recv() {
        if let Err(error) = pipe.write_all(&piece) {
            tracing::debug!(%error, "write to a command");
            return;
        }
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
