//! Unpacks a layer, as root, from an untrusted archive: every name is resolved below the layer's
//! folder.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown, lchown, symlink};
use std::path::{Component, Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use tar::EntryType;

use super::ScratchFile;
use super::limits::{Allowance, PATH_LIMIT};
use crate::beneath::{Root, magic_path, remove_tree};
use crate::error::Context as _;
use crate::layout;
use crate::{Error, Result};

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// Prefix of extended attributes of an archive member, as GNU tar and all image builders write
/// them.
const XATTR_RECORD: &str = "SCHILY.xattr.";

/// Length of the longest magic number in bytes.
const MAGIC: usize = 4;

/// Decompresses gzip or zstd, which it detects by the magic number. Returns anything else
/// unchanged.
pub(super) fn decompress<'a>(mut input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = Vec::with_capacity(MAGIC);
    input.by_ref().take(MAGIC as u64).read_to_end(&mut magic)?;
    let kind: Option<bool> = match magic.as_slice() {
        [0x1f, 0x8b, ..] => Some(true),
        [0x28, 0xb5, 0x2f, 0xfd] => Some(false),
        _ => None,
    };
    let whole = io::Cursor::new(magic).chain(input);
    Ok(match kind {
        Some(true) => Box::new(flate2::read::MultiGzDecoder::new(io::BufReader::new(whole))),
        Some(false) => Box::new(
            ruzstd::decoding::StreamingDecoder::new(io::BufReader::new(whole))
                .map_err(|cause| io::Error::other(cause.to_string()))?,
        ),
        None => Box::new(whole),
    })
}

/// Hashes the bytes that are read.
struct Hashing<R> {
    inner: R,
    digest: ring::digest::Context,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.digest.update(&buffer[..count]);
        Ok(count)
    }
}

/// Unpacks a layer into an empty folder, within the image's limits. Returns its diff id, the digest
/// of the uncompressed archive.
pub(super) fn unpack(blob: impl Read, folder: &Path, allowance: &mut Allowance) -> Result<String> {
    let hashing = Hashing {
        inner: decompress(blob).context(|| "read layer")?,
        digest: ring::digest::Context::new(&ring::digest::SHA256),
    };
    let (mut input, gate) = allowance.meter(hashing);
    let root = Root::container(folder).context(|| format!("open {}", folder.display()))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
        .context(|| format!("set mode of {}", folder.display()))?;
    let mut archive = tar::Archive::new(&mut input);
    // The times of folders are set last, because creating files in them changes the times.
    let mut folder_times = Vec::new();
    let mut entries = archive.entries().context(|| "read layer")?;
    loop {
        gate.begin();
        let Some(entry) = entries.next() else { break };
        gate.end();
        let mut entry = entry.context(|| "read layer")?;
        let path = entry.path().context(|| "read layer")?.into_owned();
        account(&root, &mut entry, &path, allowance)?;
        place(&root, &mut entry, &path, &mut folder_times)
            .and_then(|()| io::copy(&mut entry, &mut io::sink()))
            .map_err(|cause| Error::machine(format!("unpack {}: {cause}", shown(&path))))?;
    }
    gate.end();
    for (path, seconds) in folder_times.into_iter().rev() {
        if let Ok(folder) = root.open_folder(&path) {
            set_times(&magic_path(&folder, OsStr::new(".")), seconds)
                .map_err(|cause| Error::machine(format!("unpack {}: {cause}", shown(&path))))?;
        }
    }
    // The digest covers the padding too.
    io::copy(&mut input, &mut io::sink()).context(|| "read layer")?;
    let digest = input.into_inner().digest.finish();
    Ok(format!("sha256:{}", layout::hex(digest.as_ref())))
}

/// Returns the start of a member's path for pod statuses and logs. An archive may contain any text.
fn shown(path: &Path) -> String {
    const MOST: usize = 200;
    let text = path.to_string_lossy();
    let plain = text.chars().filter(|letter| !letter.is_control());
    plain.take(MOST).collect()
}

