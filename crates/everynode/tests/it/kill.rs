//! `kill -9` of everything while clients write: nothing acknowledged is lost, nothing is said twice, no daemon stops.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use futures::{AsyncBufReadExt, TryStreamExt};
use http::{Method, Request};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use testkit::{Process, busybox, eventually, is_root, skip};

/// Clients that write at the same time.
const WRITERS: usize = 64;
/// Rounds of kill and restart.
const ROUNDS: usize = 50;
/// Most acknowledged writes between a start and its kill; each round draws its own number.
const MOST_WRITES: usize = 1000;
const COLLECTION: &str = "/api/v1/namespaces/default/configmaps";

/// What a revision stands for: the object and what it held, or that it went.
type Meaning = (String, Option<String>);

/// What clients know for sure.
#[derive(Default)]
struct Ledger {
    /// The last acknowledged state of each object; `None` is deleted.
    acknowledged: BTreeMap<String, Option<String>>,
    /// Writes that were sent and never answered: they may have happened.
    unanswered: HashMap<String, Vec<Option<String>>>,
    /// Every revision that was ever seen, by anybody.
    revisions: HashMap<u64, Meaning>,
    /// Revisions that stood for two things.
    reused: Vec<String>,
}

impl Ledger {
    fn saw(&mut self, revision: u64, meaning: Meaning) {
        if let Some(before) = self.revisions.insert(revision, meaning.clone())
            && before != meaning
        {
            self.reused
                .push(format!("revision {revision} was {before:?} and then {meaning:?}"));
        }
    }
}

/// How far the writers of a round are, and whether they should end.
#[derive(Default)]
struct Pulse {
    written: AtomicUsize,
    beat: tokio::sync::Notify,
    stop: AtomicBool,
}

#[test]
fn nothing_acknowledged_is_lost_and_no_container_ends_when_everything_is_killed() -> Result<()> {
    if !is_root() {
        skip("containers need root");
        return Ok(());
    }
    let _turn = super::machine();
    let mut up = Process::start(super::binary(), "up", &["--node-name", "node-a"])?;
    let mark = format!("864{:05}", std::process::id());
    start_daemon(&up, &mark)?;
    let container = process_with(&mark)?.context("the daemon's process")?;

    let runtime = tokio::runtime::Runtime::new()?;
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut resume_from = 0;
    for round in 0..ROUNDS {
        let client = runtime.block_on(connect(&up))?;
        let watched = runtime.block_on(write_until_killed(&client, &mut up, &ledger, round, resume_from))?;
        up.restart()
            .with_context(|| format!("restart after kill {round}"))?;
        let client = runtime.block_on(connect(&up))?;
        runtime
            .block_on(verify(&client, &ledger))
            .with_context(|| format!("after kill {round}"))?;
        runtime
            .block_on(resume(&client, &ledger, watched))
            .with_context(|| format!("watch after kill {round}"))?;
        resume_from = watched;
        assert_eq!(
            process_with(&mark)?,
            Some(container),
            "the container's process after kill {round}"
        );
    }
    let known = ledger.lock().expect("the ledger").acknowledged.len();
    assert!(known > ROUNDS, "the rounds wrote something: {known} objects");
    Ok(())
}

fn start_daemon(up: &Process, mark: &str) -> Result<()> {
    let archive = busybox(up.folder(), "test.local/sleeper:1", &["sleep", mark])?;
    let import = [
        "image",
        "import",
        &archive.display().to_string(),
        "--data-dir",
        &up.data_dir().display().to_string(),
    ];
    up.client().ok(&import);
    let manifest = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "sleeper"},
        "spec": {"selector": {"matchLabels": {"app": "sleeper"}}, "template": {
            "metadata": {"labels": {"app": "sleeper"}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "sleeper", "image": "test.local/sleeper:1"}]},
        }},
    });
    let created = up
        .client()
        .run_with_input(&["create", "-f", "-"], &manifest.to_string());
    assert!(created.success, "{}", created.stderr);
    eventually("the daemon to run", || Ok(process_with(mark)?.is_some()))
}

