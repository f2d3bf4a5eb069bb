//! `ListOptions`: the objects and the revision of a list or a watch.

use std::sync::Arc;

use api::field_error::{FieldError, Path};
use api::kinds::Kind;
use api::selector::{FieldSelector, LabelSelector};
use api::status::Status;
use store::{Interest, Revision};

use crate::limits::{FUTURE_REVISION_WAIT, SELECTOR_BYTES_MAX};
use crate::objects::{self, Entry, INDEX_NODE};
use crate::query::Query;
use crate::request;
use crate::shared::Shared;

/// Label and field selectors for objects of one kind.
#[derive(Debug)]
pub(crate) struct Selection {
    kind: &'static Kind,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    fn of(kind: &'static Kind, query: &Query) -> Result<Selection, Status> {
        let unable = |what: &str, error: &dyn std::fmt::Display| {
            Status::bad_request(format!("unable to parse {what}: {error}"))
        };
        let selector = |name: &'static str| {
            let text = query.get(name).unwrap_or_default();
            match text.len() <= SELECTOR_BYTES_MAX {
                true => Ok(text),
                false => Err(Status::bad_request(format!(
                    "{name}: Too long: may not be more than {SELECTOR_BYTES_MAX} bytes"
                ))),
            }
        };
        let labels = LabelSelector::parse(selector("labelSelector")?)
            .map_err(|error| Status::bad_request(error.to_string()))?;
        let fields = FieldSelector::parse(selector("fieldSelector")?)
            .map_err(|error| unable("field selector", &error))?;
        if let Some(field) = fields.unsupported(kind.selectable) {
            let error = FieldSelector::unsupported_error(field, kind.selectable);
            return Err(Status::bad_request(error.to_string()));
        }
        Ok(Selection { kind, labels, fields })
    }

    /// Returns the approximate size in memory, in bytes. Fields count twice, because a watcher has
    /// a copy of a field's value.
    pub(crate) fn size(&self) -> usize {
        self.labels.size() + 2 * self.fields.size()
    }

    /// Returns whether the selectors match every object.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Returns whether the selectors match this object.
    pub(crate) fn matches(&self, entry: &Entry) -> bool {
        let attributes = &entry.attributes;
        self.labels.matches(|key| attributes.labels.get(key))
            && self.fields.matches(|field| match field {
                "metadata.name" => Some(&attributes.name),
                "metadata.namespace" => Some(&attributes.namespace),
                // A kind that presents another stored kind has the same fields in the same order.
                field => self
                    .kind
                    .selectable
                    .iter()
                    .position(|path| *path == field)
                    .map(|index| attributes.field(index)),
            })
    }

    /// Returns the name when the field selector requires exactly one.
    fn name(&self) -> Option<&str> {
        self.fields
            .exact("metadata.name")
            .filter(|name| !name.is_empty() && !name.contains('/'))
    }

    /// Returns the node when the field selector requires pods of exactly one node.
    pub(crate) fn node(&self) -> Option<&str> {
        let is_pod = objects::is_pod(self.kind);
        self.fields
            .exact("spec.nodeName")
            .filter(|node| is_pod && !node.is_empty())
    }

    /// Returns the common prefix of the keys of all selected objects in `namespace`, or the key of
    /// the only one.
    pub(crate) fn prefix(&self, namespace: &str) -> String {
        match self.name() {
            Some(name) if !namespace.is_empty() || !self.kind.namespaced => {
                objects::key(self.kind, namespace, name).as_str().to_owned()
            }
            _ => objects::prefix(self.kind, namespace),
        }
    }

    /// Returns which events below the prefix a watcher must receive.
    pub(crate) fn interest(&self) -> Interest {
        match self.node() {
            Some(node) => Interest::Index {
                index: INDEX_NODE,
                value: Arc::from(node),
            },
            None => Interest::All,
        }
    }
}

/// Meaning of a resource version, from `resourceVersionMatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    Exact,
    NotOlderThan,
}

/// The parameters of a list or a watch.
#[derive(Debug)]
pub(crate) struct ListOptions {
    pub(crate) selection: Selection,
    /// None for the most recent state, 0 for any state.
    pub(crate) revision: Option<Revision>,
    pub(crate) matching: Option<Match>,
    pub(crate) limit: usize,
    pub(crate) continued: Option<String>,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
}

