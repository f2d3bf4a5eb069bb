//! What clients see of daemons while something happens to these: each is asked over and over, and the answers that did not come are counted.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Longest that a client waits for one answer: where more runs than there are processors, an answer that is on its way may take a second.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(10);

/// Clients that ask until they are stopped, one thread each.
pub struct Observer {
    ended: Arc<AtomicBool>,
    clients: Vec<(String, JoinHandle<Seen>)>,
}

/// What one client has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Requests.
    pub asked: u64,
    /// Those of them that got no answer, or not 200.
    pub failed: u64,
    /// Requests that failed, and whose repetition failed too.
    pub failed_twice: u64,
    /// The longest time from one answer to the next.
    pub silence: Duration,
    /// Every body that came, with how often it did.
    pub answers: BTreeMap<String, u64>,
}

impl Observer {
    /// Begins to ask `http://ADDRESS/` of each, under the names that are given.
    pub fn start(targets: impl IntoIterator<Item = (String, SocketAddr)>) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let clients = targets.into_iter().map(|(name, address)| {
            let ended = Arc::clone(&ended);
            (name, thread::spawn(move || Seen::watch(address, &ended)))
        });
        let clients = clients.collect();
        Observer { ended, clients }
    }

    /// Ends, and gives what each has seen.
    ///
    /// # Errors
    /// When a client failed itself.
    pub fn stop(self) -> Result<BTreeMap<String, Seen>> {
        self.ended.store(true, Ordering::Relaxed);
        let seen = self.clients.into_iter().map(|(name, client)| {
            let seen = client
                .join()
                .map_err(|_| anyhow::anyhow!("the client of {name} failed"))?;
            Ok((name, seen))
        });
        seen.collect()
    }
}

impl Seen {
    fn watch(address: SocketAddr, ended: &AtomicBool) -> Seen {
        let mut seen = Seen::default();
        let mut answered = Instant::now();
        let mut failed_before = false;
        while !ended.load(Ordering::Relaxed) {
            let answer = ask(address);
            seen.asked += 1;
            seen.silence = seen.silence.max(answered.elapsed());
            match answer {
                Ok(body) => {
                    answered = Instant::now();
                    failed_before = false;
                    *seen.answers.entry(body).or_default() += 1;
                }
                Err(_) => {
                    seen.failed += 1;
                    seen.failed_twice += u64::from(failed_before);
                    failed_before = true;
                }
            }
            thread::sleep(PAUSE);
        }
        seen
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (asked, failed, silence) = (self.asked, self.failed, self.silence.as_millis());
        write!(
            f,
            "{failed} of {asked} requests failed, {silence} ms at most without an answer"
        )
    }
}

/// The body of `http://ADDRESS/`.
///
/// # Errors
/// When none comes within five seconds, or it is not 200.
pub fn ask(address: SocketAddr) -> Result<String> {
    get(address, "/")
}

/// The body of `http://ADDRESS<path>`, over a connection of its own.
///
/// # Errors
/// When none comes within five seconds, or it is not 200.
pub fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).context("connect")?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .context("set a deadline")?;
    stream
        .set_write_timeout(Some(PATIENCE))
        .context("set a deadline")?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).context("ask")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read the answer")?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.trim().to_owned()),
        _ => bail!("answered {:?}", answer.lines().next().unwrap_or_default()),
    }
}
