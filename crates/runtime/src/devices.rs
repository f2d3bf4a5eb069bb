//! Device access of containers: a list of rules, and the BPF program with which the kernel enforces
//! them for a cgroup.
//!
//! Everything that no rule allows is denied. The list is the same as runc's. A container may create
//! nodes of any device, because a node by itself gives no access. It may read and write only
//! harmless devices and those that it was given.

use std::fmt;

use serde_json::{Value, json};

use crate::DeviceAccess;

/// Kind of a device: block or character. The values are the kernel's (`BPF_DEVCG_DEV_BLOCK`,
/// `BPF_DEVCG_DEV_CHAR`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Block = 1,
    Character = 2,
}

impl Kind {
    /// Returns the letter for it in the OCI runtime's config and the v1 controller.
    pub(crate) fn letter(self) -> char {
        match self {
            Kind::Block => 'b',
            Kind::Character => 'c',
        }
    }
}

/// Devices that may be used, by kind and number. `None` means every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) kind: Kind,
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    pub(crate) access: DeviceAccess,
}

const MAKE: DeviceAccess = DeviceAccess {
    read: false,
    write: false,
    make: true,
};

const ALL: DeviceAccess = DeviceAccess {
    read: true,
    write: true,
    make: true,
};

/// Character devices that every container may use, by major and minor number.
const HARMLESS: &[(u32, Option<u32>)] = &[
    (1, Some(3)),    // null
    (1, Some(5)),    // zero
    (1, Some(7)),    // full
    (1, Some(8)),    // random
    (1, Some(9)),    // urandom
    (5, Some(0)),    // tty
    (5, Some(1)),    // console
    (5, Some(2)),    // ptmx
    (136, None),     // pts/*
    (10, Some(200)), // net/tun: acts within the pod's network, and programs make its node by themselves
];

/// Returns the rules of every container that is not privileged.
pub(crate) fn default_rules() -> Vec<Rule> {
    let make_any = [Kind::Character, Kind::Block].map(|kind| Rule {
        kind,
        major: None,
        minor: None,
        access: MAKE,
    });
    let harmless = HARMLESS.iter().map(|(major, minor)| Rule {
        kind: Kind::Character,
        major: Some(*major),
        minor: *minor,
        access: ALL,
    });
    make_any.into_iter().chain(harmless).collect()
}

impl DeviceAccess {
    /// Returns the kernel's bits (`BPF_DEVCG_ACC_MKNOD`, `_READ`, `_WRITE`).
    fn bits(self) -> i32 {
        i32::from(self.make) | i32::from(self.read) << 1 | i32::from(self.write) << 2
    }
}

impl fmt::Display for DeviceAccess {
    /// Writes it as in the OCI runtime's config and the v1 controller, such as `rwm`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = [(self.read, "r"), (self.write, "w"), (self.make, "m")];
        letters
            .iter()
            .filter(|(held, _)| *held)
            .try_for_each(|(_, letter)| formatter.write_str(letter))
    }
}

impl Rule {
    /// Returns the rule for the OCI runtime's config.
    pub(crate) fn oci(&self) -> Value {
        let mut rule = json!({
            "allow": true,
            "type": self.kind.letter(),
            "access": self.access.to_string(),
        });
        if let Some(major) = self.major {
            rule["major"] = json!(major);
        }
        if let Some(minor) = self.minor {
            rule["minor"] = json!(minor);
        }
        rule
    }
}

/// Instruction of the kernel's BPF virtual machine, as in `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// Registers of the program: the first holds the result, the second the address of the request at
/// the start.
#[derive(Clone, Copy)]
enum Register {
    Answer = 0,
    Context = 1,
    Kind = 2,
    Access = 3,
    Major = 4,
    Minor = 5,
    Scratch = 6,
}

// Codes of `linux/bpf_common.h` and `linux/bpf.h`.
const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOVE: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const MOVE_REGISTER: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const AND: u8 = 0x57; // BPF_ALU64 | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x77; // BPF_ALU64 | BPF_RSH | BPF_K
const JUMP_UNLESS_EQUAL: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

/// Offsets of the fields of `struct bpf_cgroup_dev_ctx` in bytes.
const ACCESS_AND_KIND: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;

