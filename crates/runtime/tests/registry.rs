//! Tests of registries and archives with wrong data: each is refused at its limit, and its disk
//! space is freed.

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use common::registry::{Answer, Blobs, Registry, digest, manifest, not_found, pull};
use common::{architecture, docker_archive, file, kind, layer};
use runtime::{Credentials, ErrorKind, ImageLimits, Images};

/// Bytes that the socket buffers of both ends may hold in addition to those that a client reads.
const BUFFERS: u64 = 16 << 20;

fn store() -> (tempfile::TempDir, Images) {
    let folder = tempfile::tempdir().unwrap();
    let images = Images::open(folder.path()).unwrap();
    (folder, images)
}

/// Asserts that nothing of a refused image is left.
fn assert_empty(folder: &Path) {
    for part in ["tmp", "layers", "records"] {
        let left: Vec<_> = fs::read_dir(folder.join("images").join(part)).unwrap().collect();
        assert!(left.is_empty(), "{part}: {left:?}");
    }
}

fn config(diff_ids: &[String]) -> String {
    let ids: Vec<String> = diff_ids.iter().map(|id| format!("\"{id}\"")).collect();
    format!(
        r#"{{"architecture":"{}","os":"linux","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        architecture(),
        ids.join(",")
    )
}

/// Returns a registry of an image with one layer, with the announced size and digest and the sent
/// content.
fn liar(announced: u64, digest: String, layer: fn() -> Answer) -> Registry {
    let config = config(&[format!("sha256:{}", "a".repeat(64))]);
    let manifest = manifest(
        &common::registry::digest(config.as_bytes()),
        config.len(),
        &[(digest, announced)],
    );
    Registry::serve(move |request| match request.path.as_str() {
        "/v2/app/manifests/1" => Answer::Blob(manifest.clone().into()),
        path if path.ends_with(&common::registry::digest(config.as_bytes())) => {
            Answer::Blob(config.clone().into())
        }
        path if path.contains("/blobs/") => layer(),
        _ => not_found(),
    })
}

#[test]
fn endless_answers_are_cut_at_their_bounds() {
    let (folder, images) = store();
    let some = digest(b"some");
    let endless = || Answer::Endless("200 OK");
    let document = Registry::serve(|_| Answer::Endless("200 OK"));
    let error = Registry::serve(|_| Answer::Endless("500 Internal Server Error"));
    let layer = liar(1000, some.clone(), endless);
    let tokens = Registry::serve(|request| match request.path.starts_with("/token") {
        true => Answer::Endless("200 OK"),
        false => Answer::Other("401 Unauthorized", challenge(request), Vec::new()),
    });
    let config = manifest(&some, 1 << 20, &[]);
    let config = Registry::serve(move |request| match request.path.contains("manifests") {
        true => Answer::Blob(config.clone().into()),
        false => Answer::Endless("200 OK"),
    });
    for (registry, reason) in [
        (&document, "more than 4194304 bytes as the manifest"),
        (&error, "500 Internal Server Error"),
        (&layer, "more than 1000 bytes as sha256:"),
        (&tokens, "more than 262144 bytes as the token"),
        (&config, "more than 1048576 bytes as sha256:"),
    ] {
        let (_, message) = kind(pull(&images, &registry.name("app:1"), Credentials::Anonymous));
        assert!(message.contains(reason), "{message}");
        assert!(
            registry.sent() < (4 << 20) + BUFFERS,
            "{reason}: {}",
            registry.sent()
        );
        assert_empty(folder.path());
    }
}

/// Returns a challenge that names a token server at the registry's address.
fn challenge(request: &common::registry::Request) -> String {
    let host = request.host.clone();
    format!("www-authenticate: Bearer realm=\"http://{host}/token\",service=\"s\"\r\n")
}

