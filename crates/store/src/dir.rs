//! The store's directory: who has it open, and what must be found in it.
//!
//! `lock` is held by the process that has the store open and says which one that is. `seal` is a witness beside the
//! engine's file: an engine that falls back to an earlier state (because the newest is damaged, or because its file is
//! gone or empty) would look healthy by itself. After an orderly close the seal says exactly what must be found; while
//! the store is open it says from which revision on it was opened.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::open::OpenError;
use crate::record::Ledger;

const LOCK: &str = "lock";
const SEAL: &str = "seal";
const SEAL_DRAFT: &str = "seal.new";

/// An open directory. Locked until it is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub(crate) struct Dir {
    path: PathBuf,
    _lock: File,
}

/// What the seal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seal {
    /// The store was opened, and its ledger said this then.
    Open(Ledger),
    /// The store was closed in order with this ledger.
    Closed(Ledger),
}

impl Dir {
    /// Makes the directory where it is missing, and locks it.
    pub(crate) fn lock(path: &Path) -> Result<Dir, OpenError> {
        let io = |source| OpenError::Io {
            path: path.into(),
            source,
        };
        // Secrets are kept here.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io)?;
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
                // Who it is helps, but is not worth another error.
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
        lock.set_len(0).map_err(lock_io)?;
        write!(lock, "{}", std::process::id()).map_err(lock_io)?;
        Ok(Dir {
            path: path.into(),
            _lock: lock,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The seal of those who had the store open before; `None` when nobody had.
    pub(crate) fn read_seal(&self) -> Result<Option<Seal>, OpenError> {
        let path = self.path.join(SEAL);
        match fs::read(&path) {
            Ok(bytes) => match Seal::decode(&bytes) {
                Some(seal) => Ok(Some(seal)),
                None => Err(OpenError::Damaged {
                    path,
                    what: "it is not a seal that this program wrote".into(),
                }),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(OpenError::Io { path, source }),
        }
    }

    /// Replaces the seal, durably.
    pub(crate) fn write_seal(&self, seal: Seal) -> Result<(), OpenError> {
        let draft = self.path.join(SEAL_DRAFT);
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(&seal.encode())?;
            file.sync_all()?;
            fs::rename(&draft, self.path.join(SEAL))?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|source| OpenError::Io {
            path: self.path.join(SEAL),
            source,
        })
    }
}

impl Seal {
    /// One byte for the kind, the ledger, a checksum over both.
    fn encode(self) -> Vec<u8> {
        let (kind, ledger) = match self {
            Seal::Open(ledger) => (b'o', ledger),
            Seal::Closed(ledger) => (b'c', ledger),
        };
        let mut bytes = vec![kind];
        bytes.extend(ledger.encode());
        bytes.extend(xxh3_64(&bytes).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Seal> {
        let (content, sum) = bytes.split_last_chunk::<8>()?;
        if u64::from_le_bytes(*sum) != xxh3_64(content) {
            return None;
        }
        let (kind, ledger) = content.split_first()?;
        let ledger = Ledger::decode(ledger).ok()?;
        match kind {
            b'o' => Some(Seal::Open(ledger)),
            b'c' => Some(Seal::Closed(ledger)),
            _ => None,
        }
    }
}
