use std::path::Path;

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn open(dir: &Path) -> Result<Pki, PkiError> {
    Pki::open(dir, &Disk::default(), false, now())
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|n| (*n).to_owned()).collect()
}

#[test]
fn authority_is_made_once_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    let second = open(dir.path()).unwrap();
    assert_eq!(first.authority(), second.authority());
    assert_eq!(first.service_account_key(), second.service_account_key());
}

#[test]
fn keys_are_private_to_the_owner() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let pki = open(dir.path()).unwrap();
    pki.server(&names(&["localhost"]), now()).unwrap();
    for key in ["ca.key", "server.key", "service-account.key"] {
        let mode = std::fs::metadata(dir.path().join("pki").join(key))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
}

#[test]
fn server_certificate_is_kept_until_its_names_change() {
    let dir = tempfile::tempdir().unwrap();
    let pki = open(dir.path()).unwrap();
    let first = pki
        .server(&names(&["localhost", "127.0.0.1", "::1"]), now())
        .unwrap();
    let same = pki
        .server(&names(&["localhost", "127.0.0.1", "::1"]), now())
        .unwrap();
    assert_eq!(first.certificate, same.certificate);
    let other = pki
        .server(&names(&["localhost", "127.0.0.1", "::1", "box"]), now())
        .unwrap();
    assert_ne!(first.certificate, other.certificate);
}

#[test]
fn certificate_near_its_end_is_renewed() {
    let dir = tempfile::tempdir().unwrap();
    let pki = open(dir.path()).unwrap();
    let first = pki.client("admin", &User::admin(), now()).unwrap();
    let later = now().checked_add(SignedDuration::from_hours(24 * 330)).unwrap();
    let renewed = pki.client("admin", &User::admin(), later).unwrap();
    assert_ne!(first.certificate, renewed.certificate);
}

#[test]
fn certificate_names_its_user_and_groups() {
    let dir = tempfile::tempdir().unwrap();
    let pki = open(dir.path()).unwrap();
    let credential = pki.node("worker-1", now()).unwrap();
    let user = with_certificate(&credential.certificate, certificate_user)
        .flatten()
        .unwrap();
    assert_eq!(user, User::node("worker-1"));
    assert_eq!(user.node_name(), Some("worker-1"));
}

#[test]
fn certificate_whose_key_was_lost_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let pki = open(dir.path()).unwrap();
    let first = pki.client("admin", &User::admin(), now()).unwrap();
    let stranger = new_key().unwrap().serialize_pem();
    std::fs::write(dir.path().join("pki/admin.key"), stranger).unwrap();
    let second = pki.client("admin", &User::admin(), now()).unwrap();
    assert_ne!(first.certificate, second.certificate);
}

#[test]
fn authority_without_its_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    std::fs::remove_file(dir.path().join("pki/ca.key")).unwrap();
    assert!(matches!(open(dir.path()), Err(PkiError::Damaged { .. })));
}

#[test]
fn lost_keys_of_a_cluster_are_not_made_anew() {
    for lost in ["ca.crt", "service-account.key", "."] {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        match lost {
            "." => std::fs::remove_dir_all(dir.path().join("pki")).unwrap(),
            file => std::fs::remove_file(dir.path().join("pki").join(file)).unwrap(),
        }
        let error = Pki::open(dir.path(), &Disk::default(), true, now())
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("put the folder pki back"), "{error}");
        assert!(!dir.path().join("pki/ca.crt.new").exists());
    }
}

#[test]
fn keys_are_whole_or_made_anew_wherever_a_start_is_cut() {
    use disk::CutOff;
    use std::sync::Arc;
    for torn in [false, true] {
        for passes in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let cut = Arc::new(match torn {
                false => CutOff::after(passes),
                true => CutOff::within(passes),
            });
            let disk = Disk::gated(cut.clone());
            let user = User::admin();
            let seen = Pki::open(dir.path(), &disk, false, now()).ok().map(|pki| {
                let server = pki.server(&names(&["localhost"]), now()).ok();
                let client = pki.client("admin", &user, now()).ok();
                (pki.authority().to_owned(), server, client)
            });
            let pki = open(dir.path()).unwrap_or_else(|error| panic!("cut after {passes}: {error}"));
            let server = pki.server(&names(&["localhost"]), now()).unwrap();
            let client = pki.client("admin", &user, now()).unwrap();
            if let Some((authority, seen_server, seen_client)) = seen {
                assert_eq!(pki.authority(), authority, "cut after {passes}");
                // Credentials that were issued do not change.
                let same = |seen: Option<Credential>, kept: &Credential| {
                    seen.is_none_or(|seen| seen.key == kept.key && seen.certificate == kept.certificate)
                };
                assert!(
                    same(seen_server, &server) && same(seen_client, &client),
                    "cut after {passes}"
                );
            }
            for credential in [&server, &client] {
                let key = KeyPair::from_pem(&credential.key).unwrap();
                let mine = with_certificate(&credential.certificate, |certificate| {
                    certificate.public_key().subject_public_key.data == key.public_key_raw()
                });
                assert_eq!(mine, Some(true), "cut after {passes}");
            }
            if !cut.has_cut() {
                assert!(passes > 30, "only {passes} operations were cut off");
                break;
            }
        }
    }
}
