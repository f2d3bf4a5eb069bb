//! Tests of volumes: their targets, the order of the mounts, and what the machine sees of them.

mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Machine, PATIENCE, exit_code, kind};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use runtime::{ErrorKind, FileKind, Mount, Propagation};

/// Number of starts in the race. In most of them, mounting by name left the volume.
const RACES: usize = 40;

fn mount(source: impl AsRef<Path>, target: &str) -> Mount {
    Mount {
        name: "v".into(),
        source: source.as_ref().to_owned(),
        target: target.into(),
        ..Mount::default()
    }
}

#[test]
fn a_sub_path_that_is_swapped_for_a_link_never_leads_outside() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let volume = machine.folder.path().join("volume");
    fs::create_dir_all(volume.join("x")).unwrap();
    fs::write(volume.join("x/inside"), "").unwrap();
    let outside = machine.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "").unwrap();
    symlink(&outside, volume.join("y")).unwrap();
    let ended = AtomicBool::new(false);
    let started = std::thread::scope(|scope| {
        scope.spawn(|| {
            let (x, y) = (volume.join("x"), volume.join("y"));
            while !ended.load(Ordering::Relaxed) {
                renameat2(AT_FDCWD, &x, AT_FDCWD, &y, RenameFlags::RENAME_EXCHANGE).unwrap();
            }
        });
        let mut started = 0;
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..RACES {
                let spec = machine.shell("ls /mnt", |spec| {
                    spec.mounts = vec![Mount {
                        sub_path: Some("x".into()),
                        ..mount(&volume, "/mnt")
                    }];
                });
                match pod.start_container(&spec) {
                    Ok(_) => {
                        pod.wait_container(&spec.id, PATIENCE).unwrap().expect("it ends");
                        assert_eq!(machine.log(&spec.id), "inside\n");
                        started += 1;
                    }
                    Err(error) => assert_eq!(error.kind, ErrorKind::SubPath, "{error}"),
                }
                pod.remove_container(&spec.id).ok();
            }
        }));
        ended.store(true, Ordering::Relaxed);
        outcome.unwrap();
        started
    });
    testkit::report(&format!(
        "{started} of {RACES} starts saw the folder, the others the link"
    ));
}

#[test]
fn mounts_are_made_from_the_top_whatever_their_order() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let folder = |name: &str| {
        let folder = machine.folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("file"), name).unwrap();
        folder
    };
    let (upper, config, inner) = (folder("upper"), folder("config"), folder("inner"));
    let script = "cat /a/file /a/b/c/file /a/one; ls -d /a/b/c; echo x > /a/b/y; true";
    let (log, status) = machine.run(&pod, script, |spec| {
        spec.mounts = vec![
            mount(&inner, "/a/b/c"),
            mount(inner.join("file"), "/a/one"),
            Mount {
                read_only: true,
                nests: true,
                ..mount(&config, "/a/b")
            },
            mount(&upper, "/a"),
        ];
    });
    assert_eq!(exit_code(&status), 0, "{log}");
    assert!(log.contains("upperinnerinner"), "{log}");
    assert!(log.contains("Read-only file system"), "{log}");
    // Nothing is created in a read-only volume that belongs to another owner. The error names the
    // mount.
    let spec = machine.shell("true", |spec| {
        spec.mounts = vec![
            Mount {
                read_only: true,
                ..mount(folder("lent"), "/l")
            },
            mount(&inner, "/l/missing"),
        ];
    });
    let error = pod.start_container(&spec).unwrap_err();
    assert_eq!(
        error.message,
        "mount \"v\" at /l/missing: Read-only file system (os error 30)"
    );
}

#[test]
fn a_volume_that_is_not_there_is_named() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let spec = machine.shell("true", |spec| spec.mounts = vec![mount("/does/not/exist", "/v")]);
    let (kind, message) = kind(pod.start_container(&spec));
    assert_eq!(kind, ErrorKind::Invalid);
    assert_eq!(
        message,
        "mount \"v\" from /does/not/exist: No such file or directory (os error 2)"
    );
}

