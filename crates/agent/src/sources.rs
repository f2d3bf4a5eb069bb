//! What this node's pods take values from: ConfigMaps, Secrets, and the Services of their namespace.
//!
//! Each ConfigMap and Secret that a pod has asked for is watched by its name, as the Node authorizer allows it, until no pod of the node uses it any more: a pod's
//! volumes are brought up to date from here, and a container that starts again asks nobody. While no server answers, what was last known
//! stands, also after a restart of the agent: a control plane that is down must not stop a daemon.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::view::ServiceView;
use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::runtime::watcher::{self, watch_object};
use reflector::Reflector;
use reflector::backoff::Backoff;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use crate::cluster::{PodRef, message};
use crate::kept::{Kept, SECRETS, Values, parsed};

/// How long the first answer may take until what was known before stands in.
const FIRST: Duration = Duration::from_secs(5);
/// Wait before a watch is tried again, doubling up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Keys of ConfigMaps, as they are kept.
pub(crate) const CONFIG_MAPS: &str = "configmaps/";

/// The copies.
pub(crate) struct Sources {
    config_maps: Copies<ConfigMap>,
    secrets: Copies<Secret>,
    services: Reflector<ServiceView>,
    news: Arc<News>,
}

/// What has changed and was not asked for yet: at most the objects that are watched.
#[derive(Default)]
struct News {
    config_maps: Mutex<HashSet<Key>>,
    secrets: Mutex<HashSet<Key>>,
    wake: Notify,
}

/// Where Secrets are kept may be another place than where the rest is.
pub(crate) struct Places<'a> {
    pub(crate) config_maps: (Kept, &'a Values),
    pub(crate) secrets: (Kept, &'a Values),
}

impl Sources {
    /// Copies of nothing, with what was known before.
    pub(crate) fn new(client: kube::Client, places: Places<'_>, services: Reflector<ServiceView>) -> Self {
        let news = Arc::new(News::default());
        let (kept, known) = places.config_maps;
        let config_maps = Copies::new(client.clone(), CONFIG_MAPS, kept, known, &news);
        let (kept, known) = places.secrets;
        Self {
            config_maps,
            secrets: Copies::new(client, SECRETS, kept, known, &news),
            services,
            news,
        }
    }

    /// Waits until something changed that pods have taken values from, and says which: their uids. Cancel-safe.
    pub(crate) async fn changed(&self) -> HashSet<String> {
        loop {
            let woken = self.news.wake.notified();
            let mut pods = self.config_maps.users_of_news();
            pods.extend(self.secrets.users_of_news());
            if !pods.is_empty() {
                return pods.into_iter().collect();
            }
            woken.await;
        }
    }

    /// The Services of a namespace, by name.
    pub(crate) async fn services(&self, namespace: &str) -> Result<Vec<Arc<ServiceView>>, String> {
        if !self.services.is_complete() {
            let whole = async { self.services.changes().next().await };
            if tokio::time::timeout(FIRST, whole).await.is_err() {
                return Err(
                    "services have not yet been read at least once, cannot construct envvars".to_owned(),
                );
            }
        }
        let mut services = self.services.all();
        services.retain(|service| *service.meta.namespace == *namespace);
        services.sort_by(|one, other| one.meta.name.cmp(&other.meta.name));
        Ok(services)
    }

    /// A ConfigMap that `pod` refers to; `None` when there is none of that name. The error is for people.
    pub(crate) async fn config_map(
        &self,
        pod: &PodRef,
        name: &str,
    ) -> Result<Option<Arc<ConfigMap>>, String> {
        self.config_maps.get(pod, name).await
    }

    /// A Secret that `pod` refers to.
    pub(crate) async fn secret(&self, pod: &PodRef, name: &str) -> Result<Option<Arc<Secret>>, String> {
        self.secrets.get(pod, name).await
    }

    /// The pod is gone from this node, and needs nothing any more.
    pub(crate) fn release(&self, pod: &str) {
        self.config_maps.release(pod);
        self.secrets.release(pod);
    }

    /// Forgets what was known before and none of these pods refers to.
    pub(crate) fn forget_all_but(&self, pods: &[serde_json::Value]) {
        use api::authorization::PodReference::{ConfigMap, Secret};
        let referred = |what, namespace: &str, name: &str| {
            pods.iter().any(|pod| {
                pod["metadata"]["namespace"] == namespace
                    && api::authorization::pod_refers_to(pod, what, name)
            })
        };
        self.config_maps
            .forget(|namespace, name| !referred(ConfigMap, namespace, name));
        self.secrets
            .forget(|namespace, name| !referred(Secret, namespace, name));
    }
}

/// A kind of source.
trait Source:
    kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + PartialEq
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// What this object says, without what nobody here reads.
    fn bare(self) -> Self;

    /// Those of this kind that changed.
    fn news(news: &News) -> &Mutex<HashSet<Key>>;
}

