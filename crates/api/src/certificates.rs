//! Certificate signing requests, and the hashes that identify certificates and keys.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, Pem};

/// The PEM block of a signing request.
const REQUEST_BLOCK: &str = "CERTIFICATE REQUEST";

/// The signer of the node agents' client certificates.
pub const NODE_CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// Key in the extra fields of a user for the certificate that authenticated him:
/// `X509SHA256=<fingerprint>`.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
/// Prefix of the fingerprint in its value.
pub const CREDENTIAL_ID_PREFIX: &str = "X509SHA256=";

/// A parsed signing request (PKCS#10). Its signature is verified, so the requester has the private
/// key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningRequest {
    /// The subject's common names. A useful request has one.
    pub common_names: Vec<String>,
    /// The subject's organizations.
    pub organizations: Vec<String>,
    /// Whether it requests alternative names (DNS names, IP addresses, mail addresses, URIs).
    pub has_alternative_names: bool,
    /// SHA-256 of the public key (its SubjectPublicKeyInfo), in hexadecimal digits.
    pub key: String,
}

impl SigningRequest {
    /// Parses a PEM block. The error is meant for the requester.
    pub fn parse(pem: &[u8]) -> Result<SigningRequest, String> {
        let block = single_block(pem).filter(|block| block.label == REQUEST_BLOCK);
        let block = block.ok_or("PEM block type must be CERTIFICATE REQUEST")?;
        let (_, request) = X509CertificationRequest::from_der(&block.contents)
            .map_err(|error| format!("it is not a certificate signing request: {error}"))?;
        request
            .verify_signature()
            .map_err(|_| "its signature does not match its public key")?;
        let info = &request.certification_request_info;
        let texts = |values: Vec<&x509_parser::x509::AttributeTypeAndValue<'_>>| -> Vec<String> {
            let texts = values.into_iter().filter_map(|value| value.as_str().ok());
            texts.map(str::to_owned).collect()
        };
        let extensions = request.requested_extensions().into_iter().flatten();
        let mut names = extensions.filter(|one| matches!(one, ParsedExtension::SubjectAlternativeName(_)));
        Ok(SigningRequest {
            common_names: texts(info.subject.iter_common_name().collect()),
            organizations: texts(info.subject.iter_organization().collect()),
            has_alternative_names: names.next().is_some(),
            key: sha256(info.subject_pki.raw),
        })
    }
}

/// Returns the SHA-256 of a certificate (PEM) in DER form, in hexadecimal digits; of the first,
/// when there are several.
pub fn fingerprint(pem: &[u8]) -> Option<String> {
    single_block(pem).map(|block| sha256(&block.contents))
}

/// Returns the SHA-256 of a certificate's public key (PEM; its SubjectPublicKeyInfo), in
/// hexadecimal digits. kubeadm calls it the hash of a CA certificate.
pub fn public_key_hash(pem: &[u8]) -> Option<String> {
    let block = single_block(pem)?;
    let certificate = block.parse_x509().ok()?;
    Some(sha256(certificate.public_key().raw))
}

/// Returns the SHA-256 in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn single_block(pem: &[u8]) -> Option<Pem> {
    x509_parser::pem::parse_x509_pem(pem).ok().map(|(_, block)| block)
}
