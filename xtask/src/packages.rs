//! The Debian packages that the build, the demo and the tests stand on.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::command::{output, run};

/// A package and a file by which we know that it is there.
struct Package {
    name: &'static str,
    proof: &'static str,
}

/// What building and running takes: a C compiler for `ring`, libseccomp, and the tools of the network.
const RUN: &[Package] = &[
    Package {
        name: "gcc",
        proof: "/usr/bin/gcc",
    },
    Package {
        name: "libc6-dev",
        proof: "/usr/include/stdlib.h",
    },
    Package {
        name: "libseccomp-dev",
        proof: "/usr/include/seccomp.h",
    },
    Package {
        name: "pkg-config",
        proof: "/usr/bin/pkg-config",
    },
    Package {
        name: "nftables",
        proof: "/usr/sbin/nft",
    },
    Package {
        name: "curl",
        proof: "/usr/bin/curl",
    },
];

/// What machines on this one take: their cables.
const FLEET: &[Package] = &[Package {
    name: "iproute2",
    proof: "/usr/sbin/ip",
}];

/// What the tests add: a container image's contents, an old kubectl, and the Python client's interpreter.
const TEST: &[Package] = &[
    Package {
        name: "busybox-static",
        proof: "/bin/busybox",
    },
    Package {
        name: "python3-venv",
        proof: "/usr/share/doc/python3-venv",
    },
    // It judges the units of docs/join.md.
    Package {
        name: "systemd",
        proof: "/usr/bin/systemd-analyze",
    },
    // The network that is not ours, and what its plugins set rules with.
    Package {
        name: "containernetworking-plugins",
        proof: "/usr/lib/cni/bridge",
    },
    Package {
        name: "iptables",
        proof: "/usr/sbin/iptables",
    },
    Package {
        name: "procps",
        proof: "/usr/bin/pgrep",
    },
    // What speaks TLS in a container, and to the server by hand.
    Package {
        name: "openssl",
        proof: "/usr/bin/openssl",
    },
    // The fuzzer's engine is C++.
    Package {
        name: "g++",
        proof: "/usr/bin/g++",
    },
    Package {
        name: "git",
        proof: "/usr/bin/git",
    },
];

/// What virtual machines take.
const MACHINES: &[Package] = &[
    Package {
        name: "qemu-system-x86",
        proof: "/usr/bin/qemu-system-x86_64",
    },
    // It makes the indexes of a kernel's modules, and loads them in the machine.
    Package {
        name: "kmod",
        proof: "/bin/kmod",
    },
    Package {
        name: "busybox-static",
        proof: "/bin/busybox",
    },
    Package {
        name: "e2fsprogs",
        proof: "/sbin/mkfs.ext4",
    },
    Package {
        name: "binutils",
        proof: "/usr/bin/strip",
    },
    // It makes the disk of a whole Debian.
    Package {
        name: "mmdebstrap",
        proof: "/usr/bin/mmdebstrap",
    },
];

/// Installs what the build and the demo need.
pub(crate) fn for_running() -> Result<()> {
    install(RUN)
}

/// Installs what machines on this one need as well.
pub(crate) fn for_fleet() -> Result<()> {
    install(RUN)?;
    install(FLEET)
}

/// Installs what the tests need as well.
pub(crate) fn for_tests() -> Result<()> {
    for_fleet()?;
    install(TEST)?;
    install(MACHINES)
}

/// Installs what the build and virtual machines need.
pub(crate) fn for_machines() -> Result<()> {
    for_fleet()?;
    install(MACHINES)
}

fn install(packages: &[Package]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|package| !Path::new(package.proof).exists())
        .map(|package| package.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "please install {} (this is no Debian, so they cannot be installed from here)",
            missing.join(", ")
        );
    }
    if output("id", &["-u"])?.trim() != "0" {
        bail!("please install {} first, or run this as root", missing.join(", "));
    }
    let mut args = vec!["apt-get", "install", "--yes", "--no-install-recommends"];
    args.extend(&missing);
    let mut call = vec!["DEBIAN_FRONTEND=noninteractive"];
    call.extend(&args);
    run("apt-get", &["update", "--quiet"]).context("read the package lists")?;
    run("env", &call).with_context(|| format!("install {}", missing.join(", ")))
}
