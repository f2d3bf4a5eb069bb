//! Credentials that can be checked again: a watch or a connection that was upgraded to another
//! protocol must not outlive the credential that it began with.
//!
//! Authorization is not checked again, as in Kubernetes: a watch that was allowed goes on after the
//! right was withdrawn.

use std::sync::Arc;
use std::time::Duration;

use api::bootstrap_token::BootstrapToken;
use api::status::Status;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::authenticate::{self, Holder};
use crate::flow::Ticket;
use crate::limits::RIGHTS_CHECK_PERIOD;
use crate::shared::Shared;
use crate::token::Claims;
use crate::{bootstrap_token, node_credential};

/// Credential that a request was authenticated by.
#[derive(Debug, Clone, Default)]
pub(crate) enum Credential {
    /// No credential: an anonymous request, or one of a component of this process.
    #[default]
    None,
    Certificate(Arc<Holder>),
    ServiceAccount(Arc<Claims>),
    Bootstrap(Arc<BootstrapToken>),
}

impl Credential {
    /// Returns 401 if the credential is no longer valid.
    pub(crate) fn must_be_good(&self, shared: &Shared, now: Timestamp) -> Result<(), Status> {
        match self {
            Credential::None => Ok(()),
            Credential::Certificate(holder) => holder.user(shared, now).map(drop),
            Credential::ServiceAccount(claims) => authenticate::must_be_good(&shared.objects, claims, now),
            Credential::Bootstrap(token) => bootstrap_token::user(shared, token, now).map(drop),
        }
    }

    /// Returns the expiry in seconds since the epoch; `None` if the credential itself has none.
    fn ends(&self) -> Option<i64> {
        match self {
            Credential::Certificate(holder) => Some(holder.ends()),
            Credential::ServiceAccount(claims) => Some(claims.exp),
            Credential::None | Credential::Bootstrap(_) => None,
        }
    }
}

/// Validity of a request's credential over time. A request without a credential has no `Rights`.
pub(crate) struct Rights {
    shared: Arc<Shared>,
    credential: Credential,
    /// Cancelled when the certificate's node is deleted.
    node_end: CancellationToken,
    next_check: Instant,
}

impl Rights {
    /// Starts to check a credential. Returns 401 if it is no longer valid.
    pub(crate) fn of(shared: &Arc<Shared>, credential: &Credential) -> Result<Option<Rights>, Status> {
        let node_end = match credential {
            Credential::None => return Ok(None),
            // The token is obtained before the check, so a deletion after the check cancels it.
            Credential::Certificate(holder) => node_credential::end_of(shared, holder),
            Credential::ServiceAccount(_) | Credential::Bootstrap(_) => CancellationToken::new(),
        };
        let now = shared.clock.now();
        credential.must_be_good(shared, now)?;
        let mut rights = Rights {
            shared: shared.clone(),
            credential: credential.clone(),
            node_end,
            next_check: Instant::now(),
        };
        rights.check_later(now);
        Ok(Some(rights))
    }

    fn check_later(&mut self, now: Timestamp) {
        let left = self
            .credential
            .ends()
            .map(|ends| ends.saturating_sub(now.as_second()));
        let left = left.and_then(|seconds| u64::try_from(seconds).ok());
        let pause = left.map_or(RIGHTS_CHECK_PERIOD, |seconds| {
            RIGHTS_CHECK_PERIOD.min(Duration::from_secs(seconds.max(1)))
        });
        self.next_check = Instant::now() + pause;
    }

    /// Returns when the credential is no longer valid. The future may be dropped and this called
    /// again.
    pub(crate) async fn end(&mut self) {
        loop {
            tokio::select! {
                biased;
                () = self.node_end.cancelled() => return,
                () = tokio::time::sleep_until(self.next_check) => {}
            }
            let now = self.shared.clock.now();
            if let Err(status) = self.credential.must_be_good(&self.shared, now) {
                tracing::debug!(%status.message, "an answer ends with the credential that it began with");
                return;
            }
            self.check_later(now);
        }
    }
}

/// What an upgraded connection or a watch holds beyond the response that started it: its place
/// among the streams, and the check of its credential.
#[derive(Default)]
pub(crate) struct Stay {
    /// `None` for a component of this process, and before the user is authenticated.
    pub(crate) ticket: Option<Ticket>,
    /// `None` before the request becomes a stream, and if it has no credential.
    pub(crate) rights: Option<Rights>,
}

impl Stay {
    /// Returns when the credential is no longer valid; never if there is none.
    pub(crate) async fn end(&mut self) {
        match &mut self.rights {
            Some(rights) => rights.end().await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use clock::Clock;
    use http_body_util::BodyExt;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use serde_json::{Value, json};

    use super::*;
    use crate::in_memory::InMemory;
    use crate::pki::{self, Pki};
    use crate::token::ISSUER;
    use crate::user::User;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn create(server: &InMemory, path: &str, object: &Value) -> Value {
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(kube::client::Body::from(object.to_string().into_bytes()))
            .unwrap();
        let answer = server.line(User::admin()).call(request).await;
        assert_eq!(answer.status(), 201);
        serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn rights_end_with_the_time_of_a_token_or_certificate() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let server = InMemory::start(Clock::simulated(now), 1).await.unwrap();
        let shared = server.shared();
        let accounts = "/api/v1/namespaces/default/serviceaccounts";
        create(&server, accounts, &json!({"metadata": {"name": "a"}})).await;
        let asked = json!({"spec": {"expirationSeconds": HOUR.as_secs()}});
        let answer = create(&server, &format!("{accounts}/a/token"), &asked).await;
        let token = answer["status"]["token"].as_str().unwrap();
        let claims = shared.tokens.verify(token, &[ISSUER], now).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::open(folder.path(), &disk::Disk::default(), false, now).unwrap();
        let request = rcgen::CertificateParams::default()
            .serialize_request(&pki::new_key().unwrap())
            .unwrap();
        let life = jiff::SignedDuration::try_from(HOUR).unwrap();
        let pem = pki
            .sign(&request.pem().unwrap(), &User::new("jane", &[]), life, now)
            .unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let holder = Holder::of_certificate(&der).unwrap();

        let credentials = [
            Credential::ServiceAccount(claims),
            Credential::Certificate(Arc::new(holder)),
        ];
        let began = Instant::now();
        let ends = credentials.each_ref().map(async |credential| {
            Rights::of(shared, credential).unwrap().unwrap().end().await;
            began.elapsed()
        });
        for passed in futures::future::join_all(ends).await {
            assert!(
                (HOUR..=HOUR + Duration::from_secs(1)).contains(&passed),
                "{passed:?}"
            );
        }
        for credential in &credentials {
            assert!(Rights::of(shared, credential).is_err());
        }
    }
}
