//! Benchmark of DNS responses: the server's processor time and the client's latency. It compares
//! with `nsd` and `dnsmasq` if they are installed, with the same records and the same client.
//!
//! Processor time shows what a core can do even on a shared machine. The client keeps a window of
//! queries open, so the latency is that of a busy server.
#![allow(clippy::print_stdout, reason = "the benchmark's answer")]

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dns::{Server, Sockets, Upstreams, Zone};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use plan::dns_records::{Endpoint, Records, Service, Slice};
use tokio_util::sync::CancellationToken;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Services with an address, and endpoints of the headless Service.
const SERVICES: u16 = 1000;
const ENDPOINTS: u16 = 1000;
/// Queries in flight.
const WINDOW: usize = 32;
/// Duration of the measurement for each kind of query.
const LONG: Duration = Duration::from_secs(4);
/// Ticks a second in `/proc/PID/stat`.
const TICKS: f64 = 100.0;

/// A kind of query.
struct Case {
    name: &'static str,
    questions: Vec<Vec<u8>>,
    tcp: bool,
}

fn main() -> Result<()> {
    let cases = cases()?;
    let folder = tempfile::tempdir()?;
    println!(
        "{:<10} {:<34} {:>10} {:>12} {:>12} {:>9} {:>9}",
        "server", "question", "answers/s", "µs processor", "a core/s", "p50 µs", "p99 µs"
    );
    let ours = ours()?;
    let mut base = Vec::new();
    for case in &cases {
        base.push(measure("everynode", case, ours.address, &ours.time)?);
    }
    for (name, start) in [("nsd", nsd as fn(&Path) -> Result<Peer>), ("dnsmasq", dnsmasq)] {
        if Command::new(name)
            .arg("-v")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_err()
        {
            println!("{name} is not installed: left out");
            continue;
        }
        let peer = start(folder.path())?;
        for (case, ours) in cases.iter().zip(&base) {
            let theirs = measure(name, case, peer.address, &peer.time)?;
            println!(
                "{:<10} {:<34} {:>10.2} times our processor time",
                "",
                "",
                theirs / ours
            );
        }
    }
    Ok(())
}

fn cases() -> Result<Vec<Case>> {
    let services = (0..SERVICES).map(|number| format!("service-{number}.shop.svc.cluster.local."));
    let nodes = (0..ENDPOINTS).map(|number| format!("node-{number}.daemon.shop.svc.cluster.local."));
    let missing = (0..SERVICES).map(|number| format!("www.example-{number}.org.shop.svc.cluster.local."));
    let headless = || ["daemon.shop.svc.cluster.local.".to_owned()].into_iter();
    Ok(vec![
        case("a Service's address", services, false)?,
        case("the daemon of one node", nodes, false)?,
        case("a name that is not there", missing, false)?,
        case("1,000 endpoints, cut for UDP", headless(), false)?,
        case("1,000 endpoints, whole by TCP", headless(), true)?,
    ])
}

fn case(name: &'static str, names: impl Iterator<Item = String>, tcp: bool) -> Result<Case> {
    let question = |name: String| {
        let mut message = Message::new(0, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name)?, RecordType::A));
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        message.set_edns(edns);
        Ok::<_, Box<dyn Error>>(message.to_vec()?)
    };
    Ok(Case {
        name,
        questions: names.map(question).collect::<Result<_>>()?,
        tcp,
    })
}

/// Returns the processor seconds used so far.
type Time = Box<dyn Fn() -> Result<f64>>;

struct Peer {
    address: SocketAddr,
    time: Time,
    _child: Option<Ended>,
}

/// Child that is killed when this is dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn address(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 97, high, low)
}

