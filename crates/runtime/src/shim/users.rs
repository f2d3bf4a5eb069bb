//! Users of containers: names and numbers of an image's `USER`, looked up in the image's own files.

use std::path::Path;

use crate::beneath::Root;
use crate::error::Context as _;
use crate::{Error, ErrorKind, Result, SecuritySpec};

/// Limit of an account file in bytes.
const FILE_LIMIT: u64 = 4 << 20;

/// User and group numbers of a process.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

/// Resolves the user of the security context and of the image with the image's `/etc/passwd` and
/// `/etc/group`.
pub(super) fn resolve(rootfs: &Path, security: &SecuritySpec, image_user: &str) -> Result<User> {
    let passwd = read_in(rootfs, "etc/passwd")?;
    let group = read_in(rootfs, "etc/group")?;
    resolve_in(&passwd, &group, security, image_user)
}

fn resolve_in(passwd: &str, group: &str, security: &SecuritySpec, image_user: &str) -> Result<User> {
    let asked = security.user.as_deref().unwrap_or(image_user);
    let (user, group_of) = match asked.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (asked, None),
    };
    let number: Option<u32> = if user.is_empty() {
        Some(0)
    } else {
        user.parse().ok()
    };
    let account = accounts(passwd).find(|account| match number {
        Some(number) => account.uid == number,
        None => account.name == user,
    });
    let uid = match (number, &account) {
        (Some(number), _) => number,
        (None, Some(account)) => account.uid,
        (None, None) => {
            return Err(Error::new(
                ErrorKind::StartFailed,
                format!("unable to find user {user}: no matching entries in passwd file"),
            ));
        }
    };
    if security.run_as_non_root && number.is_none() {
        return Err(Error::new(
            ErrorKind::RunAsNonRoot,
            format!(
                "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root"
            ),
        ));
    }
    if security.run_as_non_root && uid == 0 {
        return Err(Error::new(
            ErrorKind::RunAsNonRoot,
            "container has runAsNonRoot and image will run as root",
        ));
    }
    let gid = match (security.group, group_of) {
        (Some(gid), _) => gid,
        (None, Some(name)) => match name.parse() {
            Ok(gid) => gid,
            Err(_) => groups(group)
                .find(|line| line.name == name)
                .map(|line| line.gid)
                .ok_or_else(|| {
                    Error::new(
                        ErrorKind::StartFailed,
                        format!("unable to find group {name}: no matching entries in group file"),
                    )
                })?,
        },
        (None, None) => account.as_ref().map_or(0, |account| account.gid),
    };
    let mut supplementary: Vec<u32> = account
        .iter()
        .flat_map(|account| {
            groups(group)
                .filter(|line| line.members.contains(&account.name))
                .map(|line| line.gid)
        })
        .chain(security.supplementary_groups.iter().copied())
        .collect();
    supplementary.push(gid);
    supplementary.sort_unstable();
    supplementary.dedup();
    Ok(User {
        uid,
        gid,
        groups: supplementary,
        home: account
            .map(|account| account.home)
            .filter(|home| !home.is_empty())
            .unwrap_or("/")
            .to_owned(),
    })
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some(Account {
            name: fields.next()?,
            uid: fields.nth(1)?.parse().ok()?,
            gid: fields.next()?.parse().ok()?,
            home: fields.nth(1).unwrap_or(""),
        })
    })
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: Vec<&'a str>,
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some(Group {
            name: fields.next()?,
            gid: fields.nth(1)?.parse().ok()?,
            members: fields.next().unwrap_or("").split(',').collect(),
        })
    })
}

/// Reads a file of the image; symbolic links are resolved inside the image. Empty if the file is
/// missing or not a regular file.
fn read_in(rootfs: &Path, path: &str) -> Result<String> {
    let root = Root::container(rootfs).context(|| format!("open {}", rootfs.display()))?;
    let bytes = root.read(Path::new(path), FILE_LIMIT).ok().flatten();
    Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/:/bin/false\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nlog:x:4:web,other\n";

    fn resolve(security: &SecuritySpec, image_user: &str) -> Result<User> {
        resolve_in(PASSWD, GROUP, security, image_user)
    }

    #[test]
    fn names_bring_their_groups() {
        let user = resolve(&SecuritySpec::default(), "web").unwrap();
        assert_eq!(
            user,
            User {
                uid: 33,
                gid: 34,
                groups: vec![4, 34],
                home: "/".into()
            }
        );
        let user = resolve(&SecuritySpec::default(), "web:log").unwrap();
        assert_eq!((user.uid, user.gid), (33, 4));
    }

    #[test]
    fn numbers_need_no_account() {
        let user = resolve(&SecuritySpec::default(), "1234").unwrap();
        assert_eq!(
            user,
            User {
                uid: 1234,
                gid: 0,
                groups: vec![0],
                home: "/".into()
            }
        );
        let user = resolve(&SecuritySpec::default(), "1234:55").unwrap();
        assert_eq!((user.uid, user.gid), (1234, 55));
    }

    #[test]
    fn the_security_context_wins() {
        let security = SecuritySpec {
            user: Some("7".into()),
            group: Some(8),
            supplementary_groups: vec![9],
            ..SecuritySpec::default()
        };
        let user = resolve(&security, "web").unwrap();
        assert_eq!(
            user,
            User {
                uid: 7,
                gid: 8,
                groups: vec![8, 9],
                home: "/".into()
            }
        );
    }

    #[test]
    fn root_and_names_are_refused_where_root_is_forbidden() {
        let security = SecuritySpec {
            run_as_non_root: true,
            ..SecuritySpec::default()
        };
        for user in ["", "0", "root", "web"] {
            assert_eq!(
                resolve(&security, user).unwrap_err().kind,
                ErrorKind::RunAsNonRoot,
                "{user:?}"
            );
        }
        assert_eq!(resolve(&security, "33").unwrap().uid, 33);
    }

    #[test]
    fn unknown_names_fail() {
        let error = resolve(&SecuritySpec::default(), "nobody").unwrap_err();
        assert!(
            error.message.contains("no matching entries in passwd file"),
            "{error}"
        );
    }
}
