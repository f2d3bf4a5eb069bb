//! A server's data over kills while it closes, a full disk, a lost folder, backups.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::{Process, eventually, is_root, skip};

/// Starts that are stopped and killed a moment later.
const KILLED_CLOSINGS: u64 = 40;
/// The longest such moment, in milliseconds: a closing takes about as long.
const KILLED_WITHIN: u64 = 30;
/// Log that a server may write while its disk stays full for some seconds: a line for each change of state, and those
/// of clients that try again.
const LOG_BYTES_MAX: u64 = 64 << 10;
const SMALL_DISK: &str = "24m";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn config_map(name: &str, bytes: usize) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"x": "y".repeat(bytes)}})
        .to_string()
}

fn create(server: &Process, name: &str, bytes: usize) -> testkit::Output {
    server
        .client()
        .run_with_input(&["create", "-f", "-"], &config_map(name, bytes))
}

fn has(server: &Process, name: &str) -> bool {
    server.client().run(&["get", "configmap", name]).success
}

#[test]
fn server_starts_after_any_kill_while_it_closes() -> Result<()> {
    let mut server = Process::start(super::binary(), "server", &[])?;
    for round in 0..KILLED_CLOSINGS {
        let name = format!("round-{round}");
        ensure!(create(&server, &name, 10).success, "round {round}");
        server.terminate()?;
        // Spread over the whole closing; which points are hit differs from run to run.
        sleep(Duration::from_millis(round * 7 % KILLED_WITHIN));
        server.kill()?;
        server
            .restart()
            .with_context(|| format!("start after the killed closing {round}"))?;
        ensure!(has(&server, &name), "{name} was acknowledged and is lost");
    }
    Ok(())
}

#[test]
fn store_is_closed_when_the_node_beside_it_cannot_start() -> Result<()> {
    if !is_root() {
        skip("a node needs root");
        return Ok(());
    }
    let failed = Process::start(super::binary(), "up", &["--node-label", "a=1,a=2"]);
    let error = failed.err().context("the labels are refused")?;
    ensure!(format!("{error:#}").contains("is given twice"), "{error:#}");
    // The folder of a failed start is gone; the same again in one that stays.
    let folder = tempfile::tempdir()?;
    let listen = format!("127.0.0.1:{}", testkit::free_port()?);
    let ended = Command::new(super::binary())
        .args(["up", "--node-label", "a=1,a=2", "--listen", &listen, "--data-dir"])
        .arg(folder.path())
        .output()?;
    ensure!(!ended.status.success(), "it ended in order");
    let seal = fs::read(folder.path().join("store/seal"))?;
    ensure!(
        seal.first() == Some(&b'c'),
        "the seal does not say that the store was closed"
    );
    Ok(())
}

/// A small filesystem at `path`, which holds what was there. Unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn over(path: &Path) -> Result<SmallDisk> {
        let aside = path.with_extension("aside");
        fs::rename(path, &aside)?;
        fs::create_dir(path)?;
        run(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                &format!("size={SMALL_DISK}"),
                "small",
                &path.display().to_string(),
            ],
        )?;
        let disk = SmallDisk(path.to_owned());
        run(
            "cp",
            &[
                "-a",
                &format!("{}/.", aside.display()),
                &path.display().to_string(),
            ],
        )?;
        Ok(disk)
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Takes all space that is left.
    fn fill(&self) {
        // It ends when nothing is left, with an error.
        let zeros = fs::File::open("/dev/zero").and_then(|mut zeros| {
            let mut filler = fs::File::create(self.filler())?;
            std::io::copy(&mut zeros, &mut filler)
        });
        drop(zeros);
    }

    fn has_space_again(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("remove the filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(run("umount", &["-l", &self.0.display().to_string()]));
    }
}

fn run(program: &str, words: &[&str]) -> Result<()> {
    let status = Command::new(program).args(words).status()?;
    ensure!(status.success(), "{program} {words:?}: {status}");
    Ok(())
}

fn readyz(server: &Process) -> testkit::Output {
    server.client().run(&["get", "--raw", "/readyz"])
}

