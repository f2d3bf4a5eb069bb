//! What makes a machine a node: the cluster's authority, and the certificate that the cluster gave it.
//!
//! It lies in `<data-dir>/agent`, for the owner alone: `ca.crt`; `client.pem`, the certificate and its key in one file, so that they are never
//! of different ages; and, while a certificate is asked for, `next.key`. The key is written before anybody hears of it, and the request is
//! named after it: whenever the agent is killed, the next one goes on where it was.

use std::path::{Path, PathBuf};

use disk::Disk;
use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData};
use runtime::bounded;
use x509_parser::pem::Pem;

use crate::servers::{Identity, ServerAddress};

const DIR: &str = "agent";
const AUTHORITY: &str = "ca.crt";
const CLIENT: &str = "client.pem";
const NEXT_KEY: &str = "next.key";
const SERVERS: &str = "servers";
const NODE_USER: &str = "system:node:";

/// A file of the machine's credential could not be used.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {path}: {why}")]
pub struct CredentialError {
    operation: &'static str,
    path: PathBuf,
    why: String,
}

/// Where a machine keeps what makes it a node.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    dir: PathBuf,
    disk: Disk,
}

/// The certificate that a machine has.
#[derive(Clone)]
pub(crate) struct Certificate {
    pub(crate) identity: Identity,
    /// The node that it names.
    pub(crate) node: String,
    pub(crate) begins: Timestamp,
    pub(crate) ends: Timestamp,
}

impl Files {
    pub(crate) fn of(data_dir: &Path) -> Self {
        Self {
            dir: data_dir.join(DIR),
            disk: Disk::default(),
        }
    }

    /// The authority that was found good when the machine joined.
    pub(crate) fn authority(&self) -> Result<Option<Vec<u8>>, CredentialError> {
        self.read(AUTHORITY)
    }

    pub(crate) fn keep_authority(&self, pem: &[u8]) -> Result<(), CredentialError> {
        self.write(AUTHORITY, pem)
    }

    /// The certificate that the machine has, also one that has ended.
    pub(crate) fn certificate(&self) -> Result<Option<Certificate>, CredentialError> {
        let Some(pem) = self.read(CLIENT)? else {
            return Ok(None);
        };
        let certificate = Certificate::read(&pem);
        certificate
            .map(Some)
            .map_err(|why| self.failed("use", CLIENT)(&why))
    }

    /// Keeps a new certificate with the key that it was asked for with.
    pub(crate) fn keep_certificate(
        &self,
        certificate: &[u8],
        key: &KeyPair,
    ) -> Result<Certificate, CredentialError> {
        let mut pem = certificate.to_vec();
        if !pem.ends_with(b"\n") {
            pem.push(b'\n');
        }
        pem.extend_from_slice(key.serialize_pem().as_bytes());
        let read = Certificate::read(&pem).map_err(|why| self.failed("use", CLIENT)(&why))?;
        self.write(CLIENT, &pem)?;
        self.remove(NEXT_KEY)?;
        Ok(read)
    }

    /// The key for the next certificate: the one of a request that nobody has heard the answer of, or a new one.
    pub(crate) fn next_key(&self) -> Result<KeyPair, CredentialError> {
        let key = self.read(NEXT_KEY)?;
        let text = key.map(|pem| String::from_utf8_lossy(&pem).into_owned());
        // One that cannot be read was of no use to anybody.
        if let Some(key) = text.and_then(|pem| KeyPair::from_pem(&pem).ok()) {
            return Ok(key);
        }
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(|error| self.failed("make", NEXT_KEY)(&error))?;
        self.write(NEXT_KEY, key.serialize_pem().as_bytes())?;
        Ok(key)
    }

    /// Forgets the key that was made for the next certificate.
    pub(crate) fn drop_next_key(&self) -> Result<(), CredentialError> {
        self.remove(NEXT_KEY)
    }

    /// The key of the certificate that the machine has, for one that has ended: it still says that this is the same machine.
    pub(crate) fn present_key(&self) -> Result<Option<KeyPair>, CredentialError> {
        let Some(pem) = self.read(CLIENT)? else {
            return Ok(None);
        };
        Ok(KeyPair::from_pem(&String::from_utf8_lossy(&pem)).ok())
    }