fn ours() -> Result<Peer> {
    let mut records = Records::new("cluster.local", &[IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10))]);
    for number in 0..SERVICES {
        let service = Service {
            cluster_ips: vec![address(number).into()],
            ..Service::default()
        };
        records.set_service("shop", &format!("service-{number}"), Some(service));
    }
    let headless = Service {
        headless: true,
        ..Service::default()
    };
    records.set_service("shop", "daemon", Some(headless));
    let endpoint = |number: u16| Endpoint {
        addresses: vec![address(number).into()],
        ready: true,
        hostname: None,
        node: Some(format!("node-{number}")),
    };
    let slice = Slice {
        service: "daemon".to_owned(),
        endpoints: (0..ENDPOINTS).map(endpoint).collect(),
        ..Slice::default()
    };
    records.set_slice("shop", "daemon-1", Some(slice));
    let zone = Zone::new(records)?;
    zone.whole();
    let (told, tells) = std::sync::mpsc::sync_channel(1);
    // The server has its own thread and core, so that its time is separate from the client's.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let thread = nix::unistd::gettid();
        pin(0);
        if let Ok(runtime) = runtime {
            runtime.block_on(async {
                let Ok(sockets) = Sockets::bind((Ipv4Addr::LOCALHOST, 0).into()).await else {
                    return;
                };
                let Ok(address) = sockets.address() else { return };
                told.send((address, thread)).ok();
                let server = Server::new(Arc::new(zone), Upstreams::Fixed(Vec::new()), Vec::new());
                server.serve(sockets, CancellationToken::new()).await;
            });
        }
    });
    let (address, thread) = tells.recv()?;
    Ok(Peer {
        address,
        time: Box::new(move || ticks(&format!("/proc/self/task/{thread}/stat"))),
        _child: None,
    })
}

fn nsd(folder: &Path) -> Result<Peer> {
    let mut zone =
        "$TTL 5\n@ SOA ns.dns hostmaster 1 7200 1800 86400 5\n@ NS ns.dns\nns.dns A 10.96.0.10\n".to_owned();
    for number in 0..SERVICES {
        zone.push_str(&format!("service-{number}.shop.svc A {}\n", address(number)));
    }
    for number in 0..ENDPOINTS {
        zone.push_str(&format!(
            "daemon.shop.svc A {0}\nnode-{number}.daemon.shop.svc A {0}\n",
            address(number)
        ));
    }
    let (zone_file, config) = (folder.join("zone"), folder.join("nsd.conf"));
    fs::write(&zone_file, zone)?;
    let port = free_port()?;
    let at = folder.display();
    let text = format!(
        "server:\n ip-address: 127.0.0.1@{port}\n username: \"\"\n server-count: 1\n rrl-ratelimit: 0\n database: \"\"\n pidfile: \"\"\n \
         xfrdfile: \"{at}/xfrd\"\n zonelistfile: \"{at}/zones\"\n xfrdir: \"{at}\"\nremote-control:\n control-enable: no\n\
         zone:\n name: cluster.local\n zonefile: {}\n",
        zone_file.display()
    );
    fs::write(&config, text)?;
    peer(port, Command::new("nsd").arg("-d").arg("-c").arg(config))
}

fn dnsmasq(folder: &Path) -> Result<Peer> {
    let mut hosts = String::new();
    for number in 0..SERVICES {
        hosts.push_str(&format!(
            "{} service-{number}.shop.svc.cluster.local\n",
            address(number)
        ));
    }
    for number in 0..ENDPOINTS {
        hosts.push_str(&format!(
            "{0} daemon.shop.svc.cluster.local node-{number}.daemon.shop.svc.cluster.local\n",
            address(number)
        ));
    }
    let path = folder.join("hosts");
    fs::write(&path, hosts)?;
    let port = free_port()?;
    let mut command = Command::new("dnsmasq");
    command
        .args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--user=root",
        ])
        .args([
            "--local=/cluster.local/",
            "--listen-address=127.0.0.1",
            "--bind-interfaces",
            "--pid-file=",
        ])
        .arg(format!("--port={port}"))
        .arg(format!("--addn-hosts={}", path.display()));
    peer(port, &mut command)
}

