//! Opening: reading all records of an engine, checking that they are all there and unaltered, and opening a new block
//! of revisions.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::dir::{Seal, State};
use crate::engine::{Engine, EngineError, Entry};
use crate::object::{Attributes, Key, Object, Revision};
use crate::record::{self, LEDGER_KEY, Ledger};

/// Revisions that are reserved at a time. A start, a crash in the worst case, skips as many; a block is used up by
/// relaxed writes alone (10,000 renewals a second) in 10 s, so a reservation costs next to no flush of its own.
pub(crate) const REVISION_BLOCK: u64 = 100_000;

/// Records that a decoding thread is handed at once.
const LOAD_BATCH_RECORDS: usize = 256;

/// Threads that decode. More than these wait for the one that reads.
const LOAD_THREADS_MAX: usize = 8;

/// What [`Options::decode`](crate::Options::decode) says when a body makes no sense to it.
pub type DecodeError = Box<dyn std::error::Error + Send + Sync>;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "open store: {path} is in use by process {holder}; stop that one first, or use another directory"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process id of the other.
        holder: String,
    },
    /// The operating system refused.
    #[error("open store: {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What is there is not what was written. Nothing of it is used.
    #[error(
        "open store: {path} is damaged: {what}; restore the whole directory from a backup, or move it away to begin empty"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// What was read from an engine.
pub(crate) struct Loaded<A> {
    pub(crate) ledger: Ledger,
    /// In the order of keys.
    pub(crate) objects: Vec<Arc<Object<A>>>,
}

/// Reads and checks everything.
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
            return Err(damaged(format!(
                "it holds {} objects but no ledger",
                objects.len()
            )));
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
            "it holds {} objects, its ledger says {}",
            found.count, ledger.count
        )));
    }
    if found != ledger || ledger.revision > ledger.reserved {
        return Err(damaged("its objects are not those of its ledger".into()));
    }
    if let Some(object) = objects.iter().find(|object| object.revision > ledger.revision) {
        return Err(damaged(format!(
            "{} is of revision {}, beyond the ledger's",
            object.key, object.revision
        )));
    }
    Ok(Loaded { ledger, objects })
}

/// Revisions that are skipped when the store may be an older copy of itself: more than a busy cluster writes in a day.
/// Whatever clients saw of the lost ones is below, so that they list again instead of missing changes.
pub const REVISIONS_SKIPPED: u64 = 1_000_000_000;

/// Checks what was found against what the seal says must be found.
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
    // A store that was opened and ended before its seal said so has reserved revisions, and written no objects.
    if *state == State::Closed {
        if found.count != wanted.count {
            differences.push(format!(
                "it holds {} objects instead of {}",
                found.count, wanted.count
            ));
        } else if found.digest != wanted.digest {
            differences.push(format!(
                "its {} objects are of other revisions than those it was closed with",
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
            "it is not the file that was last {when}, says the seal beside it: {}",
            differences.join(", ")
        ),
    })
}

/// The first revision of a run: above all that were ever given out.
pub(crate) fn base(ledger: &Ledger) -> Revision {
    // Kubernetes gives resourceVersion 0 a meaning of its own, so the first state of all is 1.
    Revision(ledger.reserved.0.max(1))
}

/// The ledger of a run that begins at `base`, with its first block of revisions.
pub(crate) fn with_block(ledger: &Ledger, base: Revision) -> Ledger {
    Ledger {
        revision: base,
        reserved: Revision(base.0 + REVISION_BLOCK),
        ..*ledger
    }
}

/// Writes a ledger alone.
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

/// Keys and records, numbered so that what comes of them can be put in order again.
type RawBatch = (usize, Vec<(Vec<u8>, Vec<u8>)>);
/// The ledger's record, and all objects in the order of keys.
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
            // A decoder that panicked is a body that made the caller's function panic.
            decoder
                .join()
                .unwrap_or_else(|_| Err("an object made the decoder panic".into()))
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
    // The decoders take whatever comes, also after a fault, so this fails only when they panicked, which is told.
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
            // Taken off the channel all the same, so that the reader can finish.
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
    let key = Key::new(text.as_str()).ok_or_else(|| format!("{text:?} is no key"))?;
    let attributes = decode(&key, &body).map_err(|error| format!("the object {key}: {error}"))?;
    Ok(Arc::new(Object {
        key,
        revision,
        body,
        attributes,
    }))
}
