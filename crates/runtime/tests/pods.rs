//! Tests of pods: their network, execs, restarts of the agent, and complete removal.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{Machine, PATIENCE, eventually, exec, kind, on_reactor, pid, shim_of};
use runtime::{ErrorKind, Event, ExecSpec, HostPort, Pod, Protocol, SandboxSpec, TerminalSize};

const SLEEP: &str = "echo up; trap 'exit 0' TERM; while true; do sleep 0.05; done";

/// Starts a container that runs until it is stopped.
fn sleeper(machine: &Machine, pod: &Pod) -> runtime::ContainerStatus {
    let spec = machine.shell(SLEEP, |_| {});
    let status = pod.start_container(&spec).unwrap();
    eventually("it is up", || machine.log(&spec.id).contains("up"));
    status
}

fn web_server(machine: &Machine, pod: &Pod) {
    let spec = machine.shell("", |spec| {
        spec.command = ["httpd", "-f", "-p", "80", "-h", "/srv"].map(String::from).into();
    });
    pod.start_container(&spec).unwrap();
}

fn get(address: IpAddr, port: u16) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&(address, port).into(), Duration::from_secs(2)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn serves(address: IpAddr, port: u16) {
    eventually(&format!("http://{address}:{port} answers"), || {
        get(address, port).is_some_and(|text| text.contains("hello from the pod"))
    });
}

/// Returns an address of this machine other than loopback. Sends nothing.
fn machine_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").unwrap();
    socket.local_addr().unwrap().ip()
}

fn with_host_port(id: &str, host_port: u16) -> SandboxSpec {
    SandboxSpec {
        id: id.into(),
        hostname: Some(id.into()),
        host_ports: vec![HostPort {
            protocol: Protocol::Tcp,
            host_ip: None,
            host_port,
            container_port: 80,
        }],
        ..SandboxSpec::default()
    }
}

#[test]
fn pods_reach_each_other_and_are_reached_by_host_ports() {
    let machine = Machine::new();
    let port = testkit::free_port().unwrap();
    let server = machine.pod_of(with_host_port("server", port));
    web_server(&machine, &server);
    let address = server.network().unwrap().addresses[0].address;
    serves(address, 80);
    serves("127.0.0.1".parse().unwrap(), port);
    serves(machine_address(), port);
    let client = machine.pod("client");
    assert_ne!(client.network().unwrap().addresses[0].address, address);
    let node = machine_address();
    let (log, _) = machine.run(
        &client,
        &format!("wget -q -O - http://{address}/; wget -q -O - http://{node}:{port}/"),
        |_| {},
    );
    assert_eq!(log, "hello from the pod\nhello from the pod\n");
    // A second pod cannot get the port. Its failure does not affect the first pod's port.
    let (error, message) = kind(machine.runtime().create_pod(&with_host_port("rival", port)));
    assert_eq!(error, ErrorKind::Machine);
    assert!(message.contains(&format!("{port}/tcp")), "{message}");
    assert!(machine.runtime().pod("rival").is_none());
    serves("127.0.0.1".parse().unwrap(), port);
    machine.runtime().remove_pod("server").unwrap();
    assert!(get("127.0.0.1".parse().unwrap(), port).is_none());
    machine.pod_of(with_host_port("heir", port));
}

#[test]
fn a_pod_on_the_hosts_network_has_no_address_of_its_own() {
    let machine = Machine::new();
    let pod = machine.pod_of(SandboxSpec {
        id: "p".into(),
        host_network: true,
        host_pid: true,
        ..SandboxSpec::default()
    });
    assert!(pod.network().is_none());
    let own = std::process::id();
    let (log, _) = machine.run(
        &pod,
        &format!("ls -d /proc/{own} /sys/class/net/{}", bridge(&machine)),
        |_| {},
    );
    assert_eq!(log, format!("/proc/{own}\n/sys/class/net/{}\n", bridge(&machine)));
    // Without a PID namespace, the remaining processes of a container must be killed one by one.
    let (_, status) = machine.run(&pod, "sleep 1000 & echo $!", |_| {});
    let left = machine.log(&status.id).trim().to_owned();
    assert!(
        !Path::new(&format!("/proc/{left}")).exists(),
        "process {left} is left"
    );
}

