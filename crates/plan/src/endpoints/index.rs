//! Finds the Services that select a pod, by namespace and label.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::view::{Labels, NodeView, PodView, ServiceView};

use super::ServiceKey;

const ZONE: &str = "topology.kubernetes.io/zone";

/// Namespace and name of a pod.
type Place = (Arc<str>, Arc<str>);

/// Services, pods and nodes, as last seen.
#[derive(Default)]
pub(super) struct Index {
    namespaces: HashMap<Arc<str>, Namespace>,
    /// Zones of the known nodes.
    nodes: HashMap<Arc<str>, Option<Arc<str>>>,
    /// The pods of each node, by namespace and name.
    pods_of: HashMap<Arc<str>, BTreeSet<Place>>,
}

#[derive(Default)]
struct Namespace {
    pods: BTreeMap<Arc<str>, Arc<PodView>>,
    services: BTreeMap<Arc<str>, Arc<ServiceView>>,
    /// Services that select pods, by the first label of their selector.
    asking: HashMap<Box<str>, BTreeSet<Arc<str>>>,
}

/// A pod. The same name with another uid is another pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodRef {
    pub(super) name: Arc<str>,
    pub(super) uid: Arc<str>,
}

/// What Services must process after an event.
pub(super) struct Touched {
    pub(super) services: BTreeSet<ServiceKey>,
    pub(super) pods: Vec<PodRef>,
}

/// Returns whether labels match a selector.
pub(super) fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn label(key: &str, value: &str) -> Box<str> {
    format!("{key}\0{value}").into()
}

/// Returns whether both pods have the same endpoint.
fn is_same_endpoint(a: &PodView, b: &PodView) -> bool {
    let lives = |pod: &PodView| (pod.is_terminal(), pod.is_terminating(), pod.ready);
    let spec = |pod: &PodView| {
        let spec = &pod.spec;
        (
            spec.hostname.clone(),
            spec.subdomain.clone(),
            spec.named_ports.clone(),
        )
    };
    a.meta.uid == b.meta.uid
        && a.meta.labels == b.meta.labels
        && a.node_name == b.node_name
        && a.pod_ips == b.pod_ips
        && lives(a) == lives(b)
        && (Arc::ptr_eq(&a.spec, &b.spec) || spec(a) == spec(b))
}

fn pod_ref(pod: &PodView) -> PodRef {
    PodRef {
        name: pod.meta.name.clone(),
        uid: pod.meta.uid.clone(),
    }
}

impl Namespace {
    /// The Services that select a pod with these labels.
    fn selecting<'n>(&'n self, labels: &'n Labels) -> impl Iterator<Item = &'n Arc<str>> {
        labels
            .iter()
            .filter_map(|(key, value)| self.asking.get(&label(key, value)))
            .flatten()
            .filter(move |name| {
                let service = self.services.get(*name);
                let selector = service.and_then(|service| service.selector.as_ref());
                selector.is_some_and(|selector| selects(selector, labels))
            })
    }
}

/// The label that indexes a Service.
fn asks_for(service: &ServiceView) -> Option<Box<str>> {
    if !service.selects() {
        return None;
    }
    let (key, value) = service.selector.as_ref()?.iter().next()?;
    Some(label(key, value))
}

impl Index {
    pub(super) fn service(&self, key: &ServiceKey) -> Option<&Arc<ServiceView>> {
        self.namespaces.get(&key.namespace)?.services.get(&key.name)
    }

    /// Adds or replaces a Service. Returns whether anything but its resourceVersion changed.
    pub(super) fn put_service(&mut self, view: &Arc<ServiceView>) -> bool {
        let namespace = self.namespaces.entry(view.meta.namespace.clone()).or_default();
        let name = view.meta.name.clone();
        if let Some(label) = asks_for(view) {
            namespace.asking.entry(label).or_default().insert(name.clone());
        }
        let Some(old) = namespace.services.insert(name.clone(), view.clone()) else {
            return true;
        };
        if let Some(label) = asks_for(&old).filter(|old| Some(old) != asks_for(view).as_ref()) {
            unask(&mut namespace.asking, &label, &name);
        }
        let mut same = (*old).clone();
        same.meta.resource_version = view.meta.resource_version;
        same != **view
    }

    pub(super) fn delete_service(&mut self, key: &ServiceKey) {
        let Some(namespace) = self.namespaces.get_mut(&key.namespace) else {
            return;
        };
        if let Some(old) = namespace.services.remove(&key.name)
            && let Some(label) = asks_for(&old)
        {
            unask(&mut namespace.asking, &label, &key.name);
        }
        self.forget_empty(&key.namespace);
    }

