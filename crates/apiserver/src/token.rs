//! Service account tokens: JWTs that the server signs (ES256). They are bound to a ServiceAccount,
//! and optionally to a Pod, Secret or Node.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use crate::limits::TOKEN_CACHE_MAX;

/// Issuer of all tokens, and the audience of a token without one.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Claims of a token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) aud: Vec<String>,
    pub(crate) exp: i64,
    pub(crate) iat: i64,
    pub(crate) iss: String,
    pub(crate) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(crate) kubernetes: KubernetesClaims,
    pub(crate) nbf: i64,
    pub(crate) sub: String,
}

/// The objects that a token is bound to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KubernetesClaims {
    pub(crate) namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Bound>,
    pub(crate) serviceaccount: Bound,
}

/// An object by name and UID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bound {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) uid: String,
}

/// Reason why a token is not accepted. The client receives only status 401.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum TokenError {
    #[error("the token is not a JWT of this server's kind")]
    Malformed,
    #[error("the token's signature is not this server's")]
    Signature,
    #[error("the token was issued by {0}")]
    Issuer(String),
    #[error("the token is for {0:?}")]
    Audience(Vec<String>),
    #[error("the token is not valid at this time")]
    Expired,
}

/// Error of using the signing key.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the service account key: {0}")]
pub struct SigningKeyError(String);

/// Signs and verifies tokens.
pub(crate) struct Tokens {
    key: EcdsaKeyPair,
    key_id: String,
    random: SystemRandom,
    /// Cache of tokens with a verified signature. Their other properties are checked at each use.
    verified: Mutex<HashMap<Box<str>, Arc<Claims>>>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    kid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    typ: Option<String>,
}

