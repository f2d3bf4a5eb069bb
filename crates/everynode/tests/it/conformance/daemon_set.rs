//! Running, placing, updating, listing: the tests of "Daemon set".

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};
use testkit::{JSON, MERGE, PROTOBUF, STRATEGIC, wait_for};

use super::{FIVE, create, delete_options, in_a_namespace, protobuf, typed, update};
use crate::fleet::{
    Fleet, PodWatch, condition, daemon_set, hash, image, is_ready, is_terminating, name, version,
};

const SET: &str = "daemon-set";
const COLOR: &str = "daemonset-color";
const NEW_IMAGE: &str = "registry.example/app:2";

#[test]
fn a_simple_daemon_runs_everywhere_and_a_deleted_pod_comes_back() -> Result<()> {
    in_a_namespace(5, &[], |fleet| {
        create(fleet, &daemon_set(SET, |_| {}))?;
        let pods = fleet.runs_on(SET, &FIVE)?;
        fleet.status(SET, "the status to count all nodes", |status| {
            ["desiredNumberScheduled", "currentNumberScheduled", "numberReady"]
                .iter()
                .all(|field| status[field] == 5)
        })?;
        typed(
            fleet,
            Method::DELETE,
            &fleet.pod_path(&pods["node-3"]),
            &delete_options(json!({})),
        )?;
        wait_for("the deleted pod to go", || {
            let left = fleet.api.find(&fleet.pod_path(&pods["node-3"]))?;
            Ok(left.map_or(Ok(()), |pod| Err(pod.to_string())))
        })?;
        let again = fleet.runs_on(SET, &FIVE)?;
        for (node, pod) in &again {
            assert_eq!(pods[node] == *pod, node != "node-3", "{pods:?} became {again:?}");
        }
        Ok(())
    })
}

#[test]
fn a_daemon_with_a_node_selector_follows_the_labels_and_its_own_new_selector() -> Result<()> {
    in_a_namespace(3, &[], |fleet| {
        let selector = json!({COLOR: "blue"});
        create(
            fleet,
            &daemon_set(SET, |set| {
                set["spec"]["template"]["spec"]["nodeSelector"] = selector
            }),
        )?;
        fleet.status(SET, "no node to be wanted", |status| {
            status["desiredNumberScheduled"] == 0
        })?;
        fleet.runs_on(SET, &[])?;

        color(fleet, "node-1", Some("blue"))?;
        fleet.runs_on(SET, &["node-1"])?;
        fleet.status(SET, "the one node to be counted", |status| {
            status["numberReady"] == 1
        })?;

        color(fleet, "node-1", Some("green"))?;
        fleet.runs_on(SET, &[])?;

        let patch = json!({"spec": {
            "template": {"spec": {"nodeSelector": {COLOR: "green"}}},
            "updateStrategy": {"type": "RollingUpdate"},
        }});
        let patched = fleet.patch(SET, &patch)?;
        assert_eq!(
            patched["spec"]["template"]["spec"]["nodeSelector"],
            json!({COLOR: "green"})
        );
        fleet.runs_on(SET, &["node-1"])?;
        fleet.status(SET, "the one node to be counted", |status| {
            status["numberReady"] == 1
        })
    })
}

#[test]
fn a_daemon_with_a_node_affinity_follows_the_labels() -> Result<()> {
    in_a_namespace(3, &[], |fleet| {
        let blue = json!({"matchExpressions": [{"key": COLOR, "operator": "In", "values": ["blue"]}]});
        let affinity = json!({"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [blue]},
        }});
        create(
            fleet,
            &daemon_set(SET, |set| set["spec"]["template"]["spec"]["affinity"] = affinity),
        )?;
        fleet.status(SET, "no node to be wanted", |status| {
            status["desiredNumberScheduled"] == 0
        })?;
        fleet.runs_on(SET, &[])?;

        color(fleet, "node-2", Some("blue"))?;
        fleet.runs_on(SET, &["node-2"])?;
        fleet.status(SET, "the one node to be counted", |status| {
            status["numberReady"] == 1
        })?;

        color(fleet, "node-2", None)?;
        fleet.runs_on(SET, &[]).map(drop)
    })
}

