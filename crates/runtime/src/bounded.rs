//! Reads data of unknown size up to a limit, without waiting for a pipe in place of a file.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

/// Limit in bytes of a file that people or programs of the machine write, such as a list of hosts
/// or a profile. About a hundred times the usual size.
pub const FILE: u64 = 4 << 20;

/// Limit in bytes of a file of the kernel. The longest list all mounts, processes or interfaces.
const KERNEL: u64 = 64 << 20;

/// Limit in bytes of each output stream of a command. The longest list all rules of the machine's
/// firewall.
const OUTPUT: u64 = 64 << 20;

/// Returns the content of a regular file. Fails if it is longer than `limit` bytes.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Opening a pipe without a writer would block otherwise.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    all(file, limit)
}

/// Returns the content of a regular file as text.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    String::from_utf8(read(path, limit)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Returns the text of a file of the kernel: in `/proc`, `/sys` or a cgroup. Replaces bytes that
/// are not UTF-8.
pub fn kernel(path: impl AsRef<Path>) -> io::Result<String> {
    let bytes = read(path.as_ref(), KERNEL)?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// Returns all bytes of a stream. Fails if there are more than `limit`.
pub fn all(stream: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is longer than {limit} bytes"),
        )),
        false => Ok(bytes),
    }
}

/// Runs a command with configured streams, writes `input` to it, and returns its output.
pub(crate) fn output(command: &mut Command, input: &[u8]) -> io::Result<Output> {
    use std::io::Write as _;
    let mut child = command.spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let heard = std::thread::scope(|scope| {
        // A command that ends early prints the reason on its error stream.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        let complaints = scope.spawn(move || stderr.map_or(Ok(Vec::new()), |stderr| all(stderr, OUTPUT)));
        let answer = stdout.map_or(Ok(Vec::new()), |stdout| all(stdout, OUTPUT));
        let complaints = complaints.join().unwrap_or_else(|_| Ok(Vec::new()));
        answer.and_then(|answer| Ok((answer, complaints?)))
    });
    // A command with more output than the limit has lost its reader and ends.
    let status = child.wait()?;
    let (stdout, stderr) = heard?;
    Ok(Output {
        status,
        stdout,
        stderr,
    })
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn what_is_longer_than_its_bound_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "1234").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"1234");
        let error = read(&path, 3).unwrap_err();
        assert_eq!(error.to_string(), "it is longer than 3 bytes");
        // A file with a hole can have any length.
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        assert_eq!(read(&path, FILE).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        // A device has no end, and the pipe has no writer.
        assert!(read(Path::new("/dev/zero"), FILE).is_err());
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read(&pipe, FILE).is_err());
    }

    #[test]
    fn a_command_that_says_too_much_is_an_error() {
        let say = |script: &str, input: &[u8]| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).stdin(Stdio::piped());
            output(command.stdout(Stdio::piped()).stderr(Stdio::piped()), input)
        };
        let fine = say("cat; echo why >&2; exit 3", b"words").unwrap();
        assert_eq!(
            (&*fine.stdout, &*fine.stderr, fine.status.code()),
            (&b"words"[..], &b"why\n"[..], Some(3))
        );
        for script in ["exec cat /dev/zero", "exec cat /dev/zero >&2"] {
            assert_eq!(say(script, b"").unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        }
    }
}
