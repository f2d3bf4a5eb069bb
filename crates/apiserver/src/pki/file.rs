//! Reading the files of the folder `pki`.

use std::fs;
use std::path::Path;

use super::PkiError;

pub(super) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PkiError {
    let path = path.to_owned();
    move |source| PkiError::File {
        operation,
        path,
        source,
    }
}

/// Returns the text of `path`, or `None` when the file does not exist.
pub(crate) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}
