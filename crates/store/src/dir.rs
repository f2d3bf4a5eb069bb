//! The store's directory: its lock and its seal.
//!
//! The process that has the store open holds `lock`, and writes its process id there. `seal`
//! protects against an engine that opens an earlier state (because the newest is damaged, or the
//! file is missing or empty) and looks intact. After an orderly close the seal contains the exact
//! ledger that must be found. While the store is open, it contains the ledger at the opening.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use disk::Disk;
use xxhash_rust::xxh3::xxh3_64;

use crate::engine::FILE_NAME;
use crate::open::OpenError;
use crate::record::{LEDGER_BYTES, Ledger};

const LOCK: &str = "lock";
const SEAL: &str = "seal";
/// The directory also contains secrets.
const SEAL_MODE: u32 = 0o600;

/// An open directory. It is locked until it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct Dir {
    path: PathBuf,
    disk: Disk,
    _lock: File,
}

/// The content of the seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    /// Whether the store was open or closed.
    pub(crate) state: State,
    /// The ledger at that time.
    pub(crate) ledger: Ledger,
    /// The engine's file. Seals of earlier versions do not contain it.
    pub(crate) file: Option<FileId>,
}

/// The state of the store when the seal was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It was open.
    Open,
    /// It was closed in order.
    Closed,
}

/// Identifies a file, to detect copies. It has no device number, which can change at a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    inode: u64,
    /// Creation time in nanoseconds since the epoch; 0 if the filesystem does not record it.
    created: u64,
}

impl Dir {
    /// Creates the directory if necessary, and locks it.
    pub(crate) fn lock(path: &Path, disk: &Disk) -> Result<Dir, OpenError> {
        let io = |source| OpenError::Io {
            path: path.into(),
            source,
        };
        disk.create_private_dir(path).map_err(io)?;
        let lock_path = path.join(LOCK);
        let lock_io = |source| OpenError::Io {
            path: lock_path.clone(),
            source,
        };
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(lock_io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The holder's process id is only for the message; failing to read it is not an
                // error.
                let holder = lock
                    .read_to_string(&mut holder)
                    .map_or("unknown", |_| holder.trim());
                return Err(OpenError::Locked {
                    path: path.into(),
                    holder: holder.into(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(lock_io(source)),
        }
        // The process id is only for messages. A full disk, on which this write fails, must not
        // prevent opening.
        drop(
            lock.set_len(0)
                .and_then(|()| write!(lock, "{}", std::process::id())),
        );
        Ok(Dir {
            path: path.into(),
            disk: disk.clone(),
            _lock: lock,
        })
    }

    /// Returns whether a store was opened here before.
    pub(crate) fn is_sealed(path: &Path) -> bool {
        path.join(SEAL).exists()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the seal of the last run; `None` before the first one.
    pub(crate) fn read_seal(&self) -> Result<Option<Seal>, OpenError> {
        let path = self.path.join(SEAL);
        match fs::read(&path) {
            Ok(bytes) => match Seal::decode(&bytes) {
                Some(seal) => Ok(Some(seal)),
                None => Err(OpenError::Damaged {
                    path,
                    what: "it is not a valid seal".into(),
                }),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(OpenError::Io { path, source }),
        }
    }

    /// Replaces the seal, durably.
    pub(crate) fn write_seal(&self, state: State, ledger: Ledger) -> Result<(), OpenError> {
        let seal = Seal {
            state,
            ledger,
            file: self.file_id(),
        };
        let path = self.path.join(SEAL);
        self.disk
            .replace(&path, &seal.encode(), SEAL_MODE)
            .map_err(|source| OpenError::Io { path, source })
    }

    /// Returns the identity of the engine's file. `None` when it cannot be read; then a copy is not
    /// detected.
    pub(crate) fn file_id(&self) -> Option<FileId> {
        let found = fs::metadata(self.path.join(FILE_NAME)).ok()?;
        let created = found.created().ok();
        let created = created.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let created = created.and_then(|time| u64::try_from(time.as_nanos()).ok());
        Some(FileId {
            inode: found.ino(),
            created: created.unwrap_or(0),
        })
    }

    /// Returns the device and inode of the engine's file, for [`Dir::check_file`].
    pub(crate) fn watched_file(&self) -> Option<(u64, u64)> {
        let found = fs::metadata(self.path.join(FILE_NAME)).ok()?;
        Some((found.dev(), found.ino()))
    }

    /// Checks that the engine's file is still the one that was opened. Writes to a removed file are
    /// lost when the process ends.
    pub(crate) fn check_file(&self, opened: (u64, u64)) -> Result<(), String> {
        let path = self.path.join(FILE_NAME);
        let what = match fs::metadata(&path) {
            Ok(found) if (found.dev(), found.ino()) == opened => return Ok(()),
            Ok(_) => "another file is in its place".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(format!(
            "{} was removed or replaced while the store was open ({what}): stop this process, put the directory back, \
             and start again",
            path.display()
        ))
    }
}

impl Seal {
    /// Encodes one byte for the state, the ledger, the file, and a checksum of all.
    fn encode(self) -> Vec<u8> {
        let mut bytes = vec![match self.state {
            State::Open => b'o',
            State::Closed => b'c',
        }];
        bytes.extend(self.ledger.encode());
        if let Some(file) = self.file {
            bytes.extend(file.inode.to_le_bytes());
            bytes.extend(file.created.to_le_bytes());
        }
        bytes.extend(xxh3_64(&bytes).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Seal> {
        let (content, sum) = bytes.split_last_chunk::<8>()?;
        if u64::from_le_bytes(*sum) != xxh3_64(content) {
            return None;
        }
        let (state, content) = content.split_first()?;
        let (ledger, file) = content.split_at_checked(LEDGER_BYTES)?;
        let file = match file.as_chunks::<8>() {
            ([], []) => None,
            ([inode, created], []) => Some(FileId {
                inode: u64::from_le_bytes(*inode),
                created: u64::from_le_bytes(*created),
            }),
            _ => return None,
        };
        let state = match state {
            b'o' => State::Open,
            b'c' => State::Closed,
            _ => return None,
        };
        Some(Seal {
            state,
            ledger: Ledger::decode(ledger).ok()?,
            file,
        })
    }
}