#[test]
fn an_exec_has_its_own_streams_and_exit_code() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let container = sleeper(&machine, &pod).id;
    assert_eq!(
        exec(
            &pod,
            &container,
            &["sh", "-c", "echo $FROM_IMAGE; hostname; exit 5"]
        ),
        ("1\np\n".into(), 5)
    );
    let spec = ExecSpec {
        command: ["sh", "-c", "cat; echo done >&2"].map(String::from).into(),
        stdin: true,
        stdout: true,
        stderr: true,
        ..ExecSpec::default()
    };
    let process = pod.exec(&container, &spec).unwrap();
    on_reactor(async {
        let input = process.stdin().unwrap().unwrap();
        assert_eq!(input.write(b"through\n").await.unwrap(), 8);
        drop(input);
        let (mut output, mut errors) = ([0; 100], [0; 100]);
        let stdout = process.stdout().unwrap().unwrap();
        let read = stdout.read(&mut output).await.unwrap();
        assert_eq!(&output[..read], b"through\n");
        let stderr = process.stderr().unwrap().unwrap();
        let read = stderr.read(&mut errors).await.unwrap();
        assert_eq!(&errors[..read], b"done\n");
        assert_eq!(process.wait().await.unwrap(), 0);
    });
    let spec = ExecSpec {
        command: vec!["nosuch".into()],
        ..ExecSpec::default()
    };
    let (error, message) = kind(pod.exec(&container, &spec));
    assert_eq!(error, ErrorKind::StartFailed);
    assert!(
        message.contains(r#"exec: "nosuch": executable file not found in $PATH"#),
        "{message}"
    );
    let spec = ExecSpec {
        command: ["sleep", "1000"].map(String::from).into(),
        ..ExecSpec::default()
    };
    let process = pod.exec(&container, &spec).unwrap();
    process.signal(9).unwrap();
    assert_eq!(on_reactor(process.wait()).unwrap(), 137);
}

/// Returns whether a process with this number as its argument still runs on this machine.
fn runs(number: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let words = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    words
        .filter_map(|words| String::from_utf8(words).ok())
        .any(|words| words.starts_with("sleep\0") && words.contains(number))
}

/// Returns a command that leaves the process `number`, double-forked and in its own session, and
/// then does `rest`.
fn leaving(number: &str, rest: &str) -> ExecSpec {
    let script = format!("(setsid sleep {number} &); sleep {number} & {rest}");
    ExecSpec {
        command: ["sh".into(), "-c".into(), script].into(),
        stdout: true,
        stderr: true,
        ..ExecSpec::default()
    }
}

#[test]
fn an_exec_out_of_time_ends_with_all_that_it_started() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let container = sleeper(&machine, &pod).id;
    let number = "770001";
    let process = pod
        .exec(&container, &leaving(number, "echo begun; wait"))
        .unwrap();
    let finished = on_reactor(process.finish(Duration::from_secs(1), 100)).unwrap();
    assert_eq!(finished.code, None);
    assert_eq!(finished.output, b"begun\n");
    eventually("all that it started has ended", || !runs(number));
    assert_eq!(
        exec(&pod, &container, &["sh", "-c", "echo fine"]),
        ("fine\n".into(), 0)
    );
}

#[test]
fn an_exec_whose_caller_leaves_ends_with_all_that_it_started() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let container = sleeper(&machine, &pod).id;
    let number = "770002";
    let process = pod.exec(&container, &leaving(number, "wait")).unwrap();
    eventually("it has begun", || runs(number));
    drop(process);
    eventually("all that it started has ended", || !runs(number));
}

#[test]
fn an_exec_ends_with_its_first_process_and_leaves_the_rest() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let container = sleeper(&machine, &pod).id;
    let number = "770003";
    let process = pod
        .exec(&container, &leaving(number, "echo started; exit 3"))
        .unwrap();
    let began = std::time::Instant::now();
    let finished = on_reactor(process.finish(PATIENCE, 100)).unwrap();
    assert!(
        began.elapsed() < PATIENCE,
        "the pipe that is held open is not waited for"
    );
    assert_eq!((finished.code, &*finished.output), (Some(3), &b"started\n"[..]));
    assert!(runs(number), "a daemon that was started runs on");
    pod.stop_container(&container, Duration::ZERO).unwrap();
    pod.wait_container(&container, PATIENCE).unwrap();
    eventually("it ends with its container", || !runs(number));
}

#[test]
fn an_exec_in_a_container_that_ends_says_so() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    // The first process waits for the end of the others after it has left its namespaces.
    let script = "for i in $(seq 300); do sleep 770004 & done; echo up; wait";
    let spec = machine.shell(script, |_| {});
    let status = pod.start_container(&spec).unwrap();
    eventually("it is up", || machine.log(&spec.id).contains("up"));
    let command = ExecSpec {
        command: ["sh", "-c", ":"].map(String::from).into(),
        ..ExecSpec::default()
    };
    Command::new("kill")
        .args(["-KILL", &pid(&status).to_string()])
        .status()
        .unwrap();
    loop {
        match pod.exec(&spec.id, &command) {
            Ok(_) => {}
            refused => {
                let message = format!("container {} is not running", spec.id);
                assert_eq!(kind(refused), (ErrorKind::NotRunning, message));
                break;
            }
        }
    }
}