#[test]
fn server_lives_through_a_full_disk() -> Result<()> {
    if !is_root() {
        skip("mounting needs root");
        return Ok(());
    }
    let mut server = Process::start(super::binary(), "server", &[])?;
    ensure!(create(&server, "before", 10).success);
    server.stop()?;
    let disk = SmallDisk::over(&server.data_dir())?;
    server.restart()?;

    disk.fill();
    let mut number = 0;
    eventually("a write to be refused", || {
        number += 1;
        Ok(!create(&server, &format!("filling-{number}"), 100_000).success)
    })?;
    let refused = create(&server, "refused", 100_000);
    ensure!(
        refused.stderr.contains("No space left on device"),
        "{}",
        refused.stderr
    );
    // A smaller write may still fit: between two large ones the server may be ready for a moment.
    eventually("/readyz to name the store", || {
        number += 1;
        create(&server, &format!("filling-{number}"), 100_000);
        Ok(readyz(&server).stderr.contains("etcd"))
    })?;
    ensure!(has(&server, "before"), "reads go on");
    let log_before = server.log().len();
    // Time in which a loop without a pause would write gigabytes.
    sleep(Duration::from_secs(3));
    let logged = (server.log().len() - log_before) as u64;
    ensure!(logged < LOG_BYTES_MAX, "{logged} bytes of log");

    disk.has_space_again()?;
    eventually("writes to be taken again", || {
        Ok(create(&server, "after", 10).success)
    })?;
    eventually("the server to be ready again", || Ok(readyz(&server).success))?;
    ensure!(!has(&server, "refused"), "what was refused did not happen");

    // Stopped on a full disk, it says so by its exit code; started on one, it can be read.
    disk.fill();
    eventually("a write to be refused", || {
        number += 1;
        Ok(!create(&server, &format!("filling-{number}"), 100_000).success)
    })?;
    let status = server.stop()?;
    ensure!(
        !status.success(),
        "it could not be closed and ended with {status}"
    );
    server.launch()?;
    eventually("reads on a full disk", || Ok(has(&server, "after")))?;
    disk.has_space_again()?;
    eventually("the server to be ready", || Ok(readyz(&server).success))?;
    ensure!(create(&server, "last", 10).success);
    let status = server.stop()?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

#[test]
fn server_refuses_to_start_when_its_keys_are_lost() -> Result<()> {
    let mut server = Process::start(super::binary(), "server", &[])?;
    server.stop()?;
    let pki = server.data_dir().join("pki");
    let aside = server.data_dir().join("aside");
    fs::rename(&pki, &aside)?;
    server.launch()?;
    ensure!(!server.wait_for_end()?.success());
    ensure!(
        server.log().contains("put the folder pki back from a backup"),
        "{}",
        server.log()
    );
    ensure!(!pki.exists(), "no new authority was made");
    fs::rename(&aside, &pki)?;
    server.restart()
}

fn store_verb(server: &Process, words: &[&str], file: &Path) -> testkit::Output {
    let (file, data_dir) = (
        file.display().to_string(),
        server.data_dir().display().to_string(),
    );
    let words = [&["store"], words, &[&file, "--data-dir", &data_dir]].concat();
    server.client().run(&words)
}

#[test]
fn backup_of_a_running_server_brings_the_cluster_back() -> Result<()> {
    let mut server = Process::start(super::binary(), "server", &[])?;
    ensure!(create(&server, "kept", 10).success);
    let file = server.folder().join("backup");
    let done = store_verb(&server, &["backup"], &file);
    ensure!(done.success, "{}", done.stderr);
    ensure!(create(&server, "lost", 10).success);
    let lost: Value = server.client().json(&["get", "configmap", "lost", "-o", "json"]);
    let lost = lost["metadata"]["resourceVersion"]
        .as_str()
        .context("its version")?
        .to_owned();
    let refused = store_verb(&server, &["restore", "--force"], &file);
    ensure!(
        !refused.success && refused.stderr.contains("is in use"),
        "{}",
        refused.stderr
    );
    server.stop()?;

    // As on a new machine: nothing is there but the file.
    fs::remove_dir_all(server.data_dir())?;
    let done = store_verb(&server, &["restore"], &file);
    ensure!(done.success, "{}", done.stderr);
    let admin = server.kubeconfig();
    ensure!(!admin.exists());
    server.restart()?;
    ensure!(has(&server, "kept") && !has(&server, "lost"));
    let path = format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=5&resourceVersion={lost}");
    let watched = server.client().run(&["get", "--raw", &path]);
    let said = format!("{}{}", watched.stdout, watched.stderr);
    ensure!(
        said.contains("410") || said.contains("Expired") || said.contains("too old"),
        "{said}"
    );

    // A stopped server's data can be backed up too, and a second restore has to be forced.
    server.stop()?;
    let second = server.folder().join("second");
    let done = store_verb(&server, &["backup"], &second);
    ensure!(done.success, "{}", done.stderr);
    let refused = store_verb(&server, &["restore"], &second);
    ensure!(
        !refused.success && refused.stderr.contains("--force"),
        "{}",
        refused.stderr
    );
    let done = store_verb(&server, &["restore", "--force"], &second);
    ensure!(done.success, "{}", done.stderr);
    server.restart()?;
    ensure!(has(&server, "kept"));
    Ok(())
}
