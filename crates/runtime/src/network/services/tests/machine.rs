//! A machine in its own network namespace: pods on a bridge, connected as the runtime does it, and
//! a neighbor on a veth. A namespace lives as long as its thread, so nothing has to be removed.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use super::super::Services;

/// Port on which pods serve.
pub(super) const POD_PORT: u16 = 8080;
/// A client that waits longer is assumed to wait forever.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Timeout of an answer, also on a busy machine.
const ANSWER: Duration = Duration::from_secs(60);

/// A network namespace and its thread.
pub(super) struct Place {
    /// The thread ends when this is dropped, and the namespace with it.
    _stay: mpsc::SyncSender<()>,
    thread: nix::unistd::Pid,
    address: IpAddr,
}

/// The server's name, and the client's address that it saw.
pub(super) struct Answer {
    pub(super) server: String,
    pub(super) client: IpAddr,
}

impl Place {
    fn new(address: IpAddr) -> Place {
        let (stay, left) = mpsc::sync_channel::<()>(1);
        let (tell, told) = mpsc::sync_channel(1);
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: the tests run as root");
            tell.send(nix::unistd::gettid()).expect("the test waits");
            left.recv().unwrap_err();
        });
        let thread = told.recv().expect("the thread stands");
        let place = Place {
            _stay: stay,
            thread,
            address,
        };
        place.ip("link set lo up");
        place
    }

    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// Runs a function in the namespace.
    pub(super) fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let (tell, told) = mpsc::sync_channel(1);
            let namespace =
                std::fs::File::open(format!("/proc/self/task/{}/ns/net", self.thread)).expect("it stands");
            scope.spawn(move || {
                nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter");
                tell.send(job()).expect("the test waits");
            });
            told.recv().expect("the job does not panic")
        })
    }

    fn ip(&self, words: &str) {
        let words: Vec<&str> = words.split(' ').collect();
        let done = self
            .run(|| Command::new("ip").args(&words).output())
            .expect("ip is installed");
        assert!(
            done.status.success(),
            "ip {words:?}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    /// Sends a request on a new connection, which must be answered.
    pub(super) fn ask(&self, to: impl Into<SocketAddr>) -> Answer {
        let to = to.into();
        let mut text = String::new();
        let stream = self.run(|| TcpStream::connect_timeout(&to, ANSWER));
        let mut stream = stream.unwrap_or_else(|error| panic!("connect to {to}: {error}"));
        stream.set_read_timeout(Some(ANSWER)).expect("a timeout");
        stream.write_all(b"once\n").expect("it listens");
        stream.read_to_string(&mut text).expect("an answer");
        let (server, client) = text.trim().split_once(' ').expect("two words");
        Answer {
            server: server.to_owned(),
            client: client.parse().expect("an address"),
        }
    }

    /// Returns how a connection fails: `refused` immediately, or by `waiting`.
    pub(super) fn fails(&self, to: impl Into<SocketAddr>) -> &'static str {
        let to = to.into();
        match self.run(|| TcpStream::connect_timeout(&to, PATIENCE)) {
            Ok(_) => "connected",
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => "refused",
            Err(error) if error.kind() == ErrorKind::TimedOut => "waiting",
            Err(error) => panic!("connect to {to}: {error}"),
        }
    }

    /// Opens a connection that stays open.
    pub(super) fn connect(&self, to: impl Into<SocketAddr>) -> Open {
        let to = to.into();
        let stream = self
            .run(|| TcpStream::connect_timeout(&to, ANSWER))
            .expect("somebody serves");
        stream.set_read_timeout(Some(ANSWER)).expect("a timeout");
        Open(BufReader::new(stream))
    }

    /// Opens a socket that sends all its datagrams to one address.
    pub(super) fn udp(&self, to: impl Into<SocketAddr>) -> Datagrams {
        let to = to.into();
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = self.run(|| UdpSocket::bind(any)).expect("a socket");
        socket.connect(to).expect("an address");
        socket.set_read_timeout(Some(ANSWER)).expect("a timeout");
        Datagrams(socket)
    }

    /// Serves TCP and UDP at [`POD_PORT`] with a name until the test ends.
    fn serve(&self, name: String) {
        self.run(|| {
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, POD_PORT)).expect("the port is free");
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, POD_PORT)).expect("the port is free");
            let udp_name = name.clone();
            thread::spawn(move || {
                let mut datagram = [0; 16];
                while let Ok((_, from)) = socket.recv_from(&mut datagram) {
                    socket
                        .send_to(udp_name.as_bytes(), from)
                        .expect("it can be answered");
                }
            });
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let name = name.clone();
                    thread::spawn(move || answer(stream, &name));
                }
            });
        });
    }
}

/// Answers `once` with its name and the client's address, and ends. Answers other lines with its
/// name.
fn answer(stream: TcpStream, name: &str) {
    let client = stream.peer_addr().expect("it is connected").ip().to_canonical();
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
        let once = line == "once\n";
        let words = if once {
            format!("{name} {client}\n")
        } else {
            format!("{name}\n")
        };
        if lines.get_mut().write_all(words.as_bytes()).is_err() || once {
            return;
        }
        line.clear();
    }
}

