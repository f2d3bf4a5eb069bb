//! Errors of requests that did not reach the API server: address, kubeconfig, cause and remedy.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

/// Server of a verb.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// `https://127.0.0.1:6443`
    pub(crate) url: String,
    /// Source of the address.
    pub(crate) from: String,
}

impl Peer {
    /// Returns the error of a request that failed before the server responded.
    pub(crate) fn unreachable(&self, error: kube::Error) -> anyhow::Error {
        let Peer { url, from } = self;
        let causes: Vec<&(dyn Error + 'static)> = causes(&error).collect();
        let tls = causes
            .iter()
            .find_map(|cause| cause.downcast_ref::<rustls::Error>());
        let io = causes.iter().find_map(|cause| cause.downcast_ref::<io::Error>());
        let text = match (tls, io) {
            (Some(rustls::Error::InvalidCertificate(why)), _) => self.certificate(why),
            (Some(rustls::Error::AlertReceived(alert)), _) => format!(
                "{url} refuses the client certificate of {from}: {}",
                alert_words(*alert)
            ),
            (Some(why), _) => format!("cannot speak TLS with {url} (from {from}): {why}"),
            (None, Some(why)) if why.kind() == io::ErrorKind::ConnectionRefused => {
                format!("cannot connect to {url} (from {from}): connection refused. Is the server running?")
            }
            _ => {
                let cause = causes
                    .last()
                    .map_or_else(|| error.to_string(), ToString::to_string);
                format!("cannot connect to {url} (from {from}): {cause}")
            }
        };
        anyhow::anyhow!(text)
    }

    fn certificate(&self, why: &CertificateError) -> String {
        let Peer { url, from } = self;
        match why {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
                "{url} (from {from}) answers with a certificate of another authority: this kubeconfig belongs to another cluster"
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
                "the certificate of {url} (from {from}) is not valid for this name: start the server with --tls-san, or use a name that the certificate has"
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => format!(
                "the certificate of {url} (from {from}) has expired: check the clock of this machine and of the server"
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => format!(
                "the certificate of {url} (from {from}) is not valid yet: check the clock of this machine and of the server"
            ),
            why => format!("the certificate of {url} (from {from}) is not valid: {why}"),
        }
    }
}

/// Returns an error, its sources, and the errors inside I/O errors.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn Error + 'static) = *error;
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

fn alert_words(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateExpired => "it has expired".to_owned(),
        AlertDescription::UnknownCA => "another authority issued it".to_owned(),
        alert => format!("{alert:?}"),
    }
}
