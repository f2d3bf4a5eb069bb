//! The first manifest that the project was made from, in real containers, by real clients.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use testkit::{Client, FLUENTD, Process, busybox, eventually, is_root, kubectls, skip, wait_for};

const IMAGE: &str = "quay.io/fluentd_elasticsearch/fluentd:v2.5.2";
/// Stands in for the collector: says good-bye on SIGTERM, and eats memory when it is asked to.
const COLLECTOR: &str = "trap 'echo bye > /var/log/$HOSTNAME.bye; exit 0' TERM; \
    echo collecting; while true; do [ -f /tmp/eat ] && exec tail /dev/zero; sleep 0.05; done";

/// `everynode up` on this machine with the collector's image, or nothing when there is no root.
fn machine_with_image() -> Result<Option<Process>> {
    if !is_root() {
        skip("containers need root");
        return Ok(None);
    }
    let up = Process::start(super::binary(), "up", &["--node-name", "node-a"])?;
    let archive = busybox(up.folder(), IMAGE, &["sh", "-c", COLLECTOR])?;
    import(&up, &archive);
    Ok(Some(up))
}

fn import(up: &Process, archive: &Path) {
    let (archive, data_dir) = (archive.display().to_string(), up.data_dir().display().to_string());
    let said = up
        .client()
        .ok(&["image", "import", &archive, "--data-dir", &data_dir]);
    assert!(said.starts_with("imported "), "{said}");
}

fn manifest(up: &Process, text: &str) -> Result<String> {
    let path = up.folder().join("daemon.yaml");
    std::fs::write(&path, text).context("write the manifest")?;
    Ok(path.display().to_string())
}

/// The name of the only pod in kube-system once it is Running and ready, and its node can be asked for it.
fn running_pod(client: &Client) -> Result<String> {
    wait_for("a Running pod", || {
        let table = client
            .run(&["get", "pods", "-n", "kube-system", "--no-headers"])
            .stdout;
        let rows: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        Ok(match rows.as_slice() {
            [row]
                if row.get(1) == Some(&"1/1")
                    && row.get(2) == Some(&"Running")
                    && client.run(&["logs", "-n", "kube-system", row[0]]).success =>
            {
                Ok(row[0].to_owned())
            }
            _ => Err(format!(
                "{table}{}",
                client.run(&["describe", "pods", "-n", "kube-system"]).stdout
            )),
        })
    })
}

fn gone(client: &Client) -> Result<()> {
    eventually("the pods to be gone", || {
        Ok(client
            .run(&["get", "pods", "-n", "kube-system", "-o", "name"])
            .stdout
            .trim()
            .is_empty())
    })
}

#[test]
fn the_seeds_manifest_runs_as_its_users_expect_with_every_kubectl() -> Result<()> {
    let _turn = super::machine();
    let Some(up) = machine_with_image()? else {
        return Ok(());
    };
    let file = manifest(&up, FLUENTD)?;
    let found = kubectls();
    if found.len() < 2 {
        skip("an old or a newer kubectl is not here");
    }
    let programs: Vec<PathBuf> = found.into_iter().chain([super::binary().to_owned()]).collect();
    for program in programs {
        let client = up.client_at(&program);
        let said = client.ok(&["create", "-f", &file]);
        assert_eq!(
            said,
            "daemonset.apps/fluentd-elasticsearch created\n",
            "{}",
            program.display()
        );
        let pod = running_pod(&client)?;
        let table = client.ok(&["get", "pods", "--all-namespaces"]);
        let header: Vec<&str> = table
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        assert_eq!(
            header,
            ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]
        );
        let row = table.lines().nth(1).unwrap_or_default();
        assert!(row.starts_with("kube-system   fluentd-elasticsearch-"), "{table}");
        // A started container has not yet written.
        let log = wait_for("the log", || {
            let said = client.run(&["logs", "-n", "kube-system", &pod]);
            Ok(if said.stdout.is_empty() {
                Err(said.stderr)
            } else {
                Ok(said.stdout)
            })
        })?;
        assert_eq!(log, "collecting\n");

        client.ok(&["delete", "-f", &file]);
        gone(&client)?;
        let bye = PathBuf::from(format!("/var/log/{pod}.bye"));
        assert_eq!(
            std::fs::read_to_string(&bye).context("the good-bye on SIGTERM")?,
            "bye\n"
        );
        std::fs::remove_file(&bye).context("remove the good-bye")?;
    }
    Ok(())
}

