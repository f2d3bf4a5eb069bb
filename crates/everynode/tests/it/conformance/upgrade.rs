//! What holds over an upgrade of the control plane: the test of "daemonset upgrade".

use anyhow::Result;
use serde_json::json;

use super::{create, in_a_namespace};
use crate::fleet::daemon_set;

const SET: &str = "ds1";

#[test]
fn a_daemon_that_tolerates_everything_runs_before_and_after_the_control_plane_is_replaced() -> Result<()> {
    in_a_namespace(3, &[], |fleet| {
        fleet.taint_node("node-1", "example.com/dedicated", Some("NoSchedule"))?;
        fleet.taint_node("node-2", "example.com/broken", Some("NoExecute"))?;
        let tolerations = json!([{"operator": "Exists"}]);
        create(
            fleet,
            &daemon_set(SET, |set| {
                set["spec"]["template"]["spec"]["tolerations"] = tolerations
            }),
        )?;
        let nodes = ["node-0", "node-1", "node-2"];
        let before = fleet.runs_on(SET, &nodes)?;
        let revisions = fleet.revisions(SET)?;

        fleet.server.kill()?;
        fleet.server.restart()?;
        fleet.complete(SET, 3)?;
        assert_eq!(fleet.runs_on(SET, &nodes)?, before, "no pod was restarted");
        assert_eq!(fleet.revisions(SET)?, revisions);

        fleet.set_image(SET, "registry.example/app:2")?;
        fleet.complete(SET, 3)?;
        let after = fleet.runs_on(SET, &nodes)?;
        assert!(after.iter().all(|(node, pod)| before[node] != *pod));
        Ok(())
    })
}
