//! Containers' logs as the shims write them: one line a record in CRI form, `TIME STREAM TAG TEXT`, rotated to `X.1`, `X.2`, …

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use runtime::LogPath;
use tokio::sync::mpsc;

/// How often a followed log is looked at: quick enough for an eye, and cheaper than a kernel watch for each reader (of which
/// a machine may allow only 128).
const LOOK: Duration = Duration::from_millis(100);
/// Looks at a silent log between two questions whether its container still runs.
const LOOKS_BETWEEN_QUESTIONS: u32 = 5;
/// How much is sent at a time, in bytes.
const PIECE: usize = 32 << 10;
/// How much of a log is read at a time while counting lines from its end, in bytes.
const STRIDE: u64 = 64 << 10;
/// Longest record that is read, in bytes: a shim cuts lines at 16 KiB. A pod that may write in the log folder can make longer ones.
const RECORD: u64 = 64 << 10;

/// Bytes that are read between two pauses in which other tasks run and the reader may have left. A
/// pod that may write in the log folder can leave terabytes in which nothing is a record.
const PAUSE_AFTER: u64 = 1 << 20;

/// Which part of a log, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selection {
    pub(crate) follow: bool,
    pub(crate) timestamps: bool,
    pub(crate) tail_lines: Option<u64>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) limit_bytes: Option<u64>,
}

/// One record.
#[derive(Debug, PartialEq)]
struct Record<'a> {
    time: &'a str,
    /// The line goes on in the next record.
    partial: bool,
    text: &'a [u8],
}

fn parse(line: &[u8]) -> Option<Record<'_>> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(fields.next()?).ok()?;
    let _stream = fields.next()?;
    let partial = fields.next()?.starts_with(b"P");
    let text = fields.next().unwrap_or_default();
    Some(Record { time, partial, text })
}

/// Turns records into what a reader of logs sees.
struct Printer {
    timestamps: bool,
    since: Option<Timestamp>,
    left: Option<u64>,
    inside_line: bool,
}

impl Printer {
    fn new(selection: &Selection) -> Self {
        Self {
            timestamps: selection.timestamps,
            since: selection.since,
            left: selection.limit_bytes,
            inside_line: false,
        }
    }

    /// Appends a record; answers whether more may follow.
    fn print(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        // A line that is no record was cut by a crash in the middle of a write.
        let Some(record) = parse(line) else {
            return true;
        };
        if let Some(since) = self.since
            && record.time.parse::<Timestamp>().is_ok_and(|time| time < since)
        {
            return true;
        }
        let start = out.len();
        if self.timestamps && !self.inside_line {
            out.extend(record.time.as_bytes());
            out.push(b' ');
        }
        out.extend(record.text);
        if !record.partial {
            out.push(b'\n');
        }
        self.inside_line = record.partial;
        let Some(left) = &mut self.left else {
            return true;
        };
        let printed = (out.len() - start) as u64;
        if printed >= *left {
            out.truncate(start + usize::try_from(*left).unwrap_or(usize::MAX));
            *left = 0;
            return false;
        }
        *left -= printed;
        true
    }
}

/// The text of a log's last bytes, from the start of a line.
pub(crate) fn tail(log: &LogPath, bytes: u64) -> String {
    // More than is asked for, because times and tags take most of a short line.
    let read = || -> io::Result<Vec<u8>> {
        let Some(mut file) = log.open(0)? else {
            return Ok(Vec::new());
        };
        let length = file.metadata()?.len();
        let most = STRIDE.max(bytes);
        file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
        let mut text = Vec::new();
        file.take(most).read_to_end(&mut text)?;
        Ok(text)
    };
    let mut out = Vec::new();
    let mut printer = Printer::new(&Selection::default());
    for line in read().unwrap_or_default().split(|byte| *byte == b'\n') {
        printer.print(line, &mut out);
    }
    let start = out
        .len()
        .saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
    String::from_utf8_lossy(&out[start..]).into_owned()
}

/// Lets other tasks run after each [`PAUSE_AFTER`] bytes that were read.
#[derive(Default)]
struct Pauses(u64);

impl Pauses {
    /// Counts `bytes`. Returns false when nobody listens to `out` any more.
    async fn after(&mut self, bytes: u64, out: &mpsc::Sender<Bytes>) -> bool {
        self.0 += bytes;
        if self.0 < PAUSE_AFTER {
            return true;
        }
        self.0 = 0;
        tokio::task::yield_now().await;
        !out.is_closed()
    }
}

