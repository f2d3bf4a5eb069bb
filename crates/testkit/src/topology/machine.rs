//! A machine of a topology, and the programs that run on it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::host::{Holder, child_of, tool};
use super::{Place, Shared, furnish, inside, set};
use crate::client::{Client, Output};

/// A machine. It runs from [`super::Topology::machine`] until [`Machine::kill`], and again from
/// [`Machine::boot`]. Killed when dropped.
#[derive(Debug)]
pub struct Machine {
    name: String,
    place: Place,
    folder: PathBuf,
    holder: Option<Holder>,
    /// Files that add a process to the machine's cgroups; they change with every boot.
    entries: String,
    // Dropped after the machine itself.
    shared: Arc<Shared>,
}

impl Machine {
    pub(super) fn new(shared: Arc<Shared>, name: &str, place: Place) -> Result<Self> {
        let folder = shared.janitor.folder.join(name);
        furnish(&folder, name, shared.address(place))?;
        let mut machine = Machine {
            name: name.to_owned(),
            place,
            folder,
            holder: None,
            entries: String::new(),
            shared,
        };
        machine.boot()?;
        Ok(machine)
    }

    /// Returns its hostname.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its IPv4 address, which never changes.
    pub fn address(&self) -> Ipv4Addr {
        self.shared.address(self.place)
    }

    /// Returns its IPv6 address.
    pub fn address_v6(&self) -> Ipv6Addr {
        self.shared.address_v6(self.place)
    }

    /// Returns the path on the host of a file in its `/var/lib` or `/var/log`.
    ///
    /// # Panics
    /// When `path` is not in one of them: other files are the host's, or are lost when the machine
    /// ends.
    pub fn file(&self, path: &str) -> PathBuf {
        let below = |kept: &str| path.strip_prefix(&format!("/var/{kept}/"));
        match (below("lib"), below("log")) {
            (Some(rest), _) => self.folder.join("disk/lib").join(rest),
            (_, Some(rest)) => self.folder.join("disk/log").join(rest),
            _ => panic!("{path} is not on the machine's own disk"),
        }
    }

    /// Starts the machine.
    ///
    /// # Errors
    /// When it is running, or a namespace cannot be created.
    pub fn boot(&mut self) -> Result<()> {
        if self.holder.is_some() {
            bail!("{} runs already", self.name);
        }
        let cgroup = self.shared.cgroup.child(&self.name)?;
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/uuid").context("draw a boot id")?;
        let mut command = Command::new("sh");
        command
            .args(["-c", JOIN_AND_UNSHARE, "sh", include_str!("machine.sh")])
            .args(cgroup.roots())
            .env("NAME", &self.name)
            .env("FOLDER", &self.folder)
            .env("BOOT_ID", boot_id.trim());
        let holder = Holder::start(command, &self.folder.join("boot.log"))
            .with_context(|| format!("boot {}", self.name))?;
        let entries: Vec<PathBuf> = cgroup.entries().collect();
        for entry in &entries {
            // Under v2, the process that waits for the machine must not be in the cgroup that
            // contains the pods' cgroups.
            fs::write(entry, holder.outer_pid().to_string())
                .with_context(|| format!("write {}", entry.display()))?;
        }
        let entries: Vec<String> = entries.iter().map(|entry| entry.display().to_string()).collect();
        self.entries = entries.join(" ");
        self.connect(&holder)
            .with_context(|| format!("connect {}", self.name))?;
        self.holder = Some(holder);
        Ok(())
    }

    /// Creates the veth and configures `eth0`.
    fn connect(&self, holder: &Holder) -> Result<()> {
        let (port, place) = (self.place.port(), self.place);
        let (own, switch) = (holder.pid().to_string(), self.shared.switch.pid().to_string());
        // The MAC address never changes, like a network card's, because neighbors cache it.
        let mac = format!(
            "02:77:{:02x}:{:02x}:00:{:02x}",
            self.shared.number, place.link, place.place
        );
        tool(&[
            "ip", "link", "add", "eth0", "address", &mac, "netns", &own, "type", "veth", "peer", "name",
            &port, "netns", &switch,
        ])?;
        self.shared.plug(place)?;
        let (v4, v6) = (self.address(), self.address_v6());
        inside(holder, &["address", "add", &format!("{v4}/26"), "dev", "eth0"])?;
        inside(
            holder,
            &["address", "add", &format!("{v6}/64"), "dev", "eth0", "nodad"],
        )?;
        set(holder, ("net/ipv6/conf/eth0/accept_dad", "0"))?;
        inside(holder, &["link", "set", "eth0", "up"])?;
        let router = self.shared.router(place.link).to_string();
        inside(holder, &["route", "add", "default", "via", &router])?;
        let router = self.shared.router_v6(place.link).to_string();
        inside(holder, &["-6", "route", "add", "default", "via", &router])?;
        Ok(())
    }