/// The process whose command line ends with `mark`.
fn process_with(mark: &str) -> Result<Option<u32>> {
    for entry in std::fs::read_dir("/proc").context("read /proc")? {
        let entry = entry.context("read /proc")?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line == format!("sleep\0{mark}\0").as_bytes() {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

async fn connect(up: &Process) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(up.kubeconfig()).context("read the kubeconfig")?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Client::try_from(config).context("make a client")
}

/// Lets the writers write and one client watch, kills the server at a random moment, and gives the revision that
/// the watch had reached.
async fn write_until_killed(
    client: &Client,
    up: &mut Process,
    ledger: &Arc<Mutex<Ledger>>,
    round: usize,
    resume_from: u64,
) -> Result<u64> {
    let pulse = Arc::new(Pulse::default());
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (client, ledger, pulse) = (client.clone(), Arc::clone(ledger), Arc::clone(&pulse));
        writers.spawn(async move { write(&client, &ledger, &pulse, round, writer).await });
    }
    let watch = tokio::spawn(follow(client.clone(), Arc::clone(ledger), resume_from));
    // The nanoseconds of the clock are as random as this needs.
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .subsec_nanos();
    let life = nanos as usize % MOST_WRITES;
    while pulse.written.load(Ordering::Relaxed) < life {
        tokio::select! {
            () = pulse.beat.notified() => {}
            // A writer ends early when its connection breaks; without any there is nobody to wait for.
            ended = writers.join_next() => ended.context("every writer ended before its time")?.context("a writer")?,
        }
    }
    up.kill()?;
    pulse.stop.store(true, Ordering::Relaxed);
    while let Some(written) = writers.join_next().await {
        written.context("a writer")?;
    }
    watch.await.context("the watch")
}

/// Creates, changes and deletes objects of its own until the server is gone.
async fn write(client: &Client, ledger: &Mutex<Ledger>, pulse: &Pulse, round: usize, writer: usize) {
    for step in 0.. {
        if pulse.stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("w{writer}-r{round}-{}", step / 3);
        let value = format!("{round}-{step}");
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value}});
        let (method, path, wanted) = match step % 3 {
            0 => (Method::POST, COLLECTION.to_owned(), Some(value)),
            1 => (Method::PUT, format!("{COLLECTION}/{name}"), Some(value)),
            _ => (Method::DELETE, format!("{COLLECTION}/{name}"), None),
        };
        let body = if method == Method::DELETE {
            Vec::new()
        } else {
            object.to_string().into_bytes()
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(body);
        let answer = client.request::<Value>(request.expect("a request")).await;
        let mut ledger = ledger.lock().expect("the ledger");
        match answer {
            Ok(answer) => {
                let revision = answer["metadata"]["resourceVersion"]
                    .as_str()
                    .and_then(|text| text.parse().ok());
                if let (Some(revision), Some(_)) = (revision, &wanted) {
                    ledger.saw(revision, (name.clone(), wanted.clone()));
                }
                ledger.acknowledged.insert(name, wanted);
                pulse.written.fetch_add(1, Ordering::Relaxed);
                pulse.beat.notify_one();
            }
            Err(kube::Error::Api(status)) => panic!("the server refused a write: {status:?}"),
            Err(_) => {
                ledger.unanswered.entry(name).or_default().push(wanted);
                return;
            }
        }
    }
}

/// Watches from `revision` (0: from now) until the connection ends; gives the last revision that was seen.
async fn follow(client: Client, ledger: Arc<Mutex<Ledger>>, revision: u64) -> u64 {
    let mut reached = revision;
    let path = format!("{COLLECTION}?watch=true&allowWatchBookmarks=true&resourceVersion={revision}");
    let request = Request::get(path).body(Vec::new()).expect("a request");
    let Ok(stream) = client.request_stream(request).await else {
        return reached;
    };
    let mut stream = std::pin::pin!(stream);
    let mut lines = stream.as_mut().lines();
    while let Ok(Some(line)) = lines.try_next().await {
        let Ok(event) = serde_json::from_str::<Value>(&line) else {
            return reached;
        };
        if event["type"] == "ERROR" {
            return 0;
        }
        note(&event, &ledger, &mut reached);
    }
    reached
}