#[test]
fn volumes_and_limits_hold_inside_the_container() -> Result<()> {
    let _turn = super::machine();
    let Some(up) = machine_with_image()? else {
        return Ok(());
    };
    let client = up.client();
    client.ok(&["create", "-f", &manifest(&up, FLUENTD)?]);
    let pod = running_pod(&client)?;
    let exec = |script: &str| client.run(&["exec", "-n", "kube-system", &pod, "--", "sh", "-c", script]);

    assert_eq!(exec(&format!("echo written > /var/log/{pod}.probe")).code, 0);
    let probe = PathBuf::from(format!("/var/log/{pod}.probe"));
    assert_eq!(
        std::fs::read_to_string(&probe).context("the file on the machine")?,
        "written\n"
    );
    std::fs::remove_file(&probe).context("remove the probe")?;
    let refused = exec("touch /var/lib/docker/containers/probe");
    assert!(
        !refused.success && refused.stderr.contains("Read-only file system"),
        "{}",
        refused.stderr
    );
    assert_eq!(exec("exit 7").code, 7, "the command's exit code is the client's");
    let cat = ["exec", "-i", "-n", "kube-system", &pod, "--", "cat"];
    assert_eq!(
        client.run_with_input(&cat, "typed\n").stdout,
        "typed\n",
        "the end of the input ends the command"
    );
    for program in kubectls()
        .iter()
        .filter(|program| !program.ends_with("kubectl-debian/usr/bin/kubectl"))
    {
        let kubectl = up.client_at(program);
        let code = kubectl
            .run(&["exec", "-n", "kube-system", &pod, "--", "sh", "-c", "exit 7"])
            .code;
        assert_eq!(code, 7, "{}", program.display());
        assert_eq!(
            kubectl.run_with_input(&cat, "typed\n").stdout,
            "typed\n",
            "{}",
            program.display()
        );
    }

    // Its own end may be told too late: the container that eats takes all its processes along.
    exec("touch /tmp/eat");
    let killed = wait_for("the container to be killed for its memory", || {
        let pod = client.json(&["get", "pod", "-n", "kube-system", &pod, "-o", "json"]);
        let status = pod["status"]["containerStatuses"][0].clone();
        let last = &status["lastState"]["terminated"];
        Ok(if last.is_object() {
            Ok(last.clone())
        } else {
            Err(status.to_string())
        })
    })?;
    assert_eq!(
        (&killed["reason"], &killed["exitCode"]),
        (&"OOMKilled".into(), &137.into()),
        "{killed}"
    );
    Ok(())
}

#[test]
fn a_pod_that_is_deleted_or_crashes_comes_back() -> Result<()> {
    let _turn = super::machine();
    let Some(up) = machine_with_image()? else {
        return Ok(());
    };
    let client = up.client();
    client.ok(&["create", "-f", &manifest(&up, FLUENTD)?]);
    let first = running_pod(&client)?;
    client.ok(&["delete", "pod", "-n", "kube-system", &first]);
    let second = running_pod(&client)?;
    assert_ne!(first, second, "the replacement is another pod");

    client.run(&["exec", "-n", "kube-system", &second, "--", "touch", "/tmp/eat"]);
    wait_for("the container to be started again", || {
        let pod = client.json(&["get", "pod", "-n", "kube-system", &second, "-o", "json"]);
        let status = &pod["status"]["containerStatuses"][0];
        let back = status["restartCount"].as_i64() >= Some(1) && status["state"]["running"].is_object();
        Ok(if back { Ok(()) } else { Err(status.to_string()) })
    })
}

