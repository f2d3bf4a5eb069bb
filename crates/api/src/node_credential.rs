//! The record of a node's valid client certificates, which exists as long as the Node does.
//!
//! A certificate names `system:node:<name>` until it expires. But a name can be used again, for a
//! machine that replaces another one after its Node was deleted. So the server accepts a
//! certificate only while the node's record lists it. The server writes the record when it issues a
//! certificate, and deletes it in the same transaction as the Node. From then on, the certificates
//! that were issued before are invalid.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::meta;

/// The namespace of the records, which are Secrets with the names of their nodes.
pub const NAMESPACE: &str = "kube-node-lease";
/// The type of these Secrets.
pub const SECRET_TYPE: &str = "everynode.dev/node-credential";
/// The key in their data.
const DATA: &str = "certificates";

/// The reason in the Status that rejects a certificate without a record. The agent then stops its
/// pods.
pub const DELETED_REASON: &str = "NodeDeleted";

/// Most valid certificates of a node: the one in use and the one that replaces it.
const CERTIFICATES: usize = 2;

/// The valid certificates of a node.
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
    /// Returns the record in a Secret; `None` when the Secret has another type or is damaged.
    pub fn of_secret(secret: &Value) -> Option<NodeCredential> {
        if secret["type"] != SECRET_TYPE {
            return None;
        }
        let data = STANDARD.decode(secret["data"][DATA].as_str()?).ok()?;
        serde_json::from_slice(&data).ok()
    }

    /// As [`NodeCredential::of_secret`], from the Secret's JSON. The server calls it for every
    /// request of a node.
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

    /// Returns the Secret with the record of this node. `version` is the resourceVersion of the
    /// Secret that it replaces.
    pub fn to_secret(&self, node: &str, version: Option<&str>) -> Value {
        // Encoding a list of structs of strings cannot fail.
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

    /// Returns whether this certificate is valid.
    pub fn accepts(&self, fingerprint: &str) -> bool {
        self.certificates
            .iter()
            .any(|issued| issued.fingerprint == fingerprint)
    }

    /// Returns whether a certificate was issued for this key.
    pub fn has_key(&self, key: &str) -> bool {
        self.certificates.iter().any(|issued| issued.key == key)
    }

    /// Returns the record with one more certificate. `in_use`, which authenticated the request for
    /// it, stays valid, because the agent may lose the response. Older certificates become invalid.
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
    fn record_round_trips_through_its_secret() {
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
    fn secret_of_another_type_has_no_record() {
        let mut secret = NodeCredential::default()
            .with(issued("a"), None)
            .to_secret("n1", None);
        secret["type"] = "Opaque".into();
        assert_eq!(NodeCredential::of_secret(&secret), None);
    }

    #[test]
    fn renewal_keeps_only_the_certificate_in_use_valid() {
        let first = NodeCredential::default().with(issued("a"), None);
        let second = first.with(issued("b"), Some("print-of-a"));
        assert!(second.accepts("print-of-a") && second.accepts("print-of-b"));
        let third = second.with(issued("c"), Some("print-of-b"));
        assert!(!third.accepts("print-of-a"));
        assert!(third.accepts("print-of-b") && third.accepts("print-of-c"));
        assert!(third.has_key("key-of-c") && !third.has_key("key-of-a"));
    }

    #[test]
    fn renewal_can_be_repeated_after_a_lost_response() {
        let first = NodeCredential::default().with(issued("a"), None);
        let lost = first.with(issued("b"), Some("print-of-a"));
        let again = lost.with(issued("c"), Some("print-of-a"));
        assert!(again.accepts("print-of-a") && again.accepts("print-of-c"));
        assert!(!again.accepts("print-of-b"));
    }

    #[test]
    fn new_machine_of_the_name_invalidates_old_certificates() {
        let first = NodeCredential::default().with(issued("a"), None);
        let other = first.with(issued("b"), None);
        assert!(!other.accepts("print-of-a") && other.accepts("print-of-b"));
    }
}
