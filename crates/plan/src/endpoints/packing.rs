//! Packs endpoints into slices.
//!
//! An existing endpoint stays in its slice. A new one goes, in this order, into a slice that is
//! written anyway, into the fullest slice with room for all remaining ones, into an empty slice, or
//! into a new one. Empty slices are deleted, except the last one of a family, which shows that
//! there are no endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::view::{AddressType, EndpointPortView, EndpointSliceView, EndpointView};

use super::SLICE_ENDPOINTS;
use super::endpoint::port_key;

/// The slices of a Service, by name.
pub(super) type SliceMap = BTreeMap<Arc<str>, Arc<EndpointSliceView>>;

type Ports = Box<[EndpointPortView]>;

/// Changes to a Service's slices.
pub(super) struct Packing<'s> {
    slices: &'s SliceMap,
    edited: BTreeMap<Arc<str>, Vec<EndpointView>>,
    ports: BTreeMap<Arc<str>, Ports>,
    dropped: BTreeSet<Arc<str>>,
    /// By family and set of ports: the ports to write, and the endpoints.
    added: BTreeMap<(AddressType, Ports), (Ports, Vec<EndpointView>)>,
    created: Vec<NewSlice>,
}

/// A slice to create.
#[derive(Debug, PartialEq)]
pub(super) struct NewSlice {
    pub(super) address_type: AddressType,
    pub(super) ports: Ports,
    pub(super) endpoints: Vec<EndpointView>,
}

/// A change of an existing slice.
#[derive(Debug, PartialEq)]
pub(super) struct ChangedSlice {
    pub(super) name: Arc<str>,
    /// The ports, if they change.
    pub(super) ports: Option<Ports>,
    /// The endpoints, if they change.
    pub(super) endpoints: Option<Vec<EndpointView>>,
}

/// The writes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Packed {
    pub(super) created: Vec<NewSlice>,
    pub(super) changed: Vec<ChangedSlice>,
    pub(super) deleted: Vec<Arc<str>>,
}

impl<'s> Packing<'s> {
    pub(super) fn new(slices: &'s SliceMap) -> Self {
        Self {
            slices,
            edited: BTreeMap::new(),
            ports: BTreeMap::new(),
            dropped: BTreeSet::new(),
            added: BTreeMap::new(),
            created: Vec::new(),
        }
    }

    /// Deletes the slice, whatever it contains.
    pub(super) fn drop_slice(&mut self, name: &Arc<str>) {
        self.dropped.insert(name.clone());
    }

    /// Replaces or removes the endpoint of the pod `uid`.
    pub(super) fn set(&mut self, slice: &Arc<str>, uid: &str, endpoint: Option<EndpointView>) {
        let at = |endpoint: &EndpointView| endpoint.target.as_ref().is_some_and(|target| *target.uid == *uid);
        let Some(index) = self.endpoints(slice).iter().position(at) else {
            return;
        };
        let edited = self.edit(slice);
        match endpoint {
            Some(endpoint) => edited[index] = endpoint,
            None => drop(edited.remove(index)),
        }
    }

    /// Keeps only the endpoints for which `keep` is true.
    pub(super) fn keep(&mut self, slice: &Arc<str>, keep: &[bool]) {
        if keep.iter().all(|kept| *kept) {
            return;
        }
        let mut kept = keep.iter();
        self.edit(slice)
            .retain(|_| kept.next().copied().unwrap_or_default());
    }

    /// Adds an endpoint that is in no slice yet.
    pub(super) fn add(&mut self, family: AddressType, ports: Ports, endpoint: EndpointView) {
        let key = (family, port_key(&ports));
        self.added
            .entry(key)
            .or_insert_with(|| (ports, Vec::new()))
            .1
            .push(endpoint);
    }

    fn edit(&mut self, slice: &Arc<str>) -> &mut Vec<EndpointView> {
        let now = || {
            self.slices
                .get(slice)
                .map(|view| view.endpoints.to_vec())
                .unwrap_or_default()
        };
        self.edited.entry(slice.clone()).or_insert_with(now)
    }

    fn endpoints(&self, name: &Arc<str>) -> &[EndpointView] {
        match (self.edited.get(name), self.slices.get(name)) {
            (Some(edited), _) => edited,
            (None, Some(view)) => &view.endpoints,
            (None, None) => &[],
        }
    }

