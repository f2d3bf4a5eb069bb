//! Which certificates of a node's agent are good: the record that lives as long as the node does.
//!
//! A certificate says `system:node:<name>` until it ends, and names can be given again: to a machine that replaces another, after the
//! Node object of the first was deleted. So what a certificate says is believed only while the node's record names it. The record
//! is written when a certificate is issued, and goes in the same transaction as the Node object: what was issued before is good for
//! nothing from then on.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::meta;

/// Where the records are: Secrets, each under its node's name.
pub const NAMESPACE: &str = "kube-node-lease";
/// Their type.
pub const SECRET_TYPE: &str = "everynode.dev/node-credential";
/// The key of their data.
const DATA: &str = "certificates";

/// The reason of the refusal of a certificate that is in no record: the agent stops its pods then.
pub const DELETED_REASON: &str = "NodeDeleted";

/// Certificates of a node that are good at a time: the one in use and the one that replaces it.
const CERTIFICATES: usize = 2;

/// The certificates of a node that are good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeCredential {
    certificates: Vec<Issued>,
}

/// A certificate that was issued to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// SHA-256 of the certificate, in hexadecimal digits.
    pub fingerprint: String,
    /// SHA-256 of its public key (SubjectPublicKeyInfo), in hexadecimal digits.
    pub key: String,
}

impl NodeCredential {
    /// The record in a Secret; none in one that is something else, or damaged.
    pub fn of_secret(secret: &Value) -> Option<NodeCredential> {
        if secret["type"] != SECRET_TYPE {
            return None;
        }
        let data = STANDARD.decode(secret["data"][DATA].as_str()?).ok()?;
        serde_json::from_slice(&data).ok()
    }

    /// As [`NodeCredential::of_secret`], from the Secret's JSON: this is asked for every request of a node.
    pub fn of_secret_json(secret: &[u8]) -> Option<NodeCredential> {
        #[derive(Deserialize)]
        struct Secret<'a> {
            r#type: &'a str,
            data: Data<'a>,
        }
        #[derive(Deserialize)]
        struct Data<'a> {
            certificates: &'a str,
        }
        let secret: Secret<'_> = serde_json::from_slice(secret).ok()?;
        let data = STANDARD.decode(secret.data.certificates).ok()?;
        (secret.r#type == SECRET_TYPE).then(|| serde_json::from_slice(&data).ok())?
    }

    /// The Secret that holds the record of this node. `version` is that of the Secret that it replaces.
    pub fn to_secret(&self, node: &str, version: Option<&str>) -> Value {
        // A list of structs of strings: its encoding cannot fail.
        let data = serde_json::to_vec(self).unwrap_or_default();
        let mut secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": node, "namespace": NAMESPACE},
            "type": SECRET_TYPE,
            "data": {DATA: STANDARD.encode(data)},
        });
        if let Some(version) = version {
            meta::metadata_mut(&mut secret).insert("resourceVersion".to_owned(), version.into());
        }
        secret
    }

    /// Whether this certificate is good.
    pub fn accepts(&self, fingerprint: &str) -> bool {
        self.certificates
            .iter()
            .any(|issued| issued.fingerprint == fingerprint)
    }

    /// Whether a certificate was issued to this key.
    pub fn has_key(&self, key: &str) -> bool {
        self.certificates.iter().any(|issued| issued.key == key)
    }

    /// The record after a further certificate was issued. The one by which it was asked for, `in_use`, stays good, because its holder
    /// may lose the answer; older ones are good no longer.
    #[must_use]
    pub fn with(&self, issued: Issued, in_use: Option<&str>) -> NodeCredential {
        let keep = |known: &&Issued| Some(known.fingerprint.as_str()) == in_use;
        let mut certificates: Vec<Issued> = self.certificates.iter().filter(keep).cloned().collect();
        certificates.retain(|known| known.fingerprint != issued.fingerprint);
        certificates.push(issued);
        certificates.truncate(CERTIFICATES);
        NodeCredential { certificates }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued(name: &str) -> Issued {
        Issued {
            fingerprint: format!("print-of-{name}"),
            key: format!("key-of-{name}"),
        }
    }

    #[test]
    fn a_record_survives_its_secret() {
        let record = NodeCredential::default().with(issued("a"), None);
        let secret = record.to_secret("n1", Some("7"));
        assert_eq!(secret["metadata"]["resourceVersion"], "7");
        let text = secret.to_string();
        assert_eq!(
            NodeCredential::of_secret_json(text.as_bytes()),
            Some(record.clone())
        );
        assert_eq!(NodeCredential::of_secret(&secret), Some(record));
    }

    #[test]
    fn a_secret_of_another_type_is_no_record() {
        let mut secret = NodeCredential::default()
            .with(issued("a"), None)
            .to_secret("n1", None);
        secret["type"] = "Opaque".into();
        assert_eq!(NodeCredential::of_secret(&secret), None);
    }

    #[test]
    fn a_renewal_leaves_the_certificate_in_use_good_and_no_other() {
        let first = NodeCredential::default().with(issued("a"), None);
        let second = first.with(issued("b"), Some("print-of-a"));
        assert!(second.accepts("print-of-a") && second.accepts("print-of-b"));
        let third = second.with(issued("c"), Some("print-of-b"));
        assert!(!third.accepts("print-of-a"));
        assert!(third.accepts("print-of-b") && third.accepts("print-of-c"));
        assert!(third.has_key("key-of-c") && !third.has_key("key-of-a"));
    }

    #[test]
    fn a_renewal_whose_answer_was_lost_is_asked_for_again() {
        let first = NodeCredential::default().with(issued("a"), None);
        let lost = first.with(issued("b"), Some("print-of-a"));
        let again = lost.with(issued("c"), Some("print-of-a"));
        assert!(again.accepts("print-of-a") && again.accepts("print-of-c"));
        assert!(!again.accepts("print-of-b"));
    }

    #[test]
    fn a_new_machine_of_the_name_ends_what_was_issued_before() {
        let first = NodeCredential::default().with(issued("a"), None);
        let other = first.with(issued("b"), None);
        assert!(!other.accepts("print-of-a") && other.accepts("print-of-b"));
    }
}
