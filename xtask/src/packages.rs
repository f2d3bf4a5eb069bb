//! Debian packages that the build, the demo and the tests need.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::command::{output, run};

/// A package and a file that exists when it is installed.
struct Package {
    name: &'static str,
    proof: &'static str,
}

/// Packages for building and running: a C compiler for `ring`, libseccomp, and network tools.
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

/// Packages for simulated machines: the tool that creates veths.
const FLEET: &[Package] = &[Package {
    name: "iproute2",
    proof: "/usr/sbin/ip",
}];

/// Packages for the tests: content of container images, an old kubectl, and the interpreter of the
/// Python client.
const TEST: &[Package] = &[
    Package {
        name: "busybox-static",
        proof: "/bin/busybox",
    },
    Package {
        name: "python3-venv",
        proof: "/usr/share/doc/python3-venv",
    },
    // It checks the units in docs/join.md.
    Package {
        name: "systemd",
        proof: "/usr/bin/systemd-analyze",
    },
    // CNI plugins of other projects, and the tool that they use for rules.
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
    // TLS in containers, and manual TLS connections to the server.
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

/// Packages for virtual machines.
const MACHINES: &[Package] = &[
    Package {
        name: "qemu-system-x86",
        proof: "/usr/bin/qemu-system-x86_64",
    },
    // It creates the index of a kernel's modules, and loads them in the machine.
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
    // It creates the disk of a full Debian.
    Package {
        name: "mmdebstrap",
        proof: "/usr/bin/mmdebstrap",
    },
];

/// Installs the packages for the build and the demo.
pub(crate) fn for_running() -> Result<()> {
    install(RUN)
}

/// Also installs the packages for simulated machines.
pub(crate) fn for_fleet() -> Result<()> {
    install(RUN)?;
    install(FLEET)
}

/// Also installs the packages for the tests.
pub(crate) fn for_tests() -> Result<()> {
    for_fleet()?;
    install(TEST)?;
    install(MACHINES)
}

/// Installs the packages for the build and virtual machines.
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
