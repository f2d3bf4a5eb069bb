//! The file below redb. It writes through a [`Disk`], so that a test can interrupt it at any point.
//!
//! redb's own backend would also lock the file. The directory's lock is enough and is held longer.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use disk::Disk;
use redb::StorageBackend;

/// An open file and its path.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) disk: Disk,
}

impl StorageBackend for Pages {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.disk.set_len(&self.file, &self.path, length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.sync(&self.file, &self.path)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write_at(&self.file, &self.path, offset, data)
    }
}

/// A file that is only read. redb writes when it opens a file, at least to mark it as open and
/// often to repair it. These few pages are kept in memory.
#[derive(Debug)]
pub(super) struct Overlay {
    file: File,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    length: u64,
    /// By offset.
    blocks: BTreeMap<u64, Box<[u8]>>,
}

const BLOCK_BYTES: u64 = 4096;

impl Overlay {
    pub(super) fn new(file: File) -> io::Result<Overlay> {
        let written = Written {
            length: file.metadata()?.len(),
            blocks: BTreeMap::new(),
        };
        Ok(Overlay {
            file,
            written: Mutex::new(written),
        })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a block of the file, with zeros beyond its end.
    fn block(&self, at: u64) -> io::Result<Box<[u8]>> {
        let mut block = vec![0; BLOCK_BYTES as usize];
        let mut filled = 0;
        while filled < block.len() {
            match self.file.read_at(&mut block[filled..], at + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(block.into())
    }
}

/// Splits a range at the borders of blocks. Returns for each piece the block's offset, the offset
/// in the block, and the piece's range in the whole.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % BLOCK_BYTES) as usize;
        let piece = (BLOCK_BYTES as usize - within).min(length - done);
        done += piece;
        Some((at - within as u64, within, done - piece..done))
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        if offset + out.len() as u64 > written.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (block, within, range) in pieces(offset, out.len()) {
            let out = &mut out[range];
            match written.blocks.get(&block) {
                Some(bytes) => out.copy_from_slice(&bytes[within..within + out.len()]),
                None => out.copy_from_slice(&self.block(block)?[within..within + out.len()]),
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.written().length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        for (block, within, range) in pieces(offset, data.len()) {
            let data = &data[range];
            let bytes = match written.blocks.entry(block) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(self.block(block)?),
            };
            bytes[within..within + data.len()].copy_from_slice(data);
        }
        Ok(())
    }
}
