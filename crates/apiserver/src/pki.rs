//! Keys and certificates of a cluster: the certificate authority, the server's certificate, and
//! client certificates.
//!
//! All files are in `<data-dir>/pki`. Keys have mode 0600, and each file is replaced atomically.
//! The first start creates the authority, which is never replaced. The server replaces its other
//! certificates before they expire, or when their content must change.

mod file;
mod kubeconfig;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use disk::Disk;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};
use ring::rand::SecureRandom;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::user::User;
pub use kubeconfig::kubeconfig;

/// Validity of the authority's certificate.
const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(24 * 3650);
/// Validity of a certificate in `pki` that the authority signs.
const CERTIFICATE_LIFE: SignedDuration = SignedDuration::from_hours(24 * 365);
/// A certificate is replaced when it expires within this time.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(24 * 60);
/// Certificates are valid from this long before their creation, for clients with a slow clock.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_hours(1);

/// Divisor of a signed certificate's validity that limits the clock skew.
const SKEW_SHARE: i32 = 20;

const MODE_PRIVATE: u32 = 0o600;
const MODE_PUBLIC: u32 = 0o644;
/// Object identifier of the organization attribute in X.520.
const ORGANIZATION_OID: [u64; 4] = [2, 5, 4, 10];

/// Error of reading or writing keys and certificates.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("cannot {operation} {path}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The certificate library could not create a certificate or read a key.
    #[error("cannot {operation}")]
    Certificate {
        /// What was tried.
        operation: String,
        /// The cause.
        source: rcgen::Error,
    },
    /// A certificate was requested with more groups than it can name.
    #[error("a certificate of {user} cannot name {groups} organizations (groups): it can name {GROUPS_MAX}")]
    Groups {
        /// User of the certificate.
        user: String,
        /// Number of groups.
        groups: usize,
    },
    /// A file exists, but its content is invalid.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The keys are missing, but the store holds the objects of a cluster. New keys would lock out
    /// all nodes and clients of the cluster.
    #[error(
        "{path} is missing, but the store beside it holds a cluster whose nodes and clients rely on it: put the folder pki back from a backup, or move the folder store away to begin with an empty cluster"
    )]
    Lost {
        /// The file.
        path: PathBuf,
    },
}

/// A certificate and its private key, both PEM.
#[derive(Clone)]
pub struct Credential {
    /// The certificate.
    pub certificate: String,
    /// The PKCS#8 key.
    pub key: String,
}

/// The certificate authority of a cluster and its files.
pub struct Pki {
    dir: PathBuf,
    disk: Disk,
    authority: String,
    issuer: Issuer<'static, KeyPair>,
    service_account_key: String,
}

impl Pki {
    /// Opens `<data_dir>/pki`, and creates the authority and the service account key if they are
    /// missing. With `must_exist`, fails instead, because the store holds a cluster that relies on
    /// them.
    pub fn open(data_dir: &Path, disk: &Disk, must_exist: bool, now: Timestamp) -> Result<Pki, PkiError> {
        let dir = data_dir.join("pki");
        let key_path = dir.join("service-account.key");
        if must_exist
            && let Some(path) = [dir.join("ca.crt"), key_path.clone()]
                .into_iter()
                .find(|path| !path.exists())
        {
            return Err(PkiError::Lost { path });
        }
        disk.create_private_dir(&dir)
            .map_err(file::failed("make the directory", &dir))?;
        let (authority, issuer) = open_authority(&dir, disk, now)?;
        let service_account_key = open_key(&key_path, disk)?;
        Ok(Pki {
            dir,
            disk: disk.clone(),
            authority,
            issuer,
            service_account_key,
        })
    }

    /// Replaces a file of the data directory atomically, unless it has this content.
    pub(crate) fn keep(&self, path: &Path, content: &str, mode: u32) -> Result<(), PkiError> {
        if file::read(path)?.as_deref() == Some(content) {
            return Ok(());
        }
        write(&self.disk, path, content, mode)
    }

    /// Returns the authority's certificate, PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns the P-256 key that signs service account tokens, PKCS#8 PEM.
    pub fn service_account_key(&self) -> &str {
        &self.service_account_key
    }

    /// Returns the server's certificate for these names and addresses.
    pub fn server(&self, names: &BTreeSet<String>, now: Timestamp) -> Result<Credential, PkiError> {
        let addresses = names.iter().map(String::as_str);
        self.stored(
            "server",
            now,
            |certificate| alternative_names(certificate) == *names,
            || {
                let mut params = CertificateParams::default();
                params.subject_alt_names = addresses
                    .clone()
                    .map(alternative_name)
                    .collect::<Result<_, _>>()?;
                params.distinguished_name = distinguished_name("everynode-apiserver", &[]);
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                Ok(params)
            },
        )
    }

