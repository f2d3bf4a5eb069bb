//! Input of the planner for the DaemonSets of a namespace, read once from any API server.

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

/// DaemonSets of a namespace, their pods, and all nodes, at one moment.
pub(crate) struct Sight {
    pub(crate) fleet: Fleet,
    /// All nodes, by name.
    pub(crate) nodes: BTreeMap<Arc<str>, Arc<NodeView>>,
    /// States of the pods that are not Ready, by pod name.
    pub(crate) unready: BTreeMap<Arc<str>, PodState>,
    revisions: Vec<Arc<ControllerRevisionView>>,
    pub(crate) now: Timestamp,
}

impl Sight {
    /// Reads all objects that the planner needs for the DaemonSets of `namespace`.
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

    /// Builds the input from objects that were read already. `unready` holds the states of the pods
    /// that are not Ready, by name.
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

    /// Returns the trouble of a node, if the DaemonSet leaves it out only because of that. Its pod
    /// stays, or is created when the node is back.
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

    /// Returns the numbers of a DaemonSet's revisions, by the hash in the labels of its pods.
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

/// Reads all objects of a kind, in one namespace or in all. `also` gets each object with its view.
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
