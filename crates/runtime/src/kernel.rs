//! Parts of the kernel that may be modules and may be missing.

use std::process::{Command, Stdio};

use crate::bounded;
use crate::{Error, Result};

/// Fails if the kernel does not support a file system. Loads its module if necessary.
pub(crate) fn ensure_file_system(name: &str) -> Result<()> {
    let has = || {
        bounded::kernel("/proc/filesystems").is_ok_and(|all| {
            all.lines()
                .any(|line| line.split_whitespace().next_back() == Some(name))
        })
    };
    if has() {
        return Ok(());
    }
    load_module(name).map_err(|why| missing(name, &format!("the file system {name}"), &why))?;
    match has() {
        true => Ok(()),
        false => Err(missing(name, &format!("the file system {name}"), "it was loaded")),
    }
}

/// Loads a module. The error contains the reason.
pub(crate) fn load_module(name: &str) -> std::result::Result<(), String> {
    let mut command = Command::new("modprobe");
    command
        .arg(name)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    match bounded::output(&mut command, b"") {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr);
            Err(words
                .lines()
                .next()
                .unwrap_or("modprobe failed")
                .trim()
                .to_owned())
        }
        Err(error) => Err(format!("modprobe: {error}")),
    }
}

/// Returns the error for a missing part of the kernel, with the remedy.
pub(crate) fn missing(module: &str, part: &str, why: &str) -> Error {
    Error::machine(format!(
        "this kernel lacks {part} ({why}): load the module with `modprobe {module}`, or run a kernel that has it, such as the distribution's own"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_that_is_missing_is_named_with_its_remedy() {
        assert!(ensure_file_system("proc").is_ok());
        let why = ensure_file_system("nosuchfs").unwrap_err().message;
        assert!(why.contains("`modprobe nosuchfs`"), "{why}");
    }
}