pub(super) struct Open(BufReader<TcpStream>);

impl Open {
    pub(super) fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.get_mut().write_all(b"again\n").expect("it is open");
        self.0.read_line(&mut line).expect("an answer");
        line.trim().to_owned()
    }
}

pub(super) struct Datagrams(UdpSocket);

impl Datagrams {
    pub(super) fn ask(&self) -> String {
        let mut answer = [0; 64];
        self.0.send(b"who").expect("it is sent");
        let length = self.0.recv(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }
}

/// The machine 192.0.2.1 with pods 10.1.0.10, 10.1.0.11, … (fd00:1::10, …), and the neighbor
/// 192.0.2.9.
pub(super) struct Machine {
    host: Place,
    neighbour: Place,
    pods: Vec<Place>,
}

impl Machine {
    pub(super) fn new(pods: u8) -> Machine {
        let host = Place::new([192, 0, 2, 1].into());
        let neighbour = Place::new([192, 0, 2, 9].into());
        for (file, value) in [
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv4/conf/all/send_redirects", "0"),
            ("ipv4/conf/default/send_redirects", "0"),
        ] {
            host.run(|| std::fs::write(format!("/proc/sys/net/{file}"), value))
                .expect("root may");
        }
        host.ip("link add pods-test type bridge");
        host.ip("addr add 10.1.0.1/24 dev pods-test");
        host.ip("-6 addr add fd00:1::1/64 dev pods-test nodad");
        host.ip("link set pods-test up");
        host.ip(&format!(
            "link add eth0 type veth peer name eth0 netns {}",
            neighbour.thread
        ));
        host.ip("addr add 192.0.2.1/24 dev eth0");
        host.ip("-6 addr add fd00:2::1/64 dev eth0 nodad");
        host.ip("link set eth0 up");
        neighbour.ip("addr add 192.0.2.9/24 dev eth0");
        neighbour.ip("-6 addr add fd00:2::9/64 dev eth0 nodad");
        neighbour.ip("link set eth0 up");
        neighbour.ip("route add default via 192.0.2.1");
        neighbour.ip("-6 route add default via fd00:2::1");
        host.ip("route add default via 192.0.2.9");
        host.ip("-6 route add default via fd00:2::9");
        let pods = (0..pods).map(|n| Self::new_pod(&host, n)).collect();
        Machine {
            host,
            neighbour,
            pods,
        }
    }

    /// Creates a pod as the runtime does: alone in its network, so that all its packets pass the
    /// machine.
    fn new_pod(host: &Place, number: u8) -> Place {
        let pod = Place::new([10, 1, 0, 10 + number].into());
        host.ip(&format!(
            "link add pod{number} type veth peer name eth0 netns {}",
            pod.thread
        ));
        host.ip(&format!("link set pod{number} master pods-test up"));
        // If the bridge filters packets, those of a pod to itself leave by the port that they came
        // from.
        host.ip(&format!("link set pod{number} type bridge_slave hairpin on"));
        pod.ip(&format!("addr add 10.1.0.{}/32 dev eth0", 10 + number));
        pod.ip(&format!("-6 addr add fd00:1::{}/128 dev eth0 nodad", 10 + number));
        pod.ip("link set eth0 up");
        pod.ip("route add 10.1.0.1 dev eth0 scope link");
        pod.ip("route add default via 10.1.0.1");
        pod.ip("-6 route add fd00:1::1 dev eth0");
        pod.ip("-6 route add default via fd00:1::1");
        pod.serve(format!("pod-{number}"));
        pod
    }

    /// Returns the writer of this machine's rules, which has written none yet.
    pub(super) fn services(&self) -> Services {
        Services::new("everynode-test", "pods-test", super::super::Plugged::default())
    }

    /// Runs a function on the machine.
    pub(super) fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        self.host.run(job)
    }

    pub(super) fn host(&self) -> &Place {
        &self.host
    }

    pub(super) fn pod(&self, number: usize) -> &Place {
        &self.pods[number]
    }

    pub(super) fn neighbour(&self) -> &Place {
        &self.neighbour
    }

    pub(super) fn address(&self) -> IpAddr {
        self.host.address
    }

    pub(super) fn gateway(&self) -> IpAddr {
        [10, 1, 0, 1].into()
    }

    /// Returns the IPv6 addresses of the machine, of the bridge and of the neighbor.
    pub(super) fn ipv6(&self) -> [IpAddr; 3] {
        ["fd00:2::1", "fd00:1::1", "fd00:2::9"].map(|address| address.parse().expect("an address"))
    }

    pub(super) fn endpoint(&self, pod: usize) -> SocketAddr {
        (self.pods[pod].address, POD_PORT).into()
    }

    pub(super) fn endpoint_v6(&self, pod: usize) -> SocketAddr {
        format!("[fd00:1::{}]:{POD_PORT}", 10 + pod)
            .parse()
            .expect("an address")
    }
}