/// Subtracts the needs of a member from the image's limits. Nothing of the member but its parent
/// folders is created before.
fn account<R: Read>(
    root: &Root,
    entry: &mut tar::Entry<'_, R>,
    path: &Path,
    allowance: &mut Allowance,
) -> Result<()> {
    let length = path.as_os_str().len();
    if length > PATH_LIMIT {
        return Err(Error::invalid(format!(
            "the layer has a path of {length} bytes, and the longest is {PATH_LIMIT}"
        )));
    }
    allowance.take_files(1)?;
    if let Some((parent, _)) = split(path) {
        allowance
            .make_folders(root, &parent)
            .map_err(|error| Error::new(error.kind, format!("unpack {}: {error}", shown(path))))?;
    }
    match entry.header().entry_type() {
        EntryType::Directory => allowance.take_folder_name(length)?,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            allowance.take_bytes(entry.size())?;
        }
        _ => {}
    }
    for record in entry
        .pax_extensions()
        .context(|| "read layer")?
        .into_iter()
        .flatten()
    {
        let record = record.context(|| "read layer")?;
        if record.key_bytes().starts_with(XATTR_RECORD.as_bytes()) {
            allowance.take_bytes(record.value_bytes().len() as u64)?;
        }
    }
    Ok(())
}

fn place<R: Read>(
    root: &Root,
    entry: &mut tar::Entry<'_, R>,
    path: &Path,
    folder_times: &mut Vec<(PathBuf, i64)>,
) -> io::Result<()> {
    let Some((parent, name)) = split(path) else {
        // The root itself: only its owner and mode are used.
        if entry.header().entry_type() == EntryType::Directory {
            let here = magic_path(&root.folder(), OsStr::new("."));
            let header = entry.header();
            lchown(&here, Some(owner(header.uid())), Some(owner(header.gid())))?;
            fs::set_permissions(&here, fs::Permissions::from_mode(header.mode()? & 0o7777))?;
        }
        return Ok(());
    };
    let folder = root.open_folder(&parent)?;
    let text = name.to_string_lossy();
    if text == OPAQUE {
        return set_xattr(
            &magic_path(&folder, OsStr::new(".")),
            "trusted.overlay.opaque",
            b"y",
        );
    }
    if let Some(hidden) = text.strip_prefix(WHITEOUT) {
        if hidden.is_empty() || hidden == "." || hidden == ".." {
            return Err(io::Error::other("whiteout without a name"));
        }
        let target = magic_path(&folder, OsStr::new(hidden));
        clear(&target)?;
        // An overlay uses a character device 0:0 for a deleted file.
        return Ok(mknod(&target, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0))?);
    }
    let target = magic_path(&folder, &name);
    let kind = entry.header().entry_type();
    let mode = entry.header().mode()? & 0o7777;
    match kind {
        EntryType::Directory => {
            match fs::symlink_metadata(&target) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => {
                    fs::remove_file(&target)?;
                    fs::create_dir(&target)?;
                }
                Err(_) => fs::create_dir(&target)?,
            }
            folder_times.push((path.to_path_buf(), entry.header().mtime().unwrap_or(0) as i64));
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            clear(&target)?;
            let mut file = fs::File::options()
                .write(true)
                .create_new(true)
                .custom_flags(libc::O_NOFOLLOW)
                .mode(0o600)
                .open(&target)?;
            io::copy(entry, &mut file)?;
        }
        EntryType::Symlink => {
            clear(&target)?;
            let to = entry
                .link_name()?
                .ok_or_else(|| io::Error::other("symbolic link to nowhere"))?;
            symlink(to, &target)?;
        }
        EntryType::Link => {
            clear(&target)?;
            let to = entry
                .link_name()?
                .ok_or_else(|| io::Error::other("hard link to nowhere"))?;
            let (from, from_name) = split(&to).ok_or_else(|| io::Error::other("hard link to the root"))?;
            let from = root.open_folder(&from)?;
            // It is the same file, so its owner, mode and times are set already.
            return Ok(nix::unistd::linkat(
                &from,
                from_name.as_os_str(),
                &folder,
                name.as_os_str(),
                nix::fcntl::AtFlags::empty(),
            )?);
        }
        EntryType::Char | EntryType::Block | EntryType::Fifo => {
            clear(&target)?;
            let major = entry.header().device_major()?.unwrap_or(0);
            let minor = entry.header().device_minor()?.unwrap_or(0);
            let (flag, device) = match kind {
                EntryType::Char => (SFlag::S_IFCHR, makedev(major.into(), minor.into())),
                EntryType::Block => (SFlag::S_IFBLK, makedev(major.into(), minor.into())),
                _ => (SFlag::S_IFIFO, 0),
            };
            mknod(&target, flag, Mode::from_bits_truncate(0o600), device)?;
        }
        // Headers for other members, which the reader has processed. Other types are not part of a
        // file system.
        _ => return Ok(()),
    }
    finish(entry, &target, kind, mode)
}

