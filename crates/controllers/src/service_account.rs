//! Creates the objects that every namespace has: the ServiceAccount `default`, and the ConfigMap
//! `kube-root-ca.crt` with the CA certificate of the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::view::{NamespaceView, ObjectView};
use reflector::request::{Failure, MERGE};
use reflector::{Batch, Event, METADATA_ONLY, Reflector};
use serde_json::json;

use crate::Context;
use crate::driver::TaskError;
use crate::flight::Flight;
use crate::resource::Resource;

const ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";

/// Most writes in flight.
const IN_FLIGHT: usize = 16;

/// Backoff after a failure, which keeps its place in the flight.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// An object that every namespace must have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Account,
    RootCa,
}

/// The objects of each namespace, with the resourceVersion that was seen last.
#[derive(Default)]
struct Namespaces {
    alive: BTreeMap<Arc<str>, BTreeMap<Kind, u64>>,
    /// The objects to write.
    missing: BTreeSet<(Arc<str>, Kind)>,
}

/// Runs until it is dropped. `root_ca` is the certificate in PEM; if it is `None`, no ConfigMap is
/// created.
pub(crate) async fn run(context: Context, root_ca: Option<Arc<str>>) -> Result<(), TaskError> {
    let accounts: Reflector<ObjectView> = Reflector::new();
    let config_maps: Reflector<ObjectView> = Reflector::new();
    let mut namespaces = context.namespaces.subscribe();
    let (mut accounts_batches, mut config_maps_batches) = (accounts.subscribe(), config_maps.subscribe());
    let path =
        |resource: Resource, name: &str| format!("{}?fieldSelector=metadata.name%3D{name}", resource.path());
    let accounts = accounts.run(
        context.api.clone(),
        path(Resource::service_accounts(), ACCOUNT),
        Some(METADATA_ONLY),
    );
    let config_maps = config_maps.run(
        context.api.clone(),
        path(Resource::config_maps(), ROOT_CA),
        Some(METADATA_ONLY),
    );
    tokio::pin!(accounts, config_maps);
    let mut known = Namespaces::default();
    let mut synced = [false; 3];
    let mut flight = Flight::new(IN_FLIGHT);
    loop {
        tokio::select! {
            biased;
            () = &mut accounts => return Err("its reflector ended".into()),
            () = &mut config_maps => return Err("its reflector ended".into()),
            Some(batch) = namespaces.recv() => synced[0] |= known.receive_namespaces(&batch),
            Some(batch) = accounts_batches.recv() => synced[1] |= known.receive(Kind::Account, &batch),
            Some(batch) = config_maps_batches.recv() => synced[2] |= known.receive(Kind::RootCa, &batch),
            (namespace, kind, result) = flight.next() => known.settle(namespace, kind, result),
        }
        if synced != [true; 3] {
            continue;
        }
        for _ in 0..flight.room() {
            let Some((namespace, kind)) = known.missing.pop_first() else {
                break;
            };
            let exists = known
                .alive
                .get(&namespace)
                .is_some_and(|has| has.contains_key(&kind));
            flight.launch(publish(context.clone(), namespace, kind, exists, root_ca.clone()));
        }
    }
}

impl Namespaces {
    fn receive_namespaces(&mut self, batch: &Batch<NamespaceView>) -> bool {
        let mut synced = false;
        for event in batch.iter() {
            match event {
                Event::Put(namespace) if namespace.meta.is_terminating() => self.forget(&namespace.meta.name),
                Event::Put(namespace) => {
                    let name = &namespace.meta.name;
                    let has = self.alive.entry(name.clone()).or_default();
                    let lacks = [Kind::Account, Kind::RootCa]
                        .into_iter()
                        .filter(|kind| !has.contains_key(kind));
                    self.missing.extend(lacks.map(|kind| (name.clone(), kind)));
                }
                Event::Delete(namespace) => self.forget(&namespace.meta.name),
                Event::Synced(_) => synced = true,
                Event::Bookmark(_) => {}
            }
        }
        synced
    }

    fn receive(&mut self, kind: Kind, batch: &Batch<ObjectView>) -> bool {
        let mut synced = false;
        for event in batch.iter() {
            match event {
                Event::Put(object) => {
                    let namespace = object.meta.namespace.clone();
                    self.alive
                        .entry(namespace.clone())
                        .or_default()
                        .insert(kind, object.meta.resource_version);
                    match kind {
                        Kind::Account => {
                            self.missing.remove(&(namespace, kind));
                        }
                        // Its content is not watched, so every new version is patched, which
                        // changes nothing if it is right.
                        Kind::RootCa => {
                            self.missing.insert((namespace, kind));
                        }
                    }
                }
                Event::Delete(object) => {
                    if let Some(has) = self.alive.get_mut(&object.meta.namespace) {
                        has.remove(&kind);
                        self.missing.insert((object.meta.namespace.clone(), kind));
                    }
                }
                Event::Synced(_) => synced = true,
                Event::Bookmark(_) => {}
            }
        }
        synced
    }

    fn forget(&mut self, name: &Arc<str>) {
        self.alive.remove(name);
        self.missing.remove(&(name.clone(), Kind::Account));
        self.missing.remove(&(name.clone(), Kind::RootCa));
    }

    fn settle(&mut self, namespace: Arc<str>, kind: Kind, result: Result<(), Failure>) {
        let Err(failure) = result else { return };
        if failure.already_exists() || failure.is_not_found() || failure.namespace_terminating() {
            // The watch shows the present state.
            return;
        }
        tracing::warn!(%namespace, %failure, "cannot create the namespace's default objects");
        if self.alive.contains_key(&namespace) {
            self.missing.insert((namespace, kind));
        }
    }
}

async fn publish(
    context: Context,
    namespace: Arc<str>,
    kind: Kind,
    exists: bool,
    root_ca: Option<Arc<str>>,
) -> (Arc<str>, Kind, Result<(), Failure>) {
    let result = match (kind, root_ca) {
        (Kind::Account, _) => {
            let account =
                json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}});
            context
                .api
                .create(&Resource::service_accounts().collection(&namespace), &account)
                .await
        }
        (Kind::RootCa, None) => Ok(()),
        (Kind::RootCa, Some(pem)) if exists => {
            let patch = json!({"data": {"ca.crt": &*pem}});
            context
                .api
                .patch(
                    &Resource::config_maps().object(&namespace, ROOT_CA),
                    MERGE,
                    &patch,
                )
                .await
        }
        (Kind::RootCa, Some(pem)) => {
            let about = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints \
                         such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
                         distributions of Kubernetes clusters.";
            let map = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": ROOT_CA, "annotations": {"kubernetes.io/description": about}},
                "data": {"ca.crt": &*pem},
            });
            context
                .api
                .create(&Resource::config_maps().collection(&namespace), &map)
                .await
        }
    };
    if result.is_err() {
        tokio::time::sleep(AFTER_FAILURE).await;
    }
    (namespace, kind, result)
}
