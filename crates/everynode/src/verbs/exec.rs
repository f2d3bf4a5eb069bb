//! `everynode exec`: runs a command in a container, on this terminal with `-t`.

use std::os::fd::AsFd;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use futures::SinkExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, TerminalSize};
use rustix::termios::{self, OptionalActions, Termios};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use super::{container_of, pod_of};
use crate::client::connection::ConnectArgs;
use crate::client::resources::Resources;

/// Run a command in a container
#[derive(Args, Debug)]
pub(crate) struct Exec {
    /// Pod, or `ds/NAME` for one of its pods
    #[arg(value_name = "POD | TYPE/NAME")]
    target: String,

    /// Container (default: from the pod's annotation kubectl.kubernetes.io/default-container, or
    /// the first)
    #[arg(short, long)]
    container: Option<String>,

    /// Pass standard input to the command
    #[arg(short = 'i', long)]
    stdin: bool,

    /// Run the command in a terminal
    #[arg(short = 't', long)]
    tty: bool,

    /// Command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Exec {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<std::process::ExitCode> {
        let connection = connect.connect().await?;
        let resources = Resources::discover(&connection).await?;
        let pod = pod_of(&connection, &resources, &self.target).await?;
        let stdin = std::io::stdin();
        let tty = self.tty && termios::tcgetattr(stdin.as_fd()).is_ok();
        if self.tty && !tty {
            eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
        }
        let params = AttachParams {
            container: container_of(&connection, &pod, self.container.clone()).await?,
            stdin: self.stdin,
            stdout: true,
            stderr: !tty,
            tty,
            ..AttachParams::default()
        };
        let pods: Api<Pod> = Api::namespaced(connection.client.clone(), &connection.namespace);
        let mut process = pods
            .exec(&pod, self.command.clone(), &params)
            .await
            .map_err(refusal)?;
        let raw = if tty { Some(RawTerminal::enter()?) } else { None };
        let status = process.take_status();
        if let (true, Some(sizes)) = (tty, process.terminal_size()) {
            tokio::spawn(follow_size(sizes));
        }
        if let Some(input) = process.stdin() {
            // The task ends with the process at the latest.
            tokio::spawn(copy(tokio::io::stdin(), input));
        }
        let out = process
            .stdout()
            .map(|output| tokio::spawn(copy(output, tokio::io::stdout())));
        let err = process
            .stderr()
            .map(|output| tokio::spawn(copy(output, tokio::io::stderr())));
        for output in [out, err].into_iter().flatten() {
            output.await.context("copy the output")?;
        }
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        drop(raw);
        exit_code(status)
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    // A closed side ends the copy; the command's own status has the result. The shutdown reports
    // the end of input to the command.
    let _copied = tokio::io::copy(&mut from, &mut to).await;
    let _ended = to.shutdown().await;
}

/// Returns the command's exit code from the Status of the error channel.
fn exit_code(
    status: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Status>,
) -> Result<std::process::ExitCode> {
    let Some(status) = status else {
        return Err(anyhow!("the connection ended before the command did"));
    };
    if status.status.as_deref() == Some("Success") {
        return Ok(std::process::ExitCode::SUCCESS);
    }
    let causes = status
        .details
        .and_then(|details| details.causes)
        .unwrap_or_default();
    let code = causes
        .iter()
        .find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    match code
        .and_then(|cause| cause.message.as_deref())
        .and_then(|code| code.parse::<u8>().ok())
    {
        Some(code) => {
            eprintln!("command terminated with exit code {code}");
            Ok(std::process::ExitCode::from(code))
        }
        None => Err(anyhow!(
            status
                .message
                .unwrap_or_else(|| "the command could not be run".to_owned())
        )),
    }
}

/// Replaces the client library's error by the server's message.
fn refusal(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => crate::client::error::ServerError {
            code: status.code,
            reason: status.reason.clone(),
            message: status.message.clone(),
            context: None,
            object: None,
            causes: Vec::new(),
        }
        .into(),
        other => anyhow::Error::new(other).context("open the stream"),
    }
}

/// Sends the size of this terminal, now and after each change.
async fn follow_size(mut sizes: impl futures::Sink<TerminalSize> + Unpin) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else {
        return;
    };
    loop {
        if let Some((width, height)) = terminal_size()
            && sizes.send(TerminalSize { width, height }).await.is_err()
        {
            return;
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}

/// Returns columns and rows of the terminal on standard output.
fn terminal_size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some((size.ws_col, size.ws_row))
}

/// Terminal in raw mode until this is dropped.
struct RawTerminal(Termios);

impl RawTerminal {
    fn enter() -> Result<Self> {
        let before = termios::tcgetattr(std::io::stdin().as_fd()).context("read the terminal's mode")?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(std::io::stdin().as_fd(), OptionalActions::Now, &raw)
            .context("set the terminal to raw mode")?;
        Ok(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // If the terminal is closed, there is nothing to restore.
        let _restored = termios::tcsetattr(std::io::stdin().as_fd(), OptionalActions::Now, &self.0);
    }
}
