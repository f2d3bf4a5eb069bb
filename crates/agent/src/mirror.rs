//! What a node knows of the others: Services, the endpoints behind them, and Nodes.
//!
//! One watch a kind feeds a [`Reflector`] of views. Its readers (routes, names, Services' rules) share the views and ask what changed
//! ([`Reflector::changes`]): the first answer is a whole state, later ones are differences, also after a gap in the watch or a restart of the
//! server. While no server answers, what was last known stays; an agent that starts then begins with what the one before it kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use api::view::{EndpointSliceView, NodeNetworkView, ServiceView, View, Written};
use reflector::request::Api;
use reflector::{Reflector, Watched};
use tokio_util::sync::CancellationToken;

use crate::kept::{Kept, Values, parsed};
use crate::pods::Keeps;

/// Keys that say that a kind was kept whole once begin so: a part of it would deny what is there. They come after all others, so that what is
/// written in the order of keys is true at every moment.
const WHOLE: &str = "whole/";

/// The copies. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Mirror {
    api: Api,
    pub(crate) services: Reflector<ServiceView>,
    pub(crate) slices: Reflector<EndpointSliceView>,
    pub(crate) nodes: Reflector<NodeNetworkView>,
}

impl Mirror {
    /// Copies that are empty until [`Mirror::run`] feeds them.
    pub(crate) fn new(client: kube::Client) -> Self {
        Self {
            api: Api::new(client),
            services: Reflector::new(),
            slices: Reflector::new(),
            nodes: Reflector::new(),
        }
    }

    /// Feeds the copies until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.feed(&self.services) => {}
            () = self.feed(&self.slices) => {}
            () = self.feed(&self.nodes) => {}
        }
    }

    /// Begins with what was kept, should no server answer.
    pub(crate) fn fall_back_to(&self, kept: &Values) {
        fall_back(&self.services, kept);
        fall_back(&self.slices, kept);
        fall_back(&self.nodes, kept);
    }

    /// Keeps what there is and what changes until `stop`.
    pub(crate) async fn keep(self, kept: Kept, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = keep(&self.services, &kept) => {}
            () = keep(&self.slices, &kept) => {}
            () = keep(&self.nodes, &kept) => {}
        }
    }

    async fn feed<V: View + Watched>(&self, copy: &Reflector<V>) {
        copy.clone()
            .run(self.api.clone(), V::collection_path(), None)
            .await;
    }
}

/// What the keys of a kind begin with.
fn prefix<V: View>() -> String {
    format!("{}/", V::PLURAL)
}

fn fall_back<V: View + Watched>(copy: &Reflector<V>, kept: &Values) {
    let prefix = prefix::<V>();
    if kept.contains_key(&format!("{WHOLE}{prefix}")) {
        copy.fall_back_to(parsed(kept, &prefix));
    }
}

async fn keep<V: Written + Watched>(copy: &Reflector<V>, kept: &Kept) {
    let prefix = prefix::<V>();
    let mut changes = copy.changes();
    let mut gone: BTreeSet<String> = kept.keys(&prefix).into_iter().collect();
    let mut whole = false;
    loop {
        for ((namespace, name), view) in changes.next().await {
            let key = format!("{prefix}{namespace}/{name}");
            gone.remove(&key);
            match view {
                Some(view) => kept.put(&key, view.written().to_string()),
                None => kept.remove(&key),
            }
        }
        // What was kept and is not there now went while nobody looked.
        for key in std::mem::take(&mut gone) {
            kept.remove(&key);
        }
        if !std::mem::replace(&mut whole, true) {
            kept.put(&format!("{WHOLE}{prefix}"), "true".to_owned());
        }
    }
}

/// The labels of a Node that was kept.
pub(crate) fn labels_of(kept: &Values, node: &str) -> Option<BTreeMap<String, String>> {
    let text = kept.get(&format!("{}/{node}", prefix::<NodeNetworkView>()))?;
    let node: NodeNetworkView = serde_json::from_str(text).ok()?;
    let labels = node.meta.labels.iter();
    Some(
        labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
    )
}

/// A Service, as an agent with this data directory was told of it last.
pub fn kept_service(data_dir: &Path, node: &str, namespace: &str, name: &str) -> Option<ServiceView> {
    let kept = Kept::look(&Keeps::on_disk(data_dir), node);
    let text = kept.get(&format!("{}{namespace}/{name}", prefix::<ServiceView>()))?;
    serde_json::from_str(text).ok()
}
