//! Container images for tests, made of files of the machine, without a registry.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;

const BUSYBOX: &str = "/bin/busybox";
/// Files for programs that look up users and groups.
const USERS: &str = "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n";
const GROUPS: &str = "root:x:0:\nnogroup:x:65534:\n";

/// Writes an OCI archive `name`.tar to `folder`. The image `name` contains busybox and its applets,
/// and runs `command`.
///
/// # Errors
/// When busybox-static is not installed or the archive cannot be written.
pub fn busybox(folder: &Path, name: &str, command: &[&str]) -> Result<PathBuf> {
    let root = tempfile::tempdir_in(folder).context("make a folder")?;
    add_busybox(root.path())?;
    pack(folder, name, root.path(), command)
}

/// Writes an OCI archive with one static program, as `/program`.
///
/// # Errors
/// When the archive cannot be written.
pub fn scratch(folder: &Path, name: &str, program: &Path, arguments: &[&str]) -> Result<PathBuf> {
    let root = tempfile::tempdir_in(folder).context("make a folder")?;
    std::fs::copy(program, root.path().join("program"))
        .with_context(|| format!("copy {}", program.display()))?;
    pack(folder, name, root.path(), &[&["/program"], arguments].concat())
}

/// Adds busybox, its applets and the users root and nobody to a root file system.
pub(crate) fn add_busybox(root: &Path) -> Result<()> {
    if !Path::new(BUSYBOX).exists() {
        bail!("{BUSYBOX} is missing: install busybox-static");
    }
    for folder in ["bin", "etc", "tmp", "var"] {
        std::fs::create_dir_all(root.join(folder)).context("make the root file system")?;
    }
    std::fs::copy(BUSYBOX, root.join("bin/busybox")).context("copy busybox")?;
    let applets = Command::new(BUSYBOX)
        .arg("--list")
        .output()
        .context("list busybox's applets")?;
    for applet in String::from_utf8_lossy(&applets.stdout).lines() {
        let link = root.join("bin").join(applet);
        if !link.exists() {
            std::os::unix::fs::symlink("busybox", link).context("link an applet")?;
        }
    }
    std::fs::write(root.join("etc/passwd"), USERS).context("write passwd")?;
    std::fs::write(root.join("etc/group"), GROUPS).context("write group")
}

/// Writes the archive of an image with the single layer `root` that runs `command`.
pub(crate) fn pack(folder: &Path, name: &str, root: &Path, command: &[&str]) -> Result<PathBuf> {
    let work = tempfile::tempdir_in(folder).context("make a folder")?;
    let layout = work.path().join("layout");
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).context("make the image's folder")?;
    let layer = work.path().join("layer.tar");
    run(Command::new("tar")
        .args(["--owner=0", "--group=0", "-cf"])
        .arg(&layer)
        .arg("-C")
        .arg(root)
        .arg("."))?;
    let add = |file: &Path| -> Result<serde_json::Value> {
        let size = file.metadata().context("look at a blob")?.len();
        let digest = sha256(file)?;
        std::fs::rename(file, blobs.join(&digest)).context("move a blob")?;
        Ok(json!({"digest": format!("sha256:{digest}"), "size": size}))
    };
    let add_text = |text: String| -> Result<serde_json::Value> {
        let file = work.path().join("blob");
        std::fs::write(&file, text).context("write a blob")?;
        add(&file)
    };
    let mut layer_blob = add(&layer)?;
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Cmd": command, "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer_blob["digest"]]},
    });
    layer_blob["mediaType"] = "application/vnd.oci.image.layer.v1.tar".into();
    let mut config_blob = add_text(config.to_string())?;
    config_blob["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config_blob, "layers": [layer_blob],
    });
    let mut manifest_blob = add_text(manifest.to_string())?;
    manifest_blob["mediaType"] = "application/vnd.oci.image.manifest.v1+json".into();
    manifest_blob["annotations"] =
        json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [manifest_blob]});
    std::fs::write(layout.join("index.json"), index.to_string()).context("write the index")?;
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
        .context("write the layout")?;
    let archive = folder.join(format!("{}.tar", name.replace(['/', ':', '@'], "_")));
    run(Command::new("tar")
        .arg("-cf")
        .arg(&archive)
        .arg("-C")
        .arg(&layout)
        .arg("."))?;
    Ok(archive)
}

fn sha256(file: &Path) -> Result<String> {
    let output = Command::new("sha256sum")
        .arg(file)
        .output()
        .context("start sha256sum")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace()
        .next()
        .map(str::to_owned)
        .context("read what sha256sum printed")
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