#[test]
fn a_layer_that_differs_from_its_descriptor_is_refused() {
    let (folder, images) = store();
    let some = digest(b"some");
    for (registry, reason) in [
        (liar(1000, some.clone(), || Answer::Short(1000)), "breaks sha256:"),
        (
            liar(4, some.clone(), || Answer::Blob(b"else".into())),
            "sends something else as sha256:",
        ),
        (
            liar(9, some.clone(), || Answer::Blob(b"some".into())),
            "sends 4 bytes as",
        ),
        (
            liar(4, some.clone(), || Answer::Blob(b"some".into())),
            "layer sha256:aaaa",
        ),
        (
            liar(u64::MAX, some.clone(), not_found),
            "the packed image has more than",
        ),
        (liar(33 << 30, some, not_found), "the packed image has more than"),
        (
            liar(1, "sha256:../../../../etc/passwd".into(), not_found),
            "is malformed",
        ),
    ] {
        let (error, message) = kind(pull(&images, &registry.name("app:1"), Credentials::Anonymous));
        assert!(message.contains(reason), "{message}");
        assert_ne!(error, ErrorKind::NotFound, "{message}");
        assert_empty(folder.path());
    }
}

#[test]
fn redirects_that_lead_nowhere_end() {
    let (_folder, images) = store();
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = count.clone();
    let registry = Registry::serve(move |request| {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Answer::Redirect(request.path.clone())
    });
    let (error, message) = kind(pull(&images, &registry.name("app:1"), Credentials::Anonymous));
    assert_eq!(error, ErrorKind::RegistryUnavailable, "{message}");
    assert!(message.contains("more than 10 redirects"), "{message}");
    assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 11);
}

#[test]
fn documents_that_make_no_sense_are_refused() {
    let (folder, images) = store();
    let layers = vec![(digest(b"some"), 1u64); 20_000];
    let both = format!(
        r#"{{"manifests":[],"config":{{"digest":"{}"}},"layers":[]}}"#,
        digest(b"")
    );
    for (document, reason) in [
        (manifest(&digest(b"some"), 1, &layers), "lists 20000 layers"),
        (both, "an index and a manifest at once"),
        (
            r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(),
            "schema version 1",
        ),
        ("[[[[".to_owned(), "image manifest: "),
        (
            manifest(&digest(b"some"), 5 << 20, &[]),
            "announces 5242880 bytes",
        ),
    ] {
        let registry = Registry::serve(move |_| Answer::Blob(document.clone().into()));
        let (error, message) = kind(pull(&images, &registry.name("app:1"), Credentials::Anonymous));
        assert_eq!(error, ErrorKind::Invalid, "{message}");
        assert!(message.contains(reason), "{message}");
        assert_empty(folder.path());
    }
}

