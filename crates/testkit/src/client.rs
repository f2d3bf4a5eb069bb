//! Client programs: our own verbs and every available kubectl.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Output of a client.
#[derive(Debug, Clone)]
pub struct Output {
    /// Whether the exit code was 0.
    pub success: bool,
    /// Exit code; -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A program with a kubeconfig.
#[derive(Debug, Clone)]
pub struct Client {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Client {
    /// Returns a client. `program` may be `everynode` or any kubectl.
    pub fn new(program: &Path, kubeconfig: &Path) -> Self {
        Self {
            program: program.to_owned(),
            kubeconfig: kubeconfig.to_owned(),
        }
    }

    /// Returns a command that is not started yet, for watches and streams.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        // kubectl keeps a discovery cache in HOME, which must not outlive the server.
        let home = self.kubeconfig.parent().unwrap_or(Path::new("/"));
        command
            .args(words)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", home)
            .stdin(Stdio::null());
        command
    }

    /// Runs the client to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        Self::finish(self.command(words))
    }

    /// Runs the client with `input` on standard input.
    pub fn run_with_input(&self, words: &[&str], input: &str) -> Output {
        use std::io::Write;
        let mut command = self.command(words);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = command.spawn().and_then(|mut child| {
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(input.as_bytes())?;
            }
            child.wait_with_output()
        });
        Self::read(started)
    }

    /// Runs the client and returns its standard output.
    ///
    /// # Panics
    /// When it fails, with its output.
    #[track_caller]
    pub fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(
            output.success,
            "{} {}: {}",
            self.program.display(),
            words.join(" "),
            output.stderr
        );
        output.stdout
    }

    /// Runs the client and parses its output as JSON.
    ///
    /// # Panics
    /// When it fails or the output is not JSON.
    #[track_caller]
    pub fn json(&self, words: &[&str]) -> Value {
        let text = self.ok(words);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}: {text}", words.join(" ")))
    }

    pub(crate) fn finish(mut command: Command) -> Output {
        Self::read(command.output())
    }

    fn read(output: std::io::Result<std::process::Output>) -> Output {
        match output {
            Ok(output) => Output {
                success: output.status.success(),
                code: output.status.code().unwrap_or(-1),
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            },
            Err(error) => Output {
                success: false,
                code: -1,
                stdout: String::new(),
                stderr: error.to_string(),
            },
        }
    }
}

/// Returns every available kubectl, oldest first: the one in `EVERYNODE_KUBECTL_OLD` (Debian's
/// 1.20, which `cargo xtask ci` unpacks) and the one on PATH.
pub fn kubectls() -> Vec<PathBuf> {
    let old = std::env::var_os("EVERYNODE_KUBECTL_OLD").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let new = std::env::split_paths(&path)
        .map(|folder| folder.join("kubectl"))
        .find(|file| file.exists());
    old.into_iter().chain(new).filter(|file| file.exists()).collect()
}
