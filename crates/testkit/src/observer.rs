//! Availability of daemons as their clients see it, while a test disturbs them. Each client sends
//! requests continuously, and the failed ones are counted.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Timeout of a response. When more programs run than there are processors, a response may take a
/// second.
const PATIENCE: Duration = Duration::from_secs(5);
/// Wait between a response and the next request.
const PAUSE: Duration = Duration::from_millis(10);

/// Clients that send requests until they are stopped, one thread each.
pub struct Observer {
    ended: Arc<AtomicBool>,
    clients: Vec<(String, JoinHandle<Seen>)>,
}

/// Observations of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Number of requests.
    pub asked: u64,
    /// Number of requests without a response, or with another status than 200.
    pub failed: u64,
    /// Number of failed requests whose retry failed too.
    pub failed_twice: u64,
    /// Longest time between two responses.
    pub silence: Duration,
    /// Number of each response body.
    pub answers: BTreeMap<String, u64>,
}

impl Observer {
    /// Starts a client of `http://ADDRESS/` for each target, with its name.
    pub fn start(targets: impl IntoIterator<Item = (String, SocketAddr)>) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let clients = targets.into_iter().map(|(name, address)| {
            let ended = Arc::clone(&ended);
            (name, thread::spawn(move || Seen::watch(address, &ended)))
        });
        let clients = clients.collect();
        Observer { ended, clients }
    }

    /// Stops the clients and returns their observations.
    ///
    /// # Errors
    /// When a client itself failed.
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

/// Returns the body of `http://ADDRESS/`.
///
/// # Errors
/// When no response comes within five seconds, or it is not 200.
pub fn ask(address: SocketAddr) -> Result<String> {
    get(address, "/")
}

/// Returns the body of `http://ADDRESS<path>`, over a new connection.
///
/// # Errors
/// When no response comes within five seconds, or it is not 200.
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
