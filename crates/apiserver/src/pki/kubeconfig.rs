//! The kubeconfig file that kubectl and every client library read.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::Credential;

/// Returns a kubeconfig for `server` (an https URL) that trusts `authority` (PEM) and contains
/// `credential`.
pub fn kubeconfig(server: &str, authority: &str, user: &str, credential: &Credential) -> String {
    let authority = BASE64_STANDARD.encode(authority);
    let certificate = BASE64_STANDARD.encode(&credential.certificate);
    let key = BASE64_STANDARD.encode(&credential.key);
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: everynode\n  cluster:\n    server: {server}\n    certificate-authority-data: {authority}\n\
         users:\n\
         - name: {user}\n  user:\n    client-certificate-data: {certificate}\n    client-key-data: {key}\n\
         contexts:\n\
         - name: everynode\n  context:\n    cluster: everynode\n    user: {user}\n\
         current-context: everynode\n"
    )
}
