//! The verbs that change a DaemonSet or a node.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testkit::{Client, wait_for};

use super::{each_kubectl, write};
use crate::fleet::{Fleet, daemon_set};

fn manifest(fleet: &Fleet, name: &str, change: impl FnOnce(&mut Value)) -> Result<String> {
    let set = daemon_set("web", change);
    write(&fleet.server, name, &set.to_string())
}

fn generation(fleet: &Fleet) -> Result<(u64, String)> {
    let set = fleet.set("web")?;
    let template = &set["metadata"]["annotations"]["deprecated.daemonset.template.generation"];
    let generation = set["metadata"]["generation"].as_u64().context("a generation")?;
    Ok((generation, template.as_str().unwrap_or_default().to_owned()))
}

#[test]
fn every_change_of_the_template_is_a_generation() -> Result<()> {
    each_kubectl(1, &[], |fleet, kubectl| {
        let file = manifest(fleet, "web.json", |_| {})?;
        let counts = |number: u64, template: &str| -> Result<()> {
            assert_eq!(generation(fleet)?, (number, template.to_owned()));
            Ok(())
        };
        assert_eq!(
            kubectl.ok(&format!("apply -f {file}")),
            "daemonset.apps/web created\n"
        );
        counts(1, "1")?;
        assert_eq!(
            kubectl.ok(&format!("apply -f {file}")),
            "daemonset.apps/web unchanged\n"
        );
        counts(1, "1")?;
        let image = "registry.example/app:2";
        assert_eq!(
            kubectl.ok(&format!("set image ds/web app={image}")),
            "daemonset.apps/web image updated\n"
        );
        counts(2, "2")?;
        kubectl.ok(&format!("set image ds/web app={image}"));
        counts(2, "2")?;
        assert_eq!(
            kubectl.ok("set env ds/web LEVEL=debug"),
            "daemonset.apps/web env updated\n"
        );
        counts(3, "3")?;
        assert_eq!(
            kubectl.ok("set resources ds/web --limits=cpu=200m,memory=512Mi --requests=cpu=100m"),
            "daemonset.apps/web resource requirements updated\n"
        );
        counts(4, "4")?;
        assert_eq!(
            kubectl.ok("rollout restart ds/web"),
            "daemonset.apps/web restarted\n"
        );
        counts(5, "5")?;
        let container = fleet.set("web")?["spec"]["template"]["spec"]["containers"][0].clone();
        assert_eq!(container["image"], image);
        assert_eq!(container["env"], json!([{"name": "LEVEL", "value": "debug"}]));
        assert_eq!(
            container["resources"],
            json!({"limits": {"cpu": "200m", "memory": "512Mi"}, "requests": {"cpu": "100m"}})
        );
        // What is no part of the template counts for the object alone, and labels for neither.
        fleet.patch("web", &json!({"spec": {"minReadySeconds": 1}}))?;
        counts(6, "5")?;
        kubectl.ok("label ds web tier=edge");
        counts(6, "5")?;
        fleet.complete("web", 1)
    })
}

#[test]
fn apply_takes_away_what_the_manifest_lost_and_leaves_what_others_added() -> Result<()> {
    each_kubectl(1, &[], |fleet, kubectl| {
        let with = manifest(fleet, "with.json", |set| {
            set["spec"]["template"]["spec"]["containers"][0]["env"] =
                json!([{"name": "A", "value": "1"}, {"name": "C", "value": "3"}]);
            set["spec"]["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/os": "linux"});
        })?;
        let without = manifest(fleet, "without.json", |set| {
            set["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "C", "value": "3"}]);
        })?;
        kubectl.ok(&format!("apply -f {with}"));
        kubectl.ok("set env ds/web B=2");
        assert_eq!(
            kubectl.ok(&format!("apply -f {without}")),
            "daemonset.apps/web configured\n"
        );
        let spec = fleet.set("web")?["spec"]["template"]["spec"].clone();
        let env = spec["containers"][0]["env"].as_array().context("variables")?;
        let mut names: Vec<&str> = env
            .iter()
            .filter_map(|variable| variable["name"].as_str())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["B", "C"]);
        assert!(spec["nodeSelector"].is_null(), "{spec}");
        let asked = kubectl.client.run(&["diff", "-f", &without]);
        assert_eq!(asked.code, 0, "{}{}", asked.stdout, asked.stderr);
        let differs = kubectl.client.run(&["diff", "-f", &with]);
        assert!(
            differs.code == 1 && differs.stdout.contains("kubernetes.io/os: linux"),
            "{}",
            differs.stdout
        );
        Ok(())
    })
}

