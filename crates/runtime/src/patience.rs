//! Reads the output of another process with a timeout.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Limit of the output in bytes, about a thousand times the usual size.
const SAID: usize = 1 << 20;

/// Returns everything from a pipe until it is closed; `None` if it stays open longer than
/// `patience`.
pub(crate) fn read_within(mut pipe: impl Read + AsFd, patience: Duration) -> io::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + patience;
    let mut words = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut ready = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, timeout) {
            Ok(0) => return Ok(None),
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        match pipe.read(&mut piece)? {
            0 => return Ok(Some(words)),
            count if words.len() + count <= SAID => words.extend_from_slice(&piece[..count]),
            _ => return Err(io::Error::other(format!("more than {SAID} bytes were said"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_pipe_is_read_to_its_end_or_for_so_long() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"ready").unwrap();
        let still_open = read_within(reader.try_clone().unwrap(), Duration::ZERO).unwrap();
        assert_eq!(still_open, None);
        writer.write_all(b"yes").unwrap();
        drop(writer);
        let closed = read_within(reader, Duration::from_secs(10)).unwrap();
        assert_eq!(closed.as_deref(), Some(&b"yes"[..]));
    }
}
