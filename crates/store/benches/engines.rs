//! Compares engines: the same store on redb, on fjall, and on a bare append-only log, under the
//! writes of a cluster. The log never removes anything, so it is only a reference. The results are
//! in `docs/decisions/0002-storage-engine.md`.
//!
//! `cargo bench -p store --bench engines -- [--pods N] [--objects N] [--engine redb|fjall|log]`
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Instant;

use bytes::Bytes;
use store::engine::{Engine, EngineError, Entry, Redb};
use store::{Change, DecodeError, Durability, Expect, HistoryLimits, Interest, Key, Options, Store, Write};

const ENGINES: [&str; 3] = ["redb", "fjall", "log"];
/// Bytes of a new pod, and of one with its status.
const POD_BYTES: usize = 3000;
const RUNNING_POD_BYTES: usize = 4000;
const LEASE_BYTES: usize = 500;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| {
        arguments
            .iter()
            .skip_while(|argument| *argument != name)
            .nth(1)
            .map(String::as_str)
    };
    let number = |name, default| option(name).map_or(default, |text: &str| text.parse().expect("a number"));
    let (pods, objects) = (number("--pods", 2_000), number("--objects", 100_000));
    if let Some(engine) = option("--measure") {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        match option("--writers") {
            Some("damage") => measure_damage(engine, dir.path()),
            Some(writers) => measure_writes(engine, dir.path(), writers.parse().expect("a number"), pods),
            None => measure_reload(engine, dir.path(), objects),
        }
        return;
    }
    // Each measurement runs in its own process, so that memory and processor time are its own.
    let run = |rest: &[&str]| {
        let sizes = ["--pods", &pods.to_string(), "--objects", &objects.to_string()].map(str::to_owned);
        let status = Command::new(&arguments[0])
            .args(rest)
            .args(sizes)
            .status()
            .expect("it starts");
        assert!(status.success(), "{rest:?}");
    };
    let engines: Vec<&str> = match option("--engine") {
        Some(engine) => vec![engine],
        None => ENGINES.into(),
    };
    for writers in ["1", "64", "512", "damage"] {
        for engine in &engines {
            run(&["--measure", engine, "--writers", writers]);
        }
    }
    for engine in &engines {
        run(&["--measure", engine]);
    }
}

fn open(engine: &str, dir: &Path) -> Box<dyn Engine> {
    match engine {
        "redb" => Box::new(Redb::open(dir, &disk::Disk::default()).expect("it opens")),
        "fjall" => Box::new(Fjall::open(dir)),
        "log" => Box::new(Log::open(dir)),
        other => panic!("no engine {other}"),
    }
}

fn options() -> Options<()> {
    fn decode(_key: &Key, _body: &[u8]) -> Result<(), DecodeError> {
        Ok(())
    }
    fn splice(body: &[u8], revision: u64) -> Bytes {
        let mut spliced = Vec::with_capacity(body.len() + 20);
        spliced.extend(&body[..20]);
        spliced.extend(revision.to_string().as_bytes());
        spliced.extend(&body[20..]);
        spliced.into()
    }
    Options {
        decode,
        splice,
        indexes: 0,
        history: HistoryLimits::default(),
        disk: disk::Disk::default(),
    }
}

fn put(collection: &str, number: usize, expect: Expect, bytes: usize) -> Write<()> {
    // Text that compresses about as well as an object's JSON. It is made once, so that the figures
    // are the store's.
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        (0..RUNNING_POD_BYTES / 10)
            .map(|word| format!("\"w{:08}", word * 7919 % 9_999_991))
            .collect()
    });
    let mut body = TEXT.as_bytes()[..bytes].to_vec();
    body[100..116].copy_from_slice(format!("{number:016}").as_bytes());
    let key = Key::of(collection, "kube-system", &format!("fluentd-{number:06}"));
    Write {
        key,
        expect,
        change: Change::Put {
            body: body.into(),
            attributes: (),
        },
    }
}

