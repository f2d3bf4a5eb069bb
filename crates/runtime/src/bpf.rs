//! Loads a BPF program into the kernel and attaches it to a cgroup.

use std::ffi::c_char;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use crate::devices::Instruction;

// Numbers of `linux/bpf.h`.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;

/// Any license is permitted, because the program calls no kernel function that requires the GPL.
const LICENCE: &[u8] = b"Apache-2.0\0";

/// The part of `union bpf_attr` for loading. The kernel reads the missing part as zero.
#[repr(C)]
#[derive(Default)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The part of `union bpf_attr` for attaching.
#[repr(C)]
struct Attach {
    target: RawFd,
    program: RawFd,
    attach_type: u32,
    flags: u32,
}

/// Makes the kernel run a program for each device that a process of the cgroup, or of one below it,
/// opens or creates. The program stays as long as the cgroup. Programs that others attached to it
/// or above it run, too.
pub(crate) fn attach_device_program(cgroup: &Path, program: &[Instruction]) -> io::Result<()> {
    let cgroup = File::open(cgroup)?;
    let program = load(program)?;
    let attributes = Attach {
        target: cgroup.as_raw_fd(),
        program: program.as_raw_fd(),
        attach_type: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    call(BPF_PROG_ATTACH, &attributes).map(drop)
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let attributes = Load {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        licence: LICENCE.as_ptr().cast::<c_char>() as u64,
        ..Load::default()
    };
    let loaded = match call(BPF_PROG_LOAD, &attributes) {
        // Kernels before 5.11 count programs as locked memory, whose limit may be low.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            with_locked_memory(|| call(BPF_PROG_LOAD, &attributes))?
        }
        loaded => loaded?,
    };
    // SAFETY: the kernel made this descriptor for us in this very call; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(loaded as RawFd) })
}

/// Removes the limit of locked memory for one call only, because containers inherit it.
fn with_locked_memory<T>(action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)?;
    let done = action();
    setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard)?;
    done
}

fn call<T>(command: libc::c_long, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: `attributes` is a plain C structure of the given size, and its addresses belong to
    // slices that outlive the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}
