//! Actions of a plan, their HTTP requests, and the answers.

use std::fmt;
use std::sync::Arc;

use api::view::DaemonSetStatusView;
use serde_json::json;

use super::conditions::Condition;
use crate::daemonset::{DeleteReason, NodeName, PodTemplate};

/// The set that an action or an event is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DaemonSetRef {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
    /// Its resourceVersion when the action or event was made.
    pub resource_version: u64,
}

/// One request to make. The actions of one plan may run in any order and at the same time.
#[derive(Clone, PartialEq, Debug)]
pub struct Action {
    /// The set that it acts for.
    pub set: Arc<DaemonSetRef>,
    /// What to do.
    pub act: Act,
}

/// What an [`Action`] does.
#[derive(Clone, PartialEq, Debug)]
pub enum Act {
    /// Create the set's pod for a node.
    CreatePod {
        /// The node that it is for.
        node: NodeName,
        /// The pod's name.
        name: Arc<str>,
        /// The hash of its template.
        hash: Arc<str>,
        /// Its body.
        template: Arc<PodTemplate>,
    },
    /// Read a pod whose name blocks a creation.
    InspectPod {
        /// The node that the creation was for.
        node: NodeName,
        /// The pod's name.
        name: Arc<str>,
    },
    /// Read a pod whose deletion got no answer, to learn whether it still exists.
    ConfirmPod {
        /// The node that it belongs to.
        node: NodeName,
        /// The pod that should be deleted.
        pod: Target,
    },
    /// Delete a pod.
    DeletePod {
        /// The node that it belongs to.
        node: NodeName,
        /// The pod's name.
        name: Arc<str>,
        /// The pod's uid, so that no other pod of that name is deleted.
        uid: Arc<str>,
        /// Why.
        reason: DeleteReason,
    },
    /// Read the set before it adopts anything: it may be terminating without the watch having shown
    /// it.
    ConfirmSet,
    /// Become the controller of an ownerless pod.
    AdoptPod(Target),
    /// Stop being the controller of a pod that the selector no longer matches.
    ReleasePod(Target),
    /// Change the hash label of a pod.
    RelabelPod(Target, Arc<str>),
    /// Write a revision.
    WriteRevision {
        /// Its name.
        name: Arc<str>,
        /// Its JSON.
        body: Arc<[u8]>,
    },
    /// Read a revision whose name is taken.
    InspectRevision(Arc<str>),
    /// Become the controller of an ownerless revision.
    AdoptRevision(Target),
    /// Stop being the controller of a revision.
    ReleaseRevision(Target),
    /// Give a revision its hash label.
    LabelRevision(Target, Arc<str>),
    /// Change the number of a revision.
    RenumberRevision(Target, i64),
    /// Delete a revision.
    DropRevision(Target),
    /// Write the set's status.
    UpdateStatus {
        /// What to write.
        status: DaemonSetStatusView,
        /// The conditions to write; others stay unchanged.
        conditions: Vec<Condition>,
        /// The set's resourceVersion at planning. The write fails on any other, so a late one
        /// overwrites nothing.
        at: u64,
    },
}

/// An existing object in the set's namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Its name.
    pub name: Arc<str>,
    /// Its uid, so that no other object of that name is changed.
    pub uid: Arc<str>,
}

/// The verb of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// Read.
    Get,
    /// Create.
    Post,
    /// Change.
    Patch,
    /// Delete.
    Delete,
}

/// An action as an HTTP request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The verb.
    pub method: Method,
    /// The path, from `/api` or `/apis` on.
    pub path: String,
    /// Content type of the body; `None` without a body.
    pub content_type: Option<&'static str>,
    /// The body.
    pub body: Vec<u8>,
}

/// Result of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer<'a> {
    /// The server answered.
    Response {
        /// The HTTP status.
        code: u16,
        /// The body: the object, or a Status.
        body: &'a [u8],
    },
    /// No answer came, for this reason. It is unknown whether the request took effect.
    Lost(&'a str),
}

/// An Event to record about a set. Its source is `daemonset-controller`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventRecord {
    /// The object that it is about.
    pub set: Arc<DaemonSetRef>,
    /// Whether it is a Warning; otherwise it is Normal.
    pub warning: bool,
    /// Reason in CamelCase.
    pub reason: &'static str,
    /// What happened.
    pub message: String,
}

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

impl Request {
    fn new(method: Method, path: String) -> Request {
        Request {
            method,
            path,
            content_type: None,
            body: Vec::new(),
        }
    }

    fn with(self, content_type: &'static str, body: Vec<u8>) -> Request {
        Request {
            content_type: Some(content_type),
            body,
            ..self
        }
    }
}

