//! Tests of images: archives, names, layers and registries.

#![allow(unsafe_code, reason = "extended attributes are read by a system call")]

mod common;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use common::registry::{Answer, Blobs, Registry, not_found, pull};
use common::{Machine, architecture, docker_archive, exit_code, file, kind, layer};
use runtime::{Credentials, ErrorKind, Images, ScratchFile};

fn store() -> (tempfile::TempDir, Images) {
    let folder = tempfile::tempdir().unwrap();
    let images = Images::open(folder.path()).unwrap();
    (folder, images)
}

fn layers(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("images/layers")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn link(tar: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, path: &str, to: &str) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(0o777);
    tar.append_link(&mut header, path, to).unwrap();
}

/// Adds a member whose name the library would refuse to write.
fn wild_file(tar: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

#[test]
fn users_of_the_machine_cannot_enter_what_images_and_pods_bring() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    // An earlier version, or another program, may have created it.
    fs::create_dir(&images).unwrap();
    fs::set_permissions(&images, fs::Permissions::from_mode(0o755)).unwrap();
    Images::open(folder.path()).unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(images), 0o700);
    let machine = Machine::new();
    for name in ["images", "run"] {
        assert_eq!(mode(machine.folder.path().join(name)), 0o700, "{name}");
    }
}

#[test]
fn names_have_one_whole_form() {
    for (name, whole) in [
        ("busybox", "docker.io/library/busybox:latest"),
        ("user/app:1", "docker.io/user/app:1"),
        (
            "quay.io/fluentd_elasticsearch/fluentd:v2.5.2",
            "quay.io/fluentd_elasticsearch/fluentd:v2.5.2",
        ),
        ("localhost:5000/a", "localhost:5000/a:latest"),
    ] {
        assert_eq!(runtime::normalize_name(name).unwrap(), whole);
    }
    for name in ["", "UPPER", "a b", "a:", "/x"] {
        assert_eq!(
            kind(runtime::normalize_name(name)).0,
            ErrorKind::Invalid,
            "{name:?}"
        );
    }
}

