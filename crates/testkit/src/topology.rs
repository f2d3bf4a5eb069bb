//! Several simulated machines on one computer. Each has its own network, mounts, processes,
//! hostname, cgroups and disk.
//!
//! A machine is a tree of processes in namespaces. The processes end when a pipe from the test
//! closes, so none outlives the test. A helper process removes the folders and cgroups when the
//! test ends for any reason. The only visible name on the host is a veth, through which the test
//! itself reaches the machines.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use testkit::topology::Topology;
//!
//! let topology = Topology::new()?;
//! let mut first = topology.machine("node-1")?;
//! let second = topology.machine("node-2")?;
//! assert!(first.run(&["busybox", "ping", "-c1", &second.address().to_string()]).success);
//! first.cut()?; // the link is down
//! first.heal()?;
//! first.kill()?; // power failure: all processes are killed
//! first.boot()?; // it starts again with its disk
//! # Ok(())
//! # }
//! ```
//!
//! All machines of a link reach each other directly. [`Topology::machine_on`] puts a machine on
//! another link, behind a router that only has routes to the links. So packets for pods' addresses
//! are lost between links unless they are encapsulated. Each link has room for [`MACHINES`]
//! machines.
//!
//! A machine has its own `/run`, `/var/lib`, `/var/log` and `/dev/shm`. `/var/lib` and `/var/log`
//! survive a reboot; [`Machine::file`] returns their paths on the host. All other files are the
//! host's, including `/tmp`, so that the binary under test and manifests have the same path
//! everywhere.

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

/// Most topologies on one host at the same time: each has a network 10.77.N.0/24.
const TOPOLOGIES: u8 = 250;
/// Links of a topology: each has a quarter of its addresses.
pub const LINKS: u8 = 4;
/// Most machines on a link: of its 64 addresses, some belong to the router and the host, and some
/// are left out because they are easy to misread.
pub const MACHINES: u8 = 50;

/// A network with machines.
#[derive(Clone, Debug)]
pub struct Topology(Arc<Shared>);

/// Resources that all machines of a topology share. Removed when the last user is dropped.
#[derive(Debug)]
struct Shared {
    /// N of 10.77.N.0/24.
    number: u8,
    /// Network namespace with the links, which are bridges, and the router between them.
    switch: Holder,
    cgroup: Cgroup,
    /// Number of machines on each link.
    count: Mutex<[u8; LINKS as usize]>,
    // Must be the last field: it removes the folder and the cgroups.
    janitor: Janitor,
}

impl Topology {
    /// Creates a network without machines, with the host on its first link.
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
            // Our addresses are unique; duplicate address detection would only delay them.
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
    /// When its namespaces cannot be created.
    pub fn machine(&self, name: &str) -> Result<Machine> {
        self.machine_on(name, 0)
    }

    /// Starts a machine on link `link`, which must be below [`LINKS`]. Machines on different links
    /// reach each other through a router.
    ///
    /// # Errors
    /// When its namespaces cannot be created.
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

    /// Returns the host's address on the first link, where machines reach the test's own servers.
    pub fn host_address(&self) -> Ipv4Addr {
        self.0.address(Place::HOST)
    }

    /// Returns a folder that is removed with the topology. Machines see it under the same path.
    pub fn folder(&self) -> &Path {
        &self.0.janitor.folder
    }
}

/// Position on the network.
#[derive(Clone, Copy, Debug)]
struct Place {
    link: u8,
    /// 1 is the first machine of the link.
    place: u8,
}

impl Place {
    /// Addresses below the machines' are the router's and the host's.
    const FIRST: u8 = 10;
    const HOST: Place = Place { link: 0, place: 0 };

    /// Returns the name of the switch's end of the veth.
    fn port(self) -> String {
        format!("l{}m{}", self.link, self.place)
    }
}

impl Shared {
    /// Returns `10.77.N.(64*link+10+place)`, in networks of /26.
    fn address(&self, place: Place) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number, 64 * place.link + Place::FIRST + place.place)
    }

    /// Returns `fd77:N:link::10+place`, in networks of /64.
    fn address_v6(&self, place: Place) -> Ipv6Addr {
        self.on_link_v6(place.link, Place::FIRST + place.place)
    }

    /// Uses the decimal digits as hexadecimal ones, so that N and the place look the same as in the
    /// IPv4 address.
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

    /// Runs `ip` in the switch's namespace.
    fn at_switch(&self, words: &[&str]) -> Result<String> {
        inside(&self.switch, words)
    }

    /// Creates a link: a bridge, with the router's address.
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

    /// Attaches the switch's end of a veth to its link.
    fn plug(&self, place: Place) -> Result<()> {
        let bridge = format!("link{}", place.link);
        self.at_switch(&["link", "set", &place.port(), "master", &bridge, "up"])?;
        Ok(())
    }

    /// Connects the host's veth, which exists since the topology got its number.
    fn plug_in_host(&self) -> Result<()> {
        let device = host_device(self.number);
        let address = format!("{}/26", self.address(Place::HOST));
        tool(&["ip", "address", "add", &address, "dev", &device])?;
        let address = format!("{}/64", self.address_v6(Place::HOST));
        // A host without IPv6 is allowed.
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

/// Reserves a number that no other topology on this host has, by creating the host's veth with that
/// name.
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

/// Returns the name of the host's veth. It must not look like a network card, because a network
/// manager would configure it.
fn host_device(number: u8) -> String {
    format!("lab-{number}")
}

/// Runs `ip` in the network namespace of a holder.
fn inside(holder: &Holder, words: &[&str]) -> Result<String> {
    inside_command(holder, &[&["ip"], words].concat())
}

/// Sets a value below /proc/sys/net, which shows the network namespace of the reader.
fn set(holder: &Holder, (file, value): (&str, &str)) -> Result<()> {
    let script = format!("echo {value} > /proc/sys/{file}");
    inside_command(holder, &["sh", "-c", &script]).map(|_| ())
}

fn inside_command(holder: &Holder, words: &[&str]) -> Result<String> {
    let target = holder.pid().to_string();
    tool(&[&["nsenter", "--target", &target, "--net"], words].concat())
}

/// Removes the files of a topology when it is dropped or its process ends.
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
            // A signal to the test's process group must not end the cleanup.
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

/// Creates the folder of a machine with its first files.
fn furnish(folder: &Path, name: &str, address: Ipv4Addr) -> Result<()> {
    for sub in ["disk/lib", "disk/log"] {
        let path = folder.join(sub);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    }
    let id: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    let files = [
        // No DNS server listens there, so an unknown name fails at once.
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
