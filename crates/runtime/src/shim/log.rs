//! Container logs in the CRI format: one line `TIME STREAM F|P text` each, rotated by size.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::renameat;

use crate::pod_logs::{LOG_FILES, LOG_SIZE_LIMIT, LogPath, append};

/// Limit of a line in bytes. Longer lines are split into parts tagged `P`. The same as containerd's
/// limit.
const LINE_LIMIT: usize = 16 << 10;

/// Stream that a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Splits the bytes of a stream into lines.
#[derive(Debug)]
pub(super) struct Lines {
    stream: Stream,
    pending: Vec<u8>,
}

impl Lines {
    pub(super) fn new(stream: Stream) -> Lines {
        Lines {
            stream,
            pending: Vec::new(),
        }
    }

    /// Formats the lines that `bytes` completes and appends them to `output`.
    pub(super) fn push(&mut self, bytes: &[u8], now: Timestamp, output: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(&rest[..end]);
            self.cut(now, output);
            let line = std::mem::take(&mut self.pending);
            format_line(output, now, self.stream, true, &line);
            rest = &rest[end + 1..];
        }
        self.pending.extend_from_slice(rest);
        self.cut(now, output);
    }

    fn cut(&mut self, now: Timestamp, output: &mut Vec<u8>) {
        while self.pending.len() > LINE_LIMIT {
            let tail = self.pending.split_off(LINE_LIMIT);
            format_line(output, now, self.stream, false, &self.pending);
            self.pending = tail;
        }
    }

    /// Formats the rest when the stream ends without a line feed.
    pub(super) fn finish(&mut self, now: Timestamp, output: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            let line = std::mem::take(&mut self.pending);
            format_line(output, now, self.stream, false, &line);
        }
    }
}

fn format_line(output: &mut Vec<u8>, now: Timestamp, stream: Stream, whole: bool, text: &[u8]) {
    let tag = if whole { 'F' } else { 'P' };
    // Writing into a vector cannot fail.
    write!(output, "{now:.9} {} {tag} ", stream.name()).ok();
    output.extend_from_slice(text);
    output.push(b'\n');
}

/// A container's log file. Its folder stays open, so that a process with write access to the parent
/// folders cannot redirect the file.
#[derive(Debug)]
pub(super) struct LogFile {
    path: LogPath,
    folder: OwnedFd,
    file: File,
    size: u64,
}

impl LogFile {
    pub(super) fn open(path: &LogPath) -> io::Result<LogFile> {
        let folder = path.folder(true)?;
        let file = append(&folder, &path.file_name(0))?;
        let size = file.metadata()?.len();
        Ok(LogFile {
            path: path.clone(),
            folder,
            file,
            size,
        })
    }

    /// Appends complete lines, and rotates a full file first. If the rotation fails, because
    /// something else has the name of a log file, the full file is emptied. The log therefore keeps
    /// its limit whatever is in its folder.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut rotated = Ok(());
        if self.size > 0 && self.size + lines.len() as u64 > LOG_SIZE_LIMIT {
            rotated = self.rotate();
            if rotated.is_err() {
                self.file.set_len(0)?;
                self.size = 0;
            }
        }
        let written = self.file.write_all(lines);
        // On a full disk only a part is written.
        self.size = match written {
            Ok(()) => self.size + lines.len() as u64,
            Err(_) => self.file.metadata()?.len(),
        };
        written.and(rotated)
    }

    fn rotate(&mut self) -> io::Result<()> {
        for older in (0..LOG_FILES - 1).rev() {
            let (from, to) = (self.path.file_name(older), self.path.file_name(older + 1));
            match renameat(&self.folder, from.as_str(), &self.folder, to.as_str()) {
                Err(error) if error != Errno::ENOENT => return Err(error.into()),
                _ => {}
            }
        }
        self.file = append(&self.folder, &self.path.file_name(0))?;
        self.size = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(chunks: &[&[u8]]) -> String {
        let now: Timestamp = "2024-01-02T03:04:05.000000006Z".parse().unwrap();
        let mut lines = Lines::new(Stream::Stdout);
        let mut output = Vec::new();
        for chunk in chunks {
            lines.push(chunk, now, &mut output);
        }
        lines.finish(now, &mut output);
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn chunks_become_lines() {
        assert_eq!(
            text(&[b"on", b"e\n\ntw", b"o"]),
            "2024-01-02T03:04:05.000000006Z stdout F one\n\
             2024-01-02T03:04:05.000000006Z stdout F \n\
             2024-01-02T03:04:05.000000006Z stdout P two\n"
        );
    }

    #[test]
    fn long_lines_are_cut_into_parts() {
        let long = vec![b'x'; LINE_LIMIT + 1];
        let lines = text(&[&long, b"\n"]);
        let tags: Vec<&str> = lines
            .lines()
            .map(|line| line.split(' ').nth(2).unwrap())
            .collect();
        assert_eq!(tags, ["P", "F"]);
    }

    #[test]
    fn full_files_are_rotated_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = LogPath::new(folder.path(), "sub/0.log");
        let mut log = LogFile::open(&path).unwrap();
        let chunk = vec![b'x'; LOG_SIZE_LIMIT as usize];
        for _ in 0..LOG_FILES + 2 {
            log.write(&chunk).unwrap();
        }
        let files = std::fs::read_dir(folder.path().join("sub")).unwrap().count();
        assert_eq!(files, LOG_FILES as usize);
        assert!(path.open(LOG_FILES - 1).unwrap().is_some());
    }

    #[test]
    fn a_log_has_its_bound_whatever_has_the_names_of_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join("sub").join(name);
        let mut log = LogFile::open(&LogPath::new(folder.path(), "sub/0.log")).unwrap();
        let (last, before) = (
            format!("0.log.{}", LOG_FILES - 1),
            format!("0.log.{}", LOG_FILES - 2),
        );
        std::fs::create_dir_all(file(&last).join("planted")).unwrap();
        std::fs::write(file(&before), "").unwrap();
        std::fs::rename(file("0.log"), file("moved")).unwrap();
        std::fs::create_dir(file("0.log")).unwrap();
        let chunk = vec![b'x'; LOG_SIZE_LIMIT as usize / 2];
        let errors = (0..10).filter(|_| log.write(&chunk).is_err()).count();
        assert_eq!(errors, 4, "each failed rotation returns an error");
        assert_eq!(file("moved").metadata().unwrap().len(), LOG_SIZE_LIMIT);
        // When the names are free again, the log is rotated again.
        std::fs::remove_dir_all(file(&last)).unwrap();
        log.write(&chunk).unwrap();
        assert_eq!(file("0.log").metadata().unwrap().len(), LOG_SIZE_LIMIT / 2);
    }
}
