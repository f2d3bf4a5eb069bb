//! Endpoints: the older form, one object for each Service.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::time::rfc3339;
use api::view::{
    AddressType, EndpointAddressView, EndpointPortView, EndpointsView, IpFamily, Labels, PodView,
    ServiceView, SubsetView,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::endpoint::{families, hostname, is_candidate, port_key, ports, target};
use super::index::{Index, Touched};
use super::queue::Queue;
use super::slices::json_ports;
use super::{
    Action, Answer, ENDPOINTS_CAPACITY, ENDPOINTS_MANAGED_BY, HEADLESS, OVER_CAPACITY, ServiceKey,
    TRIGGER_TIME, Write, pause,
};

#[derive(Default)]
struct Tracked {
    known: Option<Arc<EndpointsView>>,
    /// Content that was written but not seen yet, to ignore the watch event of our own write.
    written: Option<(Labels, Vec<SubsetView>)>,
    /// Whether the stored object reports omitted addresses; `None` if unknown.
    truncated: Option<bool>,
    /// Whether the Service existed and was deleted.
    orphaned: bool,
    since: HashMap<Arc<str>, Timestamp>,
    created: Option<Timestamp>,
}

/// The Endpoints of all Services, with their planned writes.
#[derive(Default)]
pub struct Endpoints {
    index: Index,
    services: HashMap<ServiceKey, Tracked>,
    queue: Queue,
}

impl Endpoints {
    /// An empty index. All existing objects must be added before the first plan.
    pub fn new() -> Self {
        Self::default()
    }

    /// A Service was added or changed.
    pub fn put_service(&mut self, view: &Arc<ServiceView>) {
        if self.index.put_service(view) {
            let key = ServiceKey::of(&view.meta);
            self.services.entry(key.clone()).or_default().orphaned = false;
            self.queue.mark(&key);
        }
    }

    /// A Service was deleted, so its Endpoints are deleted.
    pub fn delete_service(&mut self, view: &ServiceView) {
        let key = ServiceKey::of(&view.meta);
        self.index.delete_service(&key);
        self.services.entry(key.clone()).or_default().orphaned = true;
        self.queue.mark(&key);
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

    /// Endpoints were added or changed.
    pub fn put_endpoints(&mut self, view: &Arc<EndpointsView>) {
        self.queue.saw(view.meta.resource_version);
        let key = ServiceKey::of(&view.meta);
        let tracked = self.services.entry(key.clone()).or_default();
        let is_echo = tracked
            .written
            .take()
            .is_some_and(|(labels, subsets)| labels == view.meta.labels && subsets == view.subsets);
        if !is_echo {
            tracked.truncated = None;
        }
        tracked.known = Some(view.clone());
        if !is_echo {
            self.queue.mark(&key);
        }
    }

    /// Endpoints were deleted.
    pub fn delete_endpoints(&mut self, view: &EndpointsView) {
        self.queue.saw(view.meta.resource_version);
        let key = ServiceKey::of(&view.meta);
        if let Some(tracked) = self.services.get_mut(&key) {
            tracked.known = None;
            tracked.written = None;
        }
        self.queue.saw_gone(&key, &view.meta.uid);
        self.queue.mark(&key);
    }

    /// All Endpoints that exist at this resourceVersion were added, and the first time all other
    /// objects too.
    pub fn synced(&mut self, version: u64) {
        self.queue.saw_all(version);
    }

    /// All changes of Endpoints up to this resourceVersion were applied.
    pub fn saw(&mut self, version: u64) {
        self.queue.saw(version);
    }

    /// Applies the result of a write.
    pub fn answered(&mut self, action: &Action, answer: Answer, now: Timestamp) {
        let mut gone = None;
        if let Some(tracked) = self.services.get_mut(&action.service) {
            if answer == Answer::Failed {
                tracked.truncated = None;
            }
            if let Write::Delete { uid, .. } = &action.write {
                let known = tracked.known.as_ref();
                gone = known.filter(|known| known.meta.uid == *uid).map(|_| uid.clone());
            }
        }
        self.queue.answered(&action.service, answer, gone, now);
    }

    /// When there is something to do, if no event comes.
    pub fn next_look(&self) -> Option<Timestamp> {
        self.queue.next()
    }

    /// Plans at most `room` actions.
    pub fn plan(&mut self, now: Timestamp, room: usize) -> Vec<Action> {
        let mut actions = Vec::new();
        while actions.len() < room {
            let Some(key) = self.queue.take(now) else { break };
            let Some(Look {
                write,
                pods,
                addresses,
            }) = self.look(&key)
            else {
                self.forget(&key);
                continue;
            };
            // Each pass reads all pods. An address costs ten times as much as in slices, because
            // each change sends all of them.
            let rest = match write {
                Some(_) => pause(pods.max(10 * addresses)),
                None => pause(pods),
            };
            let not_before = now.checked_add(rest).unwrap_or(now);
            self.queue.wrote(&key, write.iter().len(), not_before);
            actions.extend(write.map(|write| Action { service: key, write }));
        }
        actions
    }

    fn touch(&mut self, touched: impl IntoIterator<Item = Touched>) {
        for key in touched.into_iter().flat_map(|touched| touched.services) {
            self.queue.mark(&key);
        }
    }

    fn forget(&mut self, key: &ServiceKey) {
        let has_any = |tracked: &Tracked| tracked.known.is_some();
        if self.index.service(key).is_none() && !self.services.get(key).is_some_and(has_any) {
            self.services.remove(key);
            self.queue.forget(key);
        }
    }

    /// Compares all pods of a Service with its Endpoints; `None` if there is nothing to keep for
    /// it.
    fn look(&mut self, key: &ServiceKey) -> Option<Look> {
        let tracked = self.services.get_mut(key)?;
        let Some(service) = self.index.service(key) else {
            let known = tracked.known.as_ref()?;
            let (label, own) = ENDPOINTS_MANAGED_BY;
            // Endpoints that were perhaps not created for a Service are left alone.
            let is_left_over = tracked.orphaned || known.meta.labels.get(label) == Some(own);
            return is_left_over.then(|| {
                let (name, uid) = (known.meta.name.clone(), known.meta.uid.clone());
                Look {
                    write: Some(Write::Delete { name, uid }),
                    pods: 0,
                    addresses: 0,
                }
            });
        };
        if !service.selects() {
            return None;
        }
        let selector = service.selector.as_ref()?;
        let mut since = None;
        let mut times = HashMap::new();
        let mut groups: BTreeMap<Box<[EndpointPortView]>, SubsetView> = BTreeMap::new();
        let family = families(service).first().copied().unwrap_or_default();
        let mut pods = 0;
        for pod in self.index.members(&key.namespace, selector) {
            pods += 1;
            if let Some(at) = pod.ready.since {
                times.insert(pod.meta.uid.clone(), at);
                if tracked.since.get(&pod.meta.uid).is_none_or(|known| at > *known) {
                    since = Some(since.map_or(at, |since: Timestamp| since.min(at)));
                }
            }
            add(&mut groups, service, pod, family);
        }
        tracked.since = times;
        if let Some(at) = service.meta.creation_timestamp
            && tracked.created.is_none_or(|known| at > known)
        {
            tracked.created = Some(at);
            since = Some(since.map_or(at, |since| since.min(at)));
        }
        let mut subsets: Vec<SubsetView> = groups.into_values().collect();
        for subset in &mut subsets {
            subset.addresses.sort_by(in_order);
            subset.not_ready.sort_by(in_order);
        }
        let truncated = truncate(&mut subsets);
        let addresses = subsets.iter().map(count).sum();
        let labels = labels(service);
        let write = tracked.write(service, &labels, subsets, truncated, since);
        Some(Look {
            write,
            pods,
            addresses,
        })
    }
}

/// Result of a pass over a Service.
struct Look {
    write: Option<Write>,
    /// Number of pods read.
    pods: usize,
    /// Number of addresses in its Endpoints now.
    addresses: usize,
}

impl Tracked {
    fn write(
        &mut self,
        service: &ServiceView,
        labels: &Labels,
        subsets: Vec<SubsetView>,
        truncated: bool,
        since: Option<Timestamp>,
    ) -> Option<Write> {
        let full = subsets.iter().map(count).sum::<usize>() >= ENDPOINTS_CAPACITY;
        let since = since.map(rfc3339);
        let capacity = truncated.then_some("truncated");
        let write = match &self.known {
            Some(known) => {
                let says_so = !full || self.truncated == Some(truncated);
                if known.subsets == subsets && known.meta.labels == *labels && says_so {
                    return None;
                }
                let mut wanted = json_labels(labels);
                for (key, _) in known.meta.labels.iter() {
                    wanted.entry(key).or_insert(Value::Null);
                }
                let patch = json!({
                    "metadata": {
                        "uid": &*known.meta.uid,
                        "resourceVersion": known.meta.resource_version.to_string(),
                        "labels": wanted,
                        "annotations": {TRIGGER_TIME: since, OVER_CAPACITY: capacity},
                    },
                    "subsets": json_subsets(&subsets),
                });
                Write::Update {
                    name: known.meta.name.clone(),
                    patch,
                }
            }
            None => {
                let mut annotations = Map::new();
                for (key, value) in [(TRIGGER_TIME, since.as_deref()), (OVER_CAPACITY, capacity)] {
                    annotations.extend(value.map(|value| (key.to_owned(), value.into())));
                }
                Write::Create(json!({
                    "apiVersion": "v1",
                    "kind": "Endpoints",
                    "metadata": {
                        "name": &*service.meta.name,
                        "namespace": &*service.meta.namespace,
                        "labels": json_labels(labels),
                        "annotations": annotations,
                    },
                    "subsets": json_subsets(&subsets),
                }))
            }
        };
        self.written = Some((labels.clone(), subsets));
        self.truncated = Some(truncated);
        Some(write)
    }
}

/// Adds a pod's address to the subset with the same ports.
fn add(
    groups: &mut BTreeMap<Box<[EndpointPortView]>, SubsetView>,
    service: &ServiceView,
    pod: &PodView,
    family: AddressType,
) {
    let publishes = service.publishes_not_ready;
    if !is_candidate(pod) || (pod.is_terminating() && !publishes) {
        return;
    }
    let of_family = |ip: &&std::net::IpAddr| AddressType::from(IpFamily::of(**ip)) == family;
    let Some(ip) = pod.pod_ips.iter().find(of_family) else {
        return;
    };
    let ports = ports(service, pod);
    // A headless Service may have no ports. For any other Service, a pod without ports is no
    // endpoint.
    if ports.is_empty() && !(service.headless && service.ports.is_empty()) {
        return;
    }
    let subset = groups.entry(port_key(&ports)).or_insert_with(|| SubsetView {
        ports: ports.into(),
        ..SubsetView::default()
    });
    let address = EndpointAddressView {
        ip: ip.to_string().into(),
        hostname: hostname(service, pod)
            .cloned()
            .unwrap_or_else(|| api::view::shared("")),
        node: pod.node_name.clone(),
        target: Some(target(pod)),
    };
    match publishes || pod.ready.status {
        true => subset.addresses.push(address),
        false => subset.not_ready.push(address),
    }
}

fn in_order(a: &EndpointAddressView, b: &EndpointAddressView) -> std::cmp::Ordering {
    (&a.ip, &a.target).cmp(&(&b.ip, &b.target))
}

fn count(subset: &SubsetView) -> usize {
    subset.addresses.len() + subset.not_ready.len()
}

/// Omits surplus addresses: first those that are not ready, then a share of each subset. Returns
/// whether it did.
fn truncate(subsets: &mut [SubsetView]) -> bool {
    let ready: usize = subsets.iter().map(|subset| subset.addresses.len()).sum();
    let all: usize = subsets.iter().map(count).sum();
    if all <= ENDPOINTS_CAPACITY {
        return false;
    }
    let only_ready = ready > ENDPOINTS_CAPACITY;
    let (room, total) = match only_ready {
        true => (ENDPOINTS_CAPACITY, ready),
        false => (ENDPOINTS_CAPACITY - ready, all - ready),
    };
    let mut left = room;
    for subset in subsets {
        if only_ready {
            subset.not_ready.clear();
        }
        let list = match only_ready {
            true => &mut subset.addresses,
            false => &mut subset.not_ready,
        };
        let share = (list.len() * room).div_ceil(total).min(left);
        list.truncate(share);
        left -= list.len();
    }
    true
}

/// The Service's labels, the controller, and whether it is headless.
fn labels(service: &ServiceView) -> Labels {
    let (managed, _) = ENDPOINTS_MANAGED_BY;
    let reserved: BTreeSet<&str> = [managed, HEADLESS].into();
    let of_service = service
        .meta
        .labels
        .iter()
        .filter(|(key, _)| !reserved.contains(key));
    let headless = service.cluster_ips.is_empty().then_some((HEADLESS, ""));
    Labels::new(of_service.chain([ENDPOINTS_MANAGED_BY]).chain(headless))
}

fn json_labels(labels: &Labels) -> Map<String, Value> {
    labels
        .iter()
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect()
}

fn json_subsets(subsets: &[SubsetView]) -> Value {
    let subset = |subset: &SubsetView| {
        let mut value = json!({});
        let lists = [
            ("addresses", &subset.addresses),
            ("notReadyAddresses", &subset.not_ready),
        ];
        for (field, addresses) in lists {
            if !addresses.is_empty() {
                value[field] = addresses.iter().map(json_address).collect();
            }
        }
        if !subset.ports.is_empty() {
            value["ports"] = json_ports(&subset.ports);
        }
        value
    };
    subsets.iter().map(subset).collect()
}

fn json_address(address: &EndpointAddressView) -> Value {
    let mut value = json!({"ip": address.ip});
    if !address.hostname.is_empty() {
        value["hostname"] = (&*address.hostname).into();
    }
    if let Some(node) = &address.node {
        value["nodeName"] = (&**node).into();
    }
    if let Some(target) = &address.target {
        value["targetRef"] = json!({
            "kind": &*target.kind, "namespace": &*target.namespace, "name": &*target.name, "uid": &*target.uid,
        });
    }
    value
}
