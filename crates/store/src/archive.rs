//! Backups of a store: a stream of bytes from which a store can be restored.
//!
//! An archive starts with a line that names the format. Then come entries: one byte for the kind,
//! the lengths of the name and of the content as 32-bit numbers, the name, and the content. Numbers
//! are little-endian. The entry of an object has its key and its record as in the engine, including
//! the checksum. The entry of a file has a file beside the store, such as a key. The last entry has
//! the ledger and a checksum of all bytes before it, so a truncated or changed archive is always
//! detected.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use disk::Disk;
use xxhash_rust::xxh3::Xxh3;

use crate::dir::{Dir, State};
use crate::engine::{Engine, EngineError, Entry, Redb};
use crate::object::{Attributes, Key, Revision};
use crate::open::{OpenError, REVISIONS_SKIPPED};
use crate::record::{self, LEDGER_BYTES, LEDGER_KEY, Ledger};
use crate::snapshot::Snapshot;

/// The first line.
const MAGIC: &[u8] = b"everynode backup 1\n";
const OBJECT: u8 = b'o';
const FILE: u8 = b'f';
const END: u8 = b'e';
/// Bytes of the kind and the two lengths.
const HEAD_BYTES: usize = 9;
/// Most bytes of a name: a key, or the name of a file. A content is an object of at most 3 MiB, or
/// a key file. An entry with more is rejected before it is read into memory.
const NAME_BYTES_MAX: usize = 4096;
const CONTENT_BYTES_MAX: usize = 32 << 20;
/// Approximate bytes that are returned, or written to the engine, at a time.
const CHUNK_BYTES: usize = 64 << 10;
const BATCH_BYTES: usize = 8 << 20;

/// Summary of an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The revision of the store.
    pub revision: Revision,
    /// Number of objects.
    pub objects: u64,
    /// Bytes of the archive.
    pub bytes: u64,
}

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be read.
    #[error("cannot read the backup: {0}")]
    Read(#[source] io::Error),
    /// It cannot be written.
    #[error("cannot write the backup: {0}")]
    Write(#[source] io::Error),
    /// It is not an archive, or not a complete one.
    #[error("cannot use the backup: {0}")]
    Damaged(String),
    /// The engine cannot store its objects.
    #[error("cannot write the store: {0}")]
    Engine(#[from] EngineError),
    /// The directory of the store cannot be created.
    #[error(transparent)]
    Dir(#[from] OpenError),
}

fn damaged<T>(what: impl Into<String>) -> Result<T, ArchiveError> {
    Err(ArchiveError::Damaged(what.into()))
}

fn entry(out: &mut Vec<u8>, kind: u8, name: &[u8], content: &[u8]) {
    // Both are always shorter than 4 GiB. The reader would reject a longer one.
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    out.push(kind);
    out.extend(length(name));
    out.extend(length(content));
    out.extend(name);
    out.extend(content);
}

/// An iterator over the bytes of an archive. It holds one consistent state of all objects, shared
/// with the store, and one chunk of bytes.
pub struct Archive<A> {
    snapshots: std::vec::IntoIter<Snapshot<A>>,
    /// The current collection, and the last key of it that was returned.
    current: Option<(Snapshot<A>, String)>,
    /// The bytes before the objects.
    head: Vec<u8>,
    ledger: Ledger,
    sum: Xxh3,
    has_ended: bool,
}

impl<A: Attributes> Archive<A> {
    /// Makes an archive of these collections, all at one revision, and of files by name.
    pub(crate) fn new(revision: Revision, snapshots: Vec<Snapshot<A>>, files: &[(String, Vec<u8>)]) -> Self {
        let mut head = MAGIC.to_vec();
        for (name, content) in files {
            entry(&mut head, FILE, name.as_bytes(), content);
        }
        Archive {
            snapshots: snapshots.into_iter(),
            current: None,
            head,
            ledger: Ledger {
                revision,
                reserved: revision,
                ..Ledger::default()
            },
            sum: Xxh3::new(),
            has_ended: false,
        }
    }

    /// Adds objects until the chunk is full. Returns false when there are no more.
    fn fill(&mut self, out: &mut Vec<u8>) -> bool {
        loop {
            let Some((snapshot, last)) = &mut self.current else {
                match self.snapshots.next() {
                    Some(next) => self.current = Some((next, String::new())),
                    None => return false,
                }
                continue;
            };
            let mut reached = None;
            for object in snapshot.after(last) {
                let key = object.key.as_str().as_bytes();
                self.ledger.add(key, object.revision);
                let record = record::encode(key, object.revision, &object.body);
                entry(out, OBJECT, key, &record);
                if out.len() >= CHUNK_BYTES {
                    reached = Some(object.key.as_str().to_owned());
                    break;
                }
            }
            match reached {
                Some(reached) => {
                    *last = reached;
                    return true;
                }
                None => self.current = None,
            }
        }
    }
}

impl<A: Attributes> Iterator for Archive<A> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.has_ended {
            return None;
        }
        let mut out = std::mem::take(&mut self.head);
        let has_more = self.fill(&mut out);
        self.sum.update(&out);
        if !has_more {
            self.has_ended = true;
            let mut end = self.ledger.encode();
            end.extend(self.sum.digest().to_le_bytes());
            entry(&mut out, END, b"", &end);
        }
        Some(out.into())
    }
}

/// An entry of an archive.
enum Item {
    Object(Vec<u8>, Vec<u8>),
    File(String, Vec<u8>),
    End(Ledger),
}

/// Reads an archive entry by entry.
struct Entries<'r> {
    source: &'r mut dyn Read,
    sum: Xxh3,
    bytes: u64,
}

