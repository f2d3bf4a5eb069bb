//! The life of ControllerRevisions: the test of "Controller revision".

use anyhow::{Context, Result};
use http::Method;
use serde_json::{Value, json};
use testkit::{STRATEGIC, wait_for};

use super::{create, delete_options, in_a_namespace, typed, update};
use crate::fleet::{Fleet, daemon_set, hash, name, version};

const SET: &str = "e2e-set";
const LABEL: &str = "daemonset-name%3De2e-set";

fn revisions(fleet: &Fleet, count: usize) -> Result<Vec<Value>> {
    wait_for(&format!("{count} revisions"), || {
        let path = format!("{}?labelSelector={LABEL}", fleet.revisions_path());
        let found = fleet.api.items(&path)?;
        Ok(match found.len() == count {
            true => Ok(found),
            false => Err(format!("{:?}", found.iter().map(name).collect::<Vec<_>>())),
        })
    })
}

#[test]
fn revisions_are_listed_patched_created_replaced_and_deleted() -> Result<()> {
    in_a_namespace(2, &[], |fleet| {
        let set = daemon_set(SET, |set| {
            let labels = json!({"daemonset-name": SET});
            set["metadata"]["labels"] = labels.clone();
            set["spec"]["selector"]["matchLabels"] = labels.clone();
            set["spec"]["template"]["metadata"]["labels"] = labels;
        });
        let created = create(fleet, &set)?;
        fleet.runs_on(SET, &["node-0", "node-1"])?;

        let first = revisions(fleet, 1)?.remove(0);
        let owner = &first["metadata"]["ownerReferences"][0];
        assert_eq!(
            (&owner["kind"], &owner["uid"]),
            (&"DaemonSet".into(), &created["metadata"]["uid"])
        );
        let everywhere = format!("/apis/apps/v1/controllerrevisions?labelSelector={LABEL}");
        assert_eq!(fleet.api.items(&everywhere)?.len(), 1);

        let path = |revision: &Value| format!("{}/{}", fleet.revisions_path(), name(revision));
        let label = json!({"metadata": {"labels": {name(&first): "patched"}}});
        let patched = fleet.api.patch(&path(&first), STRATEGIC, &label)?;
        assert!(version(&patched)? > version(&first)?);
        assert_eq!(patched["metadata"]["labels"][name(&first)], "patched");

        let second = json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision",
            "metadata": {
                "name": format!("{SET}-second"), "namespace": fleet.namespace,
                "labels": {"daemonset-name": SET, "controller-revision-hash": "second"},
                "ownerReferences": first["metadata"]["ownerReferences"],
            },
            "data": first["data"], "revision": first["revision"].as_u64().context("a number")? + 1,
        });
        let second = typed(fleet, Method::POST, &fleet.revisions_path(), &second)?;
        revisions(fleet, 2)?;
        // The controller would keep the second one alone, but not at once: its user may still delete the first.
        typed(fleet, Method::DELETE, &path(&first), &delete_options(json!({})))?;
        let left = revisions(fleet, 1)?.remove(0);
        assert_eq!(name(&left), name(&second));

        let updated = update(fleet, &path(&second), |revision| {
            revision["metadata"]["labels"][name(&second)] = "updated".into();
        })?;
        assert_eq!(updated["metadata"]["labels"][name(&second)], "updated");

        let template = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 2}}}});
        fleet.api.patch(&fleet.set_path(SET), STRATEGIC, &template)?;
        let both = revisions(fleet, 2)?;
        let newest = both
            .iter()
            .find(|revision| name(revision) != name(&second))
            .context("a new revision")?;
        assert_eq!(newest["revision"], 3);
        fleet.complete(SET, 2)?;

        let collection = format!(
            "{}?labelSelector={}%3Dupdated",
            fleet.revisions_path(),
            name(&second)
        );
        typed(fleet, Method::DELETE, &collection, &delete_options(json!({})))?;
        let last = revisions(fleet, 1)?.remove(0);
        assert_eq!((name(&last), &last["revision"]), (name(newest), &3.into()));
        assert_eq!(hash(&last), hash(newest));
        Ok(())
    })
}