#[test]
fn a_layer_is_unpacked_as_it_was_packed() {
    let (folder, images) = store();
    let content = layer(|tar| {
        file(tar, "a/file", b"content", 0o4755);
        link(tar, tar::EntryType::Link, "a/hard", "a/file");
        link(tar, tar::EntryType::Symlink, "b", "a");
        file(tar, "b/through", b"", 0o600);
        file(tar, "a/.wh.gone", b"", 0o600);
        file(tar, "c/.wh..wh..opq", b"", 0o600);
        let mut extended = tar::Header::new_ustar();
        extended.set_entry_type(tar::EntryType::XHeader);
        let record = b"37 SCHILY.xattr.user.flavour=vanilla\n";
        extended.set_size(record.len() as u64);
        tar.append_data(&mut extended, "pax", record.as_slice()).unwrap();
        file(tar, "a/flavoured", b"", 0o644);
    });
    let archive = docker_archive(
        &folder.path().join("i.tar"),
        "one",
        &[content],
        r#","Cmd":["/x"],"StopSignal":"SIGQUIT""#,
    );
    let info = images.import(&archive, None).unwrap().remove(0);
    assert_eq!(info.name, "docker.io/library/one:latest");
    assert_eq!(
        (info.cmd, info.stop_signal),
        (vec!["/x".to_owned()], Some("SIGQUIT".to_owned()))
    );
    let root = layers(folder.path()).remove(0);
    let packed = fs::metadata(root.join("a/file")).unwrap();
    assert_eq!(packed.permissions().mode() & 0o7777, 0o4755);
    assert_eq!(packed.ino(), fs::metadata(root.join("a/hard")).unwrap().ino());
    assert_eq!(fs::read_link(root.join("b")).unwrap(), Path::new("a"));
    assert!(root.join("a/through").exists());
    let whiteout = fs::symlink_metadata(root.join("a/gone")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    assert_eq!(
        xattr(&root.join("c"), "trusted.overlay.opaque").as_deref(),
        Some("y")
    );
    assert_eq!(
        xattr(&root.join("a/flavoured"), "user.flavour").as_deref(),
        Some("vanilla")
    );
}

fn xattr(path: &Path, name: &str) -> Option<String> {
    let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    let name = std::ffi::CString::new(name).unwrap();
    let mut value = [0u8; 64];
    // SAFETY: both strings end in NUL and the buffer is as long as said.
    let length = unsafe {
        libc::lgetxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    let length = usize::try_from(length).ok()?;
    Some(String::from_utf8(value[..length].to_vec()).unwrap())
}

#[test]
fn no_archive_reaches_out_of_its_layer() {
    let (folder, images) = store();
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let absolute = outside.display().to_string();
    let content = layer(|tar| {
        wild_file(tar, "../../../../outside/dots", b"x");
        wild_file(tar, "/rooted", b"x");
        link(tar, tar::EntryType::Symlink, "out", &absolute);
        wild_file(tar, "out/through", b"x");
        link(tar, tar::EntryType::Symlink, "up", "../../../../outside");
        wild_file(tar, "up/through", b"x");
    });
    let archive = docker_archive(&folder.path().join("i.tar"), "bad", &[content], "");
    // Such an archive may be refused or kept inside the folder.
    let imported = images.import(&archive, None);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{imported:?}");
    assert!(!Path::new("/rooted").exists());
}

#[test]
fn damaged_and_foreign_archives_are_refused_with_a_reason() {
    let (folder, images) = store();
    let path = folder.path().join("x");
    for (content, reason) in [
        (b"no tar at all".to_vec(), "image archive"),
        (
            layer(|tar| file(tar, "hello", b"", 0o644)),
            "neither index.json nor manifest.json",
        ),
        (
            layer(|tar| file(tar, "manifest.json", b"{", 0o644)),
            "manifest.json",
        ),
        (
            layer(|tar| {
                file(
                    tar,
                    "manifest.json",
                    br#"[{"Config":"c","RepoTags":["a"],"Layers":[]}]"#,
                    0o644,
                )
            }),
            "lacks c",
        ),
    ] {
        fs::write(&path, content).unwrap();
        let (error, message) = kind(images.import(&path, None));
        assert!(message.contains(reason), "{message}");
        assert_eq!(error, ErrorKind::Invalid, "{message}");
    }
    // A layer without the digest in the config.
    let good = docker_archive(
        &folder.path().join("i.tar"),
        "a",
        &[layer(|tar| file(tar, "f", b"1", 0o644))],
        "",
    );
    let text = fs::read(&good).unwrap();
    let at = text.windows(7).position(|window| window == b"sha256:").unwrap() + 7;
    let mut bad = text.clone();
    bad[at] = if bad[at] == b'0' { b'1' } else { b'0' };
    fs::write(&path, bad).unwrap();
    assert!(kind(images.import(&path, None)).1.contains("damaged"));
    assert!(layers(folder.path()).is_empty());
    assert_eq!(fs::read_dir(folder.path().join("images/tmp")).unwrap().count(), 0);
}

#[test]
fn an_oci_archive_is_imported_under_any_name() {
    let (folder, images) = store();
    let content = layer(|tar| file(tar, "f", b"oci", 0o644));
    let mut blobs = Blobs::default();
    let manifest = blobs.image(architecture(), &content, "");
    let path = folder.path().join("oci.tar");
    blobs.archive(&path, "registry.k8s.io/e2e/agnhost:2.47", &manifest);
    let archive = fs::read(&path).unwrap();
    let info = images.import(&path, None).unwrap().remove(0);
    assert_eq!(info.name, "registry.k8s.io/e2e/agnhost:2.47");
    // Compressed as a whole, with a given name.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&archive).unwrap();
    fs::write(&path, packed.finish().unwrap()).unwrap();
    images
        .import(&path, Some("quay.io/fluentd_elasticsearch/fluentd:v2.5.2"))
        .unwrap();
    let names: Vec<String> = images.list().unwrap().into_iter().map(|info| info.name).collect();
    assert_eq!(
        names,
        [
            "quay.io/fluentd_elasticsearch/fluentd:v2.5.2",
            "registry.k8s.io/e2e/agnhost:2.47"
        ]
    );
    assert_eq!(layers(folder.path()).len(), 1, "the layer is shared");
    images.remove(&names[0]).unwrap();
    assert_eq!(layers(folder.path()).len(), 1);
    images.remove(&names[1]).unwrap();
    assert_eq!(layers(folder.path()).len(), 0);
    assert_eq!(kind(images.remove(&names[1])).0, ErrorKind::NotFound);
}

#[test]
fn upper_layers_hide_what_is_below_and_an_image_in_use_stays() {
    let machine = Machine::new();
    let images = machine.runtime().images();
    let base = layer(|tar| {
        let mut busybox = fs::File::open("/bin/busybox").unwrap();
        tar.append_file("bin/sh", &mut busybox).unwrap();
        file(tar, "keep", b"1", 0o644);
        file(tar, "drop", b"2", 0o644);
        file(tar, "dir/old", b"3", 0o644);
    });
    let top = layer(|tar| {
        file(tar, ".wh.drop", b"", 0o600);
        file(tar, "dir/.wh..wh..opq", b"", 0o600);
        file(tar, "dir/new", b"4", 0o644);
    });
    let archive = docker_archive(
        &machine.folder.path().join("two.tar"),
        "two",
        &[base, top],
        r#","Entrypoint":["/bin/sh","-c"],"Cmd":["exit 9"]"#,
    );
    images.import(&archive, None).unwrap();
    let pod = machine.pod("p");
    let (log, _) = machine.run(&pod, "echo /keep /drop* /dir/*", |spec| spec.image = "two".into());
    assert_eq!(log, "/keep /drop* /dir/new\n");
    let (_, status) = machine.run(&pod, "", |spec| {
        spec.image = "docker.io/library/two".into();
        spec.command.clear();
    });
    assert_eq!(exit_code(&status), 9);
    assert_eq!(kind(images.remove("two")).0, ErrorKind::InUse);
    // Another name does not permit the removal of the name by which a container was started.
    images.import(&archive, Some("second")).unwrap();
    assert_eq!(kind(images.remove("two")).0, ErrorKind::InUse);
    images.remove("second").unwrap();
    machine.runtime().remove_pod("p").unwrap();
    images.remove("two").unwrap();
}

#[test]
fn a_container_knows_the_manifest_that_it_was_started_by() {
    let machine = Machine::new();
    let images = machine.runtime().images();
    let base = layer(|tar| {
        let mut busybox = fs::File::open("/bin/busybox").unwrap();
        tar.append_file("bin/sh", &mut busybox).unwrap();
    });
    let mut blobs = Blobs::default();
    let manifest = blobs.image(architecture(), &base, "");
    let path = machine.folder.path().join("bb.tar");
    blobs.archive(&path, "example.com/bb:1", &manifest);
    let id = images.import(&path, None).unwrap().remove(0).digest;
    let pod = machine.pod("p");
    let pinned = format!("example.com/bb@{manifest}");
    let (_, status) = machine.run(&pod, "exit 0", |spec| spec.image.clone_from(&pinned));
    assert_eq!((status.image_ref, status.image_id), (pinned.clone(), id));
    // The container uses the image by digest, and this is the last name with the digest.
    assert_eq!(kind(images.remove("example.com/bb:1")).0, ErrorKind::InUse);
    machine.runtime().remove_pod("p").unwrap();
    images.remove("example.com/bb:1").unwrap();
    assert_eq!(images.resolve(&pinned).unwrap(), None);
}

#[test]
fn an_image_of_one_program_needs_no_archive() {
    let machine = Machine::new();
    let program = ScratchFile {
        path: "/busybox".into(),
        source: "/bin/busybox".into(),
        mode: 0o755,
    };
    let entrypoint = ["/busybox", "sh", "-c"].map(String::from);
    let info = machine
        .runtime()
        .images()
        .import_scratch("everynode/hello:1", &[program], &entrypoint)
        .unwrap();
    assert_eq!(info.name, "docker.io/everynode/hello:1");
    let pod = machine.pod("p");
    let (log, _) = machine.run(&pod, "", |spec| {
        spec.image = "everynode/hello:1".into();
        spec.command.clear();
        spec.args = vec!["echo alone".into()];
    });
    assert_eq!(log, "alone\n");
}

/// Returns a registry that serves one image as `app:1`, and requires a password for `secret:1`.
fn registry(blobs: Blobs, manifest: String) -> Registry {
    Registry::serve(move |request| {
        let content = |digest: &str| blobs.0.get(digest).cloned().map(Answer::Blob);
        let found = match request.path.as_str() {
            "/v2/app/manifests/1" => content(&manifest),
            "/v2/secret/manifests/1" if request.is_basic => content(&manifest),
            path => path.rsplit('/').next().and_then(content),
        };
        found.unwrap_or_else(|| match request.path.contains("secret") {
            true => Answer::Other(
                "401 Unauthorized",
                "www-authenticate: Basic realm=\"here\"\r\n".into(),
                br#"{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}"#.to_vec(),
            ),
            false => not_found(),
        })
    })
}

#[test]
fn an_image_is_pulled_from_a_registry() {
    let (folder, images) = store();
    let mut blobs = Blobs::default();
    let manifest = blobs.image(
        architecture(),
        &layer(|tar| file(tar, "f", b"pulled", 0o644)),
        r#""User":"33""#,
    );
    let registry = registry(blobs, manifest.clone());
    let info = pull(&images, &registry.name("app:1"), Credentials::Anonymous).unwrap();
    assert_eq!(info.user, "33");
    assert_eq!(info.repo_digest, Some(registry.name(&format!("app@{manifest}"))));
    assert_eq!(fs::read(layers(folder.path())[0].join("f")).unwrap(), b"pulled");
    let (error, message) = kind(pull(&images, &registry.name("other:1"), Credentials::Anonymous));
    assert_eq!(error, ErrorKind::ImageNotFound, "{message}");
    let (error, message) = kind(pull(&images, &registry.name("secret:1"), Credentials::Anonymous));
    assert_eq!(error, ErrorKind::Unauthorized, "{message}");
    let basic = Credentials::Basic {
        username: "u".into(),
        password: "p".into(),
    };
    pull(&images, &registry.name("secret:1"), basic).unwrap();
}

#[test]
fn an_unreachable_registry_is_told_at_once_and_by_name() {
    let (_folder, images) = store();
    let started = Instant::now();
    let (error, message) = kind(pull(&images, "registry.invalid/app:1", Credentials::Anonymous));
    assert_eq!(error, ErrorKind::RegistryUnavailable, "{message}");
    assert!(
        message.contains("registry registry.invalid is not reachable"),
        "{message}"
    );
    // A port without a listener.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let (error, message) = kind(pull(
        &images,
        &format!("127.0.0.1:{port}/app:1"),
        Credentials::Anonymous,
    ));
    assert_eq!(error, ErrorKind::RegistryUnavailable, "{message}");
    assert!(message.to_lowercase().contains("refused"), "{message}");
    // Longer than a resolver's own timeout, but shorter than several attempts.
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}