/// Updates the node's label as the originals do: with the whole Node.
fn color(fleet: &Fleet, node: &str, color: Option<&str>) -> Result<()> {
    update(fleet, &format!("/api/v1/nodes/{node}"), |node| match color {
        Some(color) => node["metadata"]["labels"][COLOR] = color.into(),
        None => {
            if let Some(labels) = node["metadata"]["labels"].as_object_mut() {
                labels.remove(COLOR);
            }
        }
    })
    .map(drop)
}

#[test]
fn a_failed_pod_is_replaced_and_deleted() -> Result<()> {
    in_a_namespace(3, &[], |fleet| {
        create(fleet, &daemon_set(SET, |_| {}))?;
        let pods = fleet.runs_on(SET, &["node-0", "node-1", "node-2"])?;
        let path = fleet.pod_path(&pods["node-1"]);
        let mut failed = fleet.api.get(&path)?;
        failed["metadata"]["resourceVersion"] = "".into();
        failed["status"]["phase"] = "Failed".into();
        typed(fleet, Method::PUT, &format!("{path}/status"), &failed)?;
        wait_for("the failed pod to be deleted", || {
            let left = fleet.api.find(&path)?;
            Ok(left.map_or(Ok(()), |pod| Err(pod.to_string())))
        })?;
        let again = fleet.runs_on(SET, &["node-0", "node-1", "node-2"])?;
        assert_ne!(again["node-1"], pods["node-1"]);
        let alive = format!(
            "{}?fieldSelector=status.phase!%3DFailed%2Cstatus.phase!%3DSucceeded",
            fleet.pods_path()
        );
        assert_eq!(fleet.api.items(&alive)?.len(), 3);
        Ok(())
    })
}

/// The revisions' numbers and hashes, once there are `count`.
fn history(fleet: &Fleet, count: usize) -> Result<Vec<(u64, String)>> {
    wait_for(&format!("{count} revisions"), || {
        let revisions: Vec<(u64, String)> = fleet
            .revisions(SET)?
            .iter()
            .map(|revision| {
                (
                    revision["revision"].as_u64().unwrap_or(0),
                    hash(revision).to_owned(),
                )
            })
            .collect();
        Ok(match revisions.len() == count {
            true => Ok(revisions),
            false => Err(format!("{revisions:?}")),
        })
    })
}

#[test]
fn on_delete_leaves_the_pods_as_they_are() -> Result<()> {
    in_a_namespace(3, &[], |fleet| {
        create(
            fleet,
            &daemon_set(SET, |set| {
                set["spec"]["updateStrategy"] = json!({"type": "OnDelete"})
            }),
        )?;
        let nodes = ["node-0", "node-1", "node-2"];
        let before = fleet.runs_on(SET, &nodes)?;
        let first = history(fleet, 1)?;
        assert_eq!(first[0].0, 1);
        fleet.set_image(SET, NEW_IMAGE)?;
        let both = history(fleet, 2)?;
        assert_eq!((both[0].clone(), both[1].0), (first[0].clone(), 2));
        assert_ne!(both[0].1, both[1].1, "each template has a hash of its own");
        fleet.status(SET, "the new template to be observed", |status| {
            status["updatedNumberScheduled"].is_null()
        })?;
        assert_eq!(fleet.runs_on(SET, &nodes)?, before);
        for pod in fleet.pods(SET)? {
            assert_eq!(
                (image(&pod), hash(&pod)),
                ("registry.example/app:1", both[0].1.as_str())
            );
        }
        Ok(())
    })
}

