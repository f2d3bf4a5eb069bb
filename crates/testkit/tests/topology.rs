//! Tests of the machines of a topology: they reach each other, can be disconnected and turned off,
//! and leave nothing behind.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use testkit::topology::{Machine, Relay, Topology};
use testkit::{eventually, is_root, skip};

fn reaches(from: &Machine, address: &str) -> bool {
    from.run(&["busybox", "ping", "-c1", "-W1", address]).success
}

fn topology() -> Result<Option<Topology>> {
    if !is_root() {
        skip("namespaces need root");
        return Ok(None);
    }
    Topology::new().map(Some)
}

#[test]
fn machines_have_separate_names_processes_disks_and_addresses() -> Result<()> {
    let Some(topology) = topology()? else {
        return Ok(());
    };
    let first = topology.machine("node-1")?;
    let second = topology.machine("node-2")?;
    assert_eq!(first.run(&["hostname"]).stdout, "node-1\n");
    for address in [
        second.address().to_string(),
        second.address_v6().to_string(),
        topology.host_address().to_string(),
    ] {
        assert!(reaches(&first, &address), "{address}");
    }
    assert!(
        first
            .run(&["sh", "-c", "echo mine > /var/lib/probe; touch /run/probe"])
            .success
    );
    assert_eq!(std::fs::read_to_string(first.file("/var/lib/probe"))?, "mine\n");
    assert!(!second.run(&["test", "-e", "/var/lib/probe"]).success);
    assert!(!second.run(&["test", "-e", "/run/probe"]).success);
    let mut sleeper = first.start("sleeper", &["sleep", "1000"])?;
    let processes = first.run(&["sh", "-c", "cat /proc/[0-9]*/comm"]).stdout;
    assert!(processes.contains("sleep"), "{processes}");
    let processes = second.run(&["sh", "-c", "cat /proc/[0-9]*/comm"]).stdout;
    assert!(!processes.contains("sleep"), "{processes}");
    assert!(!sleeper.stop()?.success());
    let devices = first.run(&["ls", "/sys/class/net"]).stdout;
    assert!(devices.contains("eth0") && !devices.contains("lab-"), "{devices}");
    Ok(())
}

#[test]
fn machine_keeps_its_disk_when_cut_off_and_powered_off() -> Result<()> {
    let Some(topology) = topology()? else {
        return Ok(());
    };
    let mut first = topology.machine("node-1")?;
    let second = topology.machine("node-2")?;
    let there = first.address().to_string();
    first.cut()?;
    assert!(!reaches(&second, &there));
    first.heal()?;
    eventually("the machine to answer again", || Ok(reaches(&second, &there)))?;

    let mut sleeper = first.start("sleeper", &["sleep", "1000"])?;
    let boot_id = |machine: &Machine| machine.run(&["cat", "/proc/sys/kernel/random/boot_id"]).stdout;
    let before = boot_id(&first);
    assert!(first.run(&["sh", "-c", "touch /var/lib/kept /run/lost"]).success);
    first.kill()?;
    assert!(sleeper.ended()?.is_some(), "what ran on it has ended");
    assert!(!first.run(&["true"]).success, "it is off");
    first.boot()?;
    assert!(first.run(&["test", "-e", "/var/lib/kept"]).success);
    assert!(!first.run(&["test", "-e", "/run/lost"]).success);
    assert_ne!(boot_id(&first), before);
    eventually("the machine to answer again", || Ok(reaches(&second, &there)))
}

#[test]
fn router_connects_links_but_has_no_routes_to_pods() -> Result<()> {
    let Some(topology) = topology()? else {
        return Ok(());
    };
    let near = topology.machine("near")?;
    let far = topology.machine_on("far", 1)?;
    for address in [far.address().to_string(), far.address_v6().to_string()] {
        assert!(reaches(&near, &address), "{address}");
    }
    // A route to a pod network on the far machine is impossible: its next hop is not on the link.
    assert!(
        far.run(&["ip", "address", "add", "10.244.7.1/24", "dev", "lo"])
            .success
    );
    let route = near.run(&[
        "ip",
        "route",
        "add",
        "10.244.7.0/24",
        "via",
        &far.address().to_string(),
    ]);
    assert!(!route.success, "the far machine is no neighbour");
    assert!(!reaches(&near, "10.244.7.1"));
    let host = Command::new("busybox")
        .args(["ping", "-c1", "-W1", &far.address().to_string()])
        .output()?;
    assert!(host.status.success(), "the host reaches all links");
    Ok(())
}

#[test]
fn a_relay_delays_and_drops_connections() -> Result<()> {
    let server = TcpListener::bind("127.0.0.1:0")?;
    let to = server.local_addr()?;
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut bytes = [0; 4];
                while stream.read_exact(&mut bytes).is_ok() && stream.write_all(&bytes).is_ok() {}
            });
        }
    });
    let relay = Relay::start([127, 0, 0, 1].into(), to)?;
    let echo = |stream: &mut TcpStream| -> std::io::Result<[u8; 4]> {
        stream.write_all(b"ping")?;
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    let connect = |to: SocketAddr| TcpStream::connect(to);
    let mut stream = connect(relay.address())?;
    assert_eq!(&echo(&mut stream)?, b"ping");
    relay.delay(Duration::from_millis(50));
    let started = Instant::now();
    assert_eq!(&echo(&mut stream)?, b"ping");
    assert!(
        started.elapsed() >= Duration::from_millis(100),
        "held back both ways"
    );
    relay.refuse(true);
    assert!(echo(&mut stream).is_err());
    assert!(
        connect(relay.address())
            .and_then(|mut stream| echo(&mut stream))
            .is_err()
    );
    relay.refuse(false);
    assert_eq!(&echo(&mut connect(relay.address())?)?, b"ping");
    Ok(())
}

/// Returns what a topology could leave on the host.
fn left(folder: &Path) -> Result<Vec<String>> {
    let name = folder
        .file_name()
        .and_then(|name| name.to_str())
        .context("a name")?
        .to_owned();
    let found = Command::new("find")
        .args(["/sys/fs/cgroup", "-maxdepth", "2", "-name", &name])
        .output()?;
    let mut left: Vec<String> = String::from_utf8(found.stdout)?
        .lines()
        .map(str::to_owned)
        .collect();
    if folder.exists() {
        left.push(folder.display().to_string());
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    left.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&name))
            .map(str::to_owned),
    );
    Ok(left)
}

#[test]
fn nothing_is_left_when_a_topology_is_dropped() -> Result<()> {
    let Some(topology) = topology()? else {
        return Ok(());
    };
    let folder = topology.folder().to_owned();
    let machine = topology.machine("node-1")?;
    let mut sleeper = machine.start("sleeper", &["sleep", "1000"])?;
    assert!(
        machine.run(&["mkdir", "-p", "/sys/fs/cgroup/pods/pod1"]).success
            || !Path::new("/sys/fs/cgroup/cgroup.procs").exists()
    );
    assert!(!left(&folder)?.is_empty());
    drop(machine);
    drop(topology);
    assert!(sleeper.ended()?.is_some());
    assert_eq!(left(&folder)?, Vec::<String>::new());
    Ok(())
}
