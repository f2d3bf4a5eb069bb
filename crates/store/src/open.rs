//! Opening a store: reads all records of an engine, checks that they are complete and unchanged,
//! and reserves a new block of revisions.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::dir::{Seal, State};
use crate::engine::{Engine, EngineError, Entry};
use crate::object::{Attributes, Key, Object, Revision};
use crate::record::{self, LEDGER_KEY, Ledger};

/// Revisions that are reserved at a time. A start skips at most as many, after a crash. Relaxed
/// writes alone use up a block in 10 s (at 10,000 renewals a second), so reservations cause almost
/// no additional flushes.
pub(crate) const REVISION_BLOCK: u64 = 100_000;

/// Records in a batch for a decoding thread.
const LOAD_BATCH_RECORDS: usize = 256;

/// Most decoding threads. More would wait for the reading thread.
const LOAD_THREADS_MAX: usize = 8;

/// The error of [`Options::decode`](crate::Options::decode) for an invalid body.
pub type DecodeError = Box<dyn std::error::Error + Send + Sync>;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "{path} is in use by process {holder}. \
         Stop that process, or use another directory"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process id of the other process.
        holder: String,
    },
    /// An error of the operating system.
    #[error("cannot access {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The content is not what was written. Nothing of it is used.
    #[error(
        "{path} is damaged: {what}. \
         Restore the whole directory from a backup, or move it away to start with an empty store"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The fault.
        what: String,
    },
}

/// The content of an engine.
pub(crate) struct Loaded<A> {
    pub(crate) ledger: Ledger,
    /// Sorted by key.
    pub(crate) objects: Vec<Arc<Object<A>>>,
}

/// Reads and checks all records.
pub(crate) fn load<A: Attributes>(
    engine: &mut dyn Engine,
    path: &Path,
    decode: fn(&Key, &[u8]) -> Result<A, DecodeError>,
) -> Result<Loaded<A>, OpenError> {
    let damaged = |what: String| OpenError::Damaged {
        path: path.into(),
        what,
    };
    let (ledger_record, objects) = read_all(engine, decode).map_err(|fault| match fault {
        Fault::Engine(error) => OpenError::from(error),
        Fault::Record(what) => damaged(what),
    })?;
    let ledger = match ledger_record {
        Some(record) => Ledger::decode(&record).map_err(|error| damaged(format!("the ledger: {error}")))?,
        None if objects.is_empty() => Ledger::default(),
        None => {
            return Err(damaged(format!("it has {} objects but no ledger", objects.len())));
        }
    };
    let mut found = Ledger {
        count: 0,
        digest: 0,
        ..ledger
    };
    for object in &objects {
        found.add(object.key.as_str().as_bytes(), object.revision);
    }
    if found.count != ledger.count {
        return Err(damaged(format!(
            "it has {} objects, but its ledger counts {}",
            found.count, ledger.count
        )));
    }
    if found != ledger || ledger.revision > ledger.reserved {
        return Err(damaged("its objects do not match its ledger".into()));
    }
    if let Some(object) = objects.iter().find(|object| object.revision > ledger.revision) {
        return Err(damaged(format!(
            "{} has revision {}, which is above the ledger's",
            object.key, object.revision
        )));
    }
    Ok(Loaded { ledger, objects })
}

/// Revisions that are skipped when the store may be an older copy of itself: more than a busy
/// cluster uses in a day. All revisions that clients have seen are then lower, so they list again
/// instead of missing changes.
pub const REVISIONS_SKIPPED: u64 = 1_000_000_000;