#[test]
fn a_rolling_update_takes_one_pod_after_the_other() -> Result<()> {
    in_a_namespace(5, &[], |fleet| {
        let created = create(
            fleet,
            &daemon_set(SET, |set| {
                set["spec"]["updateStrategy"] = json!({"type": "RollingUpdate"})
            }),
        )?;
        fleet.runs_on(SET, &FIVE)?;
        let first = history(fleet, 1)?;
        assert_eq!(first[0].0, 1);
        let mut watch = PodWatch::open(fleet)?;
        let patched = fleet.set_image(SET, NEW_IMAGE)?;
        assert!(version(&patched)? > version(&created)?);
        // Every state that the API ever showed is looked at: no rollout is too quick for the rule.
        let count = |pods: &BTreeMap<String, Value>, wanted: &dyn Fn(&Value) -> bool| {
            pods.values().filter(|pod| wanted(pod)).count()
        };
        watch.until(|pods| {
            let available = count(pods, &|pod| is_ready(pod) && !is_terminating(pod));
            ensure!(available >= 4, "{} pods are unavailable at once", 5 - available);
            Ok(count(pods, &|pod| image(pod) == NEW_IMAGE && is_ready(pod)) == 5 && pods.len() == 5)
        })?;
        fleet.complete(SET, 5)?;
        let both = history(fleet, 2)?;
        assert_eq!((both[0].clone(), both[1].0), (first[0].clone(), 2));
        for pod in fleet.pods(SET)? {
            assert_eq!(hash(&pod), both[1].1);
        }
        let matching = matching_revisions(fleet)?;
        assert_eq!(
            matching,
            [2],
            "exactly one revision holds the template, and it is the current one"
        );
        Ok(())
    })
}

/// The numbers of the revisions whose data are, byte for byte, what Go computes of the template.
fn matching_revisions(fleet: &Fleet) -> Result<Vec<u64>> {
    let mut template = fleet.set(SET)?["spec"]["template"].clone();
    template["$patch"] = "replace".into();
    // serde_json sorts keys, as Go does.
    let expected = json!({"spec": {"template": template}}).to_string();
    Ok(fleet
        .revisions(SET)?
        .iter()
        .filter(|revision| serde_json::to_string(&revision["data"]).is_ok_and(|data| data == expected))
        .filter_map(|revision| revision["revision"].as_u64())
        .collect())
}

#[test]
fn a_rollback_restarts_only_what_was_updated() -> Result<()> {
    let broken = "foo:non-existent";
    in_a_namespace(5, &["--missing-image", broken], |fleet| {
        create(fleet, &daemon_set(SET, |_| {}))?;
        let before = fleet.runs_on(SET, &FIVE)?;
        let path = fleet.set_path(SET);
        let set_image = |image: &'static str| {
            update(fleet, &path, |set| {
                set["spec"]["template"]["spec"]["containers"][0]["image"] = image.into()
            })
        };
        set_image(broken)?;
        let untouched: BTreeSet<String> = wait_for("one node to have the broken pod", || {
            let pods = fleet.pods(SET)?;
            let (new, old): (Vec<&Value>, Vec<&Value>) = pods.iter().partition(|pod| image(pod) == broken);
            Ok(match (new.as_slice(), old.len()) {
                ([stuck], 4) if condition(stuck, "Ready").is_some() => {
                    Ok(old.into_iter().map(name).collect())
                }
                _ => Err(format!("{} new and {} old pods", new.len(), old.len())),
            })
        })?;
        set_image("registry.example/app:1")?;
        let after = fleet.runs_on(SET, &FIVE)?;
        fleet.complete(SET, 5)?;
        let kept: BTreeSet<String> = after
            .values()
            .filter(|pod| untouched.contains(*pod))
            .cloned()
            .collect();
        assert_eq!(kept, untouched, "{before:?} became {after:?}");
        Ok(())
    })
}

