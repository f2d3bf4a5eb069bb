//! The engine of the embedded store: one file of [redb](https://docs.rs/redb), a copy-on-write
//! B-tree.
//!
//! The reasons are in `docs/decisions/0002-storage-engine.md`.

use std::any::Any;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use disk::Disk;
use redb::{Builder, Database, ReadableDatabase, TableDefinition};
use rustix::fs::{Advice, fadvise};

use super::pages::{Overlay, Pages};
use super::{Engine, EngineError, Entry};

/// The name of the file in the store's directory.
pub const FILE_NAME: &str = "store.redb";

/// The name of the file until it is complete.
const DRAFT_NAME: &str = "store.redb.new";

/// redb's page cache. The file is read once, at the start; only the inner pages of the tree are
/// needed for each commit (about 3 MiB with 100,000 objects).
const PAGE_CACHE_BYTES: usize = 8 << 20;

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// Mode of the file, which contains secrets.
const MODE: u32 = 0o600;

/// A redb file.
pub struct Redb {
    /// `None` after a failure, until the file is opened again.
    database: Option<Database>,
    /// Writes would be lost, because the file is opened for reading.
    is_read_only: bool,
    path: PathBuf,
    disk: Disk,
}

impl Redb {
    /// Opens or creates `<dir>/store.redb`. redb checks the whole file, and repairs what an
    /// interrupted commit left.
    pub fn open(dir: &Path, disk: &Disk) -> Result<Redb, EngineError> {
        let path = dir.join(FILE_NAME);
        let database = match path.exists() {
            true => open_existing(&path, disk)?,
            false => create(&path, &dir.join(DRAFT_NAME), disk)?,
        };
        Ok(Redb {
            database: Some(database),
            is_read_only: false,
            path,
            disk: disk.clone(),
        })
    }

    /// Opens `<dir>/store.redb` without writing to it, for a disk that accepts no writes now.
    /// [`Engine::reopen`] opens it for writing.
    pub(crate) fn open_to_read(dir: &Path, disk: &Disk) -> Result<Redb, EngineError> {
        let path = dir.join(FILE_NAME);
        let io = |source| EngineError::Io {
            operation: "open",
            path: path.clone(),
            source,
        };
        let overlay = File::open(&path).and_then(Overlay::new).map_err(io)?;
        let database = guard("open", &path, || Ok(builder().create_with_backend(overlay)?))?;
        Ok(Redb {
            database: Some(database),
            is_read_only: true,
            path,
            disk: disk.clone(),
        })
    }

    fn database(&mut self) -> Result<(&mut Database, &Path), EngineError> {
        match &mut self.database {
            Some(database) => Ok((database, &self.path)),
            None => Err(EngineError::Io {
                operation: "use",
                path: self.path.clone(),
                source: std::io::Error::other("cannot open it again after a failed write"),
            }),
        }
    }
}

/// Creates a file. redb needs several writes for this. The file is renamed only when it is
/// complete, because after a kill a partial file would look like a damaged store.
fn create(path: &Path, draft: &Path, disk: &Disk) -> Result<Database, EngineError> {
    let io = |source| EngineError::Io {
        operation: "create",
        path: path.into(),
        source,
    };
    disk.remove(draft).map_err(io)?;
    let file = disk.create(draft, MODE).map_err(io)?;
    let database = open_file(file, draft, disk, "create")?;
    guard("create", draft, || {
        let transaction = database.begin_write()?;
        transaction.open_table(RECORDS)?;
        transaction.commit()?;
        Ok(())
    })?;
    disk.rename(draft, path).map_err(io)?;
    Ok(database)
}

fn open_existing(path: &Path, disk: &Disk) -> Result<Database, EngineError> {
    let io = |source| EngineError::Io {
        operation: "open",
        path: path.into(),
        source,
    };
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
    if file.metadata().map_err(io)?.len() == 0 {
        return Err(EngineError::Damaged {
            operation: "open",
            path: path.into(),
            what: "it is empty".into(),
        });
    }
    // After a failed flush the kernel may keep pages that never reached the disk and count as
    // written. They must be read from the disk again.
    fadvise(&file, 0, None, Advice::DontNeed).map_err(|errno| io(errno.into()))?;
    open_file(file, path, disk, "open")
}

fn open_file(file: File, path: &Path, disk: &Disk, operation: &'static str) -> Result<Database, EngineError> {
    let pages = Pages {
        file,
        path: path.into(),
        disk: disk.clone(),
    };
    guard(operation, path, || Ok(builder().create_with_backend(pages)?))
}

impl Engine for Redb {
    fn load(&mut self, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), EngineError> {
        let (database, path) = self.database()?;
        guard("read", path, || {
            let transaction = database.begin_read()?;
            let table = match transaction.open_table(RECORDS) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
                table => table?,
            };
            for record in table.range::<&[u8]>(..)? {
                let (key, value) = record?;
                visit(key.value(), value.value());
            }
            Ok(())
        })
    }

    fn write(&mut self, batch: &[Entry]) -> Result<(), EngineError> {
        if self.is_read_only {
            return Err(EngineError::Io {
                operation: "write",
                path: self.path.clone(),
                source: ErrorKind::ReadOnlyFilesystem.into(),
            });
        }
        let (database, path) = self.database()?;
        guard("write", path, || {
            let transaction = database.begin_write()?;
            {
                let mut table = transaction.open_table(RECORDS)?;
                for (key, value) in batch {
                    match value {
                        Some(value) => table.insert(key.as_slice(), value.as_slice())?,
                        None => table.remove(key.as_slice())?,
                    };
                }
            }
            // Durability::Immediate is redb's default: it returns after the flush.
            transaction.commit()?;
            Ok(())
        })
    }

    fn reopen(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        // After a failed write, redb rejects all operations, and does not change the file when it
        // is dropped.
        self.database = None;
        self.database = Some(open_existing(&self.path, &self.disk)?);
        self.is_read_only = false;
        let (database, path) = self.database()?;
        guard("read", path, || {
            let transaction = database.begin_read()?;
            let table = transaction.open_table(RECORDS)?;
            let record = table.get(key)?;
            Ok(record.map(|record| record.value().to_vec()))
        })
    }
}

/// The errors of redb for a file of another format, or one that ends too early.
const MISREAD: [ErrorKind; 2] = [ErrorKind::InvalidData, ErrorKind::UnexpectedEof];

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .set_cache_size(PAGE_CACHE_BYTES)
        .set_check_integrity_on_open(true);
    builder
}

/// Adds the operation and the file to an error. redb may panic on a damaged file, as its
/// documentation says. A panic is converted to an error, after which the store accepts no writes.
fn guard<R>(
    operation: &'static str,
    path: &Path,
    f: impl FnOnce() -> Result<R, redb::Error>,
) -> Result<R, EngineError> {
    let damaged = |what: String| EngineError::Damaged {
        operation,
        path: path.into(),
        what,
    };
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(redb::Error::Io(source))) if !MISREAD.contains(&source.kind()) => Err(EngineError::Io {
            operation,
            path: path.into(),
            source,
        }),
        Ok(Err(error)) => Err(damaged(error.to_string())),
        Err(panic) => Err(damaged(message_of(&*panic))),
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or(panic.downcast_ref::<&str>().copied());
    message.unwrap_or("the engine panicked").into()
}
