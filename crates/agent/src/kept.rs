//! What the node was told, on disk: an agent that starts while no server answers works with it.
//!
//! A [`Kept`] is one file of lines. A line says what a key holds from then on, or that it holds nothing any more, and begins with a
//! checksum of itself; later lines win. Changes are gathered ([`GATHER`]) and appended together with one fsync, and what is kept already
//! costs nothing. When most of the file is history it is written anew beside the old one and takes its place.
//!
//! Whenever the agent is killed, the file ends with whole lines or within one line, which is cut off. A file that is damaged elsewhere is
//! set aside, and what is whole in it goes on. A file of another format or another node is set aside and nothing of it is used.
//!
//! It is for the owner alone. It must not grow without bound: [`MOST`].

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use disk::Disk;
use runtime::bounded;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How long changes wait for others, to be written with them. What was told in this time before a power failure is not kept.
const GATHER: Duration = Duration::from_secs(2);
/// Wait after a write that failed, say for want of space.
const RETRY: Duration = Duration::from_secs(60);
/// Bytes that are kept at most: a hundred pods, and the Services, endpoints and Nodes of a cluster of thousands, take a few MiB. What
/// comes beyond is not kept.
const MOST: u64 = 64 << 20;
/// History that a file may hold besides as much as it held when it was last written anew, in bytes.
const HISTORY: u64 = 256 << 10;
/// Bytes of the file: as many again may follow those that were written anew, as changes.
const LONGEST: u64 = 2 * MOST + HISTORY;
/// Only the owner may read what the cluster sent to the node.
const MODE: u32 = 0o600;
/// The name of the file in its folder.
const FILE: &str = "told";
/// The format, which the first line names, followed by the node.
const FORMAT: &str = "everynode told 1";
/// Hexadecimal digits of a line's checksum.
const SUM: usize = 16;

/// Keys of Secrets begin so. Their values do not stay behind in the file once they are gone.
pub(crate) const SECRETS: &str = "secrets/";

/// Values by key: JSON texts.
pub(crate) type Values = BTreeMap<String, Arc<str>>;

/// What is kept in one file. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Kept {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    file: Mutex<File>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    /// What is to be written; `None` removes.
    pending: BTreeMap<String, Option<Arc<str>>>,
    /// Digests of the values that are written or about to be.
    known: HashMap<String, u64>,
    /// Whether a write failed, or there was too much; said once.
    complained: bool,
}

struct File {
    path: PathBuf,
    disk: Disk,
    node: String,
    /// Bytes that it holds, and held when it was last written anew. Unknown after a write that failed.
    sizes: Option<(u64, u64)>,
}

impl Kept {
    /// Opens what is kept in `folder` of the node `node`, and reads it. Keys that are not `wanted` are dropped at once. What is of no use is
    /// set aside: it never keeps an agent from starting.
    pub(crate) fn open(folder: &Path, node: &str, wanted: impl Fn(&str) -> bool) -> (Kept, Values) {
        Kept::open_on(Disk::default(), folder, node, wanted)
    }

