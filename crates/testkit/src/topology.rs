//! Several machines on one: each with a network, mounts, processes, a name, cgroups and a disk of its own.
//!
//! A machine is a tree of processes in namespaces. They hang on a pipe that the test holds, so that nothing of them outlives it, and a process
//! beside the test removes the folders and cgroups when it ends, however it ends. Nothing in it needs a name on the machine, except one
//! cable by which the test itself reaches the machines.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use testkit::topology::Topology;
//!
//! let topology = Topology::new()?;
//! let mut first = topology.machine("node-1")?;
//! let second = topology.machine("node-2")?;
//! assert!(first.run(&["busybox", "ping", "-c1", &second.address().to_string()]).success);
//! first.cut()?; // the cable is out
//! first.heal()?;
//! first.kill()?; // the power is off: everything on it ended at once
//! first.boot()?; // it comes back with its disk
//! # Ok(())
//! # }
//! ```
//!
//! All machines of a link see each other. [`Topology::machine_on`] puts a machine on another link, behind a router that knows the links alone: such
//! machines share no link, and packets for pods' addresses get lost between them unless they are wrapped. Each link has room for
//! [`MACHINES`] machines.
//!
//! Of a machine's files, `/run`, `/var/lib`, `/var/log` and `/dev/shm` are its own; `/var/lib` and `/var/log` stay over a reboot and lie
//! on the host below [`Machine::file`]. Everything else is the host's, `/tmp` too, so that the binary under test and manifests have the same
//! path everywhere.

mod cgroup;
mod host;
mod machine;
mod relay;

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};

pub use machine::{Machine, Program};
pub use relay::Relay;

use cgroup::Cgroup;
use host::{Holder, tool};

/// Topologies that fit on one host at the same time: each has a network 10.77.N.0/24.
const TOPOLOGIES: u8 = 250;
/// Links of a topology: each has a quarter of its addresses.
pub const LINKS: u8 = 4;
/// Machines on a link: 64 addresses, of which the router, the host and those that a reader would misread are not theirs.
pub const MACHINES: u8 = 50;

/// A network with machines on it.
#[derive(Clone, Debug)]
pub struct Topology(Arc<Shared>);

/// What all machines of a topology share. It ends when the last of them is dropped.
#[derive(Debug)]
struct Shared {
    /// N of 10.77.N.0/24.
    number: u8,
    /// The namespace in which the links are bridges and their router.
    switch: Holder,
    cgroup: Cgroup,
    /// Machines so far, by link.
    count: Mutex<[u8; LINKS as usize]>,
    // Dropped last: it removes the folder and the cgroups.
    janitor: Janitor,
}

impl Topology {
    /// A new network without machines, with the host on its first link.
    ///
    /// # Errors
    /// Without root, or when a tool of the machine (`ip`, `unshare`, `nsenter`) is missing.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("everynode-topology-")
            .tempdir()
            .context("make a folder")?
            .keep();
        let name = folder
            .file_name()
            .and_then(|name| name.to_str())
            .context("the folder's name")?
            .to_owned();
        let cgroup = Cgroup::create(&name)?;
        let janitor = Janitor::start(folder, &cgroup)?;
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--pid", "--fork", "--kill-child=KILL", "sh", "-c"]);
        unshare.arg("echo ready; cat > /dev/null");
        let switch = Holder::start(unshare, &janitor.folder.join("switch.log"))?;
        let number = plug_host(&switch)?;
        let shared = Shared {
            number,
            switch,
            cgroup,
            count: Mutex::new([0; LINKS as usize]),
            janitor,
        };
        for setting in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            // Nobody has our addresses; who looks for others that might is silent meanwhile.
            ("net/ipv6/conf/default/accept_dad", "0"),
        ] {
            set(&shared.switch, setting)?;
        }
        for link in 0..LINKS {
            shared.lay_link(link)?;
        }
        shared.plug_in_host()?;
        Ok(Topology(Arc::new(shared)))
    }

    /// Starts a machine on the first link.
    ///
    /// # Errors
    /// When its namespaces cannot be made.
    pub fn machine(&self, name: &str) -> Result<Machine> {
        self.machine_on(name, 0)
    }

    /// Starts a machine on link `link`, below [`LINKS`]. Machines on different links reach each other through a router.
    ///
    /// # Errors
    /// When its namespaces cannot be made.
    pub fn machine_on(&self, name: &str, link: u8) -> Result<Machine> {
        let place = {
            let mut count = self.0.count.lock().unwrap_or_else(PoisonError::into_inner);
            let count = count
                .get_mut(usize::from(link))
                .with_context(|| format!("there is no link {link}"))?;
            if *count == MACHINES {
                bail!("link {link} is full");
            }
            *count += 1;
            *count
        };
        let place = Place { link, place };
        Machine::new(Arc::clone(&self.0), name, place)
    }

    /// The host's address on the first link: machines reach the test's own servers there.
    pub fn host_address(&self) -> Ipv4Addr {
        self.0.address(Place::HOST)
    }

    /// A folder that lives as long as the topology. Machines see it under the same path.
    pub fn folder(&self) -> &Path {
        &self.0.janitor.folder
    }
}

