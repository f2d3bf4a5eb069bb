//! The EndpointSlices of all Services.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::time::rfc3339;
use api::view::{
    AddressType, EndpointPortView, EndpointSliceView, EndpointView, Labels, NodeView, PodView, ServiceView,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::endpoint::{endpoint, families, port_key, ports};
use super::index::{Index, PodRef, Touched};
use super::packing::{ChangedSlice, NewSlice, Packed, Packing, SliceMap};
use super::queue::Queue;
use super::{
    Action, Answer, HEADLESS, SERVICE_NAME, SLICE_MANAGED_BY, ServiceKey, TRIGGER_TIME, Write, pause,
};
use crate::daemonset::name::computed_name;

/// Content that was written, which the watch should show.
type Content = (Labels, Box<[EndpointPortView]>, Box<[EndpointView]>);

#[derive(Default)]
struct Tracked {
    slices: SliceMap,
    /// The slice of each pod's endpoint, by family and uid.
    placed: HashMap<(AddressType, Arc<str>), Arc<str>>,
    /// Content that was written to slices but not seen yet, to ignore the watch events of our own
    /// writes.
    written: BTreeMap<Arc<str>, Content>,
    /// Deleted slices that the watch may still show.
    deleted: BTreeSet<Arc<str>>,
    /// All pods must be examined, not only those that changed.
    whole: bool,
    changed: BTreeSet<PodRef>,
    triggers: Triggers,
}

/// Change times of the pods and the Service that were written last.
#[derive(Default)]
struct Triggers {
    service: Option<Timestamp>,
    pods: HashMap<Arc<str>, Timestamp>,
}

/// The EndpointSlices of all Services, with their planned writes.
#[derive(Default)]
pub struct Slices {
    index: Index,
    services: HashMap<ServiceKey, Tracked>,
    /// The Service of each slice, by namespace and name.
    homes: HashMap<(Arc<str>, Arc<str>), ServiceKey>,
    /// Slices of other controllers, whose names are taken.
    strangers: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    queue: Queue,
}

impl Slices {
    /// An empty index. All existing objects must be added before the first plan.
    pub fn new() -> Self {
        Self::default()
    }

    /// A Service was added or changed.
    pub fn put_service(&mut self, view: &Arc<ServiceView>) {
        if self.index.put_service(view) {
            self.look_at_all(&ServiceKey::of(&view.meta));
        }
    }

    /// A Service was deleted. The garbage collector deletes its slices by their owner reference.
    pub fn delete_service(&mut self, view: &ServiceView) {
        let key = ServiceKey::of(&view.meta);
        self.index.delete_service(&key);
        self.forget(&key);
    }

    /// A pod was added or changed.
    pub fn put_pod(&mut self, view: &Arc<PodView>) {
        let touched = self.index.put_pod(view);
        self.touch(touched);
    }

    /// A pod was deleted.
    pub fn delete_pod(&mut self, view: &PodView) {
        let touched = self.index.delete_pod(view);
        self.touch(touched);
    }

    /// A node was added or changed.
    pub fn put_node(&mut self, view: &NodeView) {
        let touched = self.index.put_node(view);
        self.touch(touched);
    }

    /// A node was deleted.
    pub fn delete_node(&mut self, view: &NodeView) {
        let touched = self.index.delete_node(&view.meta.name);
        self.touch(touched);
    }

    /// A slice was added or changed.
    pub fn put_slice(&mut self, view: &Arc<EndpointSliceView>) {
        self.queue.saw(view.meta.resource_version);
        let key = owned(view);
        let (namespace, name) = (&view.meta.namespace, &view.meta.name);
        let home = (namespace.clone(), name.clone());
        if self
            .homes
            .get(&home)
            .is_some_and(|before| Some(before) != key.as_ref())
        {
            // The slice belongs to another Service, or to none, now.
            self.remove_slice(view);
        }
        let Some(key) = key else {
            self.strangers
                .entry(namespace.clone())
                .or_default()
                .insert(name.clone());
            return;
        };
        self.forget_stranger(view);
        self.homes.insert(home, key.clone());
        let tracked = self.services.entry(key.clone()).or_default();
        if !tracked.put(view) {
            self.look_at_all(&key);
        }
    }

    /// A slice was deleted.
    pub fn delete_slice(&mut self, view: &EndpointSliceView) {
        self.queue.saw(view.meta.resource_version);
        self.forget_stranger(view);
        self.remove_slice(view);
    }

    /// All slices that exist at this resourceVersion were added, and the first time all other
    /// objects too.
    pub fn synced(&mut self, version: u64) {
        self.queue.saw_all(version);
    }

    /// All changes of slices up to this resourceVersion were applied.
    pub fn saw(&mut self, version: u64) {
        self.queue.saw(version);
    }

    /// Applies the result of a write.
    pub fn answered(&mut self, action: &Action, answer: Answer, now: Timestamp) {
        let key = &action.service;
        let mut gone = None;
        if let Some(tracked) = self.services.get_mut(key) {
            let is_done = matches!(answer, Answer::Written(_) | Answer::Deleted);
            match &action.write {
                // The watch may have shown the deletion already.
                Write::Delete { name, uid } if is_done => {
                    let known = tracked.slices.get(name);
                    gone = known.filter(|known| known.meta.uid == *uid).map(|_| uid.clone());
                }
                Write::Create(_) | Write::Update { .. } if is_done => {}
                Write::Delete { name, .. } => drop(tracked.deleted.remove(name)),
                Write::Update { name, .. } => drop(tracked.written.remove(name)),
                Write::Create(object) => drop(tracked.written.remove(api::meta::name(object))),
            }
        }
        if self.queue.answered(key, answer, gone, now)
            && let Some(tracked) = self.services.get_mut(key)
        {
            tracked.whole = true;
        }
        self.forget(key);
    }

    /// When there is something to do, if no event comes.
    pub fn next_look(&self) -> Option<Timestamp> {
        self.queue.next()
    }

    /// Plans Services one by one, until there are about `room` actions.
    pub fn plan(&mut self, now: Timestamp, room: usize) -> Vec<Action> {
        let mut actions = Vec::new();
        while actions.len() < room {
            let Some(key) = self.queue.take(now) else { break };
            let (writes, endpoints) = self.look(&key);
            if writes.is_empty() {
                self.forget(&key);
                continue;
            }
            let not_before = now.checked_add(pause(endpoints)).unwrap_or(now);
            self.queue.wrote(&key, writes.len(), not_before);
            actions.extend(writes.into_iter().map(|write| Action {
                service: key.clone(),
                write,
            }));
        }
        actions
    }

    fn look_at_all(&mut self, key: &ServiceKey) {
        self.services.entry(key.clone()).or_default().whole = true;
        self.queue.mark(key);
    }

    fn touch(&mut self, touched: impl IntoIterator<Item = Touched>) {
        for Touched { services, pods } in touched {
            for key in services {
                let tracked = self.services.entry(key.clone()).or_default();
                tracked.changed.extend(pods.iter().cloned());
                self.queue.mark(&key);
            }
        }
    }

    fn forget_stranger(&mut self, view: &EndpointSliceView) {
        if let Some(taken) = self.strangers.get_mut(&view.meta.namespace) {
            taken.remove(&view.meta.name);
            if taken.is_empty() {
                self.strangers.remove(&view.meta.namespace);
            }
        }
    }

    /// Removes the known slice of this name, whatever Service it belonged to.
    fn remove_slice(&mut self, view: &EndpointSliceView) {
        let home = (view.meta.namespace.clone(), view.meta.name.clone());
        let Some(key) = self.homes.remove(&home) else {
            return;
        };
        let Some(tracked) = self.services.get_mut(&key) else {
            return;
        };
        let Some(old) = tracked.slices.remove(&view.meta.name) else {
            return;
        };
        tracked.unplace(&old);
        tracked.written.remove(&view.meta.name);
        let expected = tracked.deleted.remove(&view.meta.name);
        self.queue.saw_gone(&key, &old.meta.uid);
        if !expected {
            self.look_at_all(&key);
        }
        self.forget(&key);
    }

    /// Removes the state of a deleted Service, once its slices are deleted.
    fn forget(&mut self, key: &ServiceKey) {
        let has_slices = |tracked: &Tracked| !tracked.slices.is_empty();
        if self.index.service(key).is_none() && !self.services.get(key).is_some_and(has_slices) {
            self.services.remove(key);
            self.queue.forget(key);
        }
    }

    /// The writes for one Service, and its number of endpoints.
    fn look(&mut self, key: &ServiceKey) -> (Vec<Write>, usize) {
        let Some(tracked) = self.services.get_mut(key) else {
            return (Vec::new(), 0);
        };
        let whole = std::mem::take(&mut tracked.whole);
        let changed = std::mem::take(&mut tracked.changed);
        let Some(service) = self.index.service(key).filter(|service| service.selects()) else {
            return (Vec::new(), 0);
        };
        let families = families(service);
        let labels = labels(service);
        let (packed, relabelled, since) = match whole {
            true => tracked.compare_all(&self.index, service, &families, &labels),
            false => {
                let (packed, since) = tracked.compare(&self.index, service, &families, &changed);
                (packed, Vec::new(), since)
            }
        };
        let none = BTreeSet::new();
        let taken = self.strangers.get(&key.namespace).unwrap_or(&none);
        let since = since.map(rfc3339);
        let writes = tracked.writes(service, &labels, packed, relabelled, since.as_deref(), taken);
        (writes, tracked.placed.len())
    }
}

impl Tracked {
    /// Adds or replaces a slice. Returns whether it has the content that was written, and so needs
    /// no comparison.
    fn put(&mut self, view: &Arc<EndpointSliceView>) -> bool {
        let name = &view.meta.name;
        if let Some(old) = self.slices.insert(name.clone(), view.clone()) {
            self.unplace(&old);
        }
        let mut doubled = false;
        for endpoint in &view.endpoints {
            let Some(target) = &endpoint.target else { continue };
            let at = (view.address_type, target.uid.clone());
            doubled |= self.placed.insert(at, name.clone()).is_some();
        }
        let is_echo = self
            .written
            .remove(name)
            .is_some_and(|(labels, ports, endpoints)| {
                labels == view.meta.labels && ports == view.ports && endpoints == view.endpoints
            });
        is_echo && !doubled
    }

    /// Removes the places of a slice's endpoints, except of those that are in another slice now.
    fn unplace(&mut self, old: &EndpointSliceView) {
        for endpoint in &old.endpoints {
            let Some(target) = &endpoint.target else { continue };
            let at = (old.address_type, target.uid.clone());
            if self.placed.get(&at).is_some_and(|slice| *slice == old.meta.name) {
                self.placed.remove(&at);
            }
        }
    }

    /// Compares only the pods that changed.
    fn compare(
        &mut self,
        index: &Index,
        service: &ServiceView,
        families: &[AddressType],
        changed: &BTreeSet<PodRef>,
    ) -> (Packed, Option<Timestamp>) {
        let mut packing = Packing::new(&self.slices);
        let mut since = None;
        for pod_ref in changed {
            let pod = index
                .pod(&service.meta.namespace, &pod_ref.name)
                .filter(|pod| pod.meta.uid == pod_ref.uid && is_selected(service, pod));
            match pod {
                Some(pod) => self.triggers.pod(pod, &mut since),
                None => drop(self.triggers.pods.remove(&pod_ref.uid)),
            }
            for family in families {
                let wanted = pod.and_then(|pod| {
                    let zone = index.node(pod.node_name.as_ref());
                    let endpoint = endpoint(service, pod, zone, *family)?;
                    Some((ports(service, pod), endpoint))
                });
                let placed = self.placed.get(&(*family, pod_ref.uid.clone()));
                match (placed, wanted) {
                    (Some(slice), None) => packing.set(slice, &pod_ref.uid, None),
                    (Some(slice), Some((ports, endpoint))) => {
                        let fits = self.slices.get(slice).is_some_and(|view| {
                            view.ports == ports || port_key(&view.ports) == port_key(&ports)
                        });
                        if fits {
                            packing.set(slice, &pod_ref.uid, Some(endpoint));
                        } else {
                            packing.set(slice, &pod_ref.uid, None);
                            packing.add(*family, ports, endpoint);
                        }
                    }
                    (None, Some((ports, endpoint))) => packing.add(*family, ports, endpoint),
                    (None, None) => {}
                }
            }
        }
        (packing.pack(families), since)
    }

    /// Compares everything. Also returns the slices with wrong labels.
    fn compare_all(
        &mut self,
        index: &Index,
        service: &ServiceView,
        families: &[AddressType],
        labels: &Labels,
    ) -> (Packed, Vec<Arc<str>>, Option<Timestamp>) {
        let mut packing = Packing::new(&self.slices);
        let mut since = None;
        let mut wanted: BTreeMap<(AddressType, Arc<str>), _> = BTreeMap::new();
        let mut in_order = Vec::new();
        let mut known = HashMap::new();
        let selector = service.selector.clone().unwrap_or_default();
        for pod in index.members(&service.meta.namespace, &selector) {
            self.triggers.pod(pod, &mut since);
            if let Some(at) = self.triggers.pods.get(&pod.meta.uid) {
                known.insert(pod.meta.uid.clone(), *at);
            }
            for family in families {
                let zone = index.node(pod.node_name.as_ref());
                if let Some(endpoint) = endpoint(service, pod, zone, *family) {
                    let at = (*family, pod.meta.uid.clone());
                    in_order.push(at.clone());
                    wanted.insert(at, (ports(service, pod), endpoint));
                }
            }
        }
        self.triggers.pods = known;
        self.triggers.service(service, &mut since);
        let mut relabelled = Vec::new();
        for (name, view) in &self.slices {
            let is_owned = view.meta.owners().iter().any(|owner| {
                owner.uid == service.meta.uid && &*owner.kind == "Service" && &*owner.api_version == "v1"
            });
            if !is_owned || !families.contains(&view.address_type) || view.meta.is_terminating() {
                packing.drop_slice(name);
                continue;
            }
            if view.meta.labels != *labels {
                relabelled.push(name.clone());
            }
            let key = port_key(&view.ports);
            let mut keep = Vec::with_capacity(view.endpoints.len());
            let mut replaced = Vec::new();
            for endpoint in &view.endpoints {
                let uid = endpoint.target.as_ref().map(|target| target.uid.clone());
                let at = uid.map(|uid| (view.address_type, uid));
                let fits = at
                    .as_ref()
                    .and_then(|at| wanted.get(at))
                    .is_some_and(|(ports, _)| port_key(ports) == key);
                keep.push(fits);
                if fits
                    && let Some(at) = at
                    && let Some((_, now)) = wanted.remove(&at)
                    && now != *endpoint
                {
                    replaced.push((at.1, now));
                }
            }
            packing.keep(name, &keep);
            for (uid, now) in replaced {
                packing.set(name, &uid, Some(now));
            }
        }
        for at in in_order {
            if let Some((ports, endpoint)) = wanted.remove(&at) {
                packing.add(at.0, ports, endpoint);
            }
        }
        (packing.pack(families), relabelled, since)
    }

    /// The writes that turn the slices into the packed ones.
    fn writes(
        &mut self,
        service: &ServiceView,
        labels: &Labels,
        packed: Packed,
        mut relabelled: Vec<Arc<str>>,
        since: Option<&str>,
        taken: &BTreeSet<Arc<str>>,
    ) -> Vec<Write> {
        let mut writes = Vec::new();
        let mut changed = packed.changed;
        relabelled.retain(|name| {
            !packed.deleted.contains(name) && changed.iter().all(|change| change.name != *name)
        });
        changed.extend(relabelled.into_iter().map(|name| ChangedSlice {
            name,
            ports: None,
            endpoints: None,
        }));
        for change in changed {
            let Some(view) = self.slices.get(&change.name) else {
                continue;
            };
            let patch = patch(view, labels, &change, since);
            let ports = change.ports.unwrap_or_else(|| view.ports.clone());
            let endpoints = change
                .endpoints
                .map_or_else(|| view.endpoints.clone(), Into::into);
            let content = (labels.clone(), ports, endpoints);
            self.written.insert(change.name.clone(), content);
            writes.push(Write::Update {
                name: change.name,
                patch,
            });
        }
        for new in packed.created {
            let name = self.free_name(service, &new, taken);
            writes.push(Write::Create(object(service, labels, &name, &new, since)));
            let content = (labels.clone(), new.ports, new.endpoints.into());
            self.written.insert(name, content);
        }
        for name in packed.deleted {
            if let Some(view) = self.slices.get(&name) {
                writes.push(Write::Delete {
                    name: name.clone(),
                    uid: view.meta.uid.clone(),
                });
                self.deleted.insert(name);
            }
        }
        writes
    }

    /// A name that no existing or requested slice has.
    fn free_name(&self, service: &ServiceView, new: &NewSlice, taken: &BTreeSet<Arc<str>>) -> Arc<str> {
        let family = match new.address_type {
            AddressType::V4 => 4_u64,
            AddressType::V6 | AddressType::Fqdn => 6,
        };
        let mut salt = 0_u64;
        loop {
            let parts = [
                service.meta.uid.as_bytes(),
                &family.to_le_bytes(),
                &salt.to_le_bytes(),
            ];
            let name: Arc<str> = computed_name(&service.meta.name, parts).into();
            if !self.slices.contains_key(&name) && !self.written.contains_key(&name) && !taken.contains(&name)
            {
                return name;
            }
            salt += 1;
        }
    }
}

impl Triggers {
    /// Records when a pod's readiness last changed. `since` becomes the earliest time that was not
    /// written yet.
    fn pod(&mut self, pod: &PodView, since: &mut Option<Timestamp>) {
        let Some(at) = pod.ready.since else { return };
        let known = self.pods.insert(pod.meta.uid.clone(), at);
        if known.is_none_or(|known| at > known) {
            *since = Some(since.map_or(at, |since| since.min(at)));
        }
    }

    fn service(&mut self, service: &ServiceView, since: &mut Option<Timestamp>) {
        let Some(at) = service.meta.creation_timestamp else {
            return;
        };
        if self.service.is_none_or(|known| at > known) {
            self.service = Some(at);
            *since = Some(since.map_or(at, |since| since.min(at)));
        }
    }
}

/// The Service of this slice, if this controller manages it.
fn owned(view: &EndpointSliceView) -> Option<ServiceKey> {
    let (label, own) = SLICE_MANAGED_BY;
    let is_ours = view.meta.labels.get(label) == Some(own);
    is_ours.then_some(ServiceKey {
        namespace: view.meta.namespace.clone(),
        name: view.service_name()?.into(),
    })
}

fn is_selected(service: &ServiceView, pod: &PodView) -> bool {
    let selector = service.selector.as_ref();
    selector.is_some_and(|selector| super::index::selects(selector, &pod.meta.labels))
}

/// The labels of a Service's slices: the Service's own, except those that describe a slice.
fn labels(service: &ServiceView) -> Labels {
    let reserved = [SERVICE_NAME, SLICE_MANAGED_BY.0, HEADLESS];
    let of_service = service
        .meta
        .labels
        .iter()
        .filter(|(key, _)| !reserved.contains(key));
    let own = [(SERVICE_NAME, &*service.meta.name), SLICE_MANAGED_BY];
    let headless = service.cluster_ips.is_empty().then_some((HEADLESS, ""));
    Labels::new(of_service.chain(own).chain(headless))
}

fn json_labels(labels: &Labels) -> Map<String, Value> {
    labels
        .iter()
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect()
}

fn object(service: &ServiceView, labels: &Labels, name: &str, new: &NewSlice, since: Option<&str>) -> Value {
    let mut object = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "generateName": format!("{}-", service.meta.name),
            "namespace": &*service.meta.namespace,
            "labels": json_labels(labels),
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Service", "name": &*service.meta.name, "uid": &*service.meta.uid,
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "addressType": match new.address_type {
            AddressType::V4 => "IPv4",
            AddressType::V6 => "IPv6",
            AddressType::Fqdn => "FQDN",
        },
        "ports": json_ports(&new.ports),
        "endpoints": json_endpoints(&new.endpoints),
    });
    if let Some(since) = since {
        object["metadata"]["annotations"] = json!({TRIGGER_TIME: since});
    }
    object
}