impl ListOptions {
    /// Reads the parameters for objects of `kind`.
    pub(crate) fn of(kind: &'static Kind, query: &Query) -> Result<ListOptions, Status> {
        let selection = Selection::of(kind, query)?;
        let given_revision = query.non_empty("resourceVersion");
        let given_match = query.non_empty("resourceVersionMatch");
        let watch = query.flag("watch");
        let send_initial_events = query
            .non_empty("sendInitialEvents")
            .is_some()
            .then(|| query.flag("sendInitialEvents"));
        let continued = query.non_empty("continue").map(str::to_owned);
        let mut errors = Vec::new();
        let matching = match given_match {
            None => None,
            Some("Exact") => Some(Match::Exact),
            Some("NotOlderThan") => Some(Match::NotOlderThan),
            Some(other) => {
                let path = Path::Root("resourceVersionMatch");
                errors.push(FieldError::not_supported(
                    &path,
                    other,
                    &["Exact", "NotOlderThan", ""],
                ));
                None
            }
        };
        let forbid = |field: &str, why: &str| FieldError::forbidden(&Path::Root(field), why);
        if watch {
            watch_rules(
                given_match,
                send_initial_events,
                matching,
                continued.as_deref(),
                &forbid,
                &mut errors,
            );
        } else {
            list_rules(
                given_match,
                given_revision,
                send_initial_events,
                matching,
                continued.as_deref(),
                &forbid,
                &mut errors,
            );
        }
        request::refuse("ListOptions", &errors)?;
        let limit = query.integer("limit")?.unwrap_or(0);
        let timeout_seconds = query.integer("timeoutSeconds")?;
        Ok(ListOptions {
            selection,
            revision: revision(given_revision)?,
            matching,
            limit: usize::try_from(limit).unwrap_or(0),
            continued,
            timeout_seconds: timeout_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .filter(|s| *s > 0),
            bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events,
        })
    }
}

fn watch_rules(
    given_match: Option<&str>,
    send_initial_events: Option<bool>,
    matching: Option<Match>,
    continued: Option<&str>,
    forbid: &dyn Fn(&str, &str) -> FieldError,
    errors: &mut Vec<FieldError>,
) {
    match send_initial_events {
        None if given_match.is_some() => errors.push(forbid(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        )),
        Some(_) if matching != Some(Match::NotOlderThan) => errors.push(forbid(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )),
        _ => {}
    }
    if send_initial_events.is_some() && continued.is_some() {
        errors.push(forbid("continue", "continue is forbidden for watch"));
    }
}

fn list_rules(
    given_match: Option<&str>,
    given_revision: Option<&str>,
    send_initial_events: Option<bool>,
    matching: Option<Match>,
    continued: Option<&str>,
    forbid: &dyn Fn(&str, &str) -> FieldError,
    errors: &mut Vec<FieldError>,
) {
    const MATCH: &str = "resourceVersionMatch";
    if given_match.is_some() && given_revision.is_none() {
        errors.push(forbid(
            MATCH,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ));
    }
    if given_match.is_some() && continued.is_some() {
        errors.push(forbid(
            MATCH,
            "resourceVersionMatch is forbidden when continue is provided",
        ));
    }
    if matching == Some(Match::Exact) && given_revision == Some("0") {
        errors.push(forbid(
            MATCH,
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ));
    }
    if send_initial_events.is_some() {
        errors.push(forbid(
            "sendInitialEvents",
            "sendInitialEvents is forbidden for list",
        ));
    }
}

/// Parses a resource version. Returns 400 when it is not a whole number.
pub(crate) fn revision(text: Option<&str>) -> Result<Option<Revision>, Status> {
    let Some(text) = text else { return Ok(None) };
    let parsed = text.parse().map_err(|_| {
        Status::bad_request(format!(
            "Invalid value: {0}: strconv.ParseUint: parsing {0}: invalid syntax",
            api::field_error::quote(text)
        ))
    })?;
    Ok(Some(Revision(parsed)))
}

/// Waits until the store has reached `revision`. Returns 504 after [`FUTURE_REVISION_WAIT`].
pub(crate) async fn reach(shared: &Shared, revision: Revision) -> Result<(), Status> {
    if shared.objects.revision() >= revision {
        return Ok(());
    }
    let reached = shared.objects.wait_for(revision, FUTURE_REVISION_WAIT).await;
    match reached >= revision {
        true => Ok(()),
        false => Err(Status::too_large_resource_version(revision.0, reached.0)),
    }
}