fn instruction(code: u8, target: Register, source: Register, offset: i16, immediate: i32) -> Instruction {
    let (target, source) = (target as u8, source as u8);
    Instruction {
        code,
        // Two bit fields, whose order depends on the machine's byte order.
        registers: if cfg!(target_endian = "little") {
            target | source << 4
        } else {
            target << 4 | source
        },
        offset,
        immediate,
    }
}

fn with_number(code: u8, target: Register, immediate: i32) -> Instruction {
    instruction(code, target, Register::Answer, 0, immediate)
}

/// Returns the program that returns 1 if a rule allows the access, and 0 otherwise.
pub(crate) fn program(rules: &[Rule]) -> Vec<Instruction> {
    let load = |target, offset| instruction(LOAD_WORD, target, Register::Context, offset, 0);
    let mut program = vec![
        load(Register::Kind, ACCESS_AND_KIND),
        instruction(MOVE_REGISTER, Register::Access, Register::Kind, 0, 0),
        with_number(SHIFT_RIGHT, Register::Access, 16),
        with_number(AND, Register::Kind, 0xffff),
        load(Register::Major, MAJOR),
        load(Register::Minor, MINOR),
    ];
    for rule in rules {
        program.extend(block(rule));
    }
    program.extend(answer(0));
    program
}

fn answer(value: i32) -> [Instruction; 2] {
    [
        with_number(MOVE, Register::Answer, value),
        with_number(EXIT, Register::Answer, 0),
    ]
}

