use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|n| (*n).to_owned()).collect()
}

#[test]
fn authority_is_made_once_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let first = Pki::open(dir.path(), now()).unwrap();
    let second = Pki::open(dir.path(), now()).unwrap();
    assert_eq!(first.authority(), second.authority());
    assert_eq!(first.service_account_key(), second.service_account_key());
}

#[test]
fn keys_are_private_to_the_owner() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path(), now()).unwrap();
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
    let pki = Pki::open(dir.path(), now()).unwrap();
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
    let pki = Pki::open(dir.path(), now()).unwrap();
    let first = pki.client("admin", &User::admin(), now()).unwrap();
    let later = now().checked_add(SignedDuration::from_hours(24 * 330)).unwrap();
    let renewed = pki.client("admin", &User::admin(), later).unwrap();
    assert_ne!(first.certificate, renewed.certificate);
}

#[test]
fn certificate_names_its_user_and_groups() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path(), now()).unwrap();
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
    let pki = Pki::open(dir.path(), now()).unwrap();
    let first = pki.client("admin", &User::admin(), now()).unwrap();
    let stranger = new_key().unwrap().serialize_pem();
    std::fs::write(dir.path().join("pki/admin.key"), stranger).unwrap();
    let second = pki.client("admin", &User::admin(), now()).unwrap();
    assert_ne!(first.certificate, second.certificate);
}

#[test]
fn authority_without_its_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Pki::open(dir.path(), now()).unwrap());
    std::fs::remove_file(dir.path().join("pki/ca.key")).unwrap();
    assert!(matches!(
        Pki::open(dir.path(), now()),
        Err(PkiError::Damaged { .. })
    ));
}
