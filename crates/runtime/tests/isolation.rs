//! Tests of the isolation between a container and the machine: devices, processes, memory, kernel
//! parameters, and the shim's executable.
//!
//! These tests also run on a machine with only cgroup v2, busybox and nft.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use common::{Machine, eventually, exec, exit_code, kind, pid, shim_of};
use runtime::{ContainerState, Device, DeviceAccess, ErrorKind, Mount, Resources, SandboxSpec};

/// Prints which of the block devices in `$devices` (`major:minor`) a process can open after it
/// creates a node for each.
const OPEN_DISKS: &str = r#"
    for device in $devices; do
        rm -f /tmp/node
        busybox mknod /tmp/node b ${device%:*} ${device#*:} || echo "not made $device"
        (exec 3</tmp/node) 2>&1 | grep -q 'not permitted' || echo "read $device"
        (exec 3>>/tmp/node) 2>&1 | grep -q 'not permitted' || echo "written $device"
    done
    echo done
"#;

/// Number of the capability with which a process may lower its `oom_score_adj`.
const SYS_RESOURCE: u32 = 24;

/// Returns the numbers of all block devices of this machine.
fn block_devices() -> String {
    let devices = fs::read_dir("/sys/dev/block").unwrap().flatten();
    let numbers: Vec<String> = devices
        .map(|device| device.file_name().into_string().unwrap())
        .collect();
    assert!(!numbers.is_empty());
    numbers.join(" ")
}

/// Returns the node of a block device of this machine.
fn a_disk() -> PathBuf {
    let names = fs::read_dir("/sys/block").unwrap().flatten();
    names
        .map(|disk| Path::new("/dev").join(disk.file_name()))
        .find(|path| path.exists())
        .expect("a block device in /dev")
}

/// Returns whether the machine uses cgroup v2.
fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

#[test]
fn a_container_opens_no_disk_that_it_makes_a_node_of() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let script = format!("devices='{}'\n{OPEN_DISKS}", block_devices());
    let (log, status) = machine.run(&pod, &script, |_| {});
    assert_eq!((log.as_str(), exit_code(&status)), ("done\n", 0));
    // Nor with more privileges, except all devices.
    let (log, _) = machine.run(&pod, &script, |spec| {
        spec.security.add_capabilities = vec!["ALL".into()];
    });
    assert_eq!(log, "done\n");
    let (log, _) = machine.run(&pod, &script, |spec| spec.security.privileged = true);
    assert!(log.contains("read "), "a privileged container opens them: {log}");
}

#[test]
fn a_command_in_a_container_opens_no_disk_either() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let spec = machine.shell("sleep 1000", |_| {});
    pod.start_container(&spec).unwrap();
    let script = format!("devices='{}'\n{OPEN_DISKS}", block_devices());
    let (log, code) = exec(&pod, &spec.id, &["sh", "-c", &script]);
    assert_eq!((log.as_str(), code), ("done\n", 0));
}

#[test]
fn a_disk_that_is_mounted_as_a_file_is_not_opened() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let disk = Mount {
        name: "disk".into(),
        target: "/disk".into(),
        source: a_disk(),
        ..Mount::default()
    };
    let script = "for way in '<' '>>'; do eval \"(exec 3$way/disk)\" 2>&1; done; true";
    let (log, _) = machine.run(&pod, script, |spec| spec.mounts = vec![disk]);
    assert_eq!(log.matches("Operation not permitted").count(), 2, "{log}");
}

#[test]
fn the_usual_devices_work_in_a_container() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let script = "
        for name in null zero full random urandom; do
            busybox head -c 1 /dev/$name >/dev/null && echo read $name
        done
        echo x >/dev/null && echo x >/dev/zero && echo written
        echo x 2>/dev/null >/dev/full || echo full
        (exec 3<>/dev/ptmx) && echo terminal
        busybox mkdir -p /dev/net && busybox mknod /dev/net/tun c 10 200
        (exec 3<>/dev/net/tun) 2>&1 | grep 'not permitted'
        for number in '1 1' '1 4' '1 11' '10 229' '10 237'; do
            busybox rm -f /tmp/node; busybox mknod /tmp/node c $number
            (exec 3</tmp/node) 2>&1 | grep -q 'not permitted' || echo opened $number
        done";
    let (log, _) = machine.run(&pod, script, |_| {});
    let expected = "read null\nread zero\nread full\nread random\nread urandom\nwritten\nfull\nterminal\n";
    assert_eq!(log, expected);
}

