//! An address that goes from one pod to the next while clients still hold on to the first.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use testkit::{Fleet, Pod, eventually, programs, report, skip, wait_for};

use crate::{PAGE, fleet};

const TALK: &str = "everynode.local/talk:1";
const TCP: u16 = 8081;
const UDP: u16 = 9000;
/// Answers every line over TCP, and every packet over UDP, with the pod's name.
const SERVE: &str = r#"perl -e 'socket(S,2,2,0); bind(S,pack("Snx12",2,9000)) or die;
while(defined($from=recv(S,$text,99,0))){send(S,$ENV{HOSTNAME},0,$from)}' &
exec nc -ll -p 8081 -e sh -c 'while read line; do echo $HOSTNAME; done'"#;
/// The client's pod sleeps for so many seconds and some, by which its process is found.
const SLEEP: u32 = 100_000_000;
/// Clients of this process.
static CLIENTS: AtomicU32 = AtomicU32::new(0);
/// A range of so many bits has addresses for [`PODS`] pods.
const BITS: &str = "29";
const PODS: usize = 5;
/// Between two questions over one connection.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest that a new connection may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Within this time a client knows that whom it spoke to is gone. After a power failure it asks at intervals that double.
const PROMPT: Duration = Duration::from_secs(40);

/// The network of the client's pod: sockets that are made in it stay in it.
struct Inside(PathBuf);

impl Inside {
    /// That of the pod that runs `command`.
    fn find(command: &[&str]) -> Result<Self> {
        let wanted: String = command.iter().map(|word| format!("{word}\0")).collect();
        for entry in fs::read_dir("/proc")?.flatten() {
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if words == wanted.as_bytes() {
                return Ok(Inside(entry.path().join("ns/net")));
            }
        }
        bail!("the client's process is not there")
    }

    fn make<T: Send>(&self, socket: impl FnOnce() -> std::io::Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let made = scope.spawn(|| -> Result<T> {
                let network = File::open(&self.0).context("open the client's network")?;
                setns(network, CloneFlags::CLONE_NEWNET).context("enter the client's network")?;
                socket().context("make a socket")
            });
            made.join().map_err(|_| anyhow::anyhow!("the thread failed"))?
        })
    }

    fn connect(&self, to: SocketAddr) -> Result<Talk> {
        let stream = self.make(|| TcpStream::connect_timeout(&to, PATIENCE))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Talk::new(Socket::Stream(stream)))
    }

    fn send_to(&self, to: SocketAddr) -> Result<Talk> {
        let socket = self.make(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect(to).map(|()| socket)
        })?;
        socket.set_nonblocking(true)?;
        Ok(Talk::new(Socket::Packets(socket)))
    }

    /// Opens conversations until one is with `name`.
    fn with(&self, name: &str, open: impl Fn(&Self) -> Result<Talk>) -> Result<Talk> {
        wait_for(&format!("a conversation with {name}"), || {
            let mut talk = match open(self) {
                Ok(talk) => talk,
                Err(error) => return Ok(Err(format!("{error:#}"))),
            };
            let heard = talk.once();
            Ok(if heard.as_deref() == Some(name) {
                Ok(talk)
            } else {
                Err(format!("{heard:?}"))
            })
        })
    }
}

enum Socket {
    Stream(TcpStream),
    Packets(UdpSocket),
}

/// One client's conversation, over one socket.
struct Talk {
    socket: Socket,
    /// Who answered last.
    speaker: Option<String>,
    /// All who ever answered.
    heard: BTreeSet<String>,
    /// When the last answer came.
    answered: Instant,
    /// How it ended, and when.
    ended: Option<(String, Instant)>,
}

impl Talk {
    fn new(socket: Socket) -> Self {
        Talk {
            socket,
            speaker: None,
            heard: BTreeSet::new(),
            answered: Instant::now(),
            ended: None,
        }
    }

    /// Asks, and takes in what has come so far.
    fn step(&mut self) {
        if self.ended.is_some() {
            return;
        }
        let mut buffer = [0; 4096];
        let (sent, came) = match &mut self.socket {
            Socket::Stream(stream) => (stream.write(b"?\n"), stream.read(&mut buffer)),
            // A later call returns the refusal of an earlier packet, which does not end the exchange.
            Socket::Packets(socket) => (Ok(socket.send(b"?").unwrap_or(1)), socket.recv(&mut buffer)),
        };
        let stream = matches!(self.socket, Socket::Stream(_));
        if let Ok(length @ 1..) = came {
            for name in String::from_utf8_lossy(&buffer[..length]).lines() {
                self.heard.insert(name.to_owned());
                self.speaker = Some(name.to_owned());
            }
            self.answered = Instant::now();
        }
        // Only the first call after a reset returns it.
        for told in [sent, came] {
            match told {
                Ok(0) => self.end("end"),
                Err(error) if stream && error.kind() != ErrorKind::WouldBlock => self.end(&error.to_string()),
                _ => {}
            }
        }
    }

