//! Paths of the machine that pods mount, and the promises that their types make.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use runtime::FileKind;

/// The kind of file that a type of hostPath promises; `None` where it promises nothing.
pub(crate) fn kind_of_file(kind: Option<&str>) -> Option<FileKind> {
    Some(match kind.unwrap_or_default() {
        "Directory" | "DirectoryOrCreate" => FileKind::Folder,
        "File" | "FileOrCreate" => FileKind::File,
        "Socket" => FileKind::Socket,
        "CharDevice" => FileKind::CharDevice,
        "BlockDevice" => FileKind::BlockDevice,
        _ => return None,
    })
}

/// Makes `path` where `kind` allows it and nothing is there, and says early what is wrong. The empty kind promises nothing; a
/// missing path becomes a folder then, as container runtimes have it. What is mounted is checked again, by its descriptor.
pub(super) fn check(path: &Path, kind: &str) -> Result<(), String> {
    let failed = |error: io::Error| format!("create {}: {error}", path.display());
    let made = match kind {
        "" | "DirectoryOrCreate" if !path.exists() => {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
        }
        "FileOrCreate" => {
            let mut options = fs::OpenOptions::new();
            let made = options.write(true).create_new(true).mode(0o644).open(path);
            made.map(drop)
        }
        _ => Ok(()),
    };
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    match kind_of_file(Some(kind)) {
        Some(wanted) if wanted.is(path) => Ok(()),
        Some(wanted) => Err(format!(
            "hostPath type check failed: {} is not {}",
            path.display(),
            wanted.noun()
        )),
        None if kind.is_empty() => Ok(()),
        None => Err(format!("{kind:?} is not a type of hostPath")),
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
