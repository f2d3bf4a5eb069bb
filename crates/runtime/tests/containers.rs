//! Tests of containers: what a program sees, how it ends, and what is reported about it.

mod common;

use std::time::{Duration, Instant};

use common::{Machine, PATIENCE, exit_code, kind};
use runtime::{ContainerState, ErrorKind};

#[test]
fn a_program_runs_to_its_exit_code_and_its_output_is_kept() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let (log, status) = machine.run(&pod, "echo out; echo err >&2; exit 3", |_| {});
    assert_eq!(exit_code(&status), 3);
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["err", "out"]);
    let ContainerState::Exited {
        signal,
        oom_killed,
        started_at,
        finished_at,
        ..
    } = status.state
    else {
        panic!()
    };
    assert_eq!((signal, oom_killed), (None, false));
    assert!(started_at <= finished_at);
}

#[test]
fn the_environment_is_the_images_then_the_pods() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let (log, _) = machine.run(
        &pod,
        "echo $FROM_IMAGE $HOME $HOSTNAME $A $PATH; pwd; hostname",
        |spec| {
            spec.env = vec![("A".into(), "b c".into()), ("FROM_IMAGE".into(), "2".into())];
            spec.working_dir = Some("/made/here".into());
        },
    );
    assert_eq!(log, "2 /root p b c /bin\n/made/here\np\n");
}

#[test]
fn users_groups_and_capabilities_are_as_asked() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let script =
        "id -u; id -g; id -G; grep -E 'Cap(Eff|Bnd)|NoNewPrivs|Seccomp:' /proc/self/status; echo $HOME";
    let (log, _) = machine.run(&pod, script, |spec| {
        spec.security.user = Some("web".into());
        spec.security.supplementary_groups = vec![77];
        spec.security.no_new_privileges = true;
        spec.security.drop_capabilities = vec!["ALL".into()];
        spec.security.add_capabilities = vec!["NET_BIND_SERVICE".into()];
        spec.security.seccomp = runtime::Seccomp::RuntimeDefault;
    });
    assert_eq!(
        log,
        "33\n34\n34 4 77\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000400\nNoNewPrivs:\t1\nSeccomp:\t2\n/srv\n"
    );
    let (log, _) = machine.run(&pod, script, |_| {});
    assert!(log.starts_with("0\n0\n0\nCapEff:\t00000000a80425fb\n"), "{log}");
    let (log, _) = machine.run(
        &pod,
        "grep CapEff /proc/self/status; ls /dev/vda /dev/loop0 2>/dev/null | grep -c /dev",
        |spec| {
            spec.security.privileged = true;
        },
    );
    assert!(
        log.starts_with("CapEff:\t000001fffeffffff\n") || log.starts_with("CapEff:\t000001ff"),
        "{log}"
    );
}

#[test]
fn the_default_filter_lets_programs_run_and_keeps_them_from_the_kernel() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let script = "mount -t tmpfs x /tmp 2>&1; ls / >/dev/null && sleep 0 && echo fine";
    let (log, _) = machine.run(&pod, script, |spec| {
        spec.security.seccomp = runtime::Seccomp::RuntimeDefault;
    });
    assert!(log.contains("not permitted") || log.contains("denied"), "{log}");
    assert!(log.ends_with("fine\n"), "{log}");
}

#[test]
fn the_root_file_system_may_be_read_only_and_mounts_may_not() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let folder = machine.folder.path().join("volume");
    std::fs::create_dir(&folder).unwrap();
    let mount = |target: &str, read_only| runtime::Mount {
        name: "v".into(),
        target: target.into(),
        source: folder.clone(),
        read_only,
        ..runtime::Mount::default()
    };
    let script = "echo a > /x; echo b > /rw/f; echo c > /ro/f; cat /ro/f; pwd; true";
    let (log, status) = machine.run(&pod, script, |spec| {
        spec.security.read_only_root = true;
        spec.mounts = vec![mount("/rw", false), mount("/ro", true)];
        spec.working_dir = Some("/rw/made".into());
    });
    assert_eq!(exit_code(&status), 0);
    assert_eq!(log.matches("Read-only file system").count(), 2, "{log}");
    // The lines of the two streams may be in any order.
    assert!(
        ["b", "/rw/made"]
            .iter()
            .all(|line| log.lines().any(|said| said == *line)),
        "{log}"
    );
    assert_eq!(std::fs::read_to_string(folder.join("f")).unwrap(), "b\n");
}

