//! The seccomp filter of `RuntimeDefault`: an allow list in the JSON of the OCI runtime
//! specification.
//!
//! The permitted system calls are those that container engines agree on: everything that affects
//! only the caller's own namespaces and files. Calls that change the machine require the
//! corresponding capability.

use serde_json::{Value, json};

use crate::bounded;
use crate::error::Context as _;
use crate::{Result, Seccomp};

/// System calls that every container may use, separated by white space.
const ALLOWED: &str = include_str!("seccomp/allowed.txt");

/// System calls that a capability permits.
const WITH_CAPABILITY: &[(&str, &[&str])] = &[
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    (
        "CAP_SYS_ADMIN",
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "pivot_root",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    (
        "CAP_SYS_MODULE",
        &["delete_module", "init_module", "finit_module"],
    ),
    ("CAP_SYS_PACCT", &["acct"]),
    (
        "CAP_SYS_PTRACE",
        &[
            "kcmp",
            "pidfd_getfd",
            "process_madvise",
            "process_vm_readv",
            "process_vm_writev",
            "ptrace",
        ],
    ),
    ("CAP_SYS_RAWIO", &["iopl", "ioperm"]),
    (
        "CAP_SYS_TIME",
        &["settimeofday", "stime", "clock_settime", "clock_settime64"],
    ),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    (
        "CAP_SYS_NICE",
        &[
            "get_mempolicy",
            "mbind",
            "set_mempolicy",
            "set_mempolicy_home_node",
        ],
    ),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_BPF", &["bpf"]),
    ("CAP_PERFMON", &["perf_event_open"]),
];

/// Address family that is denied, because it reaches outside the network namespace. All others are
/// permitted.
const AF_VSOCK: u64 = 40;

/// Clone flags that create namespaces: CLONE_NEW{TIME,NS,CGROUP,UTS,IPC,USER,PID,NET}.
const CLONE_NAMESPACES: u64 = 0x7E02_0000 | 0x80;

/// Personalities that every process may set: Linux, 32-bit Linux, both with UNAME26, and the query.
const PERSONALITIES: &[u64] = &[0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// `ENOSYS`: lets a C library fall back from `clone3` to `clone`, whose flags a filter can see.
const ENOSYS: u32 = 38;

/// Returns the filter of `RuntimeDefault` for a process with these capabilities (`CAP_…`), as
/// `linux.seccomp` of an OCI runtime config.
pub fn default_profile(capabilities: &[String]) -> Value {
    let has = |name: &str| capabilities.iter().any(|capability| capability == name);
    let allowed: Vec<&str> = ALLOWED.split_whitespace().collect();
    let mut rules = vec![
        json!({"names": allowed, "action": "SCMP_ACT_ALLOW"}),
        json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW",
               "args": [{"index": 0, "value": AF_VSOCK, "op": "SCMP_CMP_NE"}]}),
    ];
    for personality in PERSONALITIES {
        rules.push(json!({"names": ["personality"], "action": "SCMP_ACT_ALLOW",
                          "args": [{"index": 0, "value": personality, "op": "SCMP_CMP_EQ"}]}));
    }
    for (capability, names) in WITH_CAPABILITY {
        if has(capability) {
            rules.push(json!({"names": names, "action": "SCMP_ACT_ALLOW"}));
        }
    }
    if !has("CAP_SYS_ADMIN") {
        rules.push(json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW",
                          "args": [{"index": 0, "value": CLONE_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}));
        rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}));
    }
    let architectures = match std::env::consts::ARCH {
        "x86_64" => json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        "aarch64" => json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
        _ => json!([]),
    };
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "architectures": architectures,
        "syscalls": rules,
    })
}

/// Returns the `linux.seccomp` that a container requests; `None` for no filter.
pub(crate) fn resolve(asked: &Seccomp, capabilities: &[String]) -> Result<Option<Value>> {
    match asked {
        Seccomp::Unconfined => Ok(None),
        Seccomp::RuntimeDefault => Ok(Some(default_profile(capabilities))),
        Seccomp::Localhost(path) => {
            let bytes = bounded::read(path, bounded::FILE)
                .context(|| format!("read seccomp profile {}", path.display()))?;
            serde_json::from_slice(&bytes)
                .map(Some)
                .context(|| format!("read seccomp profile {}", path.display()))
        }
    }
}