/// Returns an owner's number. Writers leave the field blank for root.
fn owner(number: io::Result<u64>) -> u32 {
    number
        .ok()
        .and_then(|number| u32::try_from(number).ok())
        .unwrap_or(0)
}

/// Sets the owner, then the mode (a change of owner clears set-user-id), the attributes and the
/// time.
fn finish<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    target: &Path,
    kind: EntryType,
    mode: u32,
) -> io::Result<()> {
    let header = entry.header();
    lchown(target, Some(owner(header.uid())), Some(owner(header.gid())))?;
    if kind != EntryType::Symlink {
        fs::set_permissions(target, fs::Permissions::from_mode(mode))?;
    }
    if let Some(records) = entry.pax_extensions()? {
        for record in records {
            let record = record?;
            if let Some(name) = record.key().ok().and_then(|key| key.strip_prefix(XATTR_RECORD)) {
                // Attributes for the overlay itself must not come from an archive.
                if !name.starts_with("trusted.") {
                    set_xattr(target, name, record.value_bytes())?;
                }
            }
        }
    }
    if kind != EntryType::Directory {
        set_times(target, entry.header().mtime().unwrap_or(0) as i64)?;
    }
    Ok(())
}

/// Returns folder and name of a member, both below the root whatever dots the path contains. `None`
/// for the root itself.
fn split(path: &Path) -> Option<(PathBuf, std::ffi::OsString)> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    let name = clean.file_name()?.to_os_string();
    clean.pop();
    Some((clean, name))
}

/// Removes an earlier member with the same name, which a later one replaces.
fn clear(target: &Path) -> io::Result<()> {
    match fs::symlink_metadata(target) {
        Ok(found) if found.is_dir() => remove_tree(target),
        Ok(_) => fs::remove_file(target),
        Err(_) => Ok(()),
    }
}

fn set_xattr(target: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    let path = CString::new(target.as_os_str().as_bytes())?;
    let name = CString::new(name)?;
    // SAFETY: both strings end in NUL and the value is as long as said; the kernel only reads them.
    let result = unsafe {
        libc::lsetxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // The image is usable on a file system without this kind of attribute.
    if error.raw_os_error() == Some(libc::EOPNOTSUPP) {
        return Ok(());
    }
    Err(error)
}

fn set_times(target: &Path, seconds: i64) -> io::Result<()> {
    let time = nix::sys::time::TimeSpec::new(seconds, 0);
    Ok(nix::sys::stat::utimensat(
        nix::fcntl::AT_FDCWD,
        target,
        &time,
        &time,
        nix::sys::stat::UtimensatFlags::NoFollowSymlink,
    )?)
}

/// Copies one file of a scratch image and adds it to the layer's digest. Returns its size.
pub(super) fn place_file(
    folder: &Path,
    file: &ScratchFile,
    digest: &mut ring::digest::Context,
) -> Result<u64> {
    let (parent, name) = split(&file.path)
        .ok_or_else(|| Error::invalid(format!("{:?} names no file of an image", file.path)))?;
    let parent = folder.join(parent);
    fs::create_dir_all(&parent).context(|| format!("create {}", parent.display()))?;
    let source = fs::File::open(&file.source).context(|| format!("open {}", file.source.display()))?;
    let mut input = Hashing {
        inner: source,
        digest: ring::digest::Context::new(&ring::digest::SHA256),
    };
    let target = parent.join(name);
    let mut output = fs::File::create(&target).context(|| format!("create {}", target.display()))?;
    let size = io::copy(&mut input, &mut output)
        .and_then(|size| output.flush().map(|()| size))
        .and_then(|size| fchown(&output, Some(0), Some(0)).map(|()| size))
        .and_then(|size| {
            output
                .set_permissions(fs::Permissions::from_mode(file.mode))
                .map(|()| size)
        })
        .context(|| format!("copy {} into the image", file.source.display()))?;
    digest.update(file.path.as_os_str().as_bytes());
    digest.update(&file.mode.to_be_bytes());
    digest.update(input.digest.finish().as_ref());
    Ok(size)
}