#[test]
fn a_token_is_fetched_and_its_server_must_use_tls() {
    let (_folder, images) = store();
    let mut blobs = Blobs::default();
    let top = blobs.image(architecture(), &layer(|tar| file(tar, "f", b"", 0o644)), "");
    let top = blobs.0[&top].clone();
    let registry = Registry::serve(move |request| match request.path.as_str() {
        path if path.starts_with("/token?service=s&scope=repository%3Aapp%3Apull") => {
            Answer::Blob(br#"{"access_token":"t"}"#.to_vec())
        }
        _ if !request.is_bearer => Answer::Other("401 Unauthorized", challenge(request), Vec::new()),
        "/v2/app/manifests/1" => Answer::Blob(top.clone()),
        path => Answer::Blob(blobs.0[path.rsplit('/').next().unwrap()].clone()),
    });
    pull(&images, &registry.name("app:1"), Credentials::Anonymous).unwrap();
    // Another server without TLS gets nothing, above all not the password.
    let other = Registry::serve(|_| Answer::Blob(br#"{"token":"t"}"#.to_vec()));
    let realm = format!("http://127.0.0.1:{}/token", other.port);
    let foreign = Registry::serve(move |_| {
        let ask = format!("www-authenticate: Bearer realm=\"{realm}\"\r\n");
        Answer::Other("401 Unauthorized", ask, Vec::new())
    });
    let user = Credentials::Basic {
        username: "user".into(),
        password: "secret".into(),
    };
    let (error, message) = kind(pull(&images, &foreign.name("app:1"), user));
    assert_eq!(error, ErrorKind::Unauthorized);
    assert!(message.contains("must be an https URL"), "{message}");
    assert_eq!(other.sent(), 0);
}

/// Adds an extension header with this many bytes of content.
fn extension(tar: &mut tar::Builder<Vec<u8>>, kind: u8, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(content.len() as u64);
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

/// Adds a file of one byte with a large stated size and holes.
fn sparse(tar: &mut tar::Builder<Vec<u8>>, size: u64) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_path("sparse").unwrap();
    header.set_mode(0o644);
    header.set_size(0);
    let gnu = header.as_gnu_mut().unwrap();
    let octal =
        |field: &mut [u8; 12], number: u64| field.copy_from_slice(format!("{number:011o}\0").as_bytes());
    octal(&mut gnu.sparse[0].offset, size);
    octal(&mut gnu.sparse[0].numbytes, 0);
    octal(&mut gnu.realsize, size);
    header.set_cksum();
    tar.append(&header, std::io::empty()).unwrap();
}

#[test]
fn bombs_are_refused_at_the_limits_and_leave_nothing() {
    let (folder, images) = store();
    let images = images.with_limits(ImageLimits {
        bytes: 8 << 20,
        files: 100,
    });
    let deep = "d/".repeat(90);
    let folders = |tar: &mut tar::Builder<Vec<u8>>| {
        for number in 0..2 {
            file(tar, &format!("{number}/{deep}f"), b"", 0o644);
        }
    };
    let links = |tar: &mut tar::Builder<Vec<u8>>| {
        // Three members whose names contain few folders.
        for (name, target) in [("a", "d/".repeat(60)), ("d", "e/".repeat(60))] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            header.set_mode(0o777);
            tar.append_link(&mut header, name, target).unwrap();
        }
        file(tar, "a/f", b"", 0o644);
    };
    let zeros = vec![0u8; 9 << 20];
    let long = format!("{}f", "d/".repeat(3000));
    let pax = format!("{} SCHILY.xattr.user.a={}\n", (2 << 20) + 29, "x".repeat(2 << 20));
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "content",
            layer(|tar| file(tar, "f", &zeros, 0o644)),
            "more than 8388608 bytes",
        ),
        (
            "holes",
            layer(|tar| sparse(tar, 1 << 32)),
            "more than 8388608 bytes",
        ),
        (
            "files",
            layer(|tar| (0..101).for_each(|number| file(tar, &number.to_string(), b"", 0o644))),
            "more than 100 files",
        ),
        ("folders", layer(folders), "more than 100 files"),
        ("links", layer(links), "more than 100 files"),
        (
            "path",
            layer(|tar| file(tar, &long, b"", 0o644)),
            "a path of 6001 bytes",
        ),
        (
            "long name",
            layer(|tar| extension(tar, b'L', &zeros[..2 << 20])),
            "longer than 1 MiB",
        ),
        (
            "long link",
            layer(|tar| extension(tar, b'K', &zeros[..2 << 20])),
            "longer than 1 MiB",
        ),
        (
            "pax",
            layer(|tar| extension(tar, b'x', pax.as_bytes())),
            "longer than 1 MiB",
        ),
        (
            "trailer",
            [layer(|_| {}), vec![0; 20 << 20]].concat(),
            "longer than its members",
        ),
    ];
    for (name, content, reason) in cases {
        let archive = docker_archive(
            &folder.path().join("bomb.tar"),
            name.split(' ').next().unwrap(),
            &[content],
            "",
        );
        let (error, message) = kind(images.import(&archive, None));
        assert!(message.contains(reason), "{name}: {message}");
        assert!(
            matches!(error, ErrorKind::Invalid | ErrorKind::Machine),
            "{name}: {message}"
        );
        assert_empty(folder.path());
    }
    // Two layers share the limit. An archive that is compressed as a whole has the same limit.
    let half = |name: &str| layer(|tar| file(tar, name, &zeros[..5 << 20], 0o644));
    let archive = docker_archive(&folder.path().join("two.tar"), "two", &[half("a"), half("b")], "");
    assert!(
        kind(images.import(&archive, None))
            .1
            .contains("more than 8388608 bytes")
    );
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&zeros).unwrap();
    let path = folder.path().join("packed.tar.gz");
    fs::write(&path, packed.finish().unwrap()).unwrap();
    assert!(
        kind(images.import(&path, None))
            .1
            .contains("the unpacked archive has more than")
    );
    assert_empty(folder.path());
}

