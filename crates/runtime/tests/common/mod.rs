//! A machine for tests: a runtime in its own folder, with a busybox image that is created here. It
//! is cleaned up at the end.
//!
//! These tests need root and the Debian packages `busybox-static` and `nftables`.

#![allow(
    clippy::mod_module_files,
    reason = "cargo would take `common.rs` itself for a test program"
)]
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod registry;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use runtime::{
    ContainerSpec, ContainerState, ContainerStatus, ErrorKind, Event, ExecSpec, LogPath, NetworkConfig,
    Options, Pod, Ranges, Redirect, Resources, Runtime, SandboxSpec, ShimCommand,
};
use tokio::sync::mpsc;

pub(crate) const IMAGE: &str = "test.example/busybox:1";

/// Timeout that exceeds every wait here, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A runtime in its own folder.
pub(crate) struct Machine {
    pub(crate) runtime: Option<Runtime>,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) folder: tempfile::TempDir,
    range: u8,
}

impl Machine {
    pub(crate) fn new() -> Machine {
        Machine::with(Vec::new())
    }

    /// Creates a machine with limits for all pods together.
    pub(crate) fn limited(pods: Resources) -> Machine {
        Machine::open(|options| options.pods = pods)
    }

    pub(crate) fn with(redirects: Vec<Redirect>) -> Machine {
        Machine::open(|options| options.redirects = redirects)
    }

    fn open(change: impl FnOnce(&mut Options)) -> Machine {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        // Tests of other files run in other processes at the same time. Their ranges must differ,
        // too.
        let range = (std::process::id() as u8)
            .wrapping_mul(16)
            .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::tempdir().unwrap();
        let (sender, events) = mpsc::channel(1024);
        let mut options = options(range, Some(sender));
        change(&mut options);
        let runtime = Runtime::open(folder.path(), options).unwrap();
        runtime
            .images()
            .import(&busybox_archive(folder.path()), None)
            .unwrap();
        Machine {
            runtime: Some(runtime),
            events,
            folder,
            range,
        }
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().unwrap()
    }

    /// Ends the agent and starts another one.
    pub(crate) fn restart(&mut self) {
        self.runtime = None;
        let (sender, events) = mpsc::channel(1024);
        self.runtime = Some(Runtime::open(self.folder.path(), options(self.range, Some(sender))).unwrap());
        self.events = events;
    }

    pub(crate) fn pod(&self, id: &str) -> Pod {
        self.pod_of(SandboxSpec {
            id: id.to_owned(),
            hostname: Some(id.to_owned()),
            ..SandboxSpec::default()
        })
    }

    pub(crate) fn pod_of(&self, spec: SandboxSpec) -> Pod {
        self.runtime().create_pod(&spec).unwrap()
    }

    pub(crate) fn log_path(&self, name: &str) -> PathBuf {
        self.folder.path().join("logs").join(name)
    }

    /// Returns a container's log without times, streams and tags.
    pub(crate) fn log(&self, name: &str) -> String {
        let text = fs::read_to_string(self.log_path(name)).unwrap();
        text.lines()
            .map(|line| line.splitn(4, ' ').nth(3).unwrap().to_owned() + "\n")
            .collect()
    }

    /// Runs a shell script in a container of a pod to its end. Returns its output and its status.
    pub(crate) fn run(
        &self,
        pod: &Pod,
        script: &str,
        change: impl FnOnce(&mut ContainerSpec),
    ) -> (String, ContainerStatus) {
        let spec = self.shell(script, change);
        pod.start_container(&spec).unwrap();
        let status = pod
            .wait_container(&spec.id, PATIENCE)
            .unwrap()
            .expect("it ends in time");
        (self.log(&spec.id), status)
    }

    pub(crate) fn shell(&self, script: &str, change: impl FnOnce(&mut ContainerSpec)) -> ContainerSpec {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let mut spec = ContainerSpec {
            id: format!("c{}", NEXT.fetch_add(1, Ordering::Relaxed)),
            image: IMAGE.into(),
            command: vec!["/bin/sh".into(), "-c".into(), script.into()],
            ..ContainerSpec::default()
        };
        change(&mut spec);
        spec.log_path = Some(LogPath::new(self.folder.path(), format!("logs/{}", spec.id)));
        spec
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(runtime) = &self.runtime {
            let cleaned = runtime.clean_up();
            if !std::thread::panicking() {
                cleaned.unwrap();
            }
        }
        if !std::thread::panicking() {
            testkit::assert_no_mounts(self.folder.path());
        }
    }
}

fn options(range: u8, events: Option<mpsc::Sender<Event>>) -> Options {
    Options {
        network: Some(network(&[&format!("10.198.{range}.0/24")])),
        shim: ShimCommand {
            program: env!("CARGO_BIN_EXE_runtime-test-shim").into(),
            arguments: Vec::new(),
        },
        events,
        ..Options::default()
    }
}