    fn open_on(disk: Disk, folder: &Path, node: &str, wanted: impl Fn(&str) -> bool) -> (Kept, Values) {
        let path = folder.join(FILE);
        let mut file = File {
            path,
            disk,
            node: node.to_owned(),
            sizes: None,
        };
        let (mut values, whole) = file.read_or_set_aside();
        let before = values.len();
        values.retain(|key, _| wanted(key));
        if whole && before == values.len() {
            let length = fs::metadata(&file.path).map_or(0, |found| found.len());
            file.sizes = Some((length, length));
        }
        let known = values.iter();
        let state = State {
            known: known.map(|(key, value)| (key.clone(), digest(value))).collect(),
            ..State::default()
        };
        let anew = file.sizes.is_none() && before > 0;
        if anew && let Err(error) = file.write_anew(&values) {
            tracing::warn!(%error, "cannot save the state");
        }
        let kept = Kept {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                file: Mutex::new(file),
                wake: Notify::new(),
            }),
        };
        (kept, values)
    }

    /// What is kept in `folder` of the node `node`, without touching it.
    pub(crate) fn look(folder: &Path, node: &str) -> Values {
        match bounded::read(&folder.join(FILE), LONGEST) {
            Ok(bytes) => read(&bytes, node).values(),
            Err(_) => Values::new(),
        }
    }

    /// Removes what is kept in `folder`; fine when there is nothing.
    pub(crate) fn forget(folder: &Path) -> io::Result<()> {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Keeps a value from now on. One that is kept already costs nothing.
    pub(crate) fn put(&self, key: &str, value: String) {
        let digest = digest(&value);
        let mut state = self.state();
        if state.known.get(key) == Some(&digest) {
            return;
        }
        state.known.insert(key.to_owned(), digest);
        state.pending.insert(key.to_owned(), Some(value.into()));
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Keeps nothing under this key any more.
    pub(crate) fn remove(&self, key: &str) {
        let mut state = self.state();
        if state.known.remove(key).is_some() {
            state.pending.insert(key.to_owned(), None);
            drop(state);
            self.shared.wake.notify_one();
        }
    }

    /// The keys below `prefix` that are kept.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        let state = self.state();
        let keys = state.known.keys();
        keys.filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    /// Writes what changes until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.shared.wake.notified() => {}
            }
            let written = async {
                tokio::time::sleep(GATHER).await;
                while !self.flush().await {
                    tokio::time::sleep(RETRY).await;
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = written => {}
            }
        }
    }

    /// Writes what waits; whether it is on the disk now.
    pub(crate) async fn flush(&self) -> bool {
        let kept = self.clone();
        let done = tokio::task::spawn_blocking(move || kept.write());
        done.await.unwrap_or(false)
    }

    fn write(&self) -> bool {
        let mut file = self.shared.file.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = std::mem::take(&mut self.state().pending);
        if pending.is_empty() {
            return true;
        }
        let written = file.write(&pending);
        drop(file);
        let mut state = self.state();
        match written {
            Ok(()) => {
                state.complained = false;
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut state.complained, true) {
                    tracing::warn!(%error, "cannot save the state; retrying");
                }
                // What came meanwhile is newer.
                for (key, value) in pending {
                    state.pending.entry(key).or_insert(value);
                }
                false
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The value of a key, as far as it can be read.
pub(crate) fn parsed<T: DeserializeOwned>(values: &Values, prefix: &str) -> Vec<T> {
    let below = values
        .range(prefix.to_owned()..)
        .take_while(|(key, _)| key.starts_with(prefix));
    let read = below.filter_map(|(key, value)| match serde_json::from_str(value) {
        Ok(read) => Some(read),
        Err(error) => {
            tracing::warn!(key, %error, "cannot use an entry of the saved state");
            None
        }
    });
    read.collect()
}

impl File {
    /// What the file says, and whether all of it was whole. What is of no use is set aside.
    fn read_or_set_aside(&self) -> (Values, bool) {
        let path = self.path.display();
        let bytes = match bounded::read(&self.path, LONGEST) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return (Values::new(), false),
            Err(error) => {
                tracing::warn!(%path, %error, "cannot read the saved state; waiting for a server");
                self.set_aside();
                return (Values::new(), false);
            }
        };
        let read = read(&bytes, &self.node);
        match &read {
            Read::Foreign => {
                let aside = self.set_aside();
                tracing::warn!(%path, %aside, "moved the saved state aside: it has another format or belongs to another node");
                (Values::new(), false)
            }
            Read::Lines { damaged: true, .. } => {
                let aside = self.set_aside();
                tracing::warn!(%path, %aside, "the saved state is damaged: moved it aside and use its intact entries");
                (read.values(), false)
            }
            Read::Lines { torn, .. } => {
                let torn = *torn;
                (read.values(), !torn)
            }
        }
    }

    /// Where the file lies now; one that was set aside before is gone.
    fn set_aside(&self) -> String {
        let aside = self.path.with_extension("damaged");
        match self.disk.rename(&self.path, &aside) {
            Ok(()) => aside.display().to_string(),
            Err(error) => format!("({error})"),
        }
    }

    fn write(&mut self, changes: &BTreeMap<String, Option<Arc<str>>>) -> io::Result<()> {
        let text: String = changes
            .iter()
            .map(|(key, value)| line(key, value.as_deref()))
            .collect();
        let length = text.len() as u64;
        // A secret that is gone must not stay behind as history.
        let appends = |(now, anew): &(u64, u64)| {
            now + length <= 2 * anew + HISTORY && !changes.keys().any(|key| key.starts_with(SECRETS))
        };
        let Some((now, anew)) = self.sizes.filter(appends) else {
            return self.merge(changes);
        };
        // Until it is known to be whole again.
        self.sizes = None;
        let file = fs::OpenOptions::new().append(true).open(&self.path)?;
        self.disk.write(&file, &self.path, text.as_bytes())?;
        self.disk.sync(&file, &self.path)?;
        self.sizes = Some((now + length, anew));
        Ok(())
    }

    /// Writes the file anew: what it holds, changed.
    fn merge(&mut self, changes: &BTreeMap<String, Option<Arc<str>>>) -> io::Result<()> {
        let mut values = match bounded::read(&self.path, LONGEST) {
            Ok(bytes) => read(&bytes, &self.node).values(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Values::new(),
            Err(error) => return Err(error),
        };
        for (key, value) in changes {
            match value {
                Some(value) => values.insert(key.clone(), Arc::clone(value)),
                None => values.remove(key),
            };
        }
        self.write_anew(&values)
    }

    fn write_anew(&mut self, values: &Values) -> io::Result<()> {
        let mut text = header(&self.node);
        let mut left_out = 0_usize;
        for (key, value) in values {
            let line = line(key, Some(value));
            // In order: what says that a kind is whole comes last.
            match left_out == 0 && (text.len() + line.len()) as u64 <= MOST {
                true => text.push_str(&line),
                false => left_out += 1,
            }
        }
        if left_out > 0 {
            tracing::warn!(
                left_out,
                "the state is too large to be saved completely for a start without a server"
            );
        }
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        self.disk.create_private_dir(folder)?;
        self.disk.replace(&self.path, text.as_bytes(), MODE)?;
        let length = text.len() as u64;
        self.sizes = Some((length, length));
        Ok(())
    }
}

/// What a file says.
enum Read<'a> {
    /// Another format, or another node's.
    Foreign,
    Lines {
        values: BTreeMap<&'a str, Option<&'a str>>,
        /// A line that is not the last is none.
        damaged: bool,
        /// The last line is not whole: the machine lost its power, or the agent was killed.
        torn: bool,
    },
}

impl Read<'_> {
    fn values(&self) -> Values {
        match self {
            Read::Foreign => Values::new(),
            Read::Lines { values, .. } => {
                let held = values.iter();
                held.filter_map(|(key, value)| Some(((*key).to_owned(), (*value)?.into())))
                    .collect()
            }
        }
    }
}