impl Tokens {
    /// Creates the signer from a P-256 key (PKCS#8, PEM).
    pub(crate) fn new(key: &str) -> Result<Tokens, SigningKeyError> {
        let random = SystemRandom::new();
        let der =
            PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).map_err(|e| SigningKeyError(e.to_string()))?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), &random)
            .map_err(|e| SigningKeyError(e.to_string()))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, key.public_key().as_ref());
        let key_id = BASE64_URL_SAFE_NO_PAD.encode(digest);
        Ok(Tokens {
            key,
            key_id,
            random,
            verified: Mutex::default(),
        })
    }

    /// Signs `claims`.
    pub(crate) fn sign(&self, claims: &Claims) -> Result<String, SigningKeyError> {
        let header = Header {
            alg: "ES256".to_owned(),
            kid: self.key_id.clone(),
            typ: None,
        };
        let part = |json: serde_json::Result<Vec<u8>>| {
            json.map(|json| BASE64_URL_SAFE_NO_PAD.encode(json))
                .map_err(|e| SigningKeyError(e.to_string()))
        };
        let message = format!(
            "{}.{}",
            part(serde_json::to_vec(&header))?,
            part(serde_json::to_vec(claims))?
        );
        let signature = self
            .key
            .sign(&self.random, message.as_bytes())
            .map_err(|e| SigningKeyError(e.to_string()))?;
        Ok(format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Returns the claims of `token` if this server signed it for one of `audiences` and it is
    /// valid at `now`. The caller checks whether the objects exist that it is bound to.
    pub(crate) fn verify(
        &self,
        token: &str,
        audiences: &[&str],
        now: Timestamp,
    ) -> Result<Arc<Claims>, TokenError> {
        let claims = self.signed_claims(token)?;
        if claims.iss != ISSUER {
            return Err(TokenError::Issuer(claims.iss.clone()));
        }
        if !claims.aud.iter().any(|a| audiences.contains(&a.as_str())) {
            return Err(TokenError::Audience(claims.aud.clone()));
        }
        if now.as_second() < claims.nbf || now.as_second() >= claims.exp {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }

    /// Returns whether the cache holds `token` with a verified signature.
    pub(crate) fn knows(&self, token: &str) -> bool {
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.contains_key(token)
    }

    fn signed_claims(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        if let Some(claims) = self
            .verified
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(token)
        {
            return Ok(claims.clone());
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
        let decode = |part: &str| {
            BASE64_URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| TokenError::Malformed)
        };
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
        if header.alg != "ES256" || header.kid != self.key_id {
            return Err(TokenError::Signature);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(message.as_bytes(), &decode(signature)?)
            .map_err(|_| TokenError::Signature)?;
        let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| TokenError::Malformed)?;
        let claims = Arc::new(claims);
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= TOKEN_CACHE_MAX {
            verified.clear();
        }
        verified.insert(token.into(), claims.clone());
        Ok(claims)
    }
}

impl Claims {
    /// Returns the `extra` attributes of the user, as SelfSubjectReview prints them.
    pub(crate) fn extra(&self) -> BTreeMap<String, Vec<String>> {
        let mut extra = BTreeMap::new();
        let mut add = |key: &str, value: &str| {
            extra.insert(
                format!("authentication.kubernetes.io/{key}"),
                vec![value.to_owned()],
            );
        };
        add("credential-id", &format!("JTI={}", self.jti));
        for (object, bound) in [("pod", &self.kubernetes.pod), ("node", &self.kubernetes.node)] {
            if let Some(bound) = bound {
                add(&format!("{object}-name"), &bound.name);
                add(&format!("{object}-uid"), &bound.uid);
            }
        }
        extra
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        Tokens::new(&key.serialize_pem()).unwrap()
    }

    fn claims() -> Claims {
        let bound = |name: &str| Bound {
            name: name.to_owned(),
            uid: format!("uid-of-{name}"),
        };
        Claims {
            aud: vec![ISSUER.to_owned()],
            exp: 2_000,
            iat: 1_000,
            iss: ISSUER.to_owned(),
            jti: "1".to_owned(),
            kubernetes: KubernetesClaims {
                namespace: "ns".to_owned(),
                node: None,
                pod: Some(bound("web")),
                secret: None,
                serviceaccount: bound("default"),
            },
            nbf: 1_000,
            sub: "system:serviceaccount:ns:default".to_owned(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn signed_token_is_accepted_within_its_life() {
        let tokens = tokens();
        let token = tokens.sign(&claims()).unwrap();
        let read = tokens.verify(&token, &[ISSUER], at(1_500)).unwrap();
        assert_eq!(read.kubernetes.pod, claims().kubernetes.pod);
        assert_eq!(
            tokens.verify(&token, &[ISSUER], at(2_000)).unwrap_err(),
            TokenError::Expired
        );
        assert_eq!(
            tokens.verify(&token, &[ISSUER], at(999)).unwrap_err(),
            TokenError::Expired
        );
    }

    #[test]
    fn token_for_another_audience_is_refused() {
        let tokens = tokens();
        let token = tokens
            .sign(&Claims {
                aud: vec!["vault".to_owned()],
                ..claims()
            })
            .unwrap();
        assert!(matches!(
            tokens.verify(&token, &[ISSUER], at(1_500)),
            Err(TokenError::Audience(_))
        ));
        assert!(tokens.verify(&token, &["vault"], at(1_500)).is_ok());
    }

    #[test]
    fn token_of_another_key_is_refused() {
        let token = tokens().sign(&claims()).unwrap();
        assert_eq!(
            tokens().verify(&token, &[ISSUER], at(1_500)).unwrap_err(),
            TokenError::Signature
        );
    }

    #[test]
    fn changed_token_is_refused() {
        let tokens = tokens();
        let token = tokens.sign(&claims()).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let other = serde_json::to_vec(&Claims {
            sub: "system:admin".to_owned(),
            ..claims()
        })
        .unwrap();
        let forged = format!(
            "{}.{}.{}",
            parts[0],
            BASE64_URL_SAFE_NO_PAD.encode(other),
            parts[2]
        );
        assert_eq!(
            tokens.verify(&forged, &[ISSUER], at(1_500)).unwrap_err(),
            TokenError::Signature
        );
        for broken in ["", ".", "..", "a.b.c", "ä.ö.ü"] {
            assert_eq!(
                tokens.verify(broken, &[ISSUER], at(1_500)).unwrap_err(),
                TokenError::Malformed
            );
        }
    }
}