/// A merge patch. Without a change time it removes the annotation, which would be about another
/// change.
fn patch(view: &EndpointSliceView, labels: &Labels, change: &ChangedSlice, since: Option<&str>) -> Value {
    let mut patch = json!({"metadata": {
        "uid": &*view.meta.uid,
        "resourceVersion": view.meta.resource_version.to_string(),
        "annotations": {TRIGGER_TIME: since},
    }});
    if view.meta.labels != *labels {
        let mut wanted = json_labels(labels);
        for (key, _) in view.meta.labels.iter() {
            wanted.entry(key).or_insert(Value::Null);
        }
        patch["metadata"]["labels"] = wanted.into();
    }
    if let Some(ports) = &change.ports {
        patch["ports"] = json_ports(ports);
    }
    if let Some(endpoints) = &change.endpoints {
        patch["endpoints"] = json_endpoints(endpoints);
    }
    patch
}

/// Ports in the form of the API.
pub(super) fn json_ports(ports: &[EndpointPortView]) -> Value {
    let port = |port: &EndpointPortView| {
        let mut value = json!({"name": &*port.name, "protocol": &*port.protocol, "port": port.port});
        if let Some(protocol) = &port.app_protocol {
            value["appProtocol"] = (&**protocol).into();
        }
        value
    };
    ports.iter().map(port).collect()
}

fn json_endpoints(endpoints: &[EndpointView]) -> Value {
    endpoints.iter().map(json_endpoint).collect()
}

fn json_endpoint(endpoint: &EndpointView) -> Value {
    let mut value = json!({
        "addresses": endpoint.addresses,
        "conditions": {
            "ready": endpoint.ready, "serving": endpoint.serving, "terminating": endpoint.terminating,
        },
    });
    let texts = [
        ("hostname", &endpoint.hostname),
        ("nodeName", &endpoint.node),
        ("zone", &endpoint.zone),
    ];
    for (field, text) in texts {
        if let Some(text) = text {
            value[field] = (&**text).into();
        }
    }
    if let Some(target) = &endpoint.target {
        value["targetRef"] = json!({
            "kind": &*target.kind, "namespace": &*target.namespace, "name": &*target.name, "uid": &*target.uid,
        });
    }
    for (field, names) in [
        ("forZones", &endpoint.for_zones),
        ("forNodes", &endpoint.for_nodes),
    ] {
        if !names.is_empty() {
            value["hints"][field] = names.iter().map(|name| json!({"name": &**name})).collect();
        }
    }
    value
}