    /// Returns the client certificate of `user`, which is stored in `pki/<file>.{crt,key}`.
    pub fn client(&self, file: &str, user: &User, now: Timestamp) -> Result<Credential, PkiError> {
        self.stored(
            file,
            now,
            |certificate| certificate_user(certificate).as_ref() == Some(user),
            || {
                let mut params = CertificateParams::default();
                params.distinguished_name = distinguished_name(&user.name, &user.groups);
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                Ok(params)
            },
        )
    }

    /// Returns the client certificate of a node's agent, which is stored in
    /// `pki/node-<name>.{crt,key}`.
    pub fn node(&self, name: &str, now: Timestamp) -> Result<Credential, PkiError> {
        self.client(&format!("node-{name}"), &User::node(name), now)
    }

    /// Returns the fingerprint of the certificate that [`Pki::node`] stored last, if any.
    pub fn node_fingerprint(&self, name: &str) -> Result<Option<String>, PkiError> {
        let pem = file::read(&self.dir.join(format!("node-{name}.crt")))?;
        Ok(pem.and_then(|pem| api::certificates::fingerprint(pem.as_bytes())))
    }

    /// Returns a client certificate for `user` with the public key of a signing request (PEM),
    /// valid for `life`. Other content of the request is ignored.
    pub fn sign(
        &self,
        request: &str,
        user: &User,
        life: SignedDuration,
        now: Timestamp,
    ) -> Result<String, PkiError> {
        let failed = |source| PkiError::Certificate {
            operation: format!("issue a certificate to {}", user.name),
            source,
        };
        let subject = subject(&user.name, &user.groups)?;
        let request = CertificateSigningRequestParams::from_pem(request).map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.serial_number = Some(serial_number().map_err(failed)?);
        // The skew is limited, because it could exceed the whole validity of the short certificates
        // in tests.
        set_life(&mut params, now, life, CLOCK_SKEW.min(life / SKEW_SHARE));
        let signing = CertificateSigningRequestParams {
            params,
            public_key: request.public_key,
        };
        Ok(signing.signed_by(&self.issuer).map_err(failed)?.pem())
    }