/// Where on the network something is plugged in.
#[derive(Clone, Copy, Debug)]
struct Place {
    link: u8,
    /// 1 is the link's first machine.
    place: u8,
}

impl Place {
    /// Addresses below the machines' are the router's and the host's.
    const FIRST: u8 = 10;
    const HOST: Place = Place { link: 0, place: 0 };

    /// The cable's end at the switch.
    fn port(self) -> String {
        format!("l{}m{}", self.link, self.place)
    }
}

impl Shared {
    /// `10.77.N.64*link+10+place`, in networks of /26.
    fn address(&self, place: Place) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number, 64 * place.link + Place::FIRST + place.place)
    }

    /// `fd77:N:link::10+place`, in networks of /64.
    fn address_v6(&self, place: Place) -> Ipv6Addr {
        self.on_link_v6(place.link, Place::FIRST + place.place)
    }

    /// Digits stand for themselves, so that a reader finds N and the place of the IPv4 address again.
    fn on_link_v6(&self, link: u8, place: u8) -> Ipv6Addr {
        let digits = |number: u8| {
            let number = u16::from(number);
            0x100 * (number / 100) + 0x10 * (number / 10 % 10) + number % 10
        };
        let (number, link) = (digits(self.number), u16::from(link));
        Ipv6Addr::new(0xfd77, number, link, 0, 0, 0, 0, digits(place))
    }

    fn router(&self, link: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number, 64 * link + 1)
    }

    fn router_v6(&self, link: u8) -> Ipv6Addr {
        self.on_link_v6(link, 1)
    }

    /// Runs `ip` where the links are.
    fn at_switch(&self, words: &[&str]) -> Result<String> {
        inside(&self.switch, words)
    }

    /// A link is a bridge; its own address is the router's.
    fn lay_link(&self, link: u8) -> Result<()> {
        let bridge = format!("link{link}");
        self.at_switch(&["link", "add", &bridge, "type", "bridge", "mcast_snooping", "0"])?;
        let address = format!("{}/26", self.router(link));
        self.at_switch(&["address", "add", &address, "dev", &bridge])?;
        let address = format!("{}/64", self.router_v6(link));
        self.at_switch(&["address", "add", &address, "dev", &bridge, "nodad"])?;
        self.at_switch(&["link", "set", &bridge, "up"])?;
        Ok(())
    }

    /// Puts the end of a cable that lies at the switch into its link.
    fn plug(&self, place: Place) -> Result<()> {
        let bridge = format!("link{}", place.link);
        self.at_switch(&["link", "set", &place.port(), "master", &bridge, "up"])?;
        Ok(())
    }

    /// The host's cable has been laid when the topology got its number.
    fn plug_in_host(&self) -> Result<()> {
        let device = host_device(self.number);
        let address = format!("{}/26", self.address(Place::HOST));
        tool(&["ip", "address", "add", &address, "dev", &device])?;
        let address = format!("{}/64", self.address_v6(Place::HOST));
        // A host without IPv6 is a host nonetheless.
        drop(tool(&["ip", "address", "add", &address, "dev", &device, "nodad"]));
        tool(&["ip", "link", "set", &device, "up"])?;
        self.plug(Place::HOST)?;
        let all = format!("10.77.{}.0/24", self.number);
        let router = self.router(0).to_string();
        tool(&["ip", "route", "add", &all, "via", &router])?;
        inside_command(&self.switch, &["sysctl", "-qw", "net.ipv4.ip_forward=1"])?;
        inside_command(&self.switch, &["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"])?;
        Ok(())
    }
}

