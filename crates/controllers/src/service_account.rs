//! What every namespace has: the ServiceAccount `default`, and the ConfigMap `kube-root-ca.crt` by which pods trust the API
//! server.

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

/// Writes under way.
const IN_FLIGHT: usize = 16;

/// How long a failed write holds its place before it is tried again.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// One of the two things that a namespace must have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Thing {
    Account,
    RootCa,
}

/// What a namespace has, by the version at which it was last found in order.
#[derive(Default)]
struct Namespaces {
    alive: BTreeMap<Arc<str>, BTreeMap<Thing, u64>>,
    /// What to write.
    missing: BTreeSet<(Arc<str>, Thing)>,
}

/// Publishes until it is dropped. `root_ca` is the certificate in PEM; without it no ConfigMap is made.
pub(crate) async fn run(context: Context, root_ca: Option<Arc<str>>) -> Result<(), TaskError> {
    let accounts: Reflector<ObjectView> = Reflector::new();
    let config_maps: Reflector<ObjectView> = Reflector::new();
    let mut namespaces = context.namespaces.subscribe();
    let (mut accounts_told, mut config_maps_told) = (accounts.subscribe(), config_maps.subscribe());
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
            Some(batch) = namespaces.recv() => synced[0] |= known.hear_namespaces(&batch),
            Some(batch) = accounts_told.recv() => synced[1] |= known.hear(Thing::Account, &batch),
            Some(batch) = config_maps_told.recv() => synced[2] |= known.hear(Thing::RootCa, &batch),
            (namespace, thing, result) = flight.next() => known.settle(namespace, thing, result),
        }
        if synced != [true; 3] {
            continue;
        }
        for _ in 0..flight.room() {
            let Some((namespace, thing)) = known.missing.pop_first() else {
                break;
            };
            let there = known
                .alive
                .get(&namespace)
                .is_some_and(|has| has.contains_key(&thing));
            flight.launch(publish(context.clone(), namespace, thing, there, root_ca.clone()));
        }
    }
}

impl Namespaces {
    fn hear_namespaces(&mut self, batch: &Batch<NamespaceView>) -> bool {
        let mut synced = false;
        for event in batch.iter() {
            match event {
                Event::Put(namespace) if namespace.meta.is_terminating() => self.forget(&namespace.meta.name),
                Event::Put(namespace) => {
                    let name = &namespace.meta.name;
                    let has = self.alive.entry(name.clone()).or_default();
                    let lacks = [Thing::Account, Thing::RootCa]
                        .into_iter()
                        .filter(|thing| !has.contains_key(thing));
                    self.missing.extend(lacks.map(|thing| (name.clone(), thing)));
                }
                Event::Delete(namespace) => self.forget(&namespace.meta.name),
                Event::Synced(_) => synced = true,
                Event::Bookmark(_) => {}
            }
        }
        synced
    }

    fn hear(&mut self, thing: Thing, batch: &Batch<ObjectView>) -> bool {
        let mut synced = false;
        for event in batch.iter() {
            match event {
                Event::Put(object) => {
                    let namespace = object.meta.namespace.clone();
                    self.alive
                        .entry(namespace.clone())
                        .or_default()
                        .insert(thing, object.meta.resource_version);
                    match thing {
                        Thing::Account => {
                            self.missing.remove(&(namespace, thing));
                        }
                        // Its content is not watched: each new version is made right, which changes nothing when it is.
                        Thing::RootCa => {
                            self.missing.insert((namespace, thing));
                        }
                    }
                }
                Event::Delete(object) => {
                    if let Some(has) = self.alive.get_mut(&object.meta.namespace) {
                        has.remove(&thing);
                        self.missing.insert((object.meta.namespace.clone(), thing));
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
        self.missing.remove(&(name.clone(), Thing::Account));
        self.missing.remove(&(name.clone(), Thing::RootCa));
    }

    fn settle(&mut self, namespace: Arc<str>, thing: Thing, result: Result<(), Failure>) {
        let Err(failure) = result else { return };
        if failure.already_exists() || failure.is_not_found() || failure.namespace_terminating() {
            // The watch tells what is there instead.
            return;
        }
        tracing::warn!(%namespace, %failure, "publishing what a namespace has");
        if self.alive.contains_key(&namespace) {
            self.missing.insert((namespace, thing));
        }
    }
}

async fn publish(
    context: Context,
    namespace: Arc<str>,
    thing: Thing,
    there: bool,
    root_ca: Option<Arc<str>>,
) -> (Arc<str>, Thing, Result<(), Failure>) {
    let result = match (thing, root_ca) {
        (Thing::Account, _) => {
            let account =
                json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}});
            context
                .api
                .create(&Resource::service_accounts().collection(&namespace), &account)
                .await
        }
        (Thing::RootCa, None) => Ok(()),
        (Thing::RootCa, Some(pem)) if there => {
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
        (Thing::RootCa, Some(pem)) => {
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
    (namespace, thing, result)
}