    /// Returns the credential in `<file>.{crt,key}`. Issues a new one unless it is signed by this
    /// authority, does not expire soon, and is as `wanted`.
    fn stored(
        &self,
        file: &str,
        now: Timestamp,
        wanted: impl Fn(&X509Certificate<'_>) -> bool,
        params: impl Fn() -> Result<CertificateParams, rcgen::Error>,
    ) -> Result<Credential, PkiError> {
        let (certificate_path, key_path) = (
            self.dir.join(format!("{file}.crt")),
            self.dir.join(format!("{file}.key")),
        );
        let present = (file::read(&certificate_path)?, file::read(&key_path)?);
        if let (Some(certificate), Some(key)) = present
            && self.is_usable(&certificate, &key, now, wanted)
        {
            return Ok(Credential { certificate, key });
        }
        let failed = |source| PkiError::Certificate {
            operation: format!("issue the certificate {file}"),
            source,
        };
        let key = new_key().map_err(failed)?;
        let mut params = params().map_err(failed)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        set_life(&mut params, now, CERTIFICATE_LIFE, CLOCK_SKEW);
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let credential = Credential {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        };
        write(&self.disk, &key_path, &credential.key, MODE_PRIVATE)?;
        write(
            &self.disk,
            &certificate_path,
            &credential.certificate,
            MODE_PUBLIC,
        )?;
        Ok(credential)
    }

    /// Returns whether a stored certificate can be used further. Checks the key too, because a
    /// crash between the two writes leaves a new key beside an old certificate.
    fn is_usable(
        &self,
        certificate: &str,
        key: &str,
        now: Timestamp,
        wanted: impl Fn(&X509Certificate<'_>) -> bool,
    ) -> bool {
        let Ok(key) = KeyPair::from_pem(key) else {
            return false;
        };
        with_certificate(certificate, |certificate| {
            let authority_signed = with_certificate(&self.authority, |authority| {
                certificate.verify_signature(Some(authority.public_key())).is_ok()
            })
            .unwrap_or(false);
            let mine = certificate.public_key().subject_public_key.data == key.public_key_raw();
            authority_signed && mine && wanted(certificate) && is_fresh(certificate, now)
        })
        .unwrap_or(false)
    }
}

/// Returns the user that a verified client certificate names: its common name and its
/// organizations.
pub(crate) fn certificate_user(certificate: &X509Certificate<'_>) -> Option<User> {
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    let groups: Vec<&str> = subject
        .iter_organization()
        .filter_map(|o| o.as_str().ok())
        .collect();
    Some(User::new(name, &groups))
}

/// Returns the user that a verified client certificate (DER) names, and the second since the epoch
/// at which it expires.
pub(crate) fn certificate_holder(der: &[u8]) -> Option<(User, i64)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let user = certificate_user(&certificate)?;
    Some((user, certificate.validity().not_after.timestamp()))
}

fn write(disk: &Disk, path: &Path, content: &str, mode: u32) -> Result<(), PkiError> {
    disk.replace(path, content.as_bytes(), mode)
        .map_err(file::failed("write", path))
}

fn open_authority(
    dir: &Path,
    disk: &Disk,
    now: Timestamp,
) -> Result<(String, Issuer<'static, KeyPair>), PkiError> {
    let (certificate_path, key_path) = (dir.join("ca.crt"), dir.join("ca.key"));
    let failed = |operation: &str| {
        let operation = format!("{operation} the certificate authority in {}", dir.display());
        move |source| PkiError::Certificate { operation, source }
    };
    // The certificate is written after the key. If it exists, the pair is complete. If it does not,
    // the key was never used.
    if let Some(certificate) = file::read(&certificate_path)? {
        let Some(key) = file::read(&key_path)? else {
            let what = format!("its key {} is missing", key_path.display());
            return Err(PkiError::Damaged {
                path: certificate_path,
                what,
            });
        };
        let key = KeyPair::from_pem(&key).map_err(failed("read the key of"))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(failed("read"))?;
        return Ok((certificate, issuer));
    }
    let key = new_key().map_err(failed("make a key for"))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(&format!("everynode-ca@{}", now.as_second()), &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    set_life(&mut params, now, AUTHORITY_LIFE, CLOCK_SKEW);
    let certificate = params.self_signed(&key).map_err(failed("sign"))?.pem();
    write(disk, &key_path, &key.serialize_pem(), MODE_PRIVATE)?;
    write(disk, &certificate_path, &certificate, MODE_PUBLIC)?;
    let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(failed("read"))?;
    Ok((certificate, issuer))
}

fn open_key(path: &Path, disk: &Disk) -> Result<String, PkiError> {
    let failed = |source| PkiError::Certificate {
        operation: format!("read or make the key {}", path.display()),
        source,
    };
    if let Some(key) = file::read(path)? {
        KeyPair::from_pem(&key).map_err(failed)?;
        return Ok(key);
    }
    let key = new_key().map_err(failed)?.serialize_pem();
    write(disk, path, &key, MODE_PRIVATE)?;
    Ok(key)
}

pub(crate) fn new_key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
}

/// Returns a random serial number. The library derives the default from the key, so two
/// certificates of one key would have the same number.
fn serial_number() -> Result<SerialNumber, rcgen::Error> {
    let mut bytes = [0; 16];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| rcgen::Error::RingUnspecified)?;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Largest number of groups in a certificate. The library stores one value for each attribute type,
/// and has two types for the organization: its own, and a custom object identifier.
const GROUPS_MAX: usize = 2;

/// Returns the subject of a certificate or of a signing request.
pub fn subject(user: &str, groups: &[String]) -> Result<DistinguishedName, PkiError> {
    if groups.len() > GROUPS_MAX {
        return Err(PkiError::Groups {
            user: user.to_owned(),
            groups: groups.len(),
        });
    }
    Ok(distinguished_name(user, groups))
}

fn distinguished_name(common_name: &str, organizations: &[String]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    let types = [
        DnType::OrganizationName,
        DnType::CustomDnType(ORGANIZATION_OID.to_vec()),
    ];
    for (kind, organization) in types.into_iter().zip(organizations) {
        name.push(kind, organization.as_str());
    }
    name.push(DnType::CommonName, common_name);
    name
}

fn alternative_name(name: &str) -> Result<SanType, rcgen::Error> {
    Ok(match name.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(name.try_into()?),
    })
}

fn alternative_names(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return BTreeSet::new();
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(*octets).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}

fn set_life(params: &mut CertificateParams, now: Timestamp, life: SignedDuration, skew: SignedDuration) {
    let seconds = |at: Timestamp| std::time::Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + seconds(now.saturating_sub(skew).unwrap_or(now));
    params.not_after = epoch + seconds(now.saturating_add(life).unwrap_or(now));
}

fn is_fresh(certificate: &X509Certificate<'_>, now: Timestamp) -> bool {
    let validity = certificate.validity();
    let renew_at = now.saturating_add(RENEW_BEFORE).unwrap_or(now).as_second();
    validity.not_before.timestamp() <= now.as_second() && validity.not_after.timestamp() > renew_at
}

fn with_certificate<T>(pem: &str, use_it: impl FnOnce(&X509Certificate<'_>) -> T) -> Option<T> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    Some(use_it(&certificate))
}

#[cfg(test)]
mod tests;
