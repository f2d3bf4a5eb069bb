//! The engine of the embedded store: one file of [redb](https://docs.rs/redb), a copy-on-write B-tree.
//!
//! Why this one: `docs/decisions/0002-storage-engine.md`.

use std::any::Any;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, ReadableDatabase, TableDefinition};

use super::{Engine, EngineError, Entry};

/// The name of the file in the store's directory.
pub const FILE_NAME: &str = "store.redb";

/// The file before it is one.
const DRAFT_NAME: &str = "store.redb.new";

/// Pages that redb keeps in memory. It is read once, at the start; the inner pages of the tree are what each commit
/// needs again (at 100,000 objects about 3 MiB).
const PAGE_CACHE_BYTES: usize = 8 << 20;

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// A redb file.
pub struct Redb {
    database: Database,
    path: PathBuf,
}

impl Redb {
    /// Opens `<dir>/store.redb`, or makes it. redb checks the whole file first, and repairs what an interrupted commit
    /// left.
    pub fn open(dir: &Path) -> Result<Redb, EngineError> {
        let path = dir.join(FILE_NAME);
        if path.exists() {
            let database = guard("open", &path, || Ok(builder().open(&path)?))?;
            return Ok(Redb { database, path });
        }
        // redb takes several writes to make a file. One that is killed meanwhile must not leave what looks like a
        // damaged store, so a new file gets its name when it is whole.
        let draft = dir.join(DRAFT_NAME);
        let io = |source| EngineError::Io {
            operation: "create",
            path: path.clone(),
            source,
        };
        if draft.exists() {
            fs::remove_file(&draft).map_err(io)?;
        }
        let database = guard("create", &draft, || {
            let database = builder().create(&draft)?;
            let transaction = database.begin_write()?;
            transaction.open_table(RECORDS)?;
            transaction.commit()?;
            Ok(database)
        })?;
        fs::rename(&draft, &path).map_err(io)?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)?;
        Ok(Redb { database, path })
    }
}

impl Engine for Redb {
    fn load(&mut self, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), EngineError> {
        let Redb { database, path } = self;
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
        let Redb { database, path } = self;
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
}

/// How redb says that a file is not one of its own, or ends too early.
const MISREAD: [ErrorKind; 2] = [ErrorKind::InvalidData, ErrorKind::UnexpectedEof];

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .set_cache_size(PAGE_CACHE_BYTES)
        .set_check_integrity_on_open(true);
    builder
}

/// Names the operation and the file of a failure. redb may panic on a damaged file (its documentation says so), which
/// is a failure like another here: the store takes no more writes after it.
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
