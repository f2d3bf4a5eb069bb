//! One call of one plugin.

use std::env;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use super::config::{self, Plugin};
use crate::error::Context as _;
use crate::patience::read_within;
use crate::{Error, Result};

/// Timeout of a plugin, the same as the kubelet's for calls to its runtime.
const PATIENCE: Duration = Duration::from_secs(120);
/// Folders in which plugins find programs such as `iptables` if the agent's `PATH` lacks them.
const PROGRAMS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Environment of a plugin.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Call<'a> {
    pub(super) container: &'a str,
    /// Path of the network namespace; empty if it does not exist any more.
    pub(super) netns: &'a str,
    pub(super) link: &'a str,
    pub(super) args: &'a str,
    /// Folders of plugins.
    pub(super) path: &'a [PathBuf],
}

/// Runs the program of a plugin and returns its result; null if it prints none. The error contains
/// the plugin's message.
pub(super) fn run(verb: &str, call: &Call<'_>, config: &Plugin) -> Result<Value> {
    let kind = config::kind(config).map_err(Error::invalid)?;
    let failed = |why: String| {
        let operation = match verb {
            "ADD" => "add",
            "DEL" => "delete",
            _ => "status",
        };
        Error::machine(format!("plugin type={kind:?} failed ({operation}): {why}"))
    };
    let program = find(kind, call.path).map_err(failed)?;
    let input = serde_json::to_vec(config).context(|| "encode a plugin's configuration")?;
    let mut child = command(&program, verb, call)
        .spawn()
        .map_err(|error| failed(format!("start {}: {error}", program.display())))?;
    let said = talk(&mut child, input).map_err(|error| failed(error.to_string()))?;
    let Some((answer, complaint)) = said else {
        return Err(failed(format!("it did not end within {} s", PATIENCE.as_secs())));
    };
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    if status.success() {
        if answer.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        return serde_json::from_slice(&answer).map_err(|error| failed(format!("read its answer: {error}")));
    }
    Err(failed(words(&answer, &complaint, &status.to_string())))
}

/// Returns the program of a plugin.
fn find(kind: &str, path: &[PathBuf]) -> std::result::Result<PathBuf, String> {
    let mut places = path.iter().map(|folder| folder.join(kind));
    places.find(|place| place.is_file()).ok_or_else(|| {
        let folders: Vec<String> = path.iter().map(|folder| folder.display().to_string()).collect();
        format!("failed to find plugin {kind:?} in path [{}]", folders.join(" "))
    })
}

fn command(program: &Path, verb: &str, call: &Call<'_>) -> Command {
    let mut command = Command::new(program);
    let plugins = env::join_paths(call.path).unwrap_or_default();
    let mut programs = env::var_os("PATH").unwrap_or_default();
    if !programs.is_empty() {
        programs.push(":");
    }
    programs.push(PROGRAMS);
    let variables: [(&str, OsString); 7] = [
        ("CNI_COMMAND", verb.into()),
        ("CNI_CONTAINERID", call.container.into()),
        ("CNI_NETNS", call.netns.into()),
        ("CNI_IFNAME", call.link.into()),
        ("CNI_ARGS", call.args.into()),
        ("CNI_PATH", plugins),
        ("PATH", programs),
    ];
    command
        .envs(variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A process group, so that its child processes are killed with it.
        .process_group(0);
    command
}

/// Writes a plugin's input and reads its result and its error output. Returns `None` if it was
/// killed after the timeout.
fn talk(child: &mut Child, input: Vec<u8>) -> std::io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let stdin = child.stdin.take();
    let stderr = child.stderr.take();
    let teller = thread::Builder::new().name("cni-stdin".into()).spawn(move || {
        // A plugin that ends early reports the reason itself.
        stdin.map(|mut stdin| stdin.write_all(&input))
    })?;
    let listener = thread::Builder::new().name("cni-stderr".into()).spawn(move || {
        let mut complaint = Vec::new();
        // A background process of the plugin may hold the pipe open.
        if let Some(Ok(Some(said))) = stderr.map(|stderr| read_within(stderr, PATIENCE)) {
            complaint = said;
        }
        complaint
    })?;
    let answer = match child.stdout.take() {
        Some(stdout) => read_within(stdout, PATIENCE)?,
        None => Some(Vec::new()),
    };
    if answer.is_none() {
        let group = i32::try_from(child.id()).map(Pid::from_raw);
        if let Ok(group) = group
            && let Err(error) = killpg(group, Signal::SIGKILL)
        {
            tracing::debug!(%group, %error, "a plugin has ended by itself");
        }
        child.wait()?;
    }
    drop(teller.join());
    let complaint = listener.join().unwrap_or_default();
    Ok(answer.map(|answer| (answer, complaint)))
}

/// Returns the message of a failed plugin: that of an error object, or its other output.
fn words(answer: &[u8], complaint: &[u8], status: &str) -> String {
    let object: Value = serde_json::from_slice(answer).unwrap_or_default();
    let text = |field: &str| object[field].as_str().filter(|text| !text.is_empty());
    if let Some(message) = text("msg") {
        return match text("details") {
            Some(details) => format!("{message}; {details}"),
            None => message.to_owned(),
        };
    }
    let said = [answer, complaint].map(String::from_utf8_lossy);
    let said = said.iter().map(|text| text.trim()).find(|text| !text.is_empty());
    match said {
        Some(text) => format!("{status}: {text}"),
        None => format!("{status}, with no error message"),
    }
}