/// Returns the block for a rule: it returns 1 if the rule allows the access, and continues after
/// the block otherwise.
fn block(rule: &Rule) -> Vec<Instruction> {
    let unless_equal = |register, value| with_number(JUMP_UNLESS_EQUAL, register, value);
    // The kernel's numbers have 12 and 20 bits. A larger number matches nothing.
    let number = |number: u32| i32::try_from(number).unwrap_or(-1);
    let mut block = vec![
        unless_equal(Register::Kind, rule.kind as i32),
        instruction(MOVE_REGISTER, Register::Scratch, Register::Access, 0, 0),
        with_number(AND, Register::Scratch, !rule.access.bits()),
        unless_equal(Register::Scratch, 0),
    ];
    block.extend(
        rule.major
            .map(|major| unless_equal(Register::Major, number(major))),
    );
    block.extend(
        rule.minor
            .map(|minor| unless_equal(Register::Minor, number(minor))),
    );
    block.extend(answer(1));
    let end = block.len();
    for (index, instruction) in block.iter_mut().enumerate() {
        if instruction.code == JUMP_UNLESS_EQUAL {
            // Jump offsets are relative to the next instruction. A block has at most nine
            // instructions.
            instruction.offset = (end - index - 1) as i16;
        }
    }
    block
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;
    use crate::cgroup::Hierarchies;

    /// The disk-like device that the rules of the test give beside the defaults, for reading only.
    const GIVEN: Rule = Rule {
        kind: Kind::Block,
        major: Some(7),
        minor: Some(3),
        access: DeviceAccess {
            read: true,
            write: false,
            make: true,
        },
    };

    /// A device as `mknod` takes it, and whether it may be read and written.
    const TABLE: &[(&str, bool, bool)] = &[
        ("c 1 3", true, true),      // null
        ("c 1 5", true, true),      // zero
        ("c 1 7", true, true),      // full
        ("c 1 8", true, true),      // random
        ("c 1 9", true, true),      // urandom
        ("c 5 0", true, true),      // tty
        ("c 5 2", true, true),      // ptmx
        ("c 136 77", true, true),   // a terminal
        ("c 10 200", true, true),   // net/tun
        ("c 1 1", false, false),    // mem
        ("c 1 4", false, false),    // port
        ("c 1 11", false, false),   // kmsg
        ("c 4 64", false, false),   // a serial port
        ("c 7 0", false, false),    // the screen's memory
        ("c 10 229", false, false), // fuse
        ("c 10 232", false, false), // kvm
        ("c 10 237", false, false), // loop-control
        ("c 195 0", false, false),  // a graphics card
        ("c 226 128", false, false),
        ("b 1 3", false, false), // a RAM disk, with the number of null
        ("b 7 0", false, false), // a loop device
        ("b 7 3", true, false),  // the one that is given
        ("b 8 0", false, false), // the first disk
        ("b 8 3", false, false),
        ("b 9 0", false, false),         // a RAID
        ("b 136 77", false, false),      // a block device with the number of a terminal
        ("b 252 0", false, false),       // a virtual disk
        ("b 253 0", false, false),       // a mapped disk
        ("b 259 0", false, false),       // an NVMe disk
        ("b 259 1048575", false, false), // the highest minor number
        ("c 4095 1048575", false, false),
    ];

    /// A cgroup of one hierarchy that ends with the test.
    struct Cgroup(PathBuf);

    impl Cgroup {
        fn new(root: &Path, name: &str) -> Cgroup {
            let folder = root.join(format!("everynode-test-{name}-{}", std::process::id()));
            std::fs::create_dir(&folder).unwrap();
            Cgroup(folder)
        }

        /// Returns what a shell in the cgroup, and in one below it, is denied: lines of device and
        /// letter. A missing driver is not a denial.
        fn denied(&self, folder: &Path) -> Vec<String> {
            let below = self.0.join("below");
            std::fs::create_dir(&below).unwrap();
            let mut script = format!("echo $$ >{}/cgroup.procs || exit 1\n", below.display());
            for (device, ..) in TABLE {
                // Reading does not wait for a line of a terminal, and nothing is written.
                script += &format!(
                    "rm -f node; mknod node {device} || echo {device} m\n\
                     dd if=node of=/dev/null count=0 iflag=nonblock 2>&1 | grep -q 'not permitted' && echo {device} r\n\
                     dd if=/dev/null of=node count=0 conv=notrunc oflag=nonblock 2>&1 | grep -q 'not permitted' && echo {device} w\n"
                );
            }
            let shell = Command::new("setsid")
                .args(["sh", "-c", &script])
                .current_dir(folder)
                .output()
                .unwrap();
            std::fs::remove_dir(&below).unwrap();
            let lines = String::from_utf8(shell.stdout).unwrap();
            lines.lines().map(str::to_owned).collect()
        }
    }

    impl Drop for Cgroup {
        fn drop(&mut self) {
            std::fs::remove_dir(&self.0).unwrap();
        }
    }

    fn rules() -> Vec<Rule> {
        default_rules().into_iter().chain([GIVEN]).collect()
    }

    fn expected() -> Vec<String> {
        let mut denied = Vec::new();
        for (device, read, write) in TABLE {
            denied.extend((!read).then(|| format!("{device} r")));
            denied.extend((!write).then(|| format!("{device} w")));
        }
        denied
    }

    #[test]
    fn the_program_holds_a_cgroup_to_the_table_of_devices() {
        let folder = tempfile::tempdir().unwrap();
        let root = Hierarchies::find().unwrap().v2_root().unwrap().to_path_buf();
        let cgroup = Cgroup::new(&root, "program");
        assert_eq!(cgroup.denied(folder.path()), Vec::<String>::new());
        crate::bpf::attach_device_program(&cgroup.0, &program(&rules())).unwrap();
        assert_eq!(cgroup.denied(folder.path()), expected());
    }

    #[test]
    fn the_v1_controller_is_given_the_same_rules() {
        let hierarchies = Hierarchies::find().unwrap();
        let Some(root) = hierarchies.v1_of("devices") else {
            assert!(hierarchies.unified(), "v1 without its devices controller");
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let cgroup = Cgroup::new(root, "rules");
        std::fs::write(cgroup.0.join("devices.deny"), "a").unwrap();
        let number = |number: &Value| number.as_u64().map_or("*".into(), |number| number.to_string());
        for rule in rules().iter().map(Rule::oci) {
            let line = format!(
                "{} {}:{} {}",
                rule["type"].as_str().unwrap(),
                number(&rule["major"]),
                number(&rule["minor"]),
                rule["access"].as_str().unwrap()
            );
            std::fs::write(cgroup.0.join("devices.allow"), line).unwrap();
        }
        assert_eq!(cgroup.denied(folder.path()), expected());
    }

    #[test]
    fn a_program_without_rules_denies_everything() {
        let folder = tempfile::tempdir().unwrap();
        let root = Hierarchies::find().unwrap().v2_root().unwrap().to_path_buf();
        let cgroup = Cgroup::new(&root, "nothing");
        crate::bpf::attach_device_program(&cgroup.0, &program(&[])).unwrap();
        let denied = cgroup.denied(folder.path());
        let made: Vec<&String> = denied.iter().filter(|line| line.ends_with('m')).collect();
        assert_eq!(made.len(), TABLE.len());
    }
}
