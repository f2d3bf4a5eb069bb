//! A relay of TCP connections that can delay or drop them, as a bad network does.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// Time between two checks for a new connection, or for the end of the relay.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Most bytes that are passed on at once.
const PIECE: usize = 16 * 1024;

/// Forwards connections to a server, with adjustable faults. Drops them when dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    to: SocketAddr,
    delay: AtomicU64,
    refusing: AtomicBool,
    ended: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

impl Relay {
    /// Listens on a port of `address`, such as [`super::Topology::host_address`], and connects to
    /// `to`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(address: Ipv4Addr, to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((address, 0)).context("listen as a relay")?;
        listener.set_nonblocking(true).context("listen as a relay")?;
        let address = listener.local_addr().context("learn the relay's port")?;
        let state = Arc::new(State {
            to,
            delay: AtomicU64::new(0),
            refusing: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || shared.accept(&listener));
        Ok(Relay { address, state })
    }

    /// Returns the address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Delays all data by `delay`, in each direction, from now on.
    pub fn delay(&self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.state.delay.store(micros, Ordering::Relaxed);
    }

    /// Drops all connections; accepts new ones.
    pub fn drop_connections(&self) {
        self.state.drop_connections();
    }

    /// Drops all connections and, while `refusing`, each new one.
    pub fn refuse(&self, refusing: bool) {
        self.state.refusing.store(refusing, Ordering::Relaxed);
        if refusing {
            self.state.drop_connections();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        self.state.drop_connections();
    }
}

impl State {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while !self.ended.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((client, _)) if !self.refusing.load(Ordering::Relaxed) => {
                    // If the connection to the server fails, the client sees its connection
                    // dropped.
                    drop(self.connect(client));
                }
                Ok(_) => {}
                Err(_) => thread::sleep(LOOK_EVERY),
            }
        }
    }

    fn connect(self: &Arc<Self>, client: TcpStream) -> std::io::Result<()> {
        client.set_nonblocking(false)?;
        let server = TcpStream::connect(self.to)?;
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
        }
        let pairs = [
            (client.try_clone()?, server.try_clone()?),
            (server.try_clone()?, client.try_clone()?),
        ];
        self.lock().extend([client, server]);
        for (from, to) in pairs {
            let state = Arc::clone(self);
            thread::spawn(move || state.pass_on(from, to));
        }
        Ok(())
    }

    fn pass_on(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut piece = vec![0; PIECE];
        loop {
            let length = match from.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            thread::sleep(Duration::from_micros(self.delay.load(Ordering::Relaxed)));
            if to.write_all(&piece[..length]).is_err() {
                break;
            }
        }
        // The other direction may still be open.
        drop(to.shutdown(Shutdown::Write));
    }

    fn drop_connections(&self) {
        for stream in self.lock().drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
