//! A container image for tests, made of Debian's static busybox.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;

const BUSYBOX: &str = "/bin/busybox";

/// Writes an OCI archive `name`.tar into `folder`: a root file system of busybox and its applets, under the image
/// name `name`, running `command`.
///
/// # Errors
/// When busybox-static is not installed or the archive cannot be written.
pub fn busybox(folder: &Path, name: &str, command: &[&str]) -> Result<PathBuf> {
    if !Path::new(BUSYBOX).exists() {
        bail!("{BUSYBOX} is missing: install busybox-static");
    }
    let work = tempfile::tempdir_in(folder).context("make a folder")?;
    let layer = layer(work.path())?;
    let layout = work.path().join("layout");
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).context("make the image's folder")?;
    let add = |bytes: &[u8]| -> Result<serde_json::Value> {
        let digest = sha256(work.path(), bytes)?;
        std::fs::write(blobs.join(&digest), bytes).context("write a blob")?;
        Ok(json!({"digest": format!("sha256:{digest}"), "size": bytes.len()}))
    };
    let mut layer_blob = add(&layer)?;
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Cmd": command, "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer_blob["digest"]]},
    });
    layer_blob["mediaType"] = "application/vnd.oci.image.layer.v1.tar".into();
    let mut config_blob = add(config.to_string().as_bytes())?;
    config_blob["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config_blob, "layers": [layer_blob],
    });
    let mut manifest_blob = add(manifest.to_string().as_bytes())?;
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

fn layer(work: &Path) -> Result<Vec<u8>> {
    let root = work.join("root");
    for folder in ["bin", "etc", "tmp", "var"] {
        std::fs::create_dir_all(root.join(folder)).context("make the root file system")?;
    }
    std::fs::copy(BUSYBOX, root.join("bin/busybox")).context("copy busybox")?;
    let applets = Command::new(BUSYBOX)
        .arg("--list")
        .output()
        .context("list busybox's applets")?;
    for applet in String::from_utf8_lossy(&applets.stdout)
        .lines()
        .filter(|applet| *applet != "busybox")
    {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).context("link an applet")?;
    }
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    )
    .context("write passwd")?;
    std::fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n").context("write group")?;
    let tar = work.join("layer.tar");
    run(Command::new("tar")
        .args(["--owner=0", "--group=0", "-cf"])
        .arg(&tar)
        .arg("-C")
        .arg(&root)
        .arg("."))?;
    std::fs::read(&tar).context("read the layer")
}

fn sha256(work: &Path, bytes: &[u8]) -> Result<String> {
    let file = work.join("blob");
    std::fs::write(&file, bytes).context("write a blob")?;
    let output = Command::new("sha256sum")
        .arg(&file)
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