    /// The slices of a family that stay, by name, with their numbers of endpoints.
    fn of_family(&self, family: AddressType) -> impl Iterator<Item = (&Arc<str>, usize)> {
        self.slices
            .iter()
            .filter(move |(name, view)| view.address_type == family && !self.dropped.contains(*name))
            .map(|(name, _)| (name, self.endpoints(name).len()))
    }

    fn has_ports(&self, name: &Arc<str>, key: &[EndpointPortView]) -> bool {
        let view = self.slices.get(name).map(|view| &view.ports);
        let ports = self.ports.get(name).or(view);
        ports.is_some_and(|ports| *port_key(ports) == *key)
    }

    /// Places the added endpoints, and handles empty slices.
    pub(super) fn pack(mut self, families: &[AddressType]) -> Packed {
        for ((family, key), (ports, endpoints)) in std::mem::take(&mut self.added) {
            self.place(family, &key, &ports, endpoints);
        }
        for family in families {
            self.tidy(*family);
        }
        self.outcome()
    }

    fn place(
        &mut self,
        family: AddressType,
        key: &[EndpointPortView],
        ports: &[EndpointPortView],
        mut left: Vec<EndpointView>,
    ) {
        let group: Vec<(Arc<str>, usize)> = self
            .of_family(family)
            .filter(|(name, _)| self.has_ports(name, key))
            .map(|(name, count)| (name.clone(), count))
            .collect();
        let (mut written, mut others): (Vec<_>, Vec<_>) = group
            .into_iter()
            .partition(|(name, _)| self.edited.contains_key(name));
        written.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for (name, count) in written {
            let room = SLICE_ENDPOINTS.saturating_sub(count).min(left.len());
            self.edit(&name).extend(left.drain(..room));
        }
        while !left.is_empty() {
            let fits = |count: usize| count + left.len() <= SLICE_ENDPOINTS;
            let fullest = others
                .iter()
                .enumerate()
                .filter(|(_, (_, count))| fits(*count))
                .max_by_key(|(_, (_, count))| *count)
                .map(|(at, _)| at);
            if let Some(at) = fullest {
                let (name, _) = others.swap_remove(at);
                self.edit(&name).append(&mut left);
                return;
            }
            let rest = left.split_off(left.len().min(SLICE_ENDPOINTS));
            let chunk = std::mem::replace(&mut left, rest);
            let empty = self.of_family(family).find(|(_, count)| *count == 0);
            if let Some(name) = empty.map(|(name, _)| name.clone()) {
                // It has no room for the rest.
                others.retain(|(other, _)| *other != name);
                self.ports.insert(name.clone(), ports.into());
                self.edit(&name).extend(chunk);
            } else {
                self.created.push(NewSlice {
                    address_type: family,
                    ports: ports.into(),
                    endpoints: chunk,
                });
            }
        }
    }

    /// Deletes empty slices, except one if there is no other.
    fn tidy(&mut self, family: AddressType) {
        let (empty, full): (Vec<_>, Vec<_>) = self
            .of_family(family)
            .map(|(name, count)| (name.clone(), count))
            .partition(|(_, count)| *count == 0);
        let made = self.created.iter().any(|new| new.address_type == family);
        let mut empty = empty.into_iter().map(|(name, _)| name);
        if full.is_empty() && !made {
            match empty.next() {
                Some(name) => drop(self.ports.insert(name, Box::default())),
                None => self.created.push(NewSlice {
                    address_type: family,
                    ports: Box::default(),
                    endpoints: Vec::new(),
                }),
            }
        }
        self.dropped.extend(empty);
    }

    fn outcome(self) -> Packed {
        let mut names: BTreeSet<&Arc<str>> = self.edited.keys().collect();
        names.extend(self.ports.keys());
        let changed = names
            .into_iter()
            .filter(|name| !self.dropped.contains(*name))
            .filter_map(|name| {
                let view = self.slices.get(name)?;
                let edited = self
                    .edited
                    .get(name)
                    .filter(|edited| ***edited != *view.endpoints);
                let ports = self.ports.get(name).filter(|ports| **ports != view.ports);
                (edited.is_some() || ports.is_some()).then(|| ChangedSlice {
                    name: name.clone(),
                    ports: ports.cloned(),
                    endpoints: edited.cloned(),
                })
            })
            .collect();
        Packed {
            created: self.created,
            changed,
            deleted: self.dropped.into_iter().collect(),
        }
    }
}
