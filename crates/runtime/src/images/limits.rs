//! What an image may take of the machine. Its registry, its archive and its layers all say how large it is, and may lie.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;

use crate::beneath::Root;
use crate::{Error, Result};

/// Most bytes that an archive may spend on the headers of one member: long names, extended attributes and sparse maps. The reader holds
/// them in memory. The kernel keeps at most 64 KiB of an attribute, and a path of 4 KiB.
const HEADERS_LIMIT: u64 = 1 << 20;

/// Bytes of headers for each file that an archive may have: blocks for the file, two long names and their own headers.
const HEADERS_OF_A_FILE: u64 = 12 << 10;

/// Longest path of a member in bytes: the kernel's PATH_MAX, so a longer one could not be opened.
pub(super) const PATH_LIMIT: usize = 4096;

/// Bytes of folder names that are remembered while a layer is unpacked. A layer of a whole distribution has 2 MiB.
const FOLDER_NAMES_LIMIT: usize = 64 << 20;

/// How much an image may take of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLimits {
    /// Bytes of all layers of one image, packed as well as unpacked.
    pub bytes: u64,
    /// Files, folders and links of all layers of one image.
    pub files: u64,
}

impl Default for ImageLimits {
    /// Larger than the largest images in wide use (machine learning: about 20 GiB and 500,000 files).
    fn default() -> ImageLimits {
        ImageLimits {
            bytes: 32 << 30,
            files: 2_000_000,
        }
    }
}

impl ImageLimits {
    pub(super) fn too_many_bytes(&self, what: &str) -> Error {
        Error::invalid(format!(
            "{what} has more than {} bytes, the limit of this node; --image-max-bytes raises it",
            self.bytes
        ))
    }

    fn too_many_files(&self) -> Error {
        Error::invalid(format!(
            "the image has more than {} files, the limit of this node; --image-max-files raises it",
            self.files
        ))
    }
}

/// What is left of the limits while the layers of one image are unpacked.
#[derive(Debug)]
pub(super) struct Allowance {
    limits: ImageLimits,
    bytes: u64,
    files: u64,
    folder_names: usize,
}

impl Allowance {
    pub(super) fn new(limits: ImageLimits) -> Allowance {
        Allowance {
            limits,
            bytes: limits.bytes,
            files: limits.files,
            folder_names: FOLDER_NAMES_LIMIT,
        }
    }

    /// Bytes of content that are about to be written; those of a sparse file count, because they are written, too.
    pub(super) fn take_bytes(&mut self, bytes: u64) -> Result<()> {
        match self.bytes.checked_sub(bytes) {
            Some(left) => self.bytes = left,
            None => return Err(self.limits.too_many_bytes("the unpacked image")),
        }
        Ok(())
    }

    /// Files, folders or links that are about to be made.
    pub(super) fn take_files(&mut self, files: u64) -> Result<()> {
        match self.files.checked_sub(files) {
            Some(left) => self.files = left,
            None => return Err(self.limits.too_many_files()),
        }
        Ok(())
    }

    /// Makes the folders of a path that are missing; they count as files do, also those that links in the path lead to.
    pub(super) fn make_folders(&mut self, root: &Root, path: &Path) -> Result<()> {
        match root.make_folders_within(path, 0o755, &mut self.files) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => Err(self.limits.too_many_files()),
            Err(error) => Err(Error::machine(error.to_string())),
        }
    }

    /// A folder's name that is remembered until the layer is whole.
    pub(super) fn take_folder_name(&mut self, length: usize) -> Result<()> {
        match self.folder_names.checked_sub(length) {
            Some(left) => self.folder_names = left,
            None => return Err(Error::invalid("the names of the layer's folders are too long")),
        }
        Ok(())
    }

    /// Counts the bytes of a layer's archive as they are read: its content, and the headers of as many files as are left.
    pub(super) fn meter<R>(&self, archive: R) -> (Meter<R>, HeaderGate) {
        let headers = self.files.saturating_mul(HEADERS_OF_A_FILE);
        Meter::new(archive, self.bytes.saturating_add(headers))
    }
}

/// Reads an archive, but no more bytes than it may have, and no more than [`HEADERS_LIMIT`] before a member is known.
pub(super) struct Meter<R> {
    archive: R,
    left: u64,
    headers: Rc<Cell<Option<u64>>>,
}

/// Says when the headers of a member begin and end.
pub(super) struct HeaderGate(Rc<Cell<Option<u64>>>);

impl HeaderGate {
    /// What is read now are headers, after at most one block of padding.
    pub(super) fn begin(&self) {
        self.0.set(Some(HEADERS_LIMIT));
    }

    /// The member is known; what is read now is its content.
    pub(super) fn end(&self) {
        self.0.set(None);
    }
}

impl<R> Meter<R> {
    pub(super) fn new(archive: R, most: u64) -> (Meter<R>, HeaderGate) {
        let headers = Rc::new(Cell::new(None));
        let gate = HeaderGate(Rc::clone(&headers));
        let meter = Meter {
            archive,
            left: most,
            headers,
        };
        (meter, gate)
    }

    pub(super) fn into_inner(self) -> R {
        self.archive
    }
}

impl<R: Read> Read for Meter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let headers = self.headers.get();
        let most = self.left.min(headers.unwrap_or(u64::MAX));
        if most == 0 && !buffer.is_empty() {
            let what = match headers {
                Some(0) => "the headers of a member are longer than 1 MiB",
                _ => "the archive is longer than its members",
            };
            return Err(io::Error::other(what));
        }
        let room = buffer.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        let count = self.archive.read(&mut buffer[..room])?;
        self.left -= count as u64;
        if let Some(headers) = headers {
            self.headers.set(Some(headers - count as u64));
        }
        Ok(count)
    }
}

impl<R: Seek> Seek for Meter<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.archive.seek(to)
    }
}
