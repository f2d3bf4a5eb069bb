//! Limits of an image on this machine. Its registry, archive and layers state sizes, which may be
//! wrong.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;

use crate::beneath::Root;
use crate::{Error, Result};

/// Limit of the headers of one archive member in bytes: long names, extended attributes and sparse
/// maps. The reader holds them in memory. The kernel's limits are 64 KiB for an attribute and 4 KiB
/// for a path.
const HEADERS_LIMIT: u64 = 1 << 20;

/// Bytes of headers for each file of an archive: blocks for the file, for two long names and for
/// their headers.
const HEADERS_OF_A_FILE: u64 = 12 << 10;

/// Limit of a member's path in bytes: the kernel's PATH_MAX, because a longer path cannot be
/// opened.
pub(super) const PATH_LIMIT: usize = 4096;

/// Limit of folder names that are held while a layer is unpacked, in bytes. A layer of a whole
/// distribution has 2 MiB.
const FOLDER_NAMES_LIMIT: usize = 64 << 20;

/// Limits of the disk usage of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLimits {
    /// Bytes of all layers of one image, compressed as well as unpacked.
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

/// The rest of the limits while the layers of one image are unpacked.
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

    /// Subtracts bytes of content before they are written. The holes of a sparse file count,
    /// because they are written, too.
    pub(super) fn take_bytes(&mut self, bytes: u64) -> Result<()> {
        match self.bytes.checked_sub(bytes) {
            Some(left) => self.bytes = left,
            None => return Err(self.limits.too_many_bytes("the unpacked image")),
        }
        Ok(())
    }

    /// Subtracts files, folders or links before they are created.
    pub(super) fn take_files(&mut self, files: u64) -> Result<()> {
        match self.files.checked_sub(files) {
            Some(left) => self.files = left,
            None => return Err(self.limits.too_many_files()),
        }
        Ok(())
    }

    /// Creates the missing folders of a path, also those that links in the path refer to. They
    /// count as files.
    pub(super) fn make_folders(&mut self, root: &Root, path: &Path) -> Result<()> {
        match root.make_folders_within(path, 0o755, &mut self.files) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => Err(self.limits.too_many_files()),
            Err(error) => Err(Error::machine(error.to_string())),
        }
    }

    /// Subtracts the name of a folder, which is held until the layer is complete.
    pub(super) fn take_folder_name(&mut self, length: usize) -> Result<()> {
        match self.folder_names.checked_sub(length) {
            Some(left) => self.folder_names = left,
            None => return Err(Error::invalid("the names of the layer's folders are too long")),
        }
        Ok(())
    }

    /// Counts the bytes of a layer's archive while they are read. Limits them to the rest of the
    /// content and the headers of the rest of the files.
    pub(super) fn meter<R>(&self, archive: R) -> (Meter<R>, HeaderGate) {
        let headers = self.files.saturating_mul(HEADERS_OF_A_FILE);
        Meter::new(archive, self.bytes.saturating_add(headers))
    }
}

/// Reads an archive up to its limit, and at most [`HEADERS_LIMIT`] bytes of headers of one member.
pub(super) struct Meter<R> {
    archive: R,
    left: u64,
    headers: Rc<Cell<Option<u64>>>,
}

/// Marks the start and end of a member's headers.
pub(super) struct HeaderGate(Rc<Cell<Option<u64>>>);

impl HeaderGate {
    /// The next bytes are headers, after at most one block of padding.
    pub(super) fn begin(&self) {
        self.0.set(Some(HEADERS_LIMIT));
    }

    /// The headers are complete; the next bytes are content.
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