impl Source for ConfigMap {
    fn bare(mut self) -> Self {
        self.metadata = named(self.metadata);
        self
    }

    fn news(news: &News) -> &Mutex<HashSet<Key>> {
        &news.config_maps
    }
}

impl Source for Secret {
    fn bare(mut self) -> Self {
        self.metadata = named(self.metadata);
        self
    }

    fn news(news: &News) -> &Mutex<HashSet<Key>> {
        &news.secrets
    }
}

fn named(metadata: ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        namespace: metadata.namespace,
        name: metadata.name,
        ..ObjectMeta::default()
    }
}

/// What is known of an object now.
#[derive(Clone)]
enum Seen<K> {
    /// Nobody has answered.
    Nothing,
    /// It is so, or is not there.
    Object(Option<Arc<K>>),
    /// There is no answer, or none but this, since the watch began.
    Failed(String),
}

/// Namespace and name.
type Key = (String, String);

struct Copies<K> {
    client: kube::Client,
    /// With what keys begin.
    prefix: &'static str,
    kept: Kept,
    news: Arc<News>,
    inner: Mutex<Inner<K>>,
}

struct Inner<K> {
    watched: HashMap<Key, Watched<K>>,
    /// What was known before this process, until it is heard of.
    before: HashMap<Key, Arc<K>>,
}

struct Watched<K> {
    seen: watch::Receiver<Seen<K>>,
    /// Uids of the pods that asked for it.
    users: HashSet<String>,
    task: AbortHandle,
}

impl<K> Drop for Watched<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<K: Source> Copies<K> {
    fn new(client: kube::Client, prefix: &'static str, kept: Kept, known: &Values, news: &Arc<News>) -> Self {
        let known: Vec<K> = parsed(known, prefix);
        let before = known.into_iter().filter_map(|object| {
            let meta = object.meta();
            let key = (meta.namespace.clone()?, meta.name.clone()?);
            Some((key, Arc::new(object)))
        });
        Self {
            client,
            prefix,
            kept,
            news: Arc::clone(news),
            inner: Mutex::new(Inner {
                watched: HashMap::new(),
                before: before.collect(),
            }),
        }
    }

    async fn get(&self, pod: &PodRef, name: &str) -> Result<Option<Arc<K>>, String> {
        let key = (pod.namespace.clone(), name.to_owned());
        let mut seen = self.watched(&key, &pod.uid);
        let answered = seen.wait_for(|seen| !matches!(seen, Seen::Nothing));
        let seen = match tokio::time::timeout(FIRST, answered).await {
            Ok(Ok(seen)) => seen.clone(),
            Ok(Err(_)) => Seen::Failed("the watch has ended".to_owned()),
            Err(_) => Seen::Failed("the API server does not answer".to_owned()),
        };
        match seen {
            Seen::Object(object) => Ok(object),
            Seen::Nothing => Ok(None),
            Seen::Failed(why) => match self.lock().before.get(&key) {
                Some(object) => Ok(Some(Arc::clone(object))),
                None => Err(why),
            },
        }
    }