/// The life of pods: create, bind, write the status twice, delete, and renew a Lease at each step.
fn measure_writes(name: &str, dir: &Path, writers: usize, pods: usize) {
    // A single writer waits for a flush each time, so it handles fewer pods.
    let pods = if writers == 1 { pods / 10 } else { pods };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let store = Store::open_on(open(name, dir), options()).expect("it opens");
    let (began, before) = (Instant::now(), Usage::now());
    runtime.block_on(async {
        let tasks = (0..writers).map(|writer| tokio::spawn(life(store.clone(), writer, writers, pods)));
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("no panic");
        }
    });
    let (seconds, used) = (began.elapsed().as_secs_f64(), Usage::now().since(&before));
    let stats = store.stats();
    println!(
        "{name:5} {writers:3} writers: {:6.0} transactions/s, {:5.1} a flush, {:5.1} µs processor and {:5.1} kB written \
         for each; {:.2} ms a flush; peak {:.0} MiB",
        stats.transactions as f64 / seconds,
        stats.transactions as f64 / stats.flushes as f64,
        used.processor * 1e6 / stats.transactions as f64,
        used.written / 1e3 / stats.transactions as f64,
        seconds * 1e3 / stats.flushes as f64,
        Usage::now().peak_mib,
    );
}

async fn life(store: Store<()>, writer: usize, writers: usize, pods: usize) {
    for number in (writer..pods).step_by(writers) {
        let mut expect = Expect::Absent;
        for bytes in [POD_BYTES, POD_BYTES, RUNNING_POD_BYTES, RUNNING_POD_BYTES] {
            let write = put("pods", number, expect, bytes);
            let done = store
                .commit(vec![write], Durability::Durable)
                .await
                .expect("nobody else writes it");
            expect = Expect::At(done[0].revision);
            let lease = Key::of("leases", "kube-node-lease", &format!("node-{writer}"));
            let lease_expect = if store.get(lease.as_str()).is_some() {
                Expect::Exists
            } else {
                Expect::Absent
            };
            let renewal = Write {
                key: lease,
                ..put("leases", number, lease_expect, LEASE_BYTES)
            };
            store
                .commit(vec![renewal], Durability::Relaxed)
                .await
                .expect("nobody else writes it");
        }
        let Write {
            key,
            change: Change::Put { body, .. },
            ..
        } = put("pods", number, expect, RUNNING_POD_BYTES)
        else {
            unreachable!("a put is a put")
        };
        if number % 2 == 0 {
            let change = Change::Delete {
                last: body,
                attributes: (),
            };
            let delete = Write { key, expect, change };
            store
                .commit(vec![delete], Durability::Durable)
                .await
                .expect("nobody else writes it");
        }
    }
}

/// Measures a start with this number of pods.
fn measure_reload(name: &str, dir: &Path, objects: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let store = Store::open_on(open(name, dir), options()).expect("it opens");
    let began = Instant::now();
    let before = Usage::now();
    for first in (0..objects).step_by(1000) {
        let writes =
            (first..objects.min(first + 1000)).map(|number| put("pods", number, Expect::Absent, POD_BYTES));
        runtime
            .block_on(store.commit(writes.collect(), Durability::Durable))
            .expect("all are new");
    }
    let (filling, filled) = (began.elapsed().as_secs_f64(), Usage::now().since(&before));
    store.close().expect("it closes");
    drop(store);
    let size: u64 = files(dir)
        .iter()
        .map(|path| fs::metadata(path).map_or(0, |file| file.len()))
        .sum();
    let (began, before) = (Instant::now(), Usage::now());
    let engine = open(name, dir);
    let opened = began.elapsed();
    let store = Store::open_on(engine, options()).expect("it opens again");
    let (loaded, used) = (began.elapsed(), Usage::now().since(&before));
    let cache = store.stats().cache;
    assert_eq!(cache.objects, objects);
    println!(
        "{name:5} {objects} pods: filled in {filling:.2} s ({:.1} processor s, {:.0} MB written), {:.0} MB on disk for {:.0} MB; \
         opened in {:.2} s, loaded after {:.2} s, {:.2} processor s",
        filled.processor,
        filled.written / 1e6,
        size as f64 / 1e6,
        cache.object_bytes as f64 / 1e6,
        opened.as_secs_f64(),
        loaded.as_secs_f64(),
        used.processor,
    );
    if name == "redb" {
        measure_cache(&store, &runtime);
    }
}