    fn end(&mut self, how: &str) {
        self.ended.get_or_insert_with(|| (how.to_owned(), Instant::now()));
    }

    /// The first answer within [`PATIENCE`].
    fn once(&mut self) -> Option<String> {
        let begin = Instant::now();
        while self.speaker.is_none() && self.ended.is_none() && begin.elapsed() < PATIENCE {
            self.step();
            thread::sleep(PAUSE);
        }
        self.speaker.clone()
    }
}

/// Two machines on which nearly all addresses are taken, the daemon, and a client's pod on the first.
struct Stage {
    fleet: Fleet,
    inside: Inside,
    cluster_ip: IpAddr,
}

impl Stage {
    fn new() -> Result<Option<Self>> {
        let perl = Path::new("/usr/bin/perl");
        if !perl.exists() {
            skip("a daemon that speaks UDP needs perl");
            return Ok(None);
        }
        let Some(mut fleet) = fleet(
            2,
            &["--cluster-cidr", "10.244.0.0/16", "--node-cidr-mask-size", BITS],
        )?
        else {
            return Ok(None);
        };
        let image = programs(fleet.topology().folder(), TALK, &[perl], &["sh"])?;
        fleet.import(&image)?;
        for node in ["node-1", "node-2"] {
            fleet.client().ok(&["label", "node", node, "talk=yes"]);
        }
        let number = CLIENTS.fetch_add(1, Ordering::Relaxed);
        let seconds = (SLEEP + std::process::id() * 10 + number).to_string();
        let command = ["sleep", &seconds];
        fleet.apply(&pod("client", "client", "node-1", PAGE, &command));
        for number in 1..PODS {
            let name = format!("filler-{number}");
            fleet.apply(&pod(&name, "filler", "node-2", PAGE, &["sleep", "86396"]));
        }
        fleet.apply(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "talk"},
            "spec": {"selector": {"app": "talk"}, "ports": [
                {"name": "tcp", "port": TCP},
                {"name": "udp", "port": UDP, "protocol": "UDP"},
            ]},
        }));
        fleet.apply(&daemon());
        // The fillers are no Deployment's, so they are known by their label alone.
        let fillers = ["get", "pods", "-l", "app=filler", "--no-headers"];
        eventually("the fillers to run", || {
            let table = fleet.client().ok(&fillers);
            Ok(table.lines().filter(|row| row.contains("Running")).count() == PODS - 1)
        })?;
        fleet.running("talk", 2)?;
        fleet.running("client", 1)?;
        let service = fleet.client().ok(&["get", "service", "talk", "-o", "json"]);
        let service: Value = serde_json::from_str(&service)?;
        let cluster_ip = service["spec"]["clusterIP"].as_str().context("its address")?;
        Ok(Some(Stage {
            inside: Inside::find(&command)?,
            cluster_ip: cluster_ip.parse()?,
            fleet,
        }))
    }

    fn daemon_on_second(&mut self) -> Result<Pod> {
        let mut pods = self.fleet.running("talk", 2)?;
        pods.remove("node-2").context("the daemon of node-2")
    }

    /// Holds conversations with a pod in every way that there is.
    fn hold(&self, pod: &Pod) -> Result<Held> {
        let direct: IpAddr = pod.address.parse()?;
        let (tcp, udp) = (
            SocketAddr::new(self.cluster_ip, TCP),
            SocketAddr::new(self.cluster_ip, UDP),
        );
        let node = self.fleet.nodes()[1].machine.address();
        let with = |open: &dyn Fn(&Inside) -> Result<Talk>| self.inside.with(&pod.name, open);
        Ok(Held {
            direct: with(&|inside| inside.connect(SocketAddr::new(direct, TCP)))?,
            led: with(&|inside| inside.connect(tcp))?,
            packets: with(&|inside| inside.send_to(udp))?,
            node_packets: with(&|inside| inside.send_to(SocketAddr::new(node.into(), UDP)))?,
        })
    }
}

/// Conversations that began with the old pod.
struct Held {
    /// TCP to its own address.
    direct: Talk,
    /// TCP to the Service.
    led: Talk,
    /// UDP to the Service.
    packets: Talk,
    /// UDP to the port of the node.
    node_packets: Talk,
}

impl Held {
    fn step(&mut self) {
        for talk in [
            &mut self.direct,
            &mut self.led,
            &mut self.packets,
            &mut self.node_packets,
        ] {
            talk.step();
        }
        thread::sleep(PAUSE);
    }