#[test]
fn a_device_that_is_given_is_used_as_far_as_it_is_given() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let script = "(exec 3</dev/given) && echo read; (exec 3>>/dev/given) 2>&1; true";
    let access = DeviceAccess {
        read: true,
        ..DeviceAccess::default()
    };
    let given = Device {
        path: a_disk(),
        target: "/dev/given".into(),
        access,
    };
    let (log, _) = machine.run(&pod, script, |spec| spec.devices = vec![given.clone()]);
    assert!(
        log.starts_with("read\n") && log.contains("Operation not permitted"),
        "{log}"
    );
    let wrong = Device {
        path: "/etc/passwd".into(),
        ..given
    };
    let spec = machine.shell("true", |spec| spec.devices = vec![wrong]);
    let (_, message) = kind(pod.start_container(&spec));
    assert!(
        message.contains("neither a block nor a character device"),
        "{message}"
    );
}

/// Starts more processes than any limit of these tests permits.
const FORK: &str = "i=0; while [ $i -lt 200 ]; do sleep 1000 & i=$((i+1)); done; echo all";

#[test]
fn a_pod_that_forks_reaches_its_own_limit() {
    let machine = Machine::new();
    let pod = machine.pod_of(SandboxSpec {
        id: "p".into(),
        resources: Resources {
            pids_limit: Some(40),
            ..Resources::default()
        },
        ..SandboxSpec::default()
    });
    let (log, _) = machine.run(&pod, FORK, |_| {});
    assert!(log.contains("can't fork") && !log.contains("all"), "{log}");
    let (log, _) = machine.run(&machine.pod("other"), FORK, |_| {});
    assert!(log.contains("all"), "{log}");
}

#[test]
fn all_pods_together_have_a_limit_of_processes() {
    let machine = Machine::limited(Resources {
        pids_limit: Some(60),
        ..Resources::default()
    });
    let (log, _) = machine.run(&machine.pod("one"), FORK, |_| {});
    assert!(log.contains("can't fork") && !log.contains("all"), "{log}");
    // The removal of a pod keeps the limit for later pods.
    machine.runtime().remove_pod("one").unwrap();
    let (log, _) = machine.run(&machine.pod("two"), FORK, |_| {});
    assert!(log.contains("can't fork") && !log.contains("all"), "{log}");
}

/// Returns the files of cgroup v2 that limit huge pages, in the cgroup of a process and those above
/// it.
fn limits_of_huge_pages(process: u32) -> Vec<String> {
    let own = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    let limits = Path::new("/sys/fs/cgroup").join(own);
    let folders = limits.ancestors().flat_map(fs::read_dir);
    let files = folders.flatten().flatten().map(|file| file.path());
    let named = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("hugetlb.") && name.ends_with(".max")
    };
    files
        .filter(named)
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}

#[test]
fn no_container_takes_the_machines_huge_pages() {
    let machine = Machine::new();
    let sleeper = machine.shell("sleep 1000", |_| {});
    let container = machine.pod("p").start_container(&sleeper).unwrap();
    let available = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    if available.contains("hugetlb") {
        let limits = limits_of_huge_pages(pid(&container).cast_unsigned());
        assert!(limits.iter().any(|limit| limit == "0\n"), "{limits:?}");
    }
}

#[test]
fn a_container_without_memory_ends_as_its_cgroups_have_it() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let (log, status) = machine.run(&pod, "tail /dev/zero; echo survived; exit 3", |spec| {
        spec.resources.memory_limit = Some(16 << 20);
    });
    let ContainerState::Exited {
        exit_code,
        oom_killed,
        ..
    } = status.state
    else {
        panic!("{status:?}")
    };
    assert!(oom_killed);
    // On v2 the kernel kills the whole container, as in Kubernetes; on v1 it cannot.
    let expected = if unified() { ("", 137) } else { ("survived\n", 3) };
    assert_eq!((log.replace("Killed\n", "").as_str(), exit_code), expected);
}

#[test]
fn a_shim_is_killed_after_its_containers_for_memory() {
    let machine = Machine::new();
    let sleeper = machine.shell("sleep 1000", |_| {});
    let container = machine.pod("p").start_container(&sleeper).unwrap();
    let score = |process: &str| fs::read_to_string(format!("/proc/{process}/oom_score_adj")).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let held = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:\t"))
        .unwrap();
    let may_lower = u64::from_str_radix(held, 16).unwrap() & 1 << SYS_RESOURCE != 0;
    let expected = if may_lower {
        "-998\n".to_owned()
    } else {
        score("self")
    };
    assert_eq!(score(&shim_of(&container).to_string()), expected);
    assert_eq!(score(&pid(&container).to_string()), "0\n");
}

#[test]
fn kernel_parameters_are_set_in_the_pods_namespaces_alone() {
    let machine = Machine::new();
    let (port, memory) = (
        "/proc/sys/net/ipv4/ip_unprivileged_port_start",
        "/proc/sys/kernel/shmmax",
    );
    let before = [port, memory].map(|file| fs::read_to_string(file).unwrap());
    let pod = machine.pod_of(SandboxSpec {
        id: "p".into(),
        sysctls: [
            ("net.ipv4.ip_unprivileged_port_start".to_owned(), "77".to_owned()),
            ("kernel/shmmax".to_owned(), "123456".to_owned()),
        ]
        .into(),
        ..SandboxSpec::default()
    });
    let (log, _) = machine.run(&pod, &format!("cat {port} {memory}"), |_| {});
    assert_eq!(log, "77\n123456\n");
    assert_eq!(
        [port, memory].map(|file| fs::read_to_string(file).unwrap()),
        before
    );
}

