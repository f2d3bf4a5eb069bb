//! Handles CertificateSigningRequests: approves those of nodes, issues certificates, and deletes
//! old requests.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use api::certificates::fingerprint;
use api::kinds::certificates::{APPROVED, DENIED, FAILED};
use api::node_credential::{self, NodeCredential};
use api::view::ObjectView;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plan::certificates::{Grant, KnownNode, Step, is_over, next_step, node_of};
use reflector::request::{DeleteOptions, Failure};
use reflector::{Batch, Event, METADATA_ONLY, Reflector};
use serde_json::{Value, json};

use crate::Context;
use crate::driver::TaskError;
use crate::flight::Flight;
use crate::resource::Resource;

/// Most requests that are handled at a time.
const IN_FLIGHT: usize = 16;
/// Backoff after a failure, which keeps its place in the flight.
const AFTER_FAILURE: Duration = Duration::from_millis(500);
/// How often all requests are checked for old ones.
const CLEAR: Duration = Duration::from_secs(600);

/// Issues certificates.
#[derive(Clone)]
pub struct Signer {
    /// Longest validity of a certificate.
    pub longest: Duration,
    /// Signs a request (PEM) for a user, groups and a validity. Returns a certificate (PEM), or why
    /// there is none.
    pub sign: Arc<Sign>,
}

/// Signs a certificate: see [`Signer::sign`].
pub type Sign = dyn Fn(&str, &str, &[String], Duration) -> Result<String, String> + Send + Sync;

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer(certificates of at most {:?})", self.longest)
    }
}

/// Runs until it is dropped.
pub(crate) async fn run(context: Context, signer: Signer) -> Result<(), TaskError> {
    let requests: Reflector<ObjectView> = Reflector::new();
    let mut batches = requests.subscribe();
    let path = Resource::certificate_signing_requests().path();
    let reflecting = requests
        .clone()
        .run(context.api.clone(), path, Some(METADATA_ONLY));
    tokio::pin!(reflecting);
    let mut due: BTreeSet<Arc<str>> = BTreeSet::new();
    let mut flight = Flight::new(IN_FLIGHT);
    let mut clear = tokio::time::interval(CLEAR);
    loop {
        tokio::select! {
            biased;
            () = &mut reflecting => return Err("its reflector ended".into()),
            _ = clear.tick() => due.extend(requests.all().iter().map(|known| known.meta.name.clone())),
            Some(batch) = batches.recv() => receive(&mut due, &batch),
            (name, result) = flight.next() => settle(&mut due, name, result),
        }
        for _ in 0..flight.room() {
            let Some(name) = due.pop_first() else { break };
            flight.launch(answer(context.clone(), signer.clone(), name));
        }
    }
}

fn receive(due: &mut BTreeSet<Arc<str>>, batch: &Batch<ObjectView>) {
    for event in batch.iter() {
        match event {
            Event::Put(request) => {
                due.insert(request.meta.name.clone());
            }
            Event::Delete(request) => {
                due.remove(&request.meta.name);
            }
            Event::Synced(_) | Event::Bookmark(_) => {}
        }
    }
}

fn settle(due: &mut BTreeSet<Arc<str>>, name: Arc<str>, result: Result<(), Failure>) {
    let Err(failure) = result else { return };
    // Deleted meanwhile: the watch shows it.
    if failure.is_not_found() {
        return;
    }
    if !failure.is_conflict() {
        tracing::warn!(%name, %failure, "cannot handle the certificate signing request");
    }
    due.insert(name);
}

async fn answer(context: Context, signer: Signer, name: Arc<str>) -> (Arc<str>, Result<(), Failure>) {
    let result = step(&context, &signer, &name).await;
    if result.is_err() {
        tokio::time::sleep(AFTER_FAILURE).await;
    }
    (name, result)
}

