//! The displayed state of a cluster: nodes, their pods, and DaemonSets.

use anyhow::Result;
use serde_json::Value;
use testkit::Api;

/// State of a cluster.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scene {
    pub(crate) nodes: Vec<Node>,
    pub(crate) daemons: Vec<Daemon>,
}

/// A node and its bound pods.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) range: String,
    pub(crate) ready: bool,
    pub(crate) pods: Vec<Pod>,
}

/// A pod on a node.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) name: String,
    /// Its DaemonSet; empty for other pods.
    pub(crate) owner: String,
    pub(crate) address: String,
    pub(crate) state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    #[default]
    Starting,
    Ready,
    Ending,
}

/// A DaemonSet's counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Daemon {
    pub(crate) name: String,
    pub(crate) desired: i64,
    pub(crate) ready: i64,
}

impl Scene {
    pub(crate) fn read(api: &Api) -> Result<Scene> {
        let nodes = api.get("/api/v1/nodes")?;
        let pods = api.get("/api/v1/pods")?;
        let daemons = api.get("/apis/apps/v1/daemonsets")?;
        Ok(Scene::of(&nodes, &pods, &daemons))
    }

    /// Builds the state from three lists.
    pub(crate) fn of(nodes: &Value, pods: &Value, daemons: &Value) -> Scene {
        let nodes = items(nodes).iter().map(|node| Node::of(node, items(pods)));
        let daemons = items(daemons).iter().map(|set| Daemon {
            name: text(&set["metadata"]["name"]),
            desired: set["status"]["desiredNumberScheduled"].as_i64().unwrap_or(0),
            ready: set["status"]["numberReady"].as_i64().unwrap_or(0),
        });
        Scene {
            nodes: nodes.collect(),
            daemons: daemons.collect(),
        }
    }
}

impl Node {
    fn of(node: &Value, pods: &[Value]) -> Node {
        let name = text(&node["metadata"]["name"]);
        let of_type = |list: &Value, kind: &str, field: &str| {
            let list = list.as_array().map_or(&[] as &[Value], Vec::as_slice);
            let found = list.iter().find(|entry| entry["type"] == kind);
            found.map(|entry| text(&entry[field])).unwrap_or_default()
        };
        let here = pods.iter().filter(|pod| pod["spec"]["nodeName"] == name.as_str());
        let mut pods: Vec<Pod> = here.map(Pod::of).collect();
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        Node {
            address: of_type(&node["status"]["addresses"], "InternalIP", "address"),
            range: text(&node["spec"]["podCIDR"]),
            ready: of_type(&node["status"]["conditions"], "Ready", "status") == "True",
            pods,
            name,
        }
    }
}

impl Pod {
    fn of(pod: &Value) -> Pod {
        let (meta, status) = (&pod["metadata"], &pod["status"]);
        let conditions = status["conditions"]
            .as_array()
            .map_or(&[] as &[Value], Vec::as_slice);
        let ready = conditions
            .iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        let owner = &meta["ownerReferences"][0];
        Pod {
            name: text(&meta["name"]),
            owner: match owner["kind"] == "DaemonSet" {
                true => text(&owner["name"]),
                false => String::new(),
            },
            address: text(&status["podIP"]),
            state: match (meta["deletionTimestamp"].is_null(), ready) {
                (false, _) => State::Ending,
                (true, true) => State::Ready,
                (true, false) => State::Starting,
            },
        }
    }
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