impl<'r> Entries<'r> {
    fn open(source: &'r mut dyn Read) -> Result<Entries<'r>, ArchiveError> {
        let mut entries = Entries {
            source,
            sum: Xxh3::new(),
            bytes: 0,
        };
        match entries.take(MAGIC.len()) {
            Ok(magic) if magic == MAGIC => entries.sum.update(&magic),
            Ok(_) => return damaged("it does not start like a backup of `everynode store backup`"),
            Err(error) => return Err(error),
        }
        Ok(entries)
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = vec![0; length];
        match self.source.read_exact(&mut bytes) {
            Ok(()) => {
                self.bytes += length as u64;
                Ok(bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => damaged("it is truncated"),
            Err(error) => Err(ArchiveError::Read(error)),
        }
    }

    fn next(&mut self) -> Result<Item, ArchiveError> {
        let head = self.take(HEAD_BYTES)?;
        let length =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let (name_length, content_length) = (length(1), length(5));
        if name_length > NAME_BYTES_MAX || content_length > CONTENT_BYTES_MAX {
            return damaged("an entry is too long");
        }
        let name = self.take(name_length)?;
        let content = self.take(content_length)?;
        if head[0] != END {
            for part in [&head, &name, &content] {
                self.sum.update(part);
            }
        }
        match head[0] {
            OBJECT => Ok(Item::Object(name, content)),
            FILE => match String::from_utf8(name) {
                Ok(name) => Ok(Item::File(name, content)),
                Err(_) => damaged("the name of a file is not UTF-8"),
            },
            END if content.len() == LEDGER_BYTES + 8 => {
                let (ledger, sum) = content.split_at(LEDGER_BYTES);
                if sum != self.sum.digest().to_le_bytes() {
                    return damaged("its checksum is wrong");
                }
                match Ledger::decode(ledger) {
                    Ok(ledger) => Ok(Item::End(ledger)),
                    Err(error) => damaged(format!("its ledger: {error}")),
                }
            }
            _ => damaged("an entry has an unknown kind"),
        }
    }
}

/// Reads a whole archive and checks it. `object` and `file` receive its content.
fn read(
    source: &mut dyn Read,
    mut object: impl FnMut(Vec<u8>, Vec<u8>) -> Result<(), ArchiveError>,
    mut file: impl FnMut(String, Vec<u8>) -> Result<(), ArchiveError>,
) -> Result<(Contents, Ledger), ArchiveError> {
    let mut entries = Entries::open(source)?;
    let mut found = Ledger::default();
    let ledger = loop {
        match entries.next()? {
            Item::Object(key, record) => {
                let text = std::str::from_utf8(&key).ok().and_then(Key::new);
                if text.is_none() {
                    return damaged("an object has an invalid key");
                }
                match record::decode(&key, record.clone()) {
                    Ok((revision, _)) => found.add(&key, revision),
                    Err(error) => return damaged(format!("{}: {error}", String::from_utf8_lossy(&key))),
                }
                object(key, record)?;
            }
            Item::File(name, content) => file(name, content)?,
            Item::End(ledger) => break ledger,
        }
    };
    if (found.count, found.digest) != (ledger.count, ledger.digest) {
        return damaged(format!(
            "it has {} objects instead of {}",
            found.count, ledger.count
        ));
    }
    let contents = Contents {
        revision: ledger.revision,
        objects: ledger.count,
        bytes: entries.bytes,
    };
    Ok((contents, ledger))
}

/// Checks a whole archive.
pub fn check(source: &mut dyn Read) -> Result<Contents, ArchiveError> {
    let (contents, _) = read(source, |_, _| Ok(()), |_, _| Ok(()))?;
    Ok(contents)
}

/// Copies an archive without files, checks it, and adds files.
pub fn copy(
    source: &mut dyn Read,
    files: &[(String, Vec<u8>)],
    out: &mut dyn Write,
) -> Result<(), ArchiveError> {
    let mut sum = Xxh3::new();
    let mut put = |bytes: &[u8]| {
        sum.update(bytes);
        out.write_all(bytes).map_err(ArchiveError::Write)
    };
    let mut buffer = MAGIC.to_vec();
    for (name, content) in files {
        entry(&mut buffer, FILE, name.as_bytes(), content);
    }
    put(&buffer)?;
    let object = |key: Vec<u8>, record: Vec<u8>| {
        buffer.clear();
        entry(&mut buffer, OBJECT, &key, &record);
        put(&buffer)
    };
    let (_, ledger) = read(source, object, |_, _| damaged("it already has files"))?;
    let mut end = ledger.encode();
    end.extend(sum.digest().to_le_bytes());
    let mut last = Vec::new();
    entry(&mut last, END, b"", &end);
    out.write_all(&last).map_err(ArchiveError::Write)
}

/// Restores an archive to a store in `dir`, which must be empty or missing. Its revisions continue
/// far above those of the archive, so no revision that clients saw after the backup occurs again.
/// The files of the archive are passed to `file`.
pub fn restore(
    dir: &Path,
    disk: &Disk,
    source: &mut dyn Read,
    file: &mut dyn FnMut(&str, &[u8]) -> io::Result<()>,
) -> Result<Contents, ArchiveError> {
    let locked = Dir::lock(dir, disk)?;
    let mut engine = Redb::open(locked.path(), disk)?;
    let mut batch: Vec<Entry> = Vec::new();
    let mut batch_bytes = 0;
    let object = |key: Vec<u8>, record: Vec<u8>| {
        batch_bytes += record.len();
        batch.push((key, Some(record)));
        if batch_bytes >= BATCH_BYTES {
            engine.write(&std::mem::take(&mut batch))?;
            batch_bytes = 0;
        }
        Ok(())
    };
    let keep = |name: String, content: Vec<u8>| {
        file(&name, &content).map_err(|source| {
            let path = PathBuf::from(name);
            ArchiveError::Dir(OpenError::Io { path, source })
        })
    };
    let (contents, ledger) = read(source, object, keep)?;
    let base = Revision(ledger.reserved.0 + REVISIONS_SKIPPED);
    let ledger = Ledger {
        revision: base,
        reserved: base,
        ..ledger
    };
    batch.push((LEDGER_KEY.to_vec(), Some(ledger.encode())));
    engine.write(&batch)?;
    drop(engine);
    locked.write_seal(State::Closed, ledger)?;
    Ok(contents)
}
