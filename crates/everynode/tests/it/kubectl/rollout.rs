//! `kubectl rollout status`, `restart`, `pause` and `resume`.

use anyhow::Result;
use serde_json::{Value, json};
use testkit::{MERGE, wait_for};

use super::each_kubectl;
use super::follow::Following;

const BROKEN: &str = "registry.example/app:mistyped";
const DONE: &str = "daemon set \"web\" successfully rolled out\n";

#[test]
fn status_counts_the_new_pods_then_the_available_ones() -> Result<()> {
    each_kubectl(3, &["--missing-image", BROKEN], |fleet, kubectl| {
        fleet.create("web", |set| {
            set["spec"]["updateStrategy"] =
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}});
        })?;
        fleet.complete("web", 3)?;
        assert_eq!(kubectl.ok("rollout status ds/web"), DONE);

        fleet.set_image("web", BROKEN)?;
        fleet.status("web", "new pods everywhere", |status| {
            status["updatedNumberScheduled"] == 3 && status["numberUnavailable"] == 3
        })?;
        let waiting =
            "Waiting for daemon set \"web\" rollout to finish: 0 of 3 updated pods are available...\n";
        assert_eq!(kubectl.ok("rollout status ds/web --watch=false"), waiting);
        let told = kubectl
            .client
            .run(&["rollout", "status", "ds/web", "--timeout=1s"]);
        assert_eq!((told.success, told.stdout.as_str()), (false, waiting));
        assert!(
            told.stderr.contains("timed out waiting for the condition"),
            "{}",
            told.stderr
        );

        let mut following = Following::start(fleet, kubectl, "rollout status ds/web")?;
        following.prints(waiting)?;
        fleet.set_image("web", "registry.example/app:2")?;
        let (success, said) = following.ends()?;
        assert!(success && said.ends_with(DONE), "{said}");

        // Nobody ends the old pods any more, so nothing becomes of this update.
        fleet.silence();
        fleet.set_image("web", "registry.example/app:3")?;
        fleet.status("web", "the update to begin", |status| {
            status["updatedNumberScheduled"].is_null()
        })?;
        assert_eq!(
            kubectl.ok("rollout status ds/web --watch=false"),
            "Waiting for daemon set \"web\" rollout to finish: 0 out of 3 new pods have been updated...\n"
        );
        Ok(())
    })
}

#[test]
fn status_waits_for_the_controller_and_ends_when_the_set_is_deleted() -> Result<()> {
    each_kubectl(1, &[], |fleet, kubectl| {
        fleet.create("web", |set| {
            set["metadata"]["finalizers"] = json!(["example.com/hold"])
        })?;
        fleet.complete("web", 1)?;
        // A DaemonSet that is being deleted has a new generation, which the controller leaves alone.
        fleet.api.delete(&fleet.set_path("web"), &json!({}))?;
        let waiting = "Waiting for daemon set spec update to be observed...\n";
        assert_eq!(kubectl.ok("rollout status ds/web --watch=false"), waiting);
        let mut following = Following::start(fleet, kubectl, "rollout status ds/web")?;
        following.prints(waiting)?;
        fleet.api.patch(
            &fleet.set_path("web"),
            MERGE,
            &json!({"metadata": {"finalizers": Value::Null}}),
        )?;
        let (success, said) = following.ends()?;
        assert!(!success && said.contains("object has been deleted"), "{said}");
        Ok(())
    })
}

#[test]
fn status_is_refused_for_on_delete() -> Result<()> {
    each_kubectl(1, &[], |fleet, kubectl| {
        fleet.create("web", |set| {
            set["spec"]["updateStrategy"] = json!({"type": "OnDelete"})
        })?;
        assert_eq!(
            kubectl.refused("rollout status ds/web"),
            "error: rollout status is only available for RollingUpdate strategy type\n"
        );
        Ok(())
    })
}

#[test]
fn restart_replaces_every_pod_but_not_twice_in_a_second() -> Result<()> {
    each_kubectl(2, &[], |fleet, kubectl| {
        fleet.create("web", |_| {})?;
        let before = fleet.runs_on("web", &["node-0", "node-1"])?;
        assert_eq!(
            kubectl.ok("rollout restart ds/web"),
            "daemonset.apps/web restarted\n"
        );
        let template = fleet.set("web")?["spec"]["template"]["metadata"]["annotations"].clone();
        let at = template["kubectl.kubernetes.io/restartedAt"]
            .as_str()
            .unwrap_or_default();
        assert!(
            at.parse::<jiff::Timestamp>().is_ok() && !at.contains('.'),
            "{template}"
        );
        assert!(kubectl.ok("rollout status ds/web").ends_with(DONE));
        let after = fleet.runs_on("web", &["node-0", "node-1"])?;
        assert!(after.iter().all(|(node, pod)| before[node] != *pod));

        let expected = match kubectl.old {
            true => "error: failed to create patch for web: empty patch",
            false => {
                "error: failed to create patch for web: if restart has already been triggered within the past second, \
                 please wait before attempting to trigger another"
            }
        };
        // How fast this machine is decides when two fall into one second.
        let said = wait_for("two restarts within a second", || {
            let output = kubectl.client.run(&["rollout", "restart", "ds/web"]);
            Ok(match output.success {
                true => Err(output.stdout),
                false => Ok(output.stderr),
            })
        })?;
        assert_eq!(said, format!("{expected}\n"));
        Ok(())
    })
}

#[test]
fn pausing_and_scaling_are_not_for_daemon_sets() -> Result<()> {
    each_kubectl(1, &[], |fleet, kubectl| {
        fleet.create("web", |_| {})?;
        for (verb, word) in [("pause", "pausing"), ("resume", "resuming")] {
            assert_eq!(
                kubectl.refused(&format!("rollout {verb} ds/web")),
                format!("error: daemonsets.apps \"web\" {word} is not supported\n")
            );
        }
        assert_eq!(
            kubectl.refused("scale ds/web --replicas=2"),
            "Error from server (NotFound): the server could not find the requested resource\n"
        );
        let said = kubectl.refused("autoscale ds/web --max=3");
        assert!(
            said.starts_with("error: cannot autoscale a DaemonSet: could not find scale subresource"),
            "{said}"
        );
        assert_eq!(fleet.set("web")?["metadata"]["generation"], 1);
        Ok(())
    })
}