    /// Talks on until both streams have ended and `done` says so. The streams have heard nobody but `old`, and knew promptly that it was gone.
    fn until(&mut self, fault: &str, old: &str, mut done: impl FnMut(&Held) -> Result<bool>) -> Result<()> {
        let begin = Instant::now();
        wait_for("the old connections to end", || {
            for _ in 0..10 {
                self.step();
            }
            let ended = self.direct.ended.is_some() && self.led.ended.is_some();
            Ok(if ended && done(self)? {
                Ok(())
            } else {
                Err(format!(
                    "direct {:?}, led {:?}, packets {:?}, to the node {:?}",
                    self.direct.ended, self.led.ended, self.packets.heard, self.node_packets.heard
                ))
            })
        })?;
        for (way, talk) in [("its own address", &self.direct), ("the Service", &self.led)] {
            let (how, when) = talk.ended.clone().context("it ended")?;
            let silence = when.duration_since(talk.answered);
            report(&format!(
                "{fault}: TCP to {way}: {how}, {silence:?} after the last answer, {:?} after the fault",
                when.duration_since(begin)
            ));
            assert_eq!(talk.heard, BTreeSet::from([old.to_owned()]), "{way}");
            assert!(silence < PROMPT, "{way}: {silence:?}");
        }
        report(&format!(
            "{fault}: UDP to the Service heard {:?}, to the node's port {:?}",
            self.packets.heard, self.node_packets.heard
        ));
        Ok(())
    }
}

fn pod(name: &str, app: &str, node: &str, image: &str, command: &[&str]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [
            {"name": "main", "image": image, "command": command},
        ]},
    })
}

fn daemon() -> Value {
    let labels = json!({"app": "talk"});
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "talk"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                "nodeSelector": {"talk": "yes"},
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "main", "image": TALK, "command": ["sh", "-c", SERVE],
                    "ports": [{"containerPort": UDP, "hostPort": UDP, "protocol": "UDP"}],
                    "readinessProbe": {"tcpSocket": {"port": TCP}, "periodSeconds": 1},
                }],
            }},
        },
    })
}

#[test]
fn an_address_reused_by_a_new_pod_ends_the_connections_to_the_old_one() -> Result<()> {
    let Some(mut stage) = Stage::new()? else {
        return Ok(());
    };
    let old = stage.daemon_on_second()?;
    let mut held = stage.hold(&old)?;
    stage
        .fleet
        .client()
        .ok(&["delete", "pod", &old.name, "--wait=false"]);
    let not_old = |talk: &Talk| talk.speaker.as_deref() != Some(&*old.name);
    held.until("pod deleted", &old.name, |held| {
        Ok(not_old(&held.packets) && not_old(&held.node_packets))
    })?;
    let new = stage.daemon_on_second()?;
    assert_eq!(new.address, old.address, "the only one that is free");
    assert_ne!(new.name, old.name);

    // Without power nobody says that a connection has ended.
    let mut held = stage.hold(&new)?;
    stage.fleet.node(2).machine.kill()?;
    let delete = ["delete", "pod", &new.name, "--force", "--grace-period=0"];
    stage.fleet.client().ok(&delete);
    for _ in 0..50 {
        held.step();
    }
    stage.fleet.node(2).machine.boot()?;
    stage.fleet.node(2).resume()?;
    held.until("power failed, pod deleted", &new.name, |_| Ok(true))?;
    let last = stage.daemon_on_second()?;
    assert_ne!(last.name, new.name);
    stage.hold(&last)?;
    Ok(())
}

#[test]
fn an_address_reused_by_another_daemon_is_not_spoken_to_in_the_name_of_the_first() -> Result<()> {
    let Some(mut stage) = Stage::new()? else {
        return Ok(());
    };
    let mut pods = stage.fleet.running("talk", 2)?;
    let old = pods.remove("node-2").context("the daemon of node-2")?;
    let other = pods.remove("node-1").context("the daemon of node-1")?;
    let expected = BTreeSet::from([old.name.clone(), other.name.clone()]);
    let mut held = stage.hold(&old)?;
    // It waits for the address.
    let stranger = pod("stranger", "stranger", "node-2", TALK, &["sh", "-c", SERVE]);
    stage.fleet.apply(&stranger);
    let client = stage.fleet.client();
    client.ok(&["label", "node", "node-2", "talk-"]);
    held.until("another pod's address", &old.name, |held| {
        let stranger = client.ok(&["get", "pod", "stranger", "-o", "json"]);
        let stranger: Value = serde_json::from_str(&stranger)?;
        let stands = stranger["status"]["podIP"] == *old.address && stranger["status"]["phase"] == "Running";
        Ok(stands && held.packets.heard == expected)
    })?;
    // What still asks meets the stranger nowhere, however long: a second's worth of questions.
    for _ in 0..50 {
        held.step();
    }
    assert_eq!(held.packets.heard, expected);
    assert_eq!(held.node_packets.heard, BTreeSet::from([old.name]));
    Ok(())
}