#[test]
fn daemon_sets_are_listed_everywhere_and_deleted_as_a_collection() -> Result<()> {
    in_a_namespace(2, &[], |fleet| {
        let labels = json!({"e2e": "collection"});
        create(fleet, &daemon_set(SET, |set| set["metadata"]["labels"] = labels))?;
        fleet.runs_on(SET, &["node-0", "node-1"])?;
        let everywhere = "/apis/apps/v1/daemonsets?labelSelector=e2e%3Dcollection";
        let names: Vec<String> = fleet.api.items(everywhere)?.iter().map(name).collect();
        assert_eq!(names, [SET]);
        let collection = format!("{}?labelSelector=e2e%3Dcollection", fleet.sets_path());
        let options = delete_options(json!({"gracePeriodSeconds": 1}));
        typed(fleet, Method::DELETE, &collection, &options)?;
        assert!(fleet.api.items(everywhere)?.is_empty());
        Ok(())
    })
}

#[test]
fn a_status_is_read_written_and_patched_and_a_watch_sees_it() -> Result<()> {
    in_a_namespace(2, &[], |fleet| {
        create(fleet, &daemon_set(SET, |_| {}))?;
        fleet.runs_on(SET, &["node-0", "node-1"])?;
        let list = fleet.api.get(&fleet.sets_path())?;
        let since = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let path = format!("{}/status", fleet.set_path(SET));
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "E2E", "message": "Set from e2e test"});
        assert_eq!(fleet.api.get(&path)?["status"]["desiredNumberScheduled"], 2);

        let updated = update(fleet, &path, |set| {
            match set["status"]["conditions"].as_array_mut() {
                Some(conditions) => conditions.push(condition("StatusUpdate")),
                None => set["status"]["conditions"] = json!([condition("StatusUpdate")]),
            }
        })?;
        assert!(has(&updated, "StatusUpdate"), "{updated}");
        let seen = format!(
            "{}?watch=1&resourceVersion={since}&fieldSelector=metadata.name%3D{SET}",
            fleet.sets_path()
        );
        fleet
            .api
            .watch(&seen)?
            .find(|event| has(&event["object"], "StatusUpdate"))?;

        let patch = json!({"status": {"conditions": [condition("StatusPatched")]}});
        let patched = fleet.api.patch(&path, MERGE, &patch)?;
        assert!(has(&patched, "StatusPatched"), "{patched}");
        assert!(!has(&patched, "StatusUpdate"), "a merge patch replaces a list");
        fleet
            .api
            .watch(&seen)?
            .find(|event| has(&event["object"], "StatusPatched"))?;
        Ok(())
    })
}

fn has(set: &Value, kind: &str) -> bool {
    condition(set, kind).is_some_and(|condition| condition["reason"] == "E2E")
}

#[test]
fn typed_and_plain_bodies_make_the_same_object() -> Result<()> {
    in_a_namespace(1, &[], |fleet| {
        let set = daemon_set(SET, |set| {
            let spec = &mut set["spec"];
            spec["updateStrategy"] =
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "20%"}});
            spec["minReadySeconds"] = 3.into();
            spec["template"]["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
            spec["template"]["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "200Mi"}});
            spec["template"]["spec"]["volumes"] = json!([{"name": "logs", "hostPath": {"path": "/var/log"}}]);
        });
        let dry = format!("{}?dryRun=All", fleet.sets_path());
        let send = |content, body| fleet.api.send(Method::POST, &dry, content, body)?.ok();
        let plain = send(JSON, serde_json::to_vec(&set)?)?;
        let typed = send(PROTOBUF, protobuf::encode(&set)?)?;
        assert_eq!(plain["spec"], typed["spec"]);
        let patched = fleet.api.send(
            Method::PATCH,
            &fleet.set_path(SET),
            STRATEGIC,
            protobuf::encode(&set)?,
        )?;
        assert_eq!(patched.code, 400, "a patch is never protobuf: {}", patched.body);
        Ok(())
    })
}
