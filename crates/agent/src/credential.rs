//! What makes a machine a node: the cluster's authority, and the certificate that the cluster gave it.
//!
//! It lies in `<data-dir>/agent`, for the owner alone: `ca.crt`; `client.pem`, the certificate and its key in one file, so that they are never
//! of different ages; and, while a certificate is asked for, `next.key`. The key is written before anybody hears of it, and the request is
//! named after it: whenever the agent is killed, the next one goes on where it was.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData};
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
        match fs::read(self.dir.join(file)) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("read", file)(&error)),
        }
    }

    /// Writes a file so that a reader, or a power cut, sees the old content or the new; only the owner may read it.
    fn write(&self, file: &str, content: &[u8]) -> Result<(), CredentialError> {
        const OWNER: u32 = 0o600;
        let write = || -> std::io::Result<()> {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.dir)?;
            let (path, next) = (self.dir.join(file), self.dir.join(format!("{file}.new")));
            let mut opened = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(OWNER)
                .open(&next)?;
            // One left over from a crash keeps its own mode unless it is told.
            opened.set_permissions(fs::Permissions::from_mode(OWNER))?;
            opened.write_all(content)?;
            opened.sync_all()?;
            fs::rename(&next, &path)?;
            fs::File::open(&self.dir)?.sync_all()
        };
        write().map_err(|error| self.failed("write", file)(&error))
    }

    fn remove(&self, file: &str) -> Result<(), CredentialError> {
        match fs::remove_file(self.dir.join(file)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(self.failed("remove", file)(&error))
            }
            _ => Ok(()),
        }
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
