//! Paths of the machine that pods mount, and the promises that their types make.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Checks that `path` is what `kind` says, making it where the kind allows. The empty kind promises nothing; a missing path
/// becomes a folder then, as container runtimes have it.
pub(super) fn check(path: &Path, kind: &str) -> Result<(), String> {
    let found = fs::metadata(path).ok();
    let failed = |error: io::Error| format!("create {}: {error}", path.display());
    match (kind, &found) {
        ("" | "DirectoryOrCreate", None) => {
            return fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(path)
                .map_err(failed);
        }
        ("FileOrCreate", None) => {
            let mut options = fs::OpenOptions::new();
            let made = options
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .open(path);
            return made.map(drop).map_err(failed);
        }
        ("", Some(_)) => return Ok(()),
        _ => {}
    }
    let kind_of_file = found.map(|metadata| metadata.file_type());
    let is = |test: fn(&fs::FileType) -> bool| kind_of_file.as_ref().is_some_and(test);
    let (fits, noun) = match kind {
        "Directory" | "DirectoryOrCreate" => (is(fs::FileType::is_dir), "a directory"),
        "File" | "FileOrCreate" => (is(fs::FileType::is_file), "a file"),
        "Socket" => (is(FileTypeExt::is_socket), "a socket file"),
        "CharDevice" => (is(FileTypeExt::is_char_device), "a character device"),
        "BlockDevice" => (is(FileTypeExt::is_block_device), "a block device"),
        other => return Err(format!("{other:?} is not a type of hostPath")),
    };
    if fits {
        Ok(())
    } else {
        Err(format!(
            "hostPath type check failed: {} is not {noun}",
            path.display()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_keeps_its_promise() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "").expect("write");
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).expect("bind");
        let cases = [
            ("missing/deep", "", true),
            ("file", "", true),
            ("file", "File", true),
            ("file", "Directory", false),
            ("file", "DirectoryOrCreate", false),
            ("none", "Directory", false),
            ("none", "File", false),
            ("made", "DirectoryOrCreate", true),
            ("made", "Directory", true),
            ("new-file", "FileOrCreate", true),
            ("new-file", "File", true),
            ("socket", "Socket", true),
            ("file", "Socket", false),
            ("file", "Nonsense", false),
        ];
        for (name, kind, fits) in cases {
            assert_eq!(check(&path(name), kind).is_ok(), fits, "{name} {kind}");
        }
        assert!(path("missing/deep").is_dir());
        assert_eq!(check(Path::new("/dev/null"), "CharDevice"), Ok(()));
        let message = format!(
            "hostPath type check failed: {} is not a directory",
            path("none").display()
        );
        assert_eq!(check(&path("none"), "Directory"), Err(message));
    }
}
