//! A gate for tests that fails every operation after a given number, as a kill or a power failure
//! does.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Gate, Operation, Verdict};

/// Lets a number of operations pass and fails every later one. The disk then holds what a kill at
/// that point would have left.
#[derive(Debug)]
pub struct CutOff {
    passes: u64,
    /// Whether the first operation that fails writes half of its bytes.
    tears: bool,
    asked: AtomicU64,
}

impl CutOff {
    /// Returns a gate that lets `passes` operations pass.
    pub fn after(passes: u64) -> CutOff {
        CutOff {
            passes,
            tears: false,
            asked: AtomicU64::new(0),
        }
    }

    /// Returns a gate that lets `passes` operations pass and tears the next one.
    pub fn within(passes: u64) -> CutOff {
        CutOff {
            tears: true,
            ..CutOff::after(passes)
        }
    }

    /// Returns whether an operation failed here. If none failed, there are no more points to test.
    pub fn has_cut(&self) -> bool {
        self.asked.load(Ordering::SeqCst) > self.passes
    }
}

impl Gate for CutOff {
    fn pass(&self, operation: Operation, path: &Path) -> Verdict {
        let before = self.asked.fetch_add(1, Ordering::SeqCst);
        let error = || io::Error::other(format!("cut off before {operation:?} {}", path.display()));
        if before < self.passes {
            Verdict::Pass
        } else if before == self.passes && self.tears {
            Verdict::Tear(error())
        } else {
            Verdict::Fail(error())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::*;
    use crate::Disk;

    #[test]
    fn replaced_file_is_old_or_new_wherever_it_is_cut_off() {
        for torn in [false, true] {
            let mut cuts = 0;
            for passes in 0.. {
                let dir = tempfile::tempdir().expect("make a directory");
                let path = dir.path().join("file");
                Disk::default().replace(&path, b"old", 0o600).expect("write");
                let cut = Arc::new(if torn {
                    CutOff::within(passes)
                } else {
                    CutOff::after(passes)
                });
                let done = Disk::gated(cut.clone()).replace(&path, b"newer", 0o600);
                let content = fs::read(&path).expect("read");
                assert!(content == b"old" || content == b"newer", "{passes}: {content:?}");
                assert_eq!(done.is_ok(), !cut.has_cut());
                Disk::default()
                    .replace(&path, b"next", 0o600)
                    .expect("a draft that was left is no obstacle");
                if done.is_ok() {
                    break;
                }
                cuts += 1;
            }
            assert_eq!(cuts, 5, "create, write, sync, rename, sync of the directory");
        }
    }
}
