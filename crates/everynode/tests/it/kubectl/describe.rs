//! `kubectl describe`, and the tables of `kubectl get`.

use anyhow::{Context, Result};
use serde_json::json;
use testkit::wait_for;

use super::each_kubectl;
use super::follow::Following;

#[test]
fn describe_tells_of_counts_pods_template_and_events() -> Result<()> {
    each_kubectl(3, &[], |fleet, kubectl| {
        fleet.create("web", |set| {
            set["metadata"]["annotations"] = json!({"note": "seen"});
            set["spec"]["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/os": "linux"});
        })?;
        fleet.complete("web", 3)?;
        // A pod that is alike but someone else's is not counted.
        let stranger = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "stranger", "labels": {"app": "web"}, "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "other", "controller": true,
                "uid": "00000000-0000-0000-0000-000000000001",
            }]},
            "spec": {"nodeName": "node-none", "containers": [{"name": "app", "image": "registry.example/app:1"}]},
        });
        fleet.api.create(&fleet.pods_path(), &stranger)?;
        let told = wait_for("three events", || {
            let told = kubectl.ok("describe ds web");
            Ok(match told.matches("SuccessfulCreate").count() {
                3 => Ok(told),
                _ => Err(told),
            })
        })?;
        let expected = "\
Name:           web
Selector:       app=web
Node-Selector:  kubernetes.io/os=linux
Labels:         app=web
Annotations:    deprecated.daemonset.template.generation: 1
                note: seen
Desired Number of Nodes Scheduled: 3
Current Number of Nodes Scheduled: 3
Number of Nodes Scheduled with Up-to-date Pods: 3
Number of Nodes Scheduled with Available Pods: 3
Number of Nodes Misscheduled: 0
Pods Status:  3 Running / 0 Waiting / 0 Succeeded / 0 Failed
Pod Template:
  Labels:  app=web
  Containers:
   app:
    Image:";
        // Newer ones name the namespace.
        let told = told.replace("Namespace:      default\n", "");
        assert!(told.starts_with(expected), "{told}");
        let events = told.split_once("\nEvents:\n").context("no events")?.1;
        let mut lines = events.lines();
        let header: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
        assert_eq!(header, ["Type", "Reason", "Age", "From", "Message"]);
        for line in lines.skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words[..2], ["Normal", "SuccessfulCreate"], "{line}");
            assert!(
                line.contains("  daemonset-controller  Created pod: web-"),
                "{line}"
            );
        }
        if !kubectl.old {
            let chunked = kubectl.ok("describe ds web --chunk-size=1");
            assert!(
                chunked.contains("Pods Status:  3 Running / 0 Waiting"),
                "{chunked}"
            );
        }
        Ok(())
    })
}

#[test]
fn describe_counts_pods_that_wait() -> Result<()> {
    each_kubectl(
        3,
        &["--missing-image", "registry.example/app:mistyped"],
        |fleet, kubectl| {
            fleet.create("web", |_| {})?;
            fleet.complete("web", 3)?;
            fleet.set_image("web", "registry.example/app:mistyped")?;
            wait_for("a pod that waits", || {
                let told = kubectl.ok("describe ds web");
                let found = told.contains("Pods Status:  2 Running / 1 Waiting / 0 Succeeded / 0 Failed\n")
                    && told.contains("Number of Nodes Scheduled with Up-to-date Pods: 1\n")
                    && told.contains("Number of Nodes Scheduled with Available Pods: 2\n");
                Ok(match found {
                    true => Ok(()),
                    false => Err(told),
                })
            })?;
            let table = kubectl.ok("get pods");
            assert_eq!(
                table.matches("0/1     ImagePullBackOff   0").count(),
                1,
                "{table}"
            );
            Ok(())
        },
    )
}

#[test]
fn get_shows_the_counts_and_with_wide_what_runs() -> Result<()> {
    each_kubectl(3, &[], |fleet, kubectl| {
        fleet.create("web", |_| {})?;
        fleet.complete("web", 3)?;
        let rows = |line: &str| -> Vec<Vec<String>> {
            let table = kubectl.ok(line);
            let cells = |row: &str| {
                let cells = row.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
                cells.map(str::to_owned).collect()
            };
            table.lines().map(cells).collect()
        };
        let narrow = [
            "NAME",
            "DESIRED",
            "CURRENT",
            "READY",
            "UP-TO-DATE",
            "AVAILABLE",
            "NODE SELECTOR",
            "AGE",
        ];
        let table = rows("get ds");
        assert_eq!(table[0], narrow);
        assert_eq!(table[1][..7], ["web", "3", "3", "3", "3", "3", "<none>"]);
        let wide = rows("get ds -o wide");
        assert_eq!(
            wide[0],
            [&narrow[..], &["CONTAINERS", "IMAGES", "SELECTOR"]].concat()
        );
        assert_eq!(wide[1][8..], ["app", "registry.example/app:1", "app=web"]);
        assert_eq!(rows("get ds web --no-headers")[0][..2], ["web", "3"]);
        assert_eq!(kubectl.ok("get daemonsets -o name"), "daemonset.apps/web\n");
        let revisions = rows("get controllerrevisions");
        assert_eq!(revisions[0], ["NAME", "CONTROLLER", "REVISION", "AGE"]);
        assert_eq!(revisions[1][1..3], ["daemonset.apps/web", "1"]);
        Ok(())
    })
}

#[test]
fn get_follows_a_rollout() -> Result<()> {
    each_kubectl(2, &[], |fleet, kubectl| {
        fleet.create("web", |_| {})?;
        fleet.complete("web", 2)?;
        let mut following = Following::start(fleet, kubectl, "get ds web -w")?;
        following.prints("web    2         2         2       2            2           <none>")?;
        fleet.set_image("web", "registry.example/app:2")?;
        following.prints("web    2         2         1       1            1           <none>")?;
        fleet.complete("web", 2)?;
        let said = following.prints("web    2         2         2       2            2           <none>")?;
        assert_eq!(said.matches("NAME ").count(), 1, "the header stands once: {said}");
        let mut deleted = Following::start(fleet, kubectl, "get ds web -w --output-watch-events")?;
        deleted.prints("ADDED      web    2")?;
        fleet.api.delete(&fleet.set_path("web"), &json!({}))?;
        deleted.prints("DELETED    web    2").map(drop)
    })
}