    /// Turns the machine off: kills all of its processes. Its disk stays.
    ///
    /// # Errors
    /// When it is off already.
    pub fn kill(&mut self) -> Result<()> {
        let mut holder = self
            .holder
            .take()
            .with_context(|| format!("{} is off", self.name))?;
        // After a power failure, no peer gets a FIN. So the link goes down before the programs end.
        self.cut()?;
        holder.kill()?;
        // The kernel deletes the namespace and its veth later, but the next veth has the same name.
        let port = self.place.port();
        if let Err(error) = self.shared.at_switch(&["link", "delete", &port])
            && self.shared.at_switch(&["link", "show", &port]).is_ok()
        {
            return Err(error);
        }
        Ok(())
    }

    /// Turns the machine off and on.
    ///
    /// # Errors
    /// When it is off, or cannot be started.
    pub fn reboot(&mut self) -> Result<()> {
        self.kill()?;
        self.boot()
    }

    /// Disconnects the network. Programs keep running.
    ///
    /// # Errors
    /// When the machine is off.
    pub fn cut(&self) -> Result<()> {
        let port = self.place.port();
        self.shared.at_switch(&["link", "set", &port, "down"]).map(|_| ())
    }

    /// Connects the network again.
    ///
    /// # Errors
    /// When the machine is off.
    pub fn heal(&self) -> Result<()> {
        let port = self.place.port();
        self.shared.at_switch(&["link", "set", &port, "up"]).map(|_| ())
    }

    /// Returns a command on the machine that is not started yet. Its standard input is empty. It
    /// fails when the machine is off.
    pub fn command(&self, words: &[&str]) -> Command {
        let target = self.holder.as_ref().map_or(0, |holder| holder.pid().as_raw());
        let mut command = Command::new("sh");
        command
            .args(["-c", ENTER, "sh", &target.to_string(), &self.entries])
            .args(words)
            .stdin(Stdio::null());
        command
    }

    /// Runs a program on the machine to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        Client::finish(self.command(words))
    }

    /// Starts a program on the machine. Its output is appended to a log named after `name`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, name: &str, words: &[&str]) -> Result<Program> {
        Program::start(self.command(words), self.folder.join(format!("{name}.log")))
            .with_context(|| format!("start {name} on {}", self.name))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.holder.is_some() {
            // The janitor and the closed pipes clean up what fails here.
            drop(self.kill());
        }
    }
}

/// `$0 SCRIPT CGROUP…`: enters the cgroups, where its cgroup namespace then begins, creates the
/// other namespaces, and runs the script in them.
const JOIN_AND_UNSHARE: &str = "script=$1; shift; for file in \"$@\"; do echo $$ > \"$file\" || exit; done
exec unshare --mount --propagation private --pid --fork --kill-child=KILL --uts --ipc --net --cgroup --mount-proc sh -c \"$script\"";

/// `$0 PID CGROUPS WORD…`: enters the cgroups, then all namespaces of the process, and executes the
/// program. The cgroups come first, because they cannot be entered from inside a cgroup namespace.
const ENTER: &str = "target=$1 cgroups=$2; shift 2; for file in $cgroups; do echo $$ > $file || exit; done
exec nsenter --target $target --mount --uts --ipc --net --pid --cgroup sh -c 'cd / && exec \"$@\"' sh \"$@\"";

/// A program on a machine. It keeps running when this is dropped, until its machine ends.
#[derive(Debug)]
pub struct Program {
    /// The process that entered the machine and waits outside.
    outer: Child,
    pid: Pid,
    log: PathBuf,
}

impl Program {
    fn start(mut command: Command, log: PathBuf) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("open {}", log.display()))?;
        let outer = command
            .stdout(file.try_clone().context("share the log")?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .context("enter the machine")?;
        let pid = child_of(outer.id()).with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(Program { outer, pid, log })
    }

    /// Returns its pid on the host.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Returns the log of all programs of that name.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Returns the path of the log.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Returns its exit status, if it has ended.
    ///
    /// # Errors
    /// When that cannot be determined.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.outer.try_wait().context("look at a program")
    }

    /// Kills the program with SIGKILL.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill(&mut self) -> Result<()> {
        self.end(Signal::SIGKILL).map(|_| ())
    }

    /// Sends SIGTERM and waits until the program has ended.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.end(Signal::SIGTERM)
    }

    fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        kill(self.pid, signal).with_context(|| format!("send {signal} to {}", self.pid))?;
        self.outer.wait().context("wait for a program")
    }
}