    /// The servers that the cluster told of last. What cannot be read there is no loss.
    pub(crate) fn servers(&self) -> Result<Vec<ServerAddress>, CredentialError> {
        let text = self.read(SERVERS)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    pub(crate) fn keep_servers(&self, servers: &[ServerAddress]) -> Result<(), CredentialError> {
        let text: String = servers.iter().map(|server| format!("{server}\n")).collect();
        match self.read(SERVERS)?.as_deref() == Some(text.as_bytes()) {
            true => Ok(()),
            false => self.write(SERVERS, text.as_bytes()),
        }
    }

    /// Forgets the certificate and the authority: the machine is no node any more.
    pub(crate) fn forget(&self) -> Result<(), CredentialError> {
        [CLIENT, NEXT_KEY, AUTHORITY, SERVERS]
            .into_iter()
            .try_for_each(|file| self.remove(file))
    }

    fn failed(
        &self,
        operation: &'static str,
        file: &str,
    ) -> impl Fn(&dyn std::fmt::Display) -> CredentialError + use<> {
        let path = self.dir.join(file);
        move |why| CredentialError {
            operation,
            path: path.clone(),
            why: why.to_string(),
        }
    }

    fn read(&self, file: &str) -> Result<Option<Vec<u8>>, CredentialError> {
        match bounded::read(&self.dir.join(file), bounded::FILE) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("read", file)(&error)),
        }
    }

    /// Writes a file whole or not at all. Only the owner may read it.
    fn write(&self, file: &str, content: &[u8]) -> Result<(), CredentialError> {
        const OWNER: u32 = 0o600;
        let written = self
            .disk
            .create_private_dir(&self.dir)
            .and_then(|()| self.disk.replace(&self.dir.join(file), content, OWNER));
        written.map_err(|error| self.failed("write", file)(&error))
    }

    fn remove(&self, file: &str) -> Result<(), CredentialError> {
        self.disk
            .remove(&self.dir.join(file))
            .map_err(|error| self.failed("remove", file)(&error))
    }
}

impl Certificate {
    /// Reads a certificate and its key.
    fn read(pem: &[u8]) -> Result<Self, String> {
        let block = Pem::iter_from_buffer(pem)
            .filter_map(Result::ok)
            .find(|block| block.label == "CERTIFICATE")
            .ok_or("it holds no certificate")?;
        let read = block.parse_x509().map_err(|error| error.to_string())?;
        let name = read.subject().iter_common_name().next();
        let node = name
            .and_then(|name| name.as_str().ok()?.strip_prefix(NODE_USER))
            .ok_or("its certificate names no node")?;
        let at = |seconds: i64| Timestamp::from_second(seconds).map_err(|error| error.to_string());
        let (begins, ends) = (
            at(read.validity().not_before.timestamp())?,
            at(read.validity().not_after.timestamp())?,
        );
        let node = node.to_owned();
        Ok(Self {
            identity: Identity {
                certificate: pem.to_vec(),
                key: pem.to_vec(),
            },
            node,
            begins,
            ends,
        })
    }
}

/// A signing request (PEM) for the client certificate of a node, and the name that it has in the API: the same for the same key.
pub(crate) fn signing_request(node: &str, key: &KeyPair) -> Result<(String, String), String> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "system:nodes");
    name.push(DnType::CommonName, format!("{NODE_USER}{node}"));
    params.distinguished_name = name;
    let request = params
        .serialize_request(key)
        .and_then(|request| request.pem())
        .map_err(|error| error.to_string())?;
    let digest = api::certificates::sha256(&key.subject_public_key_info());
    Ok((request, format!("node-csr-{}", &digest[..40])))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use disk::CutOff;

    use super::*;

    /// A certificate of node `n` for the key.
    fn certificate(key: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, format!("{NODE_USER}n"));
        params.distinguished_name = name;
        let signed = params.self_signed(key).expect("sign");
        signed.pem().into_bytes()
    }

    #[test]
    fn machine_can_go_on_joining_wherever_it_was_cut_off() {
        for torn in [false, true] {
            for passes in 0.. {
                let folder = tempfile::tempdir().expect("make a folder");
                let cut = Arc::new(match torn {
                    false => CutOff::after(passes),
                    true => CutOff::within(passes),
                });
                let files = Files {
                    disk: Disk::gated(cut.clone()),
                    ..Files::of(folder.path())
                };
                let authority = files.keep_authority(b"authority").is_ok();
                let asked = files.next_key().ok();
                let kept = asked
                    .as_ref()
                    .and_then(|key| files.keep_certificate(&certificate(key), key).ok());
                let after = Files::of(folder.path());
                let found = after.authority().expect("read");
                assert!(found.as_deref() == Some(b"authority") || (found.is_none() && !authority));
                let has = after
                    .certificate()
                    .unwrap_or_else(|error| panic!("cut after {passes}: {error}"));
                assert!(has.is_some() || kept.is_none(), "cut after {passes}");
                if let (None, Some(asked)) = (&has, &asked) {
                    // The server may have signed for this key.
                    let next = after.next_key().expect("the key that was asked for");
                    assert_eq!(next.serialize_pem(), asked.serialize_pem(), "cut after {passes}");
                }
                let key = after.next_key().expect("a key");
                after
                    .keep_certificate(&certificate(&key), &key)
                    .unwrap_or_else(|error| panic!("cut after {passes}: {error}"));
                if !cut.has_cut() {
                    assert!(passes > 15, "only {passes} operations were cut off");
                    break;
                }
            }
        }
    }
}