#[test]
fn the_output_of_an_exec_is_kept_up_to_a_bound() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let container = sleeper(&machine, &pod).id;
    let spec = ExecSpec {
        command: ["sh", "-c", "yes | head -c 9000000; exit 4"]
            .map(String::from)
            .into(),
        stdout: true,
        ..ExecSpec::default()
    };
    let process = pod.exec(&container, &spec).unwrap();
    let finished = on_reactor(process.finish(PATIENCE, 10)).unwrap();
    assert_eq!(
        (finished.code, &*finished.output),
        (Some(4), &b"y\ny\ny\ny\ny\n"[..])
    );
}

#[test]
fn a_pod_whose_shim_hangs_is_removed() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let status = sleeper(&machine, &pod);
    let first = pid(&status);
    let shim = fs::read_to_string(format!("/proc/{first}/stat")).unwrap();
    let (_, fields) = shim.rsplit_once(") ").unwrap();
    let parent = fields.split(' ').nth(1).unwrap();
    Command::new("kill").args(["-STOP", parent]).status().unwrap();
    machine.runtime().remove_pod("p").unwrap();
    for pid in [&*first.to_string(), parent] {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "it lives: {stat}");
    }
}

#[test]
fn an_exec_is_confined_as_its_container() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    for (user, no_new_privileges) in [("0", false), ("33", false), ("33", true)] {
        let spec = machine.shell(SLEEP, |spec| {
            spec.security.user = Some(user.into());
            spec.security.no_new_privileges = no_new_privileges;
            spec.security.seccomp = runtime::Seccomp::RuntimeDefault;
        });
        pod.start_container(&spec).unwrap();
        eventually("it is up", || machine.log(&spec.id).contains("up"));
        let facts = "Uid|Cap(Prm|Eff|Bnd)|NoNewPrivs|Seccomp:";
        let ours = exec(&pod, &spec.id, &["grep", "-E", facts, "/proc/self/status"]).0;
        let first = exec(&pod, &spec.id, &["grep", "-E", facts, "/proc/1/status"]).0;
        assert_eq!(ours, first);
        assert!(ours.contains("Seccomp:\t2"), "{ours}");
    }
}

#[test]
fn one_agent_a_data_directory() {
    let machine = Machine::new();
    let second = runtime::Runtime::open(machine.folder.path(), runtime::Options::default());
    assert_eq!(second.err().unwrap().kind, ErrorKind::InUse);
}

#[test]
fn an_exec_may_have_a_terminal_of_the_size_one_says() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let container = sleeper(&machine, &pod).id;
    let spec = ExecSpec {
        command: ["sh", "-c", "read line; stty size; echo got $line"]
            .map(String::from)
            .into(),
        tty: true,
        stdin: true,
        ..ExecSpec::default()
    };
    let process = pod.exec(&container, &spec).unwrap();
    process
        .resize(TerminalSize {
            width: 132,
            height: 43,
        })
        .unwrap();
    let finished = on_reactor(async {
        let input = process.stdin().unwrap().unwrap();
        assert_eq!(input.write(b"word\n").await.unwrap(), 5);
        process.finish(PATIENCE, 1000).await.unwrap()
    });
    let text = String::from_utf8(finished.output).unwrap();
    assert!(
        text.contains("43 132\r\n") && text.contains("got word\r\n"),
        "{text:?}"
    );
    assert_eq!(finished.code, Some(0));
}

#[test]
fn a_container_may_have_a_terminal() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let (log, status) = machine.run(&pod, "test -t 1 && echo terminal $TERM", |spec| spec.tty = true);
    assert_eq!(log, "terminal xterm\n");
    assert_eq!(common::exit_code(&status), 0);
}