impl Action {
    /// The request that carries out the action.
    pub fn request(&self) -> Request {
        let DaemonSetRef {
            namespace,
            name: set,
            uid: set_uid,
            ..
        } = &*self.set;
        let pods = || format!("/api/v1/namespaces/{namespace}/pods");
        let pod = |name: &str| format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let revisions = || format!("/apis/apps/v1/namespaces/{namespace}/controllerrevisions");
        let revision =
            |name: &str| format!("/apis/apps/v1/namespaces/{namespace}/controllerrevisions/{name}");
        let set_path = || format!("/apis/apps/v1/namespaces/{namespace}/daemonsets/{set}");
        let patch = |path, kind, body: serde_json::Value| {
            Request::new(Method::Patch, path).with(kind, body.to_string().into_bytes())
        };
        let delete = |path, uid: &str| {
            let options = json!({
                "kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid},
            });
            Request::new(Method::Delete, path).with(JSON, options.to_string().into_bytes())
        };
        let adoption = |target: &Target| {
            json!({"metadata": {"uid": &*target.uid, "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "DaemonSet", "name": &**set, "uid": &**set_uid,
                "controller": true, "blockOwnerDeletion": true,
            }]}})
        };
        let release = |target: &Target| {
            json!({"metadata": {"uid": &*target.uid, "ownerReferences": [
                {"$patch": "delete", "uid": &**set_uid},
            ]}})
        };
        let label = |target: &Target, hash: &str| json!({"metadata": {"uid": &*target.uid, "labels": {crate::daemonset::HASH_LABEL: hash}}});
        match &self.act {
            Act::CreatePod {
                node, name, template, ..
            } => Request::new(Method::Post, pods()).with(JSON, template.body(name, node)),
            Act::InspectPod { name, .. } => Request::new(Method::Get, pod(name)),
            Act::ConfirmPod { pod: target, .. } => Request::new(Method::Get, pod(&target.name)),
            Act::DeletePod { name, uid, .. } => delete(pod(name), uid),
            Act::ConfirmSet => Request::new(Method::Get, set_path()),
            Act::AdoptPod(target) => patch(pod(&target.name), STRATEGIC, adoption(target)),
            Act::ReleasePod(target) => patch(pod(&target.name), STRATEGIC, release(target)),
            Act::RelabelPod(target, hash) => patch(pod(&target.name), MERGE, label(target, hash)),
            Act::WriteRevision { body, .. } => {
                Request::new(Method::Post, revisions()).with(JSON, body.to_vec())
            }
            Act::InspectRevision(name) => Request::new(Method::Get, revision(name)),
            Act::AdoptRevision(target) => patch(revision(&target.name), STRATEGIC, adoption(target)),
            Act::ReleaseRevision(target) => patch(revision(&target.name), STRATEGIC, release(target)),
            Act::LabelRevision(target, hash) => patch(revision(&target.name), MERGE, label(target, hash)),
            Act::RenumberRevision(target, number) => {
                let body = json!({"metadata": {"uid": &*target.uid}, "revision": number});
                patch(revision(&target.name), MERGE, body)
            }
            Act::DropRevision(target) => delete(revision(&target.name), &target.uid),
            Act::UpdateStatus {
                status,
                conditions,
                at,
            } => patch(
                format!("{}/status", set_path()),
                STRATEGIC,
                status_patch(set_uid, status, conditions, *at),
            ),
        }
    }
}

/// Leaves other fields of the status unchanged. Conditions are merged by their type.
fn status_patch(
    uid: &str,
    status: &DaemonSetStatusView,
    conditions: &[Condition],
    at: u64,
) -> serde_json::Value {
    let mut patch = json!({
        "metadata": {"uid": uid, "resourceVersion": at.to_string()},
        "status": {
            "currentNumberScheduled": status.current_number_scheduled,
            "numberMisscheduled": status.number_misscheduled,
            "desiredNumberScheduled": status.desired_number_scheduled,
            "numberReady": status.number_ready,
            "observedGeneration": status.observed_generation,
            "updatedNumberScheduled": status.updated_number_scheduled,
            "numberAvailable": status.number_available,
            "numberUnavailable": status.number_unavailable,
        },
    });
    if !conditions.is_empty() {
        let rendered = |condition: &Condition| {
            json!({
                "type": condition.kind,
                "status": condition.word(),
                "reason": condition.reason,
                "message": condition.message,
                "lastTransitionTime": api::time::rfc3339(condition.since),
            })
        };
        patch["status"]["conditions"] = conditions.iter().map(rendered).collect();
    }
    if let Some(count) = status.collision_count {
        patch["status"]["collisionCount"] = count.into();
    }
    patch
}

/// One line for the log.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DaemonSetRef {
            namespace, name: set, ..
        } = &*self.set;
        write!(f, "DaemonSet {namespace}/{set}: ")?;
        match &self.act {
            Act::CreatePod { node, name, .. } => write!(f, "create pod {name} for node {node}"),
            Act::InspectPod { name, .. } => write!(f, "read pod {name}, which has the name of a new one"),
            Act::ConfirmPod { node, pod } => {
                write!(
                    f,
                    "check whether pod {} of node {node} still exists after its deletion",
                    pod.name
                )
            }
            Act::DeletePod {
                node, name, reason, ..
            } => {
                write!(f, "delete pod {name} of node {node}: {}", reason.as_str())
            }
            Act::ConfirmSet => f.write_str("check whether it still exists before adopting"),
            Act::AdoptPod(pod) => write!(f, "adopt pod {}", pod.name),
            Act::ReleasePod(pod) => write!(f, "release pod {}", pod.name),
            Act::RelabelPod(pod, hash) => write!(f, "label pod {} with the revision {hash}", pod.name),
            Act::WriteRevision { name, .. } => write!(f, "write revision {name}"),
            Act::InspectRevision(name) => {
                write!(f, "read revision {name}, which has the name of a new one")
            }
            Act::AdoptRevision(revision) => write!(f, "adopt revision {}", revision.name),
            Act::ReleaseRevision(revision) => write!(f, "release revision {}", revision.name),
            Act::LabelRevision(revision, hash) => write!(f, "label revision {} with {hash}", revision.name),
            Act::RenumberRevision(revision, number) => {
                write!(f, "renumber revision {} to {number}", revision.name)
            }
            Act::DropRevision(revision) => write!(f, "delete revision {}", revision.name),
            Act::UpdateStatus { status, .. } => write!(
                f,
                "write the status: {} desired, {} ready, {} updated",
                status.desired_number_scheduled, status.number_ready, status.updated_number_scheduled
            ),
        }
    }
}