#[test]
fn an_archive_with_endless_headers_is_refused() {
    let (folder, images) = store();
    let path = folder.path().join("x.tar");
    for kind_of_header in [b'L', b'x'] {
        fs::write(
            &path,
            layer(|tar| extension(tar, kind_of_header, &vec![b'a'; 2 << 20])),
        )
        .unwrap();
        let (error, message) = kind(images.import(&path, None));
        assert_eq!(error, ErrorKind::Invalid);
        assert!(message.contains("longer than 1 MiB"), "{message}");
    }
    // A member that is shorter than its stated size uses no memory for the rest.
    let mut archive = layer(|tar| file(tar, "manifest.json", b"[]", 0o644));
    archive.truncate(512);
    fs::write(&path, archive).unwrap();
    kind(images.import(&path, None));
    assert_empty(folder.path());
}

/// Another architecture than this machine's.
const FOREIGN: &str = "s390x";

fn foreign_and_own() -> (Blobs, String, String, String) {
    let mut blobs = Blobs::default();
    let content = |text: &str| layer(|tar| file(tar, "f", text.as_bytes(), 0o644));
    let foreign = blobs.image(FOREIGN, &content("foreign"), r#""User":"1""#);
    let own = blobs.image(architecture(), &content("own"), r#""User":"2""#);
    let index = blobs.index(&[(FOREIGN, &foreign), (architecture(), &own)]);
    (blobs, foreign, own, index)
}

#[test]
fn an_image_for_another_architecture_is_refused() {
    let (folder, images) = store();
    let (mut blobs, foreign, ..) = foreign_and_own();
    let only = blobs.index(&[(FOREIGN, &foreign)]);
    let path = folder.path().join("i.tar");
    let expected = [
        format!("linux/{FOREIGN}"),
        format!("this machine is linux/{}", architecture()),
    ];
    let check = |result: runtime::Result<_>| {
        let (error, message) = kind(result);
        assert_eq!(error, ErrorKind::Invalid);
        assert!(expected.iter().all(|part| message.contains(part)), "{message}");
        assert_empty(folder.path());
    };
    for top in [&foreign, &only] {
        blobs.archive(&path, "example.com/a:1", top);
        check(images.import(&path, None).map(drop));
        let documents = [("app/manifests/1".to_owned(), blobs.0[top].clone())];
        let registry = Registry::of(blobs.0.clone(), documents.into());
        check(pull(&images, &registry.name("app:1"), Credentials::Anonymous).map(drop));
    }
    // The older form of archive has no platforms except the config's.
    let archive = docker_archive(&path, "a", &[layer(|tar| file(tar, "f", b"", 0o644))], "");
    let mut bytes = fs::read(&archive).unwrap();
    let own = format!("\"{}\"", architecture());
    let at = bytes
        .windows(own.len())
        .position(|window| window == own.as_bytes())
        .unwrap();
    bytes[at..at + own.len()].copy_from_slice(b"\"s390x\"");
    fs::write(&archive, bytes).unwrap();
    check(images.import(&archive, None).map(drop));
}

#[test]
fn an_index_leads_to_the_image_of_this_machine() {
    let (folder, images) = store();
    let (blobs, _, own, index) = foreign_and_own();
    let path = folder.path().join("i.tar");
    blobs.archive(&path, "example.com/a:1", &index);
    let imported = images.import(&path, None).unwrap().remove(0);
    assert_eq!(imported.user, "2");
    assert_eq!(imported.repo_digest, Some(format!("example.com/a@{index}")));
    let documents = [("app/manifests/1".to_owned(), blobs.0[&index].clone())];
    let registry = Registry::of(blobs.0.clone(), documents.into());
    let pulled = pull(&images, &registry.name("app:1"), Credentials::Anonymous).unwrap();
    assert_eq!((pulled.user.as_str(), &pulled.digest), ("2", &imported.digest));
    // By digest, as charts do it, and with a tag that the registry does not have.
    for name in [format!("app@{own}"), format!("app:gone@{index}")] {
        let pulled = pull(&images, &registry.name(&name), Credentials::Anonymous).unwrap();
        assert_eq!(pulled.digest, imported.digest);
    }
    let (_, message) = kind(pull(
        &images,
        &registry.name(&format!("app@{}", digest(b"none"))),
        Credentials::Anonymous,
    ));
    assert!(message.contains("does not have it"), "{message}");
}

#[test]
fn a_pinned_image_is_what_its_digest_says() {
    let (folder, images) = store();
    let (blobs, _, own, _) = foreign_and_own();
    let content = blobs.0[&own].clone();
    let registry = Registry::serve(move |_| Answer::Blob(content.clone()));
    let name = registry.name(&format!("app@{}", digest(b"another")));
    let (error, message) = kind(pull(&images, &name, Credentials::Anonymous));
    assert_eq!(error, ErrorKind::Invalid);
    assert!(message.contains("has another digest"), "{message}");
    assert_empty(folder.path());
}

#[test]
fn an_imported_image_is_found_by_its_digest() {
    let (folder, images) = store();
    let (blobs, foreign, own, index) = foreign_and_own();
    let path = folder.path().join("i.tar");
    blobs.archive(&path, "example.com/a:1", &index);
    let id = images.import(&path, None).unwrap().remove(0).digest;
    let found = |name: String| images.resolve(&name).unwrap().map(|info| info.digest);
    for digest in [&index, &own] {
        assert_eq!(found(format!("example.com/a@{digest}")), Some(id.clone()));
        assert_eq!(found(format!("example.com/a:1@{digest}")), Some(id.clone()));
        assert_eq!(found(format!("example.com/a:2@{digest}")), Some(id.clone()));
        assert_eq!(found(format!("example.com/b@{digest}")), None);
    }
    assert_eq!(found(format!("example.com/a:1@{foreign}")), None);
    // A damaged archive cannot claim a digest.
    let mut bad = blobs.clone();
    bad.0.insert(own.clone(), blobs.0[&foreign].clone());
    bad.archive(&path, "example.com/c:1", &own);
    assert!(kind(images.import(&path, None)).1.contains("has another digest"));
}

#[test]
fn leftovers_of_killed_processes_go_and_folders_in_use_stay() {
    let (folder, _images) = store();
    let temporary = folder.path().join("images/tmp");
    let make = |name: &str| -> PathBuf {
        let path = temporary.join(name);
        fs::create_dir_all(path.join("a/b")).unwrap();
        path
    };
    let (left, used) = (make("1-0"), make("2-0"));
    fs::write(left.join("blob"), vec![0; 4096]).unwrap();
    let record = folder.path().join("images/records/0.unfinished");
    fs::write(&record, "{").unwrap();
    let held = fs::File::open(&used).unwrap();
    let held = nix::fcntl::Flock::lock(held, nix::fcntl::FlockArg::LockExclusive).unwrap();
    Images::open(folder.path()).unwrap();
    assert!(used.join("a/b").exists());
    assert!(!left.exists() && !record.exists());
    drop(held);
    Images::open(folder.path()).unwrap();
    assert!(!used.exists());
}
