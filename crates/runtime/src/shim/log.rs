//! Container logs in the CRI format: `TIME STREAM F|P text`, one line each, rotated by size.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// Kubernetes' `containerLogMaxSize`, in bytes.
pub const LOG_SIZE_LIMIT: u64 = 10 << 20;

/// Kubernetes' `containerLogMaxFiles`: the one written to and `.1` (newest) to `.4`.
pub const LOG_FILES: u32 = 5;

/// Longer lines are cut into parts tagged `P`, in bytes; containerd's limit.
const LINE_LIMIT: usize = 16 << 10;

/// Which stream a line came from.
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

/// Cuts a stream's bytes into lines.
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

    /// Formats the whole lines that `bytes` completes, appended to `output`.
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

    /// Formats what is left when the stream ends without a line feed.
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

/// A container's log file.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
}

impl LogFile {
    pub(super) fn open(path: &Path) -> io::Result<LogFile> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = append(path)?;
        let size = file.metadata()?.len();
        Ok(LogFile {
            path: path.to_path_buf(),
            file,
            size,
        })
    }

    /// Appends whole lines; starts a new file first when this one is full.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        if self.size > 0 && self.size + lines.len() as u64 > LOG_SIZE_LIMIT {
            self.rotate()?;
        }
        self.file.write_all(lines)?;
        self.size += lines.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for older in (1..LOG_FILES - 1).rev() {
            match fs::rename(numbered(&self.path, older), numbered(&self.path, older + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, numbered(&self.path, 1))?;
        self.file = append(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
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
        let path = folder.path().join("sub/0.log");
        let mut log = LogFile::open(&path).unwrap();
        let chunk = vec![b'x'; LOG_SIZE_LIMIT as usize];
        for _ in 0..LOG_FILES + 2 {
            log.write(&chunk).unwrap();
        }
        let files = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(files, LOG_FILES as usize);
        assert!(numbered(&path, LOG_FILES - 1).exists());
    }
}
