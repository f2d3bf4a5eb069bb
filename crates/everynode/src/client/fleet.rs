//! What the planner needs to know about the DaemonSets of a namespace, read once from any API server.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use api::view::{ControllerRevisionView, NodeView, PodView, View};
use jiff::Timestamp;
use plan::daemonset::{HASH_LABEL, Misfit, Trouble};
use plan::fleet::{Fleet, Objects, Options};
use serde_json::Value;

use super::connection::Connection;
use super::pod_state::PodState;
use super::resources::escape;

/// The DaemonSets of a namespace, their pods, and all nodes, as they were at one moment.
pub(crate) struct Sight {
    pub(crate) fleet: Fleet,
    /// All nodes, by name.
    pub(crate) nodes: BTreeMap<Arc<str>, Arc<NodeView>>,
    /// What the containers of the pods that are not Ready say, by the pod's name.
    pub(crate) unready: BTreeMap<Arc<str>, PodState>,
    revisions: Vec<Arc<ControllerRevisionView>>,
    pub(crate) now: Timestamp,
}

impl Sight {
    /// Reads everything that decides about the DaemonSets of `namespace`.
    pub(crate) async fn read(connection: &Connection, namespace: &str) -> Result<Sight> {
        let mut unready = BTreeMap::new();
        let nodes: Vec<Arc<NodeView>> = views(connection, None, |_, _| {}).await?;
        let daemon_sets = views(connection, Some(namespace), |_, _| {}).await?;
        let revisions: Vec<Arc<ControllerRevisionView>> =
            views(connection, Some(namespace), |_, _| {}).await?;
        let pods = views(connection, Some(namespace), |pod: &PodView, object| {
            if !pod.ready.status {
                unready.insert(pod.meta.name.clone(), PodState::of(object));
            }
        });
        let objects = Objects {
            pods: pods.await?,
            daemon_sets,
            revisions,
            nodes,
        };
        Ok(Sight::new(objects, unready, Timestamp::now()))
    }

    /// The same from what was read already; `unready` are the states of the pods that are not Ready, by name.
    pub(crate) fn new(objects: Objects, unready: BTreeMap<Arc<str>, PodState>, now: Timestamp) -> Sight {
        let by_name = |node: &Arc<NodeView>| (node.meta.name.clone(), node.clone());
        Sight {
            nodes: objects.nodes.iter().map(by_name).collect(),
            revisions: objects.revisions.clone(),
            fleet: Fleet::of(Options::default(), objects, now),
            unready,
            now,
        }
    }

    /// Whether a node is left out only because it is in trouble: its pod stays or comes when the node is back.
    pub(crate) fn trouble(&self, node: &str, why: &Misfit) -> Option<Trouble> {
        let Misfit::Taint(taint) = why else {
            return None;
        };
        let told_by_trouble = matches!(
            &*taint.key,
            "node.kubernetes.io/not-ready" | "node.kubernetes.io/unreachable"
        );
        Trouble::of(self.nodes.get(node)?).filter(|_| told_by_trouble)
    }

    /// The numbers of a set's revisions, by the hash that its pods carry.
    pub(crate) fn revisions_of(&self, uid: &str) -> BTreeMap<&str, i64> {
        let ours = |revision: &&Arc<ControllerRevisionView>| {
            let controller = revision.meta.controller();
            controller.is_some_and(|owner| &*owner.uid == uid)
        };
        self.revisions
            .iter()
            .filter(ours)
            .filter_map(|revision| Some((revision.meta.labels.get(HASH_LABEL)?, revision.revision)))
            .collect()
    }
}

/// All objects of a kind, in a namespace or in all; `also` sees each beside its view.
pub(crate) async fn views<V: View>(
    connection: &Connection,
    namespace: Option<&str>,
    mut also: impl FnMut(&V, &Value),
) -> Result<Vec<Arc<V>>> {
    let all = V::collection_path();
    let path = match (namespace, all.rsplit_once('/')) {
        (Some(namespace), Some((version, plural))) => {
            format!("{version}/namespaces/{}/{plural}", escape(namespace))
        }
        _ => all,
    };
    connection
        .list(&path, "", |object| {
            let view = V::deserialize(object).with_context(|| format!("read a {}", V::KIND))?;
            also(&view, object);
            Ok(Arc::new(view))
        })
        .await
}
