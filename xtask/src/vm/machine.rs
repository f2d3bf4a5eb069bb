//! A virtual machine in QEMU without hardware virtualization, so that it runs wherever the tests
//! run.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, bail};

use super::kernel::Kernel;

const QEMU: &str = "qemu-system-x86_64";
/// Kernel parameters. Mitigations against other tenants of a processor, and short waits, would cost
/// an emulated processor most of its time.
const KERNEL: &str = "console=ttyS0 quiet panic=-1 mitigations=off rcupdate.rcu_expedited=1";
/// Most lines of output that are buffered. Then the machine waits.
const LINES_AHEAD: usize = 1024;
/// Number of console lines that are printed.
const CONSOLE_LINES: usize = 100;

/// Configuration of a machine.
pub(super) struct Machine<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) initramfs: &'a Path,
    /// Additional kernel parameters.
    pub(super) parameters: &'a str,
    pub(super) memory_mib: u32,
    /// Disks, from `/dev/vda` on.
    pub(super) disks: &'a [Disk<'a>],
    /// File with the output of the kernel and the init.
    pub(super) console: PathBuf,
    /// Time after which the machine is killed.
    pub(super) limit: Duration,
}

pub(super) struct Disk<'a> {
    pub(super) file: &'a Path,
    /// Whether changes are kept in the file after the machine's end.
    pub(super) keep: bool,
}

impl Machine<'_> {
    /// Runs the machine until it turns itself off. `take` gets each line of its second serial port.
    ///
    /// Fails when the machine does not end in time, or crashes. It then prints the console.
    pub(super) fn run(&self, take: impl FnMut(&str)) -> Result<()> {
        fs::write(&self.console, "").with_context(|| format!("write {}", self.console.display()))?;
        let mut child = self.command().spawn().with_context(|| format!("start {QEMU}"))?;
        let lines = read_lines(child.stdout.take().context("the machine's output")?);
        let result = follow(&mut child, &lines, self.limit, take);
        if result.is_err() {
            self.print_console();
        }
        result
    }

    fn command(&self) -> Command {
        // The machine must end with this process, for any cause.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", QEMU]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        // One processor, because two emulated processors have blocked each other for minutes.
        command.args([
            "-machine",
            "pc",
            "-accel",
            "tcg,tb-size=512",
            "-cpu",
            "max",
            "-smp",
            "1",
        ]);
        command.args(["-m", &self.memory_mib.to_string()]);
        command.args(["-action", "panic=exit-failure"]);
        command.arg("-kernel").arg(&self.kernel.image);
        command.arg("-initrd").arg(self.initramfs);
        command.args(["-append", &format!("{KERNEL} {}", self.parameters)]);
        command.args(["-device", "virtio-rng-pci"]);
        let console = format!("file,id=console,path={}", self.console.display());
        command.args(["-chardev", &console, "-serial", "chardev:console"]);
        command.args([
            "-chardev",
            "stdio,id=results,signal=off",
            "-serial",
            "chardev:results",
        ]);
        // A network card on a hub without other ports, so that no packet leaves the machine.
        command.args([
            "-netdev",
            "hubport,id=hub,hubid=0",
            "-device",
            "virtio-net-pci,netdev=hub",
        ]);
        for disk in self.disks {
            let snapshot = if disk.keep { "off" } else { "on" };
            let drive = format!(
                "file={},format=raw,if=virtio,cache=unsafe,snapshot={snapshot}",
                disk.file.display()
            );
            command.args(["-drive", &drive]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    fn print_console(&self) {
        let text = fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let newest = lines.len().saturating_sub(CONSOLE_LINES);
        println!(
            "\nThe machine's console ({}), its last lines:",
            self.console.display()
        );
        for line in &lines[newest..] {
            println!("    {}", line.trim_end());
        }
    }
}

/// Reads until the machine ends or the time is over.
fn follow(
    child: &mut Child,
    lines: &Receiver<String>,
    limit: Duration,
    mut take: impl FnMut(&str),
) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if Instant::now() < deadline => take(&line),
            Err(RecvTimeoutError::Disconnected) => break,
            Ok(_) | Err(RecvTimeoutError::Timeout) => {
                child.kill().context("end the machine")?;
                child.wait().context("wait for the machine's end")?;
                bail!("the machine was ended: it ran for {} s", limit.as_secs());
            }
        }
    }
    let status = child.wait().context("wait for the machine's end")?;
    if !status.success() {
        bail!("{QEMU} ended with {status}");
    }
    Ok(())
}

/// Reads the machine's lines in a thread, so that the port does not fill up while a line is
/// processed.
fn read_lines(output: ChildStdout) -> Receiver<String> {
    let (send, lines) = sync_channel(LINES_AHEAD);
    thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line);
            if send.send(text.trim_end().to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    lines
}