/// Takes one step. The watch shows what it writes, and triggers the next step.
async fn step(context: &Context, signer: &Signer, name: &str) -> Result<(), Failure> {
    let requests = Resource::certificate_signing_requests();
    let csr: Value = context.api.get(&requests.object("", name)).await?;
    if is_over(&csr, context.clock.now()) {
        let options = DeleteOptions {
            resource_version: csr["metadata"]["resourceVersion"].as_str(),
            ..DeleteOptions::default()
        };
        return context.api.delete(&requests.object("", name), options).await;
    }
    let node = node_of(&csr);
    let (object, secret) = match &node {
        Some(node) => (
            get(context, &Resource::nodes().object("", node)).await?,
            get(context, &record_path(node)).await?,
        ),
        None => (None, None),
    };
    let record = secret.as_ref().and_then(NodeCredential::of_secret);
    let known = KnownNode {
        exists: object.is_some(),
        is_being_deleted: object
            .as_ref()
            .is_some_and(|node| api::meta::deletion_timestamp(node).is_some()),
        record: record.as_ref(),
    };
    match next_step(&csr, known, signer.longest) {
        Step::Leave => Ok(()),
        Step::Approve(message) => {
            conclude(context, &csr, "approval", APPROVED, "AutoApproved", message).await
        }
        Step::Deny { reason, message } => conclude(context, &csr, "approval", DENIED, reason, &message).await,
        Step::Fail { reason, message } => conclude(context, &csr, "status", FAILED, reason, &message).await,
        Step::Sign(grant) => issue(context, signer, &csr, &grant, record.as_ref(), secret.as_ref()).await,
    }
}

async fn get(context: &Context, path: &str) -> Result<Option<Value>, Failure> {
    match context.api.get(path).await {
        Ok(object) => Ok(Some(object)),
        Err(failure) if failure.is_not_found() => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn record_path(node: &str) -> String {
    Resource::secrets().object(node_credential::NAMESPACE, node)
}

/// Adds a condition.
async fn conclude(
    context: &Context,
    csr: &Value,
    subresource: &str,
    kind: &str,
    reason: &str,
    message: &str,
) -> Result<(), Failure> {
    let mut csr = csr.clone();
    let condition = json!({"type": kind, "status": "True", "reason": reason, "message": message});
    match csr["status"]["conditions"].as_array_mut() {
        Some(conditions) => conditions.push(condition),
        None => csr["status"]["conditions"] = json!([condition]),
    }
    let path = Resource::certificate_signing_requests().subresource("", api::meta::name(&csr), subresource);
    context.api.replace(&path, &csr).await
}

/// Issues a certificate. A node's certificate is recorded before it is published. The write
/// requires the record that was read, so concurrent changes are detected.
async fn issue(
    context: &Context,
    signer: &Signer,
    csr: &Value,
    grant: &Grant,
    record: Option<&NodeCredential>,
    secret: Option<&Value>,
) -> Result<(), Failure> {
    let signed = (signer.sign)(&grant.request, &grant.user, &grant.groups, grant.life);
    let certificate = match signed {
        Ok(certificate) => certificate,
        Err(why) => return conclude(context, csr, "status", FAILED, "SigningError", &why).await,
    };
    if let (Some(node), Some(fingerprint)) = (&grant.node, fingerprint(certificate.as_bytes())) {
        let next = node.recorded(record, fingerprint);
        let version = secret.map(api::meta::resource_version);
        let object = next.to_secret(&node.name, version);
        match secret {
            Some(_) => context.api.replace(&record_path(&node.name), &object).await?,
            None => {
                let collection = Resource::secrets().collection(node_credential::NAMESPACE);
                context.api.create(&collection, &object).await?;
            }
        }
    }
    let mut csr = csr.clone();
    csr["status"]["certificate"] = STANDARD.encode(certificate).into();
    let path = Resource::certificate_signing_requests().subresource("", api::meta::name(&csr), "status");
    context.api.replace(&path, &csr).await
}