#[test]
fn a_container_that_takes_too_much_memory_is_killed_and_the_status_says_so() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let (_, status) = machine.run(&pod, "exec tail /dev/zero", |spec| {
        spec.resources.memory_limit = Some(16 << 20);
    });
    let ContainerState::Exited {
        exit_code,
        signal,
        oom_killed,
        ..
    } = status.state
    else {
        panic!()
    };
    assert_eq!((exit_code, signal, oom_killed), (137, Some(9), true));
}

#[test]
fn limits_reach_the_containers_cgroup() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let (log, status) = machine.run(
        &pod,
        "cd /proc/1; for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; true",
        |spec| {
            spec.resources.pids_limit = Some(4);
            spec.resources.cpu_quota = Some(50_000);
            spec.resources.cpu_shares = Some(102);
        },
    );
    assert!(log.contains("can't fork"), "{log}");
    assert!(
        status
            .cgroup
            .starts_with(&format!("/{}/kubepods/podp/", machine.runtime().name())),
        "{}",
        status.cgroup
    );
}

#[test]
fn a_stopped_container_gets_its_signal_then_its_grace_then_is_killed() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let polite = machine.shell(
        "trap 'echo bye; exit 7' TERM; echo up; while true; do sleep 0.05; done",
        |_| {},
    );
    let deaf = machine.shell("trap '' TERM; echo up; while true; do sleep 0.05; done", |_| {});
    for spec in [&polite, &deaf] {
        pod.start_container(spec).unwrap();
        common::eventually("it is up", || machine.log(&spec.id).contains("up"));
    }
    let started = Instant::now();
    pod.stop_container(&polite.id, Duration::from_secs(30)).unwrap();
    pod.stop_container(&deaf.id, Duration::from_millis(300)).unwrap();
    let status = pod.wait_container(&polite.id, PATIENCE).unwrap().unwrap();
    assert_eq!(exit_code(&status), 7);
    assert_eq!(machine.log(&polite.id), "up\nbye\n");
    let status = pod.wait_container(&deaf.id, PATIENCE).unwrap().unwrap();
    assert_eq!(exit_code(&status), 137);
    assert!(started.elapsed() >= Duration::from_millis(300));
    // Stopping and removing an ended container succeeds.
    pod.stop_container(&deaf.id, Duration::ZERO).unwrap();
    pod.remove_container(&deaf.id).unwrap();
    pod.remove_container(&deaf.id).unwrap();
    assert_eq!(pod.containers().unwrap().len(), 1);
}

