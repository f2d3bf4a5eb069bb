//! An API server without a machine: no disk, no network, no randomness of its own. For simulations.
//!
//! It is the same service behind the same kind of client; what differs is given to it: the clock, and a seed from which it draws
//! what others take from the kernel. So two runs that ask the same things at the same times see the same answers, names and
//! uids included.

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

/// Where the server says it listens: an address that is set aside for documentation.
const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 6443);

/// What stands for the authority's certificate.
const AUTHORITY: &str = "a simulation has no certificates\n";

/// An API server in memory.
pub struct InMemory {
    objects: Objects,
    clock: Clock,
    random: Random,
    shared: Arc<Shared>,
}

impl InMemory {
    /// A server of a new cluster. `seed` decides what would be random.
    pub async fn start(clock: Clock, seed: u64) -> Result<InMemory, StartError> {
        InMemory::serve(objects::in_memory(), clock, Random::seeded(seed)).await
    }

    /// Stops this server and starts another on what it stored, as after a crash: requests and watches end unanswered, and what
    /// had happened before cannot be watched any more.
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
        // Nobody reads files of a simulation.
        shared.started.done(Part::Kubeconfig);
        Ok(InMemory {
            objects,
            clock,
            random,
            shared,
        })
    }

    /// The way to the server for a component that acts as `user`, until the next restart.
    pub fn line(&self, user: User) -> Line {
        Line(InProcess::new(self.shared.clone(), user))
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The revision of the newest write.
    pub fn revision(&self) -> u64 {
        self.objects.revision().0
    }

    /// Every write from now on, as the store keeps it: not what a client was told.
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

/// The way of one user to the server. Cheap to clone.
#[derive(Clone)]
pub struct Line(InProcess);

impl Line {
    /// Answers one request. Nothing happens but while this is polled, and whatever the request writes is written by then: a
    /// future that is dropped stops where it is.
    pub async fn call(&self, request: Request<kube::client::Body>) -> Response<AnswerBody> {
        let answer = self.0.request(request.map(Body::stream)).await;
        answer.map(BodyExt::boxed_unsync)
    }
}

/// The body of an answer, as it comes.
pub type AnswerBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// One write of one object.
#[derive(Clone, Debug)]
pub struct Change {
    /// The revision that the write made. No two are alike.
    pub revision: u64,
    /// What it was written to.
    pub kind: &'static Kind,
    /// The object before, as JSON; None when it was created.
    pub before: Option<Bytes>,
    /// The object after, as JSON; None when it was deleted.
    pub after: Option<Bytes>,
}

/// The writes of a server in memory.
pub struct Changes {
    watchers: Vec<(&'static Kind, Watcher<Entry>)>,
}

impl Changes {
    /// What was written since the last call, in the order of revisions. To be called before each restart: what is not read by then
    /// is lost, and the call after it panics.
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