/// Changes one byte in the largest file of a killed store, and counts the results: rejected,
/// complete, without the last transaction (which the byte may make look torn), or silently without
/// more.
fn measure_damage(name: &str, dir: &Path) {
    const TRANSACTIONS: usize = 200;
    const TRIALS: usize = 200;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let live = dir.join("live");
    fs::create_dir(&live).expect("it is new");
    let store = Store::open_on(open(name, &live), options()).expect("it opens");
    for number in 0..TRANSACTIONS {
        let write = put("pods", number, Expect::Absent, POD_BYTES);
        runtime
            .block_on(store.commit(vec![write], Durability::Durable))
            .expect("it is new");
    }
    let mut outcomes = BTreeMap::new();
    let copy = dir.join("copy");
    for trial in 0..TRIALS {
        if copy.exists() {
            fs::remove_dir_all(&copy).expect("it can be removed");
        }
        let mut largest = (0, PathBuf::new());
        for from in files(&live) {
            let to = copy.join(from.strip_prefix(&live).expect("it is below"));
            fs::create_dir_all(to.parent().expect("it has one")).expect("it can be made");
            fs::copy(&from, &to).expect("it can be copied");
            let mut bytes = fs::read(&to).expect("it can be read");
            // The file may have unused space at its end.
            bytes.truncate(
                bytes
                    .iter()
                    .rposition(|byte| *byte != 0)
                    .map_or(0, |last| last + 1),
            );
            largest = largest.max((bytes.len(), to));
        }
        let (length, file) = largest;
        let mut bytes = fs::read(&file).expect("it can be read");
        bytes[trial * length / TRIALS] ^= 0x5a;
        fs::write(&file, bytes).expect("it can be written");
        let opened = std::panic::catch_unwind(|| Store::open_on(open(name, &copy), options()).ok());
        let outcome = match opened.ok().flatten().map(|store| store.stats().cache.objects) {
            None => "refused",
            Some(TRANSACTIONS) => "whole",
            Some(found) if found + 1 == TRANSACTIONS => "without the last transaction",
            Some(_) => "LOST MORE IN SILENCE",
        };
        *outcomes.entry(outcome).or_insert(0) += 1;
    }
    println!("{name:5} one changed byte after a kill, {TRIALS} times: {outcomes:?}");
}

/// Measures reads with this number of objects. The engine is not involved.
fn measure_cache(store: &Store<()>, runtime: &tokio::runtime::Runtime) {
    let cache = store.stats().cache;
    let bytes = resident_bytes() - cache.object_bytes as f64;
    println!(
        "cache {:.0} bytes an object resident beside its body",
        bytes / cache.objects as f64
    );
    let time = |what: &str, times: u32, f: &mut dyn FnMut()| {
        let began = Instant::now();
        (0..times).for_each(|_| f());
        println!(
            "cache {what}: {:.2} µs",
            began.elapsed().as_secs_f64() * 1e6 / f64::from(times)
        );
    };
    time("get", 100_000, &mut || {
        drop(store.get("/pods/kube-system/fluentd-004711"))
    });
    time("take a snapshot", 100_000, &mut || drop(store.list("/pods/")));
    time("walk all objects", 20, &mut || {
        let bytes: usize = store.list("/pods/").iter().map(|object| object.body.len()).sum();
        assert_eq!(bytes, cache.object_bytes);
    });
    let memory = Store::in_memory(options());
    let mut number = 0;
    let mut write = |store: &Store<()>, count: u32, what: &str, hold: bool| {
        let bodies: Vec<_> = (0..count)
            .map(|n| put("pods", number + n as usize, Expect::Absent, POD_BYTES))
            .collect();
        number += count as usize;
        let began = Instant::now();
        for body in bodies {
            let snapshot = hold.then(|| store.list("/pods/"));
            runtime
                .block_on(store.commit(vec![body], Durability::Relaxed))
                .expect("it is new");
            drop(snapshot);
        }
        println!(
            "cache {what}: {:.2} µs",
            began.elapsed().as_secs_f64() * 1e6 / f64::from(count)
        );
    };
    write(&memory, 50_000, "put, in memory", false);
    write(
        &memory,
        5_000,
        "put under a snapshot of 50,000 taken for each",
        true,
    );
    let watchers: Vec<_> = (0..10_000)
        .map(|node| {
            let prefix = format!("/pods/kube-system/x{node}");
            memory
                .watch(&prefix, memory.revision(), Interest::All)
                .expect("it is the present")
        })
        .collect();
    write(
        &memory,
        5_000,
        "put among 10,000 watchers of other objects",
        false,
    );
    drop(watchers);
}

/// The resources that the process has used.
struct Usage {
    processor: f64,
    written: f64,
    peak_mib: f64,
}