/// Compares the ledger that was found with the seal.
pub(crate) fn check_seal(path: &Path, seal: Option<&Seal>, found: &Ledger) -> Result<(), OpenError> {
    let Some(Seal {
        state,
        ledger: wanted,
        ..
    }) = seal
    else {
        return Ok(());
    };
    let mut differences = Vec::new();
    if found.revision < wanted.revision {
        differences.push(format!(
            "its revision is {} instead of at least {}",
            found.revision, wanted.revision
        ));
    }
    if found.reserved < wanted.reserved {
        differences.push(format!(
            "it has reserved revisions up to {} instead of at least {}",
            found.reserved, wanted.reserved
        ));
    }
    // A store that ended before it wrote the seal of its opening has reserved revisions, but
    // written no objects.
    if *state == State::Closed {
        if found.count != wanted.count {
            differences.push(format!(
                "it has {} objects instead of {}",
                found.count, wanted.count
            ));
        } else if found.digest != wanted.digest {
            differences.push(format!(
                "its {} objects have other revisions than when it was closed",
                found.count
            ));
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    let when = match state {
        State::Open => "opened",
        State::Closed => "closed",
    };
    Err(OpenError::Damaged {
        path: path.into(),
        what: format!(
            "it is not the file that was last {when}, according to the seal beside it: {}",
            differences.join(", ")
        ),
    })
}

/// Returns the first revision of a run, which is above all revisions that were ever used.
pub(crate) fn base(ledger: &Ledger) -> Revision {
    // resourceVersion 0 has a special meaning in Kubernetes, so the first revision is 1.
    Revision(ledger.reserved.0.max(1))
}

/// Returns the ledger of a run that starts at `base`, with its first block of revisions.
pub(crate) fn with_block(ledger: &Ledger, base: Revision) -> Ledger {
    Ledger {
        revision: base,
        reserved: Revision(base.0 + REVISION_BLOCK),
        ..*ledger
    }
}

/// Writes only a ledger.
pub(crate) fn write_ledger(engine: &mut dyn Engine, ledger: &Ledger) -> Result<(), EngineError> {
    let entry: Entry = (LEDGER_KEY.to_vec(), Some(ledger.encode()));
    engine.write(&[entry])
}

impl From<EngineError> for OpenError {
    fn from(error: EngineError) -> OpenError {
        match error {
            EngineError::Io { path, source, .. } => OpenError::Io { path, source },
            EngineError::Damaged { path, what, .. } => OpenError::Damaged { path, what },
        }
    }
}

enum Fault {
    Engine(EngineError),
    Record(String),
}

/// Keys and records, with a number for restoring their order.
type RawBatch = (usize, Vec<(Vec<u8>, Vec<u8>)>);
/// The ledger's record, and all objects sorted by key.
type Contents<A> = (Option<Vec<u8>>, Vec<Arc<Object<A>>>);
type Batch<A> = (usize, Vec<Arc<Object<A>>>);

/// Reads in this thread and decodes in others.
fn read_all<A: Attributes>(
    engine: &mut dyn Engine,
    decode: fn(&Key, &[u8]) -> Result<A, DecodeError>,
) -> Result<Contents<A>, Fault> {
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get().min(LOAD_THREADS_MAX));
    let (sender, receiver) = sync_channel::<RawBatch>(2 * threads);
    let receiver = Mutex::new(receiver);
    let batches: Mutex<Vec<Batch<A>>> = Mutex::default();
    let mut ledger = None;
    thread::scope(|scope| {
        let decoders: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| decode_batches(&receiver, &batches, decode)))
            .collect();
        let read = read_batches(engine, sender, &mut ledger);
        for decoder in decoders {
            // A panic of a decoder comes from the caller's function and is caused by a body.
            decoder
                .join()
                .unwrap_or_else(|_| Err("the decoder panicked on an object".into()))
                .map_err(Fault::Record)?;
        }
        read.map_err(Fault::Engine)
    })?;
    let mut batches = batches.into_inner().unwrap_or_else(PoisonError::into_inner);
    batches.sort_unstable_by_key(|(number, _)| *number);
    Ok((
        ledger,
        batches.into_iter().flat_map(|(_, objects)| objects).collect(),
    ))
}

fn read_batches(
    engine: &mut dyn Engine,
    sender: SyncSender<RawBatch>,
    ledger: &mut Option<Vec<u8>>,
) -> Result<(), EngineError> {
    let mut batch = Vec::with_capacity(LOAD_BATCH_RECORDS);
    let mut number = 0;
    // The decoders receive everything, also after an error. So this fails only after a panic, which
    // is reported above.
    let mut send = |batch: Vec<(Vec<u8>, Vec<u8>)>| {
        number += 1;
        drop(sender.send((number, batch)));
    };
    engine.load(&mut |key, record| {
        if key == LEDGER_KEY {
            *ledger = Some(record.to_vec());
            return;
        }
        batch.push((key.to_vec(), record.to_vec()));
        if batch.len() == LOAD_BATCH_RECORDS {
            send(std::mem::replace(
                &mut batch,
                Vec::with_capacity(LOAD_BATCH_RECORDS),
            ));
        }
    })?;
    send(batch);
    Ok(())
}

fn decode_batches<A>(
    receiver: &Mutex<Receiver<RawBatch>>,
    batches: &Mutex<Vec<Batch<A>>>,
    decode: fn(&Key, &[u8]) -> Result<A, DecodeError>,
) -> Result<(), String> {
    let mut fault = Ok(());
    loop {
        let received = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, records)) = received else {
            return fault;
        };
        if fault.is_err() {
            // Receive the rest, so that the reader can finish.
            continue;
        }
        match records
            .into_iter()
            .map(|(key, record)| decode_object(key, record, decode))
            .collect()
        {
            Ok(objects) => batches
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((number, objects)),
            Err(what) => fault = Err(what),
        }
    }
}

fn decode_object<A>(
    key: Vec<u8>,
    record: Vec<u8>,
    decode: fn(&Key, &[u8]) -> Result<A, DecodeError>,
) -> Result<Arc<Object<A>>, String> {
    let (revision, body) = record::decode(&key, record)
        .map_err(|error| format!("the record of {}: {error}", String::from_utf8_lossy(&key)))?;
    let text = String::from_utf8(key).map_err(|error| format!("a key: {error}"))?;
    let key = Key::new(text.as_str()).ok_or_else(|| format!("{text:?} is not a key"))?;
    let attributes = decode(&key, &body).map_err(|error| format!("the object {key}: {error}"))?;
    Ok(Arc::new(Object {
        key,
        revision,
        body,
        attributes,
    }))
}
