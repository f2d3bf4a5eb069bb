//! Discovers the server's kinds.

use reflector::request::{Api, Failure};
use serde::Deserialize;

use crate::resource::Resource;

/// A kind that can be listed, watched and deleted.
#[derive(Clone, Debug)]
pub(crate) struct Deletable {
    pub(crate) resource: Resource,
    /// Whether a whole collection can be deleted with one request.
    pub(crate) collection: bool,
}

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    preferred_version: GroupVersion,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupVersion {
    group_version: String,
}

#[derive(Deserialize)]
struct Resources {
    resources: Vec<Served>,
}

#[derive(Deserialize)]
struct Served {
    name: String,
    kind: String,
    namespaced: bool,
    verbs: Vec<String>,
}

/// All kinds whose objects can be listed, watched and deleted, in their group's preferred version,
/// without subresources.
pub(crate) async fn deletable(api: &Api) -> Result<Vec<Deletable>, Failure> {
    let groups: Groups = api.get("/apis").await?;
    let versions = groups
        .groups
        .into_iter()
        .map(|g| g.preferred_version.group_version);
    let mut found = Vec::new();
    for group_version in std::iter::once("v1".to_owned()).chain(versions) {
        let (group, version) = group_version.split_once('/').unwrap_or(("", &group_version));
        let path = if group.is_empty() {
            "/api/v1".to_owned()
        } else {
            format!("/apis/{group}/{version}")
        };
        let served: Resources = api.get(&path).await?;
        found.extend(
            served
                .resources
                .into_iter()
                .filter(|r| !r.name.contains('/'))
                .filter_map(|r| {
                    let can = |verb: &str| r.verbs.iter().any(|v| v == verb);
                    (can("list") && can("watch") && can("delete")).then(|| Deletable {
                        collection: can("deletecollection"),
                        resource: Resource {
                            group: group.to_owned().into(),
                            version: version.to_owned().into(),
                            kind: r.kind.clone().into(),
                            plural: r.name.clone().into(),
                            namespaced: r.namespaced,
                        },
                    })
                }),
        );
    }
    Ok(found)
}