fn edit(client: &Client, script: &str) -> Result<testkit::Output> {
    let output = client
        .command(&["edit", "ds", "web"])
        .env("EDITOR", script)
        .env_remove("KUBE_EDITOR")
        .output()
        .context("start kubectl edit")?;
    Ok(testkit::Output {
        success: output.status.success(),
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

#[test]
fn edit_changes_what_the_editor_changed() -> Result<()> {
    each_kubectl(1, &[], |fleet, kubectl| {
        fleet.create("web", |_| {})?;
        fleet.complete("web", 1)?;
        let editor = |name: &str, script: &str| -> Result<String> {
            let path = write(&fleet.server, name, &format!("#!/bin/sh\n{script} \"$1\"\n"))?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
                .context("make it a program")?;
            Ok(path)
        };
        let edited = edit(
            &kubectl.client,
            &editor("image", "sed -i s,registry.example/app:1,registry.example/app:2,")?,
        )?;
        assert_eq!(edited.stdout, "daemonset.apps/web edited\n", "{}", edited.stderr);
        fleet.complete("web", 1)?;
        assert_eq!(
            crate::fleet::image(&fleet.pods("web")?[0]),
            "registry.example/app:2"
        );

        let cancelled = edit(&kubectl.client, "true")?;
        assert!(cancelled.success, "{}", cancelled.stderr);
        let said = format!("{}{}", cancelled.stdout, cancelled.stderr);
        assert!(said.contains("Edit cancelled, no changes made."), "{said}");

        // The selector is what it was: the editor opens again with the reason, and what was written is kept.
        let refused = edit(
            &kubectl.client,
            &editor(
                "selector",
                "sed -i '/matchLabels:/,/template:/s/app: web/app: other/'",
            )?,
        )?;
        assert!(!refused.success);
        assert!(
            refused.stderr.contains("\"web\" is invalid") || refused.stderr.contains("were not valid"),
            "{}",
            refused.stderr
        );
        assert_eq!(generation(fleet)?.0, 2);
        Ok(())
    })
}

#[test]
fn wait_looks_at_a_path() -> Result<()> {
    each_kubectl(2, &[], |fleet, kubectl| {
        fleet.create("web", |_| {})?;
        let line = "wait --for=jsonpath={.status.numberReady}=2 ds/web --timeout=60s";
        match kubectl.old {
            true => assert_eq!(
                kubectl.refused(line),
                "error: unrecognized condition: \"jsonpath={.status.numberReady}=2\"\n"
            ),
            false => assert_eq!(kubectl.ok(line), "daemonset.apps/web condition met\n"),
        }
        let pods = kubectl.ok("wait --for=condition=Ready pod -l app=web --timeout=60s");
        assert_eq!(pods.matches(" condition met\n").count(), 2, "{pods}");
        Ok(())
    })
}

#[test]
fn labels_and_annotations_are_given_and_taken() -> Result<()> {
    each_kubectl(1, &[], |fleet, kubectl| {
        fleet.create("web", |_| {})?;
        assert_eq!(
            kubectl.ok("label ds web tier=edge"),
            "daemonset.apps/web labeled\n"
        );
        let refused = kubectl.refused("label ds web tier=core");
        assert!(
            refused.contains("'tier' already has a value (edge), and --overwrite is false"),
            "{refused}"
        );
        kubectl.ok("label ds web tier=core --overwrite");
        assert_eq!(kubectl.ok("get ds -l tier=core -o name"), "daemonset.apps/web\n");
        assert_eq!(kubectl.ok("get ds -l tier!=core -o name"), "");
        kubectl.ok("label ds web tier-");
        assert_eq!(
            kubectl.ok("annotate ds web note=seen"),
            "daemonset.apps/web annotated\n"
        );
        assert_eq!(fleet.set("web")?["metadata"]["annotations"]["note"], "seen");
        kubectl.ok("annotate ds web note-");
        assert_eq!(fleet.set("web")?["metadata"]["labels"], json!({"app": "web"}));
        Ok(())
    })
}

#[test]
fn labels_taints_and_cordons_of_nodes_act_at_once() -> Result<()> {
    each_kubectl(3, &[], |fleet, kubectl| {
        fleet.create("web", |set| {
            set["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "ssd"})
        })?;
        assert_eq!(
            kubectl.ok("label node node-0 node-1 disk=ssd"),
            "node/node-0 labeled\nnode/node-1 labeled\n"
        );
        let pods = fleet.runs_on("web", &["node-0", "node-1"])?;

        // A cordon keeps other pods away; daemons tolerate it, and even come to a node that is cordoned.
        assert_eq!(
            kubectl.ok("cordon node-0 node-2"),
            "node/node-0 cordoned\nnode/node-2 cordoned\n"
        );
        assert_eq!(kubectl.ok("cordon node-2"), "node/node-2 already cordoned\n");
        let table = kubectl.ok("get node node-2");
        assert!(table.contains("Ready,SchedulingDisabled"), "{table}");
        kubectl.ok("label node node-2 disk=ssd");
        let three = fleet.runs_on("web", &["node-0", "node-1", "node-2"])?;
        assert!(
            pods.iter().all(|(node, pod)| three[node] == *pod),
            "{pods:?} became {three:?}"
        );
        assert_eq!(
            kubectl.ok("uncordon node-0 node-2"),
            "node/node-0 uncordoned\nnode/node-2 uncordoned\n"
        );

        assert_eq!(
            kubectl.ok("taint node node-1 gpu=yes:NoSchedule"),
            "node/node-1 tainted\n"
        );
        let refused = kubectl.refused("taint node node-1 gpu=yes:NoSchedule");
        assert_eq!(
            refused,
            "error: node node-1 already has gpu taint(s) with same effect(s) and --overwrite is false\n"
        );
        fleet.status("web", "the tainted node to be misscheduled", |status| {
            status["desiredNumberScheduled"] == 2 && status["numberMisscheduled"] == 1
        })?;
        assert_eq!(fleet.runs_on("web", &["node-0", "node-1", "node-2"])?, three);
        assert_eq!(
            kubectl.ok("taint node node-1 gpu:NoSchedule-"),
            "node/node-1 untainted\n"
        );
        kubectl.ok("taint node node-1 gpu=yes:NoExecute");
        fleet.runs_on("web", &["node-0", "node-2"])?;
        kubectl.ok("taint node node-1 gpu-");
        fleet.runs_on("web", &["node-0", "node-1", "node-2"])?;
        kubectl.ok("label node node-0 disk-");
        fleet.runs_on("web", &["node-1", "node-2"]).map(drop)
    })
}

#[test]
fn replace_and_patch_are_refused_where_the_object_may_not_change() -> Result<()> {
    each_kubectl(1, &[], |fleet, kubectl| {
        fleet.create("web", |_| {})?;
        let other = manifest(fleet, "other.json", |set| {
            set["spec"]["selector"]["matchLabels"] = json!({"app": "other"});
            set["spec"]["template"]["metadata"]["labels"] = json!({"app": "other"});
        })?;
        let said = kubectl.refused(&format!("replace -f {other}"));
        assert!(
            said.starts_with("The DaemonSet \"web\" is invalid: spec.selector: Invalid value: "),
            "{said}"
        );
        assert!(said.ends_with(": field is immutable\n"), "{said}");
        let both = r#"{"spec":{"updateStrategy":{"rollingUpdate":{"maxSurge":1}}}}"#;
        let said = kubectl.client.run(&["patch", "ds", "web", "-p", both]);
        assert!(
            said.stderr
                .contains("may not be set when maxUnavailable is non-zero"),
            "{}",
            said.stderr
        );
        let surge = r#"{"spec":{"updateStrategy":{"rollingUpdate":{"maxSurge":1,"maxUnavailable":0}}}}"#;
        assert_eq!(
            kubectl.client.ok(&["patch", "ds", "web", "-p", surge]),
            "daemonset.apps/web patched\n"
        );
        wait_for("the new strategy to be observed", || {
            let set = fleet.set("web")?;
            Ok(match set["status"]["observedGeneration"] == 2 {
                true => Ok(()),
                false => Err(set["status"].to_string()),
            })
        })
    })
}