/// Returns a network with these ranges.
pub(crate) fn network(ranges: &[&str]) -> NetworkConfig {
    NetworkConfig {
        ranges: Ranges::Given(ranges.iter().map(|range| range.parse().unwrap()).collect()),
        ..NetworkConfig::default()
    }
}

/// Returns the exit code of a container.
pub(crate) fn exit_code(status: &ContainerStatus) -> i32 {
    match status.state {
        ContainerState::Exited { exit_code, .. } => exit_code,
        ContainerState::Running { .. } => panic!("{} runs", status.id),
    }
}

pub(crate) fn pid(status: &ContainerStatus) -> i32 {
    match status.state {
        ContainerState::Running { pid, .. } => pid,
        ContainerState::Exited { .. } => panic!("{} has ended", status.id),
    }
}

/// Returns the process id of the shim that is the parent of a container.
pub(crate) fn shim_of(container: &ContainerStatus) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid(container))).unwrap();
    let fields = stat.rsplit_once(") ").unwrap().1;
    fields.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Waits until a condition becomes true.
pub(crate) fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    testkit::eventually(what, || Ok(check())).unwrap();
}

/// Runs a future that waits on tokio's reactor.
pub(crate) fn on_reactor<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(work)
}

/// Runs a command in a container. Returns its output and exit code.
pub(crate) fn exec(pod: &Pod, container: &str, command: &[&str]) -> (String, i32) {
    let spec = ExecSpec {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        stdout: true,
        ..ExecSpec::default()
    };
    let exec = pod.exec(container, &spec).unwrap();
    let finished = on_reactor(exec.finish(PATIENCE, usize::MAX)).unwrap();
    let code = finished.code.expect("it ends in time");
    (String::from_utf8(finished.output).unwrap(), code)
}

/// Creates an image of busybox as `docker save` writes it, with one gzip layer.
pub(crate) fn busybox_archive(folder: &Path) -> PathBuf {
    let layer = layer(|tar| {
        let mut busybox = File::open("/bin/busybox").expect("install busybox-static");
        tar.append_file("bin/busybox", &mut busybox).unwrap();
        for name in [
            "sh", "cat", "id", "sleep", "tail", "httpd", "wget", "env", "pwd", "ls", "mount", "grep", "stty",
            "hostname", "nc", "ps",
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            header.set_mode(0o777);
            tar.append_link(&mut header, format!("bin/{name}"), "busybox")
                .unwrap();
        }
        file(
            tar,
            "etc/passwd",
            b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv:/bin/sh\n",
            0o644,
        );
        file(tar, "etc/group", b"root:x:0:\nwww:x:34:\nlog:x:4:web\n", 0o644);
        file(tar, "srv/index.html", b"hello from the pod\n", 0o644);
        file(tar, "bin/broken", b"no program\n", 0o755);
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        header.set_mode(0o1777);
        tar.append_data(&mut header, "tmp/", std::io::empty()).unwrap();
    });
    docker_archive(&folder.join("busybox.tar"), IMAGE, &[layer], "")
}

pub(crate) fn file(tar: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, path, content).unwrap();
}

pub(crate) fn layer(fill: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    fill(&mut tar);
    tar.into_inner().unwrap()
}

/// Returns this machine's architecture with the name that images use.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a docker archive of these layers. `config` is inserted into the image config's `config`
/// object.
pub(crate) fn docker_archive(path: &Path, name: &str, layers: &[Vec<u8>], config: &str) -> PathBuf {
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| format!("\"sha256:{}\"", sha256(layer)))
        .collect();
    let config = format!(
        r#"{{"architecture":"{}","os":"linux","config":{{"Env":["PATH=/bin","FROM_IMAGE=1"]{config}}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        architecture(),
        diff_ids.join(",")
    );
    let names: Vec<String> = (0..layers.len())
        .map(|index| format!("\"{index}.tar\""))
        .collect();
    let manifest = format!(
        r#"[{{"Config":"config.json","RepoTags":["{name}"],"Layers":[{}]}}]"#,
        names.join(",")
    );
    let archive = layer(|tar| {
        for (index, content) in layers.iter().enumerate() {
            // Only the format matters here, not the size.
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
            std::io::Write::write_all(&mut packed, content).unwrap();
            file(tar, &format!("{index}.tar"), &packed.finish().unwrap(), 0o644);
        }
        file(tar, "config.json", config.as_bytes(), 0o644);
        file(tar, "manifest.json", manifest.as_bytes(), 0o644);
    });
    fs::write(path, archive).unwrap();
    path.to_path_buf()
}

pub(crate) fn kind<T: std::fmt::Debug>(result: runtime::Result<T>) -> (ErrorKind, String) {
    let error = result.unwrap_err();
    (error.kind, error.message)
}
