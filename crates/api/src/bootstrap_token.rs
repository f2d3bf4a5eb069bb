//! Bootstrap tokens: how a machine that has no certificate yet says that it may ask for one.
//!
//! A token is `<id>.<secret>`, stored as a Secret of its own type, as Kubernetes has it. What is handed to a machine is longer by the hash
//! of the cluster's authority, so that the machine knows the server, too: a join token, `<id>.<secret>@sha256:<hash>`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::certificates::sha256;
use crate::meta;
use crate::time;

/// Where tokens are.
pub const NAMESPACE: &str = "kube-system";
/// The type of a token's Secret.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// What the name of a token's Secret begins with; the token's id follows.
pub const NAME_PREFIX: &str = "bootstrap-token-";
/// The group of everybody who shows a token.
pub const GROUP: &str = "system:bootstrappers";
/// The group of those whose token is for nodes that join.
pub const NODE_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
/// What the name of such a user begins with; the token's id follows.
pub const USER_PREFIX: &str = "system:bootstrap:";

/// Characters of an id.
const ID: usize = 6;
/// Characters of a secret.
const SECRET: usize = 16;
/// Hexadecimal digits of a SHA-256.
const HASH: usize = 64;
/// What stands between a token and the hash of the authority.
const HASH_MARK: &str = "@sha256:";
/// The longest name of a group below [`GROUP`].
const GROUP_LENGTH: usize = 256;

/// A token as its bearer shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    /// Public: it names the Secret.
    pub id: String,
    /// Known to its bearer.
    pub secret: String,
}

impl BootstrapToken {
    /// Reads `abcdef.0123456789abcdef`.
    pub fn parse(text: &str) -> Option<BootstrapToken> {
        let (id, secret) = text.split_once('.')?;
        let fits = |part: &str, length: usize| part.len() == length && part.bytes().all(is_token_character);
        (fits(id, ID) && fits(secret, SECRET)).then(|| BootstrapToken {
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }

    /// A token from random bits.
    pub fn random(bits: [u8; ID + SECRET]) -> BootstrapToken {
        // 256 is no multiple of 36: the first four characters come 1.14 times as often. 16 characters still hold 82 bits.
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

    /// The name of the Secret that holds it.
    pub fn secret_name(&self) -> String {
        format!("{NAME_PREFIX}{}", self.id)
    }

    /// The Secret that makes it good, until `expires` or for ever.
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

    /// The groups of who shows this token, by the Secret of its id; else why it is not good.
    pub fn groups(&self, secret: &Value, now: Timestamp) -> Result<Vec<String>, &'static str> {
        let stored = StoredToken::of_secret(secret).ok_or("its Secret is of another type")?;
        if meta::deletion_timestamp(secret).is_some() {
            return Err("it is being deleted");
        }
        // Digests are compared, so how long it takes tells nothing about the secret.
        if sha256(stored.secret.as_bytes()) != sha256(self.secret.as_bytes()) || stored.id != self.id {
            return Err("its secret is another one");
        }
        if stored.has_expired(now) {
            return Err("it has expired");
        }
        if !stored.authenticates {
            return Err("it is not for authentication");
        }
        let mut groups = vec![GROUP.to_owned()];
        for group in stored.groups {
            if !is_bootstrap_group(&group) {
                return Err("it names a group that does not begin with system:bootstrappers:");
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
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BootstrapToken({})", self.id)
    }
}

/// A token as its Secret holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredToken {
    /// `token-id`
    pub id: String,
    /// `token-secret`
    pub secret: String,
    /// `expiration`, as it is written; empty if there is none.
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
    /// The token in a Secret; none in one of another type.
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

    /// When it ends. One whose end cannot be read has ended.
    pub fn ends(&self) -> Option<Timestamp> {
        match self.expiration.as_str() {
            "" => None,
            text => Some(time::parse(text).unwrap_or(Timestamp::MIN)),
        }
    }

    /// Whether it is good no longer.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.ends().is_some_and(|ends| ends <= now)
    }
}

/// What is handed to a machine: a token, and the hash by which it knows the cluster's authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// By which the machine may ask for a certificate.
    pub token: BootstrapToken,
    /// SHA-256 of the authority's public key (SubjectPublicKeyInfo), in hexadecimal digits.
    pub authority: String,
}

impl JoinToken {
    /// Reads `abcdef.0123456789abcdef@sha256:…`. The error says what is wrong without repeating the secret.
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
            return Err("what stands before `@` is not of the form abcdef.0123456789abcdef".to_owned());
        };
        let is_hash = hash.len() == HASH && hash.bytes().all(|digit| digit.is_ascii_hexdigit());
        match is_hash {
            true => Ok(JoinToken {
                token,
                authority: hash.to_ascii_lowercase(),
            }),
            false => Err(format!(
                "the hash after `{HASH_MARK}` has {} characters, not {HASH} hexadecimal digits; was it cut off?",
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

/// `system:bootstrappers:` and then letters, digits, colons and dashes that end in no mark.
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
    fn a_token_is_six_and_sixteen_small_characters() {
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
    fn random_bits_make_a_token() {
        for bits in [[0; 22], [255; 22], [77; 22]] {
            let token = BootstrapToken::random(bits);
            assert_eq!(BootstrapToken::parse(&token.to_string()), Some(token));
        }
    }

    #[test]
    fn the_log_does_not_show_a_secret() {
        assert!(!format!("{:?}", token()).contains("0123456789"));
    }

    #[test]
    fn a_stored_token_admits_its_bearer_to_the_groups_of_nodes_that_join() {
        let secret = token().to_secret(None, "for rack 7");
        assert_eq!(secret["metadata"]["name"], "bootstrap-token-abcdef");
        let groups = token().groups(&secret, now()).expect("it is good");
        assert_eq!(groups, [GROUP, NODE_GROUP]);
    }

    #[test]
    fn a_token_is_good_until_its_end() {
        let secret = token().to_secret(Some(now()), "");
        let before = now() - jiff::SignedDuration::from_secs(1);
        assert!(token().groups(&secret, before).is_ok());
        assert_eq!(token().groups(&secret, now()), Err("it has expired"));
    }

    #[test]
    fn an_end_that_cannot_be_read_is_past() {
        let mut secret = token().to_secret(Some(now()), "");
        secret["data"]["expiration"] = STANDARD.encode("tomorrow").into();
        assert_eq!(token().groups(&secret, now()), Err("it has expired"));
    }

    #[test]
    fn what_is_no_good_token_admits_nobody() {
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
    fn a_join_token_is_written_and_read() {
        let join = JoinToken {
            token: token(),
            authority: hash(),
        };
        assert_eq!(JoinToken::parse(&format!(" {join}\n")), Ok(join));
    }

    #[test]
    fn a_mistyped_join_token_is_told_what_is_wrong_and_not_repeated() {
        let wrong = [
            ("abcdef.0123456789abcdef".to_owned(), "lacks the hash"),
            ("nonsense".to_owned(), "not of the form"),
            (
                "abcdef.0123456789abcdef@sha256:0a0a".to_owned(),
                "has 4 characters",
            ),
            (format!("abcdef.0123@sha256:{}", hash()), "before `@`"),
        ];
        for (text, said) in wrong {
            let why = JoinToken::parse(&text).expect_err("it is wrong");
            assert!(why.contains(said), "{why}");
            assert!(!why.contains("0123456789abcdef") || why.contains("form"), "{why}");
        }
    }
}