/// Returns where the last `lines` lines of a log begin: the file (an index into `files`) and the byte
/// in it. `None` when nobody listens to `out` any more.
async fn start_of_tail(
    files: &mut [File],
    lines: u64,
    out: &mpsc::Sender<Bytes>,
) -> io::Result<Option<(usize, u64)>> {
    let mut pauses = Pauses::default();
    let mut wanted = lines;
    for (index, file) in files.iter_mut().enumerate().rev() {
        let mut end = file.metadata()?.len();
        if wanted == 0 {
            return Ok(Some((index, end)));
        }
        let whole = end;
        while end > 0 {
            let from = end.saturating_sub(STRIDE);
            let mut piece = vec![0; usize::try_from(end - from).unwrap_or(0)];
            file.seek(SeekFrom::Start(from))?;
            file.read_exact(&mut piece)?;
            for (offset, byte) in piece.iter().enumerate().rev() {
                let position = from + offset as u64;
                if *byte == b'\n' && position + 1 != whole {
                    wanted -= 1;
                    if wanted == 0 {
                        return Ok(Some((index, position + 1)));
                    }
                }
            }
            if !pauses.after(end - from, out).await {
                return Ok(None);
            }
            end = from;
        }
        // The first line of the file has no line end before it.
        if whole > 0 {
            wanted -= 1;
        }
        if wanted == 0 {
            return Ok(Some((index, 0)));
        }
    }
    Ok(Some((0, 0)))
}

