//! Writing a set of files so that a reader sees all old or all new ones: the kubelet's layout.
//!
//! `folder/..2026_…/key` holds a version, `folder/..data` points to the newest, `folder/key` points into `..data`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown, symlink};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use runtime::beneath::remove_tree;

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) content: Vec<u8>,
    pub(super) mode: u32,
    /// Owner; root when `None`.
    pub(super) user: Option<u32>,
}

const DATA: &str = "..data";
const DATA_NEXT: &str = "..data_tmp";

/// Makes `folder` show exactly `files` (relative paths). Nothing is touched when it does already.
pub(super) fn write(folder: &Path, files: &BTreeMap<PathBuf, File>, group: Option<u32>) -> io::Result<()> {
    let data = folder.join(DATA);
    let old = fs::read_link(&data).ok();
    if old.is_some() && shows(&data, files)? {
        return Ok(());
    }
    let version = format!("..{}", Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%f"));
    let home = folder.join(&version);
    fs::create_dir_all(&home)?;
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755))?;
    for (path, file) in files {
        write_file(&home.join(path), file, group)?;
    }
    let next = folder.join(DATA_NEXT);
    remove_link(&next)?;
    symlink(&version, &next)?;
    fs::rename(&next, &data)?;
    link_tops(folder, files)?;
    match old {
        Some(old) if old.components().count() == 1 => remove_tree(&folder.join(old)),
        // Not a version of ours.
        Some(_) => Ok(()),
        None => Ok(()),
    }
}

fn write_file(path: &Path, file: &File, group: Option<u32>) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut options = fs::OpenOptions::new();
    // Nobody else reads it before its owner and its mode are what they have to be.
    let mut out = options.write(true).create_new(true).mode(0o600).open(path)?;
    out.write_all(&file.content)?;
    let mut mode = file.mode;
    if group.is_some() {
        mode |= 0o440;
    }
    fchown(&out, file.user, group)?;
    out.set_permissions(fs::Permissions::from_mode(mode))
}

/// Whether the newest version already is what is asked for.
fn shows(data: &Path, files: &BTreeMap<PathBuf, File>) -> io::Result<bool> {
    let mut present = BTreeSet::new();
    collect(data, Path::new(""), &mut present)?;
    if present.len() != files.len() {
        return Ok(false);
    }
    for (path, file) in files {
        if !present.contains(path) || fs::read(data.join(path))? != file.content {
            return Ok(false);
        }
    }
    Ok(true)
}

fn collect(root: &Path, below: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(root, &path, found)?;
        } else {
            found.insert(path);
        }
    }
    Ok(())
}

/// Links the first part of each path into `..data`, and removes the links of files that are gone.
fn link_tops(folder: &Path, files: &BTreeMap<PathBuf, File>) -> io::Result<()> {
    let top = |path: &PathBuf| {
        path.components()
            .next()
            .map(|part| PathBuf::from(part.as_os_str()))
    };
    let tops: BTreeSet<PathBuf> = files.keys().filter_map(top).collect();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = PathBuf::from(entry.file_name());
        let ours = entry.file_name().to_string_lossy().starts_with("..");
        if !ours && entry.file_type()?.is_symlink() && !tops.contains(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    for name in tops {
        let link = folder.join(&name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new(DATA).join(&name), &link)?;
        }
    }
    Ok(())
}

fn remove_link(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> BTreeMap<PathBuf, File> {
        let file = |content: &str| File {
            content: content.into(),
            mode: 0o640,
            user: None,
        };
        list.iter()
            .map(|(path, content)| (PathBuf::from(path), file(content)))
            .collect()
    }

    #[test]
    fn a_new_version_replaces_the_old_one_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        write(folder, &files(&[("a", "1"), ("d/b", "2")]), None).expect("write");
        assert_eq!(fs::read_to_string(folder.join("a")).expect("read"), "1");
        assert_eq!(fs::read_to_string(folder.join("d/b")).expect("read"), "2");
        let mode = fs::metadata(folder.join("a")).expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let before = fs::read_link(folder.join(DATA)).expect("link");

        write(folder, &files(&[("a", "1"), ("d/b", "2")]), None).expect("write the same");
        assert_eq!(fs::read_link(folder.join(DATA)).expect("link"), before);

        write(folder, &files(&[("a", "3"), ("c", "4")]), None).expect("write another");
        assert_eq!(fs::read_to_string(folder.join("a")).expect("read"), "3");
        assert!(folder.join("d").symlink_metadata().is_err());
        assert!(!folder.join(before).exists());
    }

    #[test]
    fn no_files_at_all_is_a_version_too() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), &files(&[]), None).expect("write");
        assert!(folder.path().join(DATA).is_dir());
    }
}