    /// The watch of an object, which begins when it is asked for first.
    fn watched(&self, key: &Key, pod: &str) -> watch::Receiver<Seen<K>> {
        let mut inner = self.lock();
        let watched = inner.watched.entry(key.clone()).or_insert_with(|| {
            let (told, seen) = watch::channel(Seen::Nothing);
            let (namespace, name) = key;
            let follow = Follow {
                api: Api::namespaced(self.client.clone(), namespace),
                name: name.clone(),
                kept: self.kept.clone(),
                kept_as: format!("{}{namespace}/{name}", self.prefix),
                key: key.clone(),
                news: Arc::clone(&self.news),
                told,
            };
            let task = tokio::spawn(follow.run()).abort_handle();
            let users = HashSet::new();
            Watched { seen, users, task }
        });
        watched.users.insert(pod.to_owned());
        watched.seen.clone()
    }

    /// The pods that use what has changed.
    fn users_of_news(&self) -> Vec<String> {
        let keys = std::mem::take(&mut *lock(K::news(&self.news)));
        let inner = self.lock();
        let watched = keys.iter().filter_map(|key| inner.watched.get(key));
        watched
            .flat_map(|watched| watched.users.iter().cloned())
            .collect()
    }

    fn release(&self, pod: &str) {
        let mut inner = self.lock();
        let mut gone = Vec::new();
        inner.watched.retain(|key, watched| {
            watched.users.remove(pod);
            if watched.users.is_empty() {
                gone.push(key.clone());
            }
            !watched.users.is_empty()
        });
        for key in gone {
            inner.before.remove(&key);
            self.kept.remove(&format!("{}{}/{}", self.prefix, key.0, key.1));
        }
    }

    fn forget(&self, unused: impl Fn(&str, &str) -> bool) {
        let mut inner = self.lock();
        let Inner { watched, before } = &mut *inner;
        before.retain(|key, _| {
            let stays = watched.contains_key(key) || !unused(&key.0, &key.1);
            if !stays {
                self.kept.remove(&format!("{}{}/{}", self.prefix, key.0, key.1));
            }
            stays
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K>> {
        lock(&self.inner)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while one is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One watch of one object.
struct Follow<K> {
    api: Api<K>,
    name: String,
    kept: Kept,
    kept_as: String,
    key: Key,
    news: Arc<News>,
    told: watch::Sender<Seen<K>>,
}

impl<K: Source> Follow<K> {
    /// Until it is aborted, when no pod uses the object any more.
    async fn run(self) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut changes = std::pin::pin!(watch_object(self.api.clone(), &self.name));
        while let Some(change) = changes.next().await {
            match change {
                Ok(object) => {
                    backoff.reset();
                    self.heard(object.map(Source::bare));
                }
                Err(error) => {
                    let why = why(&error);
                    tracing::debug!(object = self.kept_as, why, "a watch failed");
                    self.told.send_if_modified(|seen| {
                        // What was once known stands.
                        let news = !matches!(seen, Seen::Object(_));
                        if news {
                            *seen = Seen::Failed(why);
                        }
                        news
                    });
                    tokio::time::sleep(crate::jitter(backoff.next_wait())).await;
                }
            }
        }
    }

    fn heard(&self, object: Option<K>) {
        match object.as_ref().map(serde_json::to_string) {
            Some(Ok(text)) => self.kept.put(&self.kept_as, text),
            Some(Err(error)) => tracing::warn!(object = self.kept_as, %error, "cannot save the state"),
            None => self.kept.remove(&self.kept_as),
        }
        let object = object.map(Arc::new);
        let before = self.told.send_replace(Seen::Object(object.clone()));
        let is_news = match before {
            Seen::Nothing => false,
            Seen::Failed(_) => true,
            Seen::Object(before) => before != object,
        };
        if is_news {
            lock(K::news(&self.news)).insert(self.key.clone());
            self.news.wake.notify_one();
        }
    }
}

/// The server's own words where there are some.
fn why(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => message(error),
        watcher::Error::WatchError(status) => status.message.clone(),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