fn note(event: &Value, ledger: &Mutex<Ledger>, reached: &mut u64) {
    let metadata = &event["object"]["metadata"];
    let revision: u64 = metadata["resourceVersion"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let name = metadata["name"].as_str().unwrap_or_default().to_owned();
    let value = event["object"]["data"]["value"].as_str().map(str::to_owned);
    *reached = (*reached).max(revision);
    if !name.starts_with('w') {
        return;
    }
    let held = if event["type"] == "DELETED" { None } else { value };
    ledger.lock().expect("the ledger").saw(revision, (name, held));
}

/// Every acknowledged write is there; what was not answered either happened or did not.
async fn verify(client: &Client, ledger: &Mutex<Ledger>) -> Result<()> {
    let list: Value = client
        .request(Request::get(COLLECTION).body(Vec::new())?)
        .await
        .context("list")?;
    let mut ledger = ledger.lock().expect("the ledger");
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for item in list["items"].as_array().into_iter().flatten() {
        let name = item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if let Some(value) = item["data"]["value"].as_str() {
            let revision = item["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or_default()
                .parse()?;
            ledger.saw(revision, (name.clone(), Some(value.to_owned())));
            found.insert(name, value.to_owned());
        }
    }
    let unanswered = std::mem::take(&mut ledger.unanswered);
    for (name, wanted) in &ledger.acknowledged {
        let held = found.get(name).cloned();
        let maybe = unanswered.get(name).is_some_and(|maybe| maybe.contains(&held));
        if held != *wanted && !maybe {
            bail!("{name}: {wanted:?} was acknowledged, and the server has {held:?}");
        }
    }
    // What is there now is known from here on.
    for name in unanswered.into_keys() {
        let held = found.get(&name).cloned();
        ledger.acknowledged.insert(name, held);
    }
    if let Some(reused) = ledger.reused.first() {
        bail!("{reused}");
    }
    Ok(())
}

/// A watch from the last revision either continues without a gap or ends with 410.
async fn resume(client: &Client, ledger: &Mutex<Ledger>, from: u64) -> Result<()> {
    if from == 0 {
        return Ok(());
    }
    let list: Value = client
        .request(Request::get(format!("{COLLECTION}?limit=1")).body(Vec::new())?)
        .await?;
    let newest: u64 = list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
        .parse()?;
    let path =
        format!("{COLLECTION}?watch=true&allowWatchBookmarks=true&timeoutSeconds=1&resourceVersion={from}");
    let stream = match client.request_stream(Request::get(path).body(Vec::new())?).await {
        Err(kube::Error::Api(status)) if status.code == 410 => return Ok(()),
        stream => stream.context("resume the watch")?,
    };
    let mut held: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut reached = from;
    let mut stream = std::pin::pin!(stream);
    let mut lines = stream.as_mut().lines();
    while let Some(line) = lines.try_next().await? {
        let event: Value = serde_json::from_str(&line)?;
        if event["type"] == "ERROR" {
            if event["object"]["code"] == 410 {
                return Ok(());
            }
            bail!("the watch was ended by {event}");
        }
        note(&event, ledger, &mut reached);
        let name = event["object"]["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let value = event["object"]["data"]["value"].as_str().map(str::to_owned);
        held.insert(name, if event["type"] == "DELETED" { None } else { value });
        if reached >= newest {
            break;
        }
    }
    // Whatever the watch told last of an object is what the server has.
    let ledger = ledger.lock().expect("the ledger");
    for (name, value) in held.iter().filter(|(name, _)| name.starts_with('w')) {
        if let Some(known) = ledger.acknowledged.get(name)
            && known != value
        {
            bail!("{name}: the resumed watch ended with {value:?}, the server has {known:?}");
        }
    }
    Ok(())
}

#[test]
fn closed_terminal_ends_the_server_in_order() -> Result<()> {
    let mut server = Process::start(super::binary(), "server", &[])?;
    assert!(server.hang_up()?.success(), "{}", server.log());
    server.restart()
}

#[test]
fn server_under_nohup_keeps_ignoring_the_hangup() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let nohup = folder.path().join("nohup");
    let binary = super::binary().display();
    std::fs::write(&nohup, format!("#!/bin/sh\ntrap '' HUP\nexec {binary} \"$@\"\n"))?;
    std::fs::set_permissions(&nohup, std::fs::Permissions::from_mode(0o755))?;
    let server = Process::start(nohup, "server", &[])?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()))?;
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = u64::from_str_radix(ignored.expect("the mask").trim(), 16)?;
    assert_eq!(mask & 1, 1, "{status}");
    Ok(())
}
