//! Bootstrap tokens, with which a machine without a certificate requests one.
//!
//! A token is `<id>.<secret>` and stored as a Secret of its own type, as in Kubernetes.
//! Administrators copy a join token to a machine: `<id>.<secret>@sha256:<hash>`. The hash of the
//! cluster's certificate authority lets the machine verify the server.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::certificates::sha256;
use crate::meta;
use crate::time;

/// The namespace of the tokens' Secrets.
pub const NAMESPACE: &str = "kube-system";
/// The type of a token's Secret.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// The prefix of the name of a token's Secret; the id of the token follows.
pub const NAME_PREFIX: &str = "bootstrap-token-";
/// The group of all users that authenticate with a token.
pub const GROUP: &str = "system:bootstrappers";
/// The group of users whose token lets nodes join.
pub const NODE_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
/// The prefix of the name of such a user; the id of the token follows.
pub const USER_PREFIX: &str = "system:bootstrap:";

/// Number of characters of an id.
const ID: usize = 6;
/// Number of characters of a secret.
const SECRET: usize = 16;
/// Number of hexadecimal digits of a SHA-256.
const HASH: usize = 64;
/// The separator between a token and the hash of the authority.
const HASH_MARK: &str = "@sha256:";
/// Most bytes of a group's name after the prefix [`GROUP`] and a colon.
const GROUP_LENGTH: usize = 256;

/// A token, as a client presents it.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    /// The public part, which is in the name of the Secret.
    pub id: String,
    /// The secret part.
    pub secret: String,
}

impl BootstrapToken {
    /// Parses `abcdef.0123456789abcdef`.
    pub fn parse(text: &str) -> Option<BootstrapToken> {
        let (id, secret) = text.split_once('.')?;
        let fits = |part: &str, length: usize| part.len() == length && part.bytes().all(is_token_character);
        (fits(id, ID) && fits(secret, SECRET)).then(|| BootstrapToken {
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }

    /// Makes a token from random bytes.
    pub fn random(bits: [u8; ID + SECRET]) -> BootstrapToken {
        // 256 is not a multiple of 36: the first four characters occur 1.14 times as often. The 16
        // characters of the secret still hold 82 bits.
        const CHARACTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let text: String = bits
            .iter()
            .map(|bit| char::from(CHARACTERS[usize::from(*bit) % CHARACTERS.len()]))
            .collect();
        let (id, secret) = text.split_at(ID);
        BootstrapToken {
            id: id.to_owned(),
            secret: secret.to_owned(),
        }
    }

    /// Returns the name of the Secret that stores the token.
    pub fn secret_name(&self) -> String {
        format!("{NAME_PREFIX}{}", self.id)
    }

    /// Returns the Secret that makes the token valid until `expires`, or without end.
    pub fn to_secret(&self, expires: Option<Timestamp>, description: &str) -> Value {
        let mut data = json!({
            "token-id": STANDARD.encode(&self.id),
            "token-secret": STANDARD.encode(&self.secret),
            "usage-bootstrap-authentication": STANDARD.encode("true"),
            "auth-extra-groups": STANDARD.encode(NODE_GROUP),
        });
        if let Some(expires) = expires {
            data["expiration"] = STANDARD.encode(time::rfc3339(expires)).into();
        }
        if !description.is_empty() {
            data["description"] = STANDARD.encode(description).into();
        }
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": self.secret_name(), "namespace": NAMESPACE},
            "type": SECRET_TYPE,
            "data": data,
        })
    }

    /// Returns the groups of a client that presents this token, from the Secret of its id. The
    /// error says why the token is not valid.
    pub fn groups(&self, secret: &Value, now: Timestamp) -> Result<Vec<String>, &'static str> {
        let stored = StoredToken::of_secret(secret).ok_or("its Secret is of another type")?;
        if meta::deletion_timestamp(secret).is_some() {
            return Err("it is being deleted");
        }
        // Comparing digests makes the duration independent of the secret.
        if sha256(stored.secret.as_bytes()) != sha256(self.secret.as_bytes()) || stored.id != self.id {
            return Err("its secret is wrong");
        }
        if stored.has_expired(now) {
            return Err("it has expired");
        }
        if !stored.authenticates {
            return Err("usage-bootstrap-authentication is not true");
        }
        let mut groups = vec![GROUP.to_owned()];
        for group in stored.groups {
            if !is_bootstrap_group(&group) {
                return Err("auth-extra-groups has a group that does not start with system:bootstrappers:");
            }
            groups.push(group);
        }
        Ok(groups)
    }
}