#[test]
fn the_machines_devices_may_be_mounted_at_their_own_place() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let status = |path: &str| {
        let found = fs::symlink_metadata(path).unwrap();
        (
            found.file_type().is_char_device(),
            found.ino(),
            found.mode(),
            found.rdev(),
        )
    };
    let machines = || ["/dev/null", "/dev/ptmx", "/dev/zero"].map(status);
    let before = machines();
    let said = machine.folder.path().join("said");
    fs::write(&said, "").unwrap();
    for privileged in [true, false] {
        let script = "echo x > /dev/null; echo bye > /dev/said; ls -d /dev/null /dev/ptmx /dev/said";
        let (log, ended) = machine.run(&pod, script, |spec| {
            spec.security.privileged = privileged;
            spec.mounts = vec![
                mount(&said, "/dev/said"),
                mount("/dev", "/dev"),
                Mount {
                    kind: Some(FileKind::CharDevice),
                    ..mount("/dev/zero", "/dev/zero")
                },
            ];
        });
        assert_eq!(exit_code(&ended), 0, "{log}");
        assert_eq!(fs::read_to_string(&said).unwrap(), "bye\n");
    }
    fs::remove_file("/dev/said").unwrap();
    for privileged in [true, false] {
        let (log, ended) = machine.run(&pod, "ls /dev/zero /dev/pts; cat /dev/null", |spec| {
            spec.security.privileged = privileged;
            spec.mounts = vec![mount("/dev/zero", "/dev/zero"), mount("/dev/null", "/dev/null")];
        });
        assert_eq!(exit_code(&ended), 0, "{log}");
    }
    assert_eq!(machines(), before);
}

#[test]
fn nothing_may_be_mounted_over_what_proc_shows() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let own = machine.folder.path().join("own");
    fs::write(&own, "own\n").unwrap();
    let link = machine.folder.path().join("link");
    fs::create_dir(&link).unwrap();
    symlink("/proc/1/attr", link.join("l")).unwrap();
    for target in ["/proc/self/attr/exec", "/proc/sys/kernel/hostname", "/v/l/exec"] {
        let spec = machine.shell("true", |spec| {
            spec.mounts = vec![mount(&link, "/v"), mount(&own, target)]
        });
        let error = pod.start_container(&spec).unwrap_err();
        assert!(error.message.contains("/proc"), "{target}: {error}");
    }
    let (log, _) = machine.run(&pod, "cat /proc/uptime", |spec| {
        spec.mounts = vec![mount(&own, "/proc/uptime")];
    });
    assert_eq!(log, "own\n");
}

#[test]
fn nothing_of_the_shim_is_reached_by_its_descriptors() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let volume = machine.folder.path().join("volume");
    fs::create_dir(&volume).unwrap();
    // More than the open descriptors of a shim.
    for number in 3..24 {
        symlink(
            format!("/proc/self/fd/{number}"),
            volume.join(format!("l{number}")),
        )
        .unwrap();
        let spec = machine.shell("pwd; ls", |spec| {
            spec.mounts = vec![mount(&volume, "/v")];
            spec.working_dir = Some(format!("/v/l{number}"));
        });
        let (kind, message) = kind(pod.start_container(&spec));
        assert_eq!(kind, ErrorKind::StartFailed, "{message}");
        let spec = machine.shell("", |spec| {
            spec.command = vec![format!("/proc/self/fd/{number}/bin/ls"), "/".into()];
        });
        let (kind, message) = common::kind(pod.start_container(&spec));
        assert_eq!(kind, ErrorKind::StartFailed, "{message}");
    }
}

#[test]
fn propagation_is_each_mounts_own() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let folder = |name: &str| {
        let folder = machine.folder.path().join(name);
        fs::create_dir_all(folder.join("m")).unwrap();
        folder
    };
    let (shared, private) = (folder("shared"), folder("private"));
    let script = "mount -t tmpfs both-ways /shared/m && mount -t tmpfs one-way /private/m && echo mounted";
    let (log, _) = machine.run(&pod, script, |spec| {
        spec.security.privileged = true;
        spec.mounts = vec![
            Mount {
                propagation: Propagation::Bidirectional,
                ..mount(&shared, "/shared")
            },
            mount(&private, "/private"),
        ];
    });
    assert_eq!(log, "mounted\n");
    let seen = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let sees = |folder: &Path| {
        let point = folder.join("m");
        seen.lines()
            .any(|line| line.split(' ').nth(4).is_some_and(|at| Path::new(at) == point))
    };
    assert!(sees(&shared) && !sees(&private), "{seen}");
    // A mount that a container made on the machine stays after the container, as in Kubernetes.
    nix::mount::umount(&shared.join("m")).unwrap();
}