#[test]
fn another_agent_finds_the_pods_as_they_were() {
    let mut machine = Machine::new();
    let port = testkit::free_port().unwrap();
    let pod = machine.pod_of(SandboxSpec {
        annotations: [("name".to_owned(), "fluentd".to_owned())].into(),
        ..with_host_port("p", port)
    });
    web_server(&machine, &pod);
    let before = sleeper(&machine, &pod);
    machine.restart();
    let adopted = machine.runtime().pod("p").unwrap();
    assert_eq!(adopted.annotations()["name"], "fluentd");
    assert_eq!(adopted.network(), pod.network());
    let after = adopted.container(&before.id).unwrap().unwrap();
    assert_eq!(pid(&after), pid(&before));
    serves("127.0.0.1".parse().unwrap(), port);
    assert_eq!(exec(&adopted, &before.id, &["sh", "-c", "echo here"]).0, "here\n");
    // Events report the current state first, then the changes.
    adopted
        .stop_container(&before.id, Duration::from_secs(30))
        .unwrap();
    let mut states = Vec::new();
    while let Some(event) = machine.events.blocking_recv() {
        if let Event::Container { status, .. } = event
            && status.id == before.id
        {
            states.push(status.state.is_running());
            if !status.state.is_running() {
                break;
            }
        }
    }
    assert_eq!(states, [true, false]);
}

#[test]
fn a_pod_whose_shim_dies_is_told_and_what_it_left_is_removed() {
    let mut machine = Machine::new();
    let pod = machine.pod("p");
    let container = sleeper(&machine, &pod);
    let shim = shim_of(&container);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(shim),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    loop {
        match machine.events.blocking_recv().unwrap() {
            Event::PodGone { pod } => break assert_eq!(pod, "p"),
            Event::Container { .. } => {}
        }
    }
    assert!(machine.runtime().pods().is_empty());
    machine.runtime().remove_pod("p").unwrap();
    assert!(ended(pid(&container)));
    let again = machine.pod("p");
    // The same if the shim ends while no agent runs.
    let container = sleeper(&machine, &again);
    let shim = shim_of(&container);
    machine.runtime = None;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(shim),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    eventually("the shim is gone", || {
        fs::read_to_string(format!("/proc/{shim}/cmdline"))
            .unwrap_or_default()
            .is_empty()
    });
    machine.restart();
    assert!(machine.runtime().pods().is_empty());
    assert!(ended(pid(&container)));
    assert_nothing_of_pods(&machine);
}

/// Returns whether a process does not exist or is a zombie.
fn ended(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn two_instances_live_side_by_side() {
    let (one, two) = (Machine::new(), Machine::new());
    assert_ne!(one.runtime().name(), two.runtime().name());
    let (first, second) = (one.pod("p"), two.pod("p"));
    web_server(&one, &first);
    web_server(&two, &second);
    serves(first.network().unwrap().addresses[0].address, 80);
    one.runtime().clean_up().unwrap();
    serves(second.network().unwrap().addresses[0].address, 80);
}

#[test]
fn nothing_is_left_of_a_pod_nor_of_an_instance() {
    let machine = Machine::new();
    let pod = machine.pod_of(SandboxSpec {
        cgroup_parent: "burstable/podx".into(),
        ..with_host_port("p", testkit::free_port().unwrap())
    });
    let container = sleeper(&machine, &pod);
    let shim = shim_of(&container);
    assert!(!cgroups(&machine, "kubepods/burstable").is_empty());
    let namespace = format!("/proc/{shim}/ns/net");
    // While it is open here, its number is not used for the pod of another test.
    let held = fs::File::open(&namespace).unwrap();
    let namespace = fs::read_link(&namespace).unwrap();
    assert!(network_namespaces().contains(&namespace));
    machine.runtime().remove_pod("p").unwrap();
    assert!(ended(pid(&container)) && ended(shim));
    assert_nothing_of_pods(&machine);
    assert!(!network_namespaces().contains(&namespace));
    drop(held);
    machine.pod("another");
    let (bridge, name) = (bridge(&machine), machine.runtime().name());
    machine.runtime().clean_up().unwrap();
    machine.runtime().clean_up().unwrap();
    assert!(!Path::new("/sys/class/net").join(bridge).exists());
    assert!(cgroups(&machine, "").is_empty());
    assert!(!mounts().contains(machine.folder.path().to_str().unwrap()));
    assert!(!nft().contains(&name));
}

fn assert_nothing_of_pods(machine: &Machine) {
    let folder = machine.folder.path();
    assert_eq!(fs::read_dir(folder.join("run/pods")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(folder.join("run/addresses")).unwrap().count(), 0);
    // The run folder itself stays mounted.
    assert_eq!(
        mounts().matches(folder.to_str().unwrap()).count(),
        1,
        "{}",
        mounts()
    );
    assert_eq!(cgroups(machine, "kubepods/burstable"), Vec::<String>::new());
    assert_eq!(cgroups(machine, "kubepods/podp"), Vec::<String>::new());
    let cables = fs::read_dir(format!("/sys/class/net/{}/brif", bridge(machine)))
        .unwrap()
        .count();
    assert_eq!(cables, 0);
    // Instances of other tests have their own tables.
    let (rules, name) = (nft(), machine.runtime().name());
    let table = rules.split("table inet ").find(|table| table.starts_with(&name));
    assert!(
        table.is_some_and(|table| !table.contains("dnat ip to 10.198")),
        "{rules}"
    );
}

fn bridge(machine: &Machine) -> String {
    machine.runtime().name().replace("everynode-", "pods-")
}

fn mounts() -> String {
    let findmnt = Command::new("findmnt")
        .args(["-rn", "-o", "TARGET"])
        .output()
        .unwrap();
    String::from_utf8(findmnt.stdout).unwrap()
}

fn nft() -> String {
    let nft = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    String::from_utf8(nft.stdout).unwrap()
}

/// Returns the folders of this instance in the cgroup trees.
fn cgroups(machine: &Machine, below: &str) -> Vec<String> {
    let roots = fs::read_dir("/sys/fs/cgroup")
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    roots
        .chain(["/sys/fs/cgroup".into()])
        .map(|root| root.join(machine.runtime().name()).join(below))
        .filter(|folder| folder.exists())
        .map(|folder| folder.display().to_string())
        .collect()
}

/// Returns the network namespaces of all processes.
fn network_namespaces() -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| fs::read_link(entry.path().join("ns/net")).ok())
        .collect()
}