#[test]
fn what_cannot_start_says_why_and_leaves_nothing() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let start = |command: &[&str]| {
        let spec = machine.shell("", |spec| {
            spec.command = command.iter().map(|word| (*word).to_owned()).collect()
        });
        kind(pod.start_container(&spec))
    };
    let (error, message) = start(&["nosuch"]);
    assert_eq!(error, ErrorKind::StartFailed);
    assert!(
        message.contains(r#"exec: "nosuch": executable file not found in $PATH"#),
        "{message}"
    );
    let (_, message) = start(&["/no/such"]);
    assert!(
        message.contains(r#"exec: "/no/such": stat /no/such: no such file or directory"#),
        "{message}"
    );
    let (_, message) = start(&["/etc/passwd"]);
    assert!(
        message.contains(r#"exec: "/etc/passwd": permission denied"#),
        "{message}"
    );
    let (_, message) = start(&["/bin/broken"]);
    assert!(
        message.contains("exec /bin/broken: exec format error"),
        "{message}"
    );
    let spec = machine.shell("true", |spec| spec.security.user = Some("nobody".into()));
    assert_eq!(kind(pod.start_container(&spec)).0, ErrorKind::StartFailed);
    let spec = machine.shell("true", |spec| spec.security.run_as_non_root = true);
    assert_eq!(kind(pod.start_container(&spec)).0, ErrorKind::RunAsNonRoot);
    let spec = machine.shell("true", |spec| spec.image = "nosuch".into());
    assert_eq!(kind(pod.start_container(&spec)).0, ErrorKind::NotFound);
    assert!(pod.containers().unwrap().is_empty());
    let (_, status) = machine.run(&pod, "exit 0", |_| {});
    assert_eq!(exit_code(&status), 0);
}

#[test]
fn containers_of_a_pod_share_names_and_memory_but_not_processes() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let first = machine.shell(
        "echo shared > /dev/shm/f; echo up; while true; do sleep 0.05; done",
        |_| {},
    );
    pod.start_container(&first).unwrap();
    common::eventually("the first is up", || machine.log(&first.id).contains("up"));
    let (log, _) = machine.run(&pod, "cat /dev/shm/f; echo $$", |_| {});
    assert_eq!(log, "shared\n1\n");
}

#[test]
fn mounts_propagate_as_asked() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let folder = machine.folder.path().join("shared");
    let (down, up) = (folder.join("down"), folder.join("up"));
    std::fs::create_dir_all(&down).unwrap();
    std::fs::create_dir_all(&up).unwrap();
    let start = |script: &str, propagation, privileged| {
        let spec = machine.shell(script, |spec| {
            spec.security.privileged = privileged;
            spec.mounts = vec![runtime::Mount {
                name: "v".into(),
                target: "/shared".into(),
                source: folder.clone(),
                propagation,
                ..runtime::Mount::default()
            }];
        });
        pod.start_container(&spec).unwrap();
        spec.id
    };
    let wait_for = "echo up; until test -e /shared/down/new; do sleep 0.02; done; echo seen";
    let slave = start(wait_for, runtime::Propagation::HostToContainer, false);
    let private = start(wait_for, runtime::Propagation::None, false);
    for id in [&slave, &private] {
        common::eventually("it is up", || machine.log(id).contains("up"));
    }
    let none = None::<&str>;
    nix::mount::mount(
        Some("t"),
        &down,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        none,
    )
    .unwrap();
    std::fs::write(down.join("new"), "").unwrap();
    assert!(pod.wait_container(&slave, PATIENCE).unwrap().is_some());
    assert!(
        pod.wait_container(&private, Duration::from_millis(200))
            .unwrap()
            .is_none()
    );
    nix::mount::umount(&down).unwrap();
    let shared = start(
        "mount -t tmpfs t /shared/up && echo mine > /shared/up/f",
        runtime::Propagation::Bidirectional,
        true,
    );
    assert_eq!(
        exit_code(&pod.wait_container(&shared, PATIENCE).unwrap().unwrap()),
        0
    );
    assert_eq!(std::fs::read_to_string(up.join("f")).unwrap(), "mine\n");
    nix::mount::umount(&up).unwrap();
}

#[test]
fn a_container_cannot_lift_its_own_limits() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let script = "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do
        test -L $d || busybox mkdir $d/mine 2>&1 && echo made $d; done; true";
    let (log, _) = machine.run(&pod, script, |_| {});
    assert!(
        log.contains("Read-only file system") && !log.contains("made"),
        "{log}"
    );
    // A volume at the root hides nothing from the first process, whose root was set before.
    let (log, _) = machine.run(&pod, script, |spec| {
        spec.mounts = vec![runtime::Mount {
            name: "v".into(),
            source: machine.folder.path().to_owned(),
            target: "/".into(),
            ..Default::default()
        }];
    });
    assert!(
        log.contains("Read-only file system") && !log.contains("made"),
        "{log}"
    );
    let script = "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do
        busybox mkdir $d/mine 2>/dev/null && busybox rmdir $d/mine && echo made; done; true";
    let (log, _) = machine.run(&pod, script, |spec| spec.security.privileged = true);
    assert!(log.contains("made"), "{log}");
}

#[test]
fn a_command_that_somebody_waits_for_can_be_signalled() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let spec = machine.shell("sleep 1000", |_| {});
    pod.start_container(&spec).unwrap();
    let exec = runtime::ExecSpec {
        command: vec!["sleep".into(), "1000".into()],
        ..Default::default()
    };
    let exec = pod.exec(&spec.id, &exec).unwrap();
    let code = common::on_reactor(async {
        let waiting = exec.wait();
        exec.signal(15)?;
        waiting.await
    });
    assert_eq!(code.unwrap(), 143);
}
