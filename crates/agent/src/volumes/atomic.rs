//! Writing a set of files so that a reader sees all old or all new ones: the kubelet's layout.
//!
//! `folder/..2026_…/key` holds a version, `folder/..data` points to the newest, `folder/key` points into `..data`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use disk::Disk;
use jiff::Timestamp;
use runtime::beneath::remove_tree;
use runtime::bounded;

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

/// Mode of the folders.
const FOLDER_MODE: u32 = 0o755;

/// Makes `folder` show exactly `files` (relative paths). Nothing is touched when it does already.
///
/// The content is not forced to the disk: a start after a power cut comes here again before any container reads it, and compares.
pub(super) fn write(
    disk: &Disk,
    folder: &Path,
    files: &BTreeMap<PathBuf, File>,
    group: Option<u32>,
) -> io::Result<()> {
    let data = folder.join(DATA);
    if let Ok(shown) = fs::read_link(&data)
        && shows(&data, files)?
    {
        // A kill may have left the rest undone.
        link_tops(disk, folder, files)?;
        return remove_versions(folder, &shown);
    }
    let version = format!("..{}", Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%f"));
    let home = folder.join(&version);
    disk.create_dir(&home, FOLDER_MODE)?;
    fs::set_permissions(&home, fs::Permissions::from_mode(FOLDER_MODE))?;
    for (path, file) in files {
        write_file(disk, &home.join(path), file, group)?;
    }
    let next = folder.join(DATA_NEXT);
    disk.remove(&next)?;
    disk.link(Path::new(&version), &next)?;
    disk.rename(&next, &data)?;
    link_tops(disk, folder, files)?;
    remove_versions(folder, Path::new(&version))
}

/// Removes the versions that are not shown: the one before, and what a kill has left.
fn remove_versions(folder: &Path, shown: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_version = name.to_string_lossy().starts_with("..") && entry.file_type()?.is_dir();
        if is_version && Path::new(&name) != shown {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

fn write_file(disk: &Disk, path: &Path, file: &File, group: Option<u32>) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        disk.create_dir(parent, FOLDER_MODE)?;
    }
    // Nobody else reads it before its owner and its mode are what they have to be.
    let out = disk.create(path, 0o600)?;
    disk.write(&out, path, &file.content)?;
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
        let same = |content: Vec<u8>| content == file.content;
        let length = file.content.len() as u64;
        if !present.contains(path) || !bounded::read(&data.join(path), length).is_ok_and(same) {
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
fn link_tops(disk: &Disk, folder: &Path, files: &BTreeMap<PathBuf, File>) -> io::Result<()> {
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
            disk.remove(&entry.path())?;
        }
    }
    for name in tops {
        let link = folder.join(&name);
        if link.symlink_metadata().is_err() {
            disk.link(&Path::new(DATA).join(&name), &link)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use disk::CutOff;

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
        write(
            &Disk::default(),
            folder,
            &files(&[("a", "1"), ("d/b", "2")]),
            None,
        )
        .expect("write");
        assert_eq!(fs::read_to_string(folder.join("a")).expect("read"), "1");
        assert_eq!(fs::read_to_string(folder.join("d/b")).expect("read"), "2");
        let mode = fs::metadata(folder.join("a")).expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let before = fs::read_link(folder.join(DATA)).expect("link");

        write(
            &Disk::default(),
            folder,
            &files(&[("a", "1"), ("d/b", "2")]),
            None,
        )
        .expect("write the same");
        assert_eq!(fs::read_link(folder.join(DATA)).expect("link"), before);

        write(&Disk::default(), folder, &files(&[("a", "3"), ("c", "4")]), None).expect("write another");
        assert_eq!(fs::read_to_string(folder.join("a")).expect("read"), "3");
        assert!(folder.join("d").symlink_metadata().is_err());
        assert!(!folder.join(before).exists());
    }

    #[test]
    fn readers_see_one_version_wherever_a_write_is_cut_off() {
        let (old, new) = (
            files(&[("a", "1"), ("d/b", "1")]),
            files(&[("a", "2"), ("d/b", "2"), ("c", "2")]),
        );
        let read =
            |folder: &Path, path: &str| fs::read_to_string(folder.join(DATA).join(path)).expect("read");
        for torn in [false, true] {
            for passes in 0.. {
                let folder = tempfile::tempdir().expect("a folder");
                let folder = folder.path();
                write(&Disk::default(), folder, &old, None).expect("write");
                let cut = Arc::new(match torn {
                    false => CutOff::after(passes),
                    true => CutOff::within(passes),
                });
                let done = write(&Disk::gated(cut.clone()), folder, &new, None);
                assert_eq!(done.is_ok(), !cut.has_cut(), "{done:?}");
                assert_eq!(read(folder, "a"), read(folder, "d/b"), "{passes}");
                write(&Disk::default(), folder, &new, None).expect("write again");
                for path in new.keys() {
                    assert_eq!(fs::read_to_string(folder.join(path)).expect("read"), "2");
                }
                let versions = fs::read_dir(folder).expect("list").flatten();
                let versions = versions.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
                assert_eq!(versions.count(), 1);
                if done.is_ok() {
                    break;
                }
            }
        }
    }

    #[test]
    fn no_files_at_all_is_a_version_too() {
        let folder = tempfile::tempdir().expect("a folder");
        write(&Disk::default(), folder.path(), &files(&[]), None).expect("write");
        assert!(folder.path().join(DATA).is_dir());
    }
}
