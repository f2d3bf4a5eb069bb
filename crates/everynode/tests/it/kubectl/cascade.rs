//! `kubectl delete`, and what becomes of the pods.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::json;

use super::{Kubectl, each_kubectl};
use crate::fleet::{Fleet, be_older, controller, daemon_set, is_terminating};

const NODES: [&str; 2] = ["node-0", "node-1"];

fn running(fleet: &Fleet) -> Result<BTreeMap<String, String>> {
    fleet.create("web", |_| {})?;
    fleet.complete("web", 2)?;
    fleet.runs_on("web", &NODES)
}

fn deleted(kubectl: &Kubectl, line: &str) {
    let said = kubectl.ok(line);
    // Newer ones name the namespace.
    assert!(said.starts_with("daemonset.apps \"web\" deleted"), "{said}");
}

/// The pods of the DaemonSet that is gone stay, without an owner.
fn orphans(fleet: &Fleet) -> Result<()> {
    let pods = fleet.api.items(&fleet.pods_path())?;
    assert_eq!(pods.len(), 2);
    for pod in &pods {
        assert!(controller(pod).is_none() && !is_terminating(pod), "{pod}");
    }
    Ok(())
}

#[test]
fn orphans_are_taken_over_by_a_set_with_their_template_and_replaced_by_another() -> Result<()> {
    each_kubectl(2, &[], |fleet, kubectl| {
        let pods = running(fleet)?;
        let orphan = match kubectl.old {
            true => "delete ds web --cascade=orphan --wait=true",
            false => "delete ds web --cascade=orphan",
        };
        deleted(kubectl, orphan);
        orphans(fleet)?;
        fleet.create("web", |_| {})?;
        fleet.complete("web", 2)?;
        assert_eq!(fleet.runs_on("web", &NODES)?, pods, "what fits stays");

        // The word of before 1.20 still works.
        let (said, warned) = kubectl.told("delete ds web --cascade=false");
        assert!(said.starts_with("daemonset.apps \"web\" deleted"), "{said}");
        assert_eq!(
            warned,
            "warning: --cascade=false is deprecated (boolean value) and can be replaced with --cascade=orphan.\n"
        );
        orphans(fleet)?;
        be_older(&fleet.api.items(&fleet.pods_path())?)?;
        let other = daemon_set("web", |set| {
            set["metadata"]["name"] = "successor".into();
            set["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example/app:2".into();
        });
        fleet.api.create(&fleet.sets_path(), &other)?;
        fleet.complete("successor", 2)?;
        let replaced = fleet.runs_on("successor", &NODES)?;
        assert!(
            replaced.iter().all(|(node, pod)| pods[node] != *pod),
            "{pods:?} became {replaced:?}"
        );
        assert!(fleet.api.items(&fleet.pods_path())?.len() == 2);
        Ok(())
    })
}

#[test]
fn with_foreground_the_set_goes_last() -> Result<()> {
    each_kubectl(2, &[], |fleet, kubectl| {
        running(fleet)?;
        deleted(kubectl, "delete ds web --cascade=foreground");
        assert!(
            fleet.api.items(&fleet.pods_path())?.is_empty(),
            "kubectl waited for the set, and the set for its pods"
        );
        assert!(fleet.api.items(&fleet.revisions_path())?.is_empty());

        // While its pods end, the set is there and its controller makes none anew.
        running(fleet)?;
        fleet.silence();
        kubectl.ok("delete ds web --cascade=foreground --wait=false");
        let set = fleet.set("web")?;
        assert!(is_terminating(&set));
        assert_eq!(set["metadata"]["finalizers"], json!(["foregroundDeletion"]));
        testkit::eventually("both pods to be ending", || {
            Ok(fleet.pods("web")?.iter().all(is_terminating))
        })?;
        assert_eq!(fleet.pods("web")?.len(), 2);
        kubectl.ok("delete pod -l app=web --force --grace-period=0");
        testkit::eventually("the set to go", || {
            Ok(fleet.api.find(&fleet.set_path("web"))?.is_none())
        })
    })
}

#[test]
fn by_default_the_set_goes_first_and_the_pods_follow() -> Result<()> {
    each_kubectl(2, &[], |fleet, kubectl| {
        for line in [
            "delete ds web",
            "delete ds web --cascade=background",
            "delete ds web --cascade=true",
        ] {
            running(fleet)?;
            deleted(kubectl, line);
            assert!(fleet.api.find(&fleet.set_path("web"))?.is_none());
            fleet.gone("web")?;
        }
        assert_eq!(
            kubectl.refused("delete ds web"),
            "Error from server (NotFound): daemonsets.apps \"web\" not found\n"
        );
        assert_eq!(kubectl.ok("delete ds web --ignore-not-found"), "");
        Ok(())
    })
}