/// Sends the selected part of a log, and what is added to it until `ended` says that nothing comes any more. Stops when nobody
/// listens.
pub(crate) async fn copy<E: Future<Output = bool>>(
    log: LogPath,
    selection: Selection,
    ended: impl Fn() -> E,
    out: mpsc::Sender<Bytes>,
) -> io::Result<()> {
    let mut files = log.open_all()?;
    let (first, offset) = match selection.tail_lines {
        Some(lines) => match start_of_tail(&mut files, lines, &out).await? {
            Some(start) => start,
            None => return Ok(()),
        },
        None => (0, 0),
    };
    let mut printer = Printer::new(&selection);
    let mut reader = None;
    for (index, mut file) in files.into_iter().enumerate().skip(first) {
        file.seek(SeekFrom::Start(if index == first { offset } else { 0 }))?;
        let mut lines = Lines::new(file);
        if !lines.drain(&mut printer, &out).await? {
            return Ok(());
        }
        reader = Some(lines);
    }
    if !selection.follow {
        return Ok(());
    }
    let mut silent = 0_u32;
    let mut last_look = false;
    loop {
        if let Some(lines) = &mut reader {
            let before = lines.position;
            if !lines.drain(&mut printer, &out).await? {
                return Ok(());
            }
            silent = if lines.position == before { silent + 1 } else { 0 };
        } else {
            silent += 1;
        }
        if replaced(reader.as_ref(), &log) {
            // What was written between the last look and the rotation.
            if let Some(mut rotated) = reader.take()
                && !rotated.drain(&mut printer, &out).await?
            {
                return Ok(());
            }
            reader = log.open(0)?.map(Lines::new);
            continue;
        }
        if last_look {
            return Ok(());
        }
        if silent >= LOOKS_BETWEEN_QUESTIONS {
            silent = 0;
            // What was written just before the end is read in one more round.
            last_look = ended().await;
            if last_look {
                continue;
            }
        }
        tokio::select! {
            () = out.closed() => return Ok(()),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Whether the path now names another file than the one that is read.
fn replaced(reader: Option<&Lines>, log: &LogPath) -> bool {
    let now = log.inode();
    now.is_some_and(|now| reader.is_none_or(|lines| lines.inode != now))
}

/// Whole lines of a growing file.
struct Lines {
    file: BufReader<File>,
    inode: u64,
    position: u64,
    /// The beginning of a line whose end has not been written yet.
    begun: Vec<u8>,
}

impl Lines {
    fn new(file: File) -> Self {
        Self {
            inode: file.metadata().map_or(0, |metadata| metadata.ino()),
            file: BufReader::new(file),
            position: 0,
            begun: Vec::new(),
        }
    }

    /// Sends all whole lines there are; answers whether more may follow.
    async fn drain(&mut self, printer: &mut Printer, out: &mpsc::Sender<Bytes>) -> io::Result<bool> {
        let mut piece = Vec::with_capacity(PIECE);
        let mut pauses = Pauses::default();
        loop {
            let room = RECORD.saturating_sub(self.begun.len() as u64);
            let read = self.file.by_ref().take(room).read_until(b'\n', &mut self.begun)?;
            self.position += read as u64;
            if !pauses.after(read as u64, out).await {
                return Ok(false);
            }
            let whole = self.begun.last() == Some(&b'\n');
            if !whole && self.begun.len() as u64 >= RECORD {
                // No shim has written it.
                self.begun.clear();
                continue;
            }
            let mut more = true;
            if whole {
                self.begun.pop();
                more = printer.print(&self.begun, &mut piece);
                self.begun.clear();
            }
            let pause = read == 0 || !whole || !more;
            if (pause || piece.len() >= PIECE) && !piece.is_empty() {
                let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE));
                if out.send(Bytes::from(full)).await.is_err() {
                    return Ok(false);
                }
            }
            if pause {
                return Ok(more);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn log(folder: &Path) -> LogPath {
        LogPath::new(folder, "0.log")
    }

    const LOG: &str = "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:01Z stderr P tw\n\
                       2026-01-01T00:00:02Z stderr F o\n2026-01-01T00:00:03Z stdout F \n";

    async fn text(folder: &Path, selection: Selection) -> String {
        let (out, mut received) = mpsc::channel(64);
        copy(log(folder), selection, || async { true }, out)
            .await
            .expect("copy");
        let mut all = Vec::new();
        while let Some(piece) = received.recv().await {
            all.extend(piece);
        }
        String::from_utf8(all).expect("text")
    }

    fn written(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in files {
            fs::write(folder.path().join(name), content).expect("write");
        }
        folder
    }

    #[tokio::test]
    async fn a_selection_prints_its_part() {
        let folder = written(&[("0.log", LOG)]);
        let all = Selection::default();
        let cases = [
            (all.clone(), "one\ntwo\n\n"),
            (
                Selection {
                    timestamps: true,
                    ..all.clone()
                },
                "2026-01-01T00:00:00Z one\n2026-01-01T00:00:01Z two\n2026-01-01T00:00:03Z \n",
            ),
            (
                Selection {
                    tail_lines: Some(2),
                    ..all.clone()
                },
                "o\n\n",
            ),
            (
                Selection {
                    tail_lines: Some(0),
                    ..all.clone()
                },
                "",
            ),
            (
                Selection {
                    tail_lines: Some(99),
                    ..all.clone()
                },
                "one\ntwo\n\n",
            ),
            (
                Selection {
                    limit_bytes: Some(5),
                    ..all.clone()
                },
                "one\nt",
            ),
            (
                Selection {
                    since: "2026-01-01T00:00:03Z".parse().ok(),
                    ..all
                },
                "\n",
            ),
        ];
        for (selection, expected) in cases {
            assert_eq!(
                text(folder.path(), selection.clone()).await,
                expected,
                "{selection:?}"
            );
        }
    }

    #[tokio::test]
    async fn rotated_files_come_first_and_count_as_lines() {
        let line = |text: &str| format!("2026-01-01T00:00:00Z stdout F {text}\n");
        let folder = written(&[
            ("0.log.2", &line("a")),
            ("0.log.1", &line("b")),
            ("0.log", &line("c")),
        ]);
        assert_eq!(text(folder.path(), Selection::default()).await, "a\nb\nc\n");
        let two = Selection {
            tail_lines: Some(2),
            ..Default::default()
        };
        assert_eq!(text(folder.path(), two).await, "b\nc\n");
    }

    #[tokio::test]
    async fn a_followed_log_is_read_through_its_rotation_until_the_container_ends() {
        let line = |text: &str| format!("2026-01-01T00:00:00Z stdout F {text}\n");
        let folder = written(&[("0.log", &line("a"))]);
        let path = folder.path().join("0.log");
        let (out, mut received) = mpsc::channel(64);
        let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let selection = Selection {
            follow: true,
            ..Default::default()
        };
        let reader = {
            let (log, over) = (log(folder.path()), over.clone());
            tokio::spawn(async move {
                let ended = || std::future::ready(over.load(std::sync::atomic::Ordering::SeqCst));
                copy(log, selection, ended, out).await
            })
        };
        assert_eq!(received.recv().await.as_deref(), Some(&b"a\n"[..]));
        fs::rename(&path, folder.path().join("0.log.1")).expect("rotate");
        fs::write(&path, line("b")).expect("write");
        assert_eq!(received.recv().await.as_deref(), Some(&b"b\n"[..]));
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(received.recv().await, None);
        reader.await.expect("join").expect("copy");
    }

    #[test]
    fn the_tail_of_a_log_is_its_text() {
        let folder = written(&[("0.log", LOG)]);
        assert_eq!(tail(&log(folder.path()), 100), "one\ntwo\n\n");
        assert_eq!(tail(&log(folder.path()), 3), "o\n\n");
        assert_eq!(tail(&LogPath::new(folder.path(), "none"), 3), "");
    }

    #[tokio::test]
    async fn endless_log_ends_with_its_reader_and_delays_nobody() {
        for tail_lines in [None, Some(5)] {
            let folder = written(&[("0.log", LOG)]);
            let file = File::options()
                .write(true)
                .open(folder.path().join("0.log"))
                .expect("open");
            file.set_len(1 << 42).expect("make a sparse file");
            let (out, received) = mpsc::channel(1);
            let selection = Selection {
                tail_lines,
                ..Default::default()
            };
            let log = log(folder.path());
            // One thread runs both tasks.
            let reader = tokio::spawn(async move { copy(log, selection, || async { true }, out).await });
            tokio::task::yield_now().await;
            drop(received);
            reader.await.expect("join").expect("copy");
        }
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_skipped() {
        let endless = "x".repeat(3 * RECORD as usize);
        let folder = written(&[("0.log", &format!("{LOG}{endless}\n{LOG}"))]);
        assert_eq!(
            text(folder.path(), Selection::default()).await,
            "one\ntwo\n\none\ntwo\n\n"
        );
    }
}
