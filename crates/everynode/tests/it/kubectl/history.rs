//! `kubectl rollout history` and `undo`.

use anyhow::Result;
use serde_json::{Value, json};
use testkit::MERGE;

use super::{Kubectl, each_kubectl};
use crate::fleet::{Fleet, image, name};

/// The table's rows, each a number and a cause.
#[track_caller]
fn history(kubectl: &Kubectl) -> Vec<String> {
    let said = kubectl.ok("rollout history ds/web");
    let rows = said
        .strip_prefix("daemonset.apps/web \nREVISION  CHANGE-CAUSE\n")
        .and_then(|rest| rest.strip_suffix("\n\n"));
    match rows {
        Some(rows) => rows.lines().map(str::to_owned).collect(),
        None => panic!("{said:?}"),
    }
}

/// A set whose second template is rolled out.
fn with_two_revisions(fleet: &Fleet) -> Result<()> {
    fleet.create("web", |_| {})?;
    fleet.complete("web", 2)?;
    fleet.set_image("web", "registry.example/app:2")?;
    fleet.complete("web", 2)
}

#[test]
fn history_lists_the_revisions_and_shows_the_template_of_one() -> Result<()> {
    each_kubectl(2, &[], |fleet, kubectl| {
        with_two_revisions(fleet)?;
        assert_eq!(history(kubectl), ["1         <none>", "2         <none>"]);
        let said = kubectl.ok("rollout history ds/web --revision=1");
        let expected = "daemonset.apps/web with revision #1\n\
            Pod Template:\n  Labels:\tapp=web\n  Containers:\n   app:\n    Image:\tregistry.example/app:1\n    \
            Port:\t<none>\n    Host Port:\t<none>\n    Environment:\t<none>\n    Mounts:\t<none>\n  Volumes:\t<none>\n";
        assert!(said.starts_with(expected), "{said:?}");
        assert_eq!(
            kubectl.refused("rollout history ds/web --revision=9"),
            "error: unable to find the specified revision\n"
        );
        Ok(())
    })
}

#[test]
fn history_says_when_there_is_none() -> Result<()> {
    each_kubectl(1, &[], |fleet, kubectl| {
        fleet.create("web", |set| {
            set["metadata"]["finalizers"] = json!(["example.com/hold"])
        })?;
        fleet.complete("web", 1)?;
        // The controller makes no new revision for a set that is being deleted.
        fleet.api.delete(&fleet.set_path("web"), &json!({}))?;
        for revision in fleet.revisions("web")? {
            let path = format!("{}/{}", fleet.revisions_path(), name(&revision));
            fleet.api.delete(&path, &json!({}))?;
        }
        assert_eq!(
            kubectl.ok("rollout history ds/web"),
            "daemonset.apps/web \nNo rollout history found.\n"
        );
        fleet.api.patch(
            &fleet.set_path("web"),
            MERGE,
            &json!({"metadata": {"finalizers": Value::Null}}),
        )?;
        Ok(())
    })
}

#[test]
fn the_change_cause_stays_with_its_template() -> Result<()> {
    each_kubectl(1, &[], |fleet, kubectl| {
        fleet.create("web", |_| {})?;
        fleet.complete("web", 1)?;
        kubectl.ok("set image ds/web app=registry.example/app:2 --record");
        fleet.complete("web", 1)?;
        let cause = "kubectl set image ds/web app=registry.example/app:2 --record=true";
        assert_eq!(
            history(kubectl),
            ["1         <none>".to_owned(), format!("2         {cause}")]
        );
        kubectl.ok("rollout undo ds/web");
        fleet.complete("web", 1)?;
        assert_eq!(
            history(kubectl),
            [format!("2         {cause}"), "3         <none>".to_owned()]
        );
        kubectl.ok("rollout undo ds/web");
        fleet.complete("web", 1)?;
        assert_eq!(
            history(kubectl),
            ["3         <none>".to_owned(), format!("4         {cause}")]
        );
        Ok(())
    })
}

#[test]
fn undo_goes_back_and_the_old_revision_is_the_newest_then() -> Result<()> {
    each_kubectl(2, &[], |fleet, kubectl| {
        with_two_revisions(fleet)?;
        let numbers = || -> Vec<String> {
            let rows = history(kubectl).into_iter();
            rows.map(|row| row.split(' ').next().unwrap_or_default().to_owned())
                .collect()
        };
        let hashes =
            |fleet: &Fleet| -> Result<Vec<String>> { Ok(fleet.revisions("web")?.iter().map(name).collect()) };
        let first = hashes(fleet)?;
        assert_eq!(
            kubectl.ok("rollout undo ds/web"),
            "daemonset.apps/web rolled back\n"
        );
        fleet.complete("web", 2)?;
        assert_eq!(numbers(), ["2", "3"]);
        for pod in fleet.pods("web")? {
            assert_eq!(image(&pod), "registry.example/app:1");
        }
        let swapped = hashes(fleet)?;
        assert_eq!(
            (&swapped[0], &swapped[1]),
            (&first[1], &first[0]),
            "no revision is made for an old template"
        );

        let pods = fleet.runs_on("web", &["node-0", "node-1"])?;
        // kubectl compares bytes: one that writes `creationTimestamp: null` into the template, as older ones do, finds a
        // difference, and the server none.
        let undone = kubectl.ok("rollout undo ds/web --to-revision=3");
        let skipped = "daemonset.apps/web skipped rollback (current template already matches revision 3)\n";
        assert!(
            undone == skipped || undone == "daemonset.apps/web rolled back\n",
            "{undone}"
        );
        fleet.complete("web", 2)?;
        assert_eq!(numbers(), ["2", "3"]);
        assert_eq!(fleet.runs_on("web", &["node-0", "node-1"])?, pods);

        assert_eq!(
            kubectl.ok("rollout undo ds/web --to-revision=2"),
            "daemonset.apps/web rolled back\n"
        );
        fleet.complete("web", 2)?;
        assert_eq!(numbers(), ["3", "4"]);
        for pod in fleet.pods("web")? {
            assert_eq!(image(&pod), "registry.example/app:2");
        }
        Ok(())
    })
}

#[test]
fn undo_names_what_it_cannot_find() -> Result<()> {
    each_kubectl(1, &[], |fleet, kubectl| {
        fleet.create("web", |_| {})?;
        fleet.complete("web", 1)?;
        assert_eq!(
            kubectl.refused("rollout undo ds/web"),
            "error: no last revision to roll back to\n"
        );
        assert_eq!(
            kubectl.refused("rollout undo ds/web --to-revision=7"),
            "error: unable to find specified revision 7 in history\n"
        );
        Ok(())
    })
}

#[test]
fn undo_tells_beforehand_what_it_would_do() -> Result<()> {
    each_kubectl(2, &[], |fleet, kubectl| {
        with_two_revisions(fleet)?;
        let before = fleet.set("web")?;
        let said = kubectl.ok("rollout undo ds/web --dry-run=client");
        assert!(
            said.starts_with("daemonset.apps/web will roll back to Pod Template:\n  Labels:\tapp=web\n"),
            "{said}"
        );
        assert!(said.contains("Image:\tregistry.example/app:1\n"), "{said}");
        assert!(said.ends_with(" (dry run)\n"), "{said}");
        assert_eq!(
            kubectl.ok("rollout undo ds/web --dry-run=server"),
            "daemonset.apps/web rolled back (server dry run)\n"
        );
        assert_eq!(fleet.set("web")?, before);
        Ok(())
    })
}