#[test]
fn without_the_image_the_status_says_what_to_do() -> Result<()> {
    let _turn = super::machine();
    if !is_root() {
        skip("containers need root");
        return Ok(());
    }
    let up = Process::start(super::binary(), "up", &["--node-name", "node-a"])?;
    let client = up.client();
    // A registry that refuses at once, so that the test needs no network.
    let text = FLUENTD.replace("quay.io/", "127.0.0.1:1/");
    client.ok(&["create", "-f", &manifest(&up, &text)?]);
    let mut seen = BTreeSet::new();
    let message = wait_for("ErrImagePull and then ImagePullBackOff", || {
        let pods = client.json(&["get", "pods", "-n", "kube-system", "-o", "json"]);
        let waiting = pods["items"][0]["status"]["containerStatuses"][0]["state"]["waiting"].clone();
        seen.insert(waiting["reason"].as_str().unwrap_or_default().to_owned());
        Ok(if waiting["reason"] == "ImagePullBackOff" {
            Ok(waiting["message"].to_string())
        } else {
            Err(pods.to_string())
        })
    })?;
    assert!(message.contains("fluentd:v2.5.2"), "{message}");
    let events = client.ok(&["describe", "pods", "-n", "kube-system"]);
    assert!(events.contains("ErrImagePull"), "{events}");
    assert!(
        events.contains("everynode image import"),
        "the remedy is named: {events}"
    );
    Ok(())
}

/// What one machine holds that a pod could leave behind.
fn machine_state() -> Result<BTreeSet<String>> {
    let mut state = BTreeSet::new();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
    state.extend(
        mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .map(|point| format!("mount {point}")),
    );
    let cgroups = Command::new("find")
        .args(["/sys/fs/cgroup", "-type", "d"])
        .output()
        .context("list the cgroups")?;
    state.extend(
        String::from_utf8_lossy(&cgroups.stdout)
            .lines()
            .map(|path| format!("cgroup {path}")),
    );
    for (what, words) in [
        ("link", ["-o", "link"]),
        ("address", ["-o", "addr"]),
        ("rule", ["-o", "rule"]),
    ] {
        let shown = Command::new("ip")
            .args(words)
            .output()
            .with_context(|| format!("list every {what}"))?;
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        let names = text
            .lines()
            .map(|line| line.split_whitespace().take(4).collect::<Vec<_>>().join(" "));
        state.extend(names.map(|line| {
            // The number of a link is not part of what it is.
            let name = line.split_once(' ').map_or(line.as_str(), |(_, rest)| rest);
            format!("{what} {}", name.split(['@', '<']).next().unwrap_or_default())
        }));
    }
    let tables = Command::new("nft")
        .args(["list", "tables"])
        .output()
        .context("list the nftables tables")?;
    state.extend(
        String::from_utf8_lossy(&tables.stdout)
            .lines()
            .map(|table| format!("nft {table}")),
    );
    let processes = Command::new("ps")
        .args(["-eo", "args"])
        .output()
        .context("list the processes")?;
    let shims = String::from_utf8_lossy(&processes.stdout).into_owned();
    state.extend(
        shims
            .lines()
            .filter(|line| line.contains("collecting"))
            .map(|line| format!("process {line}")),
    );
    Ok(state)
}

#[test]
fn deleting_the_daemon_set_and_stopping_leave_nothing_behind() -> Result<()> {
    let _turn = super::machine();
    let before_up = machine_state()?;
    let Some(mut up) = machine_with_image()? else {
        return Ok(());
    };
    let client = up.client();
    let file = manifest(&up, FLUENTD)?;
    client.ok(&["create", "-f", &file]);
    let pod = running_pod(&client)?;
    let uid =
        client.json(&["get", "pod", "-n", "kube-system", &pod, "-o", "json"])["metadata"]["uid"].clone();
    let uid = uid.as_str().context("the pod's uid")?;
    client.ok(&["delete", "-f", &file]);
    gone(&client)?;
    wait_for("nothing of the pod to be left", || {
        let added: Vec<String> = machine_state()?.difference(&before_up).cloned().collect();
        // The bridge is the instance's, not the pod's; it goes with the instance, below.
        let links = added.iter().filter(|line| line.starts_with("link ")).count();
        let clean = links <= 1
            && !added
                .iter()
                .any(|line| line.contains(uid) || line.starts_with("process "));
        Ok(if clean { Ok(()) } else { Err(format!("{added:#?}")) })
    })?;

    client.ok(&["create", "-f", &file]);
    running_pod(&client)?;
    let status = up.stop()?;
    assert!(status.success(), "up ended with {status}");
    let left: Vec<String> = machine_state()?.difference(&before_up).cloned().collect();
    assert!(left.is_empty(), "left behind: {left:#?}");
    Ok(())
}