impl fmt::Display for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.secret)
    }
}

impl fmt::Debug for BootstrapToken {
    /// Leaves out the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BootstrapToken({})", self.id)
    }
}

/// A token as its Secret stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredToken {
    /// `token-id`
    pub id: String,
    /// `token-secret`
    pub secret: String,
    /// `expiration`, as written; empty when it is absent.
    pub expiration: String,
    /// `usage-bootstrap-authentication`
    pub authenticates: bool,
    /// `usage-bootstrap-signing`
    pub signs: bool,
    /// `auth-extra-groups`
    pub groups: Vec<String>,
    /// `description`
    pub description: String,
}

impl StoredToken {
    /// Returns the token in a Secret; `None` when the Secret has another type.
    pub fn of_secret(secret: &Value) -> Option<StoredToken> {
        if secret["type"] != SECRET_TYPE {
            return None;
        }
        let text = |key: &str| {
            let decoded = STANDARD.decode(secret["data"][key].as_str().unwrap_or_default());
            String::from_utf8(decoded.unwrap_or_default()).unwrap_or_default()
        };
        let groups = text("auth-extra-groups");
        let groups = groups.split(',').map(str::trim).filter(|group| !group.is_empty());
        Some(StoredToken {
            id: text("token-id"),
            secret: text("token-secret"),
            expiration: text("expiration"),
            authenticates: text("usage-bootstrap-authentication") == "true",
            signs: text("usage-bootstrap-signing") == "true",
            groups: groups.map(str::to_owned).collect(),
            description: text("description"),
        })
    }

    /// Returns when the token expires. A time that cannot be parsed counts as past.
    pub fn expiry(&self) -> Option<Timestamp> {
        match self.expiration.as_str() {
            "" => None,
            text => Some(time::parse(text).unwrap_or(Timestamp::MIN)),
        }
    }

    /// Returns whether the token has expired.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expiry().is_some_and(|expiry| expiry <= now)
    }
}

/// A token, and the hash with which a machine verifies the cluster's certificate authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// The token with which the machine requests a certificate.
    pub token: BootstrapToken,
    /// SHA-256 of the authority's public key (SubjectPublicKeyInfo), in hexadecimal digits.
    pub authority: String,
}

impl JoinToken {
    /// Parses `abcdef.0123456789abcdef@sha256:…`. The error does not repeat the secret.
    pub fn parse(text: &str) -> Result<JoinToken, String> {
        let Some((token, hash)) = text.trim().split_once(HASH_MARK) else {
            let why = match BootstrapToken::parse(text.trim()) {
                Some(_) => {
                    "it lacks the hash of the cluster's certificate authority (`@sha256:…`), without which the server cannot be trusted"
                }
                None => "it is not of the form abcdef.0123456789abcdef@sha256:<64 hexadecimal digits>",
            };
            return Err(why.to_owned());
        };
        let Some(token) = BootstrapToken::parse(token) else {
            return Err("the part before `@` is not of the form abcdef.0123456789abcdef".to_owned());
        };
        let is_hash = hash.len() == HASH && hash.bytes().all(|digit| digit.is_ascii_hexdigit());
        match is_hash {
            true => Ok(JoinToken {
                token,
                authority: hash.to_ascii_lowercase(),
            }),
            false => Err(format!(
                "the hash after `{HASH_MARK}` has {} characters instead of {HASH} hexadecimal digits. Copy the whole token",
                hash.len()
            )),
        }
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{HASH_MARK}{}", self.token, self.authority)
    }
}