#[test]
fn a_pod_changes_no_kernel_parameter_of_the_machine() {
    let machine = Machine::new();
    let swappiness = || fs::read_to_string("/proc/sys/vm/swappiness").unwrap();
    let before = swappiness();
    let asking = |name: &str| SandboxSpec {
        id: "p".into(),
        sysctls: [(name.to_owned(), "61".to_owned())].into(),
        ..SandboxSpec::default()
    };
    for name in [
        "vm.swappiness",
        "vm/swappiness",
        "net/../vm/swappiness",
        "kernel.core_pattern",
    ] {
        let (error, message) = kind(machine.runtime().create_pod(&asking(name)));
        assert_eq!(error, ErrorKind::Invalid, "{message}");
        assert!(message.contains(name), "{message}");
    }
    let shared = [
        SandboxSpec {
            host_network: true,
            ..asking("net.ipv4.ip_unprivileged_port_start")
        },
        SandboxSpec {
            host_ipc: true,
            ..asking("kernel.shmmax")
        },
    ];
    for spec in shared {
        let (error, message) = kind(machine.runtime().create_pod(&spec));
        assert_eq!(error, ErrorKind::Invalid, "{message}");
    }
    assert_eq!(swappiness(), before);
}

#[test]
fn the_executable_that_enters_containers_takes_no_writes() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let program = Path::new(env!("CARGO_BIN_EXE_runtime-test-shim"));
    let facts = || {
        let found = fs::metadata(program).unwrap();
        (found.dev(), found.ino(), found.size(), found.mtime_nsec())
    };
    let before = facts();
    // The script executes the shim's executable, as the process does before `execve`. It finds no
    // pod.
    let script = machine.folder.path().join("script");
    fs::write(&script, "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let (log, status) = machine.run(&pod, "", |spec| {
        spec.command = vec!["/script".into()];
        spec.mounts = vec![Mount {
            name: "script".into(),
            target: "/script".into(),
            source: script.clone(),
            read_only: true,
            ..Mount::default()
        }];
    });
    assert!(
        log.contains("/script/pod.json") && exit_code(&status) != 0,
        "{log}"
    );
    let sleeper = machine.shell("sleep 1000", |_| {});
    let shim = shim_of(&pod.start_container(&sleeper).unwrap());
    let running = format!("/proc/{shim}/exe");
    let found = fs::metadata(&running).unwrap();
    assert_ne!(
        (found.dev(), found.ino()),
        (before.0, before.1),
        "the machine's own file"
    );
    let opened = fs::File::options().write(true).open(&running);
    let written = opened.and_then(|mut file| std::io::Write::write(&mut file, b"x"));
    let refused = written.unwrap_err().raw_os_error();
    assert!(matches!(refused, Some(libc::EROFS | libc::EPERM)), "{refused:?}");
    assert_eq!(facts(), before);
    let shown = fs::read_to_string(format!("/proc/{shim}/comm")).unwrap();
    assert_eq!(shown, "everynode-shim\n");
}

/// Inspects without a pause the processes of its PID namespace for links to the machine's file
/// `$marker`, descriptors of folders, and privileges that a container does not have.
const LOOK: &str = r#"
    own=$(grep CapPrm /proc/1/status)
    echo up
    while true; do
        for process in /proc/[0-9]*; do
            [ -e $process/root$marker ] && echo "root $process"
            [ -e $process/cwd$marker ] && echo "cwd $process"
            for descriptor in $process/fd/*; do
                [ -d $descriptor/. ] && echo "folder $descriptor"
            done
            rights=$(grep CapPrm $process/status) && [ "$rights" != "$own" ] && echo "$rights"
        done 2>/dev/null
    done
"#;

#[test]
fn a_command_that_enters_a_container_brings_nothing_of_the_machine() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let marker = machine.folder.path().join("marker");
    fs::write(&marker, "").unwrap();
    let script = format!("marker={}\n{LOOK}", marker.display());
    let spec = machine.shell(&script, |spec| {
        spec.security.add_capabilities = vec!["SYS_PTRACE".into()];
        spec.security.seccomp = runtime::Seccomp::RuntimeDefault;
    });
    pod.start_container(&spec).unwrap();
    eventually("it looks", || machine.log(&spec.id).contains("up"));
    for _ in 0..300 {
        assert_eq!(exec(&pod, &spec.id, &["sh", "-c", ":"]), (String::new(), 0));
    }
    let log = machine.log(&spec.id);
    let seen: Vec<&str> = log.lines().skip(1).take(5).collect();
    assert!(seen.is_empty(), "{seen:?}");
}