    /// Adds or replaces a pod. Returns the Services that select it now or did before, if its
    /// endpoint changed.
    pub(super) fn put_pod(&mut self, view: &Arc<PodView>) -> Option<Touched> {
        let at = (view.meta.namespace.clone(), view.meta.name.clone());
        let namespace = self.namespaces.entry(at.0.clone()).or_default();
        let old = namespace.pods.insert(at.1.clone(), view.clone());
        if let Some(old) = &old
            && is_same_endpoint(old, view)
        {
            return None;
        }
        let mut services: BTreeSet<&Arc<str>> = namespace.selecting(&view.meta.labels).collect();
        let mut pods = vec![pod_ref(view)];
        if let Some(old) = &old {
            services.extend(namespace.selecting(&old.meta.labels));
            if old.meta.uid != view.meta.uid {
                pods.push(pod_ref(old));
            }
        }
        let services = keys(&at.0, services);
        let node_before = old.as_ref().and_then(|old| old.node_name.as_ref());
        if node_before != view.node_name.as_ref() {
            if let Some(node) = node_before {
                self.unplace(node, &at);
            }
            if let Some(node) = &view.node_name {
                self.pods_of.entry(node.clone()).or_default().insert(at);
            }
        }
        Some(Touched { services, pods })
    }

    pub(super) fn delete_pod(&mut self, view: &PodView) -> Option<Touched> {
        let at = (view.meta.namespace.clone(), view.meta.name.clone());
        let namespace = self.namespaces.get_mut(&at.0)?;
        let old = namespace.pods.remove(&at.1)?;
        let services = keys(&at.0, namespace.selecting(&old.meta.labels));
        if let Some(node) = &old.node_name {
            self.unplace(node, &at);
        }
        self.forget_empty(&at.0);
        Some(Touched {
            services,
            pods: vec![pod_ref(&old)],
        })
    }

    /// Adds or replaces a node. Returns what its pods affect if the node or its zone is new.
    pub(super) fn put_node(&mut self, view: &NodeView) -> Vec<Touched> {
        let zone = view.meta.labels.get(ZONE).filter(|zone| !zone.is_empty());
        match self.nodes.get_mut(&view.meta.name) {
            Some(known) if known.as_deref() == zone => return Vec::new(),
            Some(known) => *known = zone.map(Into::into),
            None => {
                self.nodes.insert(view.meta.name.clone(), zone.map(Into::into));
            }
        }
        self.touched_by_node(&view.meta.name)
    }

    pub(super) fn delete_node(&mut self, name: &Arc<str>) -> Vec<Touched> {
        self.nodes.remove(name);
        self.touched_by_node(name)
    }

    fn touched_by_node(&self, name: &Arc<str>) -> Vec<Touched> {
        let pods = self.pods_of.get(name).into_iter().flatten();
        pods.filter_map(|(namespace, pod)| {
            let inside = self.namespaces.get(namespace)?;
            let pod = inside.pods.get(pod)?;
            Some(Touched {
                services: keys(namespace, inside.selecting(&pod.meta.labels)),
                pods: vec![pod_ref(pod)],
            })
        })
        .collect()
    }

    /// A node's zone, if it has one; `None` if the node is unknown.
    pub(super) fn node(&self, name: Option<&Arc<str>>) -> Option<Option<&Arc<str>>> {
        self.nodes.get(name?).map(Option::as_ref)
    }

    pub(super) fn pod(&self, namespace: &str, name: &str) -> Option<&Arc<PodView>> {
        self.namespaces.get(namespace)?.pods.get(name)
    }

    /// The pods that a Service selects, by name.
    pub(super) fn members<'i>(
        &'i self,
        namespace: &str,
        selector: &'i Labels,
    ) -> impl Iterator<Item = &'i Arc<PodView>> {
        let pods = self.namespaces.get(namespace).map(|inside| inside.pods.values());
        pods.into_iter()
            .flatten()
            .filter(move |pod| selects(selector, &pod.meta.labels))
    }

    fn unplace(&mut self, node: &Arc<str>, pod: &Place) {
        if let Some(pods) = self.pods_of.get_mut(node) {
            pods.remove(pod);
            if pods.is_empty() {
                self.pods_of.remove(node);
            }
        }
    }

    fn forget_empty(&mut self, namespace: &Arc<str>) {
        let is_empty = |inside: &Namespace| inside.pods.is_empty() && inside.services.is_empty();
        if self.namespaces.get(namespace).is_some_and(is_empty) {
            self.namespaces.remove(namespace);
        }
    }
}

fn keys<'n>(namespace: &Arc<str>, names: impl IntoIterator<Item = &'n Arc<str>>) -> BTreeSet<ServiceKey> {
    let key = |name: &Arc<str>| ServiceKey {
        namespace: namespace.clone(),
        name: name.clone(),
    };
    names.into_iter().map(key).collect()
}

fn unask(asking: &mut HashMap<Box<str>, BTreeSet<Arc<str>>>, label: &str, name: &Arc<str>) {
    if let Some(names) = asking.get_mut(label) {
        names.remove(name);
        if names.is_empty() {
            asking.remove(label);
        }
    }
}
