//! Backups: the store and the keys of a cluster in one file, and the restore of a data directory
//! from it.
//!
//! The objects come from a running server ([`stream`]) or from the store of a stopped one
//! ([`write`]). The process that creates the backup reads the keys from the data directory; no
//! request returns them.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use disk::Disk;
use futures::{StreamExt, stream};
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;
pub use store::Contents;
use store::{ArchiveError, OpenError};

use crate::body::Body;
use crate::objects;
use crate::shared::Shared;

/// Path at which a running server returns its objects.
pub const PATH: &str = "/everynode/v1/backup";

/// Directory of keys and certificates in a data directory.
const PKI: &str = "pki";
/// Marker file: a restore has begun to change the data directory and has not finished.
const UNFINISHED: &str = "restore-unfinished";
/// Mode of key files: only the owner can read them.
const MODE: u32 = 0o600;
/// Limit on a key or certificate file, which has a few hundred bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;

/// Why a backup could not be created or used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The archive is invalid, or the store failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// A file of the data directory failed.
    #[error("{operation} {path}: {source}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The data directory belongs to a cluster.
    #[error(
        "{0} holds a cluster: name an empty --data-dir, or replace this one with --force, which keeps it beside the new one"
    )]
    Occupied(PathBuf),
    /// Neither the backup nor the data directory has keys.
    #[error(
        "the backup holds no keys, and {0} is not there: the cluster's nodes and clients would not trust new ones"
    )]
    NoKeys(PathBuf),
}

impl BackupError {
    /// Returns whether a server has the store open. The server can then be asked for its objects.
    pub fn is_of_a_running_server(&self) -> bool {
        matches!(self, BackupError::Store(OpenError::Locked { .. }))
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File {
        operation,
        path,
        source,
    }
}

/// Responds with all objects at one revision. They are encoded while the client reads.
pub(crate) fn stream(shared: &Shared) -> Response<Body> {
    let chunks = stream::iter(shared.objects.archive(&[]));
    let frames = chunks.map(|chunk| Ok::<_, io::Error>(Frame::data(chunk)));
    let mut response = Response::new(Body::stream(StreamBody::new(frames)));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    response
}

/// Returns the path of the marker file if a restore of this data directory was interrupted.
pub(crate) fn unfinished(data_dir: &Path) -> Option<PathBuf> {
    let marker = data_dir.join(UNFINISHED);
    marker.exists().then_some(marker)
}

/// Writes a backup of the data directory of a stopped server.
pub fn write(data_dir: &Path, out: &mut dyn Write) -> Result<(), BackupError> {
    let folder = objects::folder(data_dir);
    if !store::exists(&folder) {
        let none = io::Error::from(io::ErrorKind::NotFound);
        return Err(failed("back up the store in", &folder)(none));
    }
    let keys = keys(data_dir)?;
    let objects = objects::open(&folder)?;
    for chunk in objects.archive(&keys) {
        out.write_all(&chunk)
            .map_err(failed("write to", Path::new("the backup")))?;
    }
    if let Err(error) = objects.close() {
        tracing::warn!(%error, "cannot close the store after the backup");
    }
    Ok(())
}

/// Writes a backup from a running server's objects in `source` and the keys in its data directory.
/// Checks all of `source`.
pub fn receive(source: &mut dyn Read, data_dir: &Path, out: &mut dyn Write) -> Result<(), BackupError> {
    Ok(store::copy(source, &keys(data_dir)?, out)?)
}

/// Checks a whole backup and returns a summary of its contents.
pub fn check(path: &Path) -> Result<Contents, BackupError> {
    let file = File::open(path).map_err(failed("open", path))?;
    Ok(store::check(&mut BufReader::new(file))?)
}

/// Reads the key files of the directory `pki`.
fn keys(data_dir: &Path) -> Result<Vec<(String, Vec<u8>)>, BackupError> {
    let folder = data_dir.join(PKI);
    let mut keys = Vec::new();
    for found in fs::read_dir(&folder).map_err(failed("read", &folder))? {
        let path = found.map_err(failed("read", &folder))?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if !is_key_file(name) {
            continue;
        }
        let file = File::open(&path).map_err(failed("open", &path))?;
        let mut content = Vec::new();
        file.take(KEY_FILE_BYTES_MAX)
            .read_to_end(&mut content)
            .map_err(failed("read", &path))?;
        keys.push((name.to_owned(), content));
    }
    Ok(keys)
}

/// Accepts keys and certificates, but no drafts of them and no name that leads out of the
/// directory.
fn is_key_file(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    name.bytes().all(plain) && !name.starts_with('.') && (name.ends_with(".crt") || name.ends_with(".key"))
}

/// Restores a backup into the data directory of a stopped server. Resource versions continue far
/// above the backup's, so every client lists again. Existing content is replaced only with `force`,
/// and is kept as `store.replaced` and `pki.replaced`.
///
/// An interruption leaves the directory unchanged, or in a state that a server refuses until the
/// restore is repeated.
pub fn restore(file: &Path, data_dir: &Path, disk: &Disk, force: bool) -> Result<Contents, BackupError> {
    let source = File::open(file).map_err(failed("open", file))?;
    disk.create_private_dir(data_dir)
        .map_err(failed("create", data_dir))?;
    let (folder, pki, marker) = (
        objects::folder(data_dir),
        data_dir.join(PKI),
        data_dir.join(UNFINISHED),
    );
    let repeated = marker.exists();
    let _lock = match folder.exists() {
        true => Some(store::lock(&folder)?),
        false => None,
    };
    if !force && !repeated && (store::exists(&folder) || pki.exists()) {
        return Err(BackupError::Occupied(data_dir.to_owned()));
    }
    let draft = |path: &Path| path.with_extension("restored");
    for path in [draft(&folder), draft(&pki)] {
        remove_tree(&path)?;
    }
    let mut has_keys = false;
    let contents = store::restore(
        &draft(&folder),
        disk,
        &mut BufReader::new(source),
        &mut |name, content| {
            if !is_key_file(name) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the backup holds a file that is no key",
                ));
            }
            has_keys |= name == "ca.key";
            disk.create_private_dir(&draft(&pki))?;
            disk.replace(&draft(&pki).join(name), content, MODE)
        },
    )?;
    if !has_keys && !pki.exists() {
        return Err(BackupError::NoKeys(pki));
    }
    disk.replace(&marker, b"", MODE)
        .map_err(failed("write", &marker))?;
    for path in [&folder, &pki] {
        let draft = draft(path);
        if !draft.exists() {
            continue;
        }
        let replaced = path.with_extension("replaced");
        // A repeated restore may find its own files here. What was there before it is already saved
        // as `replaced`.
        if path.exists() && repeated && replaced.exists() {
            remove_tree(path)?;
        } else if path.exists() {
            remove_tree(&replaced)?;
            disk.rename(path, &replaced).map_err(failed("move away", path))?;
        }
        disk.rename(&draft, path)
            .map_err(failed("move into place", path))?;
    }
    disk.remove(&marker)
        .and_then(|()| disk.sync_dir_of(&marker))
        .map_err(failed("remove", &marker))?;
    Ok(contents)
}

fn remove_tree(path: &Path) -> Result<(), BackupError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