/// Finds a number that no other topology on this host has, and lays the host's cable, whose name claims it.
fn plug_host(switch: &Holder) -> Result<u8> {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let start =
        u8::try_from(std::process::id() % u32::from(TOPOLOGIES)).context("the first number to try")?;
    let taken = tool(&["ip", "-o", "-4", "address"])?;
    let namespace = switch.pid().to_string();
    let mut refused = String::new();
    for _ in 0..TOPOLOGIES {
        let offset = u16::from(NEXT.fetch_add(1, Ordering::Relaxed)) + u16::from(start);
        let number = 1 + u8::try_from(offset % u16::from(TOPOLOGIES)).context("a topology's number")?;
        if taken.contains(&format!(" 10.77.{number}.")) {
            continue;
        }
        let (device, port) = (host_device(number), Place::HOST.port());
        let cable = [
            "ip", "link", "add", &device, "type", "veth", "peer", "name", &port, "netns", &namespace,
        ];
        match tool(&cable) {
            Ok(_) => return Ok(number),
            Err(error) => refused = format!("{error:#}"),
        }
    }
    bail!("no network 10.77.N.0/24 is free on this host: {refused}");
}

/// Not as a network card's: a network manager that sets up all cards would take it.
fn host_device(number: u8) -> String {
    format!("lab-{number}")
}

/// Runs `ip` in the network namespace of a holder.
fn inside(holder: &Holder, words: &[&str]) -> Result<String> {
    inside_command(holder, &[&["ip"], words].concat())
}

/// Sets a value below /proc/sys/net, which shows the reader's own network namespace.
fn set(holder: &Holder, (file, value): (&str, &str)) -> Result<()> {
    let script = format!("echo {value} > /proc/sys/{file}");
    inside_command(holder, &["sh", "-c", &script]).map(|_| ())
}

fn inside_command(holder: &Holder, words: &[&str]) -> Result<String> {
    let target = holder.pid().to_string();
    tool(&[&["nsenter", "--target", &target, "--net"], words].concat())
}

/// Removes what a topology leaves in the file system, when it is dropped or its process ends.
#[derive(Debug)]
struct Janitor {
    folder: PathBuf,
    process: Child,
}

impl Janitor {
    fn start(folder: PathBuf, cgroup: &Cgroup) -> Result<Self> {
        let process = Command::new("sh")
            .args(["-c", include_str!("topology/janitor.sh"), "janitor"])
            .arg(&folder)
            .args(cgroup.folders())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Whoever ends the test's process group leaves it to clean up.
            .process_group(0)
            .spawn()
            .context("start the janitor")?;
        Ok(Janitor { folder, process })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        drop(self.process.wait());
    }
}

/// The folder of a machine, with the files that it begins with.
fn furnish(folder: &Path, name: &str, address: Ipv4Addr) -> Result<()> {
    for sub in ["disk/lib", "disk/log"] {
        let path = folder.join(sub);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    }
    let id: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    let files = [
        // Nobody listens there: a name that the cluster does not know is refused at once.
        ("resolv.conf", "nameserver 127.0.0.1\n".to_owned()),
        (
            "hosts",
            format!("127.0.0.1 localhost\n::1 localhost\n{address} {name}\n"),
        ),
        ("machine-id", format!("{id:0<32.32}\n")),
    ];
    for (file, text) in files {
        let path = folder.join(file);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
