//! An API server in memory for simulations, without disk and network.
//!
//! The service and its client are the same as in production. The clock is an argument. A seed
//! replaces the randomness of the kernel. So two runs that send the same requests at the same times
//! receive the same responses, names and UIDs. Only the signatures of service account tokens
//! differ, because the key that signs them is random.

use std::net::SocketAddr;
use std::sync::Arc;

use api::kinds::{KINDS, Kind};
use bytes::Bytes;
use clock::Clock;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use store::{EventKind, Interest, Revision, Watcher};

use crate::body::Body;
use crate::bootstrap;
use crate::client::InProcess;
use crate::objects::{self, Entry, Objects};
use crate::pki::{self, PkiError};
use crate::random::Random;
use crate::server::StartError;
use crate::service_ranges::ServiceRanges;
use crate::shared::{Part, Shared};
use crate::token::Tokens;
use crate::user::User;

/// The advertised address of the server: an address that is reserved for documentation.
const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 6443);

/// Placeholder for the authority's certificate.
const AUTHORITY: &str = "a simulation has no certificates\n";

/// An API server in memory.
pub struct InMemory {
    objects: Objects,
    clock: Clock,
    random: Random,
    shared: Arc<Shared>,
}

impl InMemory {
    /// Starts the server of a new cluster. `seed` determines all random values.
    pub async fn start(clock: Clock, seed: u64) -> Result<InMemory, StartError> {
        InMemory::serve(objects::in_memory(), clock, Random::seeded(seed)).await
    }

    /// Stops this server and starts another one with its store, as after a crash. Requests and
    /// watches end without a response. Earlier revisions can no longer be watched.
    pub async fn restart(&mut self) -> Result<(), StartError> {
        self.shared.stopping.cancel();
        self.objects.compact(self.objects.revision());
        *self = InMemory::serve(self.objects.clone(), self.clock.clone(), self.random.clone()).await?;
        Ok(())
    }

    async fn serve(objects: Objects, clock: Clock, random: Random) -> Result<InMemory, StartError> {
        let failed = |source| PkiError::Certificate {
            operation: "make a key".to_owned(),
            source,
        };
        let key = pki::new_key().map_err(failed).map_err(StartError::Pki)?;
        let tokens = Tokens::new(&key.serialize_pem()).map_err(StartError::Tokens)?;
        let ranges = ServiceRanges::default();
        let shared = Shared::new(
            objects.clone(),
            tokens,
            AUTHORITY,
            ranges,
            clock.clone(),
            random.clone(),
        );
        let shared = Arc::new(shared);
        let admin = InProcess::new(shared.clone(), User::admin());
        bootstrap::bootstrap(&admin, AUTHORITY, ADDRESS, &shared.service_ranges).await?;
        shared.started.done(Part::Objects);
        // A simulation has no kubeconfig.
        shared.started.done(Part::Kubeconfig);
        Ok(InMemory {
            objects,
            clock,
            random,
            shared,
        })
    }

    /// Returns a client for a component that acts as `user`. It is valid until the next restart.
    pub fn line(&self, user: User) -> Line {
        Line(InProcess::new(self.shared.clone(), user))
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Returns the revision of the newest write.
    pub fn revision(&self) -> u64 {
        self.objects.revision().0
    }

    /// Watches all writes from now on, as the store holds them and independent of the watches of
    /// clients.
    pub fn changes(&self) -> Changes {
        let now = self.objects.revision();
        let watchers = KINDS
            .iter()
            .filter(|kind| kind.stored && kind.conversion.is_none());
        let watch = |kind: &&'static Kind| {
            let prefix = objects::prefix(kind, "");
            Some((*kind, self.objects.watch(&prefix, now, Interest::All).ok()?))
        };
        Changes {
            watchers: watchers.filter_map(watch).collect(),
        }
    }
}

/// A client of one user. Cheap to clone.
#[derive(Clone)]
pub struct Line(InProcess);

impl Line {
    /// Sends one request and returns its response. All work is done while the future is polled, and
    /// the writes of the request are complete when it returns. A dropped future stops the request.
    pub async fn call(&self, request: Request<kube::client::Body>) -> Response<AnswerBody> {
        let answer = self.0.request(request.map(Body::stream)).await;
        answer.map(BodyExt::boxed_unsync)
    }
}

/// The body of a response.
pub type AnswerBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// One write of one object.
#[derive(Clone, Debug)]
pub struct Change {
    /// The revision of the write. It is unique.
    pub revision: u64,
    /// The kind of the object.
    pub kind: &'static Kind,
    /// The object before the write, as JSON. `None` if it was created.
    pub before: Option<Bytes>,
    /// The object after the write, as JSON. `None` if it was deleted.
    pub after: Option<Bytes>,
}

/// The writes of a server in memory.
pub struct Changes {
    watchers: Vec<(&'static Kind, Watcher<Entry>)>,
}

impl Changes {
    /// Returns the writes since the last call, in the order of revisions. Must be called before
    /// each restart: otherwise the writes are lost, and the next call panics.
    pub fn take(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (kind, watcher) in &mut self.watchers {
            while let Some(event) = watcher.try_next().expect("the changes are read in time") {
                let Revision(revision) = event.revision();
                let after = (event.kind == EventKind::Put).then(|| event.object.body.clone());
                changes.push(Change {
                    revision,
                    kind,
                    before: event.previous.as_ref().map(|object| object.body.clone()),
                    after,
                });
            }
        }
        changes.sort_unstable_by_key(|change| change.revision);
        changes
    }
}