fn is_token_character(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Returns whether the name is `system:bootstrappers:` and letters, digits, colons and dashes, with
/// a letter or digit at the end.
fn is_bootstrap_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix(':')) else {
        return false;
    };
    let allowed = |byte: u8| is_token_character(byte) || byte == b':' || byte == b'-';
    rest.len() <= GROUP_LENGTH
        && rest.bytes().all(allowed)
        && rest.bytes().last().is_some_and(is_token_character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-02T00:00:00Z".parse().expect("a time")
    }

    fn token() -> BootstrapToken {
        BootstrapToken::parse("abcdef.0123456789abcdef").expect("a token")
    }

    fn hash() -> String {
        "0a".repeat(32)
    }

    #[test]
    fn token_has_six_and_sixteen_lower_case_characters() {
        for text in [
            "",
            "abcdef",
            "abcdef.",
            "abcdef.0123456789abcde",
            "abcdef.0123456789abcdef0",
            "ABCDEF.0123456789abcdef",
            "abcdef.0123456789ABCDEF",
            "abcde_.0123456789abcdef",
            "abcdef.0123456789abcdef.x",
        ] {
            assert_eq!(BootstrapToken::parse(text), None, "{text}");
        }
        assert_eq!(token().to_string(), "abcdef.0123456789abcdef");
    }

    #[test]
    fn random_bytes_make_a_token() {
        for bits in [[0; 22], [255; 22], [77; 22]] {
            let token = BootstrapToken::random(bits);
            assert_eq!(BootstrapToken::parse(&token.to_string()), Some(token));
        }
    }

    #[test]
    fn debug_text_hides_the_secret() {
        assert!(!format!("{:?}", token()).contains("0123456789"));
    }

    #[test]
    fn stored_token_gives_the_groups_of_joining_nodes() {
        let secret = token().to_secret(None, "for rack 7");
        assert_eq!(secret["metadata"]["name"], "bootstrap-token-abcdef");
        let groups = token().groups(&secret, now()).expect("it is good");
        assert_eq!(groups, [GROUP, NODE_GROUP]);
    }

    #[test]
    fn token_is_valid_until_it_expires() {
        let secret = token().to_secret(Some(now()), "");
        let before = now() - jiff::SignedDuration::from_secs(1);
        assert!(token().groups(&secret, before).is_ok());
        assert_eq!(token().groups(&secret, now()), Err("it has expired"));
    }

    #[test]
    fn token_with_unreadable_expiration_has_expired() {
        let mut secret = token().to_secret(Some(now()), "");
        secret["data"]["expiration"] = STANDARD.encode("tomorrow").into();
        assert_eq!(token().groups(&secret, now()), Err("it has expired"));
    }

    #[test]
    fn invalid_tokens_are_refused() {
        let good = token().to_secret(None, "");
        let with = |change: fn(&mut Value)| {
            let mut secret = good.clone();
            change(&mut secret);
            token().groups(&secret, now()).is_err()
        };
        assert!(with(|secret| secret["type"] = "Opaque".into()));
        assert!(with(
            |secret| secret["data"]["token-secret"] = STANDARD.encode("fedcba9876543210").into()
        ));
        assert!(with(
            |secret| secret["data"]["token-id"] = STANDARD.encode("uvwxyz").into()
        ));
        assert!(with(
            |secret| secret["data"]["usage-bootstrap-authentication"] = STANDARD.encode("false").into()
        ));
        assert!(with(
            |secret| secret["data"]["auth-extra-groups"] = STANDARD.encode("system:masters").into()
        ));
        assert!(with(
            |secret| secret["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into()
        ));
    }

    #[test]
    fn join_token_round_trips_as_text() {
        let join = JoinToken {
            token: token(),
            authority: hash(),
        };
        assert_eq!(JoinToken::parse(&format!(" {join}\n")), Ok(join));
    }

    #[test]
    fn mistyped_join_token_is_explained_without_its_secret() {
        let wrong = [
            ("abcdef.0123456789abcdef".to_owned(), "lacks the hash"),
            ("nonsense".to_owned(), "not of the form"),
            (
                "abcdef.0123456789abcdef@sha256:0a0a".to_owned(),
                "has 4 characters",
            ),
            (format!("abcdef.0123@sha256:{}", hash()), "before `@`"),
        ];
        for (text, expected) in wrong {
            let why = JoinToken::parse(&text).expect_err("it is wrong");
            assert!(why.contains(expected), "{why}");
            assert!(!why.contains("0123456789abcdef") || why.contains("form"), "{why}");
        }
    }
}