impl Usage {
    fn now() -> Usage {
        let read = |path| fs::read_to_string(path).expect("/proc is there");
        let field = |text: &str, name: &str| -> f64 {
            let line = text
                .lines()
                .find(|line| line.starts_with(name))
                .expect("the field is there");
            line[name.len()..]
                .split_whitespace()
                .next()
                .expect("a value")
                .parse()
                .expect("a number")
        };
        let stat = read("/proc/self/stat");
        let ticks = |at| -> f64 {
            let rest = stat.rsplit(')').next().expect("a name in parentheses");
            rest.split_whitespace()
                .nth(at)
                .expect("the field is there")
                .parse()
                .expect("a number")
        };
        Usage {
            // User and system time, in Linux's unit of 0.01 s.
            processor: (ticks(11) + ticks(12)) / 100.0,
            written: field(&read("/proc/self/io"), "write_bytes:"),
            peak_mib: field(&read("/proc/self/status"), "VmHWM:") / 1024.0,
        }
    }

    fn since(self, before: &Usage) -> Usage {
        Usage {
            processor: self.processor - before.processor,
            written: self.written - before.written,
            peak_mib: self.peak_mib,
        }
    }
}

fn resident_bytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is there");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .expect("the field is there");
    line.split_whitespace()
        .next()
        .expect("a value")
        .parse::<f64>()
        .expect("a number")
        * 1024.0
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .expect("it can be read")
        .map(|entry| entry.expect("it can be read").path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

/// An LSM tree with small buffers, because it is not read.
struct Fjall {
    database: fjall::Database,
    records: fjall::Keyspace,
}

impl Fjall {
    fn open(dir: &Path) -> Fjall {
        let database = fjall::Database::builder(dir.join("fjall"))
            .cache_size(1 << 20)
            .worker_threads(1)
            .max_journaling_size(64 << 20)
            .open()
            .expect("it opens");
        let options = || fjall::KeyspaceCreateOptions::default().max_memtable_size(8 << 20);
        let records = database.keyspace("records", options).expect("it opens");
        Fjall { database, records }
    }
}

impl Engine for Fjall {
    fn load(&mut self, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), EngineError> {
        for record in self.records.iter() {
            let (key, value) = record.into_inner().expect("it can be read");
            // fjall does not support empty keys; see `write`.
            visit(&key[1..], &value);
        }
        Ok(())
    }

    fn write(&mut self, batch: &[Entry]) -> Result<(), EngineError> {
        let mut writes = self
            .database
            .batch()
            .durability(Some(fjall::PersistMode::SyncData));
        for (key, value) in batch {
            let key: Vec<u8> = [b"k".as_slice(), key].concat();
            match value {
                Some(value) => writes.insert(&self.records, key, value.as_slice()),
                None => writes.remove(&self.records, key),
            }
        }
        writes.commit().expect("it can be written");
        Ok(())
    }
}

/// Batches one after another in a file.
struct Log {
    file: File,
    path: PathBuf,
}

impl Log {
    fn open(dir: &Path) -> Log {
        let path = dir.join("log");
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .expect("it opens");
        Log { file, path }
    }
}

impl Engine for Log {
    fn load(&mut self, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), EngineError> {
        let mut reader = BufReader::with_capacity(1 << 20, File::open(&self.path).expect("it opens"));
        let mut records = BTreeMap::new();
        let mut length = [0; 4];
        let mut read = |reader: &mut BufReader<File>| -> Option<Vec<u8>> {
            reader.read_exact(&mut length).ok()?;
            let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
            reader.read_exact(&mut bytes).expect("it is whole");
            Some(bytes)
        };
        while let Some(key) = read(&mut reader) {
            let value = read(&mut reader).expect("it is whole");
            match value.is_empty() {
                true => records.remove(&key),
                false => records.insert(key, value),
            };
        }
        records.iter().for_each(|(key, value)| visit(key, value));
        Ok(())
    }

    fn write(&mut self, batch: &[Entry]) -> Result<(), EngineError> {
        let mut bytes = Vec::new();
        for (key, value) in batch {
            for part in [key.as_slice(), value.as_deref().unwrap_or_default()] {
                bytes.extend((part.len() as u32).to_le_bytes());
                bytes.extend(part);
            }
        }
        self.file.write_all(&bytes).expect("it can be written");
        self.file.sync_data().expect("it can be flushed");
        Ok(())
    }
}
