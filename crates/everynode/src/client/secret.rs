//! Prints secrets: tokens and keys.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use anyhow::Result;

use crate::verbs::get::print;

/// Permission bits of users other than the owner.
const OTHERS: u32 = 0o077;

/// Prints a secret. Warns when standard output is a file that other users can read.
pub(crate) fn print_secret(text: &str) -> Result<()> {
    print(text.as_bytes())?;
    let stdout = std::io::stdout().as_fd().try_clone_to_owned().map(File::from);
    let metadata = stdout.and_then(|file| file.metadata());
    if metadata.is_ok_and(|metadata| metadata.is_file() && metadata.mode() & OTHERS != 0) {
        eprintln!("Warning: this secret is in a file that other users can read; run chmod 600 on it");
    }
    Ok(())
}