/// Starts another DNS server on the same core as ours.
fn peer(port: u16, command: &mut Command) -> Result<Peer> {
    // A child inherits the core of its parent. The client returns to its own core afterwards.
    pin(0);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    pin(1);
    let child = Ended(child?);
    let pid = child.0.id();
    let address = (Ipv4Addr::LOCALHOST, port).into();
    let started = Instant::now();
    while TcpStream::connect(address).is_err() {
        if started.elapsed() > Duration::from_secs(60) {
            return Err("a server does not come up".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(Peer {
        address,
        time: Box::new(move || family(pid)),
        _child: Some(child),
    })
}

fn free_port() -> Result<u16> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Pins this thread to one core, if there are two.
fn pin(core: usize) {
    let mut set = CpuSet::new();
    if set.set(core).is_ok() {
        // On a machine with one core, all share it.
        sched_setaffinity(Pid::from_raw(0), &set).ok();
    }
}

/// Returns the processor seconds of one process or thread, and of the children that it waited for.
fn ticks(path: &str) -> Result<f64> {
    let text = fs::read_to_string(path)?;
    let rest = text.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |at: usize| {
        fields
            .get(at)
            .and_then(|field| field.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    Ok((field(11) + field(12) + field(13) + field(14)) / TICKS)
}

/// Returns the processor seconds of a process, its threads and its descendants.
fn family(pid: u32) -> Result<f64> {
    let mut sum = ticks(&format!("/proc/{pid}/stat"))?;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            sum += child.parse().map_or(Ok(0.0), family).unwrap_or(0.0);
        }
    }
    Ok(sum)
}

/// Sends queries for a while and returns the processor seconds for each response.
fn measure(server: &str, case: &Case, address: SocketAddr, time: &Time) -> Result<f64> {
    pin(1);
    let before = time()?;
    let (count, mut waits, took) = match case.tcp {
        true => by_tcp(case, address)?,
        false => by_udp(case, address)?,
    };
    let cost = (time()? - before) / count as f64;
    waits.sort();
    let at = |share: f64| {
        let index = (waits.len() as f64 * share) as usize;
        waits.get(index).map_or(0.0, |wait| wait.as_secs_f64() * 1e6)
    };
    println!(
        "{server:<10} {:<34} {:>10.0} {:>12.2} {:>12.0} {:>9.0} {:>9.0}",
        case.name,
        count as f64 / took.as_secs_f64(),
        cost * 1e6,
        1.0 / cost,
        at(0.5),
        at(0.99)
    );
    Ok(cost)
}

type Measured = (usize, Vec<Duration>, Duration);

fn by_udp(case: &Case, address: SocketAddr) -> Result<Measured> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut open: HashMap<u16, Instant> = HashMap::new();
    let mut waits = Vec::new();
    let mut buffer = [0; 4096];
    let mut asked: usize = 0;
    let begin = Instant::now();
    while begin.elapsed() < LONG {
        while open.len() < WINDOW {
            let mut question = case.questions[asked % case.questions.len()].clone();
            let id = asked as u16;
            question[..2].copy_from_slice(&id.to_be_bytes());
            socket.send(&question)?;
            open.insert(id, Instant::now());
            asked += 1;
        }
        match socket.recv(&mut buffer) {
            Ok(length) if length >= 12 => {
                let id = u16::from_be_bytes([buffer[0], buffer[1]]);
                if let Some(since) = open.remove(&id) {
                    waits.push(since.elapsed());
                }
            }
            // A packet was lost: open the window again.
            _ => open.clear(),
        }
    }
    Ok((waits.len(), waits, begin.elapsed()))
}

fn by_tcp(case: &Case, address: SocketAddr) -> Result<Measured> {
    let mut waits = Vec::new();
    let mut buffer = Vec::new();
    let begin = Instant::now();
    // One connection for each query, as resolvers do after a truncated response.
    while begin.elapsed() < LONG {
        let since = Instant::now();
        let mut stream = TcpStream::connect(address)?;
        let question = &case.questions[waits.len() % case.questions.len()];
        let mut framed = u16::try_from(question.len())?.to_be_bytes().to_vec();
        framed.extend_from_slice(question);
        stream.write_all(&framed)?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        buffer.resize(u16::from_be_bytes(length).into(), 0);
        stream.read_exact(&mut buffer)?;
        waits.push(since.elapsed());
    }
    Ok((waits.len(), waits, begin.elapsed()))
}