fn read<'a>(bytes: &'a [u8], node: &str) -> Read<'a> {
    let Some(rest) = bytes.strip_prefix(header(node).as_bytes()) else {
        return Read::Foreign;
    };
    let (mut values, mut damaged, mut torn) = (BTreeMap::new(), false, false);
    for line in rest.split_inclusive(|byte| *byte == b'\n') {
        // Only a last line can lack its end or be of zeros that a power failure left.
        damaged |= torn;
        match read_line(line) {
            Some((key, value)) => {
                values.insert(key, value);
            }
            None => torn = true,
        }
    }
    Read::Lines {
        values,
        damaged,
        torn,
    }
}

fn read_line(line: &[u8]) -> Option<(&str, Option<&str>)> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (sum, said) = line.split_once(' ')?;
    if sum.len() != SUM || sum != checksum(said) {
        return None;
    }
    Some(match said.split_once(' ') {
        Some((key, value)) => (key, Some(value)),
        None => (said, None),
    })
}

fn header(node: &str) -> String {
    format!("{FORMAT} {node}\n")
}

/// `SUM KEY VALUE`, or `SUM KEY` for what is gone. Keys have no blanks, values no line breaks, since JSON escapes them.
fn line(key: &str, value: Option<&str>) -> String {
    let said = match value {
        Some(value) => format!("{key} {value}"),
        None => key.to_owned(),
    };
    format!("{} {said}\n", checksum(&said))
}

fn checksum(said: &str) -> String {
    let mut sum = api::certificates::sha256(said.as_bytes());
    sum.truncate(SUM);
    sum
}

fn digest(value: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
