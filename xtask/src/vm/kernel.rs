//! Debian's kernel for cloud machines, from Debian's archive.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::clients::tools;
use crate::command::{output, run};

/// The kernel series of Debian 12.
const SERIES: &str = "linux-image-6.1.";
const FLAVOUR: &str = "-cloud-amd64";

/// A kernel and its modules.
pub(super) struct Kernel {
    pub(super) image: PathBuf,
    /// `lib/modules/<release>`, with the indexes that `modprobe` reads.
    pub(super) modules: PathBuf,
    /// What `uname -r` prints.
    pub(super) release: String,
}

impl Kernel {
    /// Downloads and unpacks the newest kernel, unless it is here already.
    pub(super) fn newest() -> Result<Kernel> {
        let package = match newest_package()? {
            Some(package) => package,
            None => {
                run("apt-get", &["update", "--quiet"]).context("read the package lists")?;
                newest_package()?.with_context(|| format!("find a package {SERIES}*{FLAVOUR}"))?
            }
        };
        let folder = tools("vm")?.join("kernel");
        let mark = folder.join("complete");
        if fs::read_to_string(&mark).is_ok_and(|unpacked| unpacked == package) {
            return Kernel::unpacked(&folder);
        }
        let script = "set -e; rm -rf \"$0\"; mkdir -p \"$0\"; cd \"$0\"
            apt-get download --quiet -o APT::Sandbox::User=root \"$1\"
            dpkg -x linux-image-*.deb .; rm linux-image-*.deb
            depmod -b . \"$(ls lib/modules)\"";
        let place = folder.display().to_string();
        run("sh", &["-c", script, &place, &package]).with_context(|| format!("unpack Debian's {package}"))?;
        fs::write(&mark, &package).with_context(|| format!("write {}", mark.display()))?;
        Kernel::unpacked(&folder)
    }

    fn unpacked(folder: &Path) -> Result<Kernel> {
        let all = folder.join("lib/modules");
        let mut found = fs::read_dir(&all).with_context(|| format!("read {}", all.display()))?;
        let modules = found.next().context("find the kernel's modules")??.path();
        let release = modules
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let image = folder.join("boot").join(format!("vmlinuz-{release}"));
        if !image.exists() {
            bail!("{} is not there", image.display());
        }
        Ok(Kernel {
            image,
            modules,
            release,
        })
    }

    /// Returns the files of these modules and their dependencies, in load order.
    pub(super) fn load_order(&self, wanted: &[&str]) -> Result<Vec<PathBuf>> {
        let index = self.modules.join("modules.dep");
        let index = fs::read_to_string(&index).with_context(|| format!("read {}", index.display()))?;
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in wanted {
            let line = index.lines().find(|line| {
                let file = line.split(':').next().unwrap_or_default();
                Path::new(file)
                    .file_name()
                    .is_some_and(|file| file == format!("{name}.ko").as_str())
            });
            let (module, needs) = line
                .and_then(|line| line.split_once(':'))
                .with_context(|| format!("find the module {name} of kernel {}", self.release))?;
            // The index lists the dependencies in reverse load order.
            for file in needs.split_whitespace().rev().chain([module]) {
                if seen.insert(file) {
                    order.push(self.modules.join(file));
                }
            }
        }
        Ok(order)
    }
}

/// Returns the kernel package with the highest version, if the package lists have one.
fn newest_package() -> Result<Option<String>> {
    let listed = output(
        "apt-cache",
        &["search", "--names-only", "^linux-image-6[.]1[.].*-cloud-amd64$"],
    )?;
    let packages = listed.lines().filter_map(|line| line.split_whitespace().next());
    Ok(packages
        .filter(|package| version(package).is_some())
        .max_by_key(|package| version(package))
        .map(str::to_owned))
}

/// Returns the numbers in the name of a kernel package of the series.
fn version(package: &str) -> Option<Vec<u32>> {
    let version = package.strip_prefix(SERIES)?.strip_suffix(FLAVOUR)?;
    version
        .split(['.', '-'])
        .map(|number| number.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_are_compared_as_numbers() {
        let version = |name| version(name);
        assert!(version("linux-image-6.1.0-57-cloud-amd64") > version("linux-image-6.1.0-9-cloud-amd64"));
        assert_eq!(version("linux-image-6.12.115+deb12-cloud-amd64"), None);
        assert_eq!(version("linux-image-6.1.0-57-cloud-amd64-unsigned"), None);
    }
}