/// A measurement: `cargo test -p runtime --release --test pods -- --nocapture starting`. The bound
/// fits a debug build on a slow and busy machine. It detects waits for an event that never comes,
/// which take longer.
#[test]
fn starting_a_pod_takes_little_time() {
    let machine = Machine::new();
    let mut best = [Duration::MAX; 3];
    for round in 0..5 {
        let id = format!("p{round}");
        let started = std::time::Instant::now();
        let pod = machine.pod(&id);
        let sandbox = started.elapsed();
        let spec = machine.shell("exec sleep 1000", |_| {});
        pod.start_container(&spec).unwrap();
        let container = started.elapsed() - sandbox;
        let started = std::time::Instant::now();
        machine.runtime().remove_pod(&id).unwrap();
        for (best, this) in best.iter_mut().zip([sandbox, container, started.elapsed()]) {
            *best = this.min(*best);
        }
    }
    let [sandbox, container, removal] = best;
    writeln!(
        std::io::stderr(),
        "sandbox {sandbox:?}, container {container:?}, removal {removal:?}"
    )
    .unwrap();
    assert!(sandbox + container < Duration::from_secs(5), "{best:?}");
}

#[test]
fn pods_reach_a_redirected_address_on_loopback_and_nothing_else_there() {
    let listeners = [0, 1].map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [told, other] = [0, 1].map(|index: usize| listeners[index].local_addr().unwrap().port());
    let machine = Machine::with(vec![runtime::Redirect {
        protocol: runtime::Protocol::Tcp,
        from: "10.96.0.1:443".parse().unwrap(),
        to: runtime::RedirectTo::Address(format!("127.0.0.1:{told}").parse().unwrap()),
    }]);
    for listener in listeners {
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                stream.unwrap().write_all(b"hello\n").unwrap();
            }
        });
    }
    let pod = machine.pod("p");
    let gateway = pod.network().unwrap().addresses[0].gateway.unwrap();
    let script = format!(
        "nc 10.96.0.1 443 </dev/null; busybox ip route add 127.9.9.9 via {gateway}
        for to in '{gateway} {other}' '{gateway} {told}' '127.9.9.9 {other}'; do
        nc -w 1 $to </dev/null && echo reached $to; done; true"
    );
    let (log, _) = machine.run(&pod, &script, |spec| {
        spec.security.add_capabilities = vec!["NET_ADMIN".into()];
    });
    assert!(log.contains("hello") && !log.contains("reached"), "{log}");
}

#[test]
fn a_pod_range_that_is_in_use_is_refused() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let taken = format!("{}/24", pod.network().unwrap().addresses[0].gateway.unwrap());
    let folder = tempfile::tempdir().unwrap();
    let options = runtime::Options {
        network: Some(common::network(&[&taken])),
        ..runtime::Options::default()
    };
    let (kind, message) = kind(runtime::Runtime::open(folder.path(), options).map(drop));
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(message.contains("interface pods-"), "{message}");
    assert!(!mounts().contains(folder.path().to_str().unwrap()));
}
